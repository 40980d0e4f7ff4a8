"""Rounds of reading all usage figures, each under one deadline."""

import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from otel_novu.metrics.question import OTHER, Asked, CreatedIn, Estimate
from otel_novu.metrics.usage import FIGURES, Created, Figure, UsageReading
from otel_novu.sources.created import CreatedRound, CreatedWatch, Slice, Store
from otel_novu.sources.crew import GRACE, Crew, Lane, Task
from otel_novu.sources.failure import TIMED_OUT, NoConnection, ReadFailed, TimedOut

WORKERS = 4
STUCK_WORKERS = 2 * WORKERS
PROVIDERS_KEPT = 1000  # the SDK never lets go of an attribute set, and overflows at 2,000

_PROVIDER = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_MAX_COUNT = 2**63 - 1  # what OTLP carries
_SHORTEST = 0.05  # seconds, below which no further slice is begun
_FIRST_SHARE = 0.5  # a server that answers counts but not `hello` still has its figures read

NO_CLOCK = "the database's clock can't be read: "
"""How the reason begins why documents created could not be counted without that clock."""
_HANGS = "the previous reading still hangs"

_TOTALS = tuple(figure for figure in FIGURES if not isinstance(figure.question, CreatedIn))
_CREATED = tuple(figure for figure in FIGURES if isinstance(figure.question, CreatedIn))
# What is O(1) first: the others get all the time that it leaves.
_CHEAP_FIRST = sorted(_TOTALS, key=lambda figure: not isinstance(figure.question, Estimate))
# Beside the two questions that every round begins with.
_FIRST_TOTALS = WORKERS - 2


class Questions(Asked, Protocol):
    """What a round asks of a database."""

    def hello_time(self) -> float:
        """Ask for the database's clock, Unix time in seconds."""

    def collections(self) -> frozenset[str]:
        """Ask which of Novu's collections exist."""


class Database(Protocol):
    """Novu's database, for one round."""

    @property
    def name(self) -> str:
        """The database's name."""

    def within(self, seconds: float) -> Questions:
        """Ask with a limit for each question, seconds."""

    def close(self) -> None:
        """Let go of every connection."""


Opener = Callable[[float], Database]


@dataclass(frozen=True, slots=True)
class UsageRound:
    """A reading, and what is told about it beside the metrics.

    Args:
        reading: the figures; those that failed are absent.
        reasons: why a figure failed, one clause without secrets, by figure.
        collections: which of Novu's collections exist, or None where that is not known.
    """

    reading: UsageReading
    reasons: Mapping[str, str]
    collections: frozenset[str] | None


class UsageSource:
    """Reads the usage figures, round after round.

    It is not to be used by two threads at once, but for `end_by`.

    Args:
        open_database: makes a connection for one round that lasts so many seconds, in a thread
            of the round; raises `ReadFailed`.
        store: where the counters of created documents are kept.
    """

    def __init__(self, open_database: Opener, store: Store) -> None:
        self._open_database = open_database
        self._watch = CreatedWatch(store, (figure.name for figure in _CREATED))
        self._failures = {figure.name: 0 for figure in FIGURES}
        self._providers = _Providers()
        self._threads: list[threading.Thread] = []
        self._crew: Crew | None = None
        self._latest = math.inf

    def read(self, deadline_seconds: float, now: Callable[[], float]) -> UsageRound:
        """Read all figures; returns within half a second of the deadline, whatever hangs.

        The counters of created documents are saved before this returns.

        Args:
            deadline_seconds: for the whole round.
            now: our clock, Unix time in seconds.
        """
        timestamp, began = now(), time.monotonic()
        answers = _Answers()
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) >= STUCK_WORKERS:
            answers.fail_all(_HANGS)
        else:
            self._ask(answers, deadline_seconds, timestamp)
        self._keep(answers)
        return self._round(answers, timestamp, time.monotonic() - began)

    def forget_begin(self) -> None:
        """Leave out of the counters what is created from now on until the next round."""
        self._watch.forget_begin()

    def end_by(self, seconds: float) -> None:
        """Let every round end within so many seconds, from any thread, the one under way too.

        Args:
            seconds: from now on.
        """
        self._latest = time.monotonic() + seconds
        if self._crew is not None:
            self._crew.hurry(seconds)

    def _ask(self, answers: "_Answers", seconds: float, timestamp: float) -> None:
        connection = _Connection(self._open_database, seconds)
        self._crew = crew = Crew(WORKERS, seconds)
        crew.hurry(self._latest - time.monotonic())  # only now, as `end_by` may have come between
        try:
            _Plan(crew, connection, answers, self._opened_watch(answers), timestamp).begin()
            crew.run()
        finally:
            closer = threading.Thread(target=connection.close, name="otel-novu-closer", daemon=True)
            closer.start()
            self._threads += [*crew.threads(), closer]
            _join(self._threads, GRACE)
        answers.judge(connection.name)

    def _opened_watch(self, answers: "_Answers") -> CreatedWatch | None:
        # Here and not in a worker: reading a file must not hold the lock of the crew.
        try:
            self._watch.load()
        except ReadFailed as failure:
            answers.fail(_CREATED, failure.reason)
            return None
        return self._watch

    def _keep(self, answers: "_Answers") -> None:
        if answers.created is not None:
            self._watch.close_round(answers.created)

    def _round(self, answers: "_Answers", timestamp: float, took: float) -> UsageRound:
        for figure in answers.reasons:
            self._failures[figure] += 1
        providers = {
            figure: self._providers.with_the_gone(figure, counts)
            for figure, counts in answers.providers.items()
        }
        reading = UsageReading(
            timestamp=timestamp,
            totals=answers.totals,
            providers=providers,
            created=answers.created_figures(),
            # What never had its answer, or its turn, took as long as the round.
            durations={figure.name: answers.seconds.get(figure.name, took) for figure in FIGURES},
            failures=dict(self._failures),
        )
        return UsageRound(reading, dict(answers.reasons), answers.collections)


