"""The state directory: whole files that only their owner reads, and one holder at a time."""

import contextlib
import errno
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

if sys.platform != "win32":
    import fcntl

VARIABLE = "OTEL_NOVU_STATE_DIR"

LARGEST_FILE = 64 * 1024 * 1024
"""The largest file that is read or written, bytes."""

_LOCK = "lock"
_ASIDE = ".new-"  # what a write that was cut short leaves behind begins with this
_ACCEPTED = (
    "accepted is a directory (no symbolic link) that the user running otel-novu owns "
    "and nobody else may write to"
)
_LOCK_TRIES = 6
_LOCK_PAUSE = 0.02  # seconds; a probe by another command holds the lock far shorter
_SIGNATURE = re.compile(rb"(\d{1,10}) ([a-z][a-z-]{0,39})\n")
_CLAUSES = {
    errno.ELOOP: "a symbolic link stands in its place",
    errno.EFBIG: f"it is larger than {LARGEST_FILE // 1024 // 1024} MiB",
    errno.EISDIR: "it is no regular file",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "no space is left on the device",
}
# Faults of this process or this moment, which tell nothing about the file.
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EBADF})


class StateError(Exception):
    """The state directory can't be accepted; its text names variable, fault and what is accepted.

    Commands print it and exit with 2.
    """


class NotKept(Exception):  # noqa: N818 - it tells what happened
    """A file could not be written, moved or removed.

    Args:
        name: the file's name in the state directory.
        why: one clause.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} could not be kept in the state directory: {why}")
        self.name = name
        self.why = why


class Unreadable(Exception):  # noqa: N818 - it tells what happened
    """A file is there, but what it says can't be known; it is left alone.

    Args:
        name: the file's name in the state directory.
        why: one clause.
        passing: the fault is one of this process or moment, not of the file.
    """

    def __init__(self, name: str, why: str, *, passing: bool = False) -> None:
        super().__init__(f"{name} in the state directory can't be read: {why}")
        self.name = name
        self.why = why
        self.passing = passing


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


class FileOps:
    """The operating system's file calls that the state directory makes, to be handed in.

    Each does what `os` does under the same name, relative to an open directory.
    """

    def open(
        self, path: str | Path, flags: int, mode: int = 0o600, *, at: int | None = None
    ) -> int:
        """Open, never following a symbolic link at the last component."""
        return os.open(path, flags | os.O_NOFOLLOW, mode, dir_fd=at)

    def close(self, fd: int) -> None:
        """Close."""
        os.close(fd)

    def read(self, fd: int, size: int) -> bytes:
        """Read at most `size` bytes."""
        return os.read(fd, size)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write, perhaps not all; returns how many bytes."""
        return os.write(fd, data)

    def truncate(self, fd: int) -> None:
        """Empty an open file."""
        os.ftruncate(fd, 0)

    def fsync(self, fd: int) -> None:
        """Bring a file, or a directory's names, to the disk."""
        os.fsync(fd)

    def rename(self, old: str, new: str, *, old_at: int, new_at: int) -> None:
        """Rename, replacing what is there."""
        os.rename(old, new, src_dir_fd=old_at, dst_dir_fd=new_at)

    def unlink(self, name: str, *, at: int) -> None:
        """Remove a name that is no directory."""
        os.unlink(name, dir_fd=at)

    def mkdir(self, path: str | Path, *, at: int | None = None) -> None:
        """Make a directory that is its owner's alone."""
        os.mkdir(path, 0o700, dir_fd=at)

    def names(self, fd: int) -> list[str]:
        """List a directory."""
        return os.listdir(fd)

    def status(self, name: str, *, at: int) -> os.stat_result:
        """Tell about a name, not about what a symbolic link points to."""
        return os.stat(name, dir_fd=at, follow_symlinks=False)

    def notify(self, fd: int) -> bool:
        """Let the kernel send SIGIO whenever a name in an open directory changes; whether it does.

        This is the older one of Linux's two ways, the one that Python has a call for.
        """
        if sys.platform != "linux":
            return False
        changes = fcntl.DN_CREATE | fcntl.DN_DELETE | fcntl.DN_RENAME | fcntl.DN_MODIFY
        try:
            fcntl.fcntl(fd, fcntl.F_NOTIFY, changes | fcntl.DN_MULTISHOT)
        except OSError:
            return False
        return True

    def lock(self, fd: int, operation: int) -> None:
        """`flock`, without waiting."""
        if sys.platform != "win32":
            fcntl.flock(fd, operation | fcntl.LOCK_NB)


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
        not_made = _make(path, files)
        fd, absent = _enter(path, files)
        if fd is not None:
            _tighten_while_empty(fd, files)
        why_not = not_made if fd is None and not_made else _forecast(path)
        return cls(files, fd, absent, why_not, looking=False)

    @classmethod
    def look(cls, path: Path, files: FileOps | None = None) -> Self:
        """Open the directory to read only: nothing is made, and writing raises `NotKept`.

        `why_not_writable` forecasts what `open` would meet.

        Raises:
            StateError: as `open`.
        """
        files = files or FileOps()
        fd, absent = _enter(path, files)
        return cls(files, fd, absent, _forecast(path), looking=True)

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
                return _contents(self._files, leaf, at)
        except FileNotFoundError:
            return None
        except OSError as error:
            passing = error.errno in _PASSING
            raise Unreadable(name, _why(error), passing=passing) from None

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
            passing = error.errno in _PASSING
            raise Unreadable(folder or ".", _why(error), passing=passing) from None
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
        with self._keeping(name):
            if len(data) > LARGEST_FILE:
                raise OSError(errno.EFBIG, "")
            with self._folder(folder, make=True) as at:
                try:
                    _write_whole(self._files, leaf, data, at)
                except FileNotFoundError:
                    # A holder that has just begun took the new file for a leftover.
                    _write_whole(self._files, leaf, data, at)
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
            _sync_folder(self._files, new_at)
            _sync_folder(self._files, at)

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
            _sync_folder(self._files, at)

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
            return Lock(self._files, None, _why(error))
        with contextlib.ExitStack() as undo:
            undo.callback(self._files.close, fd)
            try:
                seized = _seize(self._files, fd)
            except OSError as error:  # a file system without locks
                return Lock(self._files, None, _why(error))
            if not seized:
                raise Held(_holder(self._files, fd))
            _sign(self._files, fd, command)
            self._clear_leftovers()
            undo.pop_all()
        return Lock(self._files, fd, None)

    def held_by(self) -> Holder | None:
        """Tell who holds the directory, without taking it; None where nobody does."""
        try:
            with self._folder("") as at:
                fd = self._files.open(_LOCK, os.O_RDONLY | os.O_NONBLOCK, at=at)
        except OSError:
            return None
        try:
            self._files.lock(fd, fcntl.LOCK_SH)
        except BlockingIOError:
            return _holder(self._files, fd)
        except OSError:
            return None
        finally:
            self._files.close(fd)
        return None

    def held_since(self) -> float | None:
        """Tell when somebody last began or ceased to hold the directory, Unix time in seconds."""
        try:
            with self._folder("") as at:
                return self._files.status(_LOCK, at=at).st_mtime
        except OSError:
            return None

    def _open_lock(self) -> int:
        if self._looking:
            raise OSError(errno.EROFS, "")
        with self._folder("") as at:
            return self._files.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, at=at)

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
            _sync_folder(self._files, self._fd)
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
            self.why_not_writable = _why(error)
            raise NotKept(name, self.why_not_writable) from None

    def _clear_leftovers(self) -> None:
        """Remove what interrupted writes left, here and in the folders."""
        with contextlib.suppress(Unreadable):
            for folder in ("", *self.names()):
                with contextlib.suppress(OSError), self._folder(folder) as at:
                    for name in self._files.names(at):
                        if name.startswith(_ASIDE):
                            self._files.unlink(name, at=at)


