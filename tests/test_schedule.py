"""When reports are due, on clocks that are handed in."""

import itertools
import random
from collections import Counter
from dataclasses import dataclass
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_novu.schedule import Schedule, phase, steady_time

HOUR = 3600.0
INSTANCE = UUID("ba54fb29-6422-4a83-a0e4-951d767efa73")
NOON = 1_800_014_400.0  # a whole hour of Unix time


@dataclass
class Clocks:
    """A wall clock, and a steady one that began elsewhere."""

    wall: float = NOON
    steady: float = 77.0

    def now(self) -> float:
        return self.wall

    def steady_now(self) -> float:
        return self.steady

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def start(clocks: Clocks, instance: UUID = INSTANCE, interval: float = HOUR) -> Schedule:
    return Schedule.start(instance, interval, clocks.now, clocks.steady_now)


def due_times(schedule: Schedule, clocks: Clocks, count: int) -> list[float]:
    """The wall clock's times of the next reports, each made when it is due."""
    times = []
    for _ in range(count):
        clocks.pass_by(schedule.remaining())
        times.append(clocks.wall)
        schedule.advance()
    return times


def test_the_first_due_time_is_within_an_interval_and_the_others_follow_at_its_rate() -> None:
    clocks = Clocks()
    times = due_times(start(clocks), clocks, 24)
    assert NOON <= times[0] < NOON + HOUR
    assert [b - a for a, b in itertools.pairwise(times)] == pytest.approx([HOUR] * 23)


def test_an_instance_keeps_its_minute_over_restarts_at_any_moment() -> None:
    dice = random.Random(7)  # noqa: S311 - moments of a test
    minutes = set()
    for _ in range(50):
        clocks = Clocks(wall=NOON + dice.uniform(0, 30 * 24 * HOUR))
        minutes.add(round(due_times(start(clocks), clocks, 1)[0] % HOUR, 3) % HOUR)
    assert len(minutes) == 1


def test_two_instances_have_different_phases() -> None:
    other = UUID("ba54fb29-6422-4a83-a0e4-951d767efa74")
    assert phase(INSTANCE, HOUR) != phase(other, HOUR)


def test_a_fleet_of_ten_thousand_started_in_one_second_spreads_over_the_second_hour() -> None:
    dice = random.Random(20261124)  # noqa: S311 - ids of a test
    minutes: Counter[int] = Counter()
    for _ in range(10_000):
        clocks = Clocks(wall=NOON + dice.random())
        schedule = start(clocks, UUID(int=dice.getrandbits(128), version=4))
        for time in due_times(schedule, clocks, 3):
            if NOON + HOUR <= time < NOON + 2 * HOUR:
                minutes[int((time - NOON - HOUR) // 60)] += 1
    assert sum(minutes.values()) == 10_000
    assert max(minutes.values()) <= 1.3 * 10_000 / 60


@pytest.mark.parametrize("step", [86_400.0, -86_400.0, HOUR / 2, -HOUR / 2, 0.5])
def test_a_step_of_the_wall_clock_moves_no_due_time(step: float) -> None:
    clocks = Clocks()
    schedule = start(clocks)
    before = schedule.remaining()
    clocks.wall += step
    assert schedule.remaining() == before
    clocks.steady += before
    assert schedule.remaining() == 0
    schedule.advance()
    assert schedule.remaining() == pytest.approx(HOUR)


def test_after_a_suspend_one_report_is_due_at_once_and_no_burst_follows() -> None:
    clocks = Clocks()
    schedule = start(clocks)
    due_times(schedule, clocks, 2)
    clocks.pass_by(10 * HOUR + 600)
    assert schedule.remaining() == 0
    schedule.advance()
    # At the instance's own minute again, within the hour.
    assert schedule.remaining() == pytest.approx(HOUR - 600)


def test_a_report_that_is_a_little_late_does_not_move_those_that_follow() -> None:
    clocks = Clocks()
    schedule = start(clocks)
    clocks.pass_by(schedule.remaining() + 42)
    schedule.advance()
    assert schedule.remaining() == pytest.approx(HOUR - 42)


@given(
    st.uuids(),
    st.floats(0.001, 604_800),
    st.floats(0, 4e9),
    st.lists(st.floats(0, 1e7), max_size=5),
)
def test_a_due_time_lies_ahead_by_at_most_an_interval_after_every_pause(
    instance: UUID, interval: float, wall: float, pauses: list[float]
) -> None:
    clocks = Clocks(wall=wall)
    schedule = start(clocks, instance, interval)
    assert 0 <= schedule.remaining() <= interval * 1.001
    for pause in pauses:
        clocks.pass_by(schedule.remaining() + pause)
        schedule.advance()
        assert 0 <= schedule.remaining() <= interval * 1.001


def test_the_steady_clock_only_grows() -> None:
    first = steady_time()
    assert steady_time() >= first
