"""The command line: parse, call, choose the exit code."""

import argparse
import io
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from otel_novu.settings import Settings, SettingsError, load
from otel_novu.version import __version__

Command = Callable[[argparse.Namespace], int]

DONE, TO_MEND, BAD_INPUT = 0, 1, 2

_EPILOG = """\
exit codes: 0 done, 1 something to mend, 2 bad input

Settings are environment variables, also read from .env or --env-file; the real environment wins.
The most used: MONGO_URL, NOVU_TELEMETRY=false, OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_NOVU_STATE_DIR.
All of them: otel-novu metrics --settings.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: of the command line; None: the process's own.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    _ready_streams()
    try:
        return _run_to_its_end(options)
    finally:
        _drain(sys.stderr)


def _run_to_its_end(options: argparse.Namespace) -> int:
    try:
        code = _call(options)
        sys.stdout.flush()  # here, where it is known what to do if the reader went away
    except SettingsError as error:
        return _bad_input(str(error))
    except OSError as error:
        _drain(sys.stdout)
        # A reader that went away, as `head` does, knows it.
        if not isinstance(error, BrokenPipeError):
            _tell(f"the output can't be written ({error.strerror or type(error).__name__}).")
        return TO_MEND
    return code


def _ready_streams() -> None:
    """Let nothing that is printed end in a traceback."""
    # A process may be started without them; the first file opened would else get their number.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    # What a receiver or a path says may not be in the terminal's alphabet.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _drain(stream: TextIO) -> None:
    """Write what is left, or else drop it: the interpreter would try again at its end, and fail."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _bad_input(sentence: str) -> int:
    _tell(sentence)
    return BAD_INPUT


def _tell(sentence: str) -> None:
    with suppress(OSError):  # the exit code tells as well
        sys.stderr.write(f"otel-novu: {sentence}\n")


def _settings(options: argparse.Namespace) -> Settings:
    """Read the settings, and log as they say."""
    if options.env_file == "":
        raise SettingsError("--env-file names no file; accepted: the path of a readable file")
    env_file = None if options.env_file is None else Path(options.env_file)
    try:
        cwd = Path.cwd()
    except OSError:
        raise SettingsError("The working directory does not exist any more.") from None
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    settings = load(os.environ, env_file=env_file, cwd=cwd, home=home)
    _log(logging.DEBUG if options.verbose else settings.log_level)
    for warning in settings.warnings:
        logging.getLogger("otel_novu").warning("%s", warning)
    return settings


def _call(options: argparse.Namespace) -> int:
    command: Command = options.call
    if command is _metrics:
        return command(options)
    from otel_novu.state.directory import (  # noqa: PLC0415 - a light start
        Held,
        StateError,
        Unreadable,
    )

    try:
        return command(options)
    except StateError as error:
        return _bad_input(str(error))
    except (Held, Unreadable) as error:
        _tell(f"{error}.")
        return TO_MEND


def _log(level: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    form = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    form.converter = _utc
    handler.setFormatter(form)
    log = logging.getLogger("otel_novu")
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
    logging.raiseExceptions = False  # a line that can't be written is lost, without a traceback
    # Drivers quote addresses and what a server says, and this is no place for either.
    for name in ("pymongo", "urllib3", "requests", "opentelemetry"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _utc(seconds: float | None) -> time.struct_time:
    return time.gmtime(seconds)


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
    _add(commands, "run", "report at once and then hourly, until SIGTERM or SIGINT", _run)
    _add(commands, "once", "one report; 0 only if all was read and delivered", _once)
    show = _add(commands, "show", "print both reports, read now; send and write nothing", _show)
    form = show.add_mutually_exclusive_group()
    form.add_argument(
        "--otlp", action="store_true", help="the very OTLP requests as OTLP/JSON, one a line"
    )
    form.add_argument("--last", action="store_true", help="what left last, or why it did not")
    form.add_argument("--queries", action="store_true", help="the database commands, one a line")
    form.add_argument("--json", action="store_true", help="one JSON document a line")
    check = _add(commands, "check", "say what is right or wrong, and how to mend it", _check)
    check.add_argument("--json", action="store_true", help="one JSON document a line")
    _add(commands, "health", "exit code for container probes", _health)
    telemetry = _add(commands, "telemetry", "the admin setting of the usage figures", _telemetry)
    telemetry.add_argument(
        "action",
        choices=("status", "enable", "disable"),
        help="print it, or store it; a running exporter follows within ten seconds",
    )
    telemetry.add_argument("--json", action="store_true", help="of status: one JSON document")
    spool = _add(commands, "spool", "what waits for delivery", _spool)
    do = spool.add_mutually_exclusive_group()
    do.add_argument("--flush", action="store_true", help="send it now")
    do.add_argument("--json", action="store_true", help="one JSON document a line")
    _add(commands, "reset-id", "make a new instance id", _reset_id)
    metrics = _add(commands, "metrics", "the tables of all that may leave", _metrics)
    shape = metrics.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON document a line")
    shape.add_argument("--markdown", action="store_true", help="as docs/metrics.md has them")
    shape.add_argument("--privacy", action="store_true", help="every value, as docs/privacy.md")
    shape.add_argument("--settings", action="store_true", help="all variables, as docs/settings.md")
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    does: str,
    call: Command,
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=does, description=f"{does[0].upper()}{does[1:]}.", allow_abbrev=False
    )
    command.add_argument("--env-file", metavar="FILE", help="read this instead of .env")
    command.add_argument("--verbose", action="store_true", help="log more")
    command.set_defaults(call=call)
    return command


# Each loads what it needs when it is called: neither `--help` nor a wrong setting waits for a
# driver.


def _run(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from otel_novu.commands.run import run  # noqa: PLC0415

    return run(settings)


def _once(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from otel_novu.commands.once import once  # noqa: PLC0415

    return once(settings)


def _show(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from otel_novu.commands import show  # noqa: PLC0415

    if options.otlp:
        return show.show_otlp(settings)
    if options.last:
        return show.show_last(settings)
    if options.queries:
        return show.show_queries(settings)
    return show.show(settings, as_lines=options.json)


def _check(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from otel_novu.commands.check import check  # noqa: PLC0415

    return check(settings, as_json=options.json)


def _health(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from otel_novu.commands.health import health  # noqa: PLC0415

    return health(settings)


def _telemetry(options: argparse.Namespace) -> int:
    if options.json and options.action != "status":
        message = f"--json can't go with `telemetry {options.action}`; accepted: with `status`"
        raise SettingsError(message)
    settings = _settings(options)
    from otel_novu.commands import telemetry  # noqa: PLC0415

    if options.action == "status":
        return telemetry.status(settings, as_json=options.json)
    return telemetry.store(settings, enabled=options.action == "enable")


def _spool(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from otel_novu.commands import spool  # noqa: PLC0415

    return (
        spool.flush(settings)
        if options.flush
        else spool.list_waiting(settings, as_json=options.json)
    )


def _reset_id(options: argparse.Namespace) -> int:
    settings = _settings(options)
    from otel_novu.commands.reset_id import reset_id  # noqa: PLC0415

    return reset_id(settings)


def _metrics(options: argparse.Namespace) -> int:
    from otel_novu.commands import metrics  # noqa: PLC0415

    if options.settings:
        return metrics.settings()
    if options.privacy:
        return metrics.privacy()
    return metrics.metrics("json" if options.json else "markdown" if options.markdown else "text")
