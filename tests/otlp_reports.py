"""Reads OTLP requests for tests: a flat list of points, each with all that it belongs to."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

BEACON = "otel_novu.beacon"
USAGE = "otel_novu.usage"

# The words of the metric tables.
GAUGE = "observable gauge"
UP_DOWN_COUNTER = "observable up-down counter"
COUNTER = "observable counter"

_CUMULATIVE = 2
_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Point:
    """One data point; `start` (0 if it has none) and `time` are Unix times in seconds."""

    resource: Mapping[str, Any]
    scope: str
    version: str
    name: str
    kind: str
    unit: str
    description: str
    attributes: Mapping[str, Any]
    value: int | float
    start: float
    time: float


def points(*requests: ExportMetricsServiceRequest) -> list[Point]:
    """Return all points of the requests, in their order."""
    return [point for request in requests for point in _points(request)]


def scopes(*requests: ExportMetricsServiceRequest) -> set[str]:
    """Return the names of the scopes that have a point."""
    return {point.scope for point in points(*requests)}


def values(found: Iterable[Point], name: str, key: str | None = None) -> dict[str, int | float]:
    """Return a metric's last values by one attribute, or the last one under the empty name."""
    return {
        "" if key is None else str(point.attributes[key]): point.value
        for point in found
        if point.name == name
    }


def value(found: Iterable[Point], name: str) -> int | float:
    """Return the last value of a metric without attributes; KeyError if there is none."""
    return values(found, name)[""]


def _points(request: ExportMetricsServiceRequest) -> Iterator[Point]:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in getattr(metric, metric.WhichOneof("data") or "gauge").data_points:
                    yield Point(
                        resource=_attributes(resource.resource.attributes),
                        scope=scope.scope.name,
                        version=scope.scope.version,
                        name=metric.name,
                        kind=_kind(metric),
                        unit=metric.unit,
                        description=metric.description,
                        attributes=_attributes(point.attributes),
                        value=getattr(point, point.WhichOneof("value")),
                        start=_seconds(point.start_time_unix_nano),
                        time=_seconds(point.time_unix_nano),
                    )


def _seconds(nanoseconds: int) -> float:
    # A float is not exact for so many nanoseconds.
    whole, rest = divmod(nanoseconds, _NANOSECONDS)
    return whole + rest / _NANOSECONDS


def _kind(metric: Any) -> str:
    data = metric.WhichOneof("data")
    if data == "gauge":
        return GAUGE
    if data == "sum" and metric.sum.aggregation_temporality == _CUMULATIVE:
        return COUNTER if metric.sum.is_monotonic else UP_DOWN_COUNTER
    return f"not ours: {data}"


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
