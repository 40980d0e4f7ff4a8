"""The state directory: files that only their owner reads, and one holder at a time."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from otel_novu.state import place
from otel_novu.state.faults import (
    LARGEST_FILE,
    NotKept,
    StateError,
    Unreadable,
    clause,
    unreadable,
)
from otel_novu.state.file_ops import FileOps
from otel_novu.state.lock import FILE as LOCK_FILE
from otel_novu.state.lock import Held, Holder, Lock, holder_of, probe, seize, sign
from otel_novu.state.whole_file import ASIDE, contents, sync_folder, write_whole

# What its methods take, return and raise comes with it.
__all__ = [
    "LARGEST_FILE",
    "FileOps",
    "Held",
    "Holder",
    "Lock",
    "NotKept",
    "StateDirectory",
    "StateError",
    "Unreadable",
]


class StateDirectory:
    """A directory of small files, each written whole; safe to use from several threads.

    A name is `file` or `folder/file`. Files are made with mode 0600, folders with 0700, and no
    symbolic link is followed below the directory's own parents, which are not judged.

    Args:
        files: the file calls.
        fd: the open directory, or None where it can't be opened.
        absent: why it can't, where it can't.
        why_not_writable: see the attribute.
        looking: nothing may be written.

    Attributes:
        why_not_writable: why what is written is not kept, as a clause, or None where it is; a
            forecast at first, then what the last write met.
    """

    def __init__(
        self,
        files: FileOps,
        fd: int | None,
        absent: OSError | None,
        why_not_writable: str | None,
        *,
        looking: bool,
    ) -> None:
        self._files = files
        self._fd = fd
        self._absent = absent
        self._looking = looking
        self.why_not_writable = why_not_writable

    @classmethod
    def open(cls, path: Path, files: FileOps | None = None) -> Self:
        """Open the directory to read and write, making it (mode 0700) where it is missing.

        One that can't be made or written is no error: it answers that files are missing,
        `why_not_writable` says why, and writing raises `NotKept`. One that others may read is
        accepted, as they can't read its files; while it is empty it is made the owner's alone.

        Raises:
            StateError: a file or a symbolic link stands in its place, it is another user's, or
                its group or others may write to it.
        """
        files = files or FileOps()
        not_made = place.make(path, files)
        fd, absent = place.enter(path, files)
        if fd is not None:
            place.tighten_while_empty(fd, files)
        why_not = not_made if fd is None and not_made else place.forecast(path)
        return cls(files, fd, absent, why_not, looking=False)

    @classmethod
    def look(cls, path: Path, files: FileOps | None = None) -> Self:
        """Open the directory to read only: nothing is made, and writing raises `NotKept`.

        `why_not_writable` forecasts what `open` would meet.

        Raises:
            StateError: as `open`.
        """
        files = files or FileOps()
        fd, absent = place.enter(path, files)
        return cls(files, fd, absent, place.forecast(path), looking=True)

    def close(self) -> None:
        """Close the directory; then nothing can be read or written."""
        fd, self._fd = self._fd, None
        self._absent = OSError(errno.EBADF, "it is closed")
        if fd is not None:
            self._files.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def tell_of_changes(self) -> bool:
        """Let SIGIO come whenever a file at the top changes, until `close`; whether it will.

        A change by another machine, on a network file system, is not told.
        """
        return self._fd is not None and self._files.notify(self._fd)

    def read(self, name: str) -> bytes | None:
        """Read a file; None only where it is missing.

        Raises:
            Unreadable: no permission, no regular file, larger than `LARGEST_FILE`, an I/O error.
        """
        folder, leaf = _split(name)
        try:
            with self._folder(folder) as at:
                return contents(self._files, leaf, at)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(name, error) from None

    def names(self, folder: str = "") -> tuple[str, ...]:
        """List a folder, sorted; hidden names, and a folder that is missing, give nothing.

        Raises:
            Unreadable: it can't be listed.
        """
        try:
            with self._folder(folder) as at:
                found = self._files.names(at)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise unreadable(folder or ".", error) from None
        return tuple(sorted(name for name in found if not name.startswith(".")))

    def size(self, name: str) -> int:
        """Tell a file's size, bytes; 0 where it is no regular file or can't be told."""
        folder, leaf = _split(name)
        try:
            with self._folder(folder) as at:
                status = self._files.status(leaf, at=at)
        except OSError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole: when it returns the file is on disk, else the old one stands.

        Raises:
            NotKept: it could not; the new file may or may not be there.
        """
        folder, leaf = _split(name)
        with self._keeping(name), self._folder(folder, make=True) as at:
            try:
                write_whole(self._files, leaf, data, at)
            except FileNotFoundError:
                # A holder that has just begun took the new file for a leftover.
                write_whole(self._files, leaf, data, at)
        self.why_not_writable = None

    def move(self, name: str, new: str) -> None:
        """Rename a file, replacing what is there, and bring that to the disk.

        Raises:
            NotKept: it could not.
        """
        (folder, leaf), (new_folder, new_leaf) = _split(name), _split(new)
        with (
            self._keeping(name),
            self._folder(folder) as at,
            self._folder(new_folder, make=True) as new_at,
        ):
            self._files.rename(leaf, new_leaf, old_at=at, new_at=new_at)
            sync_folder(self._files, new_at)
            sync_folder(self._files, at)

    def remove(self, name: str) -> None:
        """Remove a file, where it is there, and bring that to the disk.

        Raises:
            NotKept: it could not.
        """
        folder, leaf = _split(name)
        with (
            self._keeping(name),
            contextlib.suppress(FileNotFoundError),
            self._folder(folder) as at,
        ):
            self._files.unlink(leaf, at=at)
            sync_folder(self._files, at)

    def lock(self, command: str) -> Lock:
        """Hold the directory until the lock is released, and clear away what was cut short.

        Where the file system offers no lock, `Lock.why_not_held` says why.

        Args:
            command: what the holder does, as `run`; told to those who come later.

        Raises:
            Held: another process holds it.
        """
        try:
            fd = self._open_lock()
        except OSError as error:
            return Lock(self._files, None, clause(error))
        with contextlib.ExitStack() as undo:
            undo.callback(self._files.close, fd)
            try:
                seized = seize(self._files, fd)
            except OSError as error:  # a file system without locks
                return Lock(self._files, None, clause(error))
            if not seized:
                raise Held(holder_of(self._files, fd))
            sign(self._files, fd, command)
            self._clear_leftovers()
            undo.pop_all()
        return Lock(self._files, fd, None)

    def held_by(self) -> Holder | None:
        """Tell who holds the directory, without taking it; None where nobody does."""
        try:
            with self._folder("") as at:
                fd = self._files.open(LOCK_FILE, os.O_RDONLY | os.O_NONBLOCK, at=at)
        except OSError:
            return None
        try:
            return probe(self._files, fd)
        finally:
            self._files.close(fd)

    def held_since(self) -> float | None:
        """Tell when somebody last began or ceased to hold the directory, Unix time in seconds."""
        try:
            with self._folder("") as at:
                return self._files.status(LOCK_FILE, at=at).st_mtime
        except OSError:
            return None

    def _open_lock(self) -> int:
        if self._looking:
            raise OSError(errno.EROFS, "")
        with self._folder("") as at:
            return self._files.open(LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, at=at)

    @contextlib.contextmanager
    def _folder(self, name: str, *, make: bool = False) -> Iterator[int]:
        """Open a folder for one operation; opened afresh, as a listing moves its descriptor."""
        if self._fd is None:
            fault = self._absent or FileNotFoundError(errno.ENOENT, "")
            raise OSError(fault.errno, fault.strerror)
        flags = os.O_RDONLY | os.O_DIRECTORY
        try:
            fd = self._files.open(name or ".", flags, at=self._fd)
        except FileNotFoundError:
            if not make:
                raise
            with contextlib.suppress(FileExistsError):
                self._files.mkdir(name, at=self._fd)
            sync_folder(self._files, self._fd)
            fd = self._files.open(name, flags, at=self._fd)
        try:
            yield fd
        finally:
            self._files.close(fd)

    @contextlib.contextmanager
    def _keeping(self, name: str) -> Iterator[None]:
        """Turn an `OSError` of a write into `NotKept`, and remember how it went."""
        if self._looking:
            raise NotKept(name, "this command only looks")
        if self._fd is None and self.why_not_writable:
            raise NotKept(name, self.why_not_writable)
        try:
            yield
        except OSError as error:
            self.why_not_writable = clause(error)
            raise NotKept(name, self.why_not_writable) from None

    def _clear_leftovers(self) -> None:
        """Remove what interrupted writes left, here and in the folders."""
        with contextlib.suppress(Unreadable):
            for folder in ("", *self.names()):
                with contextlib.suppress(OSError), self._folder(folder) as at:
                    for name in self._files.names(at):
                        if name.startswith(ASIDE):
                            self._files.unlink(name, at=at)


def _split(name: str) -> tuple[str, str]:
    folder, _, leaf = name.rpartition("/")
    hidden = leaf.startswith(".") or folder.startswith(".")
    if not leaf or hidden or "/" in folder or "\0" in name or name.startswith("/"):
        raise ValueError(f"{name!r} is no name in the state directory")
    return folder, leaf
