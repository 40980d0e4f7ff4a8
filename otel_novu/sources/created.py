"""The windows in which created documents are counted: pure functions on `CreatedCount`."""

import math
from dataclasses import replace

from otel_novu.metrics.labels import OTHER
from otel_novu.metrics.metric import MAX_COUNT
from otel_novu.metrics.queries import MAX_LABEL_SETS, Values
from otel_novu.store import CreatedCount

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


def next_window(count: CreatedCount, due: float) -> tuple[int, int] | None:
    """Return begin and end of the next window before `due`; None if there is none yet."""
    end = math.floor(due)
    return (count.until, min(end, count.until + SLICE)) if count.until < end else None


def lag(count: CreatedCount, due: float) -> float:
    """Return how far the counter is behind, in seconds."""
    return max(0.0, math.floor(due) - count.until)


def add(count: CreatedCount, found: Values, end: int) -> CreatedCount:
    """Add the documents of the window up to its end, by labels; new sets beyond 200 are `other`."""
    by = dict(count.by)
    for labels, number in found.items():
        known = not labels or labels in by or len(by) < MAX_LABEL_SETS
        each = labels if known else (OTHER,) * len(labels)
        by[each] = min(MAX_COUNT, by.get(each, 0) + int(number))
    total = by.pop((), 0) + (count.total if () in found else 0)
    return replace(count, total=min(MAX_COUNT, total), until=end, by=by)
