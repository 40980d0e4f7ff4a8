import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)
from servers import eventually
from shelf import Shelf

from otel_novu.metrics.usage import COLLECTIONS, FIGURES, Created
from otel_novu.settings import Secret
from otel_novu.sources.novu_db import NovuDatabase
from otel_novu.sources.usage_round import UsageRound, UsageSource

Document = dict[str, Any]

SECONDS = 60.0  # for a round: these tests prove figures, not speed
NAMES = {figure.name for figure in FIGURES}
CREATED = {name for name in NAMES if name.endswith(".created")}

# design: all the commands that may be sent; authentication is `sasl*`
ALLOWED = {
    "hello",
    "ismaster",
    "ping",
    "count",
    "aggregate",
    "getMore",
    "killCursors",
    "listCollections",
    "endSessions",
    "saslStart",
    "saslContinue",
}


def source_of(url: str, store: Shelf | None = None, *listeners: CommandListener) -> UsageSource:
    return UsageSource(
        lambda seconds: NovuDatabase(Secret(url), seconds, event_listeners=listeners),
        store or Shelf(),
    )


def read(url: str, store: Shelf | None = None, now: Callable[[], float] = time.time) -> UsageRound:
    return source_of(url, store).read(SECONDS, now)


def made_at(second: float) -> ObjectId:
    """An `_id` as the drivers make it, at a time of the test's choice."""
    return ObjectId(int(second).to_bytes(4, "big") + os.urandom(8))


def first_of(second: float) -> ObjectId:
    """The least `_id` that can be made in a second."""
    return ObjectId(int(second).to_bytes(4, "big") + bytes(8))


# Novu's own queries (its worker's telemetry), run by the driver


def novus_totals(database: Database[Document]) -> Mapping[str, int]:
    size = {"$cond": {"if": {"$isArray": "$steps"}, "then": {"$size": "$steps"}, "else": 0}}
    steps = list(
        database.notificationtemplates.aggregate(
            [
                {"$match": {"deleted": {"$ne": True}}},
                {"$group": {"_id": None, "total": {"$sum": size}}},
            ]
        )
    )
    return {
        "user.count": database.users.estimated_document_count(),
        "organization.count": database.organizations.estimated_document_count(),
        "workflow.count": database.notificationtemplates.estimated_document_count(),
        "workflow.step.count": steps[0]["total"] if steps else 0,
        "event.count": database.notifications.estimated_document_count(),
        "topic.count": database.topics.estimated_document_count(),
        "subscriber.count": database.subscribers.estimated_document_count(),
    }


def novus_providers(database: Database[Document]) -> Mapping[Any, int]:
    rows = database.integrations.aggregate(
        [
            {"$match": {"deleted": {"$ne": True}}},
            {"$group": {"_id": "$providerId", "count": {"$sum": 1}}},
        ]
    )
    return {row["_id"]: row["count"] for row in rows}


def fill(database: Database[Document]) -> None:
    for number, name in enumerate(COLLECTIONS, start=3):
        if name != "integrations":
            database[name].insert_many([{"n": n} for n in range(number)])


def test_the_totals_are_those_of_novus_own_queries(
    mongo_url: str, database: Database[Document]
) -> None:
    fill(database)
    database.notificationtemplates.insert_many(
        [
            {"steps": [1, 2]},
            {"steps": []},
            {"steps": None},
            {"steps": "text"},
            {"steps": {"a": 1}},
            {"steps": 7},
            {"steps": [[1, 2], [3]]},
            {"steps": [1, 2, 3], "deleted": False},
            {"steps": [1], "deleted": None},
            {"steps": [1], "deleted": True},
        ]
    )
    round_ = read(mongo_url)
    assert round_.reasons == {}
    assert round_.reading.totals == novus_totals(database)
    assert round_.reading.totals["workflow.step.count"] == 8


def test_the_providers_are_those_of_novus_own_query(
    mongo_url: str, database: Database[Document]
) -> None:
    ids = ["novu", "novu", "sendgrid", "fcm", "africas-talking", "a" * 64, "0.b_c-d"]
    database.integrations.insert_many([{"providerId": provider} for provider in ids])
    database.integrations.insert_one({"providerId": "sendgrid", "deleted": True})
    counts = read(mongo_url).reading.providers["integration.count"]
    assert counts == novus_providers(database)
    assert counts["novu"] == 2
    assert counts["sendgrid"] == 1


def test_provider_ids_that_are_missing_are_unknown_and_unlawful_ones_other(
    mongo_url: str, database: Database[Document]
) -> None:
    missing: list[Document] = [{}, {"providerId": None}]
    unlawful = ["Upper", "novu\n", "\nnovu", "a" * 65, "", "é", "-a", "a b", "mongodb://u:p@h"]
    odd: list[Any] = [5, 5.5, True, ["novu"], {"a": 1}, ObjectId()]
    database.integrations.insert_many(
        [*missing, *({"providerId": each} for each in [*unlawful, *odd, "novu"])]
    )
    counts = read(mongo_url).reading.providers["integration.count"]
    assert counts == {"novu": 1, "unknown": len(missing), "other": len(unlawful) + len(odd)}


