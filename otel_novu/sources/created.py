"""The windows in which created documents are counted: pure functions on `CreatedCount`."""

import math
from dataclasses import replace

from otel_novu.metrics.metric import MAX_COUNT
from otel_novu.store import CreatedCount

DELAY = 60  # seconds: an `_id` may be inserted this long after it was made
SLICE = 3600  # seconds: the longest window of one query
EARLIEST = 1_577_836_800  # 2020: Novu did not exist, so a clock before it is not set


def watch(count: CreatedCount | None, clock: float) -> CreatedCount | None:
    """Begin to count at the next second, or resume after a pause; None if the clock is not set."""
    if count is not None and not count.paused:
        return count
    if clock < EARLIEST:
        return None
    start = math.ceil(clock)
    if count is None:
        return CreatedCount(total=0, since=start, until=start)
    # Never back: what lies before `until` is counted already.
    return replace(count, until=max(count.until, start), paused=False)


def next_window(count: CreatedCount, clock: float) -> tuple[int, int] | None:
    """Return begin and end of the next window; None if none is due yet."""
    end = math.floor(clock) - DELAY
    return (count.until, min(end, count.until + SLICE)) if count.until < end else None


def add(count: CreatedCount, number: int, end: int) -> CreatedCount:
    """Add the documents of the window up to its end."""
    return replace(count, total=min(MAX_COUNT, count.total + number), until=end)
