"""A day of ten thousand instances' beacons into one real collector, compressed into minutes."""

import asyncio
import random
import re
import struct
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import stack
from addresses import Addresses
from installed import Installed
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from processes import cpu_of_family, seconds_of
from relay import relay
from rows import AtMost, Row, alone, apart, beside
from samples import Samples, once

from otel_novu.schedule import phase

HOURS_BETWEEN_EVEN = 6
PROMETHEUS_WAIT = 30.0

_QUEUE = re.compile(r"^otelcol_exporter_queue_size\{.*?\} (\S+)", re.MULTILINE)
_LOST = re.compile(
    r"^otelcol_(?:receiver_refused|receiver_failed|exporter_enqueue_failed|exporter_send_failed)"
    r"_metric_points\S* (\S+)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Beacon:
    """One real beacon as it goes over the wire, to be sent in the name of any instance.

    Args:
        request: the whole HTTP request.
        instance: the id in it.
        time: the reading's time in it, nanoseconds.
    """

    request: bytes
    instance: bytes
    time: bytes

    @classmethod
    def of(cls, program: Installed, at: Addresses) -> "Beacon":
        """Let the exporter send one, and keep it."""
        with relay(at.otlp_http) as line:
            variables = at.through(line.own_port)
            seconds_of([program.exporter, "once"], {**variables, "NOVU_TELEMETRY": "false"})
            request = line.exchanges[0].head
        body = ExportMetricsServiceRequest.FromString(request.partition(b"\r\n\r\n")[2])
        resource = body.resource_metrics[0].resource
        named = {each.key: each.value.string_value for each in resource.attributes}
        first = body.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points[0]
        instance = named["service.instance.id"].encode()
        return cls(request, instance, struct.pack("<Q", first.time_unix_nano))

    def of_now(self, instance: uuid.UUID) -> bytes:
        """The request of another instance, read now."""
        now = struct.pack("<Q", time.time_ns())
        return self.request.replace(self.instance, str(instance).encode()).replace(self.time, now)


@dataclass
class Hour:
    """What one compressed hour took.

    Args:
        cpu: of the collector, seconds.
        queue: the most reports that waited for Prometheus.
        busiest: the most reports that were sent in a second.
        outcomes: how many were taken, and how others ended.
        slowest: the longest that one waited for its answer, seconds.
    """

    cpu: float = 0.0
    queue: float = 0.0
    busiest: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0


@dataclass
class Fleet:
    """Ten thousand instances and one collector.

    Args:
        collector: a private one.
        figures_port: where it shows its own figures.
        prometheus: where it writes to.
        instances: the fleet.
        beacon: what they send.
        seconds: that an hour is compressed into.
    """

    collector: stack.Collector
    figures_port: int
    prometheus: stack.Prometheus
    instances: Sequence[uuid.UUID]
    beacon: Beacon
    seconds: float

    def by_phase(self) -> Hour:
        """An hour in which each reports at the minute that its id gives it."""
        times = (phase(instance, self.seconds) for instance in self.instances)
        return self._hour(sorted(zip(times, self.instances, strict=True)))

    def evenly(self) -> Hour:
        """An hour in which they report at equal distances."""
        step = self.seconds / len(self.instances)
        return self._hour([(n * step, each) for n, each in enumerate(self.instances)])

    def _hour(self, due: Iterable[tuple[float, uuid.UUID]]) -> Hour:
        return asyncio.run(self._report(due))

    async def _report(self, due: Iterable[tuple[float, uuid.UUID]]) -> Hour:
        hour = Hour()
        pids = [process.pid for process in self.collector.processes]
        before, began = cpu_of_family(pids), time.monotonic()
        watching = asyncio.create_task(self._watch(hour))
        seconds: Counter[int] = Counter()
        under_way = set()
        for at, instance in due:
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            seconds[int(at)] += 1
            under_way.add(asyncio.create_task(self._send(instance, hour)))
            under_way = {task for task in under_way if not task.done()}
        await asyncio.gather(*under_way)
        await asyncio.sleep(max(0.0, began + self.seconds - time.monotonic()))
        watching.cancel()
        hour.cpu = cpu_of_family(pids) - before
        hour.busiest = max(seconds.values())
        return hour

    async def _send(self, instance: uuid.UUID, hour: Hour) -> None:
        began = time.monotonic()
        hour.outcomes[await self._outcome(instance)] += 1
        hour.slowest = max(hour.slowest, time.monotonic() - began)

    async def _outcome(self, instance: uuid.UUID) -> str:
        """Send one beacon over a connection of its own, as each instance does."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.collector.http_port)
            writer.write(self.beacon.of_now(instance))
            answer = await reader.read()
            writer.close()
        except OSError as error:
            return type(error).__name__
        return _judged(answer)

    async def _watch(self, hour: Hour) -> None:
        while True:
            figures = await asyncio.to_thread(self.figures)
            sizes = [float(size) for size in _QUEUE.findall(figures)]
            hour.queue = max(hour.queue, *sizes, 0.0)
            await asyncio.sleep(0.5)

    def figures(self) -> str:
        """What the collector tells of itself."""
        url = f"http://127.0.0.1:{self.figures_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())


def _judged(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.partition(b"\r\n")[0].decode(errors="replace")
    if not status.startswith("HTTP/1.1 200"):
        return status or "no answer"
    rejected = ExportMetricsServiceResponse.FromString(body).partial_success.rejected_data_points
    return "rejected in part" if rejected else "taken"


def a_day(
    program: Installed, at: Addresses, instances: int, hours: int, seconds: float
) -> list[Row]:
    """Send so many compressed hours, one in six of them evenly, and tell what it took."""
    with _servers() as (collector, figures_port, prometheus):
        fleet = Fleet(
            collector, figures_port, prometheus, _ids(instances), Beacon.of(program, at), seconds
        )
        by_phase: list[Hour] = []
        even: list[Hour] = []
        for hour in range(hours):
            by_phase.append(fleet.by_phase())
            if hour % HOURS_BETWEEN_EVEN == 0:
                even.append(fleet.evenly())
        return _rows(fleet, by_phase, even, _missing(fleet))


def _ids(count: int) -> list[uuid.UUID]:
    dice = random.Random(8)  # noqa: S311 - the same fleet each time
    return [uuid.UUID(int=dice.getrandbits(128), version=4) for _ in range(count)]


@contextmanager
def _servers() -> Iterator[tuple[stack.Collector, int, stack.Prometheus]]:
    port = stack.free_port()
    with stack.Prometheus() as prometheus:
        variables = {
            "OTEL_NOVU_REMOTE_WRITE_ENDPOINT": prometheus.remote_write,
            "OTEL_NOVU_COLLECTOR_METRICS_PORT": str(port),
        }
        with stack.Collector(stack.COLLECTOR_CONFIG, variables) as collector:
            yield collector, port, prometheus


def _missing(fleet: Fleet) -> int:
    """Instances that Prometheus does not know in the end."""
    query = "count(last_over_time(novu_beacon_timestamp_seconds[1h]))"

    def known() -> int:
        found = fleet.prometheus.query(query)
        return int(found[0]["value"][1]) if found else 0

    stack.poll(lambda: known() == len(fleet.instances), PROMETHEUS_WAIT)
    return len(fleet.instances) - known()


def _rows(fleet: Fleet, day: list[Hour], even: list[Hour], missing: int) -> list[Row]:
    of_even = "an ideal even stream"
    nothing = (AtMost(0, of_ratio=False),)
    cpu, even_cpu = (Samples(tuple(hour.cpu for hour in hours)) for hours in (day, even))
    busiest = Samples(tuple(float(hour.busiest) for hour in day))
    ideal = once(len(fleet.instances) / fleet.seconds)
    outcomes = sum((hour.outcomes for hour in [*day, *even]), Counter[str]())
    lost = sum(float(number) for number in _LOST.findall(fleet.figures()))
    sent = f"{len(fleet.instances):,} instances, {len(day)} hours in {fleet.seconds:g} s each"
    return [
        apart(
            "fleet.cpu",
            f"fleet of {sent}: collector's CPU an hour",
            cpu,
            even_cpu,
            unit="s",
            against=of_even,
        ),
        apart(
            "fleet.busiest",
            "fleet: beacons in an hour's busiest second",
            busiest,
            ideal,
            unit="",
            against=of_even,
        ),
        beside(
            "fleet.queue",
            "fleet: most reports that waited in the collector for Prometheus",
            Samples(tuple(hour.queue for hour in day)),
            Samples(tuple(hour.queue for hour in even)),
            unit="",
            against=of_even,
        ),
        beside(
            "fleet.slowest",
            "fleet: slowest answer of the collector in an hour",
            Samples(tuple(hour.slowest for hour in day)),
            Samples(tuple(hour.slowest for hour in even)),
            unit="ms",
            against=of_even,
        ),
        alone(
            "fleet.refused",
            "fleet: beacons that were not taken",
            once(outcomes.total() - outcomes["taken"]),
            unit="",
            goals=nothing,
            note=_told(outcomes),
        ),
        alone(
            "fleet.lost",
            "fleet: points that the collector refused or lost",
            once(lost),
            unit="",
            goals=nothing,
        ),
        alone(
            "fleet.missing",
            "fleet: instances that Prometheus does not know",
            once(missing),
            unit="",
            goals=nothing,
        ),
    ]


def _told(outcomes: Counter[str]) -> str:
    return ", ".join(f"{number:,} {outcome}" for outcome, number in outcomes.most_common()) + "."
