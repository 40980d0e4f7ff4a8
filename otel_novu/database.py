"""One SQLite file, and a database in memory for what the disk does not take."""

import errno
import os
import shutil
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from otel_novu.state_dir import StateDirError, check_directory, make_directory

SCHEMA_VERSION = 1
BUSY_TIMEOUT = 5.0  # seconds that one process waits for another's transaction

# No STRICT and no RETURNING: RHEL 9 ships SQLite 3.34.
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE created (figure TEXT PRIMARY KEY, total INTEGER NOT NULL, since INTEGER NOT NULL,
    until INTEGER NOT NULL, paused INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE report (id INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL,
    read_at REAL NOT NULL, body BLOB NOT NULL, rejected TEXT);
CREATE TABLE last_attempt (scope TEXT PRIMARY KEY, read_at REAL, tried_at REAL, next_due REAL,
    endpoint TEXT, result TEXT, body BLOB) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
_SMALL_TABLES = ("meta", "created", "last_attempt")
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
_PASSING = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY}

Connection = sqlite3.Connection


class _UnusableError(sqlite3.DatabaseError):
    """The file can't be used as it is."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


class Database:
    """A file that several threads and processes may use.

    What the disk does not take is kept in memory, until it takes a transaction again. No method
    raises for a disk that is full, read-only or damaged.

    Attributes:
        fault: why state is in memory only, as a clause; None if it is on disk.
        readable: False if there is a file that can't be read.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        self.fault: str | None = None
        self.readable = True
        self._directory, self._path = directory, directory / "state.db"
        self._lock, self._read_only = threading.RLock(), read_only
        self._disk: Connection | None = None
        self._stale = True  # the file must be opened again before the next transaction
        self._known: dict[str, list[Any]] = {}  # the small tables as they were on disk
        self._memory = _connect(":memory:")
        self._memory.executescript(_SCHEMA)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open the database, creating it if it is missing.

        Raises:
            StateDirError: the directory is not a directory that only we can write to.
        """
        with suppress(OSError):
            make_directory(directory)
        database = cls(directory)
        # A write, as a full or read-only disk can be read.
        database._write(lambda disk: disk.execute(f"PRAGMA user_version = {SCHEMA_VERSION}"))
        return database

    @classmethod
    def open_read_only(cls, directory: Path) -> Self:
        """Open the database to read; nothing is created or written.

        Raises:
            StateDirError: as `open`.
        """
        with suppress(OSError):
            check_directory(directory)
        database = cls(directory, read_only=True)
        try:
            if not _is_missing(database._path):
                database._disk = _open_file(database._path, "ro")
        except (OSError, sqlite3.Error) as error:
            database._fail(error, close=True)
        return database

    def __del__(self) -> None:
        self.close()  # an embedding application never does, and Python 3.13 warns of that

    def close(self) -> None:
        """Close the file; one that another thread hangs in is left to the end of the process."""
        if self._lock.acquire(timeout=1.0):
            for db in filter(None, (self._memory, self._disk)):
                db.close()
            self._lock.release()

    def _rows(self, query: str, *values: object) -> tuple[list[Any], list[Any]]:
        """Read from disk and from memory."""
        with self._lock:
            disk: list[Any] = []
            try:
                if self._disk is not None:
                    disk = self._disk.execute(query, values).fetchall()
                    self.readable = True
            except sqlite3.Error as error:
                self.readable = False
                self._fail(error, close=self._read_only or _code(error) != sqlite3.SQLITE_BUSY)
            return disk, self._memory.execute(query, values).fetchall()

    def _commit(self, work: Callable[[Connection], object]) -> bool:
        """Run `work` on disk, or in memory if the disk does not take it; return whether it did."""
        with self._lock:
            on_disk = self._write(work)
            if not on_disk:
                work(self._memory)
            return on_disk

    def _write(self, work: Callable[[Connection], object]) -> bool:
        """Move what is in memory to disk and run `work`: both, or neither."""
        if self._read_only:
            return False
        with self._lock:
            try:
                disk = self._reopen() if self._stale or self._disk is None else self._disk
                with _transaction(disk):
                    self._move(self._memory, disk)
                    work(disk)
                    known = _small_tables(disk)
            except (OSError, StateDirError, sqlite3.Error) as error:
                self._fail(error, close=_code(error) in _DAMAGED)
                return False
            for table in ("report", *_SMALL_TABLES):
                self._memory.execute(f"DELETE FROM {table}")  # noqa: S608
            self._moved()
            self._known, self.fault, self.readable = known, None, True
            return True

    def _move(self, memory: Connection, disk: Connection) -> None:
        """Write what memory holds to disk, inside a transaction."""
        raise NotImplementedError

    def _moved(self) -> None:
        """Forget what is on disk now."""

    def _reopen(self) -> Connection:
        make_directory(self._directory)
        if _is_missing(self._path):
            _create(self._path)
        disk = _open_file(self._path, "rw")
        if self._disk is not None:
            self._disk.close()
        self._disk, self._stale, self._known = disk, False, _small_tables(disk)
        return disk

    def _fail(self, error: Exception, *, close: bool) -> None:
        """Go on in memory; close a file that nothing more can be read from."""
        self.fault = _clause(error)
        self._stale |= _code(error) not in _PASSING
        if self._disk is not None:
            if not close:
                return
            self._disk.close()
            self._disk = None
        for table, rows in self._known.items():  # the identity and the counters go on
            add_rows(self._memory, table, rows)
        self._known = {}
        self.readable = _is_missing(self._path)
        if not self.readable:
            self.fault = f"{self._path} can't be read: {self.fault}; {_hint(self._path, error)}"


def add_rows(db: Connection, table: str, rows: list[Any], conflict: str = "IGNORE") -> None:
    """Insert rows; of two with the same key, `db` keeps its own (IGNORE) or takes the new one."""
    if rows:
        marks = ",".join("?" * len(rows[0]))
        db.executemany(f"INSERT OR {conflict} INTO {table} VALUES ({marks})", rows)  # noqa: S608


def rows_of(db: Connection, table: str) -> list[Any]:
    """Read a whole table."""
    return db.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608


def _small_tables(db: Connection) -> dict[str, list[Any]]:
    return {table: rows_of(db, table) for table in _SMALL_TABLES}


@contextmanager
def _transaction(db: Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise


def _create(path: Path) -> None:
    """Create the file at once with its tables, so that an empty one is known as damaged."""
    handle, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # mode 0600
    os.close(handle)
    try:
        with closing(sqlite3.connect(name, isolation_level=None)) as db:
            db.executescript(_SCHEMA)
        try:
            os.link(name, path)
        except FileExistsError:
            pass  # another process was faster
        except OSError:
            Path(name).replace(path)  # a file system without hard links
    finally:
        Path(name).unlink(missing_ok=True)


def _open_file(path: Path, mode: str) -> Connection:
    """Open and check a file; OSError or sqlite3.Error if it can't be read or is not ours."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise _UnusableError("it is not a regular file")
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    db = _connect(f"{path.absolute().as_uri()}?mode={mode}")
    try:
        _check(db)
    except sqlite3.Error as error:
        db.close()
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_ROLLBACK:
            return _recovered_copy(path)
        raise
    return db


