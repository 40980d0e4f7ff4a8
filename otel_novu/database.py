"""Tables in one SQLite file, and the changes that it has not taken yet."""

import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from otel_novu.state_dir import StateDirError, check_directory, make_directory

# `user_version` counts the steps. A writer runs those that are missing, a reader has to do without
# them: a step only adds columns with a default. No STRICT, no RETURNING: RHEL 9 has SQLite 3.34.
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE created (figure TEXT PRIMARY KEY, total INTEGER NOT NULL, since INTEGER NOT NULL,
    until INTEGER NOT NULL, paused INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE report (id INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL,
    read_at REAL NOT NULL, body BLOB NOT NULL, rejected TEXT);
CREATE TABLE last_attempt (scope TEXT PRIMARY KEY, read_at REAL, tried_at REAL, next_due REAL,
    endpoint TEXT, result TEXT, body BLOB) WITHOUT ROWID
"""
_STEPS = (_SCHEMA, "ALTER TABLE created ADD COLUMN by_labels TEXT NOT NULL DEFAULT '[]'")
_KEYS = {"meta": "key", "created": "figure", "report": "id", "last_attempt": "scope"}
_HINTS = {
    sqlite3.SQLITE_BUSY: "end the process that locks it",
    sqlite3.SQLITE_CANTOPEN: "run as the user that owns it",
    sqlite3.SQLITE_READONLY: "make the disk writable: SQLite has to undo half a write",
}
_NO_DAMAGE = (OSError, StateDirError, sqlite3.OperationalError)  # full, read-only, locked

_BUSY_TIMEOUT = 5.0  # seconds that one process waits for another's transaction

Rows = dict[Any, tuple[Any, ...] | None]  # by key; None: deleted


class Database:
    """A file that several threads and processes may use.

    Changes that the disk does not take wait in memory for the next write; no method raises for
    that. Of a file that is missing or can't be read, all but the reports is known from before.
    No connection is open between two transactions. StateDirError: others may write to the file.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        self.fault: str | None = None  # why changes are in memory only, as a clause
        self.readable = True  # False: there is a file, and it can't be read
        self._path, self._read_only = directory / "state.db", read_only
        self._sound = False  # the file was checked, and no damage was seen since
        self._changes: dict[str, Rows] = {table: {} for table in _KEYS}
        self._made: dict[str, str] = {}  # values to store unless another process was faster
        self._known: dict[str, Rows] = {table: {} for table in _KEYS if table != "report"}
        self._lock = threading.RLock()
        with suppress(OSError):
            check_directory(directory)
        self._write()
        for table in self._known:
            if self.readable:
                self._table(table)

    def stamp(self) -> tuple[int, ...] | None:
        """Return what changes with the file; None if it is missing or has just changed."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        recent = time.time_ns() - found.st_ctime_ns < 10**9
        return None if recent else (found.st_ctime_ns, found.st_ino, found.st_size)

    def _read(self, query: str, *values: object) -> list[Any] | None:
        """Select from the file; None if it is missing or can't be read."""
        try:
            with self._connection() as disk:
                rows = disk.execute(query, values).fetchall()
        except (OSError, sqlite3.Error) as error:
            self._sound &= isinstance(error, _NO_DAMAGE)
            self.readable = isinstance(error, FileNotFoundError)
            if not self.readable:
                self.fault = _unreadable(self._path, error)
            return None
        self.readable = True
        return rows

    def _table(self, table: str) -> dict[Any, tuple[Any, ...]]:
        """Read a table, with its changes."""
        with self._lock:
            rows = self._read(f"SELECT * FROM {table}")  # noqa: S608 - one of our tables
            if rows is not None:
                self._known[table] = {row[0]: row for row in rows}
            merged = self._known[table] | self._changes[table]
            return {key: row for key, row in merged.items() if row is not None}

    def _write(self, **changes: Rows) -> bool:
        """Change tables, and write all changes in one transaction; return whether that worked."""
        with self._lock:
            for table, rows in changes.items():
                self._changes[table] |= rows
            if self._read_only:
                return False
            try:
                self._save()
            except (OSError, StateDirError, sqlite3.Error) as error:
                self._sound &= isinstance(error, _NO_DAMAGE)
                self.fault = _clause(error)
                self._table("meta")  # is it not readable either?
                return False
            for table, known in self._known.items():
                known.update(self._changes[table])
            self._changes = {table: {} for table in _KEYS}
            self._made.clear()
            self.fault, self.readable = None, True
            return True

    def _save(self) -> None:
        make_directory(self._path.parent)
        self._create()
        with self._connection() as disk:  # closing it rolls back
            disk.execute("BEGIN IMMEDIATE")
            _migrate(disk)
            for table, rows in self._changes.items():
                delete = f"DELETE FROM {table} WHERE {_KEYS[table]} = ?"  # noqa: S608 - as above
                disk.executemany(delete, [(key,) for key in rows])
                for row in filter(None, rows.values()):
                    disk.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)  # noqa: S608
            disk.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", self._made.items())
            disk.execute("COMMIT")

    def _create(self) -> None:
        """Create a missing file, at once with its tables: an empty one is damaged."""
        if os.path.lexists(self._path):
            return
        with tempfile.TemporaryDirectory(prefix="state.db.", dir=self._path.parent) as folder:
            new = Path(folder, "new")
            new.touch(mode=0o600)
            with closing(_connect(new)) as db:
                _migrate(db)
            try:
                self._path.hardlink_to(new)
            except FileExistsError:
                return  # another process was faster
            except OSError:
                new.replace(self._path)  # a file system without hard links
        for table, rows in self._known.items():
            self._changes[table] = rows | self._changes[table]

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        self._path.lstat()  # FileNotFoundError: there is none yet
        with closing(_connect(self._path)) as disk:
            # A rollback journal works on network file systems, and for readers on read-only ones.
            disk.execute("PRAGMA journal_mode = TRUNCATE")
            disk.execute("PRAGMA synchronous = FULL")  # a commit is on disk when it returns
            (version,) = disk.execute("PRAGMA user_version").fetchone()
            if not 0 < version <= len(_STEPS):
                what = "of a newer otel-novu" if version else "no database of otel-novu"
                raise sqlite3.DatabaseError(f"it is {what} (schema {version})")
            if not self._sound and disk.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("it is damaged")
            self._sound = True
            yield disk


def _connect(path: Path) -> sqlite3.Connection:
    # Writable if it can be, also to read: SQLite undoes what a killed process left half written.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(uri, timeout=_BUSY_TIMEOUT, isolation_level=None, uri=True)


def _migrate(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    for step in _STEPS[version:]:
        for statement in step.split(";"):  # `executescript` would commit
            db.execute(statement)
    # In any case: only a write shows that a disk is full or read-only.
    db.execute(f"PRAGMA user_version = {len(_STEPS)}")


def _clause(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return text.lower() if text else str(error)


def _unreadable(path: Path, error: Exception) -> str:
    is_os = isinstance(error, OSError)
    code = sqlite3.SQLITE_CANTOPEN if is_os else getattr(error, "sqlite_errorcode", 0)
    hint = _HINTS.get(code & 0xFF, f"move {path} away")  # without the extended part
    return f"{path} can't be read: {_clause(error)}; {hint}"
