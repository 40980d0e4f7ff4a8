"""Entry point: `otel-novu` and `python -m otel_novu`."""

import os
import signal
import sys
import warnings
from contextlib import suppress
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; exit with its code, or with 128 plus the number of a signal."""
    signal.signal(signal.SIGTERM, _interrupt)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # those of libraries are for developers
    try:
        # Imported here, so that Ctrl-C during the import shows no traceback.
        from otel_novu.cli import main as command_line  # noqa: PLC0415

        code = command_line()
    except KeyboardInterrupt as error:
        code = 128 + (error.args[0] if error.args else signal.SIGINT)
    finally:
        # A second signal must not cut off the end, nor show a traceback.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads
            stream.flush()
    os._exit(code)  # a thread may hang in a resolver or a socket


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    main()
