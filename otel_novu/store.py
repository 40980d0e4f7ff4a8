"""The state of one exporter: identity, admin setting, counters, reports."""

import hmac
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

from otel_novu.database import Connection, Database, add_rows, rows_of

_ADD_VALUE = "INSERT OR IGNORE INTO meta VALUES (?, ?)"
_OF_ANOTHER = "EXISTS (SELECT 1 FROM meta WHERE key = 'database' AND value <> ?)"
_COUNTS = f"SELECT figure, total, since, until, paused FROM created WHERE NOT {_OF_ANOTHER}"  # noqa: S608
_WAITING = """
SELECT id FROM report WHERE rejected IS NULL AND instr(?, scope) AND id > ? ORDER BY id LIMIT ?
"""
_DROP = """
DELETE FROM report WHERE (rejected IS NULL) = ? AND (read_at < ? OR id IN (SELECT id FROM (
    SELECT id, SUM(LENGTH(body)) OVER (ORDER BY rejected IS NOT NULL, id DESC) AS total FROM report
) WHERE total > ?))
"""


@dataclass(frozen=True, slots=True)
class Report:
    """One OTLP request that waits for delivery; `read_at` is Unix time in seconds."""

    id: int
    scope: str
    read_at: float
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CreatedCount:
    """Documents counted from `since` to before `until` (Unix time, seconds)."""

    total: int
    since: int
    until: int
    paused: bool = False


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """The last attempt to send a report of a scope; times are Unix time in seconds."""

    scope: str
    read_at: float
    tried_at: float
    next_due: float | None
    endpoint: str
    result: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Listed:
    """One report in the list of `otel-novu spool`."""

    scope: str
    read_at: float
    size: int
    rejected: str | None


