"""Signals, clocks, pipes and threads: what the exporter lives through, and how it ends."""

import fcntl
import os
import random
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import otlp_reports
import psutil
import pytest
from faults import BOUND, SECOND, WEEKLY, check_rhythm, reading_times, spooled
from handed_run import Hand
from real_faults import as_nobody, open_ground
from receivers import FAULT_SECONDS, HttpSink, Listener, answer
from servers import EXPORTER, PATIENCE, ExporterRunner, eventually
from stack import free_port

from otel_novu.commands.health import health
from otel_novu.exporter import Exporter
from otel_novu.settings import load
from otel_novu.state.consent import decide, read_admin
from otel_novu.state.directory import StateDirectory
from otel_novu.state.identity import instance_id

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

DAY = 86_400.0
HOUR = 3_600.0


def environment(state_dir: Path, endpoint: str) -> Mapping[str, str]:
    """The beacon alone, every second."""
    return {
        **SECOND,
        "NOVU_TELEMETRY": "off",
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
    }


def hourly(env: Mapping[str, str]) -> Mapping[str, str]:
    return {**env, "OTEL_METRIC_EXPORT_INTERVAL": ""}


def more_arrive(sink: HttpSink, count: int = 3, seconds: float = PATIENCE) -> list[float]:
    """Wait until so many further beacons have come; all times of reading."""
    before = len(reading_times(sink.reports))
    return eventually(
        lambda: reading_times(sink.reports), lambda times: len(times) >= before + count, seconds
    )


# --- the end -------------------------------------------------------------------------------------


def hangs(_: object, ended: threading.Event) -> None:
    ended.wait(FAULT_SECONDS)


def test_a_signal_at_any_moment_after_the_start_line_ends_it_with_the_last_report_kept_or_there(
    hand: Hand, handed: ExporterRunner, state_dir: Path, sink: HttpSink
) -> None:
    seed = random.randrange(2**32)  # noqa: S311 - moments of a test
    print(f"seed {seed}")  # noqa: T201 - to try a failure again
    dice = random.Random(seed)  # noqa: S311 - as above
    with Listener(hangs) as collector, Listener(hangs) as database:
        for number in range(12):
            away, hung, disk = number % 2, number % 3 == 0, number % 4 == 3
            env = {
                **environment(
                    state_dir, f"http://127.0.0.1:{collector.port}" if away else sink.base
                ),
                **WEEKLY,
                "OTEL_EXPORTER_OTLP_TIMEOUT": "300",
                "OTEL_NOVU_QUERY_TIMEOUT": "300",
                "MONGO_URL": f"mongodb://127.0.0.1:{database.port}/novu-db",
                "NOVU_TELEMETRY": "on" if hung else "off",
            }
            running = handed.start(env=env)
            running.wait_for("reports to")
            if disk and not away:
                hand.hang(wholly=True)
            # From within the first delay to long after the first report.
            time.sleep(dice.uniform(0, 3))
            asked = time.time()
            running.send(dice.choice([signal.SIGTERM, signal.SIGINT]))
            assert running.wait(BOUND) == 0
            hand.go_on()
            there = {*reading_times(sink.reports), *spooled(state_dir)}
            assert max(there) >= asked, (number, running.stderr)


def test_a_second_signal_does_not_cut_the_end_short(
    state_dir: Path, exporter: ExporterRunner
) -> None:
    with Listener(hangs) as collector:
        env = {**environment(state_dir, f"http://127.0.0.1:{collector.port}"), **WEEKLY}
        running = exporter.start("run", env={**env, "OTEL_EXPORTER_OTLP_TIMEOUT": "300"})
        eventually(lambda: spooled(state_dir))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            running.send(number)
            time.sleep(0.1)
        assert running.wait(BOUND) == 0
    assert len(spooled(state_dir)) == 2
    assert "reports wait in the spool" in running.stderr[-1]


def test_a_killed_exporter_loses_no_report_that_was_read(
    state_dir: Path, exporter: ExporterRunner
) -> None:
    port = free_port()
    env = environment(state_dir, f"http://127.0.0.1:{port}")
    read: set[float] = set()
    for count in (3, 5):
        running = exporter.start("run", env=env)
        read |= eventually(lambda: spooled(state_dir), lambda w, n=count: len(w) >= n)  # type: ignore[misc]
        running.kill()
        assert read <= spooled(state_dir)
    with HttpSink(port=port) as sink:
        running = exporter.start("run", env=env)
        eventually(lambda: read <= set(reading_times(sink.reports)))
        assert running.terminate(BOUND) == 0
        times = reading_times(sink.reports)
        assert len(times) == len(set(times))