def _connect(name: str) -> Connection:
    return sqlite3.connect(
        name, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, uri=True
    )


def _check(db: Connection) -> None:
    # A rollback journal works on network file systems, and for readers on read-only ones.
    db.execute("PRAGMA journal_mode = TRUNCATE")
    db.execute("PRAGMA synchronous = FULL")  # a commit is on disk when it returns
    if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise _UnusableError("it is damaged")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise _UnusableError(f"it is of a newer otel-novu (schema {version})")
    if version < SCHEMA_VERSION:
        raise _UnusableError("it is not a database of otel-novu")


def _recovered_copy(path: Path) -> Connection:
    """Roll back what a killed process left, in a copy in memory: this file can't be written."""
    with tempfile.TemporaryDirectory() as scratch:
        for source in (path, path.with_name(f"{path.name}-journal")):
            shutil.copyfile(source, Path(scratch, source.name))
        with closing(_open_file(Path(scratch, path.name), "rw")) as copy:
            memory = _connect(":memory:")
            copy.backup(memory)
    memory.execute("PRAGMA query_only = ON")
    return memory


def _is_missing(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR)
    return False


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the extended part


def _clause(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return text.lower() if text else str(error)


def _hint(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) or _code(error) == sqlite3.SQLITE_CANTOPEN:
        return "run as the user that owns it"
    if _code(error) == sqlite3.SQLITE_BUSY:
        return "end the process that locks it"
    return f"move {path} away"
