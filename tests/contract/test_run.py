"""`otel-novu run`, through a real collector into a real Prometheus, from the first report on."""

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import novu_data
import otlp_reports
import pytest
import trustme
from contract.case import (
    GRPC,
    HTTP,
    LATER,
    ONE_REPORT,
    STOP_SECONDS,
    Case,
    check_rhythm,
    each_protocol,
)
from contract.clock import Clock
from receivers import HttpSink, answer
from servers import PrometheusClient
from stack import COLLECTOR_CONFIG, Collector, Servers, build, free_port

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Instrument, Metric
from otel_novu.metrics.prometheus import prometheus_label, prometheus_name
from otel_novu.metrics.usage import FIGURES, USAGE
from otel_novu.version import __version__

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
        tls: &tls
          {{cert_file: "{folder}/cert", key_file: "{folder}/key", client_ca_file: "{folder}/ca"}}
      http: {{endpoint: "127.0.0.1:{http}", tls: *tls}}
exporters:
  otlp_http/sink:
    endpoint: {sink}
    sending_queue: {{num_consumers: 1}}  # several would change the order
service:
  pipelines:
    metrics/novu:
      receivers: [otlp, otlp/tls]
      exporters: [prometheus_remote_write, debug, otlp_http/sink]
"""

ATTRIBUTES = "service.namespace=shop,deployment.environment.name=a%20b"
RESOURCE = {
    "service.name": "novu",
    "service.namespace": "shop",
    "deployment.environment.name": "a b",
    "telemetry.sdk.language": "python",
    "telemetry.sdk.name": "opentelemetry",
    "telemetry.distro.name": "otel-novu",
    "telemetry.distro.version": __version__,
}
Ways = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def behind() -> Iterator[HttpSink]:
    """A sink that gets what the collector gets."""
    with HttpSink() as sink:
        yield sink


@pytest.fixture(scope="module")
def ways(
    stack: Servers, behind: HttpSink, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ways]:
    """The variables to reach a collector before that sink and Prometheus, in four ways."""
    folder = tmp_path_factory.mktemp("collector")
    write_certificate(folder)
    grpc, http = free_port(), free_port()
    target = {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": f"{stack.prometheus}/api/v1/write"}
    more = folder / "more.yaml"
    more.write_text(MORE.format(sink=behind.base, folder=folder, grpc=grpc, http=http))
    files = {"CERTIFICATE": "ca", "CLIENT_CERTIFICATE": "cert", "CLIENT_KEY": "key"}
    tls = {f"OTEL_EXPORTER_OTLP_{name}": f"{folder}/{file}" for name, file in files.items()}
    with Collector(COLLECTOR_CONFIG, target, binaries=build(), more=[more]) as collector:
        yield {
            "HTTP": way(HTTP, collector.otlp_http),
            "gRPC": way(GRPC, collector.otlp_grpc),
            "HTTP with TLS": way(HTTP, f"https://localhost:{http}") | tls,
            "gRPC with TLS": way(GRPC, f"https://localhost:{grpc}") | tls,
        }


def way(protocol: str, place: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": place}


def write_certificate(folder: Path) -> None:
    """Make an authority, and one certificate for both sides."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca")
    issued.cert_chain_pems[0].write_to_path(folder / "cert")
    issued.private_key_pem.write_to_path(folder / "key")


@pytest.mark.parametrize(
    ("way", "number"),
    [("HTTP", 15), ("gRPC", 2), ("HTTP with TLS", 2), ("gRPC with TLS", 15)],
)
def test_both_reports_arrive_whole_at_once_and_again_at_the_end(  # noqa: PLR0913, PLR0917 - fixtures
    way: str,
    number: int,
    ways: Ways,
    behind: HttpSink,
    novu: Case,
    expected: novu_data.Expected,
    prometheus: PrometheusClient,
) -> None:
    began = time.time()
    already = len(behind.requests)
    running = novu.start(**ONE_REPORT, **ways[way], OTEL_RESOURCE_ATTRIBUTES=ATTRIBUTES)
    # A week lies between two reports: these are the first ones.
    behind.wait_for(already + 2)
    found = otlp_reports.points(*behind.reports[already:])
    instance = found[0].resource["service.instance.id"]
    check_what_the_collector_got(found, instance, began)

    running.send(signal.Signals(number))
    assert running.wait(STOP_SECONDS) == 0
    behind.wait_for(already + 4)
    last = behind.reports[already + 2 :]
    assert (len(last), len(otlp_reports.scopes(*last)), running.warnings) == (2, 2, [])
    check_what_prometheus_shows(prometheus, instance, expected)


def check_what_the_collector_got(
    found: list[otlp_reports.Point], instance: str, began: float
) -> None:
    assert {point.name for point in found} == ROWS.keys() - LATER
    for point in found:
        row, resource = ROWS[point.name], dict(point.resource)
        assert resource.pop("telemetry.sdk.version")
        assert resource == RESOURCE | {"service.instance.id": instance}
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
    names = {prometheus_name(row): row for row in ROWS.values() if row.name not in LATER}
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
        values.setdefault(row.name, {})["".join(labels.values())] = sample.value
    assert socket.gethostname() in next(iter(values["novu.host.info"]))
    assert values["novu.integration.count"] == expected.providers
    assert values["novu.workflow.step.count"] == {"": expected.steps}
    collections = {"event": "notifications", "workflow": "notificationtemplates"}
    for name in ("user", "organization", "topic", "subscriber", "event", "workflow"):
        count = expected.documents[collections.get(name, f"{name}s")]
        assert values[f"novu.{name}.count"] == {"": count}
    assert values["novu.usage.enabled"] == {"": 1}
    assert values["novu.usage.read.failures"] == {figure.name: 0 for figure in FIGURES}


@each_protocol
def test_reports_keep_their_rhythm_and_carry_headers_and_compression(
    protocol: str, case: Case
) -> None:
    headers = "authorization=Bearer%20t0ken,x-tenant=shop"
    case.env |= {"OTEL_EXPORTER_OTLP_HEADERS": headers, "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}
    with case.receive(protocol) as sink:
        running = case.start()
        sink.wait_for(5)
        case.stop(running)
    check_rhythm(case.times())
    requests: list[Any] = list(sink.requests)
    for request in requests:
        given = request.metadata if protocol == GRPC else request.headers
        assert (given["authorization"], given["x-tenant"]) == ("Bearer t0ken", "shop")
        # gRPC's server decompresses, and does not say so.
        assert protocol == GRPC or given["content-encoding"] == "gzip"


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
        case.stop(running)


@pytest.mark.parametrize("step", [DAY, -DAY])
def test_a_step_of_the_wall_clock_neither_stops_the_reports_nor_makes_a_burst(
    step: float, case: Case, tmp_path: Path
) -> None:
    clock = Clock(tmp_path)
    running = case.start(**clock.environment)
    case.sink.wait_for(3)
    clock.step(step)
    case.sink.wait_for(len(case.sink.requests) + 5)
    case.stop(running)
    times = case.times()
    stepped = [read for read in times if abs(read - times[0]) > DAY / 2]
    assert len(stepped) >= 4
    check_rhythm([read - step if read in stepped else read for read in times])
    assert running.warnings == []
