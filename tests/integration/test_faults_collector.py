"""Whatever becomes of the collector, reports are made on time, kept, and delivered in the end."""

import re
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from faults import (
    BOUND,
    IMPATIENT,
    SECOND,
    WEEKLY,
    Behind,
    check_rhythm,
    check_that_each_is_said_once,
    check_the_end,
    collector_before_a_sink,
    spooled,
)
from name_server import name_server
from receivers import HttpSink, answer
from servers import EXPORTER, ExporterRunner, RunningExporter, eventually

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    with collector_before_a_sink(tmp_path) as behind:
        yield behind


@pytest.fixture
def environment(behind: Behind, state_dir: Path) -> Mapping[str, str]:
    """The beacon alone, every second, to that collector."""
    return {
        **SECOND,
        "NOVU_TELEMETRY": "off",
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_EXPORTER_OTLP_ENDPOINT": behind.collector.otlp_http,
    }


def pile_up(state_dir: Path, count: int) -> set[float]:
    """Wait until some reports wait; the times of their readings."""
    return eventually(lambda: spooled(state_dir), lambda waiting: len(waiting) >= count)


def check_that_all_arrives(
    behind: Behind,
    running: RunningExporter,
    state_dir: Path,
    waiting: set[float],
    runs: int = 1,
) -> None:
    """What waited and what was read since is delivered, and nothing was given up."""
    behind.wait_for(waiting)
    assert running.terminate(BOUND) == 0
    check_the_end(running, state_dir)
    assert not (state_dir / "spool-set-aside").exists()
    check_rhythm(behind.times(), 1.0, runs)


def warnings(running: RunningExporter) -> list[str]:
    return [line.partition(" WARNING ")[2] for line in running.stderr if " WARNING " in line]


def stop(behind: Behind) -> None:
    behind.collector.stop()


def kill(behind: Behind) -> None:
    behind.collector.kill()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("end", [stop, kill])
def test_while_the_collector_is_gone_reports_wait_and_leave_oldest_first_when_it_is_back(
    behind: Behind,
    environment: Mapping[str, str],
    state_dir: Path,
    exporter: ExporterRunner,
    protocol: str,
    end: Callable[[Behind], None],
) -> None:
    address = {"grpc": behind.collector.otlp_grpc}.get(protocol, behind.collector.otlp_http)
    env = {
        **environment,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": address,
    }
    running = exporter.start("run", env=env)
    eventually(lambda: len(behind.times()) >= 2)
    end(behind)
    waiting = pile_up(state_dir, 6)
    arrived = len(behind.times())
    behind.collector.start()
    check_that_all_arrives(behind, running, state_dir, waiting)
    late = behind.times()[arrived:]
    assert late == sorted(late)
    # Nothing answered in vain, so nothing was sent twice, but for what it took as it was killed.
    assert len(behind.times()) - len(set(behind.times())) <= int(end is kill)
    said = running.wait_for(f"nothing listens at {address.removeprefix('http://')}")
    assert said.endswith("it is kept and tried again.")
    check_that_each_is_said_once(running, "beacon report")


