"""Tasks that hang and those behind them, and a state directory on a disk that hangs."""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hanging_disk import HangingDisk
from receivers import FAULT_SECONDS
from servers import eventually

from otel_novu.delivery.spool import Spool
from otel_novu.patience import Patience
from otel_novu.state.directory import NotKept, Unreadable
from otel_novu.state.patient import PatientDirectory

NOON = 1_800_000_000.0
NAME = "otel-novu-patience-test"
# A fault lasts two minutes; what is said to come soon comes within this.
BOUND = 30.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()
    eventually(lambda: [t for t in threading.enumerate() if t.name == NAME], lambda left: not left)


def test_what_a_task_returns_or_raises_reaches_its_caller() -> None:
    patience = Patience(NAME, math.inf)
    assert patience.do(lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        patience.do(lambda: 1 / 0)


def function_of(thread: threading.Thread) -> str | None:
    """Tell in which function a thread is."""
    frame = sys._current_frames().get(thread.ident or 0)
    return None if frame is None else frame.f_code.co_name


def test_tasks_are_done_one_after_the_other_in_their_order(gate: threading.Event) -> None:
    patience = Patience(NAME, math.inf)
    done: list[int] = []
    threads = []
    for number in range(10):
        task = threading.Thread(target=patience.do, args=(lambda n=number: done.append(n),))
        if number == 0:
            task = threading.Thread(target=patience.do, args=(lambda: gate.wait(FAULT_SECONDS),))
        threads.append(task)
        task.start()
        eventually(lambda t=task: function_of(t) == "wait")  # type: ignore[misc]  # only then the next one comes after it
    gate.set()
    for thread in threads:
        thread.join(BOUND)
    assert done == list(range(1, 10))


def test_a_caller_waits_no_longer_than_its_patience_and_the_next_not_at_all(
    gate: threading.Event,
) -> None:
    patience = Patience(NAME, 0.2)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        patience.do(lambda: gate.wait(FAULT_SECONDS))
    for _ in range(1000):
        with pytest.raises(TimeoutError):
            patience.do(lambda: None)
    assert time.monotonic() - began < BOUND


def test_what_had_not_begun_in_time_is_never_done_but_for_what_shall_be_done_sometime(
    gate: threading.Event,
) -> None:
    patience = Patience(NAME, 0.2)
    done: list[str] = []
    for task, name in ((patience.do, "left"), (patience.do_sometime, "kept")):
        patience.begin(lambda: gate.wait(FAULT_SECONDS))
        with pytest.raises(TimeoutError):
            task(lambda name=name: done.append(name))  # type: ignore[misc]
    gate.set()
    eventually(lambda: done)
    patience.wait_at_most(BOUND)
    assert patience.do(lambda: tuple(done)) == ("kept",)


def test_after_a_task_that_hung_all_is_as_before(gate: threading.Event) -> None:
    patience = Patience(NAME, 0.2)
    with pytest.raises(TimeoutError):
        patience.do(lambda: gate.wait(FAULT_SECONDS))
    gate.set()

    def done() -> bool:
        try:
            return patience.do(lambda: True)
        except TimeoutError:
            return False

    eventually(done)


def test_patience_may_end_while_somebody_waits(gate: threading.Event) -> None:
    patience = Patience(NAME, math.inf)
    threading.Timer(0.2, patience.wait_at_most, (0.1,)).start()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        patience.do(lambda: gate.wait(FAULT_SECONDS))
    assert time.monotonic() - began < BOUND


def test_of_what_is_begun_while_another_hangs_one_waits_and_the_rest_is_left_out(
    gate: threading.Event,
) -> None:
    patience = Patience(NAME, math.inf)
    done: list[int] = []
    begun = threading.Event()

    def hang() -> None:
        begun.set()
        gate.wait(FAULT_SECONDS)

    patience.begin(hang)
    assert begun.wait(BOUND)
    for number in range(100):
        patience.begin(lambda n=number: done.append(n))  # type: ignore[misc]
    gate.set()
    patience.do(lambda: None)
    assert done == [0]


# --- the state directory -------------------------------------------------------------------------


@pytest.fixture
def disk() -> Iterator[HangingDisk]:
    disk = HangingDisk()
    yield disk
    disk.go_on()
    eventually(lambda: disk.hung, lambda hung: hung == 0)


@pytest.fixture
def state(state_dir: Path, disk: HangingDisk) -> Iterator[PatientDirectory]:
    with PatientDirectory.open(state_dir, disk) as state:
        yield state
        disk.go_on()


def test_a_disk_that_answers_is_read_and_written_as_ever(state: PatientDirectory) -> None:
    state.write("folder/file", b"text")
    assert state.read("folder/file") == b"text"
    assert state.size("folder/file") == 4
    state.move("folder/file", "folder/other")
    assert state.names("folder") == ("other",)
    state.remove("folder/other")
    assert state.read("folder/other") is None
    with pytest.raises(ValueError, match="no name"):
        state.read("../file")


def test_on_a_disk_that_hangs_every_call_ends_and_tells_of_a_fault_that_passes(
    state: PatientDirectory, disk: HangingDisk
) -> None:
    state.write("file", b"old")
    state.wait_at_most(0.2)
    disk.hang(wholly=True)
    began = time.monotonic()
    readings: list[Callable[[], object]] = [lambda: state.read("file"), state.names]
    for read in readings:
        with pytest.raises(Unreadable) as unreadable:
            read()
        assert unreadable.value.passing
        assert unreadable.value.why == "the disk does not answer"
    changes: list[Callable[[], None]] = [
        lambda: state.write("file", b"new"),
        lambda: state.move("file", "other"),
        lambda: state.remove("file"),
    ]
    for change in changes:
        with pytest.raises(NotKept, match="the disk does not answer"):
            change()
    assert state.size("file") == 0
    assert state.why_not_writable == "the disk does not answer"
    assert time.monotonic() - began < BOUND


def test_a_directory_on_a_disk_that_hangs_is_let_go_in_time(
    state_dir: Path, disk: HangingDisk
) -> None:
    began = time.monotonic()
    with PatientDirectory.open(state_dir, disk) as state, state.holding("run") as lock:
        assert lock.why_not_held is None
        state.wait_at_most(0.2)
        disk.hang(wholly=True)
        with pytest.raises(NotKept):
            state.write("file", b"new")
    assert time.monotonic() - began < BOUND


def test_reports_go_on_from_memory_while_the_disk_hangs_and_lie_on_it_again_after(
    state: PatientDirectory, disk: HangingDisk, state_dir: Path
) -> None:
    spool = Spool(state, 86400.0, 1 << 20, lambda: NOON)
    assert spool.put("beacon", b"1", NOON).kept
    state.wait_at_most(0.2)
    disk.hang(wholly=True)
    assert not spool.put("beacon", b"2", NOON).kept
    assert not spool.put("beacon", b"3", NOON).kept
    # What lies on the disk can't be read now; what memory holds need not wait for it.
    second = spool.oldest("beacon")
    assert second is not None
    assert second.body == b"2"
    spool.remove(second)
    disk.go_on()
    state.wait_at_most(math.inf)
    assert spool.put("beacon", b"4", NOON).kept
    names = sorted(file.name for file in (state_dir / "spool").iterdir())
    assert len(names) == 3
    left, report = [], spool.oldest("beacon")
    while report is not None:
        left.append(report.body)
        spool.remove(report)
        report = spool.oldest("beacon")
    assert left == [b"1", b"3", b"4"]
    assert list((state_dir / "spool").iterdir()) == []


def test_what_was_delivered_while_the_disk_hung_does_not_leave_again_after_a_restart(
    state: PatientDirectory, disk: HangingDisk, state_dir: Path
) -> None:
    spool = Spool(state, 86400.0, 1 << 20, lambda: NOON)
    report = spool.put("beacon", b"1", NOON)
    state.wait_at_most(0.2)
    disk.hang(wholly=True)
    with pytest.raises(NotKept):
        state.write("other", b"")
    spool.remove(report)
    disk.go_on()
    eventually(lambda: list((state_dir / "spool").iterdir()), lambda left: not left)
