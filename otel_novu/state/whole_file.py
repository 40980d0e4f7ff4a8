"""Small files, read whole and written whole: aside, synced, renamed."""

import contextlib
import errno
import os
import secrets
import stat

from otel_novu.state.faults import LARGEST_FILE
from otel_novu.state.file_ops import FileOps

ASIDE = ".new-"
"""What a write that was cut short leaves behind begins with this."""


def contents(files: FileOps, leaf: str, at: int) -> bytes:
    """Read a file whole.

    Args:
        files: the file calls.
        leaf: its name.
        at: its open folder.

    Raises:
        OSError: it is missing, no regular file, larger than `LARGEST_FILE`, or can't be read.
    """
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


def write_whole(files: FileOps, leaf: str, data: bytes, at: int) -> None:
    """Write a file aside and put it in its place; it is on disk when this returns.

    Args:
        files: the file calls.
        leaf: its name.
        data: what it will hold.
        at: its open folder.

    Raises:
        OSError: it could not; the old file or the new one stands there whole.
    """
    if len(data) > LARGEST_FILE:
        raise OSError(errno.EFBIG, "")
    aside = f"{ASIDE}{secrets.token_hex(8)}"
    try:
        _fill(files, aside, data, at)
        files.rename(aside, leaf, old_at=at, new_at=at)
    except OSError:
        with contextlib.suppress(OSError):
            files.unlink(aside, at=at)
        raise
    sync_folder(files, at)


def _fill(files: FileOps, name: str, data: bytes, at: int) -> None:
    fd = files.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, at=at)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[files.write(fd, rest) :]
        files.fsync(fd)
    finally:
        files.close(fd)


def sync_folder(files: FileOps, fd: int) -> None:
    """Bring the names in an open folder to the disk.

    Raises:
        OSError: the disk fails; not where the file system can't sync a folder at all.
    """
    try:
        files.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems can't sync a directory
            raise
