"""Novu's database: one round of queries reads all usage figures."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC
from functools import partial

import pymongo
from bson import ObjectId, json_util
from pymongo.database import Database
from pymongo.errors import AutoReconnect, PyMongoError
from pymongo.read_preferences import PrimaryPreferred, SecondaryPreferred

from otel_novu.metrics.queries import CountByProvider, CreatedIn, Estimate, Stage, Total
from otel_novu.metrics.usage import COLLECTIONS, FIGURES, Created, Figure, UsageReading
from otel_novu.settings import Secret
from otel_novu.sources import mongo
from otel_novu.sources.created import add, next_window, watch
from otel_novu.sources.mongo import Document, MongoUrlError, QueryError, address, check_url
from otel_novu.store import CreatedCount

__all__ = ["MongoUrlError", "Round", "UsageSource", "address", "check_url", "queries", "read_round"]

Counts = Mapping[str, CreatedCount]
Clock = Callable[[], float]
Cancelled = Callable[[], bool]
Mode = PrimaryPreferred | SecondaryPreferred

_SHORTEST = 0.02  # seconds: for less, the driver could send `maxTimeMS: 0`, no limit at all
_SHARE = 3  # a third of the time left, so that a query that hangs spares the others
_PRIMARY, _SECONDARY = PrimaryPreferred(), SecondaryPreferred()
_HELLO: Document = {"hello": 1}
_LISTING: Document = {
    "listCollections": 1,
    "cursor": {},
    "filter": {"name": {"$in": list(COLLECTIONS)}},
    "nameOnly": True,
    "authorizedCollections": True,
    "comment": mongo.APP_NAME,
}
_CREATED = [figure for figure in FIGURES if isinstance(figure.query, CreatedIn)]
# The fast ones first: the others get the time that they leave.
_TOTALS = [figure for figure in FIGURES if isinstance(figure.query, Estimate)]
_TOTALS += [figure for figure in FIGURES if figure not in [*_TOTALS, *_CREATED]]
_NAMES = [figure.name for figure in FIGURES]


@dataclass(slots=True)
class Round:
    """The answers of one round; a figure that failed is absent and has a reason."""

    read_at: float  # Unix time, seconds
    created: dict[str, CreatedCount]  # advanced by what was counted
    totals: dict[str, int] = field(default_factory=dict)
    providers: dict[str, dict[str, int]] = field(default_factory=dict)
    durations: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_NAMES, 0.0))
    reasons: dict[str, str] = field(default_factory=dict)
    collections: frozenset[str] | None = None  # of Novu's, those that exist; None: not known


class UsageSource:
    """Reads the usage figures, and remembers failures and providers until the process ends."""

    def __init__(self, url: Secret, now: Clock, cancelled: Cancelled) -> None:
        self.url, self._now, self._cancelled = url, now, cancelled
        self._failures = dict.fromkeys(_NAMES, 0)
        self._providers: dict[str, dict[str, int]] = {}

    def read(self, created: Counts, timeout: float) -> tuple[UsageReading, Round]:
        """Read all figures within `timeout` seconds; see `read_round`."""
        read = read_round(self.url, created, timeout, self._now, self._cancelled)
        for name in read.reasons:
            self._failures[name] += not self._cancelled()
        for name, providers in read.providers.items():
            gone = dict.fromkeys(self._providers.get(name, ()), 0)
            self._providers[name] = gone | providers  # 0 for those that were there before
        counts = {f.name: read.created[f.name] for f in _CREATED if f.name not in read.reasons}
        reading = UsageReading(
            timestamp=read.read_at,
            totals=read.totals,
            providers={name: self._providers[name] for name in read.providers},
            created={name: Created(each.total, each.since) for name, each in counts.items()},
            durations=read.durations,
            failures=dict(self._failures),
        )
        return reading, read


def read_round(
    url: Secret, created: Counts, timeout: float, now: Clock, cancelled: Cancelled = lambda: False
) -> Round:
    """Read all figures within `timeout` seconds; never raises.

    A resolver that hangs holds a thread of the driver's, which no time limit reaches, but not
    the round. Once `cancelled` returns true, no further query is sent.
    """
    round_ = Round(now(), dict(created))
    deadline = time.monotonic() + timeout
    try:
        database, _ = mongo.open_database(url, timeout)
        try:
            _Reader(database, round_, deadline, cancelled).read()
        finally:
            with suppress(PyMongoError), pymongo.timeout(0.5):
                database.client.close()
    except Exception as error:  # noqa: BLE001 - the driver's, or because of an odd answer
        round_.reasons = dict.fromkeys(_NAMES, mongo.reason_of(error))
    return round_


@dataclass(slots=True)
class _Reader:
    """Sends the queries of a round one after the other."""

    database: Database[Document]
    round: Round
    deadline: float
    cancelled: Cancelled
    advanced: set[str] = field(default_factory=set)  # figures with a window that was counted

    def read(self) -> None:
        """Read clock and collections, the totals, then the created documents."""
        # More time than the others, because every figure fails without these.
        clock = min(self.round.read_at, _server_time(*self._send(_HELLO, 2)))
        self.round.collections = frozenset(row["name"] for row in self._send(_LISTING, 2))
        if not self.round.collections:
            reason = f'none of Novu\'s collections exist in database "{self.database.name}"'
            raise QueryError(f"{reason}: wrong database?")
        for figure in _TOTALS:
            with self._reading(figure):
                rows = self._send(_command(figure.query), _SHARE, _SECONDARY)
                if isinstance(figure.query, CountByProvider):
                    self.round.providers[figure.name] = figure.query.counts(rows)
                else:
                    self.round.totals[figure.name] = _sum(rows)
        pending = deque(_CREATED)
        while pending:
            figure = pending.popleft()
            with self._reading(figure):
                if self._count_window(figure, clock, len(pending) + 1):
                    pending.append(figure)

    def _count_window(self, figure: Figure, clock: float, waiting: int) -> bool:
        """Count the next window of created documents, if there is one."""
        count = watch(self.round.created.get(figure.name), clock)
        if count is None:
            raise QueryError("the clock of this machine or of the database is not set")
        self.round.created[figure.name] = count
        window = next_window(count, clock)
        if window is None:
            return False
        rows = self._send(_command(figure.query, window), waiting)
        self.round.created[figure.name] = add(count, _sum(rows), window[1])
        self.advanced.add(figure.name)
        return True

    @contextmanager
    def _reading(self, figure: Figure) -> Iterator[None]:
        """Measure a figure's queries, and keep the reason if they fail."""
        began = time.monotonic()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the driver's, or because of an odd answer
            if figure.name not in self.advanced:
                self.round.reasons[figure.name] = mongo.reason_of(error)
        self.round.durations[figure.name] += time.monotonic() - began

    def _send(self, command: Document, waiting: int, mode: Mode = _PRIMARY) -> list[Document]:
        """Send a command within its share of the time left; the last one gets all of it."""
        left = self.deadline - time.monotonic()
        if self.cancelled():
            raise QueryError("cancelled")
        if left < _SHORTEST:
            raise QueryError(mongo.TIMED_OUT)
        send = partial(self.database.command, dict(command), read_preference=mode)
        with pymongo.timeout(max(_SHORTEST, left / min(_SHARE, waiting))):
            try:
                answer = send()
            except AutoReconnect:  # the connection broke
                answer = send()
        return answer["cursor"]["firstBatch"] if "cursor" in answer else [answer]


