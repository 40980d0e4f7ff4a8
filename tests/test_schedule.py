"""When reports are due, on a clock that is handed in."""

from collections import Counter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_novu.schedule import Schedule, boot_time, phase

HOUR = 3600.0
INSTANCE = UUID("ba54fb29-6422-4a83-a0e4-951d767efa73")
NOON = 1_800_014_400.0  # a whole hour of Unix time


class Clock:
    """A boot clock that a test sets."""

    seconds = 77.0

    def __call__(self) -> float:
        return self.seconds


def test_an_instance_reports_at_the_same_point_of_each_hour_after_every_restart() -> None:
    points = set()
    for started in (NOON, NOON + 0.5, NOON + 1799.0, NOON + 3599.9):
        schedule = Schedule(INSTANCE, HOUR, started)
        points.add(round((started + schedule.remaining()) % HOUR, 2))
    assert len(points) == 1


def test_ten_thousand_instances_spread_evenly_over_the_hour() -> None:
    minutes = Counter(int(phase(UUID(int=n), HOUR) // 60) for n in range(10_000))
    assert len(minutes) == 60
    assert max(minutes.values()) < 2 * min(minutes.values())


@pytest.mark.parametrize(
    ("late", "expected"),
    [(0.0, HOUR), (10.0, HOUR - 10.0), (HOUR - 1, 1.0), (HOUR, HOUR), (5 * HOUR + 60, HOUR - 60)],
)
def test_after_a_suspend_one_report_is_due_and_missed_ones_are_skipped(
    late: float, expected: float
) -> None:
    clock = Clock()
    schedule = Schedule(INSTANCE, HOUR, phase(INSTANCE, HOUR), clock)
    clock.seconds += late
    assert schedule.remaining() == 0.0
    schedule.advance()
    assert schedule.remaining() == pytest.approx(expected)


@given(
    st.uuids(),
    st.floats(min_value=0, max_value=4e9),
    st.floats(min_value=1, max_value=7 * 86400),
)
def test_the_first_report_is_due_within_one_interval(
    instance: UUID, now: float, interval: float
) -> None:
    assert 0 <= Schedule(instance, interval, now, Clock()).remaining() <= interval


def test_the_boot_clock_only_grows() -> None:
    assert boot_time() <= boot_time()
