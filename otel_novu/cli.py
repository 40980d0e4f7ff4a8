"""The command line: arguments, exit codes, logging."""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from otel_novu.commands.output import fail
from otel_novu.log import LOG
from otel_novu.settings import MONGO, VARIABLES, Settings, SettingsError, load
from otel_novu.state_dir import LockedError, StateDirError
from otel_novu.version import __version__

TO_FIX, BAD_INPUT = 1, 2

_DOCS = "https://github.com/otel-novu/otel-novu/tree/main/docs"
_EPILOG = f"""\
exit codes: 0 done, 1 something to fix, 2 bad input

Settings are environment variables, also read from .env or --env-file; the environment wins.
The most used: MONGO_URL, NOVU_TELEMETRY=false, OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_NOVU_STATE_DIR.
All of them: {_DOCS}/settings.md
"""
# What each command does, an example, and the options of which one may be given.
# fmt: off
_LINES, _DOCUMENT = {"json": "one JSON document a line"}, {"json": "one JSON document"}
_ACTIONS = ("status", "enable", "disable", "on", "off")
# These read no other variables: a mistake in one must not keep anybody from switching off.
_LOCAL = {"NOVU_TELEMETRY", "OTEL_NOVU_STATE_DIR", "OTEL_NOVU_INSTANCE_ID", "OTEL_LOG_LEVEL"}
_LOCAL |= {"OTEL_METRIC_EXPORT_INTERVAL"}
_OTHERS = {name for row in VARIABLES if row.name not in _LOCAL for name in row.names}
_WITHOUT = {"health": MONGO, "spool": MONGO, "telemetry": _OTHERS, "reset-id": _OTHERS}
# These may be given with another option.
_BESIDE = {("show", "otlp"), ("spool", "json"), ("health", "json")}
_COMMANDS: dict[str, tuple[str, str, dict[str, str]]] = {
    "run": ("report at once, then hourly, until SIGTERM or SIGINT", "run --env-file novu.env", {}),
    "once": ("make one report; exit 0 only if all was read and delivered", "once --verbose", {}),
    "show": ("print both reports, read now; sends and writes nothing", "show --last",
             {"otlp": "the OTLP requests as OTLP/JSON, one a line; also those of --last",
              "last": "what was sent last, when and where to, or why not",
              "queries": "the database commands of one reading, one a line", **_LINES}),
    "check": ("test what a report needs, and say how to fix it", "check --json", _LINES),
    "health": ("exit code for container probes", "health --strict",
               {"strict": "also fail if the last usage report is late or incomplete", **_DOCUMENT}),
    "telemetry": ("the admin setting of the usage figures", "telemetry disable",
                  {"json": "with status: one JSON document"}),
    "spool": ("list the reports that wait for delivery", "spool --flush",
              {"flush": "send them now", **_DOCUMENT}),
    "reset-id": ("make a new instance id", "reset-id", _DOCUMENT),
    "metrics": ("list every metric that can be sent", "metrics --json",
                {"markdown": "the tables of docs/metrics.md", **_LINES}),
}
# fmt: on


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default that of the process's arguments, and return the exit code."""
    options = _parser().parse_args(arguments, argparse.Namespace(env_file=None, verbose=False))
    try:
        code = _call(options)
        sys.stdout.flush()
    except (SettingsError, StateDirError) as error:
        return fail(str(error), BAD_INPUT)
    except LockedError as error:
        return fail(f"{error}.")
    except BrokenPipeError:
        return TO_FIX  # a reader such as `head` went away, and knows it
    except OSError as error:
        return fail(f"The output can't be written ({error.strerror}).")
    except Exception as error:
        if LOG.isEnabledFor(logging.DEBUG):
            raise
        hint = "OTEL_LOG_LEVEL=debug shows the traceback"
        return fail(f"Internal error ({type(error).__name__}); {hint}.")
    return code


def _call(options: argparse.Namespace) -> int:
    """Import the command and run it: `--help` and a bad setting need no driver."""
    settings = None if options.command == "metrics" else _settings(options)
    if options.command == "run":
        # As PID 1, a process loses a signal that comes before it is blocked or handled.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    command = import_module(f"otel_novu.commands.{options.command.replace('-', '_')}")
    return int(command.main(settings, options))


def _settings(options: argparse.Namespace) -> Settings:
    """Read the settings, and set up logging as they say."""
    if options.env_file == "":
        raise SettingsError("--env-file: is empty; expected the path of a readable file")
    path = options.env_file and Path(options.env_file)
    settings = load(os.environ, env_file=path, without=_WITHOUT.get(options.command, ()))
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    LOG.addHandler(handler)
    LOG.setLevel(logging.DEBUG if options.verbose else settings.log_level)
    LOG.propagate = False
    logging.raiseExceptions = False  # a line that can't be written is lost, without a traceback
    logging.lastResort = None  # drivers log addresses and what servers say
    # `check` prints them itself, and a probe would repeat them for ever.
    for warning in () if options.command in ("check", "health") else settings.warnings:
        LOG.warning("%s", warning)
    return settings


def _parser() -> argparse.ArgumentParser:
    # Without defaults, a command keeps what is given before it.
    options = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    options.add_argument("--env-file", metavar="FILE", help="read this file instead of .env")
    options.add_argument("--verbose", action="store_true", help="log more")
    raw = argparse.RawDescriptionHelpFormatter
    shared: dict[str, Any] = {"parents": [options], "formatter_class": raw, "allow_abbrev": False}
    about = "Sends a self-hosted Novu's beacon and usage figures over OTLP."
    parser = argparse.ArgumentParser("otel-novu", description=about, epilog=_EPILOG, **shared)
    parser.add_argument("--version", action="version", version=f"otel-novu {__version__}")
    sub = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name, (does, example, choices) in _COMMANDS.items():
        about = f"{does[0].upper()}{does[1:]}."
        epilog = f"example: otel-novu {example}\ndocs: {_DOCS}"
        command = sub.add_parser(name, help=does, description=about, epilog=epilog, **shared)
        if name == "telemetry":
            text = "status is the default; on and off mean enable and disable"
            command.add_argument("action", nargs="?", default="status", choices=_ACTIONS, help=text)
        # An empty group breaks the usage line.
        group = command.add_mutually_exclusive_group() if choices else command
        for option, meaning in choices.items():
            place = command if (name, option) in _BESIDE else group
            place.add_argument(f"--{option}", action="store_true", help=meaning)
    return parser
