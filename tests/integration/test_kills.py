"""Two hundred kills at random moments of busy runs: what was kept arrives, counters are exact."""

import json
import random
import socket
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import otlp_reports
import pytest
from bson import ObjectId
from faults import BOUND, reading_times, spooled
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from pymongo import MongoClient
from pymongo.database import Database
from receivers import HttpSink, answer
from servers import ExporterRunner, RunningExporter, eventually

from otel_novu.state import last_report
from otel_novu.state.directory import StateDirectory

KILLS = 200
METERS = ("beacon", "usage")
EVENTS = "event.created"

Read = tuple[str, float]


class Flaky:
    """Takes about half of the reports, until it is told to take all."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.sound = False

    def __call__(self, connection: socket.socket, ended: Event) -> None:
        status = 200 if self.sound or self._dice.random() < 0.5 else 503
        if not self.sound and self._dice.random() < 0.1:
            ended.wait(0.5)
        answer(status)(connection, ended)


@dataclass
class Victim:
    """An exporter that is started and killed again and again, and what it had read by then."""

    exporter: ExporterRunner
    state: Path
    sink: HttpSink
    flaky: Flaky
    env: Mapping[str, str]
    read: set[Read] = field(default_factory=set)
    running: RunningExporter | None = None

    def start(self) -> None:
        self.running = self.exporter.start("run", env=self.env)

    def kill(self) -> None:
        """End it without a warning, and look at what it leaves."""
        assert self.running is not None
        assert self.running.running, self.running.stderr
        self.running.kill()
        self.read |= {(meter, at) for meter in METERS for at in spooled(self.state, meter)}
        self._check_that_state_is_whole()

    def end(self) -> list[str]:
        """End it as one should; its log."""
        assert self.running is not None
        assert self.running.terminate(BOUND) == 0
        return self.running.stderr

    @property
    def counted_until(self) -> int:
        """The second up to which events are counted, and that on disk."""
        try:
            document = json.loads((self.state / "created.json").read_text())
        except FileNotFoundError:
            return 0
        return int(document["figures"][EVENTS]["until"])

    def told_last(self) -> float:
        """The count of events in the report of them that came last."""
        requests = reversed(self.sink.requests[-20:])
        reports = [ExportMetricsServiceRequest.FromString(each.body) for each in requests]
        points = otlp_reports.points(*reports)
        return next((p.value for p in points if p.name == f"novu.{EVENTS}"), 0)

    def arrived(self) -> Mapping[Read, set[bytes]]:
        """The bodies that came, by what they are reports of."""
        found: dict[Read, set[bytes]] = defaultdict(set)
        for request in self.sink.requests:
            report = ExportMetricsServiceRequest.FromString(request.body)
            for meter in METERS:
                for at in reading_times([report], meter):
                    found[meter, at].add(request.body)
        return found

    def _check_that_state_is_whole(self) -> None:
        with StateDirectory.look(self.state) as state:
            for meter in METERS:
                last_report.load(state, meter)
        assert self.counted_until >= 0
        assert not (self.state / "spool-set-aside").exists()


@dataclass
class Writer:
    """Inserts events with ids of now, until it is stopped."""

    url: str
    inserted: int = 0
    _stop: Event = field(default_factory=Event)

    @contextmanager
    def writing(self) -> Iterator["Writer"]:
        threads = [Thread(target=self._write, args=(number,), daemon=True) for number in range(2)]
        for thread in threads:
            thread.start()
        yield self
        self._stop.set()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive()

    def _write(self, _: int) -> None:
        with MongoClient[dict[str, Any]](self.url) as client:
            events = client.get_default_database()["notifications"]
            count = 0
            while not self._stop.wait(0.05):
                events.insert_one({"_id": ObjectId()})
                count += 1
        self.inserted += count


@pytest.fixture
def victims(tmp_path: Path, mongo_url: str, dice: random.Random) -> Iterator[list[Victim]]:
    """Two at a time, each with a state and a receiver of its own, as there are two processors."""
    with ExitStack() as stack:
        found = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            flaky = Flaky(dice)
            sink = stack.enter_context(HttpSink(flaky))
            exporter = ExporterRunner(folder)
            stack.callback(exporter.close)
            env = {
                "MONGO_URL": mongo_url,
                "OTEL_NOVU_STATE_DIR": str(folder / "state"),
                "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
                "OTEL_METRIC_EXPORT_INTERVAL": "300",
            }
            found.append(Victim(exporter, folder / "state", sink, flaky, env))
        yield found


@pytest.fixture
def dice() -> random.Random:
    seed = random.randrange(2**32)  # noqa: S311 - moments of a test
    print(f"seed {seed}")  # noqa: T201 - to try a failure again
    return random.Random(seed)  # noqa: S311 - as above


def start_to_watch(victims: list[Victim]) -> None:
    """Let both begin to count, and wait for the second from which on they do."""
    for victim in victims:
        victim.start()
    for victim in victims:
        began = eventually(lambda v=victim: v.counted_until)  # type: ignore[misc]
        time.sleep(max(0.0, began - time.time()))


def kill_and_start_again(victims: list[Victim], dice: random.Random) -> None:
    for victim in victims:
        assert victim.running is not None
        victim.running.wait_for("reports to")
    moments = sorted((dice.uniform(0, 1.5), number) for number in range(len(victims)))
    began = time.monotonic()
    for moment, number in moments:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        victims[number].kill()
        victims[number].start()


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_what_was_kept_at_any_of_200_kills_arrives_and_the_created_counters_end_exact(
    victims: list[Victim], database: Database[dict[str, Any]], mongo_url: str, dice: random.Random
) -> None:
    database["users"].insert_one({})  # without any collection it would not be Novu's
    start_to_watch(victims)
    writer = Writer(mongo_url)
    with writer.writing():
        for _ in range(KILLS // len(victims)):
            kill_and_start_again(victims, dice)
    for victim in victims:
        victim.flaky.sound = True
    last = time.time()
    for victim in victims:
        eventually(lambda v=victim: v.counted_until, lambda until: until > last, 600)  # type: ignore[misc]
        eventually(victim.told_last, lambda told, w=writer: told >= w.inserted)  # type: ignore[misc]
        victim.end()
        check(victim, writer.inserted)


def check(victim: Victim, inserted: int) -> None:
    arrived = victim.arrived()
    assert victim.read
    assert victim.read - arrived.keys() == set()
    # What left twice left the same, byte for byte.
    assert [read for read, bodies in arrived.items() if len(bodies) > 1] == []
    points = otlp_reports.points(*victim.sink.reports)
    created = {point.time: point for point in points if point.name == f"novu.{EVENTS}"}
    values = [created[at].value for at in sorted(created)]
    assert values == sorted(values)
    assert values[-1] == inserted > 0
    # A watch begins with a whole second: what is read in the one before it begins at its reading.
    assert len({point.start for point in created.values() if point.start < point.time}) == 1
