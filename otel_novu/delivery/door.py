"""What may leave: a report is made anew, before it is encoded, of what the tables list."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as CollectedMetric
from opentelemetry.sdk.metrics.export import NumberDataPoint as DataPoint
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_novu.metrics.metric import Instrument, Metric

_UINT64 = range(2**64)


@dataclass(frozen=True, slots=True)
class Admitted:
    """What passed the door.

    Args:
        data: the report, without what did not fit; None where nothing passed.
        kept_in: how many data points did not fit.
        foreign: how many attributes of the resource are not ours or the operator's.
    """

    data: MetricsData | None
    kept_in: int
    foreign: int


class Door:
    """Lets through what one table defines, under one scope and one resource.

    Metrics and points are taken over one by one; scope and resource are the ones given here,
    whatever the report holds, and all else that a report could carry (exemplars, schema URLs) has
    no way through.
    """

    def __init__(
        self, scope: str, version: str, rows: Sequence[Metric[Any]], resource: Resource
    ) -> None:
        """Remember what may pass.

        Args:
            scope: name of the instrumentation scope.
            version: of the instrumentation scope.
            rows: the table.
            resource: who reports: our attributes and the operator's own.
        """
        self._scope = InstrumentationScope(scope, version, "")
        self._rows: Mapping[str, Metric[Any]] = {row.name: row for row in rows}
        self._resource = resource

    def admit(self, data: MetricsData) -> Admitted:
        """Hold a report against the table.

        Args:
            data: what the SDK collected. The encoder loses a whole report over one integer
                beyond 64 bits or one boolean, so those are kept in as well.
        """
        metrics: list[CollectedMetric] = []
        seen = foreign = 0
        for resource in data.resource_metrics:
            foreign += self._count_foreign(resource.resource)
            for scope in resource.scope_metrics:
                seen += sum(len(metric.data.data_points) for metric in scope.metrics)
                metrics += self._admit_scope(scope)
        kept_in = seen - sum(len(metric.data.data_points) for metric in metrics)
        if not metrics:
            return Admitted(None, kept_in, foreign)
        scopes = [ScopeMetrics(self._scope, metrics, "")]
        return Admitted(
            MetricsData([ResourceMetrics(self._resource, scopes, "")]), kept_in, foreign
        )

    def _count_foreign(self, resource: Resource) -> int:
        ours = self._resource.attributes
        return sum(ours.get(key) != value for key, value in resource.attributes.items())

    def _admit_scope(self, scope: ScopeMetrics) -> Iterator[CollectedMetric]:
        if scope.scope.name != self._scope.name:
            return
        for metric in scope.metrics:
            row = self._rows.get(metric.name)
            if row is None or not _same_kind(row, metric):
                continue
            data: Any = metric.data
            points = [_bare(point) for point in data.data_points if _fits(row, point)]
            if points:
                yield replace(metric, data=replace(data, data_points=points))


def _same_kind(row: Metric[Any], metric: CollectedMetric) -> bool:
    if (metric.unit or "") != row.unit or (metric.description or "") != row.description:
        return False
    if row.instrument is Instrument.GAUGE:
        return isinstance(metric.data, Gauge)
    return (
        isinstance(metric.data, Sum)
        and metric.data.is_monotonic is (row.instrument is Instrument.COUNTER)
        and metric.data.aggregation_temporality is AggregationTemporality.CUMULATIVE
    )


def _fits(row: Metric[Any], point: DataPoint) -> bool:
    times = (point.time_unix_nano, point.start_time_unix_nano or 0)
    return all(time in _UINT64 for time in times) and row.admits(
        point.value, point.attributes or {}
    )


def _bare(point: DataPoint) -> DataPoint:
    """Leave exemplars behind: they carry attributes that no table knows."""
    return replace(point, exemplars=())
