"""One round of Novu's database: on a real server, and on one that fails as a test says."""

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import delivery_data
import delivery_tally
import delivery_writes
import novu_data
import pytest
from bson import ObjectId, json_util
from pymongo.database import Database
from recording_mongo import ALLOWED, MongoProxy
from scripted_mongo import (
    HELLO,
    Answers,
    Document,
    Drop,
    Hang,
    failing,
    rows,
    scripted_mongo,
    serving,
)
from servers import eventually

from otel_novu.metrics.queries import CreatedIn, Values
from otel_novu.metrics.usage import COLLECTIONS, FIGURES, NOVU, USAGE, Figure
from otel_novu.settings import Secret
from otel_novu.sources.novu import Round, UsageSource, check_url, queries, read_round
from otel_novu.store import CreatedCount

Counts = Mapping[str, CreatedCount]

SECRET = "s3cretW0rd"
NAMES = {figure.name for figure in FIGURES}
WINDOWED = {figure.name for figure in FIGURES if isinstance(figure.query, CreatedIn)}
OWN = {figure.name for figure in NOVU}
CREATED = OWN & WINDOWED
TOTALS = [figure.name for figure in FIGURES if figure.field and not figure.query.labels]
PROVIDERS = "integration.count"
TIMEOUT = 60.0  # of a round: these tests prove figures, not speed
STALL = 45.0  # a busy machine may stall
NOW = HELLO["localTime"].timestamp()
LATE = "timed out; OTEL_NOVU_QUERY_TIMEOUT may be too short"
BUSY = "the server refused (code 16500)"
AUTH = "not authenticated (code 18): user, password or authSource is wrong"
AUTH += "; in a compose file, write $ as $$"


def read(
    url: str,
    created: Counts | None = None,
    timeout: float = TIMEOUT,
    now: float | None = None,
    figures: Sequence[Figure] = FIGURES,
) -> Round:
    began = time.monotonic()
    clock = time.time() if now is None else now
    read = read_round(Secret(url), created or {}, timeout, lambda: clock, figures=figures)
    assert time.monotonic() - began < timeout + STALL
    assert SECRET not in repr(read)
    names = {figure.name for figure in figures}
    assert read.durations.keys() == names
    assert names - read.values.keys() <= read.reasons.keys()
    return read


def totals(values: Mapping[str, Values]) -> dict[str, float]:
    return {name: values[name][()] for name in TOTALS if name in values}


def providers(values: Mapping[str, Values]) -> dict[str, float]:
    return {labels[0]: number for labels, number in values[PROVIDERS].items()}


def read_scripted(
    script: Answers, created: Counts | None = None, timeout: float = TIMEOUT
) -> Round:
    """Read Novu's own figures from a server that answers as a script says."""
    with scripted_mongo(script) as server:
        url = f"mongodb://127.0.0.1:{server.port}/novu-db"
        return read(url, created, timeout, NOW, NOVU)


def until(second: float, names: set[str] = CREATED) -> dict[str, CreatedCount]:
    """Counters that have counted five documents up to a second."""
    return dict.fromkeys(names, CreatedCount(total=5, since=1, until=int(second)))


def made_at(second: float) -> ObjectId:
    return ObjectId(int(second).to_bytes(4, "big") + os.urandom(8))


# --- a real server -------------------------------------------------------------------------------


def test_the_totals_are_those_of_novus_own_queries(
    mongo_url: str, database: Database[Document]
) -> None:
    for number, name in enumerate(COLLECTIONS, start=3):
        database[name].insert_many([{"n": n} for n in range(number)])
    steps: list[Any] = [[1, 2], [], None, "text", {"a": 1}, 7, [[1, 2], [3]]]
    workflows = [{"steps": each} for each in steps]
    workflows += [{"steps": [1], "deleted": deleted} for deleted in (False, None, True)]
    database.notificationtemplates.insert_many(workflows)
    round_ = read(mongo_url)
    assert (round_.reasons, round_.collections) == ({}, frozenset(COLLECTIONS))
    assert totals(round_.values) == {
        "user.count": database.users.estimated_document_count(),
        "organization.count": database.organizations.estimated_document_count(),
        "workflow.count": database.notificationtemplates.estimated_document_count(),
        "workflow.step.count": 2 + 2 + 1 + 1,
        "event.count": database.notifications.estimated_document_count(),
        "topic.count": database.topics.estimated_document_count(),
        "subscriber.count": database.subscribers.estimated_document_count(),
    }


