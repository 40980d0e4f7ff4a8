"""What the commands print alike: rows, times, counts, and sentences for stderr."""

import sys
import textwrap
from contextlib import suppress
from datetime import UTC, datetime

_LAST = 253_402_300_799.0  # the end of the year 9999, the last second that `datetime` knows


def utc(seconds: float) -> str:
    """Format Unix seconds as RFC 3339 in UTC, clamped to the years 1970 to 9999."""
    shown = min(max(seconds, 0.0), _LAST)
    return datetime.fromtimestamp(shown, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def row(label: str, value: str, width: int) -> str:
    """Return a label and its value, which is wrapped at 80 columns."""
    start = f"{label:{width}}  "
    # A path or a URL stays whole.
    wrapper = textwrap.TextWrapper(80, start, " " * len(start), break_long_words=False)
    wrapper.break_on_hyphens = False
    return wrapper.fill(value)


def note(message: str) -> None:
    """Print a sentence to stderr."""
    print(message, file=sys.stderr)


def fail(message: str, code: int = 1) -> int:
    """Print an error message to stderr, if it can be written; return the exit code, 1: to fix."""
    with suppress(OSError):
        note(f"otel-novu: {message}")
    return code