def _command(query: Total | CreatedIn, window: tuple[int, int] = (0, 0)) -> Document:
    """Return the command of a query; the window, in Unix time, is that of created documents."""
    if isinstance(query, Estimate):
        return {"count": query.collection, "comment": mongo.APP_NAME}
    if isinstance(query, CreatedIn):
        # An ObjectId begins with the second in which it was made.
        first, end = (ObjectId(second.to_bytes(4, "big") + bytes(8)) for second in window)
        match = {"$match": {"_id": {"$gte": first, "$lt": end}}}
        pipeline: list[Stage] = [match, {"$group": {"_id": None, "n": {"$sum": 1}}}]
    else:
        pipeline = query.pipeline()
    aggregate = {"aggregate": query.collection, "pipeline": pipeline, "comment": mongo.APP_NAME}
    return {**aggregate, "cursor": {"batchSize": 1000}}  # all rows at once: `_send` reads no more


def _server_time(hello: Document) -> float:
    """Return the database's clock; that of a secondary is no later than its last write."""
    times = [hello["localTime"]]
    if hello.get("secondary"):
        times.append(hello["lastWrite"]["lastWriteDate"])
    return float(min(times).replace(tzinfo=UTC).timestamp())


def _sum(rows: list[Document]) -> int:
    return sum(int(row["n"]) for row in rows)


def queries(url: Secret, timeout: float, window: tuple[int, int]) -> list[str]:
    """Return the commands of a round as Extended JSON, `maxTimeMS` being the most it can be."""
    figures = (_command(figure.query, window) for figure in (*_TOTALS, *_CREATED))
    every = {"maxTimeMS": int(timeout * 1000), "$db": address(url).rpartition("/")[2]}
    commands = [{**command, **every} for command in (_HELLO, _LISTING, *figures)]
    options = json_util.RELAXED_JSON_OPTIONS
    return [json_util.dumps(command, json_options=options) for command in commands]
