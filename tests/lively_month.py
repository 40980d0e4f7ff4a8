"""A month in the life of a Novu, for pictures of the dashboard: lived in minutes, for real.

    export PYTHONPATH=examples/stack
    unshare --uts .venv/bin/python tests/lively_month.py --port 19191

starts a database, a collector and a Prometheus of its own, lets two exporters report hourly while
the database grows, and then waits, so that the dashboard can be drawn; Ctrl-C ends it. It needs
root. The host names of the exporters are invented, hence the namespace.
"""

import argparse
import contextlib
import signal
import socket
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import novu_data
import stack_build
from bson import ObjectId
from history import HOUR, Novu, Reporter
from pymongo import MongoClient
from stack import COLLECTOR_CONFIG, PROMETHEUS_CONFIG, Collector, Database, Prometheus, build
from stack_servers import Process

DAY = 24 * HOUR
KEPT_DAYS = 12  # of events, as an operator who prunes at night
SEED, EVENTS = 7, 40_000


class LongPrometheus(Prometheus):
    """Keeps more than the 15 days of the default."""

    def spawn(self, command: Any, **more: Any) -> Process:
        """Start it with a flag more."""
        return super().spawn([*command, "--storage.tsdb.retention.time=400d"], **more)


@dataclass
class Host:
    """An exporter on a machine of its own: its name, and the minute at which it reports."""

    name: str
    minute: int
    reporter: Reporter

    def report(self, hour: float) -> None:
        """Report in that hour."""
        socket.sethostname(self.name)
        self.reporter.report(hour + self.minute * 60)


class Growth:
    """Documents of a month, each inserted when its time has come."""

    def __init__(self, novu: Novu, end: float) -> None:
        self._novu = novu
        items = novu_data.generate(SEED, EVENTS, datetime.fromtimestamp(end, UTC))
        self._items = sorted(items, key=lambda item: item[1]["_id"], reverse=True)

    def until(self, moment: float) -> None:
        """Insert what was made before a Unix time."""
        due: dict[str, list[dict[str, Any]]] = defaultdict(list)
        while self._items and _made(self._items[-1][1]) < moment:
            collection, document = self._items.pop()
            due[collection].append(document)
        for collection, documents in due.items():
            self._novu.database[collection].insert_many(documents)

    def prune(self, moment: float) -> None:
        """Delete the events that are too old."""
        oldest = datetime.fromtimestamp(moment - KEPT_DAYS * DAY, UTC)
        old = {"_id": {"$lt": ObjectId.from_datetime(oldest)}}
        self._novu.database["notifications"].delete_many(old)


def _made(document: Mapping[str, Any]) -> float:
    made: ObjectId = document["_id"]
    return made.generation_time.timestamp()


@contextlib.contextmanager
def hosts(database: Database, collector: Collector) -> Iterator[list[Host]]:
    """Two exporters beside the database."""
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        found = []
        for name, minute in (("novu-worker-1", 14), ("novu-worker-2", 41)):
            (folder / name).mkdir(mode=0o700)
            environ = {
                "MONGO_URL": database.url(),
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.otlp_http,
                "OTEL_NOVU_QUERY_TIMEOUT": "5",
            }
            reporter = opened.enter_context(Reporter(folder / name, environ))
            found.append(Host(name, minute, reporter))
        yield found


def live(database: Database, beside: list[Host], days: int, end: float) -> None:
    """Live through the hours: growth, pruning, one outage of a host and one of the database."""
    with MongoClient[dict[str, Any]](database.url()) as client:
        novu = Novu(client.get_default_database())
        for name in novu_data.COLLECTIONS:
            novu.database.create_collection(name)
        growth = Growth(novu, end)
        for hour in range(days * 24):
            begin = end - (days * 24 - hour) * HOUR
            if begin % DAY == 3 * HOUR:
                growth.prune(begin)
            for host in beside:
                growth.until(begin + host.minute * 60 - 61)
                database.analyze()
                if host is beside[1] and 18 * 24 < hour < 18 * 24 + 6:
                    continue
                with _paused(database, hour in {12 * 24 + 2, 12 * 24 + 3}):
                    host.report(begin)
            if hour % 24 == 0:
                _say(f"{datetime.fromtimestamp(begin, UTC):%Y-%m-%d}")


@contextlib.contextmanager
def _paused(database: Database, really: bool) -> Iterator[None]:  # noqa: FBT001 - that is the question
    if not really:
        yield
        return
    database.pause()
    try:
        yield
    finally:
        database.resume()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Live, then wait."""
    parser = argparse.ArgumentParser(description="A month in the life of a Novu.")
    parser.add_argument("--port", type=int, default=19191, help="of the Prometheus")
    parser.add_argument("--days", type=int, default=31)
    options = parser.parse_args()
    stack_build.need_root("living a month")
    parts, end = build(), time.time() // HOUR * HOUR
    with (
        Database(binaries=parts) as database,
        LongPrometheus(PROMETHEUS_CONFIG, binaries=parts, port=options.port) as prometheus,
        Collector(
            COLLECTOR_CONFIG,
            {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": prometheus.remote_write},
            binaries=parts,
        ) as collector,
        hosts(database, collector) as beside,
    ):
        live(database, beside, options.days, end)
        _say(f"{prometheus.address} knows the month that ended at {end:.0f}")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
