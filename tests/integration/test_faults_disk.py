"""Whatever becomes of the disk, reports go on from memory, and nothing crashes."""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import otlp_reports
import pytest
from faults import (
    BOUND,
    SECOND,
    check_rhythm,
    check_that_each_is_said_once,
    check_the_end,
    reading_times,
    spooled,
    values_of,
)
from handed_run import Hand
from real_faults import NOBODY, as_nobody, open_ground, read_only, tiny_disk
from receivers import HttpSink, hang
from servers import ExporterRunner, RunningExporter, eventually
from stack import free_port

from otel_novu.commands.health import health
from otel_novu.commands.once import once
from otel_novu.settings import load

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink() as sink:
        yield sink


def environment(state: Path, endpoint: str) -> Mapping[str, str]:
    """The beacon alone, every second."""
    return {
        **SECOND,
        "NOVU_TELEMETRY": "off",
        "OTEL_NOVU_STATE_DIR": str(state),
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
    }


def warnings(running: RunningExporter) -> list[str]:
    return [line.partition(" WARNING ")[2] for line in running.stderr if " WARNING " in line]


def more_arrive(sink: HttpSink, count: int = 3) -> None:
    """Wait until so many further beacons have come."""
    before = len(reading_times(sink.reports))
    eventually(lambda: len(reading_times(sink.reports)) >= before + count)


def fill(folder: Path) -> Path:
    """Leave no byte of the file system that a folder is on."""
    file = folder / "filling"
    with file.open("wb", buffering=0) as full:
        for size in (1 << 16, 1):
            try:
                while full.write(bytes(size)):
                    pass
            except OSError:
                continue
    return file


@contextmanager
def holding(exporter: ExporterRunner) -> Iterator[ExporterRunner]:
    """End what was started before the disk under it goes away."""
    try:
        yield exporter
    finally:
        exporter.close()


def test_on_a_disk_that_fills_up_reports_go_on_and_are_kept_again_once_there_is_room(
    tmp_path: Path, exporter: ExporterRunner, sink: HttpSink
) -> None:
    with tiny_disk(tmp_path / "state") as state, holding(exporter):
        env = environment(state, sink.base)
        running = exporter.start("run", env=env)
        more_arrive(sink)
        filling = fill(state)
        more_arrive(sink, 5)
        said = [line for line in warnings(running) if "no space is left" in line]
        assert len(said) <= 1
        filling.unlink()
        more_arrive(sink)
        assert running.terminate(BOUND) == 0
        check_the_end(running, state)
    check_rhythm(reading_times(sink.reports), 1.0)


def test_while_disk_and_collector_fail_together_reports_wait_in_memory_and_none_is_lost(
    tmp_path: Path, exporter: ExporterRunner
) -> None:
    port = free_port()
    with tiny_disk(tmp_path / "state") as state, holding(exporter):
        running = exporter.start("run", env=environment(state, f"http://127.0.0.1:{port}"))
        kept = eventually(lambda: spooled(state), lambda waiting: len(waiting) >= 2)
        filling = fill(state)
        running.wait_for("Reports can't be kept on disk .no space is left on the device.")
        began = time.time()
        eventually(lambda: time.time() > began + 3)
        with HttpSink(port=port) as sink:
            more_arrive(sink, 8)
            times = reading_times(sink.reports)
            assert kept <= set(times)
            check_rhythm(times, 1.0)
            assert values_of(sink.reports[-1], "novu.spool.dropped") == {"": 0}
            filling.unlink()
            assert running.terminate(BOUND) == 0
    for subject in ("beacon report", "kept on disk"):
        check_that_each_is_said_once(running, subject)


def test_on_a_disk_that_is_full_from_the_start_reports_leave_and_one_warning_says_so(
    tmp_path: Path, exporter: ExporterRunner, sink: HttpSink
) -> None:
    with tiny_disk(tmp_path / "state") as state, holding(exporter):
        fill(state)
        env = environment(state, sink.base)
        running = exporter.start("run", env=env)
        more_arrive(sink, 5)
        line = running.wait_for("keeps nothing: no space is left on the device")
        assert "reports go on from memory" in line
        used = load(env, env_file=None, cwd=tmp_path, home=tmp_path)
        # A probe can't know that all is well where no report can be kept, and says why.
        assert health(used, lambda: time.time() + 120) == 1
        assert running.terminate(BOUND) == 0
    check_rhythm(reading_times(sink.reports), 1.0)
    # One of the reports; the other one, as there is no instance id yet, of the identity.
    assert len(warnings(running)) == 2


def test_on_a_read_only_disk_reports_leave_from_memory_under_the_kept_identity(
    state_dir: Path, exporter: ExporterRunner, sink: HttpSink
) -> None:
    env = environment(state_dir, sink.base)
    assert exporter("once", env=env).returncode == 0
    with read_only(state_dir), holding(exporter):
        running = exporter.start("run", env=env)
        more_arrive(sink, 5)
        running.wait_for("keeps nothing: the file system is read-only; reports go on from memory")
        probe = exporter("health", env=env)
        assert probe.returncode == 1
        assert "it keeps nothing: the file system is read-only" in probe.stderr
        assert running.terminate(BOUND) == 0
    identities = {point.resource["service.instance.id"] for point in points_of(sink)}
    assert len(identities) == 1
    assert len(warnings(running)) == 1


