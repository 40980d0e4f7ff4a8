import errno
import itertools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_faults import read_only

from otel_novu.commands import telemetry
from otel_novu.outcome import Delivered
from otel_novu.settings import Settings, SettingsError, load
from otel_novu.sources.created import CreatedWatch
from otel_novu.state import last_report
from otel_novu.state.consent import (
    DECISION_FILE,
    FILE,
    Admin,
    Decision,
    decide,
    keep_decision,
    kept_decision,
    read_admin,
    store_admin,
)
from otel_novu.state.created_file import CreatedFile
from otel_novu.state.directory import LARGEST_FILE, FileOps, StateDirectory

ON = ["true", "1", "yes", "on"]
OFF = ["false", "0", "no", "off"]
VARIABLE = "NOVU_TELEMETRY"
# What is in the admin setting's place, and what that means.
STORED: dict[str, Admin] = {
    "missing": Admin.UNSET,
    "on": Admin.ON,
    "off": Admin.OFF,
    "empty": Admin.UNREADABLE,
    "no line feed": Admin.UNREADABLE,
    "another word": Admin.UNREADABLE,
    "upper case": Admin.UNREADABLE,
    "both words": Admin.UNREADABLE,
    "no text": Admin.UNREADABLE,
    "too large": Admin.UNREADABLE,
    "a directory": Admin.UNREADABLE,
    "a symbolic link": Admin.UNREADABLE,
    "a pipe": Admin.UNREADABLE,
}
CONTENTS = {
    "on": b"on\n",
    "off": b"off\n",
    "empty": b"",
    "no line feed": b"on",
    "another word": b"enabled\n",
    "upper case": b"ON\n",
    "both words": b"on\noff\n",
    "no text": b"\xff\x00\n",
}


def put(stored: str, state_dir: Path) -> None:
    """Put something into the admin setting's place."""
    place = state_dir / FILE
    special: Mapping[str, Callable[[], object]] = {
        "missing": lambda: None,
        "too large": lambda: os.truncate(write(place, b""), LARGEST_FILE + 1),
        "a directory": place.mkdir,
        "a symbolic link": lambda: place.symlink_to(write(state_dir / "elsewhere", b"on\n")),
        "a pipe": lambda: os.mkfifo(place),
    }
    if stored in special:
        special[stored]()
    else:
        write(place, CONTENTS[stored])


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def settings(state_dir: Path, **environ: str) -> Settings:
    variables = {"OTEL_NOVU_STATE_DIR": str(state_dir), **environ}
    return load(variables, env_file=None, cwd=state_dir, home=state_dir)


def read(state_dir: Path) -> Admin:
    with StateDirectory.look(state_dir) as state:
        return read_admin(state)


# The decision


@pytest.mark.parametrize(
    ("variable", "admin", "decision"),
    [
        (None, Admin.UNSET, Decision(enabled=True, by="the default", changeable=True)),
        (None, Admin.ON, Decision(enabled=True, by="the admin setting", changeable=True)),
        (None, Admin.OFF, Decision(enabled=False, by="the admin setting", changeable=True)),
        *(
            (
                None,
                admin,
                Decision(enabled=False, by="an admin setting that can't be read", changeable=True),
            )
            for admin in (Admin.UNREADABLE, Admin.NO_ANSWER)
        ),
        *((True, admin, Decision(enabled=True, by=VARIABLE, changeable=False)) for admin in Admin),
        *(
            (False, admin, Decision(enabled=False, by=VARIABLE, changeable=False))
            for admin in Admin
        ),
    ],
)
def test_the_variable_decides_else_the_admin_setting_else_it_is_on(
    variable: bool | None,  # noqa: FBT001 - the flag itself
    admin: Admin,
    decision: Decision,
) -> None:
    assert decide(variable, admin) == decision


def spellings(words: list[str]) -> list[str]:
    forms = [[w, w.upper(), w.title(), w[:-1] + w[-1].upper(), f" {w}\t"] for w in words]
    return [*itertools.chain(*forms)]


