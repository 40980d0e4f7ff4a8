"""The telemetry flag on the running process: on, off, on, seen in what arrives and who connects."""

import json
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import novu_data
import otlp_reports
import pytest
from bson import ObjectId
from faults import BOUND, WEEKLY
from history import HOUR, Reporter
from pymongo.database import Database
from receivers import FAULT_SECONDS, HttpSink, Listener
from recording_mongo import MongoProxy
from servers import ExporterRunner, eventually
from stack import COLLECTOR_CONFIG, Collector, Servers, build, free_port

from otel_novu.state.created_file import FILE as CREATED_FILE

# Ten seconds are promised; a week lies between two reports.
FOLLOWS = 60.0
BEACON, USAGE = otlp_reports.BEACON, otlp_reports.USAGE

# The shared configuration, with a sink beside Prometheus: it keeps resource, kinds and order.
MORE = """
exporters:
  otlp_http/sink:
    endpoint: {sink}
    sending_queue:
      num_consumers: 1  # several would hand on in no order
service:
  pipelines:
    metrics:
      exporters: [prometheus_remote_write, debug, otlp_http/sink]
"""


@dataclass(frozen=True)
class Behind:
    """A real collector, and what it passed on."""

    collector: Collector
    sink: HttpSink

    def reports_of(self, instance: str, scope: str) -> list[Any]:
        """The reports of an instance that hold a table, in the order of their arrival."""
        return [
            report
            for report in self.sink.reports
            for resource in report.resource_metrics
            if any(pair.value.string_value == instance for pair in resource.resource.attributes)
            and scope in otlp_reports.scopes(report)
        ]


