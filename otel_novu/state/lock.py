"""The lock of the state directory: one holder at a time, who signs with process and command."""

import contextlib
import os
import re
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from otel_novu.state.faults import VARIABLE
from otel_novu.state.file_ops import FileOps

if sys.platform != "win32":
    import fcntl

FILE = "lock"

_TRIES = 50
_PAUSE = 0.02  # seconds; a probe by another command holds the lock far shorter, if it isn't stalled
_SIGNATURE = re.compile(rb"(\d{1,10}) ([a-z][a-z-]{0,39})\n")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the state directory.

    Args:
        pid: its process id, in its own container; None where the lock does not tell.
        command: its command, as `run`; empty where the lock does not tell.
    """

    pid: int | None
    command: str


class Held(Exception):  # noqa: N818 - it tells what happened
    """Another process holds the state directory; its text names it.

    Args:
        holder: that process.
    """

    def __init__(self, holder: Holder) -> None:
        known = f" (`{holder.command}`, process {holder.pid})" if holder.pid is not None else ""
        super().__init__(f"another otel-novu{known} holds the state directory ({VARIABLE})")
        self.pid = holder.pid
        self.command = holder.command


class Lock:
    """Holds the state directory until it is released; a killed process holds nothing.

    Args:
        files: the file calls.
        fd: the locked file, or None where none could be locked.
        why_not_held: why not, as a clause, or None while it is held. Then nothing keeps a second
            process out, as on a file system that is read-only.
    """

    def __init__(self, files: FileOps, fd: int | None, why_not_held: str | None) -> None:
        self._files = files
        self._fd = fd
        self.why_not_held = why_not_held

    def release(self) -> None:
        """Let go; does nothing a second time."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        with contextlib.suppress(OSError):
            self._files.truncate(fd)
        self._files.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.release()


def seize(files: FileOps, fd: int) -> bool:
    """Lock an open file; a few tries, as another command may be probing it.

    Args:
        files: the file calls.
        fd: the file.

    Returns:
        Whether it is locked; False where another process holds it.

    Raises:
        OSError: the file system has no locks.
    """
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE)
        with contextlib.suppress(BlockingIOError):
            files.lock(fd, fcntl.LOCK_EX)
            return True
    return False


def probe(files: FileOps, fd: int) -> Holder | None:
    """Tell who holds an open file locked, without holding it; None where nobody does.

    Args:
        files: the file calls.
        fd: the file.
    """
    try:
        files.lock(fd, fcntl.LOCK_SH)
    except BlockingIOError:
        return holder_of(files, fd)
    except OSError:
        return None
    return None


def sign(files: FileOps, fd: int, command: str) -> None:
    """Write into the locked file who holds it.

    Args:
        files: the file calls.
        fd: the file.
        command: what the holder does, as `run`.
    """
    with contextlib.suppress(OSError):  # a full disk: then the lock holds, namelessly
        files.truncate(fd)
        files.write(fd, f"{os.getpid()} {command}\n".encode())


def holder_of(files: FileOps, fd: int) -> Holder:
    """Read who signed a file that another process holds."""
    try:
        signed = _SIGNATURE.fullmatch(files.read(fd, 64))
    except OSError:
        signed = None
    if signed is None:
        return Holder(None, "")
    return Holder(int(signed[1]), signed[2].decode())
