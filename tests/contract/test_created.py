"""The `*.created` counters are exact: over restarts, kills, outages, and usage off and on again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from contract.case import USAGE, Case
from contract.clock import Clock
from faults import Gate
from pymongo.database import Database
from servers import eventually
from stack import with_database

pytestmark = pytest.mark.contract

HOUR = 3600.0
EVENTS, TOPICS = "novu.event.created", "novu.topic.created"
COLLECTIONS = {EVENTS: "notifications", TOPICS: "topics"}


@dataclass
class Watch:
    """An exporter on a clock of the test's, two days in the past at first."""

    case: Case
    clock: Clock
    database: Database[dict[str, Any]]

    def pass_hours(self, hours: float, events: int = 0) -> None:
        """Move the clock; in its last half hour events are created."""
        self.clock.step(hours * HOUR)
        self.write(EVENTS, events)

    def write(self, name: str, count: int, age: float = HOUR / 2) -> None:
        """Insert documents with ids of that age, in seconds."""
        second = int(self.clock.now() - age).to_bytes(4, "big")
        made = [{"_id": ObjectId(second + ObjectId().binary[4:])} for _ in range(count)]
        if made:
            self.database[COLLECTIONS[name]].insert_many(made)

    def report(self, **changes: str) -> None:
        done = self.case("once", **changes)
        assert done.returncode == 0, done.stderr

    def counted(self, name: str = EVENTS) -> float:
        """Return the last value; none before it was greater, and all have one start."""
        found = sorted((p for p in self.case.points() if p.name == name), key=lambda p: p.time)
        values = [point.value for point in found]
        assert values == sorted(values)
        # The watch begins with the second after the first reading.
        assert len({point.start for point in found if point.start < point.time}) <= 1
        return values[-1]


@pytest.fixture
def watch(case: Case, database: Database[dict[str, Any]], mongo_url: str, tmp_path: Path) -> Watch:
    clock = Clock(tmp_path)
    clock.step(-48 * HOUR)
    case.read(mongo_url)
    case.env |= clock.environment
    watch = Watch(case, clock, database)
    # What is there before the first start is not counted.
    watch.write(EVENTS, 3)
    watch.write(TOPICS, 1)
    watch.report()
    assert watch.counted() == watch.counted(TOPICS) == 0
    return watch


def test_documents_are_counted_once_over_restarts_and_long_gaps(watch: Watch) -> None:
    for gap in (1, 7, 24):
        watch.pass_hours(gap, events=gap)
        watch.report()
    watch.write(TOPICS, 5, age=2 * HOUR)  # too late: that hour is counted
    watch.database["topics"].insert_one({"_id": "no ObjectId"})
    watch.database["notifications"].delete_many({})  # what is counted may go
    watch.write(EVENTS, 2, age=20)  # younger than a minute: counted later
    watch.report()
    assert watch.counted() == 32
    for hours in (-1, 2):
        watch.pass_hours(hours)
        watch.report()
    assert (watch.counted(), watch.counted(TOPICS)) == (34, 0)


def test_an_outage_of_the_database_is_counted_afterwards(watch: Watch) -> None:
    with Gate(watch.case.env["MONGO_URL"]) as gate:
        watch.case.read(gate.url)
        # The counters belong to the database, by its hosts and name: this is another one.
        watch.report()
        running = watch.case.start(OTEL_NOVU_QUERY_TIMEOUT="1")
        gate.blocked = b""
        for _ in range(3):
            watch.pass_hours(1, events=5)
        running.wait_for("figure")
        gate.blocked = None
        eventually(lambda: watch.counted() >= 15)
        watch.case.stop(running)
    assert watch.counted() == 15


def test_an_outage_of_the_collector_loses_no_step_of_the_counters(watch: Watch) -> None:
    for events in (1, 2, 3):
        watch.pass_hours(1, events)
        nowhere = "http://127.0.0.1:1"
        assert watch.case("once", OTEL_EXPORTER_OTLP_ENDPOINT=nowhere).returncode == 1
    watch.report()
    assert watch.case.values(EVENTS) == [0, 1, 3, 6, 6]


@pytest.mark.parametrize("how", ["variable", "setting", "running"])
def test_what_is_created_while_usage_is_off_is_not_counted(how: str, watch: Watch) -> None:
    watch.pass_hours(1, events=4)
    watch.report()

    running = watch.case.start() if how == "running" else None
    if how != "variable":
        assert watch.case("telemetry disable").returncode == 0
    if running is None:
        watch.report(NOVU_TELEMETRY="off")
    else:
        running.wait_for("(?i)usage figures are off")
        watch.case.sink.wait_for(len(watch.case.sink.requests) + 2)  # until the counters know
    watch.pass_hours(2, events=100)
    if how != "variable":
        assert watch.case("telemetry enable").returncode == 0
    if running is not None:
        seen = len(watch.case.times(USAGE))
        eventually(lambda: len(watch.case.times(USAGE)) > seen + 1)
        watch.case.stop(running)

    watch.report()
    watch.pass_hours(1, events=7)
    watch.report()
    assert (watch.counted(), watch.counted(TOPICS)) == (11, 0)


def test_another_database_begins_a_count_of_its_own(watch: Watch, mongo_url: str) -> None:
    watch.pass_hours(1, events=9)
    watch.report()
    assert watch.counted() == 9
    other, client = f"{watch.database.name}-other", watch.database.client
    client[other]["users"].insert_one({})
    try:
        watch.pass_hours(1)
        watch.report(MONGO_URL=with_database(mongo_url, other))
        assert watch.case.values(EVENTS)[-1] == 0
    finally:
        client.drop_database(other)
