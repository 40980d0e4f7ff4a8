"""Opens files without waiting for anybody: on a pipe `open` itself waits for whoever writes."""

import errno
import os
import select
import stat
import time
from pathlib import Path
from typing import BinaryIO


def open_at_once(file: Path) -> BinaryIO:
    """Open a file to read; a pipe opens at once.

    Raises:
        OSError: it can't be opened.
    """
    return open(file, "rb", opener=_at_once)


def is_regular(stream: BinaryIO) -> bool:
    """Tell whether an open file is a regular one, by whatever links it was reached."""
    return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)


def read_pipe(stream: BinaryIO, most: int, seconds: float) -> bytes:
    """Read an open pipe or device to its end.

    Args:
        stream: what `open_at_once` returned.
        most: how many bytes, at the most.
        seconds: how long its end is waited for.

    Raises:
        OSError: no end came in time, or it is a pipe that nothing was written to.
    """
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    deadline = time.monotonic() + seconds
    found = bytearray()
    while len(found) < most:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise OSError(errno.ETIMEDOUT, f"it is a pipe without an end for {seconds:g} s")
        block = os.read(stream.fileno(), most - len(found))
        if not block:
            break
        found += block
    if not found and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
        # What should have written to it has failed, and what it should have set is lost.
        raise OSError(errno.ENODATA, "it is a pipe, and empty")
    return bytes(found)


def _at_once(name: str, flags: int) -> int:
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has none
