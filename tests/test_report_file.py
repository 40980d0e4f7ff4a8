"""The form of a report's file, read back whole or not at all."""

import hashlib
import json

import pytest

from otel_novu.delivery.report_file import Report, decode, encode, name_of, sequence_at
from otel_novu.state.directory import Unreadable
from otel_novu.times import utc

REPORT = Report("beacon", sequence_at(1_800_000_000.0), 1_800_000_000.5, b"the request\n\0")
NAME = name_of(REPORT.meter, REPORT.sequence)


def sealed(head: str) -> bytes:
    """A file whose checksum is right, whatever its head says."""
    payload = head.encode() + b"\n"
    digest = hashlib.blake2b(payload, digest_size=32).hexdigest().encode()
    return b"otel-novu report 1\n" + digest + b"\n" + payload


def test_a_report_is_read_back_as_it_was_written() -> None:
    assert decode(NAME, encode(REPORT)) == REPORT


def test_names_in_their_order_are_reports_in_theirs() -> None:
    names = [name_of("usage", sequence_at(seconds)) for seconds in (-1e18, 0, 1, 1e9, 8e11)]
    assert names == sorted(names)
    assert sequence_at(1e300) == sequence_at(9e11)


def test_one_flipped_bit_anywhere_is_noticed() -> None:
    whole = encode(REPORT)
    for position in range(len(whole)):
        for bit in range(8):
            altered = bytearray(whole)
            altered[position] ^= 1 << bit
            with pytest.raises(Unreadable):
                decode(NAME, bytes(altered))


@pytest.mark.parametrize(
    "head",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        json.dumps({"meter": "beacon", "sequence": "1", "read_at": 1.0}),
        json.dumps({"meter": 1, "sequence": REPORT.sequence, "read_at": 1.0}),
        json.dumps({"meter": "beacon", "sequence": REPORT.sequence, "read_at": 10**400}),
        json.dumps({"meter": "beacon", "sequence": REPORT.sequence, "read_at": float("nan")}),
        json.dumps({"meter": "beacon", "sequence": REPORT.sequence, "read_at": float("inf")}),
        json.dumps({"meter": "usage", "sequence": REPORT.sequence, "read_at": 1.0}),
    ],
    ids=lambda head: head[:60],
)
def test_a_head_that_makes_no_sense_is_unreadable_though_its_checksum_fits(head: str) -> None:
    with pytest.raises(Unreadable):
        decode(NAME, sealed(head))


@pytest.mark.parametrize("name", ["", "beacon.report", NAME + ".old", f"../{NAME}"])
def test_a_file_of_another_name_is_no_report(name: str) -> None:
    with pytest.raises(Unreadable):
        decode(name, encode(REPORT))


def test_every_time_that_a_file_may_hold_can_be_shown() -> None:
    assert utc(1_800_000_000.5) == "2027-01-15T08:00:00Z"
    assert utc(-1e300) == "1970-01-01T00:00:00Z"
    assert utc(1e300) == "9999-12-31T23:59:59Z"
