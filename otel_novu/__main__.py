"""The program's first lines: `otel-novu` and `python -m otel_novu`."""

import signal
import sys


def main() -> int:
    """Run the command line; the exit code."""
    try:
        # Only here, so that Ctrl-C ends it without a traceback while it still loads.
        from otel_novu.cli import main as command_line  # noqa: PLC0415

        return command_line()
    except KeyboardInterrupt as error:
        return _exit_code(error)
    except Exception as error:
        # Until Python 3.12 a class that is being made wraps it into an error of its own.
        if isinstance(error.__cause__, KeyboardInterrupt):
            return _exit_code(error.__cause__)
        raise
    finally:
        # What is left is the interpreter's end; the drivers' last words would be a traceback.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _exit_code(error: KeyboardInterrupt) -> int:
    from otel_novu.stop import interrupted  # noqa: PLC0415 - only where a signal came

    return interrupted(error)


if __name__ == "__main__":
    sys.exit(main())