def test_of_many_providers_the_largest_two_hundred_are_named(
    mongo_url: str, database: Database[Document]
) -> None:
    database.integrations.insert_many(
        [{"providerId": f"p{n:03d}"} for n in range(250) for _ in range(1 + (n >= 240))]
    )
    counts = read(mongo_url).reading.providers["integration.count"]
    assert len(counts) == 201
    assert sum(counts.values()) == 260
    assert counts["other"] == 50
    assert all(counts[f"p{n}"] == 2 for n in range(240, 250))


def test_collections_that_are_missing_beside_others_are_zero(
    mongo_url: str, database: Database[Document]
) -> None:
    database.topics.insert_many([{} for _ in range(3)])
    round_ = read(mongo_url)
    assert round_.reasons == {}
    assert round_.collections == frozenset({"topics"})
    assert round_.reading.totals == {**dict.fromkeys(novus_totals(database), 0), "topic.count": 3}
    assert round_.reading.providers == {"integration.count": {}}
    assert round_.reading.created.keys() == CREATED


def test_an_empty_database_fails_every_figure_and_moves_no_window(mongo_url: str) -> None:
    store = Shelf()
    round_ = read(mongo_url, store)
    name = mongo_url.partition("?")[0].rpartition("/")[2]
    why = f'none of Novu\'s collections exist in database "{name}": wrong database?'
    assert round_.reasons == dict.fromkeys(NAMES, why)
    assert round_.reading.failures == dict.fromkeys(NAMES, 1)
    assert not round_.reading.totals
    assert store.data is None


def test_a_wrong_database_name_fails_every_figure_though_it_holds_collections(
    mongo_url: str, database: Database[Document]
) -> None:
    database.somebody_elses.insert_one({})
    assert len(read(mongo_url).reasons) == len(NAMES)


def test_a_wrong_password_is_told_by_its_code_and_nothing_is_asked(
    mongo_url: str, database: Database[Document]
) -> None:
    fill(database)
    wrong = mongo_url.replace(":secret@", ":Wr0ngS3cret@")
    assert wrong != mongo_url
    watcher = Watcher()
    round_ = source_of(wrong, None, watcher).read(SECONDS, time.time)
    assert round_.reasons == dict.fromkeys(
        NAMES, "not authenticated (code 18): user, password or authSource is wrong"
    )
    assert {name for name, _command in watcher.commands} <= {"saslStart", "saslContinue"}


# Commands


