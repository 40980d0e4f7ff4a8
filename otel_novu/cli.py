"""The command line: arguments, exit codes, logging."""

import argparse
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from otel_novu.log import LOG
from otel_novu.settings import Settings, SettingsError, load
from otel_novu.version import __version__

DONE, TO_FIX, BAD_INPUT = 0, 1, 2

_EPILOG = """\
exit codes: 0 done, 1 something to fix, 2 bad input

Settings are environment variables, also read from .env or --env-file; the environment wins.
The most used: MONGO_URL, NOVU_TELEMETRY=false, OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_NOVU_STATE_DIR.
All of them: otel-novu metrics --settings.
"""
_LINES, _DOCUMENT = "one JSON document a line", "one JSON document"
# These may be given beside another option.
_BESIDE = {("show", "otlp"), ("spool", "json")}
# The commands, and the options of which one may be given.
_COMMANDS: dict[str, tuple[str, dict[str, str]]] = {
    "run": ("report at once, then hourly, until SIGTERM or SIGINT", {}),
    "once": ("make one report; exit 0 only if all was read and delivered", {}),
    "show": (
        "print both reports, read now; sends and writes nothing",
        {
            "otlp": "the OTLP requests as OTLP/JSON, one a line; also those of --last",
            "last": "what was sent last, when and where to, or why not",
            "queries": "the database commands of one reading, one a line",
            "json": _LINES,
        },
    ),
    "check": ("test what a report needs, and say how to fix it", {"json": _LINES}),
    "health": ("exit code for container probes", {"json": _DOCUMENT}),
    "telemetry": (
        "the admin setting of the usage figures",
        {"json": "with status: one JSON document"},
    ),
    "spool": (
        "list the reports that wait for delivery",
        {"flush": "send them now", "json": _DOCUMENT},
    ),
    "reset-id": ("make a new instance id", {"json": _DOCUMENT}),
    "metrics": (
        "list every metric that can be sent",
        {
            "json": _LINES,
            "markdown": "the tables of docs/metrics.md",
            "privacy": "the tables of docs/privacy.md",
            "settings": "the table of docs/settings.md",
        },
    ),
}
# Drivers log addresses and what servers say.
_QUIET = ("pymongo", "urllib3", "opentelemetry")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line; None: the process's own.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a receiver or a path says may not fit the terminal's encoding.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _call(options)
        sys.stdout.flush()
    except SettingsError as error:
        return _fail(str(error), BAD_INPUT)
    except BrokenPipeError:
        return TO_FIX  # a reader such as `head` went away, and knows it
    except OSError as error:
        return _fail(f"The output can't be written ({error.strerror}).", TO_FIX)
    except Exception as error:
        if LOG.isEnabledFor(logging.DEBUG):
            raise
        hint = "OTEL_LOG_LEVEL=debug shows the traceback"
        return _fail(f"Internal error ({type(error).__name__}); {hint}.", TO_FIX)
    return code


def _call(options: argparse.Namespace) -> int:
    """Import the command and run it: `--help` and a bad setting need no driver."""
    name = options.command.replace("-", "_")
    if name == "metrics":
        from otel_novu.commands import metrics  # noqa: PLC0415

        return metrics.main(options)
    settings = _settings(options)
    if name == "run":
        # As PID 1, a process loses a signal that comes before it is blocked or handled.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
    from otel_novu.state_dir import LockedError, StateDirError  # noqa: PLC0415

    try:
        command = import_module(f"otel_novu.commands.{name}")
        return int(command.main(settings, options))
    except StateDirError as error:
        return _fail(str(error), BAD_INPUT)
    except LockedError as error:
        return _fail(f"{error}.", TO_FIX)


def _fail(message: str, code: int) -> int:
    with suppress(OSError):  # the exit code says it too
        sys.stderr.write(f"otel-novu: {message}\n")
    return code


def _settings(options: argparse.Namespace) -> Settings:
    """Read the settings, and set up logging as they say."""
    if options.env_file == "":
        raise SettingsError("--env-file: is empty; expected the path of a readable file")
    try:
        cwd = Path.cwd()
    except OSError:
        raise SettingsError("The working directory does not exist any more.") from None
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    env_file = None if options.env_file is None else Path(options.env_file)
    settings = load(os.environ, env_file=env_file, cwd=cwd, home=home)
    _set_up_logging(logging.DEBUG if options.verbose else settings.log_level)
    for warning in settings.warnings:
        LOG.warning("%s", warning)
    return settings


def _set_up_logging(level: int) -> None:
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    LOG.addHandler(handler)
    LOG.setLevel(level)
    LOG.propagate = False
    logging.raiseExceptions = False  # a line that can't be written is lost, without a traceback
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="otel-novu",
        description="Sends a self-hosted Novu's beacon and usage figures over OTLP.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"otel-novu {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (help_, choices) in _COMMANDS.items():
        command = _add(commands, name, help_)
        if name == "telemetry":
            command.add_argument("action", choices=("status", "enable", "disable"))
        # An empty group breaks the usage line.
        group = command.add_mutually_exclusive_group() if choices else command
        for option, meaning in choices.items():
            place = command if (name, option) in _BESIDE else group
            place.add_argument(f"--{option}", action="store_true", help=meaning)
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    help_: str,
) -> argparse.ArgumentParser:
    description = f"{help_[0].upper()}{help_[1:]}."
    command = commands.add_parser(name, help=help_, description=description, allow_abbrev=False)
    command.add_argument("--env-file", metavar="FILE", help="read this file instead of .env")
    command.add_argument("--verbose", action="store_true", help="log more")
    command.set_defaults(command=name)
    return command