def test_a_collector_that_comes_up_after_the_exporter_gets_every_report_since_its_start(
    behind: Behind, environment: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    behind.collector.stop()
    running = exporter.start("run", env=environment)
    waiting = pile_up(state_dir, 4)
    behind.collector.start()
    check_that_all_arrives(behind, running, state_dir, waiting)


def test_a_collector_that_hangs_delays_no_reading_and_loses_no_report(
    behind: Behind, environment: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    running = exporter.start("run", env={**environment, **IMPATIENT})
    eventually(behind.times)
    behind.collector.pause()
    # It hangs as long as it takes for these to be read: each in its second, none held up.
    waiting = pile_up(state_dir, 12)
    check_rhythm(sorted(waiting), 1.0)
    behind.collector.resume()
    check_that_all_arrives(behind, running, state_dir, waiting)
    assert "no complete answer" in warnings(running)[0]
    check_that_each_is_said_once(running, "beacon report")


def test_each_report_is_on_disk_while_an_earlier_one_hangs_on_its_way(
    behind: Behind, environment: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    env = {**environment, "OTEL_EXPORTER_OTLP_TIMEOUT": "300"}
    behind.collector.pause()
    running = exporter.start("run", env=env)
    waiting = pile_up(state_dir, 5)
    running.kill()
    behind.collector.resume()
    again = exporter.start("run", env=env)
    check_that_all_arrives(behind, again, state_dir, waiting, runs=2)


def test_another_program_on_the_collectors_port_is_told_and_costs_no_report(
    behind: Behind, environment: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    running = exporter.start("run", env=environment)
    eventually(behind.times)
    behind.collector.stop()
    page = answer(body=b"<!doctype html><title>It works</title>", kind="text/html")
    with HttpSink(page, port=behind.collector.http_port):
        waiting = pile_up(state_dir, 5)
        running.wait_for("answered a web page")
    behind.collector.start()
    check_that_all_arrives(behind, running, state_dir, waiting)
    assert any("is OTEL_EXPORTER_OTLP_ENDPOINT the" in line for line in warnings(running))


def test_a_collector_configured_without_metrics_is_told_and_costs_no_report_once_it_is_mended(
    behind: Behind,
    environment: Mapping[str, str],
    state_dir: Path,
    exporter: ExporterRunner,
    tmp_path: Path,
) -> None:
    running = exporter.start("run", env=environment)
    eventually(behind.times)
    behind.collector.stop()
    right = behind.collector.more
    behind.collector.more = [*right, without_metrics(tmp_path)]
    behind.collector.start()
    waiting = pile_up(state_dir, 5)
    line = running.wait_for("answered 404")
    assert "is this the collector's OTLP address?" in line
    behind.collector.stop()
    behind.collector.more = right
    behind.collector.start()
    check_that_all_arrives(behind, running, state_dir, waiting)


def without_metrics(folder: Path) -> Path:
    """Give the OTLP receiver traces to take, and the pipeline of metrics another receiver."""
    file = folder / "without-metrics.yaml"
    file.write_text(
        """
receivers:
  otlp/elsewhere:
    protocols:
      http:
        endpoint: 127.0.0.1:0
service:
  pipelines:
    metrics:
      receivers: [otlp/elsewhere]
    traces:
      receivers: [otlp]
      exporters: [debug]
"""
    )
    return file


def test_a_collector_without_memory_pushes_back_and_gets_its_reports_later(
    behind: Behind, environment: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    running = exporter.start("run", env=environment)
    eventually(behind.times)
    behind.collector.stop()
    behind.collector.overrides = [
        "processors.memory_limiter.limit_mib=2",
        "processors.memory_limiter.spike_limit_mib=1",
    ]
    behind.collector.start()
    waiting = pile_up(state_dir, 5)
    assert re.search("answered 50[03]", running.wait_for("not delivered.*answered"))
    behind.collector.stop()
    behind.collector.overrides = []
    behind.collector.start()
    check_that_all_arrives(behind, running, state_dir, waiting)


def test_connections_that_break_in_the_midst_of_a_report_cost_none(
    behind: Behind, environment: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    running = exporter.start("run", env=environment)
    for _ in range(6):
        arrived = len(behind.times())
        eventually(lambda n=arrived: len(behind.times()) > n)  # type: ignore[misc]
        # Between two signals the kernel takes what comes; what was under way is reset.
        behind.collector.pause()
        pile_up(state_dir, 2)
        behind.collector.kill()
        behind.collector.start()
    check_that_all_arrives(behind, running, state_dir, spooled(state_dir))


def test_a_signal_to_end_ends_it_while_the_collector_hangs_and_the_last_report_is_kept(
    behind: Behind, environment: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    once = {**environment, **WEEKLY, "OTEL_EXPORTER_OTLP_TIMEOUT": "300"}
    behind.collector.pause()
    running = exporter.start("run", env=once)
    first = pile_up(state_dir, 1)
    running.send(signal.SIGTERM)
    assert running.wait(BOUND) == 0
    waiting = spooled(state_dir)
    assert len(waiting) == 2
    assert first < waiting
    behind.collector.resume()
    again = exporter.start("run", env=once)
    behind.wait_for(waiting)
    assert again.terminate(BOUND) == 0


def test_a_port_that_is_taken_for_good_is_no_reason_to_stop(
    behind: Behind, environment: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    behind.collector.stop()
    port = behind.collector.http_port
    with socket.create_server(("127.0.0.1", port)):  # takes connections and answers nothing
        running = exporter.start("run", env=environment)
        waiting = pile_up(state_dir, 5)
    behind.collector.start()
    check_that_all_arrives(behind, running, state_dir, waiting)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_resolver_that_hangs_delays_no_reading_and_loses_no_report(
    behind: Behind,
    environment: Mapping[str, str],
    state_dir: Path,
    tmp_path: Path,
    protocol: str,
) -> None:
    ports = {"grpc": behind.collector.grpc_port, "http/protobuf": behind.collector.http_port}
    env = {
        **environment,
        **IMPATIENT,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://collector.example:{ports[protocol]}",
    }
    with name_server(silent=True) as names:
        exporter = ExporterRunner(tmp_path, names.program(tmp_path, EXPORTER))
        try:
            running = exporter.start("run", env=env)
            waiting = pile_up(state_dir, 12)
            assert names.questions > 0
            check_rhythm(sorted(waiting), 1.0)
            names.silent = False
            # The question that hangs was asked of a server that did not answer; the next one is.
            check_that_all_arrives(behind, running, state_dir, waiting)
        finally:
            exporter.close()


def test_a_signal_to_end_ends_it_while_the_resolver_hangs_and_the_last_report_is_kept(
    environment: Mapping[str, str], state_dir: Path, tmp_path: Path
) -> None:
    env = {
        **environment,
        **WEEKLY,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "300",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.example:4318",
    }
    with name_server(silent=True) as names:
        exporter = ExporterRunner(tmp_path, names.program(tmp_path, EXPORTER))
        try:
            running = exporter.start("run", env=env)
            eventually(lambda: names.questions)
            assert running.terminate(BOUND) == 0
            assert len(spooled(state_dir)) == 2
        finally:
            exporter.close()
