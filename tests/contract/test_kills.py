"""Killed at random moments, the exporter loses nothing that it kept, and counts nothing twice."""

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

import pytest
from bson import ObjectId
from contract.case import BEACON, USAGE, Case, reading_times
from contract.clock import Clock
from faults import dice
from pymongo import MongoClient
from pymongo.database import Database
from receivers import HttpSink, answer
from servers import ExporterRunner, RunningExporter, eventually

pytestmark = [pytest.mark.contract, pytest.mark.timeout(1800)]

EVENTS = "novu.event.created"


class Flaky:
    """Accepts about half of the reports, until it is told to accept all."""

    def __init__(self, moments: random.Random) -> None:
        self._moments = moments
        self.sound = False

    def __call__(self, connection: socket.socket, ended: Event) -> None:
        if not self.sound and self._moments.random() < 0.1:
            ended.wait(0.5)
        sound = self.sound or self._moments.random() < 0.5
        answer(200 if sound else 503)(connection, ended)


@dataclass
class Victim:
    """An exporter that is killed again and again, and what it had kept by then: scope, second."""

    case: Case
    flaky: Flaky
    running: RunningExporter
    kept: set[tuple[str, int]] = field(default_factory=set)

    def kill_and_start_again(self) -> None:
        assert self.running.running, self.running.stderr
        self.running.kill()
        assert "Traceback" not in "\n".join(self.running.stderr)
        for scope in (BEACON, USAGE):
            self.kept |= {(scope, at) for at in self.case.waiting(scope)}
        self.running = self.case.exporter.start("run", env=self.case.env)

    def arrived(self) -> Mapping[tuple[str, float], set[bytes]]:
        """The bodies that came, by scope and time of the reading."""
        found: dict[tuple[str, float], set[bytes]] = defaultdict(set)
        requests: list[Any] = [*self.case.sink.requests]
        for request, report in zip(requests, self.case.sink.reports, strict=False):
            for scope in (BEACON, USAGE):
                for at in reading_times([report], scope):
                    found[scope, at].add(request.body)
        return found


@dataclass
class Writer:
    """Inserts events with ids of the clock's now."""

    url: str
    clock: Clock
    inserted: int = 0

    @contextmanager
    def writing(self) -> Iterator[None]:
        stop = Event()
        thread = Thread(target=self._write, args=(stop,), daemon=True)
        thread.start()
        yield
        stop.set()
        thread.join(120)
        assert not thread.is_alive()

    def _write(self, stop: Event) -> None:
        with MongoClient[dict[str, Any]](self.url) as client:
            events = client.get_default_database()["notifications"]
            while not stop.wait(0.05):
                second = int(self.clock.now()).to_bytes(4, "big")
                events.insert_one({"_id": ObjectId(second + ObjectId().binary[4:])})
                self.inserted += 1


@pytest.mark.parametrize("kills", [30, pytest.param(200, marks=pytest.mark.long)])
def test_what_was_kept_at_any_kill_arrives_and_the_counters_end_exact(
    kills: int, case: Case, database: Database[dict[str, Any]], mongo_url: str, tmp_path: Path
) -> None:
    database["users"].insert_one({})  # without any collection it would be no Novu's
    moments, clock = dice(), Clock(tmp_path)
    clock.step(-7200)
    case.read(mongo_url)
    case.env |= clock.environment
    writer = Writer(mongo_url, clock)
    with ExitStack() as stack:
        victims = [make_victim(stack, case, tmp_path / name, moments) for name in "abc"]
        for victim in victims:  # until the second with which its watch begins is over
            eventually(lambda v=victim: v.case.waiting(USAGE) or v.case.times(USAGE))  # type: ignore[misc]
        time.sleep(1)
        with writer.writing():
            for _ in range(kills // len(victims)):
                for victim in victims:
                    victim.running.wait_for("reports to")
                for victim in moments.sample(victims, len(victims)):
                    time.sleep(moments.uniform(0, 0.5))
                    victim.kill_and_start_again()
        clock.step(120)  # what was written is old enough to be counted now
        for victim in victims:
            victim.flaky.sound = True
            eventually(lambda v=victim: v.case.values(EVENTS)[-1] >= writer.inserted)  # type: ignore[misc]
            victim.case.stop(victim.running)
            check(victim, writer.inserted)


def make_victim(stack: ExitStack, case: Case, folder: Path, moments: random.Random) -> Victim:
    folder.mkdir()
    flaky = Flaky(moments)
    sink = stack.enter_context(HttpSink(flaky))
    exporter = ExporterRunner(folder)
    stack.callback(exporter.close)
    own = Case(exporter, folder, sink, case.env | {"OTEL_NOVU_STATE_DIR": str(folder / "state")})
    own.send_to(sink)
    return Victim(own, flaky, own.start())


def check(victim: Victim, inserted: int) -> None:
    arrived = victim.arrived()
    assert victim.kept
    assert victim.kept <= {(scope, int(at)) for scope, at in arrived}
    # What was sent twice was sent the same, byte for byte.
    assert [key for key, bodies in arrived.items() if len(bodies) > 1] == []
    points = [point for point in victim.case.points() if point.name == EVENTS]
    values = [point.value for point in sorted(points, key=lambda point: point.time)]
    assert values == sorted(values)
    assert values[-1] == inserted > 0
    assert len({point.start for point in points if point.start < point.time}) == 1
