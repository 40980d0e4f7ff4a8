"""How an attempt to send a report ends."""

from dataclasses import dataclass
from typing import Protocol

from otel_novu.log import plural


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has the report, without the `rejected` data points (OTLP partial success).

    Without any, `message` is a warning.
    """

    rejected: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The receiver does not accept the report until somebody changes something."""

    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Retryable:
    """The receiver can't be reached or is overloaded; it asks for `retry_after` seconds."""

    reason: str
    hint: str = ""
    retry_after: float | None = None


Outcome = Delivered | Rejected | Retryable


class Sender(Protocol):
    """Sends OTLP metrics requests."""

    endpoint: str  # without user name, password and query

    def send(self, body: bytes, timeout: float) -> Outcome:
        """Try once, for at most `timeout` seconds; never raises."""


def describe(outcome: Outcome) -> str:
    """Return the outcome as a clause."""
    if isinstance(outcome, Delivered):
        message = f" ({outcome.message})" if outcome.message else ""
        rejected = (
            f", {plural(outcome.rejected, 'data point')} rejected" if outcome.rejected else ""
        )
        return f"delivered{rejected}{message}"
    verdict = "rejected" if isinstance(outcome, Rejected) else "not delivered"
    return f"{verdict}: {outcome.reason}" + (f" ({outcome.hint})" if outcome.hint else "")
