import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shelf import Shelf

from otel_novu.metrics.usage import Created
from otel_novu.sources.created import LONGEST_SLICE, CreatedRound, CreatedWatch, Slice
from otel_novu.sources.failure import ReadFailed

NOW = 1_800_000_000
FIGURE = "event.created"


class FullShelf(Shelf):
    full = True

    def save(self, data: bytes) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().save(data)


class BrokenShelf(Shelf):
    def load(self) -> bytes | None:
        raise OSError(5, "Input/output error")


def watch_over(store: Shelf, *figures: str) -> CreatedWatch:
    return CreatedWatch(store, figures or (FIGURE,))


def count_all(opened: CreatedRound, figure: str = FIGURE, each: int = 0) -> list[Slice]:
    parts = []
    while (part := opened.next_slice(figure)) is not None:
        parts.append(part)
        opened.counted(figure, part, each)
    return parts


def read(watch: CreatedWatch, clock: float, each: int = 0) -> list[Slice]:
    opened = watch.open_round(clock)
    parts = count_all(opened, each=each)
    watch.close_round(opened)
    return parts


def test_without_a_state_counting_begins_at_zero_now_and_asks_nothing() -> None:
    store = Shelf()
    watch = watch_over(store)
    opened = watch.open_round(NOW + 0.25)
    assert opened.next_slice(FIGURE) is None
    assert opened.created(FIGURE) == Created(0, NOW + 1)
    watch.close_round(opened)
    assert store.entry(FIGURE) == {"total": 0, "since": NOW + 1, "until": NOW + 1, "paused": False}


def test_a_window_ends_a_minute_before_the_clock_and_the_next_begins_there() -> None:
    watch = watch_over(Shelf())
    read(watch, NOW)
    assert read(watch, NOW + 100.9) == [Slice(NOW, NOW + 40)]
    assert read(watch, NOW + 3700) == [Slice(NOW + 40, NOW + 3640)]


def test_a_window_is_not_begun_before_a_minute_is_over() -> None:
    watch = watch_over(Shelf())
    read(watch, NOW)
    assert read(watch, NOW + 60.99) == []
    assert read(watch, NOW + 61) == [Slice(NOW, NOW + 1)]


def test_a_restart_goes_on_where_the_last_window_ended() -> None:
    store = Shelf()
    first = watch_over(store)
    read(first, NOW)
    read(first, NOW + 1000, each=7)
    opened = watch_over(store).open_round(NOW + 2000)
    assert count_all(opened, each=5) == [Slice(NOW + 940, NOW + 1940)]
    assert opened.created(FIGURE) == Created(12, NOW)


def test_a_long_gap_is_cut_into_slices_of_at_most_an_hour() -> None:
    watch = watch_over(Shelf())
    read(watch, NOW)
    parts = read(watch, NOW + 60 + 3 * LONGEST_SLICE + 5)
    assert [part.end - part.begin for part in parts] == [3600, 3600, 3600, 5]
    assert [part.begin for part in parts[1:]] == [part.end for part in parts[:-1]]


def test_slices_that_were_counted_stay_when_a_round_ends_early() -> None:
    store = Shelf()
    watch = watch_over(store)
    read(watch, NOW)
    opened = watch.open_round(NOW + 60 + 2 * LONGEST_SLICE)
    part = opened.next_slice(FIGURE)
    assert part is not None
    opened.counted(FIGURE, part, 11)
    watch.close_round(opened)
    assert store.entry(FIGURE)["total"] == 11
    assert store.entry(FIGURE)["until"] == NOW + LONGEST_SLICE


def test_a_round_that_is_not_closed_counts_for_nothing() -> None:
    store = Shelf()
    watch = watch_over(store)
    read(watch, NOW)
    count_all(watch.open_round(NOW + 1000), each=9)
    opened = watch.open_round(NOW + 1000)
    assert opened.created(FIGURE).count == 0
    assert opened.next_slice(FIGURE) == Slice(NOW, NOW + 940)


