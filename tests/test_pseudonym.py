import hashlib
import hmac
import re
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_faults import read_only

from otel_novu.commands.reset_id import reset_id
from otel_novu.metrics.beacon import Host
from otel_novu.reports import beacon_meter
from otel_novu.settings import Settings, load
from otel_novu.sources.beacon_source import BeaconSource
from otel_novu.state.directory import Held, StateDirectory
from otel_novu.state.identity import instance_id
from otel_novu.state.pseudonym import FILE, Pseudonyms, look_at_pseudonyms, pseudonyms

HOST = Host(
    memory_free=1,
    memory_total=2,
    name="ADAS-LAPTOP.example.org",
    ip="192.168.1.4",
    os_type="linux",
    os_version="6.1.0",
)
KEY = bytes(range(16))


def made_in(state_dir: Path, make: Callable[[StateDirectory], Pseudonyms]) -> Pseudonyms:
    with StateDirectory.open(state_dir) as state:
        return make(state)


def settings(state_dir: Path, **environ: str) -> Settings:
    variables = {"OTEL_NOVU_STATE_DIR": str(state_dir), **environ}
    return load(variables, env_file=None, cwd=state_dir, home=state_dir)


def test_a_pseudonym_is_the_first_128_bits_of_hmac_sha256() -> None:
    expected = hmac.new(KEY, b"web-1", hashlib.sha256).hexdigest()[:32]
    assert Pseudonyms(KEY).of("web-1") == expected


@given(st.text(), st.text())
def test_pseudonyms_are_alike_exactly_where_the_names_are(one: str, other: str) -> None:
    known = Pseudonyms(KEY)
    assert (known.of(one) == known.of(other)) is (one == other)
    assert re.fullmatch("[0-9a-f]{32}", known.of(one))


def test_the_key_is_made_once_of_128_bits_and_only_its_owner_reads_it(state_dir: Path) -> None:
    first = made_in(state_dir, pseudonyms)
    assert first.warning is None
    assert len(first.key) == 16
    assert (state_dir / FILE).stat().st_mode & 0o777 == 0o600
    assert made_in(state_dir, pseudonyms) == first
    assert made_in(state_dir, look_at_pseudonyms) == first


def test_another_installation_has_other_pseudonyms(tmp_path: Path) -> None:
    here, there = (made_in(tmp_path / name, pseudonyms) for name in ("here", "there"))
    assert here.of(HOST.name) != there.of(HOST.name)


def test_the_key_is_in_no_repr(state_dir: Path) -> None:
    known = made_in(state_dir, pseudonyms)
    assert known.key.hex() not in repr(known)
    assert repr(known.key) not in repr(known)


def test_who_only_looks_keeps_no_key_and_says_so(state_dir: Path) -> None:
    looked = made_in(state_dir, look_at_pseudonyms)
    assert looked.warning is not None
    assert "not made yet" in looked.warning
    assert list(state_dir.iterdir()) == []


@pytest.mark.parametrize(
    "damaged", [b"", b"\n", b"00", b"no key", KEY.hex().encode() + b"00", b"\xff" * 32]
)
def test_a_damaged_key_is_left_alone_and_one_of_this_process_serves(
    damaged: bytes, state_dir: Path
) -> None:
    (state_dir / FILE).write_bytes(damaged)
    for make in (pseudonyms, look_at_pseudonyms):
        known = made_in(state_dir, make)
        assert known.warning is not None
        assert "is damaged" in known.warning
        assert len(known.key) == 16
    assert (state_dir / FILE).read_bytes() == damaged


def test_a_key_that_can_not_be_read_or_kept_never_lets_a_name_out(state_dir: Path) -> None:
    (state_dir / FILE).mkdir()
    unreadable = made_in(state_dir, pseudonyms)
    (state_dir / FILE).rmdir()
    with read_only(state_dir):
        unkept = made_in(state_dir, pseudonyms)
    for known, why in ((unreadable, "can't be read"), (unkept, "could not be kept")):
        assert known.warning is not None
        assert why in known.warning
        assert known.of(HOST.name) != HOST.name


def test_an_anonymised_beacon_holds_neither_name_nor_address(state_dir: Path) -> None:
    hidden = made_in(state_dir, pseudonyms)
    source = BeaconSource(lambda: 1_800_000_000.0, hidden, lambda: HOST)
    meter = beacon_meter(settings(state_dir), UUID(int=1), 0.0)
    request = meter.make(source.read(None, usage_enabled=True), 1_800_000_000.0).request
    meter.close()
    assert request is not None
    for secret in (HOST.name, "192.168.1.4", "ADAS", "example.org", hidden.key.hex()):
        assert secret.lower().encode() not in request.body.lower()
    assert hidden.of(HOST.name).encode() in request.body
    assert hidden.of("192.168.1.4").encode() in request.body


def test_a_host_without_an_address_has_no_pseudonym_of_one(state_dir: Path) -> None:
    hidden = made_in(state_dir, pseudonyms)
    alone = Host(None, None, "web-1", None, "linux", "6.1.0")
    source = BeaconSource(lambda: 1_800_000_000.0, hidden, lambda: alone)
    assert source.read(None, usage_enabled=True).host.ip is None


# reset-id


def test_reset_id_makes_a_new_id_and_a_new_key(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = made_in(state_dir, pseudonyms)
    with StateDirectory.open(state_dir) as state:
        before = instance_id(None, state).value
    assert reset_id(settings(state_dir)) == 0
    with StateDirectory.open(state_dir) as state:
        after = instance_id(None, state).value
    assert after != before
    assert str(after) in capsys.readouterr().out
    assert made_in(state_dir, pseudonyms).of(HOST.name) != key.of(HOST.name)


def test_reset_id_refuses_where_the_id_is_set_or_in_use_or_can_not_be_kept(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = "11111111-2222-4333-8444-555555555555"
    assert reset_id(settings(state_dir, OTEL_NOVU_INSTANCE_ID=given)) == 1
    assert "OTEL_NOVU_INSTANCE_ID is set and decides" in capsys.readouterr().err
    with StateDirectory.open(state_dir) as state:
        kept = instance_id(None, state).value
        with state.lock("run"), pytest.raises(Held):
            reset_id(settings(state_dir))
    with read_only(state_dir):
        assert reset_id(settings(state_dir)) == 1
    assert "the instance id was not reset" in capsys.readouterr().err
    with StateDirectory.open(state_dir) as state:
        assert instance_id(None, state).value == kept
