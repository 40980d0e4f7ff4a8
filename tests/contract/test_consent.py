"""The telemetry flag: while it is off, no usage instrument exists and no database is connected."""

import json
import re
from collections.abc import Iterator
from typing import Any

import otlp_reports
import pytest
from contract.case import ONE_REPORT, USAGE, Case, seconds
from faults import Gate
from receivers import HttpSink
from servers import RunningExporter, eventually

pytestmark = pytest.mark.contract

UNREADABLE = "unreadable"


@pytest.fixture
def gate(novu: Case, mongo_url: str) -> Iterator[Gate]:
    """The way to Novu's data, which counts connections."""
    with Gate(mongo_url) as gate:
        novu.read(gate.url)
        yield gate


def set_admin(setting: str, case: Case) -> None:
    """Bring the admin setting into a state: on, off, unreadable, or as it is."""
    if setting:
        done = case(f"telemetry {'enable' if setting == 'on' else 'disable'}")
        assert done.returncode == 0, done.stderr
    for file in case.state.rglob("*") if setting == UNREADABLE else ():
        if file.is_file() and file.name != "lock":
            file.write_bytes(b"garbage " * 200)


def status(case: Case, **changes: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(case("telemetry status --json", **changes).stdout)
    return document


def wait_for_off(running: RunningExporter, times: int = 1) -> None:
    """Wait until it has logged so many times that usage is off."""
    off = re.compile("(?i)usage figures are off")
    eventually(lambda: sum(bool(off.search(line)) for line in running.stderr) >= times)


ON = [("", ""), ("", "on"), ("true", "off"), ("Yes", UNREADABLE)]
OFF = [("", "off"), ("", UNREADABLE), (" OFF ", "on"), ("0", ""), ("no", UNREADABLE)]


@pytest.mark.parametrize(("variable", "admin"), ON + OFF)
def test_the_variable_decides_else_the_admin_setting_else_it_is_on(
    variable: str, admin: str, case: Case
) -> None:
    case.read("mongodb://127.0.0.1:1/novu-db")
    set_admin(admin, case)
    found = status(case, NOVU_TELEMETRY=variable)
    assert (found["enabled"], found["changeable"]) == ((variable, admin) in ON, not variable)
    assert ("NOVU_TELEMETRY" in found["by"]) is bool(variable)


@pytest.mark.parametrize(
    ("variable", "admin"), [("False", ""), ("off", "on"), ("", "off"), ("", UNREADABLE)]
)
def test_while_it_is_off_nothing_connects_to_the_database_and_no_usage_is_sent(
    variable: str, admin: str, novu: Case, gate: Gate
) -> None:
    set_admin(admin, novu)
    novu.env["NOVU_TELEMETRY"] = variable
    running = novu.start()
    novu.sink.wait_for(3)
    for command in ("show", "show --otlp", "check", "health", "telemetry status"):
        novu(command)
    novu.stop(running)
    # Where nobody has decided it, that is something to fix.
    assert novu("once").returncode == int(admin == UNREADABLE)
    assert gate.connections == 0
    assert otlp_reports.scopes(*novu.sink.reports) == {otlp_reports.BEACON}
    assert set(novu.values("novu.usage.enabled")) == {0}
    assert bool(running.warnings) == (admin == UNREADABLE)


def test_usage_comes_and_goes_at_run_time_apart_from_the_beacon(novu: Case, gate: Gate) -> None:
    running = novu.start(**ONE_REPORT)
    novu.sink.wait_for(2)
    assert gate.connections > 0

    set_admin("off", novu)
    wait_for_off(running)
    connections = gate.connections
    assert status(novu)["exporter"]["pid"] == running.pid
    for command in ("show", "show --otlp", "check", "spool --flush"):
        assert novu(command).returncode == 0
    assert gate.connections == connections

    set_admin("on", novu)
    # A usage report leaves at once, though the next one is due in a week; the third was check's.
    novu.sink.wait_for(4)
    assert gate.connections > connections
    gate.blocked = b""  # a reading that hangs does not outlast the flag either
    set_admin("off", novu)
    wait_for_off(running, 2)
    connections = gate.connections
    novu.stop(running)
    assert gate.connections == connections
    assert len(novu.times(USAGE)) == 2
    assert novu.values("novu.usage.enabled") == [1, 0]


def test_usage_reports_that_wait_are_not_sent_while_it_is_off(novu: Case) -> None:
    port = novu.send_nowhere()
    assert novu("once").returncode == 1
    kept = novu.waiting(USAGE)
    assert kept.total() == 1
    set_admin("off", novu)
    with novu.send_to(HttpSink(port=port)) as sink:
        assert novu("once").returncode == 0
        running = novu.start()
        sink.wait_for(4)
        done = novu("spool --flush")
        assert (done.returncode, "1 usage report" in done.stdout) == (0, True)
        assert otlp_reports.scopes(*sink.reports) == {otlp_reports.BEACON}
        assert novu.waiting(USAGE) == kept

        set_admin("on", novu)
        eventually(lambda: len(novu.times(USAGE)) >= 2)
        novu.stop(running)
        times = novu.times(USAGE)
        assert times == sorted(set(times))
        assert kept <= seconds(times)


@pytest.mark.parametrize("action", ["enable", "disable"])
def test_the_admin_setting_is_refused_where_the_variable_decides(action: str, case: Case) -> None:
    refused = case(f"telemetry {action}")
    assert (refused.returncode, "NOVU_TELEMETRY" in refused.stderr) == (1, True)
    # Here it is not set, but where the exporter runs it is.
    running = case.start()
    case.read("mongodb://127.0.0.1:1/novu-db")
    refused = case(f"telemetry {action}")
    assert (refused.returncode, "NOVU_TELEMETRY" in refused.stderr) == (1, True)
    assert str(running.pid) in refused.stderr
    assert status(case)["exporter"]["decision"]["enabled"] is False
    case.stop(running)
