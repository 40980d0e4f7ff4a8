"""One SQLite file, or a copy of it in memory where it can't be written."""

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

from otel_novu.state_dir import check_directory, create_file, make_directory

SCHEMA_VERSION = 1
BUSY_TIMEOUT = 5.0  # seconds that one process waits for another's transaction

# No STRICT and no RETURNING: RHEL 9 ships SQLite 3.34.
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS created (figure TEXT PRIMARY KEY, total INTEGER NOT NULL,
    since INTEGER NOT NULL, until INTEGER NOT NULL, paused INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS report (id INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL,
    read_at REAL NOT NULL, body BLOB NOT NULL, rejected TEXT);
CREATE TABLE IF NOT EXISTS last_attempt (scope TEXT PRIMARY KEY, read_at REAL, tried_at REAL,
    next_due REAL, endpoint TEXT, result TEXT, body BLOB) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
# Reports that the disk does not take wait in a temporary table. Their ids are negative, so that
# they differ from those on disk.
_OVERFLOW = """
PRAGMA temp_store = MEMORY;
CREATE TEMP TABLE overflow AS SELECT * FROM report WHERE 0;
CREATE TEMP VIEW waiting AS SELECT * FROM (
    SELECT * FROM report WHERE rejected IS NULL UNION ALL SELECT * FROM overflow
) ORDER BY id < 0, ABS(id);
"""


class _NotOursError(sqlite3.DatabaseError):
    """The file can't be used as it is; it is left alone."""


class Database:
    """A connection that is safe to use from several threads; the file, from several processes.

    Args:
        db: a connection to the file, or to a copy in memory.
        fault: why nothing is written to disk; None if it is.
        durable: False for a copy in memory.
        readable: False if there is a file that can't be read.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        fault: str | None = None,
        *,
        durable: bool = True,
        readable: bool = True,
    ) -> None:
        self._db, self._durable = db, durable
        self._lock = threading.RLock()
        self.fault, self.readable = fault, readable
        db.executescript(_OVERFLOW)
        self._prepare()

    def _prepare(self) -> None:
        """Set up what a subclass keeps in memory."""

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open or create the database; use a copy in memory if it can't be written.

        Raises:
            StateDirError: the directory is not a directory that only we can write to.
        """
        path = directory / "state.db"
        try:
            make_directory(directory)
            create_file(path)  # SQLite gives its journal the mode of this file
            db = _connect(path.absolute().as_uri())
            try:
                _check(db)
                db.executescript(_SCHEMA)
            except sqlite3.DatabaseError:
                db.close()
                raise
            return cls(db)
        except (OSError, sqlite3.DatabaseError) as error:
            return cls._in_memory(path, _clause(error))

    @classmethod
    def open_read_only(cls, directory: Path) -> Self:
        """Copy the database into memory; nothing is created or written.

        Raises:
            StateDirError: as `open`.
        """
        with suppress(OSError):
            check_directory(directory)
        return cls._in_memory(directory / "state.db", None)

    @classmethod
    def _in_memory(cls, path: Path, fault: str | None) -> Self:
        memory, readable = _connect(":memory:"), True
        try:
            if _exists(path):
                # Writable: or a journal that a killed process left could not be rolled back.
                mode = "rw" if os.access(path, os.W_OK) else "ro"
                with closing(_connect(f"{path.absolute().as_uri()}?mode={mode}")) as disk:
                    _check(disk)
                    disk.backup(memory)
        except (OSError, sqlite3.DatabaseError) as error:
            # What can't be read may be a setting that usage figures are off.
            readable = False
            fault = f"{path} can't be read: {_clause(error)}; move it away, or restore it"
            memory.close()
            memory = _connect(":memory:")
        memory.executescript(_SCHEMA)
        return cls(memory, fault, durable=False, readable=readable)

    def __del__(self) -> None:
        # An embedding application never closes it; Python 3.13 warns of that.
        self._db.close()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()

    def _select(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                rows = self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self.fault, self.readable = _clause(error), False
            return []
        self.readable |= self._durable
        return rows

    def _commit(self, work: Callable[[], object]) -> bool:
        """Run a transaction; return False, and set `fault`, if the disk does not take it."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                work()
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                self.fault = _clause(error)
                return False
            if self._durable:
                self.fault = None
            return True


def _connect(name: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        name, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, uri=True
    )
    try:
        # A rollback journal works on network file systems and for a read-only look, unlike WAL.
        # FULL: a commit is on disk when it returns.
        if not name.endswith("mode=ro"):
            db.execute("PRAGMA journal_mode = TRUNCATE")
        db.execute("PRAGMA synchronous = FULL")
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection) -> None:
    """Refuse a damaged database, and one of a newer version."""
    if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise _NotOursError("it is damaged")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise _NotOursError(f"it is of a newer otel-novu (schema {version})")


def _exists(path: Path) -> bool:
    try:
        return bool(path.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return False


def _clause(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    return str(error)
