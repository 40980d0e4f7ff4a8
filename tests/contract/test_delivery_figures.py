"""The delivery figures are those of the sample data's own tally, by every label."""

import math
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import delivery_tally
import delivery_writes
import novu_data
import otlp_reports
import pytest
from bson import json_util
from contract.case import USAGE, Case
from contract.clock import Clock
from delivery_data import HOUR, Document, Item, environments, generate_hour, second_of
from delivery_tally import Counts, Labels
from otlp_reports import Point
from pymongo.database import Database
from recording_mongo import MongoProxy
from servers import eventually
from stack import with_database

from otel_novu.metrics.usage import USAGE as USAGE_ROWS

pytestmark = pytest.mark.contract

PLACES = environments(1)
TIMEOUT = "120"  # seconds of a round: these tests prove figures, not speed
EVENTS, UNFINISHED = "novu.event.created", "novu.job.unfinished"
# Counters, the age that they count at, and how many seconds before a reading their window ends.
WINDOWS = {
    (EVENTS, ""): 60,
    ("novu.job.created", ""): 60,
    ("novu.message.created", ""): 300,
    ("novu.message.delay", ""): 300,
    ("novu.job.failed", ""): HOUR,
    ("novu.job.skipped", ""): HOUR,
    (UNFINISHED, "1h"): HOUR,
    (UNFINISHED, "1d"): 24 * HOUR,
}
COUNTERS = {name for name, _ in WINDOWS}
OTHERS = {"created.timestamp", "integration.active.count", "collection.index.count"}
OTHERS |= {"collection.oldest.age", "collection.size"}
LARGE = pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])

