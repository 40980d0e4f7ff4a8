import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    InMemoryMetricReader,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as CollectedMetric
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_novu.commands import metrics
from otel_novu.delivery.door import Admitted, Door
from otel_novu.meter import ReportMeter, make_resource
from otel_novu.metrics import beacon, usage
from otel_novu.metrics.metric import Instrument, Metric
from otel_novu.metrics.resource import RESOURCE
from otel_novu.privacy_doc import privacy_markdown

ROWS: tuple[Metric[Any], ...] = (*beacon.BEACON, *usage.USAGE)
BY_NAME = {row.name: row for row in ROWS}
OURS = make_resource("novu", UUID(int=7), {"team": "blue"})
NOW = 1_800_000_000_000_000_000
PAGE = Path(__file__).parent.parent / "docs" / "privacy.md"


def data_of(row: Metric[Any], *points: NumberDataPoint) -> Gauge | Sum:
    if row.instrument is Instrument.GAUGE:
        return Gauge(points)
    return Sum(
        points,
        AggregationTemporality.CUMULATIVE,
        is_monotonic=row.instrument is Instrument.COUNTER,
    )


def collected(row: Metric[Any], *points: NumberDataPoint) -> CollectedMetric:
    return CollectedMetric(row.name, row.description, row.unit, data_of(row, *points))


def point(value: Any = 1, attributes: Mapping[str, Any] | None = None) -> NumberDataPoint:
    return NumberDataPoint(attributes or {}, NOW, NOW, value)


def report(
    *found: CollectedMetric, scope: str = usage.SCOPE, resource: Resource = OURS
) -> MetricsData:
    scopes = [ScopeMetrics(InstrumentationScope(scope, "1", "", None), found, "")]
    return MetricsData([ResourceMetrics(resource, scopes, "")])


def admit(*found: CollectedMetric, **changes: Any) -> Admitted:
    return Door(usage.SCOPE, "1", usage.USAGE, OURS).admit(report(*found, **changes))


def admit_value(name: str, value: Any, attributes: Mapping[str, Any] | None = None) -> bool:
    row = BY_NAME[name]
    rows = beacon.BEACON if row in beacon.BEACON else usage.USAGE
    scope = beacon.SCOPE if row in beacon.BEACON else usage.SCOPE
    door = Door(scope, "1", rows, OURS)
    admitted = door.admit(report(collected(row, point(value, attributes)), scope=scope))
    assert (admitted.data is None) is (admitted.kept_in == 1)
    return admitted.data is not None


def points_in(admitted: Admitted) -> Iterator[tuple[str, NumberDataPoint]]:
    for resource in admitted.data.resource_metrics if admitted.data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for each in metric.data.data_points:
                    assert isinstance(each, NumberDataPoint)
                    yield metric.name, each


# The door: what a value looks like


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("novu.user.count", 0),
        ("novu.user.count", 2**63 - 1),
        ("novu.usage.timestamp", 1_800_000_000.25),
        ("novu.usage.timestamp", 0),
        ("novu.usage.enabled", 0),
        ("novu.usage.enabled", 1),
        ("novu.host.memory.free", 115_703_808),
    ],
)
def test_a_value_that_looks_as_its_row_says_leaves(name: str, value: float) -> None:
    assert admit_value(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("novu.user.count", -1),
        ("novu.user.count", 1.0),
        ("novu.user.count", 2**63),
        ("novu.user.count", True),
        ("novu.user.count", "1"),
        ("novu.usage.enabled", 2),
        ("novu.usage.timestamp", math.nan),
        ("novu.usage.timestamp", math.inf),
        ("novu.usage.timestamp", -1.0),
        ("novu.usage.timestamp", 10**400),
        ("novu.host.memory.free", None),
    ],
)
def test_a_value_that_looks_otherwise_stays_in(name: str, value: Any) -> None:
    assert not admit_value(name, value)


