"""Times as people and scripts read them."""

from datetime import UTC, datetime

_LAST = 253_402_300_799.0  # the last second of the year 9999, the last that `datetime` knows


def utc(seconds: float) -> str:
    """Write Unix seconds as RFC 3339 in UTC, to the second; what lies beyond, as 1970 or 9999."""
    shown = min(max(seconds, 0.0), _LAST)
    return datetime.fromtimestamp(shown, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
