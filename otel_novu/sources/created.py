"""The windows in which created documents are counted: pure functions on `CreatedCount`."""

import math
from collections.abc import Iterable
from dataclasses import replace

from otel_novu.metrics.labels import OTHER
from otel_novu.metrics.metric import MAX_COUNT
from otel_novu.metrics.queries import MAX_LABEL_SETS, CreatedIn, Values
from otel_novu.metrics.usage import Figure
from otel_novu.store import CreatedCount

SLICE = 3600  # seconds: the longest window of one query
EARLIEST = 1_577_836_800  # 2020: Novu did not exist, so a clock before it is not set


def an_hour_ago(figures: Iterable[Figure], now: float) -> dict[str, CreatedCount]:
    """Return counters that have counted nothing of the last hour they may count."""
    queries = {each.name: each.query for each in figures}
    windows = {name: each for name, each in queries.items() if isinstance(each, CreatedIn)}
    starts = {name: int(now) - each.delay - SLICE for name, each in windows.items()}
    return {name: CreatedCount(0, start, start) for name, start in starts.items()}


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