@pytest.mark.parametrize("stored", STORED)
def test_every_spelling_with_every_admin_setting_comes_to_what_the_table_says(
    stored: str, state_dir: Path
) -> None:
    put(stored, state_dir)
    admin = read(state_dir)
    assert admin is STORED[stored]
    for word in spellings(ON):
        assert decide(settings(state_dir, NOVU_TELEMETRY=word).telemetry, admin).enabled
    for word in spellings(OFF):
        assert not decide(settings(state_dir, NOVU_TELEMETRY=word).telemetry, admin).enabled
    # An empty variable is an unset one.
    alone = decide(settings(state_dir, NOVU_TELEMETRY="").telemetry, admin)
    assert alone == decide(settings(state_dir).telemetry, admin)
    assert alone.enabled is (STORED[stored] in {Admin.UNSET, Admin.ON})


def is_another_word(text: str) -> bool:
    return text.isprintable() and text.strip().lower() not in {*ON, *OFF, ""}


@given(st.text().filter(is_another_word))
def test_every_other_word_is_an_error_that_names_the_variable_and_the_words(word: str) -> None:
    with pytest.raises(SettingsError) as raised:
        settings(Path("/"), NOVU_TELEMETRY=word)
    assert str(raised.value).startswith(f"{VARIABLE} ")
    assert all(accepted in str(raised.value) for accepted in (*ON, *OFF))


def test_a_state_directory_that_is_missing_has_no_admin_setting(tmp_path: Path) -> None:
    assert read(tmp_path / "missing") is Admin.UNSET


class NoMoreFiles(FileOps):
    """Opens nothing below the directory, as when the process has too many files open."""

    def open(
        self, path: str | Path, flags: int, mode: int = 0o600, *, at: int | None = None
    ) -> int:
        if at is not None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().open(path, flags, mode, at=at)


def test_a_setting_that_can_not_be_read_just_now_is_told_from_a_damaged_one(
    state_dir: Path,
) -> None:
    write(state_dir / FILE, b"off\n")
    with StateDirectory.look(state_dir, NoMoreFiles()) as state:
        assert read_admin(state) is Admin.NO_ANSWER


# What is stored


@pytest.mark.parametrize("enabled", [True, False])
def test_what_is_stored_is_read_again_and_only_its_owner_reads_it(
    enabled: bool,  # noqa: FBT001 - the flag itself
    state_dir: Path,
) -> None:
    with StateDirectory.open(state_dir) as state:
        store_admin(state, enabled=enabled)
        assert read_admin(state) is (Admin.ON if enabled else Admin.OFF)
    assert (state_dir / FILE).stat().st_mode & 0o777 == 0o600


@given(st.builds(Decision, st.booleans(), st.text(), st.booleans()))
def test_a_decision_that_is_kept_is_told_again(
    tmp_path_factory: pytest.TempPathFactory, decision: Decision
) -> None:
    with StateDirectory.open(tmp_path_factory.mktemp("state")) as state:
        assert kept_decision(state) is None
        keep_decision(state, decision)
        assert kept_decision(state) == decision


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"on\n",
        b"{}",
        b"[]",
        b'{"enabled": 1, "by": "me", "changeable": true}',
        b'{"enabled": true, "by": null, "changeable": true}',
        b'{"enabled": true, "by": "me", "changeable": true, "more": 1}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_decision_is_not_known(data: bytes, state_dir: Path) -> None:
    write(state_dir / DECISION_FILE, data)
    with StateDirectory.look(state_dir) as state:
        assert kept_decision(state) is None


# The command


def status(
    capsys: pytest.CaptureFixture[str], state_dir: Path, **environ: str
) -> tuple[list[str], dict[str, object]]:
    given = settings(state_dir, **environ)
    assert telemetry.status(given, as_json=False, now=lambda: NOW) == 0
    lines = capsys.readouterr().out.splitlines()
    assert telemetry.status(given, as_json=True, now=lambda: NOW) == 0
    document = json.loads(capsys.readouterr().out)
    assert isinstance(document, dict)
    return lines, document