LABELS: list[tuple[str, Any, Mapping[str, Any], bool]] = [
    ("novu.integration.count", 1, {"novu.provider.id": "sendgrid"}, True),
    ("novu.integration.count", 1, {"novu.provider.id": "other"}, True),
    ("novu.integration.count", 1, {"novu.provider.id": "a" * 64}, True),
    ("novu.integration.count", 1, {"novu.provider.id": "a" * 65}, False),
    ("novu.integration.count", 1, {"novu.provider.id": "Our Own Gateway"}, False),
    ("novu.integration.count", 1, {"novu.provider.id": "sendgrid\n"}, False),
    ("novu.integration.count", 1, {"novu.provider.id": "send\x00grid"}, False),
    ("novu.integration.count", 1, {"novu.provider.id": ""}, False),
    ("novu.integration.count", 1, {"novu.provider.id": "ada@example.org"}, False),
    ("novu.integration.count", 1, {"novu.provider.id": "\u017fendgrid"}, False),
    ("novu.integration.count", 1, {"novu.provider.id": ["sendgrid"]}, False),
    ("novu.integration.count", 1, {"novu.provider.id": 42}, False),
    ("novu.integration.count", 1, {"novu.provider.id": "fcm", "channel": "push"}, False),
    ("novu.user.count", 1, {"novu.provider.id": "sendgrid"}, False),
    ("novu.usage.read.failures", 0, {"novu.figure": "workflow.step.count"}, True),
    ("novu.usage.read.failures", 0, {"novu.figure": "workflow-step-count"}, False),
    ("novu.usage.read.duration", 0.1, {"novu.figure": "ada"}, False),
    ("novu.host.info", 1, {"host.name": "web-1", "novu.host.ip": "192.168.1.4"}, True),
    ("novu.host.info", 1, {"os.type": "linux", "os.version": "6.1.0-18-amd64"}, True),
    ("novu.host.info", 1, {"host.name": "0123456789abcdef" * 2}, True),
    ("novu.host.info", 1, {"host.name": "(none)"}, True),
    ("novu.host.info", 2, {"host.name": "web-1"}, False),
    ("novu.host.info", 1, {"host.name": "web\n1"}, False),
    ("novu.host.info", 1, {"host.name": "w" * 256}, False),
    ("novu.host.info", 1, {"novu.host.ip": "fe80::1"}, False),
    ("novu.host.info", 1, {"novu.host.ip": "web-1"}, False),
    ("novu.host.info", 1, {"os.type": "Linux 6.1"}, False),
    ("novu.host.info", 1, {"host.id": "f00d"}, False),
]


@pytest.mark.parametrize(("name", "value", "attributes", "leaves"), LABELS)
def test_a_label_leaves_only_as_its_row_says(
    name: str, value: Any, attributes: Mapping[str, Any], leaves: Any
) -> None:
    assert admit_value(name, value, attributes) is leaves


@given(st.text())
def test_no_text_but_a_lawful_provider_id_leaves_as_one(text: str) -> None:
    lawful = re.fullmatch("[a-z0-9][a-z0-9_.-]{0,63}", text, re.ASCII) is not None
    assert admit_value("novu.integration.count", 1, {"novu.provider.id": text}) is lawful


# The door: what a report consists of


def test_what_fits_leaves_and_what_does_not_is_counted() -> None:
    row = BY_NAME["novu.integration.count"]
    good, bad = point(1, {"novu.provider.id": "fcm"}), point(1, {"novu.provider.id": "F C M"})
    admitted = admit(collected(row, good, bad), collected(BY_NAME["novu.user.count"], point(-3)))
    assert list(points_in(admitted)) == [("novu.integration.count", replace(good, exemplars=()))]
    assert admitted.kept_in == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "novu.user.email"},
        {"unit": "{person}"},
        {"description": "Users of ada@example.org."},
        {"data": Gauge([point()])},
        {"data": Sum([point()], AggregationTemporality.CUMULATIVE, is_monotonic=True)},
        {"data": Sum([point()], AggregationTemporality.DELTA, is_monotonic=False)},
    ],
    ids=["name", "unit", "description", "kind", "monotonic", "temporality"],
)
def test_a_metric_that_differs_from_its_row_stays_in(changes: Mapping[str, Any]) -> None:
    changed = replace(collected(BY_NAME["novu.user.count"], point()), **changes)
    assert admit(changed) == Admitted(None, kept_in=1, foreign=0)


def test_another_scope_stays_in() -> None:
    found = collected(BY_NAME["novu.user.count"], point())
    assert admit(found, scope="somebody.else") == Admitted(None, kept_in=1, foreign=0)


