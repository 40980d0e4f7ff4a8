"""A pipeline from its reading to its outlets, and both of them in an exporter."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import otlp_reports
import pytest
from faults import BOUND
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExporter
from receivers import FAULT_SECONDS, HttpSink
from servers import eventually

from otel_novu.delivery.queue import Queue
from otel_novu.delivery.spool import Spool
from otel_novu.exporter import Exporter
from otel_novu.journal import LOG, Journal
from otel_novu.meter import ReportMeter, Request, make_resource
from otel_novu.metrics import beacon
from otel_novu.metrics.beacon import BeaconReading, Host
from otel_novu.metrics.usage import FIGURES, UsageReading
from otel_novu.outcome import Delivered, Outcome
from otel_novu.pipeline import MOST_UNDER_WAY, Outlets, Pipeline
from otel_novu.reports import Figures, Sources
from otel_novu.settings import Settings, load
from otel_novu.sources.created import Store
from otel_novu.sources.usage_round import UsageRound
from otel_novu.state.consent import Decision
from otel_novu.state.directory import StateDirectory
from otel_novu.state.identity import Identity, Origin

NOON = 1_800_000_000.0
INSTANCE = UUID("ba54fb29-6422-4a83-a0e4-951d767efa73")
HOST = Host(1, 2, "web-1", "192.0.2.1", "linux", "6.1.0")
ON = Decision(enabled=True, by="the test", changeable=True)
OFF = Decision(enabled=False, by="the test", changeable=True)

Read = Callable[[float], BeaconReading | None]


def reading(_: float = 0.0, *, at: float = NOON) -> BeaconReading:
    return BeaconReading(at, HOST, usage_enabled=False)


class Receiver:
    """A sender that keeps what it is given."""

    destination = "http://collector.example/v1/metrics"

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def send(self, body: bytes, timeout: float) -> Outcome:
        assert timeout > 0
        self.bodies.append(body)
        return Delivered()


class World:
    """A beacon's pipeline with a real spool, and what came out of it."""

    def __init__(self, state: StateDirectory, read: Read, console: MetricExporter | None) -> None:
        self.journal = Journal()
        self.receiver = Receiver()
        self.spool = Spool(state, 86400.0, 1 << 20, lambda: NOON)
        queue = Queue("beacon", self.spool, self.receiver, 10.0, self.journal, lambda _: None)
        resource = make_resource("novu", INSTANCE, {})
        meter = ReportMeter(beacon.SCOPE, beacon.BEACON, resource, NOON)
        outlets = Outlets(queue, console, self._record)
        self.pipeline = Pipeline("beacon", meter, read, outlets, self.journal)

    def _record(self, request: Request, read_at: float) -> None:
        raise AssertionError(request, read_at)  # where there is a queue, it records


Build = Callable[..., World]


@pytest.fixture
def world(state_dir: Path) -> Iterator[Build]:
    with StateDirectory.open(state_dir) as state:
        built: list[World] = []

        def build(read: Read = reading, console: MetricExporter | None = None) -> World:
            built.append(World(state, read, console))
            return built[-1]

        yield build
        for each in built:
            each.pipeline.settle(120)
            each.pipeline.wind_up(5)
            each.pipeline.close()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.INFO]


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG.name)


def test_a_reading_becomes_a_report_that_is_kept_and_delivered(world: Build) -> None:
    made = world()
    made.pipeline.report(5)
    eventually(lambda: made.receiver.bodies and not made.spool.waiting_total)
    request = ExportMetricsServiceRequest.FromString(made.receiver.bodies[0])
    assert otlp_reports.value(otlp_reports.points(request), "novu.beacon.timestamp") == NOON


def test_a_report_is_begun_and_not_waited_for_and_a_slow_one_does_not_hold_the_next(
    world: Build,
) -> None:
    released = threading.Event()
    readings = iter(range(100))

    def slow_at_first(_: float) -> BeaconReading:
        number = next(readings)
        if number == 0:
            released.wait(FAULT_SECONDS)
        return reading(at=NOON + number)

    made = world(slow_at_first)
    began = time.monotonic()
    made.pipeline.report(60)
    made.pipeline.report(60)
    assert time.monotonic() - began < BOUND
    eventually(lambda: made.receiver.bodies)
    released.set()
    eventually(lambda: len(made.receiver.bodies) == 2)