# --- clocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [DAY, -DAY, HOUR, -HOUR])
def test_a_step_of_the_wall_clock_neither_stops_nor_bursts_the_readings(
    hand: Hand, handed: ExporterRunner, state_dir: Path, sink: HttpSink, step: float
) -> None:
    running = handed.start(env={**environment(state_dir, sink.base), "TZ": "Europe/Berlin"})
    before = more_arrive(sink)
    began = time.monotonic()
    hand.step_wall(step)
    times = more_arrive(sink, 6)
    took = time.monotonic() - began
    assert running.terminate(BOUND) == 0
    # One a second, whatever the wall clock says; without the step these are the times of before.
    stepped = [read - step if abs(read - before[-1]) > HOUR / 2 else read for read in times]
    check_rhythm(stepped, 1.0)
    assert took < 6 + 2 * BOUND
    # A disk that is slow for a moment is no matter of the clock.
    warnings = [line for line in running.stderr if " WARNING " in line]
    assert [line for line in warnings if "kept on disk" not in line] == []


def test_a_clock_that_steps_forwards_while_reports_wait_gives_up_what_is_too_old_by_it_and_says_so(
    hand: Hand, handed: ExporterRunner, state_dir: Path
) -> None:
    with HttpSink(answer(503)) as sink:
        running = handed.start(env=environment(state_dir, sink.base))
        eventually(lambda: spooled(state_dir), lambda waiting: len(waiting) >= 3)
        hand.step_wall(8 * DAY)
        running.wait_for("Reports older than 7 days are given up undelivered")
        eventually(lambda: min(spooled(state_dir), default=0.0) > time.time() + DAY)
        assert running.terminate(BOUND) == 0


def test_after_a_suspend_one_report_leaves_and_no_burst_follows(
    hand: Hand, handed: ExporterRunner, state_dir: Path, sink: HttpSink
) -> None:
    running = handed.start(env=hourly(environment(state_dir, sink.base)))
    more_arrive(sink, 1)
    # The next one due may be close; it is passed by.
    hand.step_steady(10 * HOUR)
    hand.step_wall(10 * HOUR)
    (state_dir / "telemetry").write_text("off\n")  # wakes it, as a resume does
    times = more_arrive(sink, 1)
    assert max(times) > time.time() + 9 * HOUR
    time.sleep(3)
    assert len(reading_times(sink.reports)) <= len(times) + 1
    assert running.terminate(BOUND) == 0


def test_a_process_that_was_stopped_goes_on_at_its_rate_and_makes_up_for_nothing(
    state_dir: Path, exporter: ExporterRunner, sink: HttpSink
) -> None:
    running = exporter.start("run", env=environment(state_dir, sink.base))
    before = len(more_arrive(sink))
    running.send(signal.SIGSTOP)
    time.sleep(7)
    running.send(signal.SIGCONT)
    times = more_arrive(sink, 8)
    assert running.terminate(BOUND) == 0
    gaps = [b - a for a, b in zip(times[before - 1 :], times[before:], strict=False)]
    assert max(gaps) > 6
    # Seven were missed; one that is late by chance is followed by one in time.
    assert len([gap for gap in gaps if gap < 0.25]) <= 3


# --- who reads what it says ----------------------------------------------------------------------


@contextmanager
def full_pipe() -> Iterator[int]:
    """Give the writing end of a pipe that nobody reads and that holds no byte more."""
    reader, writer = os.pipe()
    try:
        fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
        try:
            while os.write(writer, bytes(1 << 16)):
                pass
        except BlockingIOError:
            pass
        try:
            while os.write(writer, b"x"):
                pass
        except BlockingIOError:
            pass
        fcntl.fcntl(writer, fcntl.F_SETFL, 0)
        yield writer
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("exporters", ["otlp", "otlp,console"])
def test_an_output_that_nobody_reads_holds_up_neither_reports_nor_the_end(
    state_dir: Path, tmp_path: Path, exporters: str
) -> None:
    port = free_port()
    env = {
        "PATH": os.environ["PATH"],
        **environment(state_dir, f"http://127.0.0.1:{port}"),
        "OTEL_METRICS_EXPORTER": exporters,
    }
    with full_pipe() as pipe:
        process = subprocess.Popen(
            [*EXPORTER, "run"], env=env, cwd=tmp_path, stdout=pipe, stderr=pipe
        )
        try:
            # Without a collector it has something to say, too.
            waiting = eventually(lambda: spooled(state_dir), lambda w: len(w) >= 12)
            check_rhythm(sorted(waiting), 1.0)
            with HttpSink(port=port) as sink:
                eventually(lambda: waiting <= set(reading_times(sink.reports)))
                process.terminate()
                assert process.wait(BOUND) == 0
        finally:
            process.kill()
            process.wait()


