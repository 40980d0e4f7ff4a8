"""The watch over documents created: which windows of time are counted, and what they add up to."""

import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from otel_novu.metrics.usage import Created
from otel_novu.sources.failure import ReadFailed

VERSION = 1
DELAY = 60  # seconds: an `_id` may be inserted this long after it was made
LONGEST_SLICE = 3600
EARLIEST = 1_577_836_800
"""Before 2020, Unix time in seconds, there was no Novu: such a clock is not set."""

_MAX_SECOND = 2**32 - 1  # four bytes of an ObjectId
_MAX_TOTAL = 2**63 - 1  # what OTLP carries

_logger = logging.getLogger(__name__)


class Store(Protocol):
    """Where the watch keeps its state, whole."""

    def load(self) -> bytes | None:
        """Return what was saved last, or None where nothing ever was.

        Raises:
            OSError: there is a state, and it can't be read.
        """

    def save(self, data: bytes) -> None:
        """Keep the state in place of the last one.

        Raises:
            OSError: it can't be kept.
        """


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a window, small enough for one question.

    Args:
        begin: the first second, Unix time.
        end: the first second after it, Unix time.
    """

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """One figure's state.

    Args:
        total: documents counted since `since`.
        since: Unix time at which the watch began, seconds.
        until: everything created before this is counted, Unix time, seconds.
        paused: what is created from `until` on is not counted until the watch goes on.
    """

    total: int
    since: int
    until: int
    paused: bool = False


class CreatedWatch:
    """Counts the documents created, over rounds and restarts.

    It is not to be used by two threads at once.

    Args:
        store: where begin and total of each figure are kept.
        figures: their names.
    """

    def __init__(self, store: Store, figures: Iterable[str]) -> None:
        self._store = store
        self._figures = tuple(figures)
        self._entries: Mapping[str, _Entry] | None = None
        self._saved: Mapping[str, _Entry] | None = None
        self._longest = dict.fromkeys(self._figures, LONGEST_SLICE)
        self._said: set[str] = set()

    def load(self) -> None:
        """Read the state, unless that was done.

        Raises:
            ReadFailed: there is a state, and it can't be read.
        """
        self._known()

    def open_round(self, clock: float) -> "CreatedRound":
        """Begin a round; nothing of it counts before `close_round`.

        Args:
            clock: the earlier of our clock and the database's, Unix time in seconds.

        Raises:
            ReadFailed: as `load`; or the clock is not set, and a watch was to begin by it, which
                would count everything once it is.
        """
        entries = dict(self._known())
        begin = math.ceil(clock)
        if clock < EARLIEST and not all(self._goes_on(entries.get(name)) for name in self._figures):
            raise ReadFailed("the clock of this machine or of the database's is not set")
        for figure in self._figures:
            entry = entries.get(figure)
            if entry is None:
                entries[figure] = _Entry(total=0, since=begin, until=begin)
            elif not self._goes_on(entry):
                # Never back: what lies before `until` is counted already.
                entries[figure] = replace(entry, until=max(entry.until, begin), paused=False)
        return CreatedRound(entries, self._longest, math.floor(clock) - DELAY)

    def close_round(self, finished: "CreatedRound") -> None:
        """Make a round count, and save it; memory serves where it can't be saved."""
        self._entries = finished.entries
        self._save()

    def forget_begin(self) -> None:
        """Leave out what is created from now on until the next round; the totals stay.

        Nothing is written where there is no state, or nothing to forget. A state that can't be
        read is left alone.
        """
        try:
            entries = self._known()
        except ReadFailed:
            return
        self._entries = {name: replace(entry, paused=True) for name, entry in entries.items()}
        self._save()

    @staticmethod
    def _goes_on(entry: _Entry | None) -> bool:
        return entry is not None and not entry.paused

    def _known(self) -> Mapping[str, _Entry]:
        if self._entries is None:
            self._entries = self._saved = self._read()
        return self._entries

    def _read(self) -> Mapping[str, _Entry]:
        try:
            data = self._store.load()
            return {} if data is None else _decode(data)
        except (OSError, ValueError):
            self._say_once(
                "The counters of created documents can't be read: they are not sent, and their"
                " file is left alone."
            )
            raise ReadFailed(
                "the state of the counters can't be read (move created.json in the state directory"
                " away, and they begin anew)"
            ) from None

    def _save(self) -> None:
        if self._entries is None or self._entries == self._saved:
            return
        try:
            self._store.save(_encode(self._entries))
        except OSError:
            self._say_once(
                "The counters of created documents can't be saved: they live in memory, and a"
                " restart counts again from the last state saved."
            )
            return
        self._saved = self._entries

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            _logger.warning(sentence)


class CreatedRound:
    """One round of the watch; see `CreatedWatch.open_round`."""

    def __init__(self, entries: dict[str, _Entry], longest: dict[str, int], end: int) -> None:
        self.entries: Mapping[str, _Entry] = entries
        self._entries = entries
        self._longest = longest
        self._end = end

    def next_slice(self, figure: str) -> Slice | None:
        """Tell what is to be counted next; None where the figure is up to date."""
        begin = self._entries[figure].until
        if begin >= self._end:
            return None
        return Slice(begin, min(self._end, begin + self._longest[figure]))

    def counted(self, figure: str, part: Slice, count: int) -> None:
        """Add a slice to the total; the next ones may be longer."""
        entry = self._entries[figure]
        total = min(_MAX_TOTAL, entry.total + count)
        self._entries[figure] = replace(entry, total=total, until=part.end)
        if part.end - part.begin >= self._longest[figure]:
            self._longest[figure] = min(LONGEST_SLICE, 2 * self._longest[figure])

    def overran(self, figure: str, part: Slice) -> None:
        """Halve the next slices: this one could not be counted in time."""
        self._longest[figure] = max(1, (part.end - part.begin) // 2)

    def created(self, figure: str) -> Created:
        """Tell how many were created, as far as is counted."""
        entry = self._entries[figure]
        return Created(entry.total, float(entry.since))


def _encode(entries: Mapping[str, _Entry]) -> bytes:
    figures = {name: asdict(entry) for name, entry in sorted(entries.items())}
    return json.dumps({"version": VERSION, "figures": figures}, indent=1).encode() + b"\n"


def _decode(data: bytes) -> Mapping[str, _Entry]:
    try:
        document = json.loads(data)
    except RecursionError:
        raise ValueError from None
    if not isinstance(document, dict) or document.keys() != {"version", "figures"}:
        raise ValueError
    version, figures = document["version"], document["figures"]
    if type(version) is not int or version != VERSION or not isinstance(figures, dict):
        raise ValueError
    return {name: _decode_entry(entry) for name, entry in figures.items()}


def _decode_entry(entry: object) -> _Entry:
    if not isinstance(entry, dict) or entry.keys() != {"total", "since", "until", "paused"}:
        raise ValueError
    total, since, until = (entry[name] for name in ("total", "since", "until"))
    # A bool is an int to `isinstance`.
    lawful = all(type(number) is int for number in (total, since, until))
    if not lawful or type(entry["paused"]) is not bool:
        raise ValueError
    if not (0 <= total <= _MAX_TOTAL and 0 <= since <= until <= _MAX_SECOND):
        raise ValueError
    return _Entry(**entry)
