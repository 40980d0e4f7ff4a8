"""Whatever the collector does, reports are made on time, wait in order, and arrive once each."""

import re
import socket
import time
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import otlp_reports
import pytest
from contract.case import (
    BEACON,
    GRPC,
    ONE_REPORT,
    USAGE,
    Case,
    check_rhythm,
    each_protocol,
    reading_times,
    seconds,
)
from faults import Switch
from name_server import name_server
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from receivers import GrpcAnswer, GrpcSink, HttpSink, answer, hang, partial_success, reset, trickle
from servers import EXPORTER, ExporterRunner, eventually
from stack import COLLECTOR_CONFIG, Collector, OtlpPrometheus, build

from otel_novu.store import Store

pytestmark = pytest.mark.contract

PAGE = b"<!doctype html><title>It works</title>"
NO_ANSWER = "(?i)no .*(answer|response)|tim(ed|e-?) ?out"

# By name: the answer, and an essential word of the warning.
FAULTS = {
    "hangs": (hang(), NO_ANSWER),
    "trickles": (trickle(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), NO_ANSWER),
    "resets": (reset(), "(?i)reset|connection|closed"),
    "503": (answer(503), "503"),
    "429 with Retry-After": (answer(429, headers={"Retry-After": "1"}), "429"),
    "401": (answer(401), "OTEL_EXPORTER_OTLP_HEADERS"),
    "400 for all": (answer(400, b"not today", "text/plain"), "not today"),
    "web page": (answer(200, PAGE, "text/html"), "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "redirect": (answer(307, headers={"Location": "http://127.0.0.1:9/v1/metrics"}), "307"),
}


def check_recovery(accepted: list[Any], first: float) -> None:
    """Check what was accepted: everything since the first report, in order, and once each."""
    times = reading_times(accepted)
    assert times[0] == first
    assert times == sorted(set(times))
    check_rhythm(times)
    assert otlp_reports.value(otlp_reports.points(*accepted), "novu.spool.dropped") == 0


@pytest.mark.parametrize("name", FAULTS)
def test_reports_wait_for_a_receiver_that_fails_and_arrive_once_each_in_order(
    name: str, case: Case
) -> None:
    fault, word = FAULTS[name]
    switch = Switch(fault)
    with case.send_to(HttpSink(switch)) as sink:
        running = case.start(OTEL_EXPORTER_OTLP_TIMEOUT="1")
        kept = case.wait_for_waiting(4)
        # With the first attempt of a round: what one has seen rejected may differ from the rest.
        switch.ends = lambda: sink.requests[-1].body == sink.requests[0].body
        eventually(lambda: len(switch.accepted(sink)) >= kept.total() + 2)
        case.stop(running)
    accepted = switch.accepted(sink)
    check_recovery(accepted, case.times()[0])
    assert kept <= seconds(reading_times(accepted))
    assert not case.waiting()
    running.wait_for(word)
    # Each reason is logged once, however many attempts there were.
    assert len(running.warnings) == len(set(running.warnings))


@pytest.mark.parametrize(
    "fault",
    [GrpcAnswer(code=grpc.StatusCode.UNAVAILABLE), GrpcAnswer(delay=3)],
    ids=["unavailable", "hangs"],
)
def test_reports_wait_for_a_grpc_receiver_that_fails(fault: GrpcAnswer, case: Case) -> None:
    with case.send_to(GrpcSink(*[fault] * 3, GrpcAnswer())) as sink:
        running = case.start(OTEL_EXPORTER_OTLP_TIMEOUT="1")
        sink.wait_for(9)
        case.stop(running)
    check_recovery(sink.reports[3:], case.times()[0])
    assert running.warnings


def test_a_receiver_is_not_asked_before_the_time_that_it_names(case: Case) -> None:
    moments: list[float] = []

    def later(connection: socket.socket, ended: Event) -> None:
        moments.append(time.monotonic())
        busy = answer(503, headers={"Retry-After": "4"})
        (busy if len(moments) == 1 else answer())(connection, ended)

    with case.send_to(HttpSink(later)) as sink:
        running = case.start()  # it makes a report every second meanwhile
        sink.wait_for(3)
        case.stop(running)
    assert moments[1] - moments[0] >= 4


def test_one_report_that_is_rejected_for_good_is_put_aside_when_a_later_one_passes(
    case: Case,
) -> None:
    def refuse_the_first(connection: socket.socket, ended: Event) -> None:
        bad = sink.requests[-1].body == sink.requests[0].body
        (answer(400, b"bad point", "text/plain") if bad else answer())(connection, ended)

    with case.send_to(HttpSink(refuse_the_first)) as sink:
        running = case.start()
        eventually(lambda: len({request.body for request in sink.requests}) >= 5)
        case.stop(running)
    assert [request.body for request in sink.requests].count(sink.requests[0].body) <= 3
    assert case.values("novu.spool.dropped")[-1] == 1
    check_rhythm(case.times())
    assert not case.waiting()
    assert any("bad point" in line for line in running.warnings)
    # It is kept to look at, with its reason, and not sent again.
    assert ["bad point" in row["rejected"] for row in case.listed()] == [True]


HOUR, HOURS = 3600, 100


def add_backlog(state: Path) -> None:
    """Copy the reports that wait: one for each of the last hours, the latest two hours ago."""
    store = Store(state)
    for report in list(store.reports((BEACON, USAGE))):
        for hours in range(HOURS + 1, 1, -1):
            request = ExportMetricsServiceRequest.FromString(report.body)
            [metrics] = [s.metrics for r in request.resource_metrics for s in r.scope_metrics]
            for metric in metrics:
                for point in metric.gauge.data_points or metric.sum.data_points:
                    point.time_unix_nano -= hours * HOUR * 10**9
                    point.start_time_unix_nano = 0
            body, read_at = request.SerializeToString(), report.read_at - hours * HOUR
            store.add_report(report.scope, read_at, body, oldest=0.0, max_bytes=1e9)
        store.delete_report(report)


def check_backlog(novu: Case, reason: str) -> None:
    """Run with a backlog that the receiver rejects; nothing but one line each tells of it."""
    running = novu.start(**ONE_REPORT)

    def left() -> int:
        healthy = novu("health --strict", **ONE_REPORT)
        assert healthy.returncode == 0, (healthy.stderr, running.stderr)
        return novu.waiting(BEACON).total() + novu.waiting(USAGE).total()

    eventually(left, lambda waiting: not waiting)
    shown = novu("show --last").stdout
    assert (reason in shown, shown.count("delivered")) == (False, 2)
    novu.stop(running)
    log = "\n".join(running.stderr)
    dropped = re.findall(rf"Dropped (\d+) (\w+) reports: .*{reason}.* later ones", log)
    assert sorted(dropped) == [(str(HOURS), scope) for scope in (BEACON, USAGE)]
    # Before this run has a report of its own, it looks as if all were rejected.
    assert len(running.warnings) <= 4, running.warnings


def test_a_backlog_that_is_rejected_by_its_age_is_put_aside_at_once(novu: Case) -> None:
    def refuse_old(connection: socket.socket, ended: Event) -> None:
        times = [point.time for point in otlp_reports.points(sink.reports[-1])]
        old = min(times) < time.time() - HOUR
        (answer(400, b"out of bounds", "text/plain") if old else answer())(connection, ended)

    novu.send_nowhere()
    assert novu("once").returncode == 1
    add_backlog(novu.state)
    with novu.send_to(HttpSink(refuse_old)) as sink:
        check_backlog(novu, "out of bounds")
    assert len(sink.requests) <= 2 * HOURS + 20
    assert novu.values("novu.spool.dropped")[-1] == 2 * HOURS


def test_a_usage_report_is_never_older_than_the_beacon_that_is_sent_before_it(novu: Case) -> None:
    """Both end in the series `target_info`, which a Prometheus takes in the order of time only."""
    for starts in range(1, 6):
        running = novu.start(**ONE_REPORT)
        novu.sink.wait_for(4 * starts - 2)
        novu.stop(running)
    beacons, usage = novu.times(BEACON), novu.times(USAGE)
    assert len(beacons) == len(usage) == 10
    assert [b <= u for b, u in zip(beacons, usage, strict=True)] == [True] * 10


def test_a_prometheus_that_takes_nothing_late_rejects_a_backlog_once(
    novu: Case, tmp_path: Path
) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text("{}")  # without an out-of-order window
    novu.send_nowhere()
    assert novu("once").returncode == 1
    add_backlog(novu.state)
    with OtlpPrometheus(config, binaries=build()) as prometheus:
        novu.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = prometheus.otlp_http
        # An empty one would take samples of any age.
        elsewhere = {"OTEL_NOVU_STATE_DIR": str(tmp_path / "elsewhere")}
        assert novu("once", **elsewhere).returncode == 0
        check_backlog(novu, "out of bounds")


def test_a_prometheus_that_takes_nothing_late_takes_a_short_backlog_in_order(
    novu: Case, tmp_path: Path
) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text("{}")  # without an out-of-order window
    novu.send_nowhere()
    for _ in range(3):
        assert novu("once").returncode == 1
    with OtlpPrometheus(config, binaries=build()) as prometheus:
        novu.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = prometheus.otlp_http
        done = novu("spool --flush")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 reports wait for delivery.\n", "")


def test_data_points_that_are_rejected_are_counted_and_the_report_is_not_sent_again(
    case: Case,
) -> None:
    with case.send_to(HttpSink(answer(200, partial_success(5, "too old")), answer())) as sink:
        running = case.start()
        sink.wait_for(4)
        case.stop(running)
    assert len(case.times()) == len(set(case.times()))
    assert case.values("novu.spool.rejected")[-1] == 5
    assert any("5 " in line and "too old" in line for line in running.warnings)


@pytest.mark.parametrize("beside_run", [False, True])
def test_flush_sends_what_waits_now(*, beside_run: bool, case: Case) -> None:
    port = case.send_nowhere()
    for _ in range(2):
        assert case("once").returncode == 1
    if beside_run:
        running = case.start(**ONE_REPORT)
        kept = case.wait_for_waiting(3)
    else:
        kept = case.waiting()
        failed = case("spool --flush")
        assert (failed.returncode, "2 reports" in failed.stderr) == (1, True)
        assert case("spool --flush", OTEL_METRICS_EXPORTER="none").returncode == 1
    with case.send_to(HttpSink(port=port)):
        done = case("spool --flush")
        assert done.returncode == 0, done.stderr
        assert case.times() == sorted(case.times())
        assert seconds(case.times()) == kept
        if beside_run:
            case.stop(running)


# The shared configuration, passing reports on to a sink in place of Prometheus.
TO_SINK = """
exporters:
  otlp_http/sink:
    endpoint: {sink}
    sending_queue: {{num_consumers: 1}}  # several would change the order
service:
  pipelines:
    metrics/novu:
      exporters: [otlp_http/sink]
"""


@each_protocol
@pytest.mark.parametrize("fault", ["stop", "kill"])
def test_a_real_collector_that_goes_and_comes_back_gets_every_report_in_order(
    fault: str, protocol: str, case: Case, sink: HttpSink, tmp_path: Path
) -> None:
    more = tmp_path / "to-sink.yaml"
    more.write_text(TO_SINK.format(sink=sink.base))
    with Collector(COLLECTOR_CONFIG, binaries=build(), more=[more]) as collector:
        case.env["OTEL_EXPORTER_OTLP_PROTOCOL"] = protocol
        endpoint = collector.otlp_grpc if protocol == GRPC else collector.otlp_http
        running = case.start(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
        eventually(lambda: len(case.times()) >= 2)
        getattr(collector, fault)()
        kept = case.wait_for_waiting(4)
        collector.start()
        eventually(lambda: kept - seconds(case.times()), lambda missing: not missing)
        case.stop(running)
        eventually(lambda: len(set(case.times())), lambda count: count >= 2 + kept.total())
    times = case.times()
    check_rhythm(times)
    # Only what it had taken when it was killed arrives twice.
    assert len(times) - len(set(times)) <= int(fault == "kill")
    assert list(dict.fromkeys(times)) == sorted(set(times))


@each_protocol
def test_a_resolver_that_hangs_delays_neither_readings_nor_the_end(
    protocol: str, case: Case, tmp_path: Path
) -> None:
    case.env["OTEL_EXPORTER_OTLP_PROTOCOL"] = protocol
    case.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://collector.example:4318"
    with name_server() as names:
        case.exporter = ExporterRunner(tmp_path, names.program(tmp_path, EXPORTER))
        with closing(case.exporter):
            running = case.start(OTEL_EXPORTER_OTLP_TIMEOUT="1")
            eventually(lambda: names.questions)
            kept = case.wait_for_waiting(4)
            asked = int(time.time())
            case.stop(running)
            last = case.waiting()
    assert kept <= last
    assert max(last) >= asked
    check_rhythm(sorted(map(float, last.elements())))
