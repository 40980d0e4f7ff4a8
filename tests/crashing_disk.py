"""File calls that crash where a test wants, and lose what was not synced, as a power cut does."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from otel_novu.state.directory import FileOps


class Crashed(BaseException):
    """The process is dead; nothing may catch this."""


@dataclass
class _Change:
    """A change of names that is not on the disk before its directories are synced."""

    undo: Callable[[], None]
    unsynced: set[tuple[int, int]]
    at: list[int] = field(default_factory=list)


class CrashingDisk(FileOps):
    """Works on real files; nothing is safe before the matching `fsync`."""

    def __init__(self) -> None:
        self.calls = 0
        self.crash_at: int | None = None
        self.full = False
        self._dead = False
        self._open: set[int] = set()
        self._dirty: dict[int, int] = {}  # written and not synced: inode -> a descriptor of it
        self._changes: list[_Change] = []
        self._attic = Path(tempfile.mkdtemp(prefix="otel-novu-attic-"))
        self._stored = 0

    def restart(self, keep_changes: int, keep_bytes: int) -> None:
        """Cut the power and start again.

        Args:
            keep_changes: unsynced changes of names that reached the disk, the earliest first.
            keep_bytes: of each unsynced file, that reached the disk.
        """
        for change in reversed(self._changes[keep_changes:]):
            change.undo()
        for fd in self._dirty.values():
            os.ftruncate(fd, min(keep_bytes, os.fstat(fd).st_size))
        self.forget()
        self.calls, self.crash_at, self._dead = 0, None, False

    def forget(self) -> None:
        """Close everything that the dead process left open."""
        for change in self._changes:
            for fd in change.at:
                os.close(fd)
        for fd in (*self._dirty.values(), *self._open):
            os.close(fd)
        self._changes, self._dirty, self._open = [], {}, set()

    def close_for_good(self) -> None:
        self.forget()
        shutil.rmtree(self._attic)

    def _step(self) -> None:
        if self._dead:
            raise Crashed
        if self.calls == self.crash_at:
            self._dead = True
            raise Crashed
        self.calls += 1

    def open(
        self, path: str | Path, flags: int, mode: int = 0o600, *, at: int | None = None
    ) -> int:
        self._step()
        new = bool(flags & os.O_CREAT) and not self._is_there(path, at)
        fd = super().open(path, flags, mode, at=at)
        self._open.add(fd)
        if new and at is not None:
            self._note(lambda own: os.unlink(path, dir_fd=own[0]), at)
        return fd

    def close(self, fd: int) -> None:
        self._open.discard(fd)
        super().close(fd)

    def read(self, fd: int, size: int) -> bytes:
        self._step()
        return super().read(fd, size)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self._step()
        inode = os.fstat(fd).st_ino
        if inode not in self._dirty:
            self._dirty[inode] = os.dup(fd)
        half = bytes(data)[: max(1, len(data) // 2)]
        if self.full:
            super().write(fd, half[:-1])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(fd, half)  # short writes are lawful

    def truncate(self, fd: int) -> None:
        self._step()
        super().truncate(fd)

    def fsync(self, fd: int) -> None:
        self._step()
        status = os.fstat(fd)
        if (dirty := self._dirty.pop(status.st_ino, None)) is not None:
            os.close(dirty)
        for change in self._changes:
            change.unsynced.discard((status.st_dev, status.st_ino))
        for change in [change for change in self._changes if not change.unsynced]:
            self._changes.remove(change)
            for own in change.at:
                os.close(own)

    def rename(self, old: str, new: str, *, old_at: int, new_at: int) -> None:
        self._step()
        replaced = self._store(new, new_at)
        super().rename(old, new, old_at=old_at, new_at=new_at)

        def undo(own: list[int]) -> None:
            os.rename(new, old, src_dir_fd=own[1], dst_dir_fd=own[0])
            self._bring_back(replaced, new, own[1])

        self._note(undo, old_at, new_at)

    def unlink(self, name: str, *, at: int) -> None:
        self._step()
        gone = self._store(name, at)
        super().unlink(name, at=at)
        self._note(lambda own: self._bring_back(gone, name, own[0]), at)

    def mkdir(self, path: str | Path, *, at: int | None = None) -> None:
        self._step()
        super().mkdir(path, at=at)
        if at is not None:
            self._note(lambda own: os.rmdir(path, dir_fd=own[0]), at)

    def _is_there(self, path: str | Path, at: int | None) -> bool:
        with contextlib.suppress(FileNotFoundError):
            os.stat(path, dir_fd=at, follow_symlinks=False)
            return True
        return False

    def _store(self, name: str, at: int) -> Path | None:
        if not self._is_there(name, at):
            return None
        self._stored += 1
        copy = self._attic / str(self._stored)
        os.link(name, copy, src_dir_fd=at, follow_symlinks=False)
        return copy

    def _bring_back(self, copy: Path | None, name: str, at: int) -> None:
        if copy is not None:
            os.link(copy, name, dst_dir_fd=at)

    def _note(self, undo: Callable[[list[int]], None], *at: int) -> None:
        own = [os.dup(fd) for fd in at]
        places = {(status.st_dev, status.st_ino) for status in map(os.fstat, own)}
        self._changes.append(_Change(lambda: undo(own), places, own))
