"""The state of one exporter: identity, admin setting, counters, reports."""

import hmac
import json
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import astuple, dataclass, field, replace

from otel_novu.database import Database, Rows

SCOPES = ("beacon", "usage")
_LIST = "SELECT id, scope, read_at, LENGTH(body), rejected FROM report"


@dataclass(frozen=True, slots=True)
class Report:
    """One OTLP request that waits for delivery; `read_at` is Unix time in seconds."""

    id: int
    scope: str
    read_at: float
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CreatedCount:
    """Documents from `since` to before `until` (Unix time): all, or `by` the values of labels."""

    total: int
    since: int
    until: int
    paused: bool = False
    by: Mapping[tuple[str, ...], int] = field(default_factory=dict)


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

    id: int
    scope: str
    read_at: float
    size: int
    rejected: str | None


class Store(Database):
    """What an exporter keeps."""

    dropped = 0  # reports given up by this process: too old, too many, or rejected
    _last_id = 0
    _database: str | None = None  # keyed hash of the database that is counted

    def get(self, key: str) -> str | None:
        """Read one value: `instance_id`, `telemetry`, ..."""
        return self.read(key)[0]

    def read(self, key: str) -> tuple[str | None, bool]:
        """Read one value, and whether it is known: not if the file can't be read just now."""
        with self._lock:
            row = self._table("meta").get(key)
            return row[1] if row else self._made.get(key), self.readable

    def set(self, key: str, value: str | None) -> bool:
        """Store or delete one value; False if the disk does not take it: then nothing changes."""
        with self._lock:
            on_disk = self._write(meta={key: None if value is None else (key, value)})
            self._changes["meta"].pop(key, None)
            return on_disk

    def get_or_create(self, key: str, make: Callable[[], str]) -> str:
        """Read one value; store a new one if there is none."""
        with self._lock:
            found = self.get(key)
            if found is None:
                self._made[key] = made = make()
                self._write()
                found = self.get(key) or made
            return found

    def add_report(
        self,
        scope: str,
        read_at: float,
        body: bytes,
        *,
        oldest: float,
        max_bytes: float,
        created: Mapping[str, CreatedCount] | None = None,
    ) -> bool:
        """Keep a report and its counters in one transaction; return whether they are on disk."""
        with self._lock:
            listed, total = self.listing(), 0
            # Rising, also after a clock that was ahead, and unique over all files.
            self._last_id = max(self._last_id, time.time_ns(), *(row.id for row in listed)) + 1
            listed.append(Listed(self._last_id, scope, read_at, len(body), None))
            rows: Rows = {self._last_id: (self._last_id, scope, read_at, body, None)}
            # Too old (Unix time) or beyond the limit: dead letters go first, then the oldest.
            for row in sorted(listed, key=lambda row: (row.rejected is not None, -row.id)):
                total += row.size
                if row.read_at < oldest or total > max_bytes:
                    rows[row.id] = None
                    self.dropped += row.rejected is None  # a dead letter was counted before
            return self._write(report=rows, **self._created_rows(created or {}))

    def reports(self, scopes: Collection[str]) -> Iterator[Report]:
        """Yield what waits, oldest first; bodies are read one by one."""
        yield from filter(None, map(self._report, self._waiting(scopes)))

    def newest(self, scope: str) -> Report | None:
        """Return the report that was read last, None if none waits."""
        return next(map(self._report, reversed(self._waiting((scope,)))), None)

    def delete_report(self, report: Report) -> None:
        """Delete a delivered report."""
        self._write(report={report.id: None})

    def reject_report(self, report: Report, reason: str) -> None:
        """Keep a rejected report as a dead letter, which is not sent again."""
        with self._lock:
            if report.id in self._waiting((report.scope,)):
                self.dropped += 1
                self._write(report={report.id: (*astuple(report), reason)})

    def waiting(self, scopes: Collection[str] = SCOPES, timeout: float = -1) -> int | None:
        """Count the reports that wait; None if the disk does not answer in time (seconds)."""
        if not self._lock.acquire(timeout=timeout):
            return None
        try:
            count = len(self._waiting(scopes))
            return count if self.readable or not self._sound else None
        finally:
            self._lock.release()

    def in_memory(self) -> int:
        """Count the waiting reports that are lost when the process ends; never waits."""
        rows = list(self._changes["report"].values())
        return sum(row is not None and row[4] is None for row in rows)

    def listing(self) -> list[Listed]:
        """List all reports, dead letters too, oldest first."""
        with self._lock:
            changes, rows = self._changes["report"], self._read(_LIST)
            if rows is not None:  # what is not on disk need not be deleted there
                for number in changes.keys() - {row[0] for row in rows}:
                    if changes[number] is None:
                        del changes[number]
            listed = [row for row in rows or [] if row[0] not in changes]
            listed += [(*row[:3], len(row[3]), row[4]) for row in changes.values() if row]
            return [Listed(*row) for row in sorted(listed)]

    def _waiting(self, scopes: Collection[str]) -> list[int]:
        rows = self.listing()
        return [row.id for row in rows if row.rejected is None and row.scope in scopes]

    def _report(self, number: int) -> Report | None:
        with self._lock:
            rows = self._read("SELECT * FROM report WHERE id = ?", number) or []
            row = self._changes["report"].get(number, rows[0] if rows else None)
            return Report(*row[:4]) if row and row[4] is None else None

    def created(self, database: str) -> dict[str, CreatedCount]:
        """Return the counters of a database (`hosts/name`); they replace those of another one."""
        key = self.get_or_create("pseudonym_key", lambda: secrets.token_hex(16))
        self._database = hmac.digest(key.encode(), database.encode(), "sha256").hex()
        return self._counts()

    def save_created(self, created: Mapping[str, CreatedCount]) -> bool:
        """Store all counters of the database; return whether they are on disk."""
        return self._write(**self._created_rows(created))

    def pause_created(self) -> None:
        """Stop counting until the next reading; the totals stay."""
        with self._lock:
            counts = self._counts()
            if not all(count.paused for count in counts.values()):
                self.save_created({n: replace(count, paused=True) for n, count in counts.items()})

    def _counts(self) -> dict[str, CreatedCount]:
        if self._database and self.get("database") not in (None, self._database):
            return {}
        return {row[0]: _count(*row[1:]) for row in self._table("created").values()}

    def _created_rows(self, created: Mapping[str, CreatedCount]) -> dict[str, Rows]:
        if not created:
            return {}
        rows: Rows = dict.fromkeys([*self._known["created"], *self._changes["created"]])
        for name, each in created.items():
            rows[name] = (name, *astuple(each)[:-1], json.dumps([*each.by.items()]))
        database: Rows = {"database": ("database", self._database)} if self._database else {}
        return {"created": rows, "meta": database}

    def last_attempt(self, scope: str) -> LastAttempt | None:
        """Return the last attempt to send a report of this scope, None if there was none."""
        row = self._table("last_attempt").get(scope)
        return LastAttempt(*row) if row else None

    def save_last_attempt(self, attempt: LastAttempt) -> None:
        """Store the last attempt."""
        self._write(last_attempt={attempt.scope: astuple(attempt)})


def _count(total: int, since: int, until: int, paused: int, by: str = "[]") -> CreatedCount:
    totals = {tuple(labels): number for labels, number in json.loads(by)}
    return CreatedCount(total, since, until, bool(paused), totals)
