"""`otel-novu run`, through a real collector into a real Prometheus, from the first report on."""

import signal
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import novu_data
import otlp_reports
import pytest
import trustme
from contract.case import (
    ENDPOINT,
    GRPC,
    HTTP,
    ONE_REPORT,
    STOP_SECONDS,
    Case,
    check_rhythm,
    sink_for,
)
from contract.clock import Clock
from receivers import HttpSink, answer
from servers import PrometheusClient, eventually
from stack import COLLECTOR_CONFIG, Collector, Servers, build, free_port

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Instrument, Metric
from otel_novu.metrics.prometheus import prometheus_label, prometheus_name
from otel_novu.metrics.usage import FIGURES, USAGE

pytestmark = pytest.mark.contract

TABLES: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
ROWS = {row.name: row for row in TABLES}
DAY = 86_400.0

# The shared configuration, with TLS receivers and a sink added.
MORE = """
receivers:
  otlp/tls:
    protocols:
      grpc:
        endpoint: 127.0.0.1:{grpc}
        tls: &tls {{cert_file: "{cert}", key_file: "{key}", client_ca_file: "{ca}"}}
      http:
        endpoint: 127.0.0.1:{http}
        tls: *tls
exporters:
  otlp_http/sink:
    endpoint: {sink}
    sending_queue: {{num_consumers: 1}}  # several would change the order
service:
  pipelines:
    metrics:
      receivers: [otlp, otlp/tls]
      exporters: [prometheus_remote_write, debug, otlp_http/sink]
"""


@dataclass(frozen=True)
class Behind:
    """A real collector that writes to Prometheus and to a sink; `ways` are variables to reach it."""

    ways: Mapping[str, Mapping[str, str]]
    sink: HttpSink

    def reports_of(self, instance: str) -> list[Any]:
        found = ((each, otlp_reports.points(each)[0].resource) for each in self.sink.reports)
        return [each for each, resource in found if resource["service.instance.id"] == instance]


@pytest.fixture(scope="module")
def behind(stack: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    tls = tls_files(tmp_path_factory.mktemp("tls"))
    ports = {"grpc": free_port(), "http": free_port()}
    target = {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": f"{stack.prometheus}/api/v1/write"}
    more = tmp_path_factory.mktemp("collector") / "more.yaml"
    with HttpSink() as sink:
        more.write_text(MORE.format(sink=sink.base, **ports, **tls))
        with Collector(COLLECTOR_CONFIG, target, binaries=build(), more=[more]) as collector:
            secure = {
                "OTEL_EXPORTER_OTLP_CERTIFICATE": str(tls["ca"]),
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(tls["cert"]),
                "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(tls["key"]),
            }
            ways = {
                "HTTP": way(HTTP, collector.otlp_http),
                "gRPC": way(GRPC, collector.otlp_grpc),
                "HTTP with TLS": way(HTTP, f"https://localhost:{ports['http']}") | secure,
                "gRPC with TLS": way(GRPC, f"https://localhost:{ports['grpc']}") | secure,
            }
            yield Behind(ways, sink)


def way(protocol: str, endpoint: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, ENDPOINT: endpoint}


def tls_files(folder: Path) -> dict[str, Path]:
    """Make an authority, and one certificate that serves both sides."""
    files = {name: folder / f"{name}.pem" for name in ("ca", "cert", "key")}
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(files["ca"])
    issued.cert_chain_pems[0].write_to_path(files["cert"])
    issued.private_key_pem.write_to_path(files["key"])
    return files


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("HTTP", signal.SIGTERM),
        ("gRPC", signal.SIGINT),
        ("HTTP with TLS", signal.SIGINT),
        ("gRPC with TLS", signal.SIGTERM),
    ],
)
def test_both_reports_arrive_whole_at_once_and_again_at_the_end(  # noqa: PLR0913, PLR0917 - fixtures
    name: str,
    number: signal.Signals,
    behind: Behind,
    novu: Case,
    expected: novu_data.Expected,
    instance_id: str,
    prometheus: PrometheusClient,
) -> None:
    began = time.time()
    novu.env |= ONE_REPORT | behind.ways[name] | {"OTEL_NOVU_INSTANCE_ID": instance_id}
    attributes = "service.namespace=shop,deployment.environment.name=a%20b"
    running = novu.start(OTEL_RESOURCE_ATTRIBUTES=attributes)
    # A week lies between two reports: these are the first ones.
    reports = eventually(lambda: behind.reports_of(instance_id), lambda found: len(found) >= 2)
    check_what_the_collector_got(otlp_reports.points(*reports), instance_id, began)

    running.send(number)
    assert running.wait(STOP_SECONDS) == 0
    reports = eventually(lambda: behind.reports_of(instance_id), lambda found: len(found) >= 4)
    assert len(reports) == 4
    assert otlp_reports.scopes(*reports[2:]) == {otlp_reports.BEACON, otlp_reports.USAGE}
    assert running.warnings == []
    check_what_prometheus_shows(prometheus, instance_id, expected)