@pytest.mark.parametrize("time", [-1, 2**64])
def test_a_time_that_otlp_can_not_carry_stays_in(time: int) -> None:
    late = replace(point(), time_unix_nano=time)
    assert admit(collected(BY_NAME["novu.user.count"], late, point())).kept_in == 1


def test_the_resource_is_ours_whatever_the_sdk_holds() -> None:
    other = OURS.merge(Resource({"process.owner": "ada", "service.instance.id": "another"}))
    admitted = admit(collected(BY_NAME["novu.user.count"], point()), resource=other)
    assert admitted.data is not None
    assert admitted.data.resource_metrics[0].resource == OURS
    assert (admitted.kept_in, admitted.foreign) == (0, 2)


def test_a_scope_s_attributes_and_every_schema_url_stay_in() -> None:
    scope = InstrumentationScope(usage.SCOPE, "9", "https://example.org/a", {"owner": "ada"})
    found = [collected(BY_NAME["novu.user.count"], point())]
    scopes = [ScopeMetrics(scope, found, "https://example.org/b")]
    data = MetricsData([ResourceMetrics(OURS, scopes, "https://example.org/c")])
    admitted = Door(usage.SCOPE, "1", usage.USAGE, OURS).admit(data)
    assert "ada" not in str(admitted)
    assert "example.org" not in str(admitted)
    assert '"version": "9"' not in str(admitted)


def reading() -> usage.UsageReading:
    return usage.UsageReading(
        timestamp=1_800_000_000.0,
        totals={"user.count": 3, "topic.count": -1},
        providers={"integration.count": {"fcm": 1, "ada@example.org": 2}},
        created={},
        durations={"user.count": 0.1, "somebody": 0.2},
        failures={"user.count": 0},
    )


def test_a_report_of_which_nothing_passes_is_counted_too() -> None:
    meter = ReportMeter(usage.SCOPE, usage.USAGE, OURS, 0.0)
    nothing = replace(reading(), timestamp=-1.0, totals={}, durations={}, failures={})
    nothing = replace(nothing, providers={"integration.count": {"A B": 1}})
    made = meter.make(nothing, 1_800_000_000.0)
    assert made.request is None
    assert made.kept_in == 2
    meter.close()


def test_the_meter_counts_what_the_door_keeps_in() -> None:
    meter = ReportMeter(usage.SCOPE, usage.USAGE, OURS, 0.0)
    made = meter.make(reading(), 1_800_000_000.0)
    assert made.kept_in == 3
    assert made.request is not None
    assert b"ada@example.org" not in made.request.body
    assert b"somebody" not in made.request.body
    meter.close()


def test_the_resource_has_the_listed_attributes_and_the_operators() -> None:
    assert set(OURS.attributes) == {*RESOURCE, "team"}
    for key, attribute in RESOURCE.items():
        assert attribute.shape.admits(OURS.attributes[key])


# The page


def test_the_page_is_what_the_rows_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert PAGE.read_text() == privacy_markdown(), "`make docs` writes it anew"
    assert metrics.privacy() == 0
    assert capsys.readouterr().out == privacy_markdown()


def test_every_value_that_leaves_is_on_the_page_with_a_reason() -> None:
    for row in ROWS:
        assert row.identifies
        assert row.source
        assert f"| `{row.name}` | {row.shape.says} | {row.source} | {row.identifies} |" in (
            privacy_markdown()
        )
        for key, attribute in row.attributes.items():
            assert attribute.identifies
            assert f"| label `{key}` | " in privacy_markdown()
    for key in RESOURCE:
        assert f"| `{key}` | " in privacy_markdown()


def test_the_page_calls_the_instance_id_a_pseudonym_and_says_how_to_reset_it() -> None:
    section = PAGE.read_text().partition("## The instance id is a pseudonym")[2]
    assert "pseudonymous, not anonymous" in section
    assert "`otel-novu reset-id`" in section


def test_the_usage_table_has_no_label_of_the_host() -> None:
    labels = {key for row in usage.USAGE for key in row.attributes}
    assert labels == {"novu.provider.id", "novu.figure"}


def test_the_sdk_s_own_detectors_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "*")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "colour=green")
    resource = make_resource("novu", UUID(int=7), {})
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], resource=resource)
    provider.get_meter("any").create_counter("any").add(1)
    found = reader.get_metrics_data()
    provider.shutdown()
    assert found is not None
    assert set(found.resource_metrics[0].resource.attributes) == set(RESOURCE)
