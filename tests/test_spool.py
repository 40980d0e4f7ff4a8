import errno
import logging
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from crashing_disk import Crashed, CrashingDisk
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from real_faults import read_only, tiny_disk

from otel_novu.delivery.report_file import Report
from otel_novu.delivery.spool import MOST_SET_ASIDE, Listing, Spool, Waiting, look
from otel_novu.state.directory import FileOps, Lock, StateDirectory

DAY = 86_400.0
NOON = 1_800_000_000.0
ROOMY = 1 << 20


class Clock:
    def __init__(self, time: float = NOON) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    with StateDirectory.open(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def spool(state: StateDirectory, clock: Clock) -> Spool:
    return restarted(state, clock)


def restarted(state: StateDirectory, clock: Clock, max_bytes: int = ROOMY) -> Spool:
    return Spool(state, 7 * DAY, max_bytes, clock)


def body_of(report: Report | None) -> bytes | None:
    return None if report is None else report.body


def drained(spool: Spool, meter: str = "beacon") -> list[bytes]:
    bodies = []
    while (report := spool.oldest(meter)) is not None:
        bodies.append(report.body)
        spool.remove(report)
    return bodies


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def spool_files(tmp_path: Path) -> list[Path]:
    return files_in(tmp_path / "state" / "spool")


def corner_files(tmp_path: Path) -> list[Path]:
    return files_in(tmp_path / "state" / "spool-set-aside")


def test_a_report_is_on_disk_for_its_owner_alone_when_put_returns(
    spool: Spool, tmp_path: Path
) -> None:
    report = spool.put("beacon", b"body", NOON)
    (file,) = spool_files(tmp_path)
    assert report.kept
    assert file.name == f"{int(NOON * 1000):015d}-beacon.report"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert file.read_bytes().endswith(b"\nbody")


def test_each_meter_has_a_queue_of_its_own_oldest_first(spool: Spool) -> None:
    first = spool.put("beacon", b"b1", NOON)
    spool.put("usage", b"u1", NOON)
    second = spool.put("beacon", b"b2", NOON + 1)
    assert spool.oldest("beacon") == first
    assert spool.after(first) == second
    assert spool.after(second) is None
    assert spool.newest("beacon") == second
    assert body_of(spool.oldest("usage")) == b"u1"
    assert (spool.waiting("beacon"), spool.waiting("usage"), spool.waiting_total) == (2, 1, 3)
    assert spool.oldest("other") is None
    assert drained(spool) == [b"b1", b"b2"]
    assert (spool.waiting_total, spool.dropped) == (1, 0)


def test_reports_are_listed_and_read_back_whole_after_a_restart(
    spool: Spool, state: StateDirectory, clock: Clock
) -> None:
    put = [spool.put("beacon", bytes(range(256)), NOON + 0.1), spool.put("usage", b"", NOON)]
    again = restarted(state, clock)
    assert [again.oldest("beacon"), again.oldest("usage")] == put
    assert again.reports() == spool.reports()
    assert [waiting.read_at for waiting in again.reports()] == [NOON + 0.1, NOON]


def test_the_order_is_that_of_putting_whatever_the_clock_does(
    spool: Spool, state: StateDirectory, clock: Clock
) -> None:
    spool.put("beacon", b"1", NOON)
    clock.time -= 3 * DAY
    spool.put("beacon", b"2", clock.time)
    spool = restarted(state, clock)
    clock.time -= DAY
    spool.put("beacon", b"3", clock.time)
    clock.time += 5 * DAY
    spool.put("beacon", b"4", clock.time)
    assert drained(restarted(state, clock)) == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("time", [-1e12, 0.0, 1e300])
def test_a_clock_that_is_out_of_all_measure_does_no_harm(
    state: StateDirectory, clock: Clock, time: float
) -> None:
    clock.time = time
    spool = restarted(state, clock)
    spool.put("beacon", b"1", time)
    spool.put("beacon", b"2", time)
    assert drained(restarted(state, clock)) == [b"1", b"2"]


def test_a_report_too_old_is_given_up_counted_and_said_once(
    spool: Spool, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for hour in range(3):
        spool.put("beacon", b"%d" % hour, NOON + hour * 3600)
    clock.time = NOON + 7 * DAY + 3600 + 1
    assert body_of(spool.oldest("beacon")) == b"2"
    assert (spool.waiting_total, spool.dropped) == (1, 2)
    assert len(spool_files(tmp_path)) == 1
    assert caplog.messages == ["Reports older than 7 days are given up undelivered."]


def test_a_report_too_old_is_given_up_at_a_restart(
    spool: Spool, state: StateDirectory, clock: Clock
) -> None:
    spool.put("beacon", b"old", NOON)
    clock.time += 8 * DAY
    again = restarted(state, clock)
    assert (again.waiting_total, again.dropped, again.oldest("beacon")) == (0, 1, None)


def test_the_oldest_of_both_meters_make_room_for_the_newest(
    state: StateDirectory, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = restarted(state, clock, max_bytes=3000)
    for number in range(6):
        spool.put(("beacon", "usage")[number % 2], b"%d" % number * 800, NOON + number)
    assert [(waiting.meter, waiting.read_at) for waiting in spool.reports()] == [
        ("usage", NOON + 3),
        ("beacon", NOON + 4),
        ("usage", NOON + 5),
    ]
    assert spool.dropped == 3
    assert sum(file.stat().st_size for file in spool_files(tmp_path)) <= 3000
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("The spool is full (3000 bytes); its oldest reports")


def test_what_an_earlier_run_left_counts_for_the_bounds(
    spool: Spool, state: StateDirectory, clock: Clock, tmp_path: Path
) -> None:
    for number in range(5):
        spool.put("beacon", b"%d" % number * 800, NOON)
    again = restarted(state, clock, max_bytes=2100)
    assert (again.waiting_total, again.dropped) == (2, 3)
    assert body_of(again.oldest("beacon")) == b"3" * 800
    assert len(spool_files(tmp_path)) == 2


def test_a_report_larger_than_the_spool_is_given_up_and_drives_out_no_other(
    state: StateDirectory, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    spool = restarted(state, clock, max_bytes=1000)
    spool.put("beacon", b"small", NOON)
    large = spool.put("beacon", bytes(2000), NOON)
    assert not large.kept
    assert (spool.dropped, drained(spool)) == (1, [b"small"])
    assert caplog.messages == ["A beacon report is larger than the whole spool may be."]
    spool.remove(large)
    spool.set_aside(large, "refused")
    assert spool.dropped == 1


@pytest.mark.parametrize("cut", [0, 1, 30, 90, 120, -1])
def test_a_torn_file_is_set_aside_counted_and_said_and_stops_no_other(
    state: StateDirectory,
    clock: Clock,
    spool: Spool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    cut: int,
) -> None:
    spool.put("beacon", b"torn", NOON)
    spool.put("beacon", b"whole", NOON)
    torn = spool_files(tmp_path)[0]
    content = torn.read_bytes()[:cut]
    torn.write_bytes(content)
    again = restarted(state, clock)
    assert (again.waiting_total, again.dropped) == (1, 1)
    assert drained(again) == [b"whole"]
    assert [file.read_bytes() for file in corner_files(tmp_path)] == [content]
    (said,) = caplog.messages
    assert said.startswith("1 files in the spool are left out as damaged or foreign, the first")


def test_a_file_altered_while_it_waits_is_set_aside_when_its_turn_comes(
    spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for body in (b"first", b"second", b"third"):
        spool.put("beacon", body, NOON)
    first, second, _ = spool_files(tmp_path)
    first.write_bytes(first.read_bytes().replace(b"first", b"fjrst"))
    second.unlink()
    assert body_of(spool.oldest("beacon")) == b"third"
    assert (spool.waiting_total, spool.dropped) == (1, 2)
    assert [file.name for file in corner_files(tmp_path)] == [first.name]
    assert caplog.messages == [
        f"The report {first.name} is given up: it is torn or altered, its checksum does not fit.",
        f"The report {second.name} is given up: its file is gone.",
    ]


class OutOfDescriptors(FileOps):
    """Reads nothing for a while, as a process with too many files open."""

    out = False

    def read(self, fd: int, size: int) -> bytes:
        if self.out:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().read(fd, size)


def test_a_fault_that_passes_costs_no_report_and_changes_no_order(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    files = OutOfDescriptors()
    with StateDirectory.open(tmp_path / "state", files) as state:
        spool = restarted(state, clock)
        spool.put("beacon", b"1", NOON)
        spool.put("beacon", b"2", NOON)
        files.out = True
        assert spool.oldest("beacon") is None
        assert (spool.waiting_total, spool.dropped) == (2, 0)
        assert caplog.messages[0].endswith("too many open files; it is tried again.")
        passed_over = restarted(state, clock)
        assert (passed_over.waiting_total, passed_over.dropped) == (0, 0)
        files.out = False
        assert drained(restarted(state, clock)) == [b"1", b"2"]
    assert corner_files(tmp_path) == []


def test_foreign_things_in_the_spool_stop_nothing(
    spool: Spool, state: StateDirectory, clock: Clock, tmp_path: Path
) -> None:
    spool.put("beacon", b"ours", NOON)
    (ours,) = spool_files(tmp_path)
    folder = ours.parent
    (folder / "000000000000001-usage.report").write_bytes(ours.read_bytes())
    (folder / "a name of another kind").write_text("x")
    (folder / "000000000000002-usage.report").mkdir()
    (folder / "000000000000003-usage.report").symlink_to(ours)
    os.mkfifo(folder / "000000000000004-usage.report")
    again = restarted(state, clock)
    assert (again.waiting_total, again.dropped) == (1, 5)
    assert spool_files(tmp_path) == [ours]
    assert len(corner_files(tmp_path)) == 5
    assert drained(again) == [b"ours"]
    assert restarted(state, clock).dropped == 0


def test_a_file_in_the_place_of_the_spool_leaves_reports_in_memory(
    state: StateDirectory, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    state.write("spool", b"a file")
    spool = restarted(state, clock)
    assert not spool.put("beacon", b"body", NOON).kept
    assert drained(spool) == [b"body"]
    assert state.read("spool") == b"a file"
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_a_refused_report_is_set_aside_and_the_next_one_tried(
    spool: Spool, state: StateDirectory, clock: Clock, tmp_path: Path
) -> None:
    refused = spool.put("beacon", b"refused", NOON)
    spool.put("beacon", b"taken", NOON)
    spool.set_aside(refused, "refused, while a later one was taken")
    spool.set_aside(refused, "refused, while a later one was taken")
    assert spool.dropped == 1
    assert body_of(spool.after(refused)) == b"taken"
    assert drained(spool) == [b"taken"]
    assert len(corner_files(tmp_path)) == 1
    assert restarted(state, clock).waiting_total == 0


def test_the_corner_of_what_was_set_aside_is_bounded(
    spool: Spool, state: StateDirectory, clock: Clock, tmp_path: Path
) -> None:
    for number in range(MOST_SET_ASIDE + 10):
        spool.set_aside(spool.put("beacon", b"%d" % number * 100, NOON), "refused")
    files = corner_files(tmp_path)
    assert len(files) == MOST_SET_ASIDE
    assert files[-1].read_bytes().endswith(b"41" * 100)
    small = restarted(state, clock, max_bytes=1000)
    small.put("beacon", bytes(400), NOON)
    used = sum(file.stat().st_size for file in (*corner_files(tmp_path), *spool_files(tmp_path)))
    assert used <= 1000
    assert small.waiting_total == 1


def test_on_a_full_disk_reports_wait_in_memory_in_order_until_there_is_room(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "otel_novu")
    with tiny_disk(tmp_path / "disk") as home, StateDirectory.open(home) as state:
        spool = restarted(state, clock)
        put = [spool.put("beacon", b"%02d" % number * 5000, NOON) for number in range(12)]
        assert [report.kept for report in put[:3]] == [True] * 3
        assert [report.kept for report in put[-3:]] == [False] * 3
        assert spool.waiting_total == 12
        assert len(caplog.messages) == 1
        assert caplog.messages[0] == (
            "Reports can't be kept on disk (no space is left on the device); they wait in memory, "
            "where a crash loses them."
        )
        for report in put[:5]:
            assert spool.oldest("beacon") == report
            spool.remove(report)
        subprocess.run(["mount", "-o", "remount,size=1m", home], check=True)
        assert spool.put("beacon", b"roomy", NOON).kept
        assert [waiting.kept for waiting in spool.reports()] == [True] * 8
        assert drained(restarted(state, clock)) == [report.body for report in put[5:]] + [b"roomy"]
        assert caplog.messages[1:] == ["Reports are kept on disk again."]


def test_on_a_read_only_disk_what_waits_is_sent_once_and_new_ones_wait_in_memory(
    tmp_path: Path, clock: Clock
) -> None:
    home = tmp_path / "state"
    with StateDirectory.open(home) as before:
        restarted(before, clock).put("beacon", b"on disk", NOON)
    with read_only(home), StateDirectory.open(home) as state:
        spool = restarted(state, clock)
        assert not spool.put("beacon", b"in memory", NOON).kept
        assert drained(spool) == [b"on disk", b"in memory"]
        assert spool.oldest("beacon") is None
        assert (spool.waiting_total, spool.dropped) == (0, 0)
    assert len(spool_files(tmp_path)) == 1


def test_a_file_that_could_not_be_removed_is_removed_later(tmp_path: Path, clock: Clock) -> None:
    home = tmp_path / "state"
    with StateDirectory.open(home) as state:
        restarted(state, clock).put("beacon", b"on disk", NOON)
    for_a_while = Stubborn()
    with StateDirectory.open(home, for_a_while) as state:
        spool = restarted(state, clock)
        for_a_while.stubborn = True
        assert drained(spool) == [b"on disk"]
        assert len(spool_files(tmp_path)) == 1
        for_a_while.stubborn = False
        assert spool.oldest("beacon") is None
        assert spool_files(tmp_path) == []


class Stubborn(FileOps):
    """Removes nothing for a while, as a file system that has just turned read-only."""

    stubborn = False

    def unlink(self, name: str, *, at: int) -> None:
        if self.stubborn:
            raise PermissionError(1, "Operation not permitted")
        super().unlink(name, at=at)


class Unsure(Stubborn):
    """Writes, but can't say whether it lasts, for a while."""

    unsure = False

    def fsync(self, fd: int) -> None:
        if self.unsure and stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        super().fsync(fd)


def test_a_report_that_may_or_may_not_lie_on_disk_is_kept_once_the_disk_is_sound(
    tmp_path: Path, clock: Clock
) -> None:
    files = Unsure()
    with StateDirectory.open(tmp_path / "state", files) as state:
        spool = restarted(state, clock)
        spool.put("usage", b"makes the folder", NOON)
        files.unsure = True
        assert not spool.put("beacon", b"1", NOON).kept
        assert len(spool_files(tmp_path)) == 1
        files.stubborn = True
        assert not spool.put("beacon", b"2", NOON).kept
        files.unsure = False
        assert spool.put("beacon", b"3", NOON).kept
        files.stubborn = False
        assert body_of(spool.oldest("beacon")) == b"1"
        assert drained(restarted(state, clock)) == [b"1", b"2", b"3"]


def test_a_spool_of_files_that_can_not_be_removed_stays_within_its_bounds(
    tmp_path: Path, clock: Clock
) -> None:
    files = Stubborn()
    with StateDirectory.open(tmp_path / "state", files) as state:
        spool = restarted(state, clock, max_bytes=2000)
        files.stubborn = True
        for number in range(8):
            spool.put("beacon", b"%d" % number * 500, NOON)
        assert sum(file.stat().st_size for file in spool_files(tmp_path)) <= 2000
        assert sum(waiting.size for waiting in spool.reports()) <= 2000
        assert drained(spool)[-1] == b"7" * 500


def test_counting_never_waits_for_the_disk(tmp_path: Path, clock: Clock) -> None:
    class Hung(FileOps):
        hangs = threading.Event()
        goes_on = threading.Event()

        def rename(self, old: str, new: str, *, old_at: int, new_at: int) -> None:
            self.hangs.set()
            assert self.goes_on.wait(60)
            super().rename(old, new, old_at=old_at, new_at=new_at)

    files = Hung()
    with StateDirectory.open(tmp_path / "state", files) as state:
        spool = restarted(state, clock)
        writer = threading.Thread(target=spool.put, args=("beacon", b"body", NOON))
        writer.start()
        assert files.hangs.wait(60)
        counts = (spool.waiting("beacon"), spool.waiting_total, spool.dropped, spool.reports())
        files.goes_on.set()
        writer.join()
        assert counts == (0, 0, 0, ())
        assert spool.waiting("beacon") == 1


def test_threads_that_put_and_take_at_once_lose_and_double_nothing(spool: Spool) -> None:
    taken: dict[str, list[bytes]] = {"beacon": [], "usage": []}
    all_put = threading.Event()

    def put(meter: str) -> None:
        for number in range(100):
            spool.put(meter, b"%d" % number, NOON)

    def take(meter: str) -> None:
        while not all_put.is_set() or spool.waiting(meter):
            taken[meter] += drained(spool, meter)

    putters = [threading.Thread(target=put, args=(meter,)) for meter in taken]
    takers = [threading.Thread(target=take, args=(meter,)) for meter in taken]
    for thread in (*putters, *takers):
        thread.start()
    for thread in putters:
        thread.join()
    all_put.set()
    for thread in takers:
        thread.join()
    assert list(taken.values()) == [[b"%d" % number for number in range(100)]] * 2
    assert (spool.waiting_total, spool.dropped) == (0, 0)


def test_looking_from_beside_lists_what_waits_and_changes_nothing(
    spool: Spool, tmp_path: Path
) -> None:
    home = tmp_path / "state"
    with StateDirectory.look(home) as beside:
        assert look(beside) == Listing((), 0)
    spool.put("beacon", b"body", NOON)
    spool.put("usage", b"torn", NOON + 1)
    spool.put("usage", b"body", NOON - 30 * DAY)
    spool_files(tmp_path)[1].write_bytes(b"torn")
    before = [(file, file.read_bytes(), file.stat().st_mtime_ns) for file in spool_files(tmp_path)]
    with StateDirectory.look(home) as beside:
        listing = look(beside)
    assert [(w.meter, w.read_at, w.kept) for w in listing.reports] == [
        ("beacon", NOON, True),
        ("usage", NOON - 30 * DAY, True),
    ]
    assert listing.damaged == 1
    after = [(file, file.read_bytes(), file.stat().st_mtime_ns) for file in spool_files(tmp_path)]
    assert after == before


def test_a_meter_s_name_that_fits_no_file_is_the_caller_s_mistake(spool: Spool) -> None:
    with pytest.raises(ValueError, match=r"'\.\./x' is no meter's name"):
        spool.put("../x", b"", NOON)
    with pytest.raises(ValueError, match="not JSON compliant"):
        spool.put("beacon", b"", float("nan"))
    assert spool.waiting_total == 0


BUSY = """
import sys, itertools
from pathlib import Path
from otel_novu.delivery.spool import Spool
from otel_novu.state.directory import StateDirectory

state = StateDirectory.open(Path(sys.argv[1]))
lock = state.lock("run")
spool = Spool(state, 1e10, 1 << 30, lambda: 1.8e9)
begin = max([int(w.read_at) for w in spool.reports()] + [int(sys.argv[2])])
for number in itertools.count(begin + 1):
    body = b"%d." % number * 2000
    spool.put(("beacon", "usage")[number % 2], body, float(number))
    print("kept", number, flush=True)
    state.write("instance-id", b"%d\\n" % (number % 2) * (1 + number % 2 * 5000))
    if number % 3 == 0:
        report = spool.oldest("beacon")
        if report is not None:
            print("sent", int(report.read_at), flush=True)
            spool.remove(report)
"""


def test_a_writer_killed_at_random_moments_leaves_whole_files_and_all_it_kept(
    tmp_path: Path,
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - so that a failure can be repeated
    moments = random.Random(seed)  # noqa: S311 - picks moments, guards nothing
    kept: set[int] = set()
    sent: set[int] = set()
    for _ in range(8):
        latest = max(kept, default=0)
        lines = killed_after(tmp_path, latest, moments.uniform(0.0, 0.25))
        kept |= {int(number) for word, number in lines if word == "kept"}
        sent |= {int(number) for word, number in lines if word == "sent"}
        with StateDirectory.open(tmp_path) as state, state.lock("once"):
            spool = Spool(state, 1e10, 1 << 30, Clock())
            found = [int(waiting.read_at) for waiting in spool.reports()]
            assert spool.dropped == 0
            assert found == sorted(found)
            # Reports go on one after the other, so one may be kept that could not be told.
            assert kept - sent <= set(found) <= kept | {max(kept) + 1}
            for meter in ("beacon", "usage"):
                report = spool.oldest(meter)
                assert report is None or report.body == b"%d." % int(report.read_at) * 2000
            assert state.read("instance-id") in (None, b"0\n", b"1\n" * 5001)
            kept |= set(found)


def killed_after(home: Path, latest: int, seconds: float) -> list[tuple[str, str]]:
    """Let the writer run for so long after its first report; returns what it said."""
    with subprocess.Popen(
        [sys.executable, "-c", BUSY, home, str(latest)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        killer = threading.Timer(seconds, process.send_signal, [signal.SIGKILL])
        killer.start()
        said = [first, *process.stdout]
        killer.join()
    whole = [line.split() for line in said if line.endswith("\n")]
    return [(word, number) for word, number in whole]


@dataclass(eq=False)
class Expected:
    """What the model knows of a report."""

    meter: str
    read_at: float
    body: bytes
    size: int
    kept: bool
    damaged: bool = False


class SpoolAgainstModel(RuleBasedStateMachine):
    """The spool on a disk that crashes, fills up and rots, against a list."""

    MAX_AGE = 1000.0
    MAX_BYTES = 2500

    @initialize()
    def begin(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="otel-novu-spool-"))
        self.disk = CrashingDisk()
        self.clock = Clock()
        self.model: list[Expected] = []
        self.dropped = 0
        self.counter = 0
        self.lock: Lock | None = None
        self.start()

    def teardown(self) -> None:
        if hasattr(self, "home"):
            self.disk.close_for_good()
            shutil.rmtree(self.home)

    def start(self) -> None:
        self.state = StateDirectory.open(self.home, self.disk)
        self.lock = self.state.lock("run")
        assert self.lock.why_not_held is None
        self.spool = Spool(self.state, self.MAX_AGE, self.MAX_BYTES, self.clock)

    # The model's own steps.

    def next_report(self, meter: str, length: int) -> Expected:
        self.counter += 1
        body = (b"%d." % self.counter).ljust(length + 8, b"x")
        head = len('{"meter": "", "sequence": 1800000000000, "read_at": 1800000000.0}\n')
        size = len("otel-novu report 1\n") + 65 + head + len(meter) + len(body)
        self.newest = Expected(meter, self.clock.time, body, size, not self.disk.full)
        return self.newest

    def expire(self) -> None:
        oldest = self.clock.time - self.MAX_AGE
        self.give_up([report for report in self.model if report.read_at < oldest])

    def give_up(self, reports: list[Expected]) -> None:
        self.model = [report for report in self.model if report not in reports]
        self.dropped += len(reports)

    def queue(self, meter: str) -> list[Expected]:
        return [report for report in self.model if report.meter == meter]

    def give_up_damaged_before(self, reports: list[Expected]) -> Expected | None:
        """Walk the reports as the spool does; returns the first that is whole."""
        for report in reports:
            if not report.damaged:
                return report
            self.give_up([report])
        return None

    def put_in_model(self, report: Expected) -> None:
        self.expire()
        if report.size > self.MAX_BYTES:
            self.dropped += 1
            return
        while sum(other.size for other in self.model) + report.size > self.MAX_BYTES:
            self.give_up(self.model[:1])
        if not self.disk.full:
            for other in self.model:
                other.kept = True
        self.model.append(report)

    # What happens.

    @rule(meter=st.sampled_from(("beacon", "usage")), length=st.integers(0, 600))
    def put(self, meter: str, length: int) -> None:
        report = self.next_report(meter, length)
        put = self.spool.put(meter, report.body, report.read_at)
        self.put_in_model(report)
        assert put.kept == report.kept

    @rule()
    def put_too_large(self) -> None:
        report = self.next_report("usage", self.MAX_BYTES)
        assert not self.spool.put("usage", report.body, report.read_at).kept
        self.put_in_model(report)

    @rule(meter=st.sampled_from(("beacon", "usage")))
    def take(self, meter: str) -> None:
        self.expire()
        taken = self.spool.oldest(meter)
        expected = self.give_up_damaged_before(self.queue(meter))
        assert body_of(taken) == (None if expected is None else expected.body)

    @rule(meter=st.sampled_from(("beacon", "usage")))
    def take_the_newest(self, meter: str) -> None:
        self.expire()
        taken = self.spool.newest(meter)
        expected = self.give_up_damaged_before(self.queue(meter)[::-1])
        assert body_of(taken) == (None if expected is None else expected.body)

    @rule(meter=st.sampled_from(("beacon", "usage")))
    def take_the_second(self, meter: str) -> None:
        self.expire()
        first = self.spool.oldest(meter)
        expected = self.give_up_damaged_before(self.queue(meter))
        if first is None or expected is None:
            return
        second = self.spool.after(first)
        rest = self.queue(meter)[1:]
        expected = self.give_up_damaged_before(rest)
        assert body_of(second) == (None if expected is None else expected.body)

    @rule(meter=st.sampled_from(("beacon", "usage")))
    def deliver(self, meter: str) -> None:
        self.take(meter)
        report = self.spool.oldest(meter)
        if report is not None:
            self.spool.remove(report)
            self.model.remove(self.queue(meter)[0])

    @rule(meter=st.sampled_from(("beacon", "usage")))
    def refuse(self, meter: str) -> None:
        self.take(meter)
        report = self.spool.oldest(meter)
        if report is not None:
            self.spool.set_aside(report, "refused")
            self.give_up(self.queue(meter)[:1])

    @rule(seconds=st.sampled_from((-5000, -1, 1, 300, 900, 2000)))
    def time_passes(self, seconds: float) -> None:
        self.clock.time += seconds

    @rule(full=st.booleans())
    def disk_fills_or_empties(self, full: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
        self.disk.full = full

    @precondition(lambda self: any(report.kept for report in self.model))
    @rule(data=st.data())
    def a_file_rots(self, data: st.DataObject) -> None:
        kept = [report for report in self.model if report.kept]
        files = sorted((self.home / "spool").iterdir())
        assert len(files) == len(kept)
        whole = [place for place, report in enumerate(kept) if not report.damaged]
        if not whole:
            return
        place = data.draw(st.sampled_from(whole))
        content = bytearray(files[place].read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            del content[at:]
        else:
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        files[place].write_bytes(content)
        kept[place].damaged = True

    @rule(keep_changes=st.integers(0, 2))
    def the_power_is_cut(self, keep_changes: int) -> None:
        self.disk.restart(keep_changes, keep_bytes=0)
        self.start()
        self.take_over(self.model, self.model)

    @rule(
        what=st.sampled_from(("put", "deliver", "refuse", "take", "start")),
        meter=st.sampled_from(("beacon", "usage")),
        length=st.integers(0, 600),
        at=st.integers(0, 60),
        keep_changes=st.integers(0, 6),
        keep_bytes=st.integers(0, 700),
    )
    def crash(
        self, what: str, meter: str, length: int, at: int, keep_changes: int, keep_bytes: int
    ) -> None:
        before = list(self.model)
        surely = self.left_by(what, meter, length)
        if what == "start":
            self.disk.restart(keep_changes, keep_bytes)
        self.disk.crash_at = self.disk.calls + at
        try:
            self.act(what, meter, length)
            perhaps = surely = list(self.model)
        except Crashed:
            perhaps = [*before, self.newest] if what == "put" else before
        self.disk.restart(keep_changes, keep_bytes)
        self.start()
        self.take_over(perhaps, surely)

    def act(self, what: str, meter: str, length: int) -> None:
        match what:
            case "put":
                self.put(meter, length)
            case "deliver":
                self.deliver(meter)
            case "refuse":
                self.refuse(meter)
            case "take":
                self.take(meter)
            case _:
                self.start()

    def left_by(self, what: str, meter: str, length: int) -> list[Expected]:
        """Tell which reports the act does not take out, however far it gets."""
        model, dropped, counter = list(self.model), self.dropped, self.counter
        kept = [report.kept for report in model]
        if what in ("deliver", "refuse"):
            self.expire()
            first = self.give_up_damaged_before(self.queue(meter))
            left = [report for report in self.model if report is not first]
        else:
            if what == "put":
                self.put_in_model(self.next_report(meter, length))
            left = [report for report in self.model if report in model]
        self.model, self.dropped, self.counter = model, dropped, counter
        for report, was_kept in zip(model, kept, strict=True):
            report.kept = was_kept
        return left

    def take_over(self, perhaps: list[Expected], surely: list[Expected]) -> None:
        """Go on with what the new process found, where that is lawful."""
        oldest = self.clock.time - self.MAX_AGE
        found = {body for meter in ("beacon", "usage") for body in self.bodies(meter)}
        lawful = [r for r in perhaps if not r.damaged and r.read_at >= oldest]
        assert found <= {report.body for report in lawful}
        assert {r.body for r in surely if r in lawful and r.kept} <= found
        self.model = [replace(report, kept=True) for report in lawful if report.body in found]
        for meter in ("beacon", "usage"):
            assert self.bodies(meter) == [report.body for report in self.queue(meter)]
        assert self.spool.dropped <= len(perhaps) - len(found)
        self.dropped = self.spool.dropped

    def bodies(self, meter: str) -> list[bytes]:
        bodies = []
        report = self.spool.oldest(meter)
        while report is not None:
            bodies.append(report.body)
            report = self.spool.after(report)
        return bodies

    @invariant()
    def the_spool_tells_what_the_model_knows(self) -> None:
        told = self.spool.reports()
        assert told == tuple(Waiting(r.meter, r.read_at, r.size, r.kept) for r in self.model)
        assert self.spool.waiting_total == len(self.model)
        assert self.spool.waiting("usage") == len(self.queue("usage"))
        assert self.spool.dropped == self.dropped

    @invariant()
    def the_bounds_hold(self) -> None:
        files = [file for folder in ("spool", "spool-set-aside") for file in self.files(folder)]
        assert sum(file.stat().st_size for file in files) <= self.MAX_BYTES
        assert sum(waiting.size for waiting in self.spool.reports()) <= self.MAX_BYTES

    def files(self, folder: str) -> list[Path]:
        return files_in(self.home / folder)


TestSpoolAgainstModel = SpoolAgainstModel.TestCase
TestSpoolAgainstModel.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_a_report_is_not_given_up_because_the_directory_is_closed_by_now(
    state: StateDirectory, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = restarted(state, clock)
    spool.put("beacon", b"kept", clock.time)
    state.close()
    assert spool.oldest("beacon") is None
    assert spool.dropped == 0
    assert "given up" not in caplog.text
    assert len(spool_files(tmp_path)) == 1
