"""Novu's database: one round of queries reads all usage figures."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC
from threading import Thread

import pymongo
from bson import ObjectId, json_util
from pymongo.database import Database
from pymongo.errors import AutoReconnect, OperationFailure
from pymongo.read_preferences import PrimaryPreferred, SecondaryPreferred

from otel_novu.instrumentation import suppress_instrumentation
from otel_novu.metrics.labels import OTHER
from otel_novu.metrics.queries import CreatedIn, Values
from otel_novu.metrics.usage import FIGURES, NOVU, Figure, UsageReading, collections_of
from otel_novu.settings import Secret
from otel_novu.sources import mongo
from otel_novu.sources.created import add, lag, next_window, watch
from otel_novu.sources.mongo import Document, MongoUrlError, QueryError, address, check_url
from otel_novu.store import CreatedCount

__all__ = ["MongoUrlError", "Round", "UsageSource", "address", "check_url", "queries", "read_round"]

Counts = Mapping[str, CreatedCount]
Clock = Callable[[], float]
Cancelled = Callable[[], bool]
Mode = PrimaryPreferred | SecondaryPreferred

_SHORTEST = 0.02  # seconds: for less, the driver could send `maxTimeMS: 0`, no limit at all
_SHARE = 3  # a third of the time left, so that a query that hangs spares the others
_NAMESPACE_NOT_FOUND = 26
_PRIMARY, _SECONDARY = PrimaryPreferred(), SecondaryPreferred()
_HELLO: Document = {"hello": 1}
# Without them it is not Novu's database.
_OWN = {name for figure in NOVU for name in figure.query.collections}


@dataclass(slots=True)
class Round:
    """The answers of one round; a figure that failed is absent and has a reason."""

    figures: Sequence[Figure]  # to be read
    read_at: float  # Unix time, seconds
    created: dict[str, CreatedCount]  # advanced by what was counted
    durations: dict[str, float]  # seconds
    values: dict[str, Values] = field(default_factory=dict)
    lags: dict[str, float] = field(default_factory=dict)  # seconds
    reasons: dict[str, str] = field(default_factory=dict)
    collections: frozenset[str] | None = None  # of Novu's, those that exist; None: not known

    def fail(self, reason: str) -> None:
        """Let every figure fail for the same reason."""
        self.values, self.reasons = {}, {figure.name: reason for figure in self.figures}


class UsageSource:
    """Reads the usage figures, and remembers failures and labels until the process ends."""

    def __init__(
        self, url: Secret, now: Clock, cancelled: Cancelled, figures: Sequence[Figure] = FIGURES
    ) -> None:
        self.url, self.figures, self._now, self._cancelled = url, figures, now, cancelled
        self._failures = {figure.name: 0 for figure in figures}
        self._seen: dict[str, Values] = {}

    def read(self, created: Counts, timeout: float) -> tuple[UsageReading, Round]:
        """Read all figures within `timeout` seconds; see `read_round`."""
        read = read_round(self.url, created, timeout, self._now, self._cancelled, self.figures)
        for name in read.reasons:
            self._failures[name] += not self._cancelled()
        values = {
            figure.name: self._with_zeros(figure, read.values[figure.name])
            for figure in self.figures
            if figure.name in read.values
        }
        reading = UsageReading(
            timestamp=read.read_at,
            values=values,
            since={name: count.since for name, count in read.created.items() if name in values},
            lags=read.lags,
            durations=read.durations,
            failures=dict(self._failures),
        )
        return reading, read

    def _with_zeros(self, figure: Figure, values: Values) -> Values:
        """Add 0 for what was there before, and for what closed lists also have."""
        labels = figure.query.labels
        if not labels or _is_created(figure) or figure.unit in {"s", "By"}:
            return values
        known = itertools.product(*([*filter(OTHER.__ne__, label.words)] for label in labels))
        seen = self._seen.setdefault(figure.name, dict.fromkeys(known, 0))
        seen |= dict.fromkeys(values, 0)
        return seen | values


@suppress_instrumentation()
def read_round(
    url: Secret,
    created: Counts,
    timeout: float,
    now: Clock,
    cancelled: Cancelled = lambda: False,
    figures: Sequence[Figure] = FIGURES,
) -> Round:
    """Read the figures within `timeout` seconds; never raises.

    Once `cancelled` returns true, no further query is sent.
    """
    durations = {figure.name: 0.0 for figure in figures}
    round_ = Round(figures, now(), dict(created), durations)
    deadline = time.monotonic() + timeout
    try:
        with mongo.connected(url, timeout) as database:
            _Reader(database, round_, deadline, cancelled).read()
    except Exception as error:  # noqa: BLE001 - the driver's, or because of an odd answer
        round_.fail(mongo.reason_of(error))
    return round_


@dataclass(slots=True)
class _Reader:
    """Sends the queries of a round, over two connections."""

    database: Database[Document]
    round: Round
    deadline: float
    cancelled: Cancelled
    clock: float = 0.0  # the earlier one of ours and the database's, Unix time
    advanced: set[str] = field(default_factory=set)  # figures with a window that was counted

    def read(self) -> None:
        """Read clock and collections, the totals, then the created documents."""
        # More time than the others, because every figure fails without these.
        with self._share(2):
            self.clock = min(self.round.read_at, _server_time(*self._send(_HELLO)))
        with self._share(2):
            names = frozenset(row["name"] for row in self._send(_listing(self.round.figures)))
        self.round.collections = names
        if not names & _OWN:
            reason = f'none of Novu\'s collections exist in database "{self.database.name}"'
            raise QueryError(f"{reason}: wrong database?")
        totals = [each for each in self.round.figures if not _is_created(each)]
        self._side_by_side(totals)
        # What is furthest behind comes first, so that every figure has its turn.
        created = sorted(filter(_is_created, self.round.figures), key=self._counted_until)
        self._side_by_side(created)

    def _side_by_side(self, figures: Sequence[Figure]) -> None:
        """Read figures in two threads; those of which there is more to read come last again."""
        pending = deque(figures)

        def take() -> None:
            with suppress(IndexError):  # nothing is left
                while True:
                    figure = pending.popleft()
                    if self._read(figure, len(pending) // 2 + 1):  # turns that are left
                        pending.append(figure)

        # In this context, instrumentation is suppressed.
        threads = [Thread(target=copy_context().run, args=(take,), daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _read(self, figure: Figure, turns: int) -> bool:
        """Read a figure within its share of the time; return whether there is more to read."""
        began = time.monotonic()
        try:
            if _is_created(figure):
                with self._share(min(2, turns)):
                    return self._count_window(figure)
            with self._share(_SHARE):
                return self._read_total(figure)
        except Exception as error:  # noqa: BLE001 - the driver's, or because of an odd answer
            if figure.name not in self.advanced:
                self.round.reasons[figure.name] = mongo.reason_of(error)
                self.round.values.pop(figure.name, None)
            return False
        finally:
            self.round.durations[figure.name] += time.monotonic() - began

    def _read_total(self, figure: Figure) -> bool:
        answers = [self._send(each, _SECONDARY) for each in figure.query.commands()]
        self.round.values[figure.name] = figure.query.values(answers)
        return False

    def _counted_until(self, figure: Figure) -> float:
        count, query = self.round.created.get(figure.name), figure.query
        assert isinstance(query, CreatedIn)  # noqa: S101 - for the type checker
        return float("inf") if count is None else count.until + query.delay

    def _count_window(self, figure: Figure) -> bool:
        """Count the next window of created documents, if there is one; return whether there was."""
        query, name = figure.query, figure.name
        assert isinstance(query, CreatedIn)  # noqa: S101 - for the type checker
        count = watch(self.round.created.get(name), self.clock)
        if count is None:
            raise QueryError("the clock of this machine or of the database is not set")
        self.round.created[name] = count
        due = self.clock - query.delay
        self.round.lags[name] = lag(count, due)  # also if the query fails
        if (window := next_window(count, due)) is not None:
            answers = [self._send(each) for each in query.commands(_ids(*window))]
            self.round.created[name] = count = add(count, query.values(answers), window[1])
            self.round.lags[name] = lag(count, due)
            self.advanced.add(name)
        self.round.values[name] = dict(count.by) if query.labels else {(): count.total}
        return window is not None

    @contextmanager
    def _share(self, waiting: int) -> Iterator[None]:
        """Grant a share of the time that is left; the last one gets all of it."""
        left = self.deadline - time.monotonic()
        if left < _SHORTEST:
            raise QueryError(mongo.TIMED_OUT)
        with pymongo.timeout(max(_SHORTEST, left / min(_SHARE, waiting))):
            yield

    def _send(self, command: Document, mode: Mode = _PRIMARY) -> list[Document]:
        """Send a command; a collection that is missing has no rows."""
        if self.cancelled():
            raise QueryError("cancelled")
        for retried in (False, True):
            try:
                answer = self.database.command(_commented(command), read_preference=mode)
                return answer["cursor"]["firstBatch"] if "cursor" in answer else [answer]
            except AutoReconnect:  # the connection broke
                if retried:
                    raise
            except OperationFailure as error:
                if error.code != _NAMESPACE_NOT_FOUND:
                    raise
                break
        return []


def _is_created(figure: Figure) -> bool:
    return isinstance(figure.query, CreatedIn)


def _listing(figures: Sequence[Figure]) -> Document:
    return {
        "listCollections": 1,
        "cursor": {},
        "filter": {"name": {"$in": [*collections_of(figures)]}},
        "nameOnly": True,
        "authorizedCollections": True,
    }


def _commented(command: Document) -> Document:
    return {**command, "comment": mongo.APP_NAME}


def _ids(first: int, end: int) -> Document:
    """Match a window in Unix time: an ObjectId begins with the second in which it was made."""
    ids = [ObjectId(second.to_bytes(4, "big") + bytes(8)) for second in (first, end)]
    return {"_id": {"$gte": ids[0], "$lt": ids[1]}}


def _server_time(hello: Document) -> float:
    """Return the database's clock; that of a secondary is no later than its last write."""
    times = [hello["localTime"]]
    if hello.get("secondary"):
        times.append(hello["lastWrite"]["lastWriteDate"])
    return float(min(times).replace(tzinfo=UTC).timestamp())


def queries(
    url: Secret, timeout: float, window: tuple[int, int], figures: Sequence[Figure] = FIGURES
) -> list[str]:
    """Return the commands of a round as Extended JSON, `maxTimeMS` being the most it can be."""
    commands = [_HELLO, _listing(figures)]
    for query in (figure.query for figure in sorted(figures, key=_is_created)):
        match = _ids(*window)
        commands += query.commands(match) if isinstance(query, CreatedIn) else query.commands()
    every = {"maxTimeMS": int(timeout * 1000), "$db": address(url).rpartition("/")[2]}
    options = json_util.RELAXED_JSON_OPTIONS
    return [json_util.dumps(_commented(each) | every, json_options=options) for each in commands]