def check_what_the_collector_got(
    found: list[otlp_reports.Point], instance: str, began: float
) -> None:
    assert {point.name for point in found} == set(ROWS)
    for point in found:
        row = ROWS[point.name]
        resource = dict(point.resource)
        assert resource.pop("telemetry.sdk.version")
        assert resource == {
            "service.name": "novu",
            "service.namespace": "shop",
            "service.instance.id": instance,
            "deployment.environment.name": "a b",
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "opentelemetry",
        }
        assert point.kind == row.instrument.value
        assert (point.unit, point.description) == (row.unit, row.description)
        assert set(point.attributes) <= set(row.attributes)
        # Each point has the time of its reading, which its own scope reports.
        read_at = otlp_reports.value(found, f"novu.{point.scope.rpartition('.')[2]}.timestamp")
        assert point.time == pytest.approx(read_at, abs=0.002)
        assert began - 1 <= point.time <= time.time() + 1
        if row.instrument is not Instrument.GAUGE:
            # A watch for created documents begins with a whole second, the next one.
            assert began - 1 <= point.start <= point.time + point.name.endswith(".created")


def check_what_prometheus_shows(
    prometheus: PrometheusClient, instance: str, expected: novu_data.Expected
) -> None:
    names = {prometheus_name(row): row for row in ROWS.values()}
    found = prometheus.eventually(
        f'{{instance="{instance}",__name__=~"novu_.*"}}',
        lambda samples: names.keys() <= {sample.labels["__name__"] for sample in samples},
    )
    values: dict[str, dict[str, float]] = {}
    for sample in found:
        labels = dict(sample.labels)
        row = names[labels.pop("__name__")]
        assert (labels.pop("job"), labels.pop("instance")) == ("shop/novu", instance)
        assert set(labels) == {prometheus_label(key) for key in row.attributes}
        if row.name == "novu.host.info":
            assert (labels["os_type"], labels["host_name"]) == ("linux", socket.gethostname())
        values.setdefault(row.name, {})["".join(labels.values())] = sample.value
    assert values["novu.integration.count"] == expected.providers
    assert values["novu.workflow.step.count"] == {"": expected.steps}
    for name in ("user", "organization", "topic", "subscriber"):
        assert values[f"novu.{name}.count"] == {"": expected.documents[f"{name}s"]}
    assert values["novu.event.count"] == {"": expected.documents["notifications"]}
    assert values["novu.workflow.count"] == {"": expected.documents["notificationtemplates"]}
    assert values["novu.usage.enabled"] == {"": 1}
    assert values["novu.usage.read.failures"] == {figure.name: 0 for figure in FIGURES}


@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_reports_keep_their_rhythm_and_carry_headers_and_compression(
    protocol: str, case: Case
) -> None:
    with case.send_to(sink_for(protocol)) as sink:
        running = case.start(
            OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20t0ken,x-tenant=shop",
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        )
        sink.wait_for(5)
        assert running.terminate(STOP_SECONDS) == 0
        check_rhythm(case.times())
        requests: list[Any] = list(sink.requests)
        for request in requests:
            given = request.metadata if protocol == GRPC else request.headers
            assert (given["authorization"], given["x-tenant"]) == ("Bearer t0ken", "shop")
            # gRPC's server decompresses, and does not say so.
            assert protocol == GRPC or given["content-encoding"] == "gzip"
        assert otlp_reports.scopes(*sink.reports) == {otlp_reports.BEACON}


def test_a_hangup_signal_delivers_now(case: Case) -> None:
    with case.send_to(HttpSink(*[answer(503)] * 6, answer())) as sink:
        running = case.start(**ONE_REPORT)
        # By its own back-off, 5, 10, 20, ... seconds, it would take minutes.
        for attempt in range(1, 7):
            sink.wait_for(attempt, 60)
            running.wait_for("503")
            running.send(signal.SIGHUP)
        sink.wait_for(7, 60)
        assert len({request.body for request in sink.requests}) == 1
        assert running.terminate(STOP_SECONDS) == 0


@pytest.mark.parametrize("step", [DAY, -DAY])
def test_a_step_of_the_wall_clock_neither_stops_the_reports_nor_makes_a_burst(
    step: float, case: Case, tmp_path: Path
) -> None:
    clock = Clock(tmp_path)
    running = case.start(**clock.environment)
    case.sink.wait_for(3)
    clock.step(step)
    case.sink.wait_for(len(case.sink.requests) + 5)
    assert running.terminate(STOP_SECONDS) == 0
    times = case.times()
    stepped = [read for read in times if abs(read - times[0]) > DAY / 2]
    assert len(stepped) >= 4
    check_rhythm([read - step if read in stepped else read for read in times])
    assert running.warnings == []


def test_a_process_that_was_stopped_goes_on_without_a_burst(case: Case) -> None:
    running = case.start()
    before = len(case.sink.wait_for(3))
    running.send(signal.SIGSTOP)
    time.sleep(4)
    running.send(signal.SIGCONT)
    case.sink.wait_for(before + 4)
    # A second signal does not cut the end short.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        running.send(number)
    asked = time.time()
    assert running.wait(STOP_SECONDS) == 0
    times = case.times()
    assert sum(later - earlier < 0.25 for earlier, later in pairwise(times)) < 4
    assert max(times) > asked - 1
