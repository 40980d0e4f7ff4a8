"""How a reading of the database fails, said without a driver's words."""

TIMED_OUT = "timed out"
"""How every reason begins where time ran out."""


class ReadFailed(Exception):  # noqa: N818 it reads as what happened
    """A question to the database was not answered.

    Args:
        reason: a clause for logs and reports; it holds no secret.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TimedOut(ReadFailed):
    """The time that the question was given ran out; a smaller question may be answered."""


class NoConnection(ReadFailed):
    """The database can't be talked to at all: the other questions of the round need no try."""


class UnknownCommand(ReadFailed):
    """The server does not know the command."""
