import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_faults import read_only

from otel_novu.outcome import Delivered, Later, Outcome, Refused
from otel_novu.state.directory import NotKept, StateDirectory, Unreadable
from otel_novu.state.last_report import METERS, LastReport, load, save

REPORT = LastReport(
    meter="beacon",
    body=b"\x0a\x00\xff",
    read_at=1_800_000_000.25,
    tried_at=1_800_000_001.5,
    destination="http://collector:4318/v1/metrics",
    outcome=Refused("401 Unauthorized"),
    next_due=1_800_003_600.0,
)

TIMES = st.floats(min_value=-1e11, max_value=1e11)
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Delivered, st.integers(min_value=0, max_value=2**63 - 1), st.text()),
    st.builds(Refused, st.text()),
    st.builds(Later, st.text(), st.none() | TIMES),
)


def saved(tmp_path: Path, report: LastReport = REPORT) -> dict[str, Any]:
    with StateDirectory.open(tmp_path) as state:
        save(state, report)
    document = json.loads((tmp_path / f"last-report-{report.meter}.json").read_bytes())
    assert isinstance(document, dict)
    return document


@given(
    report=st.builds(
        LastReport,
        meter=st.sampled_from(METERS),
        body=st.binary(),
        read_at=TIMES,
        tried_at=TIMES,
        destination=st.text(),
        outcome=OUTCOMES,
        next_due=TIMES,
    )
)
def test_what_is_saved_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, report: LastReport
) -> None:
    with StateDirectory.open(tmp_path_factory.mktemp("state")) as state:
        assert load(state, report.meter) is None
        save(state, report)
        assert load(state, report.meter) == report


def test_each_meter_has_a_file_of_its_own_and_the_last_one_stands(tmp_path: Path) -> None:
    usage = replace(REPORT, meter="usage", outcome=Delivered(2, "out of order"))
    later = replace(REPORT, outcome=Later("connection refused", 30.0))
    with StateDirectory.open(tmp_path) as state:
        for report in (REPORT, usage, later):
            save(state, report)
        assert (load(state, "beacon"), load(state, "usage")) == (later, usage)
        assert state.names() == ("last-report-beacon.json", "last-report-usage.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 2),
        ("meter", "usage"),
        ("meter", None),
        ("body", "no base64!"),
        ("body", 7),
        ("read_at", "now"),
        ("read_at", True),
        ("tried_at", math.nan),
        ("tried_at", math.inf),
        ("next_due", 10**400),
        ("next_due", None),
        ("destination", ["a"]),
        ("outcome", None),
        ("outcome", "delivered"),
        ("outcome", {"kind": "lost"}),
        ("outcome", {"kind": "delivered"}),
        ("outcome", {"kind": "delivered", "rejected": -1, "message": ""}),
        ("outcome", {"kind": "delivered", "rejected": True, "message": ""}),
        ("outcome", {"kind": "refused", "why": 1}),
        ("outcome", {"kind": "refused", "why": "", "more": 1}),
        ("outcome", {"kind": "later", "why": "", "after": "soon"}),
    ],
)
def test_a_field_that_is_not_as_it_was_written_is_damage(
    tmp_path: Path, key: str, value: object
) -> None:
    document = saved(tmp_path) | {key: value}
    unreadable_then_left_alone(tmp_path, json.dumps(document).encode())


@pytest.mark.parametrize("key", ["body", "meter", "outcome", "version"])
def test_a_field_that_is_missing_or_more_is_damage(tmp_path: Path, key: str) -> None:
    document = saved(tmp_path)
    unreadable_then_left_alone(tmp_path, json.dumps(document | {"more": 1}).encode())
    del document[key]
    unreadable_then_left_alone(tmp_path, json.dumps(document).encode())


@pytest.mark.parametrize(
    "text", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 9000]
)
def test_what_is_no_report_at_all_is_damage(tmp_path: Path, text: bytes) -> None:
    unreadable_then_left_alone(tmp_path, text)


def test_a_file_torn_anywhere_is_damage(tmp_path: Path) -> None:
    saved(tmp_path)
    whole = (tmp_path / "last-report-beacon.json").read_bytes().rstrip()
    for length in range(len(whole)):
        unreadable_then_left_alone(tmp_path, whole[:length])


def unreadable_then_left_alone(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "last-report-beacon.json"
    file.write_bytes(text)
    with StateDirectory.look(tmp_path) as state, pytest.raises(Unreadable) as unreadable:
        load(state, "beacon")
    assert unreadable.value.name == "last-report-beacon.json"
    assert file.read_bytes() == text


def test_a_report_that_can_not_be_kept_is_said_by_name(tmp_path: Path) -> None:
    with (
        read_only(tmp_path),
        StateDirectory.open(tmp_path) as state,
        pytest.raises(NotKept, match=r"^last-report-beacon\.json could not be kept"),
    ):
        save(state, REPORT)


def test_an_unknown_meter_and_an_endless_time_are_the_callers_mistakes(tmp_path: Path) -> None:
    with StateDirectory.open(tmp_path) as state:
        with pytest.raises(ValueError, match=r"'\.\./x' is no meter"):
            save(state, replace(REPORT, meter="../x"))
        with pytest.raises(ValueError, match="'x' is no meter"):
            load(state, "x")
        with pytest.raises(ValueError, match="not JSON compliant"):
            save(state, replace(REPORT, read_at=math.nan))
        assert state.names() == ()


def test_a_body_is_not_in_the_repr() -> None:
    assert "body" not in repr(REPORT)