def test_providers_are_counted_and_free_text_never_leaves_the_server(
    mongo_url: str, database: Database[Document]
) -> None:
    valid = ["novu", "novu", "africas-talking", "a" * 64, "0.b_c-d"]
    free = ["Upper", "novu\n", "\nnovu", "a" * 65, "", "é", "-a", "a b", "mongodb://u:p@h"]
    odd: list[Any] = [5, 5.5, True, ["novu"], {"a": 1}, ObjectId()]
    documents: list[Document] = [{}, {"providerId": None}, {"providerId": "novu", "deleted": True}]
    documents += [{"providerId": each} for each in [*valid, *free, *odd]]
    database.integrations.insert_many(documents)
    with MongoProxy(mongo_url) as proxy:
        counts = providers(read(proxy.url).values)
    expected = {"novu": 2, "africas-talking": 1, "a" * 64: 1, "0.b_c-d": 1}
    assert counts == {**expected, "unknown": 2, "other": len(free) + len(odd)}
    assert b"Upper" not in proxy.answered


def test_of_many_providers_the_two_hundred_largest_are_named_and_a_gone_one_is_0(
    mongo_url: str, database: Database[Document]
) -> None:
    ids = [f"p{n:03d}" for n in range(250) for _ in range(1 + (n >= 240))]
    database.integrations.insert_many([{"providerId": provider} for provider in ids])
    source = UsageSource(Secret(mongo_url), time.time, lambda: False)
    counts = providers(source.read({}, TIMEOUT)[0].values)
    assert (len(counts), sum(counts.values()), counts["other"]) == (201, len(ids), 50)
    assert all(counts[f"p{n}"] == 2 for n in range(240, 250))
    database.integrations.delete_many({})
    gone = providers(source.read({}, TIMEOUT)[0].values)
    assert gone == dict.fromkeys(counts, 0)


def test_collections_that_are_missing_beside_others_are_0(
    mongo_url: str, database: Database[Document]
) -> None:
    database.topics.insert_many([{} for _ in range(3)])
    round_ = read(mongo_url)
    assert (round_.reasons, round_.collections) == ({}, frozenset({"topics"}))
    assert {name for name, count in totals(round_.values).items() if count} == {"topic.count"}
    assert providers(round_.values) == {}


def test_a_database_without_novus_collections_fails_every_figure_and_moves_no_window(
    mongo_url: str, database: Database[Document]
) -> None:
    database.somebody_elses.insert_one({})
    before = until(time.time() - 1000)
    for name in (f"{database.name}+", database.name):
        round_ = read(mongo_url.replace(database.name, name), before)
        reason = f'none of Novu\'s collections exist in database "{name}": wrong database?'
        assert round_.reasons == dict.fromkeys(NAMES, reason)
    assert round_.created == before


def test_a_wrong_password_is_tried_once_and_fails_every_figure_alike(mongo_url: str) -> None:
    with MongoProxy(mongo_url.replace(":secret@", f":{SECRET}@")) as proxy:
        assert read(proxy.url).reasons == dict.fromkeys(NAMES, AUTH)
        assert {"count", "aggregate", "listCollections"}.isdisjoint(proxy.names())
        assert proxy.names().count("saslStart") <= 1


@pytest.mark.parametrize(
    ("user", "password", "plain"),
    [
        ("rü@d:", "p@ss:w/o%r#d? &ü=;+", ""),
        # Novu's driver takes `+` as it is: `decodeURIComponent`.
        ("r+d", "kJ8+xQ2/zR5=", "+="),
    ],
)
def test_a_password_of_special_characters_works_as_in_novu(
    user: str, password: str, plain: str, mongo_url: str, database: Database[Document]
) -> None:
    database.users.insert_one({})
    user += database.name
    roles = [{"role": "readAnyDatabase", "db": "admin"}]
    database.client.admin.command({"createUser": user, "pwd": password, "roles": roles})
    try:
        login = f"{quote(user, plain)}:{quote(password, plain)}@"
        url = mongo_url.replace("root:secret@", login)
        assert check_url(Secret(url)) == []
        assert read(url).reasons == {}
    finally:
        database.client.admin.command({"dropUser": user})


