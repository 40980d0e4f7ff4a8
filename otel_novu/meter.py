"""Makes one report of one table with OpenTelemetry's SDK, up to the bytes that leave."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic
from uuid import UUID

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import Metric as CollectedMetric
from opentelemetry.sdk.metrics.export import MetricReader, MetricsData, ScopeMetrics, Sum
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.version import __version__ as sdk_version

from otel_novu.delivery.door import Door
from otel_novu.instruments import register
from otel_novu.metrics.metric import Metric, Reading
from otel_novu.metrics.resource import (
    INSTANCE_ID,
    SDK_LANGUAGE,
    SDK_NAME,
    SDK_VERSION,
    SERVICE_NAME,
)
from otel_novu.version import __version__

_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Request:
    """One report, ready to leave.

    Args:
        body: a serialized OTLP `ExportMetricsServiceRequest`.
        data: the same as the SDK's data, for its console exporter.
    """

    body: bytes
    data: MetricsData


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a reading.

    Args:
        request: the report, or None where nothing could be read or nothing passed the door.
        kept_in: data points that did not fit the table.
        foreign: attributes of the resource that somebody else added, which were left out.
    """

    request: Request | None
    kept_in: int = 0
    foreign: int = 0


class ReportMeter(Generic[Reading]):
    """One table on a MeterProvider of its own, with a reader that has no clock."""

    def __init__(
        self, scope: str, rows: Sequence[Metric[Reading]], resource: Resource, began: float
    ) -> None:
        """Register the table.

        Args:
            scope: name of the instrumentation scope.
            rows: the table.
            resource: who reports.
            began: Unix time since which the process counts, seconds.
        """
        self._rows: Mapping[str, Metric[Reading]] = {row.name: row for row in rows}
        self._door = Door(scope, __version__, rows, resource)
        self._began = began
        self._reading: Reading | None = None
        self._reader = _Reader()
        self._provider = MeterProvider(
            metric_readers=[self._reader],
            resource=resource,
            # As else an unknown word in the environment makes the constructor raise.
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
        )
        register(self._provider.get_meter(scope, __version__), rows, lambda: self._reading)

    def make(self, reading: Reading, read_at: float) -> Made:
        """Make a report of a reading.

        Args:
            reading: what the instruments hand out.
            read_at: Unix time of the reading, seconds.
        """
        self._reading = reading
        collected = self._reader.take()
        if collected is None:
            return Made(None)
        admitted = self._door.admit(self._stamp(collected, reading, read_at))
        request = None
        if admitted.data is not None:
            body = encode_metrics(admitted.data).SerializeToString()
            request = Request(body, admitted.data)
        return Made(request, admitted.kept_in, admitted.foreign)

    def close(self) -> None:
        """Shut the provider down: no instrument is left."""
        self._provider.shutdown()

    def _stamp(self, data: MetricsData, reading: Reading, read_at: float) -> MetricsData:
        def stamped(scope: ScopeMetrics) -> ScopeMetrics:
            metrics = [self._stamp_metric(m, reading, read_at) for m in scope.metrics]
            return replace(scope, metrics=metrics)

        return MetricsData(
            [
                replace(resource, scope_metrics=[*map(stamped, resource.scope_metrics)])
                for resource in data.resource_metrics
            ]
        )

    def _stamp_metric(
        self, metric: CollectedMetric, reading: Reading, read_at: float
    ) -> CollectedMetric:
        # The SDK stamps its own clock's time, and the first sight of a series as its beginning.
        times: dict[str, Any] = {"time_unix_nano": _nanoseconds(read_at)}
        if isinstance(metric.data, Sum):
            row = self._rows.get(metric.name)
            since = row.since(reading) if row is not None and row.since is not None else None
            began = self._began if since is None else since
            times["start_time_unix_nano"] = _nanoseconds(min(began, read_at))
        data: Any = metric.data
        points = [replace(point, **times) for point in data.data_points]
        return replace(metric, data=replace(data, data_points=points))


class _Reader(MetricReader):
    """Collects when told to, and has neither a clock nor a deadline.

    The SDK's own readers give a collection ten seconds of the wall clock; one that steps forwards
    meanwhile would cost a report.
    """

    def __init__(self) -> None:
        super().__init__()
        self._collected: MetricsData | None = None

    def take(self) -> MetricsData | None:
        """Collect, and hand out what came."""
        self._collected = None
        self.collect(timeout_millis=math.inf)
        return self._collected

    def _receive_metrics(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = math.inf,  # noqa: ARG002 - the SDK's signature
        **_: object,
    ) -> None:
        self._collected = metrics_data

    def shutdown(self, timeout_millis: float = math.inf, **_: object) -> None:
        """Do nothing: there is no thread to end."""


def make_resource(service_name: str, instance: UUID, attributes: Mapping[str, str]) -> Resource:
    """Make the resource: the service, the instance, the SDK and the operator's own attributes.

    Not by `Resource.create`, which runs detectors that add what must not leave.
    """
    return Resource(
        {
            **attributes,
            SERVICE_NAME: service_name,
            INSTANCE_ID: str(instance),
            SDK_LANGUAGE: "python",
            SDK_NAME: "opentelemetry",
            SDK_VERSION: sdk_version,
        }
    )


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000) * (_NANOSECONDS // 1_000)
