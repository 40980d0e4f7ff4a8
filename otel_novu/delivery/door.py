"""What may leave: a report is held against the tables, point by point, before it is encoded."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opentelemetry.sdk.metrics.export import Gauge, MetricsData, ScopeMetrics, Sum
from opentelemetry.sdk.metrics.export import Metric as CollectedMetric
from opentelemetry.sdk.metrics.export import NumberDataPoint as DataPoint

from otel_novu.metrics.metric import Instrument, Metric

_MOST_CHARACTERS = 255
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Admitted:
    """What passed the door.

    Args:
        data: the report, without what did not fit; None where nothing passed.
        kept_in: how many data points did not fit.
    """

    data: MetricsData | None
    kept_in: int


class Door:
    """Lets through what one table defines: scope, names, units, kinds, attributes and values."""

    def __init__(self, scope: str, rows: Sequence[Metric[Any]]) -> None:
        """Remember the table."""
        self._scope = scope
        self._rows: Mapping[str, Metric[Any]] = {row.name: row for row in rows}

    def admit(self, data: MetricsData) -> Admitted:
        """Hold a report against the table.

        Args:
            data: what the SDK collected. The encoder loses a whole report over one integer
                beyond 64 bits or one boolean, so those are kept in as well.
        """
        kept_in = 0
        resources = []
        for resource in data.resource_metrics:
            scopes = []
            for scope in resource.scope_metrics:
                passed, kept = self._admit_scope(scope)
                kept_in += kept
                scopes += [passed] if passed.metrics else []
            resources += [replace(resource, scope_metrics=scopes)] if scopes else []
        return Admitted(MetricsData(resources) if resources else None, kept_in)

    def _admit_scope(self, scope: ScopeMetrics) -> tuple[ScopeMetrics, int]:
        before = sum(len(metric.data.data_points) for metric in scope.metrics)
        metrics = self._admit_metrics(scope) if scope.scope.name == self._scope else []
        after = sum(len(metric.data.data_points) for metric in metrics)
        return replace(scope, metrics=metrics), before - after

    def _admit_metrics(self, scope: ScopeMetrics) -> list[CollectedMetric]:
        passed = []
        for metric in scope.metrics:
            row = self._rows.get(metric.name)
            if row is None or not _same_kind(row, metric):
                continue
            data: Any = metric.data
            points = [point for point in data.data_points if _fits(row, point)]
            if points:
                passed.append(replace(metric, data=replace(data, data_points=points)))
        return passed


def _same_kind(row: Metric[Any], metric: CollectedMetric) -> bool:
    if (metric.unit or "") != row.unit or (metric.description or "") != row.description:
        return False
    if row.instrument is Instrument.GAUGE:
        return isinstance(metric.data, Gauge)
    grows = row.instrument is Instrument.COUNTER
    return isinstance(metric.data, Sum) and metric.data.is_monotonic is grows


def _fits(row: Metric[Any], point: DataPoint) -> bool:
    attributes = point.attributes or {}
    if not set(attributes) <= set(row.attributes):
        return False
    return _is_number(point.value) and all(map(_is_label, attributes.values()))


def _is_number(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return value in _INT64
    return isinstance(value, float) and math.isfinite(value)


def _is_label(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MOST_CHARACTERS and value.isprintable()
