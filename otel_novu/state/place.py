"""The state directory's own entry in the file system: whether it is accepted, and will keep."""

import contextlib
import errno
import os
import stat
import sys
from pathlib import Path

from otel_novu.state.faults import VARIABLE, StateError, clause, clause_of, plain_clause
from otel_novu.state.file_ops import FileOps

_ACCEPTED = (
    "accepted is a directory (no symbolic link) that the user running otel-novu owns "
    "and nobody else may write to"
)
# Views into the kernel, none of which has room for a file; each counts no blocks.
_OF_THE_KERNEL = frozenset(
    {
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "efivarfs",
        "proc",
        "pstore",
        "securityfs",
        "selinuxfs",
        "sysfs",
        "tracefs",
    }
)


def make(path: Path, files: FileOps) -> str | None:
    """Make the directory, mode 0700, with its parents, where it is missing.

    Args:
        path: where.
        files: the file calls.

    Returns:
        Why it could not be made, as a clause, or None where it stands.

    Raises:
        StateError: what stands there, or on the way there, can't be accepted.
    """
    if _found(path) is not None:
        return None
    try:
        _make_with_parents(path, files)
    except OSError as error:
        return clause(error)
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
            raise _fault(path, f"can't be looked up ({plain_clause(error)})") from None
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


def enter(path: Path, files: FileOps) -> tuple[int | None, OSError | None]:
    """Open the directory, and judge it.

    Args:
        path: where.
        files: the file calls.

    Returns:
        Its descriptor and None, or None and why it can't be opened.

    Raises:
        StateError: as `make`.
    """
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


def tighten_while_empty(fd: int, files: FileOps) -> None:
    """Take others' rights away; not once it is used, as it may be a directory of other things.

    Args:
        fd: the open directory.
        files: the file calls.
    """
    with contextlib.suppress(OSError):
        if os.fstat(fd).st_mode & (stat.S_IRWXG | stat.S_IRWXO) and not files.names(fd):
            os.fchmod(fd, 0o700)


def forecast(path: Path) -> str | None:
    """Say why what is written there, or a directory made there, would not be kept."""
    try:
        while not path.exists() and path.parent != path:
            path = path.parent
        disk = os.statvfs(path)
        kind = None if disk.f_blocks else _kind(path.stat().st_dev)
    except OSError as error:
        return clause(error)
    if kind in _OF_THE_KERNEL:  # to the superuser all of it looks writable
        return f"it lies on the kernel's own file system {kind}"
    if disk.f_flag & os.ST_RDONLY:
        return clause_of(errno.EROFS)
    effective = os.access in os.supports_effective_ids
    if not os.access(path, os.W_OK | os.X_OK, effective_ids=effective):
        return "permission denied"
    # Some file systems count no blocks at all; the last ones are the superuser's.
    left = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    return clause_of(errno.ENOSPC) if disk.f_blocks and not left else None


def _kind(device: int) -> str | None:
    """Tell the kind of a device's file system; None where the operating system does not tell it."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    number = f"{os.major(device)}:{os.minor(device)}"
    for mount in mounts.split("\n"):
        # A blank in a path stands there as \040: proc_pid_mountinfo(5).
        before, _, kind = mount.partition(" - ")
        if before.split()[2:3] == [number]:
            return kind.partition(" ")[0]
    return None
