"""From a reading to the bytes: times, beginnings, and what is left out."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import otlp_reports
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from receivers import HttpSink
from servers import ExporterRunner

from otel_novu.meter import Made, ReportMeter, make_resource
from otel_novu.metrics import beacon, usage
from otel_novu.metrics.beacon import BeaconReading, DeliveryCounts, Host
from otel_novu.metrics.usage import Created, UsageReading

INSTANCE = UUID("ba54fb29-6422-4a83-a0e4-951d767efa73")
RESOURCE = make_resource("novu", INSTANCE, {"service.namespace": "shop"})
BEGAN = 1_800_000_000.0
READ = BEGAN + 3600.25
HOST = Host(1, 2, "web-1", "192.0.2.1", "linux", "6.1.0")

USAGE_READING = UsageReading(
    timestamp=READ,
    totals={"user.count": 3, "topic.count": 0},
    providers={"integration.count": {"fcm": 1, "novu": 2}},
    created={"user.created": Created(5, BEGAN - 86_400), "event.created": Created(7, READ + 9)},
    durations={"user.count": 0.5},
    failures={"user.count": 0, "event.count": 1},
)
BEACON_READING = BeaconReading(READ, HOST, True, DeliveryCounts(1, 2, 3, 4))  # noqa: FBT003 - the flag


@pytest.fixture
def meter() -> Iterator[ReportMeter[UsageReading]]:
    meter = ReportMeter(usage.SCOPE, usage.USAGE, RESOURCE, BEGAN)
    yield meter
    meter.close()


@pytest.fixture
def beacons() -> Iterator[ReportMeter[BeaconReading]]:
    meter = ReportMeter(beacon.SCOPE, beacon.BEACON, RESOURCE, BEGAN)
    yield meter
    meter.close()


def points(made: Made) -> list[otlp_reports.Point]:
    assert made.request is not None
    return otlp_reports.points(ExportMetricsServiceRequest.FromString(made.request.body))


def named(made: Made, name: str) -> otlp_reports.Point:
    [found] = [point for point in points(made) if point.name == name]
    return found


def test_every_point_bears_the_time_of_its_reading_to_the_millisecond(
    meter: ReportMeter[UsageReading],
) -> None:
    assert {point.time for point in points(meter.make(USAGE_READING, READ))} == {READ}


def test_a_gauge_has_no_beginning_and_a_sum_begins_with_the_process(
    beacons: ReportMeter[BeaconReading],
) -> None:
    made = beacons.make(BEACON_READING, READ)
    for point in points(made):
        assert point.start == (0 if point.kind == otlp_reports.GAUGE else BEGAN)
    assert named(made, "novu.spool.rejected").value == 3


def test_a_created_counter_begins_when_the_watch_began(meter: ReportMeter[UsageReading]) -> None:
    made = meter.make(USAGE_READING, READ)
    assert named(made, "novu.user.created").start == BEGAN - 86_400
    # Never after its own time, though a clock stepped back.
    assert named(made, "novu.event.created").start == READ


def test_a_clock_that_stepped_back_begins_no_sum_after_its_time(
    beacons: ReportMeter[BeaconReading],
) -> None:
    early = BEGAN - 500
    found = points(beacons.make(replace(BEACON_READING, timestamp=early), early))
    assert {point.start for point in found} == {0.0, early}


def test_reports_that_follow_each_other_hold_each_reading_alone(
    meter: ReportMeter[UsageReading],
) -> None:
    assert named(meter.make(USAGE_READING, READ), "novu.user.count").value == 3
    failed = replace(USAGE_READING, totals={"topic.count": 4}, created={})
    second = meter.make(failed, READ + 3600)
    # A figure that was not read is absent, and not what it was before.
    names = {point.name for point in points(second)}
    assert "novu.user.count" not in names
    assert "novu.user.created" not in names
    assert named(second, "novu.topic.count").value == 4
    # What is observed is the whole value, however often it is collected.
    assert named(meter.make(USAGE_READING, READ + 7200), "novu.user.created").value == 5


def test_one_bad_value_stays_in_and_the_rest_leaves(meter: ReportMeter[UsageReading]) -> None:
    made = meter.make(replace(USAGE_READING, totals={"user.count": 2**64, "topic.count": 1}), READ)
    assert made.kept_in == 1
    names = {point.name for point in points(made)}
    assert "novu.user.count" not in names
    assert "novu.topic.count" in names


def test_what_the_host_can_not_tell_is_absent(beacons: ReportMeter[BeaconReading]) -> None:
    host = replace(HOST, memory_free=None, memory_total=None, ip=None)
    made = beacons.make(replace(BEACON_READING, host=host, delivery=None), READ)
    assert {point.name for point in points(made)} == {
        "novu.host.info",
        "novu.beacon.timestamp",
        "novu.usage.enabled",
    }
    info = named(made, "novu.host.info")
    assert set(info.attributes) == {"host.name", "os.type", "os.version"}


def test_a_meter_that_is_closed_may_still_be_asked_by_a_late_reading() -> None:
    meter = ReportMeter(usage.SCOPE, usage.USAGE, RESOURCE, BEGAN)
    meter.close()
    meter.make(USAGE_READING, READ)


@pytest.mark.parametrize(
    "surrounding",
    [
        {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process,os,host,otel,*"},
        {"OTEL_METRICS_EXEMPLAR_FILTER": "sometimes"},
        {"OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true"},
        {"OTEL_ATTRIBUTE_COUNT_LIMIT": "none"},
    ],
    ids=lambda surrounding: next(iter(surrounding)),
)
def test_no_variable_of_the_sdk_adds_to_the_report_or_stops_it(
    surrounding: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    with HttpSink() as sink:
        env = {
            "NOVU_TELEMETRY": "off",
            "OTEL_NOVU_STATE_DIR": str(state_dir),
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
            **surrounding,
        }
        done = exporter("once", env=env)
        assert done.returncode == 0, done.stderr
        found = otlp_reports.points(*sink.reports)
    assert {point.name for point in found} <= {row.name for row in beacon.BEACON}
    assert otlp_reports.value(found, "novu.beacon.timestamp")
    assert set(found[0].resource) == {
        "service.name",
        "service.instance.id",
        "telemetry.sdk.language",
        "telemetry.sdk.name",
        "telemetry.sdk.version",
    }
