"""How an attempt to send a report ended."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has the report.

    Args:
        rejected: data points that the receiver said it rejected (OTLP partial success).
        message: what it said about them, cut and made printable; empty where nothing.
    """

    rejected: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The receiver will not take the report as things stand: something has to be mended.

    Args:
        why: one clause, without secrets: what happened and what to do about it.
    """

    why: str


@dataclass(frozen=True, slots=True)
class Later:
    """The receiver could not be reached or could not take the report now.

    Args:
        why: one clause, without secrets.
        after: seconds that the receiver asked us to wait, or None.
    """

    why: str
    after: float | None = None


Outcome = Delivered | Refused | Later


def describe(outcome: Outcome) -> str:
    """Say how an attempt ended, as a clause."""
    match outcome:
        case Delivered(rejected=0):
            return "delivered"
        case Delivered(rejected=rejected, message=message):
            told = f" ({message})" if message else ""
            return f"delivered, {rejected} data points rejected{told}"
        case Refused(why=why):
            return f"refused: {why}"
        case Later(why=why):
            return f"not delivered: {why}"


class Sender(Protocol):
    """Sends the bytes of one OTLP metrics request."""

    @property
    def destination(self) -> str:
        """Where to, without user name, password or query."""

    def send(self, body: bytes, timeout: float) -> Outcome:
        """Try once, within ``timeout`` seconds in all; never raises."""
