"""`otel-novu run` as a process, through a real collector into a real Prometheus and a sink."""

import json
import re
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import compare
import novu_data
import otlp_reports
import pytest
import trustme
from faults import BOUND, WEEKLY, check_the_end, spooled
from pymongo.database import Database
from receivers import FAULT_SECONDS, GrpcSink, HttpSink, Listener
from servers import ExporterRunner, PrometheusClient, eventually
from stack import COLLECTOR_CONFIG, Collector, Servers, build, free_port

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Instrument, Metric
from otel_novu.metrics.prometheus import prometheus_label, prometheus_name
from otel_novu.metrics.usage import FIGURES, USAGE

TABLES: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
ROWS: Mapping[str, Metric[Any]] = {row.name: row for row in TABLES}
FIGURE_NAMES = {figure.name for figure in FIGURES}
CREATED = {name for name in ROWS if name.endswith(".created")}
HOUR = 3600.0

# The shared configuration, with TLS receivers and the sink added.
MORE = """
receivers:
  otlp/tls:
    protocols:
      grpc:
        endpoint: 127.0.0.1:{grpc_port}
        tls: &tls
          cert_file: {folder}/server.pem
          key_file: {folder}/server.key
          client_ca_file: {folder}/ca.pem
      http:
        endpoint: 127.0.0.1:{http_port}
        tls: *tls
exporters:
  otlp_http/sink:
    endpoint: {sink}
    sending_queue:
      num_consumers: 1  # several would hand on in no order
service:
  pipelines:
    metrics:
      receivers: [otlp, otlp/tls]
      exporters: [prometheus_remote_write, debug, otlp_http/sink]
"""


@dataclass(frozen=True)
class Way:
    """A collector's address and what it takes to talk to it."""

    protocol: str
    endpoint: str
    variables: Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "OTEL_EXPORTER_OTLP_PROTOCOL": self.protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
            **self.variables,
        }


@dataclass(frozen=True)
class Behind:
    """A real collector that writes to the real Prometheus and to a sink."""

    ways: Mapping[str, Way]
    sink: HttpSink

    def reports_of(self, instance: str) -> list[Any]:
        """The requests that the collector passed on for an instance."""
        return [
            report
            for report in self.sink.reports
            for resource in report.resource_metrics
            for pair in resource.resource.attributes
            if (pair.key, pair.value.string_value) == ("service.instance.id", instance)
        ]