def test_only_the_commands_that_are_shown_are_sent_and_only_counts_come_back(
    mongo_url: str, database: Database[Document]
) -> None:
    novu_data.load(database, seed=3, size=60, now=datetime.now(UTC))
    now = int(time.time())
    delays = {f.name: f.query.delay for f in FIGURES if isinstance(f.query, CreatedIn)}
    created = {n: CreatedCount(5, 1, now - delay - 940) for n, delay in delays.items()}
    with MongoProxy(mongo_url, ALLOWED) as proxy:
        assert read(proxy.url, created, now=now).reasons == {}
        eventually(lambda: proxy.open, lambda number: number == 0)  # none is left between rounds
    assert proxy.broken == []
    assert novu_data.MARK.encode() not in proxy.answered  # it is in every text and every `_id`
    sent = [comparable(json_util.dumps(each)) for each in proxy.commands if "lsid" in each]
    lines = queries(Secret(proxy.url), TIMEOUT, (now - 1000, now - 60))
    shown = list(map(comparable, lines))
    assert sent[:2] == shown[:2]
    assert sorted(sent, key=str) == sorted(shown, key=str)  # two connections share the others
    assert all(each["comment"] == "otel-novu" for each in sent)
    batches = [answer["cursor"]["firstBatch"] for answer in proxy.answers if "cursor" in answer]
    for row in [row for batch in batches for row in batch]:
        for group in [*row["largest"], *row["rest"]] if "largest" in row else [row]:
            check_group(group)


def comparable(line: str) -> Document:
    """A command without what changes from round to round."""
    document: Document = json.loads(line)
    assert 0 < document.pop("maxTimeMS") <= TIMEOUT * 1000
    if "$gte" in line:  # the window of its own figure
        document["pipeline"][0]["$match"].pop("_id")
    return {key: value for key, value in document.items() if key not in {"lsid", "$readPreference"}}


def check_group(group: Document) -> None:
    """Check that a row of an answer has numbers, times and known words only."""
    words = group.pop("_id", None) if "n" in group else None
    known = [label.pattern for figure in FIGURES for label in figure.query.labels]
    for word in (words or {}).values():
        assert any(pattern.fullmatch(word) for pattern in known)
    for name, value in group.items():
        if isinstance(value, str):  # of the list of collections
            assert value in {*COLLECTIONS, "collection"}
        else:
            assert isinstance(value, int | float | datetime), (name, value)


def test_created_is_exact_with_insertions_deletions_and_a_new_client_each_round(
    mongo_url: str, database: Database[Document]
) -> None:
    start = int(time.time()) - 30_000
    database.notifications.insert_many([{"_id": made_at(start - n)} for n in range(1, 90)])
    created: Counts = read(mongo_url, now=start).created
    inserted, totals = 0, []
    for clock in range(start + 75, start + 1500, 45):
        ids = [made_at(clock - age) for age in range(0, 59, 7)]
        database.notifications.insert_many([{"_id": each} for each in ids])
        inserted += len(ids)
        created = read(mongo_url, created, now=clock).created
        totals.append(created["event.created"].total)
        database.notifications.delete_many({"_id": {"$lt": made_at(clock - 61)}})
    last = read(mongo_url, created, now=start + 3000).created["event.created"]
    assert totals == sorted(totals)
    assert (last.total, last.since) == (inserted, start)


def test_created_is_exact_over_a_clock_that_steps_and_never_ahead_of_the_databases(
    mongo_url: str, database: Database[Document]
) -> None:
    start = int(time.time()) - 30_000
    ids = [made_at(start + second) for second in range(0, 20_000, 7)]
    database.notifications.insert_many([{"_id": each} for each in ids])
    created: Counts = {}
    totals = []
    for offset in (0, 500, -80_000, 400, 9000, 2000, 9001, 10**9, 100, 12_000):
        created = read(mongo_url, created, now=start + offset).created
        totals.append(created["event.created"].total)
    assert totals == sorted(totals)
    assert (totals[0], totals[-1]) == (0, len(ids))
    assert created["event.created"].until <= time.time() - 60


