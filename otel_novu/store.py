"""The state of one exporter in one SQLite file: identity, admin setting, counters, reports."""

import hmac
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from otel_novu.database import Database

_DROP = """
DELETE FROM report WHERE read_at < ? OR id IN (SELECT id FROM (SELECT id,
    SUM(LENGTH(body)) OVER (ORDER BY rejected IS NOT NULL, id DESC) AS total FROM report)
    WHERE total > ?)
"""

_INSERT = "INSERT INTO report (scope, read_at, body) VALUES (?, ?, ?)"
_INSERT_OVERFLOW = """
INSERT INTO overflow SELECT COALESCE(MIN(id), 0) - 1, ?, ?, ?, NULL FROM overflow
"""
_RESTORE = """
INSERT INTO report (scope, read_at, body, rejected)
    SELECT scope, read_at, body, rejected FROM overflow ORDER BY -id
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
    """What an exporter keeps; none of its methods raises for a full or broken disk."""

    dropped = 0
    """Reports given up since the process started: too old, too many, or rejected for good."""

    _unsaved: dict[str, str]  # values that the disk did not take
    _sent: set[int]  # reports delivered that the disk did not let be deleted

    def _prepare(self) -> None:
        self._unsaved, self._sent = {}, set()

    # --- values ---

    def get(self, key: str) -> str | None:
        """Read one value: `instance_id`, `telemetry`, ..."""
        rows = self._select("SELECT value FROM meta WHERE key = ?", key)
        return rows[0][0] if rows else None

    def set(self, key: str, value: str | None) -> bool:
        """Store or delete one value; return whether it is on disk."""
        return self._commit(lambda: self._put(key, value)) and self._durable

    def get_or_create(self, key: str, make: Callable[[], str]) -> str:
        """Read one value; store a new one if there is none."""
        made = make()
        insert = "INSERT OR IGNORE INTO meta VALUES (?, ?)"
        self._commit(lambda: self._db.execute(insert, (key, made)))
        with self._lock:
            return self.get(key) or self._unsaved.setdefault(key, made)

    def _put(self, key: str, value: str | None) -> None:
        self._db.execute("DELETE FROM meta WHERE key = ?", (key,))
        if value is not None:
            self._db.execute("INSERT INTO meta VALUES (?, ?)", (key, value))

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

        `read_at` and `oldest` are Unix time in seconds. Reports read before `oldest` are dropped,
        and the oldest ones beyond `max_bytes` in all. Returns whether it is on disk; if not, it
        waits in memory.
        """
        row, bounds, dropped = (scope, read_at, body), (oldest, max_bytes), list[int]()

        def add() -> None:
            self._restore()
            self._db.execute(_INSERT, row)
            self._put_created(created or {})
            dropped.append(self._db.execute(_DROP, bounds).rowcount)

        with self._lock:
            if self._commit(add):
                self._sent.clear()
                self.dropped += dropped[0]
                return self._durable
            self._db.execute(_INSERT_OVERFLOW, row)
            return False

    def _restore(self) -> None:
        """Write to disk what it did not take before: first, to keep the order of reading."""
        self._db.execute(_RESTORE)
        self._db.execute("DELETE FROM overflow")
        self._db.executemany("DELETE FROM report WHERE id = ?", [(n,) for n in self._sent])

    def reports(self, scopes: Collection[str]) -> Iterator[Report]:
        """Yield what waits, oldest first; bodies are read one by one."""
        marks = ",".join("?" * len(scopes))
        for (number,) in self._select(f"SELECT id FROM waiting WHERE scope IN ({marks})", *scopes):  # noqa: S608
            yield from self._reports("id = ?", number)

    def newest(self, scope: str) -> Report | None:
        """Return the report that was read last, None if none waits."""
        ids = [
            number for (number,) in self._select("SELECT id FROM waiting WHERE scope = ?", scope)
        ]
        ids = [number for number in ids if number not in self._sent]
        return next(self._reports("id = ?", ids[-1]), None) if ids else None

    def _reports(self, condition: str, value: object) -> Iterator[Report]:
        columns = "id, scope, read_at, body"
        for row in self._select(f"SELECT {columns} FROM waiting WHERE {condition}", value):  # noqa: S608
            if row[0] not in self._sent:
                yield Report(*row)

    def delete_report(self, report: Report) -> None:
        """Delete a delivered report."""
        table = "report" if report.id > 0 else "overflow"
        delete = f"DELETE FROM {table} WHERE id = ?"  # noqa: S608
        if not self._commit(lambda: self._db.execute(delete, (report.id,))):
            self._sent.add(report.id)

    def reject_report(self, report: Report, reason: str) -> None:
        """Keep a rejected report as a dead letter, which is not sent again."""
        self.dropped += 1
        if report.id < 0:
            self.delete_report(report)
            return
        update = "UPDATE report SET rejected = ? WHERE id = ?"
        if not self._commit(lambda: self._db.execute(update, (reason, report.id))):
            self._sent.add(report.id)

    def waiting(
        self, scopes: Collection[str] = ("beacon", "usage"), timeout: float = -1
    ) -> int | None:
        """Count the reports that wait; None if the disk does not answer in time (seconds)."""
        if not self._lock.acquire(timeout=timeout):
            return None
        try:
            marks = ",".join("?" * len(scopes))
            rows = self._select(f"SELECT id FROM waiting WHERE scope IN ({marks})", *scopes)  # noqa: S608
            return sum(number not in self._sent for (number,) in rows)
        finally:
            self._lock.release()

    def in_memory(self) -> int:
        """Count the waiting reports that are lost when the process ends."""
        table = "overflow" if self._durable else "waiting"
        return int(self._select(f"SELECT COUNT(*) FROM {table}")[0][0])  # noqa: S608

    def listing(self) -> list[Listed]:
        """List all reports, dead letters too, oldest first."""
        columns = "scope, read_at, LENGTH(body), rejected"
        return [Listed(*row) for row in self._select(f"SELECT {columns} FROM report ORDER BY id")]  # noqa: S608

    # --- counters of created documents ---

    def created(self, database: str) -> dict[str, CreatedCount]:
        """Return the counters of a database (`hosts/name`); those of another one are deleted."""
        key = self.get_or_create("pseudonym_key", lambda: secrets.token_hex(16))
        keyed = hmac.digest(key.encode(), database.encode(), "sha256").hex()
        known = self.get("database")
        if known != keyed:
            self._commit(lambda: self._put("database", keyed))
        if known not in (None, keyed):
            self._commit(lambda: self._db.execute("DELETE FROM created"))
        rows = self._select("SELECT figure, total, since, until, paused FROM created")
        return {row[0]: CreatedCount(row[1], row[2], row[3], bool(row[4])) for row in rows}

    def save_created(self, created: Mapping[str, CreatedCount]) -> bool:
        """Store the counters alone; return whether they are on disk."""
        return self._commit(lambda: self._put_created(created)) and self._durable

    def pause_created(self) -> None:
        """Stop counting until the next reading; the totals stay."""
        if self._select("SELECT 1 FROM created WHERE NOT paused LIMIT 1"):
            self._commit(lambda: self._db.execute("UPDATE created SET paused = 1"))

    def _put_created(self, created: Mapping[str, CreatedCount]) -> None:
        rows = [(f, c.total, c.since, c.until, c.paused) for f, c in created.items()]
        self._db.executemany("INSERT OR REPLACE INTO created VALUES (?, ?, ?, ?, ?)", rows)

    # --- the last attempt ---

    def last_attempt(self, scope: str) -> LastAttempt | None:
        """Return the last attempt to send a report of this scope, None if there was none."""
        rows = self._select("SELECT * FROM last_attempt WHERE scope = ?", scope)
        return LastAttempt(*rows[0]) if rows else None

    def save_last_attempt(self, attempt: LastAttempt) -> None:
        """Store the last attempt; one that the disk does not take is left out."""
        row = (attempt.scope, attempt.read_at, attempt.tried_at, attempt.next_due,
               attempt.endpoint, attempt.result, attempt.body)  # fmt: skip
        insert = "INSERT OR REPLACE INTO last_attempt VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._commit(lambda: self._db.execute(insert, row))