def _make(path: Path, files: FileOps) -> str | None:
    """Make the directory where it is missing; returns why it could not be made."""
    if _found(path) is not None:
        return None
    try:
        _make_with_parents(path, files)
    except OSError as error:
        return _why(error)
    return None


def _make_with_parents(path: Path, files: FileOps) -> None:
    try:
        files.mkdir(path)
    except FileExistsError:  # another process was faster
        return
    except FileNotFoundError:
        if path.parent == path:
            raise
        _make_with_parents(path.parent, files)
        files.mkdir(path)
    with contextlib.suppress(OSError):
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            files.fsync(parent)
        finally:
            files.close(parent)


def _found(path: Path) -> os.stat_result | None:
    """Look at the directory's own entry; None where it is missing or can't be looked at."""
    if sys.platform == "win32":
        raise StateError(f"{VARIABLE} can't be used on Windows; Linux and macOS are accepted.")
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    except (NotADirectoryError, ValueError):
        raise _fault(path, "lies below something that is no directory, or holds a NUL") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise _fault(path, f"can't be looked up ({_lowered(error)})") from None
        return None
    _judge(path, status)
    return status


def _judge(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _fault(path, "is a symbolic link")
    if not stat.S_ISDIR(status.st_mode):
        raise _fault(path, "is a file")
    if path.samefile("/"):
        raise _fault(path, "is the root of the file system")
    if status.st_uid != os.geteuid():
        owners = f"user {status.st_uid}, not to user {os.geteuid()}"
        raise _fault(path, f"belongs to {owners}, who runs otel-novu")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        raise _fault(path, f"may be written to by others (mode {mode:04o}; `chmod 700` mends it)")


def _fault(path: Path, what: str) -> StateError:
    return StateError(f"{VARIABLE}: {str(path)!r} {what}; {_ACCEPTED}.")


def _enter(path: Path, files: FileOps) -> tuple[int | None, OSError | None]:
    """Open the directory; returns its descriptor, or why there is none."""
    _found(path)
    try:
        fd = files.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        return None, error
    try:
        _judge(path, os.fstat(fd))  # what was opened, whatever stood there before
    except StateError:
        files.close(fd)
        raise
    return fd, None


def _tighten_while_empty(fd: int, files: FileOps) -> None:
    """Take others' rights away; not once it is used, as it may be a directory of other things."""
    with contextlib.suppress(OSError):
        if os.fstat(fd).st_mode & (stat.S_IRWXG | stat.S_IRWXO) and not files.names(fd):
            os.fchmod(fd, 0o700)


def _forecast(path: Path) -> str | None:
    """Say why what is written there, or a directory made there, would not be kept."""
    try:
        while not path.exists() and path.parent != path:
            path = path.parent
        disk = os.statvfs(path)
    except OSError as error:
        return _why(error)
    if disk.f_flag & os.ST_RDONLY:
        return _CLAUSES[errno.EROFS]
    effective = os.access in os.supports_effective_ids
    if not os.access(path, os.W_OK | os.X_OK, effective_ids=effective):
        return "permission denied"
    # Some file systems count no blocks at all; the last ones are the superuser's.
    left = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    return _CLAUSES[errno.ENOSPC] if disk.f_blocks and not left else None


def _split(name: str) -> tuple[str, str]:
    folder, _, leaf = name.rpartition("/")
    hidden = leaf.startswith(".") or folder.startswith(".")
    if not leaf or hidden or "/" in folder or "\0" in name or name.startswith("/"):
        raise ValueError(f"{name!r} is no name in the state directory")
    return folder, leaf


def _contents(files: FileOps, leaf: str, at: int) -> bytes:
    # A pipe in the file's place must not hold us up.
    fd = files.open(leaf, os.O_RDONLY | os.O_NONBLOCK, at=at)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EISDIR, "")
        data = bytearray()
        while len(data) <= LARGEST_FILE and (part := files.read(fd, 1 << 20)):
            data += part
    finally:
        files.close(fd)
    if len(data) > LARGEST_FILE:
        raise OSError(errno.EFBIG, "")
    return bytes(data)


