"""Turns a reading into the bytes of one OTLP request, with OpenTelemetry's SDK."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic
from uuid import UUID

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.metrics import CallbackOptions, CallbackT, Meter, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    MetricReader,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as SdkMetric
from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    TELEMETRY_SDK_LANGUAGE,
    TELEMETRY_SDK_NAME,
    TELEMETRY_SDK_VERSION,
    Resource,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.sdk.version import __version__ as sdk_version

from otel_novu.metrics.metric import Instrument, Metric, Reading
from otel_novu.version import __version__


@dataclass(frozen=True, slots=True)
class Built:
    """One report."""

    body: bytes | None  # an OTLP ExportMetricsServiceRequest, None if no point is left
    dropped: int  # data points that are not in the metric schema


class ReportBuilder(Generic[Reading]):
    """One scope's rows as observable instruments on a MeterProvider of their own.

    `started` is the Unix time at which the process began to count, in seconds.
    """

    def __init__(
        self, scope: str, rows: Sequence[Metric[Reading]], resource: Resource, started: float
    ) -> None:
        self._scope = InstrumentationScope(scope, __version__, "")
        self._rows: Mapping[str, Metric[Reading]] = {row.name: row for row in rows}
        self._resource = resource
        self._started = started
        self._reading: Reading | None = None
        self._reader = _Reader()
        self._provider = MeterProvider(
            metric_readers=[self._reader],
            resource=resource,
            # An unknown OTEL_METRICS_EXEMPLAR_FILTER would make the constructor raise.
            exemplar_filter=AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
        )
        register(self._provider.get_meter(scope, __version__), rows, lambda: self._reading)

    def build(self, reading: Reading, read_at: float) -> Built:
        """Make the report of a reading; `read_at` is its Unix time in seconds."""
        self._reading = reading
        metrics: list[SdkMetric] = []
        seen = 0
        for metric in self._reader.read_metrics():
            seen += len(metric.data.data_points)
            row = self._rows.get(metric.name)
            points = [p for p in metric.data.data_points if row and _accepts(row, p)]
            if row and points:
                data = self._data(row, points, reading, read_at)
                metrics.append(SdkMetric(row.name, row.description, row.unit, data))
        dropped = seen - sum(len(metric.data.data_points) for metric in metrics)
        if not metrics:
            return Built(None, dropped)
        # Resource and scope are ours, whatever an SDK plug-in adds to what it collects.
        scopes = [ScopeMetrics(self._scope, metrics, "")]
        collected = MetricsData([ResourceMetrics(self._resource, scopes, "")])
        return Built(encode_metrics(collected).SerializeToString(), dropped)

    def close(self) -> None:
        """Shut the provider down: no instrument is left."""
        self._provider.shutdown()

    def _data(
        self, row: Metric[Reading], points: Sequence[Any], reading: Reading, read_at: float
    ) -> Gauge | Sum:
        # The SDK stamps points with its own clock, and sums with the first sight of a series.
        times: dict[str, Any] = {"time_unix_nano": _nanoseconds(read_at), "exemplars": ()}
        if row.instrument is Instrument.GAUGE:
            return Gauge([replace(point, **times) for point in points])
        since = row.since(reading) if row.since else None
        began = self._started if since is None else since
        times["start_time_unix_nano"] = _nanoseconds(min(began, read_at))
        return Sum(
            [replace(point, **times) for point in points],
            AggregationTemporality.CUMULATIVE,
            is_monotonic=row.instrument is Instrument.COUNTER,
        )


def register(
    meter: Meter, rows: Iterable[Metric[Reading]], current: Callable[[], Reading | None]
) -> None:
    """Create one observable instrument for each row, which observes the current reading.

    `current` should do no slow I/O: the SDK holds a lock meanwhile, and counts sums twice after a
    collection that took too long.
    """
    create = {
        Instrument.GAUGE: meter.create_observable_gauge,
        Instrument.UP_DOWN_COUNTER: meter.create_observable_up_down_counter,
        Instrument.COUNTER: meter.create_observable_counter,
    }
    for row in rows:
        create[row.instrument](row.name, [_callback(row, current)], row.unit, row.description)


def _callback(row: Metric[Reading], current: Callable[[], Reading | None]) -> CallbackT:
    def observe(_: CallbackOptions) -> list[Observation]:
        reading = current()
        points = () if reading is None else row.read(reading)
        return [Observation(point.value, dict(point.attributes)) for point in points]

    return observe


def make_resource(service_name: str, instance: UUID, attributes: Mapping[str, str]) -> Resource:
    """Make the resource: the service, the instance, the SDK and the operator's attributes.

    `Resource.create` is not used: its detectors add what must not be sent.
    """
    return Resource(
        {
            **attributes,
            SERVICE_NAME: service_name,
            SERVICE_INSTANCE_ID: str(instance),
            TELEMETRY_SDK_LANGUAGE: "python",
            TELEMETRY_SDK_NAME: "opentelemetry",
            TELEMETRY_SDK_VERSION: sdk_version,
        }
    )


class _Reader(MetricReader):
    """Collects when asked; the SDK's own readers have a clock and a deadline."""

    def __init__(self) -> None:
        super().__init__()
        self._collected = MetricsData([])

    def read_metrics(self) -> Iterator[SdkMetric]:
        self._collected = MetricsData([])
        self.collect(timeout_millis=math.inf)
        for resource in self._collected.resource_metrics:
            for scope in resource.scope_metrics:
                yield from scope.metrics

    def _receive_metrics(
        self,
        metrics_data: MetricsData,
        timeout_millis: float = math.inf,  # noqa: ARG002 - the SDK's signature
        **_: object,
    ) -> None:
        self._collected = metrics_data

    def shutdown(self, timeout_millis: float = math.inf, **_: object) -> None:
        """Do nothing: there is no thread to end."""


def _accepts(row: Metric[Any], point: Any) -> bool:  # noqa: ANN401 - any of the SDK's points
    return row.accepts(point.value, point.attributes or {})


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000) * 1_000_000