class _Providers:
    """The provider ids seen in this process, which are sent as 0 when they are gone."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, None]] = {}

    def with_the_gone(self, figure: str, counts: Mapping[str, int]) -> Mapping[str, int]:
        seen = self._seen.setdefault(figure, {})
        merged = dict.fromkeys(seen, 0)
        for provider, count in counts.items():
            name = self._name(provider, seen)
            seen[name] = None
            merged[name] = merged.get(name, 0) + count
        return merged

    def _name(self, provider: str, seen: Mapping[str, None]) -> str:
        if provider in seen:
            return provider
        # A place stays free for `other`.
        room = len(seen.keys() - {OTHER}) < PROVIDERS_KEPT - 1
        return provider if room and _PROVIDER.fullmatch(provider) else OTHER


class _Connection:
    """A database that is opened in one thread and closed in another, in either order."""

    def __init__(self, open_database: Opener, seconds: float) -> None:
        self._open_database = open_database
        self._seconds = seconds
        self._lock = threading.Lock()
        self._database: Database | None = None
        self._closed = False
        self.name = ""

    def open(self) -> None:
        try:
            database = self._open_database(self._seconds)
        except ReadFailed as failure:
            raise NoConnection(failure.reason) from None
        with self._lock:
            self._database = database
            self.name = database.name
            late = self._closed
        if late:
            database.close()

    def within(self, seconds: float) -> Questions:
        if self._database is None:
            raise NoConnection("the database could not be opened")
        return self._database.within(seconds)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            database = self._database
        if database is not None:
            database.close()


class _Answers:
    """What a round has learnt; changed by one thread at a time."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.providers: dict[str, Mapping[str, int]] = {}
        self.created: CreatedRound | None = None
        self.advanced: set[str] = set()
        self.collections: frozenset[str] | None = None
        self.listing = TIMED_OUT
        self.reasons: dict[str, str] = {}
        self.seconds: dict[str, float] = {}

    def fail(self, figures: tuple[Figure, ...], reason: str) -> None:
        for figure in figures:
            self.reasons.setdefault(figure.name, reason)

    def fail_all(self, reason: str) -> None:
        self.totals.clear()
        self.providers.clear()
        self.created = None
        self.fail(FIGURES, reason)

    def spend(self, figure: str, seconds: float) -> None:
        self.seconds[figure] = self.seconds.get(figure, 0.0) + seconds

    def judge(self, database: str) -> None:
        """Tell a database that is not Novu's from one that holds nothing yet."""
        if self.collections is not None and not self.collections:
            self.fail_all(
                f'none of Novu\'s collections exist in database "{database}": wrong database?'
            )
        elif self.collections is None and not self._holds_something():
            zeros = f"every figure is 0, and which collections exist is not told: {self.listing}"
            self.fail_all(zeros if self.totals or self.providers else self.listing)
        answered = {*self.totals, *self.providers, *self.advanced}
        late = (figure for figure in FIGURES if figure.name not in answered)
        self.fail(tuple(late), TIMED_OUT)

    def created_figures(self) -> Mapping[str, Created]:
        if self.created is None:
            return {}
        names = self.advanced - self.reasons.keys()
        return {f.name: self.created.created(f.name) for f in _CREATED if f.name in names}

    def _holds_something(self) -> bool:
        counts = [*self.totals.values(), *(sum(each.values()) for each in self.providers.values())]
        return any(counts)


