"""The state directory: who may write to it, and which process uses it."""

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_VARIABLE = "OTEL_NOVU_STATE_DIR"
_PROBE_TIMEOUT = 1.0  # seconds


class StateDirError(Exception):
    """The state directory can't be used as it is; commands exit with 2."""


@dataclass(frozen=True, slots=True)
class LockOwner:
    """The process that uses a state directory.

    Args:
        pid: its id, None if that is not known.
        command: `run`, `once`, ...
        since: Unix time at which it started to use it, seconds.
        namespace: of its process id; ids of another container are not ours.
    """

    pid: int | None
    command: str
    since: float
    namespace: str


class LockedError(Exception):
    """Another process uses the state directory."""

    def __init__(self, directory: Path, owner: LockOwner) -> None:
        who = f"process {owner.pid} (otel-novu {owner.command})"
        super().__init__(f"{_VARIABLE} {directory} is used by {who}")
        self.owner = owner


def make_directory(directory: Path) -> None:
    """Make the directory if it is missing, and check it.

    Raises:
        StateDirError: as `check_directory`.
        OSError: it can't be made.
    """
    with suppress(FileExistsError, NotADirectoryError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_directory(directory)


def check_directory(directory: Path) -> None:
    """Check who may write to the directory; a symbolic link is followed.

    Raises:
        StateDirError: it is no directory, or others may write to it.
        OSError: it is missing, or can't be looked at.
    """
    try:
        found = directory.stat()
        is_directory = stat.S_ISDIR(found.st_mode)
    except NotADirectoryError:
        is_directory = False
    if not is_directory:
        message = f"{_VARIABLE}: {directory} is not a directory; expected the path of a directory"
        raise StateDirError(message)
    if found.st_uid not in (os.geteuid(), 0):
        fault = f"belongs to user {found.st_uid}"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        fault = f"can be written by others (mode {stat.S_IMODE(found.st_mode):04o})"
    else:
        return
    raise StateDirError(
        f"{_VARIABLE}: {directory} {fault}; expected a directory of user {os.geteuid()} with "
        "mode 0700"
    )


@contextmanager
def lock(directory: Path, command: str) -> Iterator[None]:
    """Hold the directory's lock; the kernel releases it when the process ends.

    Where the lock file can't be opened for writing, there is no lock.

    Raises:
        LockedError: another process holds it.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(directory / "lock", flags, 0o600)
    except OSError:
        yield
        return
    try:
        if not _acquire(file):
            raise LockedError(directory, _read_owner(file))
        with suppress(OSError):  # a full disk: the lock holds without a name
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()} {command} {time.time()} {pid_namespace()}".encode(), 0)
        yield
    finally:
        os.close(file)


def lock_owner(directory: Path) -> LockOwner | None:
    """Return the process that holds the lock, None if none does."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO would block
    try:
        file = os.open(directory / "lock", flags)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_owner(file)
    except OSError:
        return None
    else:
        return None
    finally:
        os.close(file)


def pid_namespace() -> str:
    """Name the namespace of this process's id; empty where there is none (macOS)."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _acquire(file: int) -> bool:
    """Take the lock; retry for a second, as `lock_owner` holds it for a moment to look."""
    deadline = time.monotonic() + _PROBE_TIMEOUT
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _read_owner(file: int) -> LockOwner:
    text = os.pread(file, 200, 0).decode(errors="replace")
    pid, command, since, namespace = (*text.split(" "), "", "", "", "")[:4]
    known = pid.isdecimal() and bool(since)
    return LockOwner(
        pid=int(pid) if known else None,
        command=command or "unknown",
        since=float(since) if known else 0.0,
        namespace=namespace,
    )
