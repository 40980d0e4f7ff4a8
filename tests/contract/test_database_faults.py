"""Whatever the database does, the beacon goes on, and the figures come back by themselves."""

import random
import signal
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import otlp_reports
import psutil
import pytest
from contract.case import GRPC, ONE_REPORT, STOP_SECONDS, USAGE, Case, check_rhythm, each_protocol
from faults import Gate, dice
from receivers import Listener, hang
from servers import RunningExporter, eventually
from stack import free_port

from otel_novu.metrics.usage import NOVU

pytestmark = pytest.mark.contract

NAMES = {figure.name for figure in NOVU}
PASSWORD = "Wr0ng-password"


def usage_reports(case: Case) -> list[Any]:
    reports = case.sink.reports
    return [each for each in reports if otlp_reports.scopes(each) == {otlp_reports.USAGE}]


def figures(report: Any) -> set[str]:
    """The figures that a usage report holds."""
    return {point.name.removeprefix("novu.") for point in otlp_reports.points(report)} & NAMES


def failures(report: Any) -> Mapping[str, float]:
    points = otlp_reports.points(report)
    return otlp_reports.values(points, "novu.usage.read.failures", "novu.figure")


def wait_for(wanted: set[str], case: Case, *, new: bool = False) -> Any:
    """Wait for a usage report, or a new one, that holds these figures."""
    after = len(usage_reports(case)) if new else 0
    return eventually(
        lambda: next((r for r in usage_reports(case)[after:] if figures(r) == wanted), None)
    )


def check_the_end(running: RunningExporter, case: Case, subject: str) -> None:
    """The beacons kept their rhythm, and the fault was logged once, without a secret."""
    case.stop(running)
    check_rhythm(case.times())
    assert len([line for line in running.warnings if subject in line]) == 1
    assert len(running.warnings) == len(set(running.warnings))
    for secret in ("root:", PASSWORD):
        assert secret not in "\n".join(running.stderr)


def test_while_the_database_is_away_the_beacon_goes_on(novu: Case, mongo_url: str) -> None:
    port, server = free_port(), mongo_url.rpartition("@")[2].partition("/")[0]
    novu.read(mongo_url.replace(server, f"127.0.0.1:{port}"))
    running = novu.start(OTEL_NOVU_QUERY_TIMEOUT="2")
    wait_for(set(), novu)  # nothing listens there yet
    with Gate(mongo_url, port=port) as gate:
        wait_for(NAMES, novu)
        # No connection is open between two readings.
        process = psutil.Process(running.pid)
        eventually(lambda: process.net_connections(kind="tcp"), lambda found: found == [])
        gate.blocked = b""
        missing, again = (wait_for(set(), novu, new=True) for _ in range(2))
        gate.blocked = None
        after = wait_for(NAMES, novu, new=True)
        case_log = [line for line in running.warnings if "MongoDB at" in line]
        novu.stop(running)
    check_rhythm(novu.times())
    assert len(case_log) == len(set(case_log)) == 2  # each reason once
    # Each reading is a failure of every figure, and none is 0 or yesterday's value.
    for name in NAMES:
        assert 0 < failures(missing)[name] < failures(again)[name] <= failures(after)[name]


@pytest.mark.parametrize(
    ("right", "wrong", "word"),
    [
        ("root:secret", f"root:{PASSWORD}", "(?i)authent"),
        ("novu-test-", "other-test-", "wrong database"),
    ],
)
def test_a_wrong_password_and_a_wrong_database_are_explained(
    right: str, wrong: str, word: str, novu: Case, mongo_url: str
) -> None:
    novu.read(mongo_url.replace(right, wrong))
    running = novu.start()
    wait_for(set(), novu)
    report = wait_for(set(), novu, new=True)
    # Absent, and never 0: only when, how long and how often it failed.
    names = {point.name.removeprefix("novu.usage.") for point in otlp_reports.points(report)}
    assert names == {"timestamp", "figures.read", "read.duration", "read.failures"}
    running.wait_for(word)
    check_the_end(running, novu, "MongoDB at")


def test_one_slow_collection_spares_the_other_figures(novu: Case, mongo_url: str) -> None:
    with Gate(mongo_url) as gate:
        novu.read(gate.url)
        gate.blocked = b"\x02aggregate\x00\x0d\x00\x00\x00integrations"
        running = novu.start(OTEL_NOVU_QUERY_TIMEOUT="3")
        report = wait_for(NAMES - {"integration.count"}, novu)
        failed = {name for name, count in failures(report).items() if count}
        assert failed == {"integration.count", "integration.active.count"}
        gate.blocked = None
        wait_for(NAMES, novu)
        check_the_end(running, novu, "integration.count")


def hung(case: Case, database: Listener, collector: Listener) -> None:
    """Let database and collector take connections and answer nothing."""
    case.read(f"mongodb://127.0.0.1:{database.port}/novu-db")
    case.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector.port}"
    case.env |= {"OTEL_NOVU_QUERY_TIMEOUT": "300", "OTEL_EXPORTER_OTLP_TIMEOUT": "300"}


def test_the_beacon_is_on_time_beside_a_database_and_a_collector_that_hang(case: Case) -> None:
    with Listener(hang()) as database, Listener(hang()) as collector:
        hung(case, database, collector)
        running = case.start()
        kept = case.wait_for_waiting(8)
        assert database.connections
        assert collector.connections
        case.stop(running)
    # One a second; the promise is that none is more than five seconds late.
    assert max(later - earlier for earlier, later in pairwise(sorted(kept))) <= 6


@each_protocol
def test_a_signal_at_any_moment_ends_it_in_time_and_keeps_the_last_report(
    protocol: str, case: Case
) -> None:
    moments = dice()
    with Listener(hang()) as database, Listener(hang()) as collector:
        hung(case, database, collector)
        case.env["OTEL_EXPORTER_OTLP_PROTOCOL"] = protocol
        for number in range(3 if protocol == GRPC else 2):
            states = [{"OTEL_NOVU_STATE_DIR": str(case.state / f"{number}-{n}")} for n in range(4)]
            changes = [state | moments.choice([{}, ONE_REPORT]) for state in states]
            cases = [Case(case.exporter, case.state, case.sink, case.env | c) for c in changes]
            end_side_by_side(cases, moments)


def end_side_by_side(cases: list[Case], moments: random.Random) -> None:
    started = [(case, case.start()) for case in cases]
    ended = []
    for case, running in moments.sample(started, len(started)):
        time.sleep(moments.uniform(0, 1))
        ended.append((case, running, int(time.time())))
        running.send(moments.choice([signal.SIGTERM, signal.SIGINT]))
    for case, running, second in ended:
        assert running.wait(STOP_SECONDS) == 0
        kept = case.waiting()
        assert max(kept) >= second, running.stderr
        # The line at the end says how many reports wait, of both scopes.
        assert str((kept + case.waiting(USAGE)).total()) in running.stderr[-1]