# `state.db` as the version before the delivery figures makes it.
VERSION_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE created (figure TEXT PRIMARY KEY, total INTEGER NOT NULL, since INTEGER NOT NULL,
    until INTEGER NOT NULL, paused INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE report (id INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL,
    read_at REAL NOT NULL, body BLOB NOT NULL, rejected TEXT);
CREATE TABLE last_attempt (scope TEXT PRIMARY KEY, read_at REAL, tried_at REAL, next_due REAL,
    endpoint TEXT, result TEXT, body BLOB) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
OLD = {"user.created", "organization.created", "workflow.created", "event.created"}
OLD |= {"topic.created", "subscriber.created"}


@dataclass
class Tally:
    """What the counters are: the tally of each window at the time when it is read."""

    items: list[Item] = field(default_factory=list)
    counts: Counts = field(default_factory=dict)
    until: dict[tuple[str, str], int] = field(default_factory=dict)

    def read(self, clock: float) -> None:
        """Count as a reading at this Unix time does; a new counter begins."""
        found: dict[tuple[int, int, str], Counts] = {}
        for (name, age), delay in WINDOWS.items():
            begin = self.until.setdefault((name, age), math.ceil(clock))
            window = begin, math.floor(clock) - delay, age or "1h"
            if begin < window[1]:
                if window not in found:
                    found[window] = self._count(*window)
                self.counts.setdefault(name, Counter()).update(found[window].get(name, {}))
                self.until[name, age] = window[1]

    def _count(self, begin: int, end: int, age: str) -> Counts:
        counts = delivery_tally.tally(self.items, begin, end, age=age)
        events = [d for name, d in self.items if name == "notifications"]
        number = sum(begin <= second_of(event["_id"]) < end for event in events)
        return {**counts, EVENTS: Counter({(): number})}


@dataclass
class Novu:
    """A database, an exporter whose clock shows a time of the past, and what it has to count."""

    case: Case
    clock: Clock
    database: Database[Document]
    tally: Tally = field(default_factory=Tally)
    start: int = 0  # the second with which the first hour begins
    hours: int = 0
    indexed: bool = False

    def begin(self) -> None:
        """Insert what is there before the exporter starts, and make the first report."""
        now = self.clock.now()
        items = [*novu_data.generate(7, 50, datetime.fromtimestamp(now, UTC))]
        items += [("environments", place) for place in PLACES]
        items += generate_hour(-1, int(now) - HOUR, 40, 200, PLACES)
        delivery_writes.insert(self.database, items)
        self.tally.items = items
        self.report()
        self.start = self.tally.until[EVENTS, ""]

    def pass_hour(self, messages: int = 40, outage_of: str | None = None) -> None:
        """Insert the documents of an hour, and let five seconds more pass."""
        begin, jobs = self.start + self.hours * HOUR, max(200, messages)
        made = generate_hour(self.hours, begin, messages, jobs, PLACES, outage_of=outage_of)
        delivery_writes.insert(self.database, made)
        self.tally.items += made
        self.hours += 1
        self.clock.step(begin + HOUR + 5 - self.clock.now())

    def change_late(self) -> None:
        """End open jobs and let messages fail, also of windows that are counted."""
        delivery_writes.finish_late(self.database, self.tally.items, seed=self.hours)
        late, failed = {"status": "warning"}, {"status": "error"}
        self.database["messages"].update_many(late, {"$set": failed})
        for collection, document in self.tally.items:
            if collection == "messages" and document.get("status") == "warning":
                document.update(failed)

    def delete_some(self) -> None:
        """Delete documents of every collection."""
        items = self.tally.items
        self.tally.items = delivery_writes.delete_some(self.database, items, seed=self.hours)

    def drop(self, collection: str) -> None:
        """Drop a collection."""
        self.database.drop_collection(collection)
        self.tally.items = [item for item in self.tally.items if item[0] != collection]

    def create_indexes(self) -> None:
        """Create Novu's indexes."""
        delivery_writes.create_indexes(self.database)
        self.indexed = True

    def run_and_kill(self) -> None:
        """Let it report every second, and kill it."""
        seen = len(self.case.times(USAGE))
        running = self.case.start(OTEL_NOVU_QUERY_TIMEOUT=TIMEOUT)
        eventually(lambda: len(self.case.times(USAGE)) > seen + 2)
        running.kill()

    def report(self, **changes: str) -> None:
        """Make a report in a new process, and compare its usage figures with the tally."""
        before = len(self.case.sink.reports)
        done = self.case("once", OTEL_NOVU_QUERY_TIMEOUT=TIMEOUT, **changes)
        assert done.returncode == 0, done.stderr
        found = otlp_reports.points(*self.case.sink.reports[before:])
        usage = [point for point in found if point.scope == otlp_reports.USAGE]
        if usage:  # the newest: what a killed process left is sent, too
            newest = max(point.time for point in usage)
            self._check([point for point in usage if point.time == newest])

    def _check(self, found: list[Point]) -> None:
        read_at, items = otlp_reports.value(found, "novu.usage.timestamp"), self.tally.items
        self.tally.read(read_at)
        for name in COUNTERS:
            assert not_zero(found, name) == +self.tally.counts.get(name, Counter()), name
        active = delivery_tally.active_integrations(items)
        assert not_zero(found, "novu.integration.active.count") == active
        newest = otlp_reports.values(found, "novu.created.timestamp", "novu.figure")
        assert newest == delivery_tally.created_timestamps(items)
        ages = delivery_tally.oldest_ages(items, 0)
        oldest = otlp_reports.values(found, "novu.collection.oldest.age", "novu.collection")
        assert oldest == pytest.approx({name: read_at + age for name, age in ages.items()})
        indexes = otlp_reports.values(found, "novu.collection.index.count", "novu.collection")
        assert indexes == delivery_tally.index_counts(items, created=self.indexed)
        assert set(otlp_reports.values(found, "novu.usage.lag", "novu.figure").values()) == {0}


def not_zero(found: list[Point], name: str) -> dict[Labels, float]:
    """Return the points of a metric by their labels, without zeros."""
    return {key_of(point)[1]: point.value for point in found if point.name == name and point.value}


def key_of(point: Point) -> tuple[str, Labels]:
    return point.name, tuple(sorted(point.attributes.items()))


@pytest.fixture
def novu(case: Case, database: Database[Document], mongo_url: str, tmp_path: Path) -> Novu:
    """An exporter that has made its first report, 27 hours ago."""
    novu = Novu(case, Clock(tmp_path), database)
    novu.clock.step(-27 * HOUR)
    case.read(mongo_url)
    case.env |= novu.clock.environment
    novu.begin()
    return novu


@pytest.mark.parametrize("messages", [40, LARGE])
def test_over_26_hours_the_figures_equal_the_tally_by_every_label(
    messages: int, novu: Novu
) -> None:
    for hour in range(26):
        outage = "sendgrid" if hour in {8, 9} else None
        novu.pass_hour(messages if hour == 5 else 40, outage)
        if hour in {3, 11, 16, 25}:
            novu.change_late()
        if hour in {6, 13, 21}:
            novu.delete_some()
        if hour == 10:
            novu.create_indexes()
        if hour in {7, 20}:
            novu.run_and_kill()
        if hour not in {14, 15}:  # the exporter is off
            novu.report()
    assert novu.tally.counts.keys() == COUNTERS
    ages = {dict(labels)["novu.job.age"] for labels in novu.tally.counts[UNFINISHED]}
    # Whether a job is left unfinished for a day depends on the hour of the test.
    assert {"1h"} <= ages <= {"1h", "1d"}
    last: dict[tuple[str, Labels], float] = {}
    points = [point for point in novu.case.points() if point.name in COUNTERS]
    for point in sorted(points, key=lambda each: each.time):
        assert point.value >= last.get(key_of(point), 0), point
        assert point.start == min(novu.start, point.time)
        last[key_of(point)] = point.value


def turn_to_another_database(novu: Novu) -> None:
    """Count an hour of it, and turn back."""
    client, url, name = novu.database.client, novu.case.env["MONGO_URL"], f"{novu.database.name}-2"
    novu.case.read(with_database(url, name))
    try:
        other = Novu(novu.case, novu.clock, client[name])
        other.begin()
        other.pass_hour()
        other.report()
    finally:
        client.drop_database(name)
    novu.case.read(url)
    novu.tally = Tally(novu.tally.items)
    novu.hours += 2
    novu.clock.step(novu.start + novu.hours * HOUR - novu.clock.now())
    novu.report()


def switch_off_for_two_hours(novu: Novu) -> None:
    for _ in range(2):
        novu.report(NOVU_TELEMETRY="off")
        novu.pass_hour()
    novu.tally.until = {}
    novu.report()


def upgrade_from_version_1(novu: Novu) -> None:
    """Replace the state by what that version would have stored."""
    path = novu.case.state / "state.db"
    with closing(sqlite3.connect(path)) as new:
        meta = new.execute("SELECT * FROM meta").fetchall()
        columns = "figure, total, since, until, paused"
        created = [row for row in new.execute(f"SELECT {columns} FROM created") if row[0] in OLD]  # noqa: S608 - ours
    assert len(created) == len(OLD)
    path.unlink()
    with closing(sqlite3.connect(path)) as old:
        old.executescript(VERSION_1)
        old.executemany("INSERT INTO meta VALUES (?, ?)", meta)
        old.executemany("INSERT INTO created VALUES (?, ?, ?, ?, ?)", created)
        old.commit()
    path.chmod(0o600)
    tally = novu.tally
    novu.tally = Tally(
        tally.items, {EVENTS: tally.counts[EVENTS]}, {(EVENTS, ""): tally.until[EVENTS, ""]}
    )
    novu.report()


@pytest.mark.parametrize(
    "happens",
    [
        turn_to_another_database,
        switch_off_for_two_hours,
        upgrade_from_version_1,
        pytest.param(lambda novu: novu.drop("environments"), id="no environments"),
        pytest.param(lambda novu: novu.drop("messages"), id="no messages"),
        pytest.param(lambda novu: novu.drop("jobs"), id="no jobs"),
    ],
)
def test_the_figures_equal_the_tally_whatever_happens_between_reports(
    happens: Callable[[Novu], None], novu: Novu
) -> None:
    novu.pass_hour()
    novu.report()
    happens(novu)
    novu.report()
    for _ in range(3):
        novu.pass_hour()
        novu.report()
    assert novu.tally.counts.keys() == COUNTERS


def test_without_delivery_figures_nothing_of_them_is_asked_for_or_sent(
    novu: Novu, mongo_url: str
) -> None:
    names = {name for name, _ in WINDOWS} - {EVENTS} | {f"novu.{name}" for name in OTHERS}
    assert names <= {row.name for row in USAGE_ROWS}
    novu.pass_hour()
    seen = len(novu.case.sink.reports)
    with MongoProxy(mongo_url) as proxy:
        novu.case.read(proxy.url)
        assert novu.case("once", OTEL_NOVU_DELIVERY_FIGURES="false").returncode == 0
    asked = str(proxy.commands)
    assert "notifications" in asked
    for word in ("messages", "jobs", "executiondetails", "preferences", "environments", "$coll"):
        assert f"'{word}" not in asked
    found = otlp_reports.points(*novu.case.sink.reports[seen:])
    figures = {f"novu.{point.attributes.get('novu.figure')}" for point in found}
    assert "novu.event.created" in figures
    assert names.isdisjoint({point.name for point in found} | figures)
    assert "messages" not in novu.case("check", OTEL_NOVU_DELIVERY_FIGURES="false").stdout


BIG = {"notifications", "messages", "jobs", "executiondetails"}


def test_every_query_of_a_big_collection_reads_a_window_one_entry_or_statistics(
    case: Case, database: Database[Document], mongo_url: str
) -> None:
    delivery_writes.insert(database, generate_hour(1, int(time.time()) - HOUR, 2000, 2000, PLACES))
    case.read(mongo_url)
    commands = [json_util.loads(line) for line in case("show --queries").stdout.splitlines()]
    of_big = [command for command in commands if command.get("aggregate") in BIG]
    assert {command["aggregate"] for command in of_big} == BIG
    for command in of_big:
        (stage, argument), *rest = (next(iter(each.items())) for each in command["pipeline"])
        if stage == "$collStats":
            continue
        stages = [name for name, _ in rest]
        if argument["_id"].keys() == {"$type"}:
            assert stages == ["$sort", "$limit", "$project"]
            assert rest[:2] in ([("$sort", {"_id": n}), ("$limit", 1)] for n in (1, -1))
        else:
            assert argument["_id"].keys() == {"$gte", "$lt"}
            assert "$lookup" not in stages[: stages.index("$group")]
        asked = {key: command[key] for key in ("aggregate", "pipeline", "cursor")}
        plan = str(database.command({"explain": asked, "verbosity": "queryPlanner"}))
        assert "'indexName': '_id_'" in plan
        assert "Seq Scan" not in plan
    windows = [each for each in commands if "$gte" in str(each)]
    assert len(windows) == len(OLD) + 8
    assert all("_id" in each["pipeline"][0]["$match"] for each in windows)
    assert all("query" not in each for each in commands)  # of a `count`