def _write_whole(files: FileOps, leaf: str, data: bytes, at: int) -> None:
    aside = f"{_ASIDE}{secrets.token_hex(8)}"
    try:
        _fill(files, aside, data, at)
        files.rename(aside, leaf, old_at=at, new_at=at)
    except OSError:
        with contextlib.suppress(OSError):
            files.unlink(aside, at=at)
        raise
    _sync_folder(files, at)


def _fill(files: FileOps, name: str, data: bytes, at: int) -> None:
    fd = files.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, at=at)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[files.write(fd, rest) :]
        files.fsync(fd)
    finally:
        files.close(fd)


def _sync_folder(files: FileOps, fd: int) -> None:
    try:
        files.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems can't sync a directory
            raise


def _seize(files: FileOps, fd: int) -> bool:
    """Lock the file; a few tries, as another command may be probing it."""
    for attempt in range(_LOCK_TRIES):
        if attempt:
            time.sleep(_LOCK_PAUSE)
        with contextlib.suppress(BlockingIOError):
            files.lock(fd, fcntl.LOCK_EX)
            return True
    return False


def _sign(files: FileOps, fd: int, command: str) -> None:
    with contextlib.suppress(OSError):  # a full disk: then the lock holds, namelessly
        files.truncate(fd)
        files.write(fd, f"{os.getpid()} {command}\n".encode())


def _holder(files: FileOps, fd: int) -> Holder:
    try:
        signed = _SIGNATURE.fullmatch(files.read(fd, 64))
    except OSError:
        signed = None
    if signed is None:
        return Holder(None, "")
    return Holder(int(signed[1]), signed[2].decode())


def _why(error: OSError) -> str:
    return _CLAUSES.get(error.errno or 0) or _lowered(error)


def _lowered(error: OSError) -> str:
    text = error.strerror or type(error).__name__
    return text[0].lower() + text[1:]
