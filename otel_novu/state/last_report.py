"""The last report of each meter: what it said, where it went to, and how that ended."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from otel_novu.outcome import Delivered, Later, Outcome, Refused
from otel_novu.state.directory import StateDirectory, Unreadable

METERS = ("beacon", "usage")

_VERSION = 1
_KEYS = {
    "version",
    "meter",
    "read_at",
    "tried_at",
    "destination",
    "outcome",
    "next_due",
    "body",
}
_LATEST = 1e12  # Unix seconds; far beyond every date that can be shown


@dataclass(frozen=True, slots=True)
class LastReport:
    """One report after an attempt to send it.

    Args:
        meter: one of `METERS`.
        body: the OTLP request, protobuf.
        read_at: when its figures were read, Unix seconds.
        tried_at: when it was tried, Unix seconds.
        destination: where to, without user name, password or query.
        outcome: how that ended.
        next_due: when the meter's next report is due, Unix seconds.
    """

    meter: str
    body: bytes = field(repr=False)
    read_at: float
    tried_at: float
    destination: str
    outcome: Outcome
    next_due: float


def save(state: StateDirectory, report: LastReport) -> None:
    """Keep the last report of its meter.

    Raises:
        NotKept: it could not be written.
        ValueError: the meter is unknown, or a time is not finite.
    """
    document = {
        "version": _VERSION,
        "meter": report.meter,
        "read_at": report.read_at,
        "tried_at": report.tried_at,
        "destination": report.destination,
        "outcome": _told(report.outcome),
        "next_due": report.next_due,
        "body": base64.b64encode(report.body).decode(),
    }
    text = json.dumps(document, allow_nan=False, indent=1)
    state.write(_name(report.meter), text.encode() + b"\n")


def load(state: StateDirectory, meter: str) -> LastReport | None:
    """Read the last report of a meter; None only where there is none.

    Raises:
        Unreadable: the file is damaged, or not of this version.
        ValueError: the meter is unknown.
    """
    name = _name(meter)
    data = state.read(name)
    if data is None:
        return None
    try:
        report = _parse(json.loads(data))
    except (ValueError, RecursionError):
        raise Unreadable(name, "it is damaged, or of another version") from None
    if report.meter != meter:
        raise Unreadable(name, "it holds another meter's report")
    return report


def _name(meter: str) -> str:
    if meter not in METERS:
        raise ValueError(f"{meter!r} is no meter")
    return f"last-report-{meter}.json"


def _told(outcome: Outcome) -> dict[str, object]:
    match outcome:
        case Delivered(rejected, message):
            return {"kind": "delivered", "rejected": rejected, "message": message}
        case Refused(why):
            return {"kind": "refused", "why": why}
        case Later(why, after):
            return {"kind": "later", "why": why, "after": after}


def _parse(document: object) -> LastReport:
    known = _only(document, _KEYS)
    if known["version"] != _VERSION:
        raise ValueError("version")
    return LastReport(
        meter=_text(known["meter"]),
        body=base64.b64decode(_text(known["body"]), validate=True),
        read_at=_time(known["read_at"]),
        tried_at=_time(known["tried_at"]),
        destination=_text(known["destination"]),
        outcome=_outcome(known["outcome"]),
        next_due=_time(known["next_due"]),
    )


def _outcome(document: object) -> Outcome:
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind == "delivered":
        known = _only(document, {"kind", "rejected", "message"})
        return Delivered(_count(known["rejected"]), _text(known["message"]))
    if kind == "refused":
        return Refused(_text(_only(document, {"kind", "why"})["why"]))
    if kind == "later":
        known = _only(document, {"kind", "why", "after"})
        after = known["after"]
        return Later(_text(known["why"]), None if after is None else _time(after))
    raise ValueError("outcome")


def _only(document: object, keys: set[str]) -> Mapping[str, Any]:
    if not isinstance(document, dict) or set(document) != keys:
        raise ValueError("keys")
    return document


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("text")  # noqa: TRY004 - one kind of error for all damage
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("count")
    return value


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("time")  # noqa: TRY004 - one kind of error for all damage
    if not abs(value) < _LATEST:  # put so that it shuts out NaN as well
        raise ValueError("time")
    return float(value)
