"""The state directory: who may write to it, and which process uses it."""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from otel_novu.log import LOG

_VARIABLE = "OTEL_NOVU_STATE_DIR"


class StateDirError(Exception):
    """The state directory can't be used as it is; commands exit with 2."""


@dataclass(frozen=True, slots=True)
class LockOwner:
    """The process that uses a state directory; its id is None if that is not known."""

    pid: int | None
    command: str
    since: float  # Unix time, seconds
    namespace: str  # of its id; ids of another container are not ours


class LockedError(Exception):
    """Another process uses the state directory; the message is a sentence without its full stop."""

    def __init__(self, directory: Path, owner: LockOwner) -> None:
        who = f"process {owner.pid} (otel-novu {owner.command})"
        advice = f"stop it, or set {_VARIABLE} to another directory"
        super().__init__(f"The state directory {directory} is used by {who}; {advice}")


def make_directory(directory: Path) -> None:
    """Make the directory if it is missing, and check it; OSError if it can't be made."""
    if not directory.is_absolute():  # it begins with ~
        raise FileNotFoundError(errno.ENOENT, "no home directory")
    with suppress(FileExistsError, NotADirectoryError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_directory(directory)


def check_directory(directory: Path) -> None:
    """Raise StateDirError if it is no directory or others may write to it; OSError if missing."""
    found = None
    with suppress(NotADirectoryError):
        found = directory.stat()
    if found is None or not stat.S_ISDIR(found.st_mode):
        fault = "is not a directory"
    elif found.st_uid not in (os.geteuid(), 0):
        fault = f"belongs to user {found.st_uid}"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        fault = f"can be written by others (mode {stat.S_IMODE(found.st_mode):04o})"
    else:
        return
    expected = f"expected a directory of user {os.geteuid()} with mode 0700"
    raise StateDirError(f"{_VARIABLE}: {directory} {fault}; {expected}")


@contextmanager
def lock(directory: Path, command: str) -> Iterator[None]:
    """Hold the directory's lock until the process ends; LockedError: another process does."""
    with ExitStack() as stack:
        with suppress(OSError):  # read-only or full: no lock, or one without a name
            file = stack.enter_context(_lock_file(directory, os.O_RDWR | os.O_CREAT))
            if not _acquire(file):
                raise LockedError(directory, _read_owner(file))
            os.ftruncate(file.fileno(), 0)
            owner = f"{os.getpid()} {command} {time.time()} {pid_namespace()}"
            os.pwrite(file.fileno(), owner.encode(), 0)
        yield


def lock_owner(directory: Path) -> LockOwner | None:
    """Return the process that holds the lock, None if none does."""
    with suppress(OSError), _lock_file(directory, os.O_RDONLY) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_owner(file)
    return None


def pid_namespace() -> str:
    """Name the namespace of this process's id; empty where there is none (macOS)."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def _lock_file(directory: Path, flags: int) -> FileIO:
    return FileIO(os.open(directory / "lock", flags, 0o600))


def _acquire(file: FileIO) -> bool:
    for _ in range(50):  # for a second, as `lock_owner` holds it for a moment to look
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
            continue
        except OSError as error:
            LOG.warning("Run one exporter only: %s has no locks (%s).", _VARIABLE, error.strerror)
        return True
    return False


def _read_owner(file: FileIO) -> LockOwner:
    text = os.pread(file.fileno(), 200, 0).decode(errors="replace")
    with suppress(ValueError):  # the owner writes it just now
        pid, command, since, namespace = text.split(" ")
        return LockOwner(int(pid), command, float(since), namespace)
    return LockOwner(None, "unknown", 0.0, "")