@pytest.fixture(scope="module")
def behind(stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    folder = tmp_path_factory.mktemp("tls")
    write_certificates(folder)
    ports = {"grpc_port": free_port(), "http_port": free_port()}
    target = {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": f"{stack.prometheus}/api/v1/write"}
    more = folder / "more.yaml"
    with HttpSink() as sink:
        more.write_text(MORE.format(folder=folder, sink=sink.base, **ports))
        with Collector(COLLECTOR_CONFIG, target, binaries=build(), more=[more]) as collector:
            yield Behind(make_ways(collector, folder, **ports), sink)


def make_ways(
    collector: Collector, folder: Path, grpc_port: int, http_port: int
) -> Mapping[str, Way]:
    tls = {
        "OTEL_EXPORTER_OTLP_CERTIFICATE": f"{folder}/ca.pem",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": f"{folder}/client.pem",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": f"{folder}/client.key",
    }
    return {
        "HTTP": Way("http/protobuf", collector.otlp_http, {}),
        "gRPC": Way("grpc", collector.otlp_grpc, {}),
        "HTTP with TLS": Way("http/protobuf", f"https://localhost:{http_port}", tls),
        "gRPC with TLS": Way("grpc", f"https://localhost:{grpc_port}", tls),
    }


def write_certificates(folder: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name, certificate in (
        ("server", authority.issue_cert("localhost", "127.0.0.1")),
        ("client", authority.issue_cert("otel-novu@example.org")),
    ):
        certificate.private_key_pem.write_to_path(folder / f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")


@dataclass(frozen=True)
class Novu:
    """A Novu's database, and an instance of ours that may read it."""

    database: Database[dict[str, Any]]
    instance: str
    environment: Mapping[str, str]


@pytest.fixture
def novu(
    stack: Servers,
    database: Database[dict[str, Any]],
    mongo_url: str,
    environment: Mapping[str, str],
    instance_id: str,
) -> Novu:
    """Novu-shaped data, its estimated counts up to date."""
    novu_data.load(database, seed=7, size="small", now=datetime.now(UTC))
    stack.analyze(database.name)
    return Novu(database, instance_id, {**environment, "MONGO_URL": mongo_url})


@pytest.fixture
def environment(state_dir: Path, instance_id: str) -> Mapping[str, str]:
    """An instance without a database."""
    return {
        **WEEKLY,
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_NOVU_INSTANCE_ID": instance_id,
    }


@pytest.fixture
def alone(environment: Mapping[str, str]) -> Mapping[str, str]:
    """An instance that sends the beacon alone."""
    return {**environment, "NOVU_TELEMETRY": "off"}


def in_prometheus(
    prometheus: PrometheusClient, novu: Novu
) -> Mapping[str, Mapping[str, tuple[Mapping[str, str], float]]]:
    """All series of an instance: by name, then by the label that tells them apart."""
    found = prometheus.eventually(
        f'{{instance="{novu.instance}",__name__=~"novu_.*"}}',
        lambda samples: (
            {prometheus_name(row) for row in ROWS.values()}
            <= {sample.labels["__name__"] for sample in samples}
        ),
    )
    series: dict[str, dict[str, tuple[Mapping[str, str], float]]] = {}
    for sample in found:
        labels = {k: v for k, v in sample.labels.items() if k != "__name__"}
        key = labels.get("novu_provider_id") or labels.get("novu_figure") or ""
        series.setdefault(sample.labels["__name__"], {})[key] = (labels, sample.value)
    return series


@pytest.mark.parametrize(
    ("way", "number"),
    [
        ("HTTP", signal.SIGTERM),
        ("gRPC", signal.SIGINT),
        ("HTTP with TLS", signal.SIGINT),
        ("gRPC with TLS", signal.SIGTERM),
    ],
)
def test_both_tables_arrive_whole_at_the_start_and_again_at_the_end(
    way: str,
    number: signal.Signals,
    behind: Behind,
    novu: Novu,
    exporter: ExporterRunner,
    prometheus: PrometheusClient,
) -> None:
    began = time.time()
    attributes = "service.namespace=shop,deployment.environment.name=test%20bed"
    env = {**novu.environment, **behind.ways[way].environment}
    running = exporter.start("run", env={**env, "OTEL_RESOURCE_ATTRIBUTES": attributes})
    # A week lies between two reports, so this is the first one, and it came at once.
    reports = eventually(lambda: behind.reports_of(novu.instance), lambda r: len(r) >= 2)
    check_what_the_collector_passed_on(reports[:2], novu.instance, began)

    running.send(number)
    assert running.wait(BOUND) == 0
    reports = eventually(lambda: behind.reports_of(novu.instance), lambda r: len(r) >= 4)
    assert len(reports) == 4
    assert otlp_reports.scopes(*reports[2:]) == {otlp_reports.BEACON, otlp_reports.USAGE}
    first, last = (
        otlp_reports.value(otlp_reports.points(*pair), "novu.beacon.timestamp")
        for pair in (reports[:2], reports[2:])
    )
    assert first < last
    check_what_prometheus_shows(in_prometheus(prometheus, novu), novu)
    assert [line for line in running.stderr if " INFO " not in line] == []
    assert "every report was delivered" in running.stderr[-1]


def check_what_the_collector_passed_on(reports: list[Any], instance: str, began: float) -> None:
    found = otlp_reports.points(*reports)
    assert {point.name for point in found} == set(ROWS)
    resource = {key: found[0].resource[key] for key in found[0].resource}
    assert resource.pop("telemetry.sdk.version")
    assert resource == {
        "service.name": "novu",
        "service.namespace": "shop",
        "service.instance.id": instance,
        "deployment.environment.name": "test bed",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
    }
    for point in found:
        row = ROWS[point.name]
        assert point.resource == found[0].resource
        assert point.kind == row.instrument.value
        assert (point.unit, point.description) == (row.unit, row.description)
        assert set(point.attributes) <= set(row.attributes)
        check_times(point, found, began)


def check_times(point: otlp_reports.Point, found: list[otlp_reports.Point], began: float) -> None:
    """A point bears the time of its reading, which its own scope tells."""
    table = point.scope.rpartition(".")[2]
    read_at = otlp_reports.value(found, f"novu.{table}.timestamp")
    assert point.time == pytest.approx(read_at, abs=0.002)
    assert began - 1 <= point.time <= time.time() + 1
    if ROWS[point.name].instrument is Instrument.GAUGE:
        return
    # A second of `_id` is whole: the watch begins at the next one.
    latest = point.time + 1 if point.name in CREATED else point.time
    assert began - 1 <= point.start <= latest


def check_what_prometheus_shows(
    series: Mapping[str, Mapping[str, tuple[Mapping[str, str], float]]], novu: Novu
) -> None:
    answers = compare.ask_novu(novu.database)
    for row in ROWS.values():
        shown = series[prometheus_name(row)]
        for labels, _ in shown.values():
            assert labels["job"] == "shop/novu"
            assert labels["instance"] == novu.instance
            own = set(labels) - {"job", "instance"}
            assert own == {prometheus_label(key) for key in row.attributes}
        answer = answers.get(row.field)
        if isinstance(answer, Mapping):
            assert {key: number for key, (_, number) in shown.items()} == answer
        elif answer is not None:
            assert shown[""][1] == answer
    assert series["novu_usage_enabled"][""][1] == 1
    assert set(series["novu_usage_read_duration_seconds"]) == FIGURE_NAMES
    failures = series["novu_usage_read_failures_total"]
    assert {key: number for key, (_, number) in failures.items()} == dict.fromkeys(FIGURE_NAMES, 0)
    labels = series["novu_host_info"][""][0]
    assert labels["os_type"] == "linux"
    assert labels["host_name"] == socket.gethostname()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_headers_and_gzip_go_with_every_report(
    protocol: str, alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    with GrpcSink() if protocol == "grpc" else HttpSink() as sink:
        env = {
            **alone,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20t0ken,x-tenant=shop",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
        }
        running = exporter.start("run", env=env)
        sink.wait_for(3)
        assert running.terminate(BOUND) == 0
        requests: list[Any] = list(sink.requests)
        for request in requests:
            given = request.metadata if protocol == "grpc" else request.headers
            assert given["authorization"] == "Bearer t0ken"
            assert given["x-tenant"] == "shop"
            # gRPC's server undoes the encoding, and tells nothing of it.
            assert protocol == "grpc" or given["content-encoding"] == "gzip"
        assert otlp_reports.scopes(*sink.reports) == {otlp_reports.BEACON}


def hangs(_: socket.socket, ended: Event) -> None:
    """Take the connection, and answer nothing for as long as a fault lasts."""
    ended.wait(FAULT_SECONDS)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_end_is_bounded_and_loses_nothing_while_collector_and_database_hang(
    protocol: str, environment: Mapping[str, str], exporter: ExporterRunner
) -> None:
    with Listener(hangs) as collector, Listener(hangs) as database:
        env = {
            **environment,
            "MONGO_URL": f"mongodb://127.0.0.1:{database.port}/novu-db",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "300",
            "OTEL_NOVU_QUERY_TIMEOUT": "300",
        }
        running = exporter.start("run", env=env)
        eventually(lambda: collector.connections and database.connections)
        assert running.terminate(BOUND) == 0
        assert re.search(r"Stopped; \d+ reports wait in the spool", running.stderr[-1])
    listed = exporter("spool", "--json", env=env)
    waiting = [json.loads(line)["meter"] for line in listed.stdout.splitlines()]
    # The first beacon and the last one; of usage what the reading under way had come to.
    assert sorted(waiting) == ["beacon", "beacon", "usage"]


def test_sigterm_ends_it_at_once_whenever_it_comes_after_the_start_line(
    alone: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    with HttpSink() as sink:
        env = {**alone, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        for moment in (0.0, 0.4, 1.2):
            running = exporter.start("run", env=env)
            running.wait_for("reports to")
            time.sleep(moment)
            before = len(sink.requests)
            assert running.terminate(BOUND) == 0
            assert len(sink.requests) + len(spooled(state_dir)) > before
            check_the_end(running, state_dir)


def test_a_second_run_on_the_same_state_directory_ends_with_1_and_names_the_first(
    alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    with HttpSink() as sink:
        env = {**alone, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        running = exporter.start("run", env=env)
        sink.wait_for(1)
        for command in ("run", "once"):
            second = exporter(command, env=env)
            assert second.returncode == 1
            assert second.stderr == (
                f"otel-novu: another otel-novu (`run`, process {running.pid}) holds the state "
                "directory (OTEL_NOVU_STATE_DIR).\n"
            )
        assert len(sink.requests) == 1
        # The first one goes on, and a next one may begin where it ended.
        assert running.terminate(BOUND) == 0
        assert exporter("once", env=env).returncode == 0


def test_a_report_that_waited_leaves_first_when_the_collector_is_back(
    alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    port = free_port()
    env = {**alone, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    away = exporter("once", env=env)
    assert away.returncode == 1
    assert f"nothing listens at 127.0.0.1:{port}" in away.stderr
    with HttpSink(port=port) as sink:
        assert exporter("once", env=env).returncode == 0
        times = [
            otlp_reports.value(otlp_reports.points(report), "novu.beacon.timestamp")
            for report in sink.reports
        ]
        assert len(times) == 2
        assert times == sorted(times)
        assert otlp_reports.value(otlp_reports.points(sink.reports[1]), "novu.spool.reports") == 1
