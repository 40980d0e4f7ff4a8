"""The spool: every report from the moment it was read until it is delivered or given up."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from threading import RLock

from otel_novu.delivery.report_file import Report, decode, encode, name_of, sequence_at
from otel_novu.journal import Journal
from otel_novu.state.directory import NotKept, StateDirectory, Unreadable

FOLDER = "spool"
CORNER = "spool-set-aside"

MOST_SET_ASIDE = 32
"""Files that the corner for damaged and refused ones holds at most; older ones are deleted."""

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a list of the spool tells of a report.

    Args:
        meter: `beacon` or `usage`.
        read_at: when its figures were read, Unix seconds.
        size: its file's, bytes.
        kept: it lies on disk; else in memory only.
    """

    meter: str
    read_at: float
    size: int
    kept: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a spool on disk.

    Args:
        reports: oldest first.
        damaged: files that are no whole report, or can't be read.
    """

    reports: tuple[Waiting, ...]
    damaged: int


def look(state: StateDirectory) -> Listing:
    """List the spool on disk beside the process that holds it; changes nothing.

    Raises:
        Unreadable: the spool's folder can't be listed.
    """
    reports, damaged = [], 0
    for name in state.names(FOLDER):
        try:
            entry = _examine(state, name)
        except Unreadable:
            damaged += 1
        else:
            if entry is not None:  # else delivered meanwhile
                reports.append(_told(entry))
    return Listing(tuple(reports), damaged)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A report's place; `body` only while the disk does not hold it."""

    meter: str
    sequence: int
    read_at: float
    size: int
    body: bytes | None

    @property
    def name(self) -> str:
        return name_of(self.meter, self.sequence)


