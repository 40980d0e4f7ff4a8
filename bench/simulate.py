"""Simulates fleets too large to run here, with the exporter's own schedule and waits.

    python bench/simulate.py

It prints two tables, which docs/scale.md holds; the same ones each time.
"""

import random
import uuid
from collections import Counter
from collections.abc import Iterator

from otel_novu.commands.run import MOST_DELAY
from otel_novu.delivery.queue import FIRST_WAIT, LONGEST_WAIT
from otel_novu.schedule import phase

HOUR = 3600.0
MINUTE = 60
SEED = 8
FLEETS = (100, 1_000, 10_000, 100_000)
OUTAGES = (("1 minute", 60.0), ("1 hour", HOUR), ("1 day", 24 * HOUR))
RETURNING = 10_000  # instances that wait for a collector that was away


def main() -> None:
    """Print both tables."""
    print(schedule_table())
    print()
    print(return_table())


def schedule_table() -> str:
    """How evenly the hour is used by fleets of several sizes, as Markdown."""
    heads = (
        "instances",
        "reports a second, evenly",
        "busiest second",
        "busiest minute over an even one",
        "started at once: first beacons a second",
    )
    return "\n".join([*_head(heads), *(_schedule_row(count) for count in FLEETS)])


def return_table() -> str:
    """What a collector meets that comes back, as Markdown."""
    heads = (
        f"{RETURNING:,} instances, collector away for",
        "reports in its first second",
        "in its first minute",
        "in all",
        "the last instance comes after",
    )
    return "\n".join([*_head(heads), *(_return_row(name, seconds) for name, seconds in OUTAGES)])


def _head(heads: tuple[str, ...]) -> tuple[str, str]:
    return f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"


def _schedule_row(count: int) -> str:
    times = [phase(instance, HOUR) for instance in _ids(count)]
    second, minute = (max(Counter(int(at / each) for at in times).values()) for each in (1, MINUTE))
    # Beacon and usage report leave together.
    even = 2 * count / HOUR
    at_once = count / MOST_DELAY
    return (
        f"| {count:,} | {even:.2f} | {2 * second} | {minute / (count / MINUTE):.2f} times "
        f"| {at_once:,.0f} |"
    )


def _return_row(name: str, away: float) -> str:
    dice = random.Random(SEED)  # noqa: S311 - a simulation, to be the same each time
    requests: Counter[int] = Counter()
    last = 0.0
    for instance in _ids(RETURNING):
        due = phase(instance, HOUR)
        if due >= away:
            continue  # nothing was due while the collector was away
        # Beacon and usage report wait in queues of their own.
        for _ in ("beacon", "usage"):
            at = _first_attempt(due, away, dice)
            requests[int(at)] += _waiting(due, away)
            last = max(last, at)
    minute = sum(number for second, number in requests.items() if second < MINUTE)
    return f"| {name} | {requests[0]:,} | {minute:,} | {requests.total():,} | {last:.0f} s |"


def _waiting(due: float, away: float) -> int:
    return 1 + int((away - due) / HOUR)


def _first_attempt(due: float, away: float, dice: random.Random) -> float:
    """When a queue tries first after the collector is back, seconds from then."""
    waiting = _waiting(due, away)
    # What waited for an hour is tried at the longest distance, and at once with a new report.
    at, wait = due + (waiting - 1) * HOUR, FIRST_WAIT if waiting == 1 else LONGEST_WAIT
    while at < away:
        at += wait * dice.uniform(0.5, 1.0)
        wait = min(wait * 2, LONGEST_WAIT)
    # A report that falls due brings the others along.
    return min(at, due + waiting * HOUR) - away


def _ids(count: int) -> Iterator[uuid.UUID]:
    dice = random.Random(SEED)  # noqa: S311 - as above
    return (uuid.UUID(int=dice.getrandbits(128), version=4) for _ in range(count))


if __name__ == "__main__":
    main()
