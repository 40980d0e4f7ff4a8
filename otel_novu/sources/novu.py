"""Novu's database: one round of queries reads all usage figures."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import pymongo
from bson import ObjectId, json_util
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import AutoReconnect, PyMongoError
from pymongo.read_preferences import PrimaryPreferred, SecondaryPreferred

from otel_novu.metrics.queries import OTHER, CountByProvider, CreatedIn, Estimate, Total
from otel_novu.metrics.usage import COLLECTIONS, FIGURES, Created, Figure, UsageReading
from otel_novu.settings import Secret
from otel_novu.sources.created import add, next_window, watch
from otel_novu.sources.mongo import (
    APP_NAME,
    TIMED_OUT,
    Document,
    Failure,
    MongoUrlError,
    address,
    check_url,
    failure_of,
    open_database,
)
from otel_novu.store import CreatedCount

__all__ = ["MongoUrlError", "Round", "UsageSource", "address", "check_url", "queries", "read_round"]

Answer = TypeVar("Answer")
Counts = Mapping[str, CreatedCount]
Now = Callable[[], float]
Cancelled = Callable[[], bool]

_CLOSE_TIMEOUT = 0.5
_SHORTEST = 0.02  # seconds: for less, the driver could send `maxTimeMS: 0`, no limit at all
_SHARE = 3  # a third of the time left, so that a query that hangs spares the others
_MOST_PROVIDERS = 1000  # the SDK never forgets an attribute set, and overflows at 2,000
_LISTING: Document = {
    "filter": {"name": {"$in": list(COLLECTIONS)}},
    "nameOnly": True,
    "authorizedCollections": True,
    "comment": APP_NAME,
}
_CREATED = tuple(figure for figure in FIGURES if isinstance(figure.query, CreatedIn))
# The fast ones first: the others get the time that they leave.
_TOTALS = sorted(
    ((figure, figure.query) for figure in FIGURES if not isinstance(figure.query, CreatedIn)),
    key=lambda row: not isinstance(row[1], Estimate),
)


@dataclass(slots=True)
class Round:
    """The answers of one round; a figure that failed is absent and has a reason."""

    read_at: float  # Unix time, seconds
    created: dict[str, CreatedCount]  # advanced by what was counted
    totals: dict[str, int] = field(default_factory=dict)
    providers: dict[str, Mapping[str, int]] = field(default_factory=dict)
    durations: dict[str, float] = field(default_factory=dict)  # seconds
    reasons: dict[str, str] = field(default_factory=dict)
    collections: frozenset[str] | None = None  # of Novu's, those that exist; None: not known


class UsageSource:
    """Reads the usage figures, and remembers failures and providers until the process ends."""

    def __init__(self, url: Secret, now: Now, cancelled: Cancelled) -> None:
        self.url, self._now, self._cancelled = url, now, cancelled
        self._failures = {figure.name: 0 for figure in FIGURES}
        self._providers: dict[str, dict[str, int]] = {}

    def read(self, created: Counts, timeout: float) -> tuple[UsageReading, Round]:
        """Read all figures within `timeout` seconds; see `read_round`."""
        read = read_round(self.url, created, timeout, self._now, self._cancelled)
        for name in read.reasons:
            self._failures[name] += not self._cancelled()
        counts = {f.name: read.created[f.name] for f in _CREATED if f.name not in read.reasons}
        reading = UsageReading(
            timestamp=read.read_at,
            totals=read.totals,
            providers={name: self._with_gone(name, by) for name, by in read.providers.items()},
            created={name: Created(each.total, each.since) for name, each in counts.items()},
            durations=read.durations,
            failures=dict(self._failures),
        )
        return reading, read

    def _with_gone(self, figure: str, counts: Mapping[str, int]) -> Mapping[str, int]:
        """Add 0 for each provider that was there before and is gone."""
        merged = dict.fromkeys(self._providers.get(figure, ()), 0)
        for provider, count in counts.items():
            name = provider if provider in merged or len(merged) < _MOST_PROVIDERS else OTHER
            merged[name] = merged.get(name, 0) + count
        self._providers[figure] = merged
        return merged


def read_round(
    url: Secret, created: Counts, timeout: float, now: Now, cancelled: Cancelled = lambda: False
) -> Round:
    """Read all figures within `timeout` seconds; never raises.

    A resolver that hangs holds a thread of the driver's, which no time limit reaches, but not
    the round. Once `cancelled` returns true, no further query is sent.
    """
    began = time.monotonic()
    round_ = Round(now(), dict(created))
    try:
        database, _ = open_database(url, timeout)
    except MongoUrlError as error:
        round_.reasons = {figure.name: str(error) for figure in FIGURES}
    else:
        _Reader(round_, began + timeout, cancelled).read(database)
        with suppress(PyMongoError), pymongo.timeout(_CLOSE_TIMEOUT):
            database.client.close()
    took = time.monotonic() - began
    round_.durations = {f.name: round_.durations.get(f.name, took) for f in FIGURES}
    return round_


class _Reader:
    """Runs the queries of a round one after the other."""

    def __init__(self, round_: Round, deadline: float, cancelled: Cancelled) -> None:
        self._round, self._deadline, self._cancelled = round_, deadline, cancelled
        self._fatal: Failure | None = None

    def read(self, database: Database[Document]) -> None:
        """Read clock and collections, the totals, then the created documents."""
        primary = database.with_options(read_preference=PrimaryPreferred())
        clock = self._run(partial(_server_time, primary), 2)  # more time, because it connects
        names = self._run(lambda: frozenset(database.list_collection_names(**_LISTING)), _SHARE)
        if not isinstance(names, Failure):
            self._round.collections = names
        if names == frozenset():
            reason = f'none of Novu\'s collections exist in database "{database.name}"'
            return self._fail(FIGURES, f"{reason}: wrong database?")
        self._read_totals(database.with_options(read_preference=SecondaryPreferred()))
        found = any([*self._round.totals.values(), *self._round.providers.values()])
        if isinstance(names, Failure) and not found:
            self._round.totals, self._round.providers = {}, {}  # 0 in somebody else's database?
            self._round.reasons = {}  # one cause in several words
            return self._fail(FIGURES, names.reason)
        if isinstance(clock, Failure):
            return self._fail(_CREATED, clock.reason)
        return self._read_created(primary, min(self._round.read_at, clock))

    def _read_totals(self, database: Database[Document]) -> None:
        for figure, query in _TOTALS:
            answer = self._run(partial(_total, database[query.collection], query), _SHARE, figure)
            if isinstance(answer, Failure):
                self._fail([figure], answer.reason)
            elif isinstance(answer, int):
                self._round.totals[figure.name] = answer
            else:
                self._round.providers[figure.name] = answer

    def _read_created(self, database: Database[Document], clock: float) -> None:
        """Count a window of each figure, then the next one of each, while there is time."""
        pending, advanced = deque(_CREATED), set()
        while pending:
            figure = pending.popleft()
            count = watch(self._round.created.get(figure.name), clock)
            if count is None:
                self._fail([figure], "the clock of this machine or of the database is not set")
                continue
            self._round.created[figure.name] = count
            window = next_window(count, clock)
            if window is None:
                self._round.durations.setdefault(figure.name, 0.0)
                continue
            query = partial(_created, database[figure.query.collection], window)
            answer = self._run(query, len(pending) + 1, figure)
            if not isinstance(answer, Failure):
                self._round.created[figure.name] = add(count, answer, window[1])
                advanced.add(figure)
                pending.append(figure)
            elif figure not in advanced:
                self._fail([figure], answer.reason)

    def _run(
        self, query: Callable[[], Answer], waiting: int, figure: Figure | None = None
    ) -> Answer | Failure:
        """Run a query within its share of the time left; the last one gets all of it."""
        began = time.monotonic()
        left = self._deadline - began
        if self._fatal is None and self._cancelled():
            self._fatal = Failure("cancelled", fatal=True)
        if self._fatal or left < _SHORTEST:
            return self._fatal or TIMED_OUT
        try:
            with pymongo.timeout(max(_SHORTEST, left / min(_SHARE, waiting))):
                return query()
        except Exception as error:  # noqa: BLE001 - the driver's, or because of an odd answer
            failure = failure_of(error)
            self._fatal = failure if failure.fatal else None
            return failure
        finally:
            if figure is not None:
                took = self._round.durations.get(figure.name, 0.0) + time.monotonic() - began
                self._round.durations[figure.name] = took

    def _fail(self, figures: Iterable[Figure], reason: str) -> None:
        for figure in figures:
            self._round.reasons.setdefault(figure.name, reason)


def _server_time(database: Database[Document]) -> float:
    """Return the database's clock; that of a secondary is no later than its last write."""
    hello = partial(database.command, "hello", codec_options=database.codec_options)
    try:
        answer = hello(read_preference=database.read_preference)
    except AutoReconnect:  # the driver retries its other reads by itself
        answer = hello(read_preference=database.read_preference)
    times = [answer["localTime"]]
    if answer.get("secondary"):
        times.append(answer["lastWrite"]["lastWriteDate"])
    return float(min(times).timestamp())


