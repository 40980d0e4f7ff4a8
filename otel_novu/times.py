"""Times as people and scripts read them."""

from datetime import UTC, datetime


def utc(seconds: float) -> str:
    """Write Unix seconds as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
