"""The beacon scope: metrics that are always sent."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from otel_novu.metrics.metric import Instrument, Metric, Point

SCOPE = "otel_novu.beacon"

_HOST_LABELS = {
    "host.name": re.compile(".{1,255}"),
    "novu.host.ip": re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}|[0-9a-f]{32}"),  # or its hash
    "os.type": re.compile("[a-z0-9]{1,32}"),
    "os.version": re.compile(".{1,255}"),
}


@dataclass(frozen=True, slots=True)
class Host:
    """The machine or container that the exporter runs on; what can't be read is None."""

    memory_free: int | None  # bytes that are available without swapping
    memory_total: int | None  # bytes
    name: str
    ip: str | None
    os_type: str  # OpenTelemetry's `os.type`: `linux`, `darwin`, `windows`, ...
    os_version: str  # the kernel's release


@dataclass(frozen=True, slots=True)
class DeliveryCounts:
    """The state of delivery; all but `waiting` count from the start of the process."""

    waiting: int  # reports that are not delivered yet
    dropped: int  # reports given up: too old, too many, rejected for good
    rejected: int  # data points that a receiver rejected
    schema_dropped: int  # data points that are not in the schema and were not sent


@dataclass(frozen=True, slots=True)
class BeaconReading:
    """The content of one beacon; its timestamp is Unix time in seconds."""

    timestamp: float
    host: Host
    usage_enabled: bool
    delivery: DeliveryCounts | None = None  # None: an application's own exporter delivers


def _known(value: int | None) -> list[Point]:
    return [] if value is None else [Point(value)]


def _host_info(beacon: BeaconReading) -> list[Point]:
    host = beacon.host
    labels = {"host.name": host.name, "os.type": host.os_type, "os.version": host.os_version}
    if host.ip is not None:
        labels["novu.host.ip"] = host.ip
    return [Point(1, labels)]


def _delivery(count: Callable[[DeliveryCounts], int]) -> Callable[[BeaconReading], list[Point]]:
    return lambda beacon: [] if beacon.delivery is None else [Point(count(beacon.delivery))]


# fmt: off
BEACON: tuple[Metric[BeaconReading], ...] = (
    Metric("novu.host.memory.free", Instrument.GAUGE, "By",
           "Memory available to new work without swapping, on the exporter's host.",
           lambda beacon: _known(beacon.host.memory_free),
           "`MemAvailable` in `/proc/meminfo`, else psutil; Novu's `os.freemem()`",
           field="freeMemory"),
    Metric("novu.host.memory.total", Instrument.GAUGE, "By",
           "Physical memory of the exporter's host.",
           lambda beacon: _known(beacon.host.memory_total),
           "`MemTotal` in `/proc/meminfo`, else psutil; Novu's `os.totalmem()`",
           field="totalMemory"),
    Metric("novu.host.info", Instrument.GAUGE, "",
           "The exporter's host, as labels; the value is always 1.", _host_info,
           "host name, first external IPv4 of eth0, en0 or the default route, kernel",
           _HOST_LABELS, "hostname, ipAddress, platform, release", least=1, most=1),
    Metric("novu.beacon.timestamp", Instrument.GAUGE, "s",
           "Unix time at which this beacon was read.",
           lambda beacon: [Point(beacon.timestamp)], "the host's clock", field="timestamp"),
    Metric("novu.usage.enabled", Instrument.GAUGE, "",
           "The telemetry flag: 1 while usage figures are sent, 0 while they are not.",
           lambda beacon: [Point(int(beacon.usage_enabled))],
           "`NOVU_TELEMETRY`, else the admin setting, else on", most=1),
    Metric("novu.spool.size", Instrument.UP_DOWN_COUNTER, "{report}",
           "Reports that wait for delivery.",
           _delivery(lambda delivery: delivery.waiting), "the spool in the state directory"),
    Metric("novu.spool.dropped", Instrument.COUNTER, "{report}",
           "Reports given up: too old, too many, damaged, or refused for good.",
           _delivery(lambda delivery: delivery.dropped), "counted by the exporter"),
    Metric("novu.spool.rejected", Instrument.COUNTER, "{data_point}",
           "Data points that a receiver said it rejected.",
           _delivery(lambda delivery: delivery.rejected), "OTLP's partial success"),
    Metric("novu.schema.dropped", Instrument.COUNTER, "{data_point}",
           "Data points that fitted no row of the tables and were not sent.",
           _delivery(lambda delivery: delivery.schema_dropped), "counted by the exporter"),
)
# fmt: on
