"""Killed at random moments, the exporter loses nothing that it kept, and counts nothing twice."""

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket
from threading import Event, Thread
from typing import Any

import pytest
from bson import ObjectId
from contract.case import BEACON, USAGE, Case, reading_times
from contract.clock import Clock
from faults import dice
from pymongo.database import Database
from receivers import HttpSink, answer
from servers import RunningExporter, eventually

pytestmark = [pytest.mark.contract, pytest.mark.timeout(1800)]

EVENTS = "novu.event.created"


@dataclass
class Flaky:
    """Accepts about half of the reports, until it is told to accept all."""

    moments: random.Random
    sound: bool = False

    def __call__(self, connection: socket, ended: Event) -> None:
        if not self.sound and self.moments.random() < 0.1:
            ended.wait(0.5)
        sound = self.sound or self.moments.random() < 0.5
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
        """The reports that came, by scope and time of the reading."""
        found: dict[tuple[str, float], set[bytes]] = defaultdict(set)
        for report in self.case.sink.reports:
            for scope in (BEACON, USAGE):
                for at in reading_times([report], scope):
                    found[scope, at].add(report.SerializeToString(deterministic=True))
        return found


@contextmanager
def writing(database: Database[dict[str, Any]], clock: Clock) -> Iterator[list[int]]:
    """Insert events with ids of the clock's now; yields their seconds."""
    stop, inserted = Event(), list[int]()

    def write() -> None:
        while not stop.wait(0.05):
            second = int(clock.now())
            made = ObjectId(second.to_bytes(4, "big") + ObjectId().binary[4:])
            database["notifications"].insert_one({"_id": made})
            inserted.append(second)

    thread = Thread(target=write, daemon=True)
    thread.start()
    yield inserted
    stop.set()
    thread.join(120)


@pytest.mark.parametrize("kills", [30, pytest.param(200, marks=pytest.mark.long)])
def test_what_was_kept_at_any_kill_arrives_and_the_counters_end_exact(
    kills: int, case: Case, database: Database[dict[str, Any]], mongo_url: str, tmp_path: Path
) -> None:
    database["users"].insert_one({})  # without any collection it would be no Novu's
    moments, clock = dice(), Clock(tmp_path)
    clock.step(-7200)
    case.read(mongo_url)
    case.env |= clock.environment
    with ExitStack() as stack:
        victims = [make_victim(stack, case, tmp_path / name, moments) for name in "abc"]
        for victim in victims:  # until the second with which its watch begins is over
            eventually(lambda v=victim: v.case.waiting(USAGE) or v.case.times(USAGE))  # type: ignore[misc]
        time.sleep(1)
        with writing(database, clock) as inserted:
            for _ in range(kills // len(victims)):
                for victim in victims:
                    victim.running.wait_for("reports to")
                for victim in moments.sample(victims, len(victims)):
                    time.sleep(moments.uniform(0, 0.5))
                    victim.kill_and_start_again()
        clock.step(120)  # what was written is old enough to be counted now
        for victim in victims:
            victim.flaky.sound = True
            eventually(lambda v=victim: v.case.values(EVENTS)[-1] >= len(inserted))  # type: ignore[misc]
            victim.case.stop(victim.running)
            check(victim, len(inserted))


def make_victim(stack: ExitStack, case: Case, state: Path, moments: random.Random) -> Victim:
    flaky = Flaky(moments)
    sink = stack.enter_context(HttpSink(flaky))
    own = Case(case.exporter, state, sink, case.env | {"OTEL_NOVU_STATE_DIR": str(state)})
    own.send_to(sink)
    return Victim(own, flaky, own.start())


def check(victim: Victim, inserted: int) -> None:
    arrived = victim.arrived()
    assert victim.kept
    assert victim.kept <= {(scope, int(at)) for scope, at in arrived}
    # What was sent twice was sent the same.
    assert [key for key, reports in arrived.items() if len(reports) > 1] == []
    points = [point for point in victim.case.points() if point.name == EVENTS]
    values = [point.value for point in sorted(points, key=lambda point: point.time)]
    assert values == sorted(values)
    assert values[-1] == inserted > 0
    assert len({point.start for point in points if point.start < point.time}) == 1
