"""The windows of created documents: every second is counted once, whatever happens."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_novu.metrics.queries import Values
from otel_novu.sources.created import SLICE, add, lag, next_window, watch
from otel_novu.store import CreatedCount

NOW = 1_800_000_000
NOT_SET = 3600.0  # a clock at the first hour of 1970
DELAY = 60
BEGUN = CreatedCount(total=0, since=NOW, until=NOW)


def resumed(count: CreatedCount | None, clock: float) -> CreatedCount:
    state = watch(count, clock)
    assert state is not None
    return state


def count_all(count: CreatedCount, clock: float, each: int = 0) -> CreatedCount:
    while (window := next_window(count, clock - DELAY)) is not None:
        count = add(count, {(): each}, window[1])
    return count


def test_counting_begins_at_zero_with_the_next_second() -> None:
    count = resumed(None, NOW + 0.25)
    assert count == CreatedCount(total=0, since=NOW + 1, until=NOW + 1)
    assert next_window(count, NOW + 0.25 - DELAY) is None


@pytest.mark.parametrize(
    ("clock", "window"),
    [
        (NOW + 60.99, None),
        (NOW + 61, (NOW, NOW + 1)),
        (NOW + 100.9, (NOW, NOW + 40)),
        (NOW + 60 + SLICE, (NOW, NOW + SLICE)),
        (NOW + 10 * SLICE, (NOW, NOW + SLICE)),
        (NOW - 100_000, None),
    ],
)
def test_a_window_begins_where_the_last_one_ended_and_ends_a_minute_ago(
    clock: float, window: tuple[int, int] | None
) -> None:
    assert next_window(BEGUN, clock - DELAY) == window


def test_a_long_gap_is_counted_in_slices_of_an_hour() -> None:
    count, ends = BEGUN, []
    clock = NOW + 60 + 3 * SLICE + 5
    while (window := next_window(count, clock - DELAY)) is not None:
        assert window[0] == count.until
        ends.append(window[1] - NOW)
        count = add(count, {(): 7}, window[1])
    assert ends == [SLICE, 2 * SLICE, 3 * SLICE, 3 * SLICE + 5]
    assert count == CreatedCount(total=28, since=NOW, until=NOW + 3 * SLICE + 5)


def test_what_was_created_during_a_pause_is_not_counted_and_the_total_stays() -> None:
    paused = replace(count_all(BEGUN, NOW + 1000, each=3), paused=True)
    count = resumed(paused, NOW + 5000)
    assert count == CreatedCount(total=3, since=NOW, until=NOW + 5000)
    assert next_window(count, NOW + 5100 - DELAY) == (NOW + 5000, NOW + 5040)


def test_a_pause_that_ends_with_a_clock_that_went_back_counts_nothing_twice() -> None:
    paused = CreatedCount(total=3, since=NOW, until=NOW + 940, paused=True)
    assert resumed(paused, NOW + 200) == CreatedCount(total=3, since=NOW, until=NOW + 940)


def test_a_clock_before_2020_begins_and_resumes_nothing() -> None:
    assert watch(None, NOT_SET) is None
    assert watch(replace(BEGUN, paused=True), NOT_SET) is None
    assert watch(BEGUN, NOT_SET) == BEGUN
    assert next_window(BEGUN, NOT_SET) is None


def test_a_total_never_exceeds_what_otlp_can_carry() -> None:
    assert add(replace(BEGUN, total=2**63 - 2), {(): 5}, NOW + 1).total == 2**63 - 1


@given(
    steps=st.lists(st.tuples(st.integers(-10_000, 10_000), st.integers(0, 6), st.booleans())),
)
def test_every_second_outside_a_pause_is_counted_exactly_once(
    steps: list[tuple[int, int, bool]],
) -> None:
    count, clock, skipped = BEGUN, NOW, 0
    for step, most, pause in steps:
        clock += step
        before = count.until
        count = resumed(count, clock)
        skipped += count.until - before
        for _ in range(most):
            window = next_window(count, clock - DELAY)
            if window is None:
                break
            assert window[0] == count.until
            count = add(count, {(): window[1] - window[0]}, window[1])
        count = replace(count, paused=pause)
    assert count.until == NOW + count.total + skipped


def test_counts_by_labels_add_up_and_new_ones_beyond_200_are_other() -> None:
    count = add(BEGUN, {("email", "sent"): 3, ("sms", "error"): 1}, NOW + 1)
    count = add(count, {("email", "sent"): 4}, NOW + 2)
    assert count.by == {("email", "sent"): 7, ("sms", "error"): 1}
    many: Values = {(f"p{n}", "sent"): 1 for n in range(300)}
    count = add(count, many, NOW + 3)
    assert len(count.by) == 201
    assert count.by["other", "other"] == 300 - 198
    assert sum(count.by.values()) == 308


def test_the_lag_is_what_could_have_been_counted() -> None:
    assert lag(BEGUN, NOW + 100.9) == 100
    assert lag(BEGUN, NOW - 100) == 0
