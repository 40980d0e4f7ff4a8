"""The form of a report's file: its name, a head, the request, and a checksum over both."""

import hashlib
import json
import math
import re
from dataclasses import dataclass, field

from otel_novu.state.directory import Unreadable

_MAGIC = b"otel-novu report 1\n"
_METER = re.compile(r"[a-z]{1,32}")
_NAME = re.compile(r"[0-9]{15}-[a-z]{1,32}\.report")
_LATEST = 9e11  # Unix seconds that fit a name's fifteen digits of milliseconds, with room above


@dataclass(frozen=True, slots=True)
class Report:
    """One OTLP request of one meter, read but not delivered.

    Args:
        meter: `beacon` or `usage`.
        sequence: its place in the order of all reports.
        read_at: when its figures were read, Unix seconds.
        body: the request, protobuf.
        kept: it lay on disk when it was handed out; else in memory only.
    """

    meter: str
    sequence: int
    read_at: float
    body: bytes = field(repr=False)
    kept: bool = field(default=True, compare=False)


def name_of(meter: str, sequence: int) -> str:
    """Tell the name of a report's file; names in their order are reports in theirs."""
    return f"{sequence:015d}-{meter}.report"


def sequence_at(seconds: float) -> int:
    """Tell the number that a clock gives a report: milliseconds, within what a name can hold.

    Args:
        seconds: Unix time.
    """
    return int(min(max(seconds, 0.0), _LATEST) * 1000)


def encode(report: Report) -> bytes:
    """Write a report as its file holds it.

    Raises:
        ValueError: the meter's name has other characters than a-z, or the time is not finite.
    """
    if not _METER.fullmatch(report.meter):
        raise ValueError(f"{report.meter!r} is no meter's name")
    head = {"meter": report.meter, "sequence": report.sequence, "read_at": report.read_at}
    payload = json.dumps(head, allow_nan=False).encode() + b"\n" + report.body
    return _MAGIC + _digest(payload) + b"\n" + payload


def decode(name: str, data: bytes) -> Report:
    """Read a report back.

    Args:
        name: the file's, which must be the one that it was written under.
        data: what it holds.

    Raises:
        Unreadable: it is no whole report of this version.
    """
    if not _NAME.fullmatch(name):
        raise Unreadable(name, "its name is no report's")
    if not data.startswith(_MAGIC):
        raise Unreadable(name, "it does not begin as a report of this version")
    digest, _, payload = data.removeprefix(_MAGIC).partition(b"\n")
    if digest != _digest(payload):
        raise Unreadable(name, "it is torn or altered, its checksum does not fit")
    head, _, body = payload.partition(b"\n")
    try:
        report = _parse(head, body)
        named = name_of(report.meter, report.sequence)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise Unreadable(name, "its head is no report's") from None
    if named != name:
        raise Unreadable(name, "it was written under another name")
    return report


def _parse(head: bytes, body: bytes) -> Report:
    known = json.loads(head)
    read_at = float(known["read_at"])
    if not math.isfinite(read_at):
        raise ValueError("read_at")
    return Report(known["meter"], known["sequence"], read_at, body)


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=32).hexdigest().encode()
