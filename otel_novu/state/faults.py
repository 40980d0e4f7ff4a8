"""How the state directory fails, in clauses that a user can read."""

import errno
import os

VARIABLE = "OTEL_NOVU_STATE_DIR"

LARGEST_FILE = 64 * 1024 * 1024
"""The largest file that is read or written, bytes."""

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
        name: the file's name in the state directory; `.` is the directory itself.
        why: one clause.
        passing: the fault is one of this process or moment, not of the file.
    """

    def __init__(self, name: str, why: str, *, passing: bool = False) -> None:
        what = "the state directory" if name == "." else f"{name} in the state directory"
        super().__init__(f"{what} can't be read: {why}")
        self.name = name
        self.why = why
        self.passing = passing


def unreadable(name: str, error: OSError) -> Unreadable:
    """Say why a file can't be read.

    Args:
        name: the file's name in the state directory.
        error: what the operating system answered.
    """
    return Unreadable(name, clause(error), passing=error.errno in _PASSING)


def clause(error: OSError) -> str:
    """Say what the operating system answered, as a clause."""
    return _CLAUSES.get(error.errno or 0) or plain_clause(error)


def clause_of(number: int) -> str:
    """Say what an error's number means; see `clause`."""
    return clause(OSError(number, os.strerror(number)))


def plain_clause(error: OSError) -> str:
    """Say it in the operating system's own words."""
    text = error.strerror or type(error).__name__
    return text[0].lower() + text[1:]
