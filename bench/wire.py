"""What a day of reports puts on the wire, and what it asks of the database."""

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

import stack
from addresses import Addresses
from installed import Installed
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from processes import HERE, cpu_of_family
from relay import Exchange, relay
from rows import AtMost, Row, alone
from samples import Samples, once

REPORTS = 24
MOST_A_DAY = 100_000

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def a_day(program: Installed, database: stack.Database, at: Addresses) -> list[Row]:
    """24 hourly reports of both tables, each of a whole hour, with and without compression."""
    plain = _report(program, database, at, "none")
    small = _report(program, database, at, "gzip")
    return [
        _to_the_collector(
            "wire.plain",
            "bytes to and from the collector a day, as by default",
            plain,
            _floor(plain),
        ),
        _to_the_collector("wire.gzip", "the same with OTEL_EXPORTER_OTLP_COMPRESSION=gzip", small),
        alone("wire.mongo", "bytes to and from the database a day", plain.mongo, unit="kB"),
        alone(
            "database.connections",
            "connections to the database a round",
            plain.connections,
            unit="",
        ),
        alone(
            "database.time",
            "time of a day in which the database answers, all commands added up",
            plain.answering,
            unit="ms",
        ),
        alone("database.cpu", "CPU of the database's processes for a day", plain.cpu, unit="ms"),
    ]


@dataclass(frozen=True, slots=True)
class _Day:
    """What a day took, the bytes of its bodies, and these where they can be read."""

    otlp: Samples
    bodies: int
    requests: list[ExportMetricsServiceRequest]
    mongo: Samples
    connections: Samples
    answering: Samples
    cpu: Samples


def _to_the_collector(key: str, measure: str, day: _Day, more: str = "") -> Row:
    rest = day.otlp.median - day.bodies
    note = f"{day.bodies / 1000:.1f} kB are bodies, {rest / 1000:.1f} kB HTTP's lines around them."
    goals = (AtMost(MOST_A_DAY, of_ratio=False),)
    return alone(key, measure, day.otlp, unit="kB", goals=goals, note=f"{note} {more}".strip())


def _floor(day: _Day) -> str:
    points = sum(_points(body) for body in day.requests) / 1000
    names = sum(_names(body) for body in day.requests) / 1000
    others = day.bodies / 1000 - points - names
    return (
        f"Of the bodies {points:.1f} kB are the points that the tables promise (eight bytes for "
        f"each time and each value, and the attributes), {names:.1f} kB names, units and "
        f"descriptions, {others:.1f} kB resource, scope and protobuf's frames. Only compression "
        "makes that shorter, and where nothing is set OpenTelemetry has none."
    )


def _points(body: ExportMetricsServiceRequest) -> int:
    kinds = ((m, m.WhichOneof("data")) for m in _metrics(body))
    series = (getattr(metric, kind).data_points for metric, kind in kinds if kind)
    return sum(point.ByteSize() for points in series for point in points)


def _names(body: ExportMetricsServiceRequest) -> int:
    return sum(len(m.name) + len(m.unit) + len(m.description) for m in _metrics(body))


def _metrics(body: ExportMetricsServiceRequest) -> list[Metric]:
    scopes = (scope for resource in body.resource_metrics for scope in resource.scope_metrics)
    return [metric for scope in scopes for metric in scope.metrics]


def _report(program: Installed, database: stack.Database, at: Addresses, compression: str) -> _Day:
    pids = [process.pid for process in database.processes]
    with relay(at.otlp_http) as otlp, relay(database.address) as mongo:
        url = at.mongo_url.replace(database.address, f"127.0.0.1:{mongo.own_port}")
        variables = Addresses(url, f"127.0.0.1:{otlp.own_port}", at.otlp_grpc).variables()
        before = cpu_of_family(pids)
        answering = _answering(
            program, {**variables, "OTEL_EXPORTER_OTLP_COMPRESSION": compression}
        )
        cpu = cpu_of_family(pids) - before
    return _Day(
        otlp=once(otlp.total()),
        bodies=_bodies(otlp.exchanges),
        requests=[] if compression != "none" else _requests(otlp.exchanges),
        mongo=once(mongo.total()),
        connections=once(len(mongo.exchanges) / REPORTS),
        answering=once(answering),
        cpu=once(cpu),
    )


def _answering(program: Installed, variables: dict[str, str]) -> float:
    command = [program.python, str(HERE / "hourly.py"), str(REPORTS)]
    done = subprocess.run(command, env=variables, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _bodies(exchanges: Iterable[Exchange]) -> int:
    lengths = (_LENGTH.search(exchange.head) for exchange in exchanges)
    return sum(int(length[1]) for length in lengths if length is not None)


def _requests(exchanges: Iterable[Exchange]) -> list[ExportMetricsServiceRequest]:
    bodies = (exchange.head.partition(b"\r\n\r\n")[2] for exchange in exchanges)
    return [ExportMetricsServiceRequest.FromString(body) for body in bodies]
