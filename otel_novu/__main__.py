"""The program's first lines: `otel-novu` and `python -m otel_novu`."""

import signal
import sys


def main() -> int:
    """Run the command line; the exit code."""
    try:
        # Only here, so that Ctrl-C ends it without a traceback while it still loads.
        from otel_novu.cli import main as command_line  # noqa: PLC0415

        return command_line()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        # What is left is the interpreter's end; the drivers' last words would be a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