def test_readings_that_hang_do_not_pile_up_without_bound(
    world: Build, caplog: pytest.LogCaptureFixture
) -> None:
    released = threading.Event()
    begun: list[float] = []

    def hang(seconds: float) -> None:
        begun.append(seconds)
        released.wait(FAULT_SECONDS)

    made = world(hang)
    for _ in range(3 * MOST_UNDER_WAY):
        made.pipeline.report(60)
    eventually(lambda: len(begun) == MOST_UNDER_WAY)
    assert said(caplog) == [
        (
            "The beacon report could not be made (earlier reports of it are still under way); the "
            "next one is tried when due."
        )
    ]
    released.set()


def test_a_reading_that_did_not_get_its_turn_makes_no_report(
    world: Build, caplog: pytest.LogCaptureFixture
) -> None:
    made = world(lambda _: None)
    made.pipeline.report(5)
    made.pipeline.settle(60)
    assert made.spool.waiting_total == 0
    assert said(caplog) == []


def test_a_fault_in_a_reading_is_said_by_its_type_alone_and_so_is_its_end(
    world: Build, caplog: pytest.LogCaptureFixture
) -> None:
    readings = iter([1, 2, 3])

    def faulty(_: float) -> BeaconReading:
        if next(readings) < 3:
            raise RuntimeError("mongodb://root:secret@host")
        return reading()

    made = world(faulty)
    for _ in range(3):
        made.pipeline.report(5)
        made.pipeline.settle(60)
    assert said(caplog) == [
        "The beacon report could not be made (RuntimeError); the next one is tried when due.",
        "The beacon report is made again.",
    ]


