"""Whatever the disk does, reports go on from memory, and an unreadable file is left alone."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import otlp_reports
import pytest
from contract.case import Case, check_rhythm, seconds
from contract.disk import fill, read_only, tiny_disk
from receivers import HttpSink
from servers import EXPORTER, ExporterRunner, RunningExporter

pytestmark = pytest.mark.contract


@pytest.fixture
def tiny(case: Case, tmp_path: Path) -> Iterator[Case]:
    """An exporter on a small disk; it has ended before the disk goes."""
    with tiny_disk(tmp_path / "tiny") as state, closing(case.exporter):
        case.state = state
        case.env["OTEL_NOVU_STATE_DIR"] = str(state)
        yield case


def more_arrive(case: Case, count: int = 3) -> None:
    case.sink.wait_for(len(case.sink.requests) + count)


def check_warned_once(running: RunningExporter) -> None:
    """One warning says that reports are in memory only."""
    assert len([line for line in running.warnings if "memory" in line]) == 1, running.stderr


def test_a_disk_that_fills_up_costs_no_report_though_the_collector_is_away(tiny: Case) -> None:
    port = tiny.send_nowhere()
    running = tiny.start()
    kept = tiny.wait_for_waiting(2)
    assert tiny("health").returncode == 0
    filling = fill(tiny.state)
    running.wait_for("WARNING.*memory")
    with tiny.send_to(HttpSink(port=port)):
        more_arrive(tiny, 6)
        assert tiny("health").returncode == 1
        assert tiny.values("novu.spool.dropped")[-1] == 0
        filling.unlink()
        more_arrive(tiny)
        assert tiny("health").returncode == 0
        tiny.stop(running)
    assert not tiny.waiting()
    times = tiny.times()
    assert kept <= seconds(times)
    assert list(dict.fromkeys(times)) == sorted(set(times))
    check_rhythm(times)
    check_warned_once(running)


def test_on_a_full_disk_reports_are_delivered_else_said_to_be_lost(tiny: Case) -> None:
    fill(tiny.state)
    running = tiny.start()
    more_arrive(tiny, 4)
    assert tiny("health").returncode == 1
    tiny.stop(running)
    check_rhythm(tiny.times())
    check_warned_once(running)
    tiny.send_nowhere()
    running = tiny.start()
    running.wait_for("WARNING.*127.0.0.1")
    tiny.stop(running)
    running.wait_for(r"ERROR Lost, .*: \d+ reports")
    lost = tiny("once").stderr
    assert "ERROR Lost, as kept in memory only: 1 report." in lost
    assert "sends what waits" not in lost


def test_on_a_read_only_disk_reports_are_delivered_once_under_the_same_id(case: Case) -> None:
    port = case.send_nowhere()
    running = case.start()
    kept = case.wait_for_waiting(3)
    with closing(case.exporter), read_only(case.state):
        with case.send_to(HttpSink(port=port)):  # it becomes read-only while reports wait
            more_arrive(case, 6)
            case.stop(running)
        assert kept <= seconds(case.times())
        assert len(case.times()) == len(set(case.times()))
        ids = {point.resource["service.instance.id"] for point in case.points()}
        with case.send_to(HttpSink()):
            running = case.start()
            more_arrive(case)
            assert case("health").returncode == 1
            case.stop(running)
        ids |= {point.resource["service.instance.id"] for point in case.points()}
    assert len(ids) == 1
    check_warned_once(running)


def garbage(file: Path) -> None:
    file.write_bytes(b"garbage " * 1000)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def no_permission(file: Path) -> None:
    file.chmod(0)


# Root without the capabilities that let it read every file.
PLAIN_ROOT = ("/usr/bin/setpriv", "--bounding-set", "-dac_override,-dac_read_search")


@pytest.mark.parametrize("damage", [garbage, cut_short, no_permission])
def test_a_state_that_can_not_be_read_is_left_alone_and_keeps_usage_off(
    damage: Callable[[Path], None], case: Case, tmp_path: Path
) -> None:
    case.read("mongodb://127.0.0.1:1/novu-db")
    case.env["OTEL_NOVU_QUERY_TIMEOUT"] = "1"
    assert case("telemetry enable").returncode == 0
    for _ in range(2):
        case("once", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    before = {}
    for file in case.state.rglob("*"):
        if file.is_file() and file.name not in {"lock", "state.db-journal"}:
            damage(file)
            before[file] = (file.read_bytes(), file.stat().st_mode)
    plain = replace(case, exporter=ExporterRunner(tmp_path, (*PLAIN_ROOT, *EXPORTER)))
    with closing(plain.exporter):
        running = plain.start()
        more_arrive(case)
        for command in ("health", "spool", "spool --flush", "show --last", "check"):
            done = plain(command)
            assert (done.returncode, "Traceback" in done.stderr) == (1, False), command
        plain.stop(running)
    assert otlp_reports.scopes(*case.sink.reports) == {otlp_reports.BEACON}
    assert 1 <= len(running.warnings) <= 3
    assert any("NOVU_TELEMETRY" in line for line in running.warnings)
    assert {file: (file.read_bytes(), file.stat().st_mode) for file in before} == before
    # The variable decides without it.
    plain("once", NOVU_TELEMETRY="on")
    assert otlp_reports.scopes(*case.sink.reports) == {otlp_reports.BEACON, otlp_reports.USAGE}
