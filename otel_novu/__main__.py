"""Entry point: `otel-novu` and `python -m otel_novu`."""

import os
import signal
import sys
import threading
from types import FrameType


def main() -> int:
    """Run the command line and return the exit code; 128 plus the number of a signal."""
    signal.signal(signal.SIGTERM, _interrupt)
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
        try:
            stream.flush()
        except OSError:  # nobody reads: drop it, or Python fails at its exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if threading.active_count() > 1:
        os._exit(code)  # a thread may hang in a resolver or a socket
    return code


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    sys.exit(main())
