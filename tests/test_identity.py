import os
import socket
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from real_faults import NOBODY, as_nobody, open_ground, read_only

from otel_novu.state.directory import StateDirectory
from otel_novu.state.identity import Identity, Origin, instance_id, look_at_instance_id

FIRST = UUID("11111111-2222-4333-8444-555555555555")
OTHER = UUID("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")

WAYS = pytest.mark.parametrize("tell", [instance_id, look_at_instance_id], ids=["use", "look"])
Tell = Callable[[UUID | None, StateDirectory, Callable[[], UUID]], Identity]


def test_an_id_is_made_once_and_kept(tmp_path: Path) -> None:
    with StateDirectory.open(tmp_path) as state:
        assert instance_id(None, state, lambda: FIRST) == Identity(FIRST, Origin.MADE, None)
        assert instance_id(None, state, lambda: OTHER) == Identity(FIRST, Origin.KEPT, None)
        assert look_at_instance_id(None, state) == Identity(FIRST, Origin.KEPT, None)
    assert (tmp_path / "instance-id").read_text() == f"{FIRST}\n"


def test_without_a_maker_ids_are_random(tmp_path: Path) -> None:
    made = set()
    for name in ("a", "b"):
        with StateDirectory.open(tmp_path / name) as state:
            made.add(instance_id(None, state).value)
    assert len(made) == 2
    assert {value.version for value in made} == {4}


@WAYS
def test_the_configured_id_wins_and_is_not_stored(tmp_path: Path, tell: Tell) -> None:
    with StateDirectory.open(tmp_path) as state:
        assert tell(OTHER, state, lambda: FIRST) == Identity(OTHER, Origin.CONFIGURED, None)
        assert state.names() == ()
        state.write("instance-id", f"{FIRST}\n".encode())
        assert tell(OTHER, state, lambda: FIRST) == Identity(OTHER, Origin.CONFIGURED, None)
        assert state.read("instance-id") == f"{FIRST}\n".encode()


@WAYS
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"host-10.0.0.1",
        str(FIRST).encode()[:-1],
        f"{{{FIRST}}}".encode(),
        f"urn:uuid:{FIRST}".encode(),
        FIRST.hex.encode(),
        f"{FIRST}\n{OTHER}\n".encode(),
        b"\xff" * 36,
    ],
)
def test_a_damaged_id_is_left_alone_and_one_serves_this_process(
    tmp_path: Path, tell: Tell, text: bytes
) -> None:
    with StateDirectory.open(tmp_path) as state:
        state.write("instance-id", text)
        told = tell(None, state, lambda: OTHER)
        assert (told.value, told.origin) == (OTHER, Origin.PROCESS)
        assert told.warning is not None
        assert told.warning.startswith("The kept instance id can't be read (it holds no UUID")
        assert state.read("instance-id") == text


@WAYS
def test_an_id_in_capitals_or_without_a_line_end_is_the_same(tmp_path: Path, tell: Tell) -> None:
    with StateDirectory.open(tmp_path) as state:
        state.write("instance-id", str(OTHER).upper().encode())
        assert tell(None, state, lambda: FIRST) == Identity(OTHER, Origin.KEPT, None)


@WAYS
def test_what_is_no_file_in_the_id_s_place_is_left_alone(tmp_path: Path, tell: Tell) -> None:
    (tmp_path / "instance-id").mkdir()
    with StateDirectory.open(tmp_path) as state:
        told = tell(None, state, lambda: OTHER)
    assert told.origin is Origin.PROCESS
    assert told.warning == (
        "The kept instance id can't be read (it is no regular file); the one in use now is this "
        "process's alone."
    )


def test_an_id_that_can_not_be_kept_serves_this_process(tmp_path: Path) -> None:
    with read_only(tmp_path), StateDirectory.open(tmp_path) as state:
        told = instance_id(None, state, lambda: FIRST)
    assert (told.value, told.origin) == (FIRST, Origin.PROCESS)
    assert told.warning == (
        "The instance id could not be kept (the file system is read-only); the one in use now is "
        "this process's alone."
    )


def test_an_id_that_another_user_may_not_read_is_never_replaced() -> None:
    with open_ground() as ground:
        home = ground / "state"
        home.mkdir()
        os.chown(home, NOBODY, NOBODY)

        def case() -> str:
            with StateDirectory.open(home) as state:
                instance_id(None, state, lambda: FIRST)
                (home / "instance-id").chmod(0)
                told = instance_id(None, state, lambda: OTHER)
                (home / "instance-id").chmod(0o600)
                assert state.read("instance-id") == f"{FIRST}\n".encode()
            return f"{told.origin} {told.warning}"

        said = as_nobody(case)
    assert said.startswith("process The kept instance id can't be read (permission denied);")
    assert socket.gethostname() not in said


def test_looking_keeps_nothing(tmp_path: Path) -> None:
    with StateDirectory.open(tmp_path) as state:
        told = look_at_instance_id(None, state, lambda: FIRST)
        assert (told.value, told.origin) == (FIRST, Origin.PROCESS)
        assert told.warning == (
            "There is no instance id yet, `run` makes and keeps one; the one in use now is this "
            "process's alone."
        )
        assert state.names() == ()
