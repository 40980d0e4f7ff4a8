from typing import Any

import pytest

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Instrument, Metric
from otel_novu.metrics.prometheus import prometheus_label, prometheus_name
from otel_novu.metrics.usage import USAGE

ROWS: tuple[Metric[Any], ...] = (*BEACON, *USAGE)


def row(name: str, unit: str, instrument: Instrument) -> Metric[None]:
    return Metric(name, instrument, unit, "Description.", lambda _: [], "a test")


# As a real Prometheus 3.5 showed them behind collector 0.165's remote write.
SEEN = {
    "novu.host.memory.free": "novu_host_memory_free_bytes",
    "novu.host.memory.total": "novu_host_memory_total_bytes",
    "novu.host.info": "novu_host_info",
    "novu.beacon.timestamp": "novu_beacon_timestamp_seconds",
    "novu.usage.enabled": "novu_usage_enabled",
    "novu.spool.reports": "novu_spool_reports",
    "novu.spool.dropped": "novu_spool_dropped_total",
    "novu.spool.rejected": "novu_spool_rejected_total",
    "novu.schema.dropped": "novu_schema_dropped_total",
    "novu.user.count": "novu_user_count",
    "novu.organization.count": "novu_organization_count",
    "novu.workflow.count": "novu_workflow_count",
    "novu.workflow.step.count": "novu_workflow_step_count",
    "novu.event.count": "novu_event_count",
    "novu.topic.count": "novu_topic_count",
    "novu.subscriber.count": "novu_subscriber_count",
    "novu.integration.count": "novu_integration_count",
    "novu.user.created": "novu_user_created_total",
    "novu.organization.created": "novu_organization_created_total",
    "novu.workflow.created": "novu_workflow_created_total",
    "novu.event.created": "novu_event_created_total",
    "novu.topic.created": "novu_topic_created_total",
    "novu.subscriber.created": "novu_subscriber_created_total",
    "novu.usage.timestamp": "novu_usage_timestamp_seconds",
    "novu.usage.read.duration": "novu_usage_read_duration_seconds",
    "novu.usage.read.failures": "novu_usage_read_failures_total",
}


def test_every_row_has_the_name_that_prometheus_shows() -> None:
    assert {metric.name: prometheus_name(metric) for metric in ROWS} == SEEN


@pytest.mark.parametrize(
    ("name", "unit", "instrument", "expected"),
    [
        ("a.total", "", Instrument.COUNTER, "a_total"),
        ("a.total", "", Instrument.GAUGE, "a_total"),
        ("a.total.b", "", Instrument.COUNTER, "a_b_total"),
        ("a.seconds", "s", Instrument.GAUGE, "a_seconds"),
        ("a.io", "By", Instrument.COUNTER, "a_io_bytes_total"),
        ("a.topic-count", "{topic}", Instrument.UP_DOWN_COUNTER, "a_topic_count"),
    ],
)
def test_no_word_stands_twice_in_a_name(
    name: str, unit: str, instrument: Instrument, expected: str
) -> None:
    assert prometheus_name(row(name, unit, instrument)) == expected


def test_a_unit_whose_word_is_not_known_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"a\.b has the unit ms; known are By, s, none"):
        prometheus_name(row("a.b", "ms", Instrument.GAUGE))


def test_every_attribute_is_a_label_with_underscores() -> None:
    labels = {prometheus_label(key) for metric in ROWS for key in metric.attributes}
    assert labels == {
        "host_name",
        "novu_host_ip",
        "os_type",
        "os_version",
        "novu_provider_id",
        "novu_figure",
    }