@pytest.mark.parametrize(
    ("stored", "environ", "sentence"),
    [
        ("missing", {}, "on, decided by the default; otel-novu telemetry enable or disable"),
        ("on", {}, "on, decided by the admin setting; otel-novu telemetry enable or disable"),
        ("off", {}, "off, decided by the admin setting; otel-novu telemetry enable or disable"),
        ("empty", {}, "off, decided by an admin setting that can't be read; otel-novu telemetry"),
        ("on", {VARIABLE: "no"}, "off, decided by NOVU_TELEMETRY; NOVU_TELEMETRY changes it."),
        ("off", {VARIABLE: "YES"}, "on, decided by NOVU_TELEMETRY; NOVU_TELEMETRY changes it."),
    ],
)
def test_status_says_on_or_off_who_decided_and_what_changes_it(
    stored: str,
    environ: Mapping[str, str],
    sentence: str,
    state_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(stored, state_dir)
    lines, document = status(capsys, state_dir, **environ)
    assert lines[0].startswith(f"Usage figures are {sentence}")
    assert lines[1] == "The beacon is always sent."
    assert document["enabled"] is sentence.startswith("on")
    assert document["changeable"] is (not environ)
    assert f"decided by {document['by']}" in lines[0]
    assert document["exporter"] is None


NOW = 1_800_000_002.0
REPORT = last_report.LastReport(
    meter="usage",
    body=b"",
    read_at=1_800_000_000.0,
    tried_at=1_800_000_001.0,
    destination="http://collector:4318/v1/metrics",
    outcome=Delivered(),
    next_due=1_800_003_600.0,
)
SENTENCE = (
    "The last usage report was read 2027-01-15T08:00:00Z and tried 2027-01-15T08:00:01Z to "
    "http://collector:4318/v1/metrics: delivered"
)


def test_status_says_what_left_last_and_what_is_due_only_while_an_exporter_runs(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with StateDirectory.open(state_dir) as state:
        last_report.save(state, REPORT)
        lines, document = status(capsys, state_dir)
        assert lines[2:] == [
            "No exporter runs on this state directory: nothing is due.",
            "No beacon report is known to have been tried.",
            f"{SENTENCE}; none is due.",
        ]
        assert document["last"] == {
            "usage": {
                "read": "2027-01-15T08:00:00Z",
                "tried": "2027-01-15T08:00:01Z",
                "destination": "http://collector:4318/v1/metrics",
                "outcome": "delivered",
                "next_due": None,
            }
        }
        with state.lock("run"):
            lines, document = status(capsys, state_dir)
            assert lines[2] == f"An exporter runs (process {os.getpid()})."
            assert lines[4].endswith("delivered; the next is due 2027-01-15T09:00:00Z.")
            assert document["exporter"] == {"pid": os.getpid(), "decision": None}


def test_status_tells_the_running_exporters_own_decision_where_it_differs(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with StateDirectory.open(state_dir) as state, state.lock("run"):
        last_report.save(state, REPORT)
        keep_decision(state, decide(variable=False, admin=Admin.UNSET))
        lines, document = status(capsys, state_dir)
    assert lines[0].startswith("Usage figures are on, decided by the default")
    assert lines[2].endswith("; its usage figures are off, decided by NOVU_TELEMETRY.")
    assert lines[4].endswith("; none is due.")
    assert document["exporter"] == {
        "pid": os.getpid(),
        "decision": {"enabled": False, "by": "NOVU_TELEMETRY", "changeable": False},
    }


@pytest.mark.parametrize("stored", STORED)
def test_enable_and_disable_mend_whatever_is_in_the_settings_place_or_say_why_not(
    stored: str, state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for enabled in (True, False):
        put_again(stored, state_dir)
        code = telemetry.store(settings(state_dir), enabled=enabled)
        said = capsys.readouterr()
        if stored == "a directory":
            assert code == 1
            assert said.err.startswith("otel-novu: the admin setting was not stored: ")
            continue
        assert code == 0
        word = "on" if enabled else "off"
        assert said.out == (
            f"Usage figures are {word} from now on; no exporter runs, the next one begins with "
            "it.\n"
        )
        assert read(state_dir) is (Admin.ON if enabled else Admin.OFF)


def put_again(stored: str, state_dir: Path) -> None:
    place = state_dir / FILE
    if place.is_dir():
        place.rmdir()
    place.unlink(missing_ok=True)
    put(stored, state_dir)


@pytest.mark.parametrize("word", [*ON, *OFF])
@pytest.mark.parametrize("enabled", [True, False])
def test_enable_and_disable_refuse_with_one_sentence_where_the_variable_has_decided(
    word: str,
    enabled: bool,  # noqa: FBT001 - the flag itself
    state_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert telemetry.store(settings(state_dir, NOVU_TELEMETRY=word), enabled=enabled) == 1
    now = "on" if word in ON else "off"
    assert capsys.readouterr().err == (
        f"otel-novu: NOVU_TELEMETRY is set and has decided that usage figures are {now}; unset it "
        "to let the admin setting decide.\n"
    )
    assert read(state_dir) is Admin.UNSET


def test_they_refuse_too_where_the_variable_is_set_only_for_the_running_exporter(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with StateDirectory.open(state_dir) as state, state.lock("run"):
        keep_decision(state, decide(variable=True, admin=Admin.UNSET))
        assert telemetry.store(settings(state_dir), enabled=False) == 1
    assert capsys.readouterr().err == (
        f"otel-novu: NOVU_TELEMETRY is set where the exporter runs (process {os.getpid()}) and has "
        "decided that usage figures are on; unset it there to let the admin setting decide.\n"
    )
    assert read(state_dir) is Admin.UNSET


def test_a_decision_left_by_an_exporter_that_runs_no_more_hinders_nothing(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with StateDirectory.open(state_dir) as state:
        keep_decision(state, decide(variable=True, admin=Admin.UNSET))
    assert telemetry.store(settings(state_dir), enabled=False) == 0
    assert "off from now on" in capsys.readouterr().out
    assert read(state_dir) is Admin.OFF


def test_a_setting_that_can_not_be_stored_is_told(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with read_only(state_dir):
        assert telemetry.store(settings(state_dir), enabled=False) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "otel-novu: the admin setting was not stored: the file system is read-only.\n"
    )


def test_what_is_created_between_disable_and_enable_without_an_exporter_is_not_counted(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count_a_window(state_dir, clock=1_800_000_000, count=5)
    assert telemetry.store(settings(state_dir), enabled=False) == 0
    assert telemetry.store(settings(state_dir), enabled=True) == 0
    assert "on from now on" in capsys.readouterr().out
    with StateDirectory.open(state_dir) as state:
        round_ = CreatedWatch(CreatedFile(state), ["user.created"]).open_round(1_900_000_000)
        assert round_.created("user.created").count == 5
        # Nothing before this moment is asked for.
        assert round_.next_slice("user.created") is None


def test_an_outage_alone_is_caught_up_and_enable_twice_changes_nothing(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count_a_window(state_dir, clock=1_800_000_000, count=5)
    assert telemetry.store(settings(state_dir), enabled=True) == 0
    assert "on from now on" in capsys.readouterr().out
    with StateDirectory.open(state_dir) as state:
        round_ = CreatedWatch(CreatedFile(state), ["user.created"]).open_round(1_900_000_000)
        assert round_.next_slice("user.created") is not None


def count_a_window(state_dir: Path, clock: int, count: int) -> None:
    with StateDirectory.open(state_dir) as state:
        watch = CreatedWatch(CreatedFile(state), ["user.created"])
        watch.close_round(watch.open_round(clock))
        round_ = watch.open_round(clock + 1000)
        part = round_.next_slice("user.created")
        assert part is not None
        round_.counted("user.created", part, count)
        watch.close_round(round_)