class _Plan:
    """The order of a round's questions, and what each answer leads to."""

    def __init__(
        self,
        crew: Crew,
        connection: _Connection,
        answers: _Answers,
        watch: CreatedWatch | None,
        timestamp: float,
    ) -> None:
        self._crew = crew
        self._connection = connection
        self._answers = answers
        self._watch = watch
        self._timestamp = timestamp
        self._clock: object = None
        self._told = False

    def begin(self) -> None:
        """Open the database first: what can't be opened can't be asked."""
        self._crew.add(Task(lambda _: self._connection.open(), self._opened))

    def _opened(self, failure: object, _seconds: float) -> None:
        if isinstance(failure, ReadFailed):
            self._answers.fail_all(failure.reason)
            return
        # One for each worker, so that their connections are made side by side, and for all of
        # them a part of the time, so that a server that hangs over these has others asked too.
        self._first(lambda limit: self._ask(limit).hello_time(), self._greeted)
        self._first(lambda limit: self._ask(limit).collections(), self._listed)
        for figure in _CHEAP_FIRST[:_FIRST_TOTALS]:
            self._first(partial(self._total, figure), partial(self._counted, figure))

    def _first(
        self, ask: Callable[[float], object], settle: Callable[[object, float], None]
    ) -> None:
        self._crew.add(Task(ask, settle, share=_FIRST_SHARE))

    def _greeted(self, clock: object, _seconds: float) -> None:
        if isinstance(clock, NoConnection):
            self._answers.fail_all(clock.reason)
            return
        self._clock = clock
        for figure in _CHEAP_FIRST[_FIRST_TOTALS:]:
            self._crew.add(Task(partial(self._total, figure), partial(self._counted, figure)))
        self._begin_windows()

    def _listed(self, names: object, _seconds: float) -> None:
        self._told = True
        if isinstance(names, frozenset):
            self._answers.collections = names
        elif isinstance(names, ReadFailed):
            self._answers.listing = names.reason
        self._begin_windows()

    def _begin_windows(self) -> None:
        if self._clock is None or not self._told:
            return
        if isinstance(self._clock, ReadFailed):
            self._answers.fail(_CREATED, f"{NO_CLOCK}{self._clock}")
        elif isinstance(self._clock, float) and self._watch is not None:
            try:
                created = self._watch.open_round(min(self._timestamp, self._clock))
            except ReadFailed as failure:
                self._answers.fail(_CREATED, failure.reason)
                return
            self._answers.created = created
            for figure in _CREATED:
                self._go_on(figure, created)

    def _total(self, figure: Figure, limit: float) -> object:
        if isinstance(figure.question, CreatedIn):
            raise TypeError
        return figure.question.read(self._ask(limit))

    def _counted(self, figure: Figure, answer: object, seconds: float) -> None:
        self._answers.spend(figure.name, seconds)
        if figure.name in self._answers.reasons:
            return  # there is no connection, as another question found meanwhile
        if isinstance(answer, ReadFailed):
            self._answers.fail((figure,), answer.reason)
        elif isinstance(answer, Mapping) and all(map(_is_count, answer.values())):
            self._answers.providers[figure.name] = answer
        elif isinstance(answer, int) and _is_count(answer):
            self._answers.totals[figure.name] = answer
        else:
            self._answers.fail((figure,), "the answer is no count")

    def _go_on(self, figure: Figure, created: CreatedRound) -> None:
        part = created.next_slice(figure.name)
        if part is None:
            self._answers.advanced.add(figure.name)
            self._answers.spend(figure.name, 0.0)
        elif self._crew.left() > _SHORTEST:
            ask = partial(self._slice, figure, part)
            settle = partial(self._sliced, figure, part, created)
            self._crew.add(Task(ask, settle, Lane.SECOND))

    def _slice(self, figure: Figure, part: Slice, limit: float) -> object:
        if not isinstance(figure.question, CreatedIn):
            raise TypeError
        return figure.question.read(self._ask(limit), part.begin, part.end)

    def _sliced(
        self, figure: Figure, part: Slice, created: CreatedRound, answer: object, seconds: float
    ) -> None:
        self._answers.spend(figure.name, seconds)
        if isinstance(answer, TimedOut):
            created.overran(figure.name, part)
            self._go_on(figure, created)
        elif isinstance(answer, ReadFailed):
            self._answers.fail((figure,), answer.reason)
        elif isinstance(answer, int) and _is_count(answer):
            created.counted(figure.name, part, answer)
            self._answers.advanced.add(figure.name)
            self._go_on(figure, created)
        else:
            self._answers.fail((figure,), "the answer is no count")

    def _ask(self, limit: float) -> Questions:
        return self._connection.within(limit)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT


def _join(threads: list[threading.Thread], seconds: float) -> None:
    """Wait for threads a moment, so that usually none is left when a round is over."""
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