class Watcher(CommandListener):
    """Keeps the commands that were sent."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, Document]] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.commands.append((event.command_name, dict(event.command)))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


def test_only_the_commands_of_the_design_are_sent_and_each_read_is_marked(
    mongo_url: str, database: Database[Document]
) -> None:
    fill(database)
    store = Shelf()
    now = time.time()
    read(mongo_url, store, lambda: now - 5000)
    watcher = Watcher()
    source_of(mongo_url, store, watcher).read(SECONDS, lambda: now)
    names = [name for name, _command in watcher.commands]
    assert set(names) <= ALLOWED
    assert names.count("count") == 6
    assert names.count("aggregate") == 2 + 2 * len(CREATED)
    for name, command in watcher.commands:
        if name in {"count", "aggregate", "listCollections"}:
            assert command["comment"] == "otel-novu"
            assert 0 < command["maxTimeMS"] <= SECONDS * 1000


def test_no_connection_is_left_between_rounds(mongo_url: str, database: Database[Document]) -> None:
    fill(database)
    port = database.client.address[1] if database.client.address else 0

    def connections() -> int:
        return sum(
            bool(each.raddr) and each.raddr[1] == port and each.status == psutil.CONN_ESTABLISHED
            for each in psutil.Process().net_connections("tcp")
        )

    before = connections()
    assert before > 0
    source = source_of(mongo_url)
    for _ in range(3):
        assert source.read(SECONDS, time.time).reasons == {}
        eventually(connections, lambda number: number <= before)


# Documents created


class Clock:
    """A clock of the test's own, some hours behind the database's."""

    def __init__(self) -> None:
        self.time = float(int(time.time()) - 30_000)

    def __call__(self) -> float:
        return self.time


@contextmanager
def writers(url: str, clock: Clock, number: int) -> Iterator[tuple[list[ObjectId], threading.Lock]]:
    """Insert events all the time, with ids made at the clock's time.

    Gives the ids that are in the database, and a lock: while it is held no insert is under way.
    """
    inserted: list[ObjectId] = []
    over = threading.Event()
    lock = threading.Lock()

    def write() -> None:
        with MongoClient[Document](url) as client:
            events = client.get_default_database().notifications
            while not over.is_set():
                with lock:
                    ids = [made_at(clock() - age) for age in (0, 9, 29)]
                    events.insert_many([{"_id": each} for each in ids])
                    inserted.extend(ids)
                time.sleep(0.001)

    threads = [threading.Thread(target=write, daemon=True) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield inserted, lock
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_created_is_exact_with_writers_deletions_and_restarts(
    mongo_url: str, database: Database[Document]
) -> None:
    database.notifications.insert_many([{"_id": made_at(time.time() - 90_000)} for _ in range(10)])
    clock, store = Clock(), Shelf()
    since = clock.time
    assert read(mongo_url, store, clock).reading.created["event.created"] == Created(0, since)
    clock.time += 30
    totals = []
    with writers(mongo_url, clock, 3) as (inserted, lock):
        for _ in range(25):
            with lock:
                clock.time += 45
            # A new source each time, as after a restart.
            round_ = read(mongo_url, store, clock)
            assert round_.reasons == {}
            totals.append(round_.reading.created["event.created"].count)
            counted = {"$lt": first_of(clock.time - 60)}
            database.notifications.delete_many({"_id": counted})
    clock.time += 1000
    round_ = read(mongo_url, store, clock)
    assert totals == sorted(totals)
    assert round_.reading.created["event.created"] == Created(len(inserted), since)
    assert database.notifications.estimated_document_count() != len(inserted)


def test_created_is_exact_over_a_clock_that_steps_forwards_and_backwards(
    mongo_url: str, database: Database[Document]
) -> None:
    clock, store = Clock(), Shelf()
    start = clock.time
    database.notifications.insert_many(
        [{"_id": made_at(start + second)} for second in range(0, 20_000, 7)]
    )
    totals = []
    for offset in (0, 500, -80_000, 400, 9000, 2000, 9001, 10**9, 100, 12_000):
        clock.time = start + offset
        totals.append(read(mongo_url, store, clock).reading.created["event.created"].count)
    assert totals == sorted(totals)
    assert totals[0] == 0
    # The step by 10^9 s went no further than the database's own clock.
    assert totals[-1] == len(range(0, 20_000, 7))
    assert store.entry("event.created")["until"] <= time.time() - 60


def test_each_collection_has_a_counter_of_its_own(
    mongo_url: str, database: Database[Document]
) -> None:
    clock, store = Clock(), Shelf()
    fill(database)
    read(mongo_url, store, clock)
    of = {figure.name: figure.question.collection for figure in FIGURES if figure.name in CREATED}
    for number, collection in enumerate(of.values(), start=1):
        database[collection].insert_many([{"_id": made_at(clock() + n)} for n in range(number)])
    clock.time += 1000
    created = read(mongo_url, store, clock).reading.created
    assert {of[name]: each.count for name, each in created.items()} == {
        collection: number for number, collection in enumerate(of.values(), start=1)
    }


def test_a_long_gap_is_counted_to_the_second(mongo_url: str, database: Database[Document]) -> None:
    clock, store = Clock(), Shelf()
    database.topics.insert_one({})
    read(mongo_url, store, clock)
    begin = int(clock.time)
    edges = [begin - 1, begin, begin + 3599, begin + 3600, begin + 7200, begin + 19_939]
    database.topics.insert_many([{"_id": made_at(second)} for second in edges])
    database.topics.insert_one({"_id": made_at(begin + 19_940)})
    clock.time += 20_000
    assert read(mongo_url, store, clock).reading.created["topic.created"].count == 5
    clock.time += 1
    assert read(mongo_url, store, clock).reading.created["topic.created"].count == 6


def test_an_id_that_is_no_objectid_is_not_counted(
    mongo_url: str, database: Database[Document]
) -> None:
    clock, store = Clock(), Shelf()
    database.users.insert_one({})
    read(mongo_url, store, clock)
    odd: list[Any] = ["text", 5, clock() + 5, {"a": 1}, str(made_at(clock() + 5))]
    database.users.insert_many([{"_id": each} for each in [*odd, made_at(clock() + 5)]])
    clock.time += 1000
    assert read(mongo_url, store, clock).reading.created["user.created"].count == 1


def test_what_is_created_while_usage_is_off_is_not_counted(
    mongo_url: str, database: Database[Document]
) -> None:
    clock, store = Clock(), Shelf()
    database.users.insert_one({})
    begin = clock.time
    source = source_of(mongo_url, store)
    source.read(SECONDS, clock)
    database.users.insert_many([{"_id": made_at(begin + second)} for second in range(3000)])
    clock.time = begin + 160
    assert source.read(SECONDS, clock).reading.created["user.created"].count == 100
    source.forget_begin()
    clock.time = begin + 2000
    source.read(SECONDS, clock)
    clock.time = begin + 5000
    assert source.read(SECONDS, clock).reading.created["user.created"] == Created(1100, begin)


def test_a_round_without_a_database_fails_in_time(mongo_url: str) -> None:
    away = mongo_url.replace(mongo_url.rpartition("@")[2].partition("/")[0], "127.0.0.1:1")
    began = time.monotonic()
    round_ = source_of(away).read(3, time.time)
    assert time.monotonic() - began < 60
    assert round_.reasons == dict.fromkeys(
        NAMES, "the server can't be reached: it refuses connections"
    )


@pytest.mark.parametrize("deadline", [0.0, 0.001])
def test_a_round_without_time_fails_and_does_not_raise(mongo_url: str, deadline: float) -> None:
    assert source_of(mongo_url).read(deadline, time.time).reasons.keys() == NAMES