class Broken:
    """A stream whose other end has gone."""

    def write(self, _: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


def test_a_console_that_fails_does_not_cost_the_collectors_report(
    world: Build, caplog: pytest.LogCaptureFixture
) -> None:
    made = world(console=ConsoleMetricExporter(out=cast("Any", Broken())))
    for _ in range(2):
        made.pipeline.report(5)
        made.pipeline.settle(60)
    eventually(lambda: len(made.receiver.bodies) == 2)
    assert made.pipeline.console_failed
    assert said(caplog) == [
        "The beacon report could not be written to the console (BrokenPipeError)."
    ]


def test_what_is_being_read_when_a_pipeline_is_discarded_is_not_kept(world: Build) -> None:
    asked, released = threading.Event(), threading.Event()

    def slow(_: float) -> BeaconReading:
        asked.set()
        released.wait(FAULT_SECONDS)
        return reading()

    made = world(slow)
    made.pipeline.report(60)
    assert asked.wait(BOUND)
    made.pipeline.discard()
    released.set()
    made.pipeline.settle(60)
    assert made.spool.waiting_total == 0
    assert made.receiver.bodies == []


# --- both in an exporter -------------------------------------------------------------------------


class Scripted:
    """Figures that fail as told, round after round."""

    def __init__(self, *reasons: Mapping[str, str]) -> None:
        self._reasons = iter(reasons)
        self.forgotten = 0

    def read(self, deadline_seconds: float, now: Callable[[], float]) -> UsageRound:
        assert deadline_seconds > 0
        reasons = next(self._reasons, {})
        names = [f.name for f in FIGURES if f.name not in reasons and f.name.endswith(".count")]
        return UsageRound(
            UsageReading(
                timestamp=now(),
                totals={name: 1 for name in names if name != "integration.count"},
                providers={},
                created={},
                durations=dict.fromkeys([f.name for f in FIGURES], 0.1),
                failures=dict.fromkeys([f.name for f in FIGURES], 0),
            ),
            reasons,
            None,
        )

    def forget_begin(self) -> None:
        self.forgotten += 1

    def end_by(self, seconds: float) -> None:
        pass


def settings(sink: HttpSink, folder: Path, **more: str) -> Settings:
    environ = {"MONGO_URL": "mongodb://127.0.0.1:1", "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
    return load({**environ, **more}, env_file=None, cwd=folder, home=folder)


def exporter_of(
    state: StateDirectory, used: Settings, figures: Figures, decision: Decision = ON
) -> Exporter:
    def make(_: Settings, __: Store) -> Figures:
        return figures

    identity = Identity(INSTANCE, Origin.CONFIGURED, None)
    sources = Sources(host=lambda: HOST, figures=make)
    return Exporter(used, state, identity, decision, time.time, sources)


def report_each(exporter: Exporter, sink: HttpSink, rounds: int) -> None:
    for _ in range(rounds):
        wanted = len(sink.requests) + len(exporter.meters)
        exporter.report()
        eventually(lambda wanted=wanted: len(sink.requests) >= wanted)  # type: ignore[misc]


def test_a_failure_of_all_figures_is_said_once_and_so_is_its_end(
    sink: HttpSink, state_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    all_fail = {figure.name: "timed out" for figure in FIGURES}
    with StateDirectory.open(state_dir) as state:
        exporter = exporter_of(state, settings(sink, tmp_path), Scripted(all_fail, all_fail))
        report_each(exporter, sink, 4)
        exporter.close(5)
    assert said(caplog) == [
        (
            "No usage figure could be read: timed out; the beacon goes on, and they are tried "
            "again with the next report."
        ),
        "Usage figures are read again.",
    ]


def test_a_figure_that_fails_is_said_once_until_it_changes_or_passes(
    sink: HttpSink, state_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slow, refused = {"user.count": "timed out"}, {"user.count": "not authorised (code 13)"}
    with StateDirectory.open(state_dir) as state:
        exporter = exporter_of(state, settings(sink, tmp_path), Scripted(slow, slow, refused, {}))
        report_each(exporter, sink, 5)
        exporter.close(5)
    follows = "the others go out, and it is tried again with the next report."
    assert said(caplog) == [
        f"novu.user.count could not be read: timed out; {follows}",
        f"novu.user.count could not be read: not authorised (code 13); {follows}",
        "Usage figures are read again.",
    ]


def test_the_usage_meter_comes_and_goes_whole_and_the_beacon_does_not_notice(
    sink: HttpSink, state_dir: Path, tmp_path: Path
) -> None:
    figures = Scripted()
    with StateDirectory.open(state_dir) as state:
        exporter = exporter_of(state, settings(sink, tmp_path), figures, OFF)
        assert list(exporter.meters) == ["beacon"]
        assert figures.forgotten == 1
        report_each(exporter, sink, 1)
        exporter.set_usage(ON)
        assert list(exporter.meters) == ["beacon", "usage"]
        report_each(exporter, sink, 1)
        exporter.set_usage(OFF)
        assert list(exporter.meters) == ["beacon"]
        assert figures.forgotten == 2
        report_each(exporter, sink, 1)
        exporter.close(5)
    enabled = []
    for report in sink.reports:
        found = otlp_reports.points(report)
        if found[0].scope == otlp_reports.BEACON:
            enabled.append(otlp_reports.value(found, "novu.usage.enabled"))
    assert enabled == [0, 1, 0]
    assert len(sink.reports) == 4


def test_without_a_database_there_is_no_usage_meter(
    sink: HttpSink, state_dir: Path, tmp_path: Path
) -> None:
    with StateDirectory.open(state_dir) as state:
        exporter = exporter_of(state, settings(sink, tmp_path, MONGO_URL=""), Scripted())
        assert list(exporter.meters) == ["beacon"]
        exporter.close(0)


def test_the_last_report_waits_for_a_reading_under_way_no_longer_than_it_may(
    sink: HttpSink, state_dir: Path, tmp_path: Path
) -> None:
    class Slow(Scripted):
        """Ends when it is told to, as the real one does."""

        ended = threading.Event()

        def read(self, deadline_seconds: float, now: Callable[[], float]) -> UsageRound:
            self.ended.wait(FAULT_SECONDS)
            return super().read(deadline_seconds, now)

        def end_by(self, seconds: float) -> None:
            threading.Timer(min(seconds, 0.2), self.ended.set).start()

    with StateDirectory.open(state_dir) as state:
        exporter = exporter_of(state, settings(sink, tmp_path), Slow())
        exporter.report()
        eventually(lambda: sink.requests)
        began = time.monotonic()
        exporter.report_and_close(20.0, 20.0)
        assert time.monotonic() - began < BOUND
    scopes = [otlp_reports.points(report)[0].scope for report in sink.reports]
    assert scopes.count(otlp_reports.BEACON) == 2
    assert scopes.count(otlp_reports.USAGE) >= 1