def test_a_slice_that_overran_is_halved_and_grows_back_by_doubling() -> None:
    watch = watch_over(Shelf())
    read(watch, NOW)
    opened = watch.open_round(NOW + 60 + 4 * LONGEST_SLICE)
    for length in (3600, 1800, 900):
        part = opened.next_slice(FIGURE)
        assert part == Slice(NOW, NOW + length)
        opened.overran(FIGURE, part)
    lengths = [part.end - part.begin for part in count_all(opened)]
    assert lengths == [450, 900, 1800, 3600, 3600, 3600, 450]


def test_the_length_of_slices_outlives_the_round_that_found_it() -> None:
    watch = watch_over(Shelf())
    read(watch, NOW)
    opened = watch.open_round(NOW + 60 + LONGEST_SLICE)
    opened.overran(FIGURE, Slice(NOW, NOW + 3600))
    assert watch.open_round(NOW + 60 + LONGEST_SLICE).next_slice(FIGURE) == Slice(NOW, NOW + 1800)


def test_a_slice_is_never_shorter_than_a_second() -> None:
    watch = watch_over(Shelf())
    read(watch, NOW)
    opened = watch.open_round(NOW + 100)
    opened.overran(FIGURE, Slice(NOW, NOW + 1))
    assert opened.next_slice(FIGURE) == Slice(NOW, NOW + 1)


def test_no_watch_begins_by_a_clock_that_is_not_set() -> None:
    store = Shelf()
    watch = watch_over(store)
    with pytest.raises(ReadFailed, match="is not set"):
        watch.open_round(3600.0)
    read(watch, NOW)
    assert read(watch, NOW + 1000, each=1) == [Slice(NOW, NOW + 940)]
    watch.forget_begin()
    with pytest.raises(ReadFailed, match="is not set"):
        watch.open_round(3600.0)
    read(watch, NOW + 5000)
    assert read(watch, NOW + 6000, each=1) == [Slice(NOW + 5000, NOW + 5940)]
    assert read(watch, 3600.0) == []  # nothing begins: it goes on when the clock does


def test_a_clock_that_goes_back_changes_nothing() -> None:
    store = Shelf()
    watch = watch_over(store)
    read(watch, NOW)
    read(watch, NOW + 1000, each=3)
    before = store.entry(FIGURE)
    assert read(watch, NOW - 100_000, each=3) == []
    assert read(watch, NOW + 1000, each=3) == []
    assert store.entry(FIGURE) == before


def test_figures_advance_apart_from_each_other() -> None:
    store = Shelf()
    watch = watch_over(store, "user.created", FIGURE)
    watch.close_round(watch.open_round(NOW))
    opened = watch.open_round(NOW + 1000)
    count_all(opened, "user.created", each=4)
    watch.close_round(opened)
    assert store.entry("user.created")["until"] == NOW + 940
    assert store.entry(FIGURE)["until"] == NOW


def test_a_figure_that_the_state_does_not_know_begins_now_beside_the_others() -> None:
    store = Shelf()
    older = watch_over(store, "user.created")
    older.close_round(older.open_round(NOW))
    opened = watch_over(store, "user.created", FIGURE).open_round(NOW + 500)
    assert opened.created("user.created").since == NOW
    assert opened.created(FIGURE).since == NOW + 500


def test_a_figure_that_this_version_does_not_know_stays_in_the_state() -> None:
    store = Shelf()
    older = watch_over(store, "user.created", FIGURE)
    older.close_round(older.open_round(NOW))
    read(watch_over(store), NOW + 1000, each=1)
    assert store.entry("user.created")["since"] == NOW


def test_a_state_that_did_not_change_is_not_written_again() -> None:
    store = Shelf()
    watch = watch_over(store)
    read(watch, NOW)
    read(watch, NOW + 30)
    assert store.saves == 1


def test_forgetting_the_begin_leaves_out_what_is_created_until_the_next_round() -> None:
    store = Shelf()
    watch = watch_over(store)
    read(watch, NOW)
    read(watch, NOW + 1000, each=3)
    watch.forget_begin()
    assert read(watch, NOW + 5000, each=100) == []
    opened = watch.open_round(NOW + 5100)
    assert opened.next_slice(FIGURE) == Slice(NOW + 5000, NOW + 5040)
    assert opened.created(FIGURE) == Created(3, NOW)


