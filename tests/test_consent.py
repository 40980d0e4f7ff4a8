"""Who decides on the telemetry flag."""

from pathlib import Path

import pytest

from otel_novu.consent import (
    ADMIN_SETTING,
    BY_UNREADABLE,
    Decision,
    TelemetryFlag,
    read_decision,
    running_decision,
)
from otel_novu.settings import Settings, load
from otel_novu.store import Store


@pytest.mark.parametrize(
    ("variable", "admin", "readable", "expected"),
    [
        ("", None, True, Decision(enabled=True, by="the default")),
        ("", "on", True, Decision(enabled=True, by="the admin setting")),
        ("", "off", True, Decision(enabled=False, by="the admin setting")),
        ("", "on", False, Decision(enabled=False, by=BY_UNREADABLE)),
        ("on", None, False, Decision(enabled=True, by="NOVU_TELEMETRY")),
        ("on", "off", True, Decision(enabled=True, by="NOVU_TELEMETRY")),
        ("off", "on", True, Decision(enabled=False, by="NOVU_TELEMETRY")),
        ("off", None, False, Decision(enabled=False, by="NOVU_TELEMETRY")),
    ],
)
def test_the_variable_decides_then_the_admin_setting_then_the_default(
    variable: str,
    admin: str | None,
    readable: bool,  # noqa: FBT001 - a row of the table
    expected: Decision,
    state_dir: Path,
) -> None:
    Store(state_dir).set(ADMIN_SETTING, admin)
    if not readable:
        (state_dir / "state.db").write_text("damaged")
    found = read_decision(settings(state_dir, variable), Store(state_dir, read_only=True))
    assert found == expected


def settings(state_dir: Path, variable: str = "") -> Settings:
    environ = {"OTEL_NOVU_STATE_DIR": str(state_dir), "NOVU_TELEMETRY": variable}
    return load(environ, env_file=None, cwd=state_dir, home=state_dir)


def test_a_running_exporter_follows_the_admin_setting_and_others_see_its_decision(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o700)
    store, other = Store(tmp_path), Store(tmp_path)
    flag = TelemetryFlag(settings(tmp_path), store)
    assert (flag.enabled, flag.scopes()) == (True, ("beacon", "usage"))
    assert other.set(ADMIN_SETTING, "off")
    flag.read()
    assert (flag.enabled, flag.scopes()) == (False, ("beacon",))
    seen = running_decision(other)
    assert seen == Decision(enabled=False, by="the admin setting")
