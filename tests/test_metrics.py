"""The tables of metrics: complete rows, the schema check, the names in Prometheus."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import otlp_reports
import pytest
from receivers import HttpSink
from servers import ExporterRunner

from otel_novu.metrics.beacon import BEACON, BeaconReading, DeliveryCounts, Host
from otel_novu.metrics.labels import OTHER, UNKNOWN
from otel_novu.metrics.metric import Instrument, Metric
from otel_novu.metrics.prometheus import prometheus_label, prometheus_name
from otel_novu.metrics.usage import FIGURES, USAGE, Figure, UsageReading, describe_failures

TABLES: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
ROWS = {row.name: row for row in TABLES}
GOLDEN = Path(__file__).parent / "golden" / "reports.json"

HOST = Host(1, 2, "db-1", "10.0.0.7", "linux", "6.1.0")
BEACON_READING = BeaconReading(1.8e9, HOST, usage_enabled=True, delivery=DeliveryCounts(1, 2, 3, 4))
NAMES = [figure.name for figure in FIGURES]


def words(figure: Figure, number: int) -> tuple[str, ...]:
    labels = figure.query.labels
    return tuple((label.words or ("sendgrid", UNKNOWN, OTHER))[number] for label in labels)


USAGE_READING = UsageReading(
    timestamp=1.8e9,
    values={f.name: {words(f, n): 7 for n in (0, 1)} for f in FIGURES},
    since=dict.fromkeys(NAMES, 1.7e9),
    lags=dict.fromkeys(NAMES, 0.0),
    durations=dict.fromkeys(NAMES, 0.25),
    failures=dict.fromkeys(NAMES, 0),
)
NOTHING = UsageReading(1.8e9, {}, {}, {}, {}, {})


def test_the_rows_are_the_metrics_of_the_golden_reports_in_their_order() -> None:
    found = []
    for report in json.loads(GOLDEN.read_text()):
        for metric in report["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]:
            monotonic = metric.get("sum", {}).get("isMonotonic", False)
            kind = "gauge" if "gauge" in metric else "counter" if monotonic else "up-down counter"
            found.append((metric["name"], metric.get("unit", ""), metric["description"], kind))
    named = {name for name, *_ in found}
    assert found == [
        (row.name, row.unit, row.description, row.instrument.value.removeprefix("observable "))
        for row in ROWS.values()
        if row.name in named
    ]
    # Only counters by labels have no point before something was counted.
    for row in (ROWS[name] for name in ROWS.keys() - named):
        assert (row.instrument, bool(row.attributes)) == (Instrument.COUNTER, True)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_row_is_documented_and_reads_points_of_its_schema(row: Metric[Any]) -> None:
    points = list(row.read(BEACON_READING if row in BEACON else USAGE_READING))
    assert points
    for point in points:
        assert row.accepts(point.value, point.attributes)
        assert point.attributes.keys() == row.attributes.keys()
    assert row.description
    assert row.source


def test_what_is_not_known_is_absent() -> None:
    names = {row.name for row in USAGE if list(row.read(NOTHING))}
    assert names == {"novu.usage.timestamp", "novu.usage.figures.read"}
    unknown = replace(BEACON_READING, host=replace(HOST, ip=None, memory_free=None), delivery=None)
    absent = {row.name for row in BEACON if not list(row.read(unknown))}
    assert absent == {
        "novu.host.memory.free",
        "novu.spool.size",
        "novu.spool.dropped",
        "novu.spool.rejected",
        "novu.schema.dropped",
    }
    (info,) = ROWS["novu.host.info"].read(unknown)
    assert "novu.host.ip" not in info.attributes


def test_created_counters_begin_with_their_watch() -> None:
    row = ROWS["novu.event.created"]
    assert row.since is not None
    assert row.since(USAGE_READING) == 1.7e9
    assert row.since(NOTHING) is None


PROVIDER = "novu.provider.id"


@pytest.mark.parametrize(
    ("name", "value", "attributes"),
    [
        ("novu.user.count", -1, {}),
        ("novu.user.count", 2**63, {}),
        ("novu.user.count", 1.0, {}),
        ("novu.user.count", True, {}),
        ("novu.user.count", "1", {}),
        ("novu.user.count", None, {}),
        ("novu.user.count", 1, {"user.email": "ada@example.org"}),
        ("novu.integration.count", 1, {PROVIDER: "Our own gateway"}),
        ("novu.integration.count", 1, {PROVIDER: "novu\n"}),
        ("novu.integration.count", 1, {PROVIDER: "a" * 65}),
        ("novu.integration.count", 1, {PROVIDER: ""}),
        ("novu.integration.count", 1, {PROVIDER: 5}),
        ("novu.usage.read.duration", float("nan"), {"novu.figure": "user.count"}),
        ("novu.usage.read.duration", float("inf"), {"novu.figure": "user.count"}),
        ("novu.usage.read.duration", 1.0, {"novu.figure": "else.count"}),
        ("novu.usage.enabled", 2, {}),
        ("novu.host.info", 0, {}),
        ("novu.host.info", 1, {"host.name": "a\x1b[2Jb"}),
        ("novu.host.info", 1, {"host.name": "a\u202eb"}),
        ("novu.host.info", 1, {"novu.host.ip": "fe80::1"}),
    ],
)
def test_a_point_outside_the_schema_is_not_accepted(
    name: str, value: object, attributes: dict[str, object]
) -> None:
    assert not ROWS[name].accepts(value, attributes)


@pytest.mark.parametrize(
    ("name", "unit", "instrument", "expected"),
    [
        ("novu.host.memory.free", "By", Instrument.GAUGE, "novu_host_memory_free_bytes"),
        ("novu.host.info", "", Instrument.GAUGE, "novu_host_info"),
        ("novu.event.created", "{event}", Instrument.COUNTER, "novu_event_created_total"),
        ("novu.user.count", "{user}", Instrument.UP_DOWN_COUNTER, "novu_user_count"),
        ("novu.usage.seconds", "s", Instrument.GAUGE, "novu_usage_seconds"),
        ("novu.total.size", "By", Instrument.COUNTER, "novu_size_bytes_total"),
    ],
)
def test_names_in_prometheus(name: str, unit: str, instrument: Instrument, expected: str) -> None:
    assert prometheus_name(Metric(name, instrument, unit, "", lambda _: [], "")) == expected


def test_a_unit_without_a_word_in_prometheus_is_an_error() -> None:
    with pytest.raises(KeyError, match="ms"):
        prometheus_name(Metric("novu.x", Instrument.GAUGE, "ms", "", lambda _: [], ""))
    assert prometheus_label(PROVIDER) == "novu_provider_id"


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (
            dict.fromkeys((f.name for f in FIGURES), "wrong database?"),
            "MongoDB at db:27017: wrong database?",
        ),
        (
            {"user.count": "timed out", "topic.count": "timed out"},
            (
                f"2 of {len(FIGURES)} usage figures could not be read from "
                "MongoDB at db:27017: user.count, topic.count: timed out."
            ),
        ),
    ],
)
def test_failed_figures_are_one_sentence(reasons: dict[str, str], expected: str) -> None:
    assert describe_failures(reasons, len(FIGURES), "db:27017") == expected


def test_what_the_sdk_measures_of_itself_is_neither_sent_nor_counted(
    exporter: ExporterRunner, sink: HttpSink
) -> None:
    env = {
        "NOVU_TELEMETRY": "off",
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true",
    }
    running = exporter.start("run", env=env)
    sink.wait_for(4)
    found = otlp_reports.points(*sink.reports)
    assert {point.scope for point in found} == {otlp_reports.BEACON}
    assert otlp_reports.value(found, "novu.schema.dropped") == 0
    assert running.warnings == []