def points_of(sink: HttpSink) -> list[otlp_reports.Point]:
    return otlp_reports.points(*sink.reports)


def test_a_disk_that_becomes_read_only_costs_nothing_while_the_collector_answers(
    state_dir: Path, exporter: ExporterRunner, sink: HttpSink
) -> None:
    running = exporter.start("run", env=environment(state_dir, sink.base))
    with holding(exporter):
        more_arrive(sink)
        with read_only(state_dir):
            more_arrive(sink, 4)
        more_arrive(sink)
        assert running.terminate(BOUND) == 0
    check_rhythm(reading_times(sink.reports), 1.0)
    check_the_end(running, state_dir)


def test_what_waits_on_a_disk_that_became_read_only_is_sent_once_by_this_process(
    state_dir: Path, exporter: ExporterRunner
) -> None:
    port = free_port()
    running = exporter.start("run", env=environment(state_dir, f"http://127.0.0.1:{port}"))
    kept = eventually(lambda: spooled(state_dir), lambda waiting: len(waiting) >= 3)
    with read_only(state_dir), holding(exporter), HttpSink(port=port) as sink:
        more_arrive(sink, 8)
        times = reading_times(sink.reports)
        assert kept <= set(times)
        assert len(times) == len(set(times))
        assert running.terminate(BOUND) == 0


def test_a_user_who_may_not_write_there_reports_all_the_same() -> None:
    with open_ground() as ground, HttpSink() as sink:
        (ground / "closed").mkdir(mode=0o755)

        def report(state: Path = ground / "closed" / "state") -> str:
            used = load(environment(state, sink.base), env_file=None, cwd=ground, home=ground)
            return str(once(used))

        # First as ourselves, as that user may not read what is loaded on the way.
        assert report(ground / "ours") == "0"
        sink.requests.clear()
        assert as_nobody(report) == "0"
        assert len(sink.reports) == 1
        assert list((ground / "closed").iterdir()) == []
        shutil.chown(ground / "closed", NOBODY)
        assert as_nobody(report) == "0"
        assert (ground / "closed" / "state").is_dir()


# --- a disk that hangs ---------------------------------------------------------------------------


@pytest.mark.parametrize("wholly", [False, True])
def test_a_disk_that_hangs_delays_neither_reading_nor_delivery(
    hand: Hand, handed: ExporterRunner, state_dir: Path, sink: HttpSink, *, wholly: bool
) -> None:
    running = handed.start(env=environment(state_dir, sink.base))
    more_arrive(sink)
    hand.hang(wholly=wholly)
    # It hangs until these have come.
    more_arrive(sink, 12)
    hand.go_on()
    more_arrive(sink, 3)
    assert running.terminate(BOUND) == 0
    times = reading_times(sink.reports)
    check_rhythm(times, 1.0)
    assert len(times) == len(set(times))
    check_the_end(running, state_dir)
    check_that_each_is_said_once(running, "kept on disk")
    said = [line for line in warnings(running) if "Reports can't be kept on disk" in line]
    assert "(the disk does not answer); they wait in memory, where a crash loses them." in said[0]
    assert any("Reports are kept on disk again." in line for line in running.stderr)


def test_what_waited_before_the_disk_hung_and_what_was_read_since_all_arrives(
    hand: Hand, handed: ExporterRunner, state_dir: Path
) -> None:
    port = free_port()
    running = handed.start(env=environment(state_dir, f"http://127.0.0.1:{port}"))
    kept = eventually(lambda: spooled(state_dir), lambda waiting: len(waiting) >= 3)
    hand.hang(wholly=True)
    began = time.time()
    eventually(lambda: time.time() > began + 8)
    with HttpSink(port=port) as sink:
        # What memory holds need not wait for the disk; what the disk holds does.
        more_arrive(sink, 4)
        hand.go_on()
        eventually(lambda: kept <= set(reading_times(sink.reports)))
        assert running.terminate(BOUND) == 0
        check_rhythm(reading_times(sink.reports), 1.0)
        check_the_end(running, state_dir)


@pytest.mark.parametrize("seconds", [0.0, 7.0])
def test_a_signal_to_end_ends_it_while_the_disk_hangs_and_the_last_report_is_delivered(
    hand: Hand, handed: ExporterRunner, state_dir: Path, sink: HttpSink, seconds: float
) -> None:
    running = handed.start(env=environment(state_dir, sink.base))
    more_arrive(sink)
    hand.hang(wholly=True)
    time.sleep(seconds)
    asked = time.time()
    assert running.terminate(BOUND) == 0
    # The last reading is that of the end, whether the disk was known to hang or not.
    assert max(reading_times(sink.reports)) >= asked


def test_what_memory_alone_holds_at_the_end_is_told_as_lost(
    hand: Hand, handed: ExporterRunner, state_dir: Path
) -> None:
    with HttpSink(hang()) as sink:
        running = handed.start(env=environment(state_dir, sink.base))
        eventually(lambda: spooled(state_dir))
        hand.hang(wholly=True)
        running.wait_for("Reports can't be kept on disk")
        assert running.terminate(BOUND) == 0
        running.wait_for(r"ERROR \d+ reports were held in memory only, and are lost")
        hand.go_on()
    running.wait_for(r"Stopped; \d+ reports wait in the spool for the next start")
