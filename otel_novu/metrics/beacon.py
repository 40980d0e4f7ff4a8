"""The beacon scope: metrics that are always sent."""

from collections.abc import Callable
from dataclasses import dataclass

from otel_novu.metrics.metric import FLAG, ONE, SECONDS, Attribute, Instrument, Metric, Point, Text

SCOPE = "otel_novu.beacon"

_IPV4_OR_HASH = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}|[0-9a-f]{32}"
_HASHED = "`OTEL_NOVU_ANONYMIZE=true` sends a keyed hash instead"
_OUR_REPORTS = "no: it counts reports of this exporter"
_OUR_POINTS = "no: it counts data points of this exporter"

HOST_LABELS = {
    "host.name": Attribute(
        Text(".{1,255}", "1 to 255 printable characters"),
        source="`gethostname()`, as Novu's `os.hostname()`; no name is resolved",
        identifies=f"yes: it names the machine, and perhaps its owner; {_HASHED}",
    ),
    "novu.host.ip": Attribute(
        Text(_IPV4_OR_HASH, "an IPv4 address, or 32 hexadecimal digits"),
        source="first external IPv4 address of eth0, else of en0, else of the default route",
        identifies=f"yes: the machine within its network, a public address everywhere; {_HASHED}",
    ),
    "os.type": Attribute(
        Text("[a-z0-9]{1,32}", "a value of OpenTelemetry's `os.type`, such as `linux`"),
        source="Python's `sys.platform`",
        identifies="no: very many machines have the same",
    ),
    "os.version": Attribute(
        Text(".{1,255}", "1 to 255 printable characters"),
        source="the kernel's release",
        identifies="no, except for a kernel that somebody built and named",
    ),
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


def _host_info(host: Host) -> Point:
    attributes = {"host.name": host.name, "os.type": host.os_type, "os.version": host.os_version}
    if host.ip is not None:
        attributes["novu.host.ip"] = host.ip
    return Point(1, attributes)


def _delivery(count: Callable[[DeliveryCounts], int]) -> Callable[[BeaconReading], list[Point]]:
    return lambda beacon: [] if beacon.delivery is None else [Point(count(beacon.delivery))]


# fmt: off
BEACON: tuple[Metric[BeaconReading], ...] = (
    Metric("novu.host.memory.free", Instrument.GAUGE, "By",
           "Memory available to new work without swapping, on the exporter's host.",
           lambda beacon: _known(beacon.host.memory_free),
           source="psutil `virtual_memory().available`; Novu's `os.freemem()`",
           field="freeMemory", identifies="no: it changes all the time"),
    Metric("novu.host.memory.total", Instrument.GAUGE, "By",
           "Physical memory of the exporter's host.",
           lambda beacon: _known(beacon.host.memory_total),
           source="psutil `virtual_memory().total`; Novu's `os.totalmem()`",
           field="totalMemory",
           identifies="hardly: machines of the same model and kernel have the same"),
    Metric("novu.host.info", Instrument.GAUGE, "",
           "The exporter's host, as labels; the value is always 1.",
           lambda beacon: [_host_info(beacon.host)],
           source="host name, first external IPv4 of eth0, en0 or the default route, kernel",
           attributes=HOST_LABELS, field="hostname, ipAddress, platform, release",
           shape=ONE, identifies="no: it is always 1; see its labels below"),
    Metric("novu.beacon.timestamp", Instrument.GAUGE, "s",
           "Unix time at which this beacon was read.",
           lambda beacon: [Point(beacon.timestamp)],
           source="the host's clock", field="timestamp",
           shape=SECONDS, identifies="no: it is a time"),
    Metric("novu.usage.enabled", Instrument.GAUGE, "",
           "The telemetry flag: 1 while usage figures are sent, 0 while they are not.",
           lambda beacon: [Point(int(beacon.usage_enabled))],
           source="`NOVU_TELEMETRY`, else the admin setting, else on",
           shape=FLAG, identifies="no: it is 0 or 1"),
    Metric("novu.spool.reports", Instrument.UP_DOWN_COUNTER, "{report}",
           "Reports that wait for delivery.",
           _delivery(lambda delivery: delivery.waiting),
           source="the spool in the state directory", identifies=_OUR_REPORTS),
    Metric("novu.spool.dropped", Instrument.COUNTER, "{report}",
           "Reports given up: too old, too many, damaged, or refused for good.",
           _delivery(lambda delivery: delivery.dropped),
           source="counted by the exporter", identifies=_OUR_REPORTS),
    Metric("novu.spool.rejected", Instrument.COUNTER, "{data_point}",
           "Data points that a receiver said it rejected.",
           _delivery(lambda delivery: delivery.rejected),
           source="OTLP's partial success", identifies=_OUR_POINTS),
    Metric("novu.schema.dropped", Instrument.COUNTER, "{data_point}",
           "Data points that fitted no row of the tables and were not sent.",
           _delivery(lambda delivery: delivery.schema_dropped),
           source="counted by the exporter", identifies=_OUR_POINTS),
)
# fmt: on