class Spool:
    """One queue for each meter, oldest first, on disk; safe to use from several threads.

    The order is that of `put`, whatever the clock does. Reports that the disk can't take wait in
    memory, in their place in the order. Whoever makes a spool must hold the state directory's
    lock. `waiting`, `waiting_total` and `dropped` never wait for the disk.

    Args:
        state: where the files lie.
        max_age: of a report since its reading, seconds; older ones are given up.
        max_bytes: of all files of the spool together, set-aside ones included, and of all that
            waits, in memory included; the oldest are given up first.
        now: Unix time, seconds.
    """

    def __init__(
        self, state: StateDirectory, max_age: float, max_bytes: int, now: Callable[[], float]
    ) -> None:
        self._state = state
        self._max_age = max_age
        self._max_bytes = max_bytes
        self._now = now
        self._journal = Journal()
        if state.why_not_writable is not None:  # whoever opened it has told that
            self._journal.known("disk", _not_kept(state.why_not_writable))
        self._guard = RLock()
        # Replaced, never changed, so that the counts need no lock.
        self._queue: tuple[_Entry, ...] = ()
        self._corner: dict[str, int] = {}
        self._unremoved: dict[str, int] = {}  # to be removed, and to be tried again
        self._unmoved = 0  # bytes of damaged files that could not even be set aside
        self._dropped = 0
        self._last_sequence = 0
        with self._guard:
            self._load()

    @property
    def dropped(self) -> int:
        """Reports given up since this object was made: old, too many, damaged, refused."""
        return self._dropped

    @property
    def waiting_total(self) -> int:
        """Reports of all meters that wait for delivery."""
        return len(self._queue)

    def waiting(self, meter: str) -> int:
        """Count the meter's reports that wait for delivery."""
        return sum(entry.meter == meter for entry in self._queue)

    def reports(self) -> tuple[Waiting, ...]:
        """List what waits, oldest first."""
        return tuple(_told(entry) for entry in self._queue)

    def put(self, meter: str, body: bytes, read_at: float) -> Report:
        """Queue a report; it is on disk when this returns, or `kept` is False.

        One that is larger than all the spool may hold is counted as dropped and not queued.

        Args:
            meter: `beacon` or `usage`.
            body: the OTLP request.
            read_at: when its figures were read, Unix seconds, finite.

        Raises:
            ValueError: the meter's name has other characters than a-z, or the time is not finite.
        """
        with self._guard:
            self._sweep()
            report = Report(meter, self._next_sequence(), read_at, body)
            data = encode(report)
            if len(data) > self._max_bytes:
                self._give_up(f"A {meter} report is larger than the whole spool may be.")
                return replace(report, kept=False)
            self._make_room(len(data))
            self._store_what_memory_holds()
            entry = _Entry(meter, report.sequence, read_at, len(data), body)
            kept = self._store(entry.name, data)
            self._queue = (*self._queue, replace(entry, body=None) if kept else entry)
            return replace(report, kept=kept)

    def oldest(self, meter: str) -> Report | None:
        """Read the meter's oldest report; None where none waits or none can be read now."""
        with self._guard:
            self._sweep()
            return self._first(entry for entry in self._queue if entry.meter == meter)

    def newest(self, meter: str) -> Report | None:
        """Read the meter's newest report; None where none waits or none can be read now."""
        with self._guard:
            self._sweep()
            return self._first(entry for entry in self._queue[::-1] if entry.meter == meter)

    def after(self, report: Report) -> Report | None:
        """Read the next report of the same meter, whether this one still waits or not."""
        with self._guard:
            self._sweep()
            return self._first(
                entry
                for entry in self._queue
                if entry.meter == report.meter and entry.sequence > report.sequence
            )

    def remove(self, report: Report) -> None:
        """Take out a delivered report; does nothing where it waits no longer."""
        with self._guard:
            for entry in self._entries_of(report):
                self._take_out(entry)
                self._discard(_path(entry.name))
            if not self._queue:
                self._journal.passed("bounds", "The spool is empty again.")

    def set_aside(self, report: Report, why: str) -> None:
        """Give up a report that is refused for good; its file is moved to a small corner.

        Args:
            report: does nothing where it waits no longer.
            why: a clause without secrets.
        """
        with self._guard:
            for entry in self._entries_of(report):
                self._move_out(entry, f"A {entry.meter} report is set aside undelivered: {why}.")

    def _entries_of(self, report: Report) -> list[_Entry]:
        place = (report.meter, report.sequence)
        return [entry for entry in self._queue if (entry.meter, entry.sequence) == place]

    def _load(self) -> None:
        """Take over what an earlier process left."""
        self._corner = {name: self._state.size(f"{CORNER}/{name}") for name in self._names(CORNER)}
        damaged = []
        for name in self._names(FOLDER):
            try:
                entry = _examine(self._state, name)
            except Unreadable as error:
                damaged.append((name, error))
            else:
                if entry is not None:
                    self._queue = (*self._queue, entry)
        self._last_sequence = max((entry.sequence for entry in self._queue), default=0)
        self._leave_out(damaged)
        self._sweep()
        self._make_room(0)

    def _names(self, folder: str) -> tuple[str, ...]:
        try:
            return self._state.names(folder)
        except Unreadable as error:
            self._journal.failed(folder, f"{error}; what lies there is not sent.")
            return ()

    def _leave_out(self, damaged: list[tuple[str, Unreadable]]) -> None:
        for name, error in damaged:
            if error.passing:  # the next process may be able to read it
                self._unmoved += self._state.size(_path(name))
            else:
                self._dropped += 1
                self._to_corner(name)
        if damaged:
            name, first = damaged[0]
            self._journal.failed(
                "damaged",
                f"{len(damaged)} files in the spool are left out as damaged or foreign, the first "
                f"is {name!a}: {first.why}.",
            )

    def _first(self, entries: Iterator[_Entry]) -> Report | None:
        """Read the first that can be read; set aside those before it that are damaged.

        Where the disk can't be read just now, what lies on it keeps its place, and what memory
        holds does not wait for it.
        """
        disk_answers = True
        for entry in entries:
            if entry.body is None and not disk_answers:
                continue
            try:
                return self._fetch(entry)
            except Unreadable as error:
                if error.passing:
                    self._journal.failed("reading", f"{error}; it is tried again.")
                    disk_answers = False
                    continue
                self._move_out(entry, f"The report {entry.name} is given up: {error.why}.")
        return None

    def _fetch(self, entry: _Entry) -> Report:
        if entry.body is not None:
            return Report(entry.meter, entry.sequence, entry.read_at, entry.body, kept=False)
        data = self._state.read(_path(entry.name))
        if data is None:
            raise Unreadable(entry.name, "its file is gone")
        return decode(entry.name, data)

    def _sweep(self) -> None:
        """Give up what is too old, and try again to remove what could not be removed."""
        for path in tuple(self._unremoved):
            self._discard(path)
        oldest = self._now() - self._max_age
        for entry in self._queue:
            if entry.read_at < oldest:
                days = f"{self._max_age / _DAY:.3g} days"
                self._drop(entry, f"Reports older than {days} are given up undelivered.")

    def _make_room(self, size: int) -> None:
        """Delete set-aside files, then the oldest reports, until `size` bytes more fit."""
        while self._corner and self._queue_bytes() + size > self._max_bytes - self._corner_bytes():
            self._forget_oldest_in_corner()
        while self._queue and self._queue_bytes() + size > self._max_bytes:
            self._drop(
                self._queue[0],
                f"The spool is full ({self._max_bytes} bytes); its oldest reports are given up "
                "undelivered.",
            )

    def _queue_bytes(self) -> int:
        return sum(entry.size for entry in self._queue)

    def _corner_bytes(self) -> int:
        return sum(self._corner.values())

    def _disk_bytes(self) -> int:
        kept = sum(entry.size for entry in self._queue if entry.body is None)
        return kept + self._corner_bytes() + sum(self._unremoved.values()) + self._unmoved

    def _store_what_memory_holds(self) -> None:
        """Bring to the disk what it could not take before, oldest first."""
        for entry in self._queue:
            if entry.body is None:
                continue
            report = Report(entry.meter, entry.sequence, entry.read_at, entry.body)
            if not self._store(entry.name, encode(report)):
                return
            stored = replace(entry, body=None)
            self._queue = tuple(stored if other is entry else other for other in self._queue)

    def _store(self, name: str, data: bytes) -> bool:
        if self._disk_bytes() + len(data) > self._max_bytes:
            return self._not_stored("what could not be removed fills its bounds")
        try:
            self._state.write(_path(name), data)
        except NotKept as error:
            self._discard(_path(name))
            return self._not_stored(error.why)
        self._unremoved.pop(_path(name), None)
        self._journal.passed("disk", "Reports are kept on disk again.")
        return True

    def _not_stored(self, why: str) -> bool:
        self._journal.failed("disk", _not_kept(why))
        return False

    def _drop(self, entry: _Entry, sentence: str) -> None:
        self._take_out(entry)
        self._give_up(sentence)
        self._discard(_path(entry.name))

    def _move_out(self, entry: _Entry, sentence: str) -> None:
        self._take_out(entry)
        self._give_up(sentence)
        if entry.body is None:
            self._to_corner(entry.name)

    def _give_up(self, sentence: str) -> None:
        self._dropped += 1
        self._journal.failed("bounds", sentence)

    def _take_out(self, entry: _Entry) -> None:
        self._queue = tuple(other for other in self._queue if other is not entry)

    def _discard(self, path: str) -> None:
        """Remove a file, or remember to."""
        self._unremoved.pop(path, None)
        try:
            self._state.remove(path)
        except NotKept:
            if size := self._state.size(path):
                self._unremoved[path] = size

    def _to_corner(self, name: str) -> None:
        size = self._state.size(_path(name))
        try:
            self._state.move(_path(name), f"{CORNER}/{name}")
        except NotKept:  # it stays where it is; the next process tries again
            self._unmoved += size
        else:
            self._corner[name] = size
        while self._corner and (
            len(self._corner) > MOST_SET_ASIDE or self._disk_bytes() > self._max_bytes
        ):
            self._forget_oldest_in_corner()

    def _forget_oldest_in_corner(self) -> None:
        name = next(iter(self._corner))
        del self._corner[name]
        self._discard(f"{CORNER}/{name}")

    def _next_sequence(self) -> int:
        """Number on by the clock, and never backwards."""
        self._last_sequence = max(sequence_at(self._now()), self._last_sequence + 1)
        return self._last_sequence


def _not_kept(why: str) -> str:
    return f"Reports can't be kept on disk ({why}); they wait in memory, where a crash loses them."


def _path(name: str) -> str:
    return f"{FOLDER}/{name}"


def _told(entry: _Entry) -> Waiting:
    return Waiting(entry.meter, entry.read_at, entry.size, kept=entry.body is None)


def _examine(state: StateDirectory, name: str) -> _Entry | None:
    """Read a file whole, as only that proves it; None where it is gone meanwhile."""
    data = state.read(_path(name))
    if data is None:
        return None
    report = decode(name, data)
    return _Entry(report.meter, report.sequence, report.read_at, len(data), body=None)