def test_a_begin_that_was_forgotten_stays_so_over_a_restart() -> None:
    store = Shelf()
    read(watch_over(store), NOW)
    watch_over(store).forget_begin()
    assert read(watch_over(store), NOW + 5000) == []
    assert store.entry(FIGURE)["until"] == NOW + 5000


def test_going_on_with_a_clock_that_went_back_counts_nothing_twice() -> None:
    store = Shelf()
    watch = watch_over(store)
    read(watch, NOW)
    read(watch, NOW + 1000, each=3)
    watch.forget_begin()
    read(watch, NOW + 200)
    assert store.entry(FIGURE)["until"] == NOW + 940


def test_forgetting_writes_nothing_where_there_is_nothing_to_forget() -> None:
    store = Shelf()
    watch = watch_over(store)
    watch.forget_begin()
    assert store.data is None
    read(watch, NOW)
    watch.forget_begin()
    watch.forget_begin()
    assert store.saves == 2


GOOD = {"total": 1, "since": 2, "until": 3, "paused": False}


def state(version: object = 1, **changes: object) -> bytes:
    return json.dumps({"version": version, "figures": {FIGURE: {**GOOD, **changes}}}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"version": 1}',
        b'{"version": 1, "figures": []}',
        b'{"version": 1, "figures": {"event.created": 5}}',
        b'{"version": 1, "figures": {"event.created": {"total": 1}}}',
        b'{"version": 1, "figures": {}, "more": 1}',
        b"[" * 100_000,
        state(version=2),
        state(version=True),
        state(version="1"),
        state(total=-1),
        state(total=1.0),
        state(total=True),
        state(total=None),
        state(total=2**63),
        state(since=-1),
        state(since=4),
        state(until=2**32),
        state(until="3"),
        state(until=float("nan")),
        state(paused=0),
        state(more=1),
    ],
)
def test_a_state_that_can_not_be_read_fails_and_is_left_alone(data: bytes) -> None:
    store = Shelf(data)
    watch = watch_over(store)
    for _ in range(2):
        with pytest.raises(ReadFailed):
            watch.load()
    watch.forget_begin()
    assert store.data == data
    assert store.saves == 0


def test_a_state_that_can_not_be_read_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = watch_over(BrokenShelf())
    for _ in range(3):
        with pytest.raises(ReadFailed):
            watch.load()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "left alone" in caplog.text


def test_a_state_that_was_mended_is_read_without_a_restart() -> None:
    store = Shelf(b"damaged")
    watch = watch_over(store)
    with pytest.raises(ReadFailed):
        watch.load()
    store.data = state()
    assert watch.open_round(NOW).created(FIGURE) == Created(1, 2)


def test_memory_serves_where_nothing_can_be_saved_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = FullShelf()
    watch = watch_over(store)
    read(watch, NOW)
    read(watch, NOW + 1000, each=5)
    assert watch.open_round(NOW + 1000).created(FIGURE) == Created(5, NOW)
    assert len(caplog.records) == 1
    store.full = False
    read(watch, NOW + 1000)
    assert store.entry(FIGURE)["total"] == 5


@given(
    steps=st.lists(
        st.tuples(st.integers(-10_000, 10_000), st.integers(0, 6), st.booleans()), max_size=30
    )
)
def test_every_second_from_the_begin_to_the_end_is_counted_exactly_once(
    steps: list[tuple[int, int, bool]],
) -> None:
    store = Shelf()
    watch = watch_over(store)
    read(watch, NOW)
    clock, until = NOW, NOW
    for step, fail_after, restarted in steps:
        clock += step
        if restarted:
            watch = watch_over(store)
        opened = watch.open_round(clock)
        for number in range(50):
            part = opened.next_slice(FIGURE)
            if part is None or number == fail_after:
                break
            if number % 3 == 1:
                opened.overran(FIGURE, part)
                continue
            assert part.begin == until
            opened.counted(FIGURE, part, part.end - part.begin)
            until = part.end
        watch.close_round(opened)
        entry = store.entry(FIGURE)
        assert entry["until"] == until == NOW + entry["total"]