def test_each_collection_is_counted_to_the_second_and_only_by_objectids(
    mongo_url: str, database: Database[Document]
) -> None:
    begin = int(time.time()) - 30_000
    edges = [begin - 1, begin, begin + 3599, begin + 3600, begin + 19_939, begin + 19_940]
    of = {figure.name: figure.query.collection for figure in FIGURES if figure.name in CREATED}
    for number, collection in enumerate(of.values()):
        ids: list[Any] = ["text", 5, {"a": 1}, str(made_at(begin + 5))]
        ids += [made_at(second) for second in [*edges, *[begin + 5] * number]]
        database[collection].insert_many([{"_id": each} for each in ids])
    source = UsageSource(Secret(mongo_url), lambda: begin + 20_000.0, lambda: False)
    reading = source.read(until(begin), TIMEOUT)[0]
    assert {name: reading.values[name] for name in of} == {
        name: {(): 5 + 4 + number} for number, name in enumerate(of)
    }
    assert {reading.since[name] for name in of} == {1}


def test_jobs_are_counted_as_unfinished_a_week_after_they_were_created(
    mongo_url: str, database: Database[Document]
) -> None:
    week, begin = 7 * 86_400, int(time.time()) - 8 * 86_400
    places = delivery_data.environments(1)
    items = delivery_data.generate_hour(1, begin, 50, 500, places)
    delivery_writes.insert(database, items)
    database.environments.insert_many(places)
    items += [("environments", place) for place in places]
    name, end = "job.unfinished.7d", begin + 1800
    source = UsageSource(Secret(mongo_url), lambda: end + week + 0.5, lambda: False)
    reading, round_ = source.read(until(begin, {name}), TIMEOUT)
    assert round_.created[name].until == end
    [row] = [row for row in USAGE if row.name == "novu.job.unfinished"]
    found = {tuple(sorted(p.attributes.items())): p.value for p in row.read(reading) if p.value}
    assert found == delivery_tally.tally(items, begin, end, age="7d")["novu.job.unfinished"]


# --- a server that fails as a script says --------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (13, "not authorised (code 13): the user needs the role read on the database"),
        (50, LATE),
        (16500, BUSY),
    ],
)
def test_a_figure_that_the_server_refuses_is_absent_and_spares_the_others(
    code: int, reason: str
) -> None:
    with scripted_mongo(serving(count_users=failing(code, SECRET))) as server:
        url = Secret(f"mongodb://127.0.0.1:{server.port}")
        source = UsageSource(url, lambda: NOW, lambda: False, NOVU)
        for number in (1, 2):
            reading, round_ = source.read({}, TIMEOUT)
            assert round_.reasons == {"user.count": reason}
            assert "user.count" not in reading.values
            assert reading.values["topic.count"] == {(): 1}
            assert reading.failures == dict.fromkeys(OWN, 0) | {"user.count": number}


def test_collections_that_hang_spare_the_others() -> None:
    script = serving(count_notifications=Hang(), aggregate_integrations=Hang())
    reasons = read_scripted(script, timeout=8).reasons
    # Of the second one, pymongo before 4.18 says that no server was found in time.
    assert reasons.keys() == {"event.count", "integration.count"}
    assert all(reason.startswith("timed out") for reason in reasons.values())


def test_when_the_time_is_over_every_figure_that_is_left_says_so() -> None:
    def script(command: Document) -> Document:
        if "count" in command or "aggregate" in command:
            raise Hang
        return serving()(command)

    read = read_scripted(script, until(NOW - 1000), timeout=0.5)
    assert read.reasons == dict.fromkeys(OWN, LATE)


def test_a_connection_that_breaks_is_tried_once_more() -> None:
    broken: set[str] = set()

    def script(command: Document) -> Document:
        name = next(iter(command))
        if name in {"hello", "count", "aggregate"} - broken and "lsid" in command:
            broken.add(name)
            raise Drop
        return serving()(command)

    assert read_scripted(script).reasons == {}
    assert broken == {"hello", "count", "aggregate"}


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        ({"count_users": {"ok": 1.0, "n": "many"}}, {"user.count"}),
        ({"count_users": {"ok": 1.0}}, {"user.count"}),
        ({"aggregate_integrations": rows({"largest": None})}, {"integration.count"}),
        ({"hello": {**HELLO, "localTime": None}}, OWN),
    ],
)
def test_an_odd_answer_fails_its_figures_alone(
    change: dict[str, Document | Exception], failed: set[str]
) -> None:
    assert read_scripted(serving(**change)).reasons.keys() == failed