@pytest.fixture(scope="module")
def behind(stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    more = tmp_path_factory.mktemp("collector") / "more.yaml"
    target = {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": f"{stack.prometheus}/api/v1/write"}
    with HttpSink() as sink:
        more.write_text(MORE.format(sink=sink.base))
        with Collector(COLLECTOR_CONFIG, target, binaries=build(), more=[more]) as collector:
            yield Behind(collector, sink)


@pytest.fixture
def proxy(
    stack: Servers, database: Database[dict[str, Any]], mongo_url: str
) -> Iterator[MongoProxy]:
    """In front of Novu-shaped data; its record is the database's connection log."""
    novu_data.load(database, seed=5, size="small", now=datetime.now(UTC))
    stack.analyze(mongo_url.rpartition("/")[2].partition("?")[0])
    with MongoProxy(mongo_url) as proxy:
        yield proxy


@pytest.fixture
def environment(state_dir: Path, instance_id: str, proxy: MongoProxy) -> dict[str, str]:
    return {
        **WEEKLY,
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_NOVU_INSTANCE_ID": instance_id,
        "MONGO_URL": proxy.url,
    }


def enabled_in(report: Any) -> float:
    return otlp_reports.value(otlp_reports.points(report), "novu.usage.enabled")


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_usage_comes_and_goes_with_the_admin_setting_and_the_beacon_keeps_its_rhythm(
    protocol: str,
    behind: Behind,
    environment: Mapping[str, str],
    proxy: MongoProxy,
    instance_id: str,
    exporter: ExporterRunner,
) -> None:
    def arrived(scope: str, count: int) -> list[Any]:
        return eventually(
            lambda: behind.reports_of(instance_id, scope), lambda found: len(found) >= count
        )

    grpc = protocol == "grpc"
    endpoint = behind.collector.otlp_grpc if grpc else behind.collector.otlp_http
    env = {
        **environment,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
    }
    # A week lies between two reports: every further one within this test is told by its cause.
    running = exporter.start("run", env=env)
    assert enabled_in(arrived(BEACON, 1)[0]) == 1
    arrived(USAGE, 1)
    assert proxy.opened

    assert exporter("telemetry", "disable", env=env).returncode == 0
    running.wait_for("Usage figures are off now: the admin setting", FOLLOWS)
    eventually(lambda: proxy.open, lambda now: now == 0)
    connected = len(proxy.opened)
    told = json.loads(exporter("telemetry", "status", "--json", env=env).stdout)
    assert told["enabled"] is False
    assert told["exporter"]["pid"] == running.pid
    # Nothing that is asked while it is off reaches the database.
    for command in (["show"], ["show", "--otlp"], ["check"], ["spool", "--flush"]):
        assert exporter(*command, env=env).returncode == 0
    assert len(proxy.opened) == connected

    assert exporter("telemetry", "enable", env=env).returncode == 0
    running.wait_for("Usage figures are on now: the admin setting", FOLLOWS)
    arrived(USAGE, 2)
    assert len(proxy.opened) > connected

    assert exporter("telemetry", "disable", env=env).returncode == 0
    running.wait_for("off now", FOLLOWS, after=len(running.stderr) - 1)
    # The usage meter came and went four times, and no beacon came before its time.
    assert len(behind.reports_of(instance_id, BEACON)) == 1
    assert running.terminate() == 0
    assert enabled_in(arrived(BEACON, 2)[1]) == 0
    assert len(behind.reports_of(instance_id, USAGE)) == 2


def test_while_usage_is_off_beacons_say_so_and_go_on(
    behind: Behind,
    environment: Mapping[str, str],
    proxy: MongoProxy,
    instance_id: str,
    state_dir: Path,
    exporter: ExporterRunner,
) -> None:
    env = {
        **environment,
        "OTEL_EXPORTER_OTLP_ENDPOINT": behind.collector.otlp_http,
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
    }
    running = exporter.start("run", env=env)
    eventually(lambda: len(behind.reports_of(instance_id, USAGE)) >= 2)
    assert exporter("telemetry", "disable", env=env).returncode == 0
    running.wait_for("Usage figures are off now", FOLLOWS)
    eventually(lambda: proxy.open, lambda now: now == 0)
    connected, counters = len(proxy.opened), (state_dir / CREATED_FILE).read_bytes()

    before = len(behind.reports_of(instance_id, BEACON))
    beacons = eventually(
        lambda: behind.reports_of(instance_id, BEACON), lambda found: len(found) >= before + 6
    )
    assert {enabled_in(report) for report in beacons[before + 2 :]} == {0}
    usages = len(behind.reports_of(instance_id, USAGE))
    assert running.terminate() == 0
    assert len(behind.reports_of(instance_id, USAGE)) == usages
    assert len(proxy.opened) == connected
    assert (state_dir / CREATED_FILE).read_bytes() == counters


@pytest.mark.parametrize(
    "off", [{"NOVU_TELEMETRY": "False"}, {"NOVU_TELEMETRY": "0"}, {"NOVU_TELEMETRY": " OFF "}]
)
def test_switched_off_by_the_variable_no_command_reaches_the_database(
    off: Mapping[str, str],
    environment: Mapping[str, str],
    proxy: MongoProxy,
    state_dir: Path,
    exporter: ExporterRunner,
) -> None:
    with HttpSink() as sink:
        env = {**environment, **off, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        assert exporter("telemetry", "enable", env=env).returncode == 1
        running = exporter.start("run", env=env)
        sink.wait_for(1)
        # Another environment than the exporter's own can't promise what the exporter won't do.
        alien = {k: v for k, v in env.items() if k != "NOVU_TELEMETRY"}
        refused = exporter("telemetry", "enable", env=alien)
        assert refused.returncode == 1
        assert f"NOVU_TELEMETRY is set where the exporter runs (process {running.pid})" in (
            refused.stderr
        )
        assert running.terminate() == 0
        for command in (["once"], ["show"], ["show", "--otlp"], ["check"], ["telemetry", "status"]):
            assert exporter(*command, env=env).returncode == 0
        assert otlp_reports.scopes(*sink.reports) == {BEACON}
    assert proxy.opened == []
    assert not (state_dir / CREATED_FILE).exists()


@pytest.mark.long
def test_reports_that_wait_when_usage_goes_off_are_sent_only_when_it_is_on_again(
    environment: Mapping[str, str], exporter: ExporterRunner
) -> None:
    port = free_port()
    env = {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    running = exporter.start("run", env=env)
    eventually(lambda: meters_in_spool(exporter, env), lambda found: found == ["beacon", "usage"])
    assert exporter("telemetry", "disable", env=env).returncode == 0
    running.wait_for("Usage figures are off now", FOLLOWS)
    with HttpSink(port=port) as sink:
        # It asks the running exporter, and says what still waits.
        check_flush(exporter, env)
        assert otlp_reports.scopes(*sink.reports) == {BEACON}
        assert meters_in_spool(exporter, env) == ["usage"]
        assert running.terminate() == 0
        assert exporter("once", env=env).returncode == 0
        check_flush(exporter, env)
        assert otlp_reports.scopes(*sink.reports) == {BEACON}

        running = exporter.start("run", env=env)
        running.wait_for("reports to")
        assert exporter("telemetry", "enable", env=env).returncode == 0
        running.wait_for("Usage figures are on now", FOLLOWS)
        eventually(lambda: len(usage_times(sink)), lambda count: count >= 2)
        # What waited leaves first.
        assert usage_times(sink) == sorted(usage_times(sink))
        assert meters_in_spool(exporter, env) == []
        assert running.terminate() == 0


def check_flush(exporter: ExporterRunner, env: Mapping[str, str]) -> None:
    flushed = exporter("spool", "--flush", env=env)
    assert flushed.returncode == 0, flushed.stderr
    assert flushed.stdout == "1 usage reports wait until usage figures are on again.\n"


def meters_in_spool(exporter: ExporterRunner, env: Mapping[str, str]) -> list[str]:
    listed = exporter("spool", "--json", env=env)
    return sorted(json.loads(line)["meter"] for line in listed.stdout.splitlines())


def usage_times(sink: HttpSink) -> list[float]:
    found = [report for report in sink.reports if USAGE in otlp_reports.scopes(report)]
    return [otlp_reports.value(otlp_reports.points(each), "novu.usage.timestamp") for each in found]


def hangs(_: socket.socket, ended: Event) -> None:
    """Take the connection, and answer nothing for as long as a fault lasts."""
    ended.wait(FAULT_SECONDS)


def test_a_reading_that_hangs_ends_when_usage_goes_off(
    state_dir: Path, exporter: ExporterRunner
) -> None:
    with HttpSink() as sink, Listener(hangs) as database:
        env = {
            **WEEKLY,
            "OTEL_NOVU_STATE_DIR": str(state_dir),
            "MONGO_URL": f"mongodb://127.0.0.1:{database.port}/novu-db",
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
            "OTEL_NOVU_QUERY_TIMEOUT": "300",
        }
        running = exporter.start("run", env=env)
        eventually(lambda: database.connections)
        assert exporter("telemetry", "disable", env=env).returncode == 0
        running.wait_for("Usage figures are off now", FOLLOWS)
        connected = database.connections
        # On again a new reading begins: the one that hung stands in nobody's way.
        assert exporter("telemetry", "enable", env=env).returncode == 0
        running.wait_for("Usage figures are on now", FOLLOWS)
        eventually(lambda: database.connections, lambda count: count > connected)
        assert exporter("telemetry", "disable", env=env).returncode == 0
        running.wait_for("off now", FOLLOWS, after=len(running.stderr) - 1)
        assert running.terminate(BOUND) == 0
        assert otlp_reports.scopes(*sink.reports) == {BEACON}


def made_at(second: float, count: int) -> list[dict[str, Any]]:
    start = int(second).to_bytes(4, "big")
    return [{"_id": ObjectId(start + n.to_bytes(8, "big"))} for n in range(count)]


def test_the_counters_go_on_from_where_they_stood_and_state_stands_still_while_off(
    environment: Mapping[str, str],
    database: Database[dict[str, Any]],
    proxy: MongoProxy,
    tmp_path: Path,
) -> None:
    def created() -> float:
        found = otlp_reports.points(*sink.reports)
        return otlp_reports.value(found, "novu.topic.created")

    begin = time.time() - 6 * HOUR
    kept = tmp_path / "own" / "state" / CREATED_FILE
    (tmp_path / "own").mkdir()
    with HttpSink() as sink:
        env = {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        with Reporter(tmp_path / "own", env) as reporter:
            reporter.report(begin)
            database.topics.insert_many(made_at(begin + 100, 7))
            reporter.report(begin + HOUR)
            assert created() == 7

            reporter.switch_usage(on=False)
            connected, counters = len(proxy.opened), kept.read_bytes()
            database.topics.insert_many(made_at(begin + HOUR + 100, 50))
            reporter.report(begin + 2 * HOUR)
            reporter.report(begin + 3 * HOUR)
            assert (len(proxy.opened), kept.read_bytes()) == (connected, counters)

            reporter.switch_usage(on=True)
            reporter.report(begin + 4 * HOUR)
            assert created() == 7
            database.topics.insert_many(made_at(begin + 4 * HOUR + 100, 3))
            reporter.report(begin + 5 * HOUR)
            assert created() == 10