class Store(Database):
    """What an exporter keeps.

    Attributes:
        dropped: reports given up by this process: too old, too many, or rejected for good.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        super().__init__(directory, read_only=read_only)
        self.dropped = 0
        self._last_id = 0
        self._done: dict[int, str | None] = {}  # delivered or rejected, and not yet so on disk
        self._database: str | None = None  # keyed hash of the database that is counted

    def _move(self, memory: Connection, disk: Connection) -> None:
        add_rows(disk, "meta", rows_of(memory, "meta"))
        self._put_created(disk, _counts(memory.execute(_COUNTS, (None,))))
        # A commit that failed may be on disk all the same; an id stands for one report.
        add_rows(disk, "report", rows_of(memory, "report"))
        add_rows(disk, "last_attempt", rows_of(memory, "last_attempt"), "REPLACE")
        for number, reason in self._done.items():
            _finish(disk, number, reason)

    def _moved(self) -> None:
        self._done.clear()

    def _reopen(self) -> Connection:
        disk = super()._reopen()
        (last,) = disk.execute("SELECT COALESCE(MAX(id), 0) FROM report").fetchone()
        self._last_id = max(self._last_id, last)  # also after a clock that was ahead
        return disk

    # --- values ---

    def get(self, key: str) -> str | None:
        """Read one value: `instance_id`, `telemetry`, ..."""
        return self.read(key)[0]

    def read(self, key: str) -> tuple[str | None, bool]:
        """Read one value, and whether it is known: not if the file can't be read just now."""
        with self._lock:
            disk, memory = self._rows("SELECT value FROM meta WHERE key = ?", key)
            return next((value for (value,) in disk + memory), None), self.readable

    def set(self, key: str, value: str | None) -> bool:
        """Store or delete one value; False if the disk does not take it: then nothing changes."""

        def put(disk: Connection) -> None:
            disk.execute("DELETE FROM meta WHERE key = ?", (key,))
            if value is not None:
                disk.execute(_ADD_VALUE, (key, value))

        return self._write(put)

    def get_or_create(self, key: str, make: Callable[[], str]) -> str:
        """Read one value; store a new one if there is none."""
        with self._lock:
            found = self.get(key)
            if found is None:
                made = make()
                self._commit(lambda db: db.execute(_ADD_VALUE, (key, made)))
                found = self.get(key) or made  # another process may have been faster
            return found

    # --- reports ---

    def add_report(
        self,
        scope: str,
        read_at: float,
        body: bytes,
        *,
        oldest: float,
        max_bytes: int,
        created: Mapping[str, CreatedCount] | None = None,
    ) -> bool:
        """Keep a report and the counters in it, in one transaction; drop what is out of bounds.

        `read_at` and `oldest` are Unix time in seconds. Reports read before `oldest` are dropped;
        beyond `max_bytes` in all, first dead letters and then the oldest. Returns whether it is on
        disk; if not, it waits in memory.
        """
        bounds, dropped = (oldest, max_bytes), list[int]()
        with self._lock:
            # Rising, and unique in memory and in every file that this process may write to.
            self._last_id = max(self._last_id + 1, time.time_ns())
            row = (self._last_id, scope, read_at, body, None)
            on_disk = self._commit(lambda db: dropped.append(self._add(db, row, created, bounds)))
            self.dropped += dropped[-1]
            return on_disk

    def _add(
        self,
        db: Connection,
        row: tuple[object, ...],
        created: Mapping[str, CreatedCount] | None,
        bounds: tuple[float, int],
    ) -> int:
        db.execute("INSERT INTO report VALUES (?, ?, ?, ?, ?)", row)
        self._put_created(db, created or {})
        db.execute(_DROP, (False, *bounds))  # dead letters were counted when they were rejected
        return db.execute(_DROP, (True, *bounds)).rowcount

    def reports(self, scopes: Collection[str]) -> Iterator[Report]:
        """Yield what waits, oldest first; bodies are read one by one."""
        after = 0
        while ids := self._ids(scopes, after, 1):
            after = ids[0]
            if (report := self._report(after)) is not None:
                yield report

    def newest(self, scope: str) -> Report | None:
        """Return the report that was read last, None if none waits."""
        ids = self._ids((scope,))
        return self._report(ids[-1]) if ids else None

    def delete_report(self, report: Report) -> None:
        """Delete a delivered report."""
        self._finish(report, None)

    def reject_report(self, report: Report, reason: str) -> None:
        """Keep a rejected report as a dead letter, which is not sent again."""
        with self._lock:
            self.dropped += report.id in self._ids((report.scope,), report.id - 1, 1)
            self._finish(report, reason)

    def waiting(
        self, scopes: Collection[str] = ("beacon", "usage"), timeout: float = -1
    ) -> int | None:
        """Count the reports that wait; None if the disk does not answer in time (seconds)."""
        if not self._lock.acquire(timeout=timeout):
            return None
        try:
            count = len(self._ids(scopes))
            return count if self.readable or self._disk is None else None
        finally:
            self._lock.release()

    def in_memory(self) -> int:
        """Count the waiting reports that are lost when the process ends; never waits."""
        count = "SELECT COUNT(*) FROM report WHERE rejected IS NULL"
        return int(self._memory.execute(count).fetchone()[0])

    def listing(self) -> list[Listed]:
        """List all reports, dead letters too, oldest first."""
        disk, memory = self._rows("SELECT id, scope, read_at, LENGTH(body), rejected FROM report")
        rows = {number: row for number, *row in disk + memory if number not in self._done}
        return [Listed(*rows[number]) for number in sorted(rows)]

    def _ids(self, scopes: Collection[str], after: int = 0, limit: int = 2**31) -> list[int]:
        with self._lock:
            limit += len(self._done)
            disk, memory = self._rows(_WAITING, " ".join(scopes), after, limit)
            return sorted({number for (number,) in disk + memory} - self._done.keys())

    def _report(self, number: int) -> Report | None:
        query = "SELECT id, scope, read_at, body FROM report WHERE id = ?"
        disk, memory = self._rows(query, number)
        return next((Report(*row) for row in disk + memory), None)

    def _finish(self, report: Report, reason: str | None) -> None:
        with self._lock:
            self._done[report.id] = reason
            _finish(self._memory, report.id, reason)
            self._write(lambda _: None)

    # --- counters of created documents ---

    def created(self, database: str) -> dict[str, CreatedCount]:
        """Return the counters of a database (`hosts/name`).

        Those of another database are deleted when the next ones are stored.
        """
        key = self.get_or_create("pseudonym_key", lambda: secrets.token_hex(16))
        self._database = hmac.digest(key.encode(), database.encode(), "sha256").hex()
        return self._counts()

    def save_created(self, created: Mapping[str, CreatedCount]) -> bool:
        """Store the counters alone; return whether they are on disk."""
        return self._commit(lambda db: self._put_created(db, created))

    def pause_created(self) -> None:
        """Stop counting until the next reading; the totals stay."""
        with self._lock:
            counting = {name: count for name, count in self._counts().items() if not count.paused}
            if counting:
                self.save_created({n: replace(count, paused=True) for n, count in counting.items()})

    def _counts(self) -> dict[str, CreatedCount]:
        disk, memory = self._rows(_COUNTS, self._database)
        return _counts(disk + memory)

    def _put_created(self, db: Connection, created: Mapping[str, CreatedCount]) -> None:
        if created and self._database is not None:
            db.execute(f"DELETE FROM created WHERE {_OF_ANOTHER}", (self._database,))  # noqa: S608
            db.execute("INSERT OR REPLACE INTO meta VALUES ('database', ?)", (self._database,))
        rows = [(name, *astuple(count)) for name, count in created.items()]
        db.executemany("INSERT OR REPLACE INTO created VALUES (?, ?, ?, ?, ?)", rows)

    # --- the last attempt ---

    def last_attempt(self, scope: str) -> LastAttempt | None:
        """Return the last attempt to send a report of this scope, None if there was none."""
        disk, memory = self._rows("SELECT * FROM last_attempt WHERE scope = ?", scope)
        return next((LastAttempt(*row) for row in memory + disk), None)

    def save_last_attempt(self, attempt: LastAttempt) -> None:
        """Store the last attempt."""
        put = "INSERT OR REPLACE INTO last_attempt VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._commit(lambda db: db.execute(put, astuple(attempt)))


def _counts(rows: Iterable[Any]) -> dict[str, CreatedCount]:
    return {
        name: CreatedCount(total, since, until, bool(paused))
        for name, total, since, until, paused in rows
    }


def _finish(db: Connection, number: int, reason: str | None) -> None:
    if reason is None:
        db.execute("DELETE FROM report WHERE id = ?", (number,))
    else:
        db.execute("UPDATE report SET rejected = ? WHERE id = ?", (reason, number))