def test_without_a_list_of_collections_every_figure_fails() -> None:
    # A 0 may be that of somebody else's database.
    round_ = read_scripted(serving(listCollections=failing(16500)))
    assert round_.reasons == dict.fromkeys(OWN, BUSY)
    assert (round_.values, round_.created) == ({}, {})


def test_once_cancelled_no_query_is_sent_and_the_remaining_figures_are_absent() -> None:
    with scripted_mongo(serving()) as server:
        url = Secret(f"mongodb://127.0.0.1:{server.port}")
        source = UsageSource(url, lambda: NOW, lambda: server.names().count("count") > 1, NOVU)
        reading, round_ = source.read(until(NOW - 1000), TIMEOUT)
    # Two connections may each have a query under way.
    assert {"user.count", "organization.count"} <= reading.values.keys()
    assert len(reading.values) <= 3
    assert round_.reasons == dict.fromkeys(OWN - reading.values.keys(), "cancelled")
    assert server.names().count("count") == len(reading.values)
    assert set(reading.failures.values()) == {0}


def test_a_long_gap_is_caught_up_as_far_as_the_time_allows_and_goes_on_in_the_next_round() -> None:
    windows: Counter[str] = Counter()

    def script(command: Document) -> Document:
        if "$gte" in str(command):
            windows[command["aggregate"]] += 1
            if windows[command["aggregate"]] > 4:
                raise Hang
        return serving()(command)

    first = read_scripted(script, created=until(NOW - 60 - 10 * 3600), timeout=8)
    assert first.reasons == {}
    assert sum(each.total for each in first.created.values()) == 6 * (5 + 4 * 3)
    rest = read_scripted(serving(), created=first.created)
    assert {each.until for each in rest.created.values()} == {int(NOW) - 60}
    assert sum(each.total for each in rest.created.values()) == 6 * (5 + 10 * 3)


def test_a_window_that_can_not_be_counted_in_time_names_the_variable_to_raise() -> None:
    before = until(NOW - 1000)
    round_ = read_scripted(serving(aggregate_subscribers=failing(50)), created=before)
    assert round_.reasons == {"subscriber.created": LATE}
    assert round_.created["subscriber.created"] == before["subscriber.created"]
    assert round_.created["event.created"].total == 8


def test_a_clock_that_is_not_set_begins_no_counter() -> None:
    unset = {**HELLO, "localTime": datetime(1970, 1, 1, 1, tzinfo=UTC)}
    begun = until(NOW - 1000, {"event.created"})
    round_ = read_scripted(serving(hello=unset), created=begun)
    reason = "the clock of this machine or of the database is not set"
    assert round_.reasons == dict.fromkeys(CREATED - {"event.created"}, reason)
    assert round_.created == begun


@pytest.mark.parametrize("secondary", [False, True])
def test_totals_prefer_secondaries_and_windows_end_with_what_the_server_has(
    *, secondary: bool
) -> None:
    def script(command: Document) -> Document:
        place = f"127.0.0.1:{server.port}"
        states = {"isWritablePrimary": not secondary, "secondary": secondary}
        written = {"lastWriteDate": HELLO["localTime"] - timedelta(seconds=500)}
        member = {"setName": "rs", "hosts": [place], "me": place, "lastWrite": written}
        hello = {**HELLO, **states, "ismaster": not secondary, **member}
        return serving(hello=hello, ismaster=hello)(command)

    with scripted_mongo(script) as server:
        url = f"mongodb://127.0.0.1:{server.port}/?replicaSet=rs&readPreference=nearest"
        round_ = read(url, until(NOW - 1000), timeout=8, now=NOW, figures=NOVU)
    assert round_.created["event.created"].until == NOW - 60 - (500 if secondary else 0)
    reads = [each for each in server.commands if {"count", "aggregate"} & each.keys()]
    modes = [each["$readPreference"]["mode"] for each in reads]
    windows = len(CREATED)
    totals = ["secondaryPreferred"] * (len(NOVU) - windows)
    assert modes == totals + ["primaryPreferred"] * windows
