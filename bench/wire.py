"""What a day of reports puts on the wire, and what it asks of the database."""

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

import stack
from addresses import Addresses
from installed import Installed
from processes import HERE, cpu_of_family
from relay import Exchange, relay
from rows import AtMost, Row
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
            "wire.plain", "bytes to and from the collector a day, as by default", plain
        ),
        _to_the_collector("wire.gzip", "the same with OTEL_EXPORTER_OTLP_COMPRESSION=gzip", small),
        Row("wire.mongo", "bytes to and from the database a day", plain.mongo, "kB"),
        Row("database.connections", "connections to the database a round", plain.connections, ""),
        Row(
            "database.time",
            "time of a day in which the database answers, all commands added up",
            plain.answering,
            "ms",
        ),
        Row("database.cpu", "CPU of the database's processes for a day", plain.cpu, "ms"),
    ]


@dataclass(frozen=True, slots=True)
class _Day:
    """What a day took, and the bytes of its bodies."""

    otlp: Samples
    bodies: int
    mongo: Samples
    connections: Samples
    answering: Samples
    cpu: Samples


def _to_the_collector(key: str, measure: str, day: _Day) -> Row:
    rest = day.otlp.median - day.bodies
    return Row(
        key,
        measure,
        day.otlp,
        "kB",
        goals=(AtMost(MOST_A_DAY, of_ratio=False),),
        note=f"{day.bodies / 1000:.1f} kB are bodies, {rest / 1000:.1f} kB HTTP's lines around "
        f"them; {REPORTS} reports of each table.",
    )


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
