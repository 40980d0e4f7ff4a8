"""What the commands print alike: times, and sentences for stderr."""

import sys
from datetime import UTC, datetime

_LAST = 253_402_300_799.0  # the end of the year 9999, the last second that `datetime` knows


def utc(seconds: float) -> str:
    """Format Unix seconds as RFC 3339 in UTC, clamped to the years 1970 to 9999."""
    shown = min(max(seconds, 0.0), _LAST)
    return datetime.fromtimestamp(shown, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def note(message: str) -> None:
    """Print a sentence to stderr."""
    print(message, file=sys.stderr)


def fail(message: str) -> int:
    """Print a sentence to stderr; the exit code of something to fix."""
    note(f"otel-novu: {message}")
    return 1