# --- threads -------------------------------------------------------------------------------------


def test_where_no_thread_can_be_had_nothing_crashes_and_reports_go_on_when_there_is_one() -> None:
    with open_ground() as ground, HttpSink() as sink:

        def report(state: Path, *, threads: bool) -> str:
            env = environment(state, sink.base)
            used = load(env, env_file=None, cwd=ground, home=ground)
            with StateDirectory.open(used.state_dir) as directory:
                identity = instance_id(used.instance_id, directory)
                decision = decide(used.telemetry, read_admin(directory))
                exporter = Exporter(used, directory, identity, decision)
                limits = resource.getrlimit(resource.RLIMIT_NPROC)
                if not threads:
                    resource.setrlimit(resource.RLIMIT_NPROC, (0, limits[1]))
                exporter.deliver_waiting()
                exporter.report()
                resource.setrlimit(resource.RLIMIT_NPROC, limits)
                exporter.report_and_close(5, 5)
                return f"{exporter.waiting} {sorted(exporter.outcomes)}"

        # First as ourselves, as that user may not read what is loaded on the way.
        assert report(ground / "ours", threads=True) == "0 ['beacon']"
        sink.requests.clear()
        ground.chmod(0o777)
        assert as_nobody(lambda: report(ground / "theirs", threads=False)) == "0 ['beacon']"
        # The limit holds for that user alone: the first report had no thread, the last one had.
        assert len(sink.requests) == 1


def test_threads_and_descriptors_do_not_grow_while_the_collector_is_away(
    state_dir: Path, exporter: ExporterRunner
) -> None:
    env = environment(state_dir, f"http://127.0.0.1:{free_port()}")
    running = exporter.start("run", env={**env, "OTEL_METRIC_EXPORT_INTERVAL": "100"})
    process = psutil.Process(running.pid)
    eventually(lambda: spooled(state_dir), lambda waiting: len(waiting) >= 20)
    threads, descriptors = process.num_threads(), process.num_fds()
    eventually(lambda: spooled(state_dir), lambda waiting: len(waiting) >= 100)
    # At a busy moment there may be more; what has grown stays.
    eventually(process.num_threads, lambda number: number <= threads + 6)
    eventually(process.num_fds, lambda number: number <= descriptors + 10)
    assert running.terminate(BOUND) == 0


# --- the probe -----------------------------------------------------------------------------------


def test_the_probe_tells_an_exporter_that_stands_still(
    state_dir: Path, tmp_path: Path, exporter: ExporterRunner, sink: HttpSink
) -> None:
    env = environment(state_dir, sink.base)
    used = load(env, env_file=None, cwd=tmp_path, home=tmp_path)
    running = exporter.start("run", env=env)
    more_arrive(sink)
    assert health(used) == 0
    running.send(signal.SIGSTOP)
    assert health(used, lambda: time.time() + 120) == 1
    running.send(signal.SIGCONT)
    assert running.terminate(BOUND) == 0
    assert health(used) == 1


def test_the_probe_is_content_while_reports_are_kept_for_a_collector_that_is_away(
    state_dir: Path, tmp_path: Path, exporter: ExporterRunner
) -> None:
    env = environment(state_dir, f"http://127.0.0.1:{free_port()}")
    used = load(env, env_file=None, cwd=tmp_path, home=tmp_path)
    running = exporter.start("run", env=env)
    eventually(lambda: spooled(state_dir), lambda waiting: len(waiting) >= 3)
    assert health(used) == 0
    assert running.terminate(BOUND) == 0


def test_every_time_that_leaves_is_utc_whatever_the_time_zone(
    state_dir: Path, exporter: ExporterRunner, sink: HttpSink
) -> None:
    began = time.time()
    env = {**environment(state_dir, sink.base), "TZ": "America/St_Johns"}
    assert exporter("once", env=env).returncode == 0
    for point in otlp_reports.points(*sink.reports):
        assert began - 1 < point.time < time.time() + 1
