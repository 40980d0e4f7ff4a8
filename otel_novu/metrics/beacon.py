"""The beacon's table: what leaves always, whatever the telemetry flag says."""

from collections.abc import Callable
from dataclasses import dataclass

from otel_novu.metrics.metric import FLAG, ONE, SECONDS, Attribute, Instrument, Metric, Point, Text

SCOPE = "otel_novu.beacon"

_PSEUDONYM = "[0-9a-f]{32}"
_IPV4 = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"
_HASHED = "`OTEL_NOVU_ANONYMIZE=true` sends a keyed hash in its place"
_ALIKE = "no: it is alike on very many machines"

HOST_LABELS = {
    "host.name": Attribute(
        Text(".{1,255}", "1 to 255 printable characters"),
        source="`gethostname()`, as Novu's `os.hostname()`; nothing is resolved",
        identifies=f"yes: it names the machine, and may name whose it is; {_HASHED}",
    ),
    "novu.host.ip": Attribute(
        Text(f"{_IPV4}|{_PSEUDONYM}", "an IPv4 address, or 32 hexadecimal digits"),
        source="first external IPv4 address of eth0, else of en0, else of the default route",
        identifies="yes: it tells the machine from others of its network, and where the address is "
        f"a public one, from all others; {_HASHED}",
    ),
    "os.type": Attribute(
        Text("[a-z0-9]{1,32}", "one of OpenTelemetry's words, such as `linux`"),
        source="Python's `sys.platform`",
        identifies=_ALIKE,
    ),
    "os.version": Attribute(
        Text(".{1,255}", "1 to 255 printable characters"),
        source="the kernel's release",
        identifies="no, unless somebody built a kernel of his own and named it",
    ),
}


@dataclass(frozen=True, slots=True)
class Host:
    """The machine (or container) that the exporter runs on, read once.

    Args:
        memory_free: memory that can be had without swapping, bytes; None where it can't be read.
        memory_total: physical memory, bytes; None where it can't be read.
        name: the host name.
        ip: an IPv4 address, or None where none was found.
        os_type: OpenTelemetry's value of ``os.type``: ``linux``, ``darwin``, ``windows``, ...
        os_version: the kernel's release.
    """

    memory_free: int | None
    memory_total: int | None
    name: str
    ip: str | None
    os_type: str
    os_version: str


@dataclass(frozen=True, slots=True)
class DeliveryCounts:
    """How delivery fares, counted since the process began.

    Args:
        waiting: reports in the spool now.
        dropped: reports given up: too old, too many, damaged, refused for good.
        rejected: data points that a receiver said it rejected.
        kept_in: data points that did not fit the tables and were not sent.
    """

    waiting: int
    dropped: int
    rejected: int
    kept_in: int


@dataclass(frozen=True, slots=True)
class BeaconReading:
    """What one beacon says.

    Args:
        timestamp: Unix time of the reading, seconds.
        host: the machine.
        usage_enabled: the telemetry flag.
        delivery: how delivery fares, or None where an application's own exporter delivers.
    """

    timestamp: float
    host: Host
    usage_enabled: bool
    delivery: DeliveryCounts | None = None


def _known(value: int | None) -> list[Point]:
    return [] if value is None else [Point(value)]


def _host_info(host: Host) -> Point:
    attributes = {"host.name": host.name, "os.type": host.os_type, "os.version": host.os_version}
    if host.ip is not None:
        attributes["novu.host.ip"] = host.ip
    return Point(1, attributes)


def _counted(beacon: BeaconReading, count: Callable[[DeliveryCounts], int]) -> list[Point]:
    return [] if beacon.delivery is None else [Point(count(beacon.delivery))]


BEACON: tuple[Metric[BeaconReading], ...] = (
    Metric(
        name="novu.host.memory.free",
        instrument=Instrument.GAUGE,
        unit="By",
        description="Memory available to new work without swapping, on the exporter's host.",
        read=lambda beacon: _known(beacon.host.memory_free),
        source="psutil `virtual_memory().available`; Novu's `os.freemem()`",
        field="freeMemory",
        identifies="no: it changes from moment to moment",
    ),
    Metric(
        name="novu.host.memory.total",
        instrument=Instrument.GAUGE,
        unit="By",
        description="Physical memory of the exporter's host.",
        read=lambda beacon: _known(beacon.host.memory_total),
        source="psutil `virtual_memory().total`; Novu's `os.totalmem()`",
        field="totalMemory",
        identifies="hardly: it is alike on machines of one make and kernel, and no two need differ",
    ),
    Metric(
        name="novu.host.info",
        instrument=Instrument.GAUGE,
        unit="",
        description="The exporter's host, as labels; the value is always 1.",
        read=lambda beacon: [_host_info(beacon.host)],
        source="host name, first external IPv4 of eth0, en0 or the default route, kernel",
        attributes=HOST_LABELS,
        field="hostname, ipAddress, platform, release",
        shape=ONE,
        identifies="no: it is always 1; its labels are told below",
    ),
    Metric(
        name="novu.beacon.timestamp",
        instrument=Instrument.GAUGE,
        unit="s",
        description="Unix time at which this beacon was read.",
        read=lambda beacon: [Point(beacon.timestamp)],
        source="the host's clock",
        field="timestamp",
        shape=SECONDS,
        identifies="no: it tells when, and whose clock is wrong",
    ),
    Metric(
        name="novu.usage.enabled",
        instrument=Instrument.GAUGE,
        unit="",
        description="The telemetry flag: 1 while usage figures are sent, 0 while they are not.",
        read=lambda beacon: [Point(int(beacon.usage_enabled))],
        source="`NOVU_TELEMETRY`, else the admin setting, else on",
        shape=FLAG,
        identifies="no: it is 0 or 1",
    ),
    Metric(
        name="novu.spool.reports",
        instrument=Instrument.UP_DOWN_COUNTER,
        unit="{report}",
        description="Reports that wait for delivery.",
        read=lambda beacon: _counted(beacon, lambda delivery: delivery.waiting),
        source="the spool in the state directory",
        identifies="no: it counts reports of ours",
    ),
    Metric(
        name="novu.spool.dropped",
        instrument=Instrument.COUNTER,
        unit="{report}",
        description="Reports given up: too old, too many, damaged, or refused for good.",
        read=lambda beacon: _counted(beacon, lambda delivery: delivery.dropped),
        source="counted by the exporter",
        identifies="no: it counts reports of ours",
    ),
    Metric(
        name="novu.spool.rejected",
        instrument=Instrument.COUNTER,
        unit="{data_point}",
        description="Data points that a receiver said it rejected.",
        read=lambda beacon: _counted(beacon, lambda delivery: delivery.rejected),
        source="OTLP's partial success",
        identifies="no: it counts data points of ours",
    ),
    Metric(
        name="novu.schema.dropped",
        instrument=Instrument.COUNTER,
        unit="{data_point}",
        description="Data points that fitted no row of the tables and were not sent.",
        read=lambda beacon: _counted(beacon, lambda delivery: delivery.kept_in),
        source="counted by the exporter",
        identifies="no: it counts data points of ours",
    ),
)