def _total(collection: Collection[Document], query: Total) -> int | Mapping[str, int]:
    if isinstance(query, Estimate):
        return collection.estimated_document_count(comment=APP_NAME)
    rows = collection.aggregate(query.pipeline(), comment=APP_NAME).to_list()
    return query.counts(rows) if isinstance(query, CountByProvider) else _sum(rows)


def _created(collection: Collection[Document], window: tuple[int, int]) -> int:
    return _sum(collection.aggregate(_window(*window), comment=APP_NAME).to_list())


def _window(begin: int, end: int) -> list[Document]:
    """Count a range of `_id`: an ObjectId begins with the second in which it was made."""
    first, last = (ObjectId(second.to_bytes(4, "big") + bytes(8)) for second in (begin, end))
    ids = {"_id": {"$gte": first, "$lt": last}}
    return [{"$match": ids}, {"$group": {"_id": None, "n": {"$sum": 1}}}]


def _sum(rows: Iterable[Document]) -> int:
    return sum(int(row["n"]) for row in rows)


def queries(url: Secret, timeout: float, window: tuple[int, int]) -> list[str]:
    """Return the commands of a round as Extended JSON, `maxTimeMS` being the most it can be.

    The window of the created documents is given as begin and end, Unix time in seconds.
    """
    commands: list[Document] = [{"hello": 1}, {"listCollections": 1, "cursor": {}, **_LISTING}]
    for query in (*(query for _, query in _TOTALS), *(figure.query for figure in _CREATED)):
        if isinstance(query, Estimate):
            commands.append({"count": query.collection, "comment": APP_NAME})
        else:
            pipeline = _window(*window) if isinstance(query, CreatedIn) else query.pipeline()
            aggregate = {"aggregate": query.collection, "pipeline": pipeline}
            commands.append({**aggregate, "cursor": {}, "comment": APP_NAME})
    every = {"maxTimeMS": int(timeout * 1000), "$db": address(url).rpartition("/")[2]}
    options = json_util.RELAXED_JSON_OPTIONS
    return [json_util.dumps({**command, **every}, json_options=options) for command in commands]
