"""Turns a reading into the bytes of one OTLP request, with OpenTelemetry's SDK."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic
from uuid import UUID

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.metrics import CallbackOptions, CallbackT, Meter, Observation
from opentelemetry.sdk import resources
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider, export
from opentelemetry.sdk.resources import Resource
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
        self._scope, self._rows = scope, {row.name: row for row in rows}
        self._resource, self._started = resource, started
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
        self._reader.collect(timeout_millis=math.inf)
        metrics: list[export.Metric] = []
        dropped = sum(len([*row.read(reading)]) for row in self._rows.values())
        for metric in self._reader.take():
            if row := self._rows.get(metric.name):
                data = self._data(row, metric.data.data_points, reading, read_at)
                dropped -= len(data.data_points)
                metrics.append(export.Metric(row.name, row.description, row.unit, data))
        if not metrics:
            return Built(None, dropped)
        # Resource and scope are ours, whatever an SDK plug-in adds to what it collects.
        scope = InstrumentationScope(self._scope, __version__, "")
        scopes = [export.ScopeMetrics(scope, metrics, "")]
        collected = export.MetricsData([export.ResourceMetrics(self._resource, scopes, "")])
        return Built(encode_metrics(collected).SerializeToString(), dropped)

    def close(self) -> None:
        """Shut the provider down: no instrument is left."""
        self._provider.shutdown()

    def _data(
        self, row: Metric[Reading], points: Sequence[Any], reading: Reading, read_at: float
    ) -> export.Gauge | export.Sum:
        # The SDK stamps points with its own clock, and sums with the first sight of a series.
        times: dict[str, Any] = {"time_unix_nano": _nanoseconds(read_at), "exemplars": ()}
        if row.instrument is Instrument.GAUGE:
            return export.Gauge([replace(point, **times) for point in points])
        since = row.since(reading) if row.since else None
        began = self._started if since is None else since
        times["start_time_unix_nano"] = _nanoseconds(min(began, read_at))
        stamped = [replace(point, **times) for point in points]
        grows = row.instrument is Instrument.COUNTER
        return export.Sum(stamped, export.AggregationTemporality.CUMULATIVE, grows)


def register(
    meter: Meter, rows: Iterable[Metric[Reading]], current: Callable[[], Reading | None]
) -> None:
    """Create one observable instrument for each row: the current reading, as far as it is valid.

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
        valid = [point for point in points if row.accepts(point.value, point.attributes)]
        return [Observation(point.value, dict(point.attributes)) for point in valid]

    return observe


def make_resource(service_name: str, instance: UUID, attributes: Mapping[str, str]) -> Resource:
    """Make the resource: service, instance, SDK, distribution, and the operator's attributes.

    `Resource.create` is not used: its detectors add what must not be sent.
    """
    ours = {
        resources.SERVICE_NAME: service_name,
        resources.SERVICE_INSTANCE_ID: str(instance),
        resources.TELEMETRY_SDK_LANGUAGE: "python",
        resources.TELEMETRY_SDK_NAME: "opentelemetry",
        resources.TELEMETRY_SDK_VERSION: sdk_version,
        "telemetry.distro.name": "otel-novu",
        "telemetry.distro.version": __version__,
    }
    return Resource({**attributes, **ours})


class _Reader(export.MetricReader):
    """Collects when asked; the SDK's own readers have a clock and a deadline."""

    _collected: Sequence[export.ResourceMetrics] = ()

    def take(self) -> list[export.Metric]:
        found, self._collected = self._collected, ()
        scopes = [scope for resource in found for scope in resource.scope_metrics]
        return [metric for scope in scopes for metric in scope.metrics]

    def _receive_metrics(self, metrics_data: export.MetricsData, *_: object, **__: object) -> None:
        self._collected = metrics_data.resource_metrics

    def shutdown(self, *_: object, **__: object) -> None:
        """Do nothing: there is no thread to end."""


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000) * 1_000_000
