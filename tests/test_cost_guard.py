"""The parts of the cost that can be counted, so that no clock decides; see docs/cost.md."""

import gzip
import json
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import novu_data
import pytest
import simulate
from faults import WEEKLY
from pymongo import monitoring
from pymongo.database import Database
from servers import ExporterRunner, RunningExporter, eventually
from shelf import Shelf
from stack import Servers

from otel_novu.commands.run import LOOK_WHEN_TOLD
from otel_novu.metrics.question import CreatedIn
from otel_novu.metrics.usage import FIGURES
from otel_novu.settings import Secret
from otel_novu.sources.novu_db import CONNECTIONS, NovuDatabase
from otel_novu.sources.usage_round import UsageSource
from otel_novu.state import last_report
from otel_novu.state.directory import StateDirectory

HOUR = 3600
QUESTIONS = {"hello": 1, "listCollections": 1, "count": 6, "aggregate": 8}
AUTHENTICATION = {"saslStart", "saslContinue"}


class Watch(
    monitoring.CommandListener,
    monitoring.ConnectionPoolListener,
    monitoring.ServerHeartbeatListener,
):
    """Counts what the driver sends; each method is one of its events."""

    def __init__(self) -> None:
        self.commands: Counter[str] = Counter()
        self.connections = 0
        self.heartbeats = 0

    def started(self, event: Any) -> None:
        if isinstance(event, monitoring.ServerHeartbeatStartedEvent):
            self.heartbeats += 1
        else:
            self.commands[event.command_name] += 1

    def connection_created(self, event: monitoring.ConnectionCreatedEvent) -> None:
        assert event
        self.connections += 1

    def ignore(self, event: object) -> None:
        pass

    succeeded = failed = pool_created = pool_ready = pool_cleared = pool_closed = ignore
    connection_ready = connection_closed = connection_check_out_started = ignore
    connection_check_out_failed = connection_checked_out = connection_checked_in = ignore


def an_hour_ago() -> bytes:
    # A minute less: the window is one slice still, however long it takes until it is read.
    until = int(time.time()) - 60 - HOUR + 60
    entry = {"total": 0, "since": until, "until": until, "paused": False}
    created = (figure.name for figure in FIGURES if isinstance(figure.question, CreatedIn))
    return json.dumps({"version": 1, "figures": dict.fromkeys(created, entry)}).encode()


def load(database: Database[dict[str, Any]]) -> None:
    novu_data.load(database, seed=1, size="small", now=datetime.now(UTC))


@pytest.fixture
def watched_round(database: Database[dict[str, Any]], mongo_url: str) -> Watch:
    """What a round sends that comes an hour after the last one."""
    load(database)
    watch = Watch()
    source = UsageSource(
        lambda seconds: NovuDatabase(Secret(mongo_url), seconds, event_listeners=[watch]),
        Shelf(an_hour_ago()),
    )
    assert source.read(120, time.time).reasons == {}
    return watch


def test_a_round_asks_each_question_once_and_nothing_else(watched_round: Watch) -> None:
    asked = {k: n for k, n in watched_round.commands.items() if k not in AUTHENTICATION}
    assert asked == {**QUESTIONS, "endSessions": 1}


def test_a_round_opens_at_most_four_connections_and_authenticates_each_once(
    watched_round: Watch,
) -> None:
    assert watched_round.connections <= CONNECTIONS == 4
    authenticated = sum(watched_round.commands[name] for name in AUTHENTICATION)
    assert authenticated <= watched_round.connections


def test_a_round_takes_no_more_round_trips_than_its_questions_and_connections(
    watched_round: Watch,
) -> None:
    handshakes = watched_round.connections + watched_round.heartbeats
    assert watched_round.commands.total() + handshakes <= 16 + 1 + 2 * CONNECTIONS + 1


def reporting(
    stack: Servers, mongo_url: str, state_dir: Path, protocol: str = "http/protobuf"
) -> dict[str, str]:
    address = stack.otlp_grpc if protocol == "grpc" else stack.otlp_http
    return {
        **WEEKLY,
        "MONGO_URL": mongo_url,
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_EXPORTER_OTLP_ENDPOINT": address,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
    }


def wait_for_both_reports(state_dir: Path) -> None:
    def delivered() -> bool:
        with StateDirectory.look(state_dir) as state:
            return all(last_report.load(state, meter) for meter in ("beacon", "usage"))

    eventually(delivered)


def threads(process: RunningExporter) -> list[str]:
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return [(task / "comm").read_text() for task in tasks]


def sleeps(process: RunningExporter) -> int:
    """How often it has gone to sleep, so also how often it woke."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("voluntary")).split()[1])


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_between_reports_run_has_one_thread_and_it_sleeps(
    stack: Servers,
    database: Database[dict[str, Any]],
    mongo_url: str,
    state_dir: Path,
    exporter: ExporterRunner,
    protocol: str,
) -> None:
    load(database)
    running = exporter.start("run", env=reporting(stack, mongo_url, state_dir, protocol))
    wait_for_both_reports(state_dir)
    eventually(lambda: threads(running), lambda names: len(names) == 1)

    def sleeps_of_eleven_seconds() -> int:
        before = sleeps(running)
        time.sleep(11)
        return sleeps(running) - before

    # The first of these may still see the end of a report.
    eventually(sleeps_of_eleven_seconds, lambda count: count <= 1, seconds=240)


def test_run_follows_the_admin_setting_without_looking_every_few_seconds(
    stack: Servers, mongo_url: str, state_dir: Path, exporter: ExporterRunner
) -> None:
    environment = reporting(stack, mongo_url, state_dir) | {"NOVU_TELEMETRY": ""}
    running = exporter.start("run", env=environment)
    wait_for_both_reports(state_dir)
    for action, said in (("disable", "are off now"), ("enable", "are on now")):
        assert exporter("telemetry", action, env=environment).returncode == 0
        running.wait_for(said, seconds=LOOK_WHEN_TOLD / 2)


def test_help_loads_no_package_but_ours_and_little_of_that() -> None:
    script = "import sys; before = set(sys.modules); from otel_novu.cli import main\n"
    script += "try: main(['--help'])\nexcept SystemExit: pass\n"
    script += "print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = done.stderr.split()
    rooms = {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names}
    assert {name.partition(".")[0] for name in rooms} == {"otel_novu"}
    assert {name.split(".")[1] for name in rooms if "." in name} == {
        "cli",
        "env_file",
        "environment",
        "mongo_url",
        "settings",
        "version",
    }
    assert len(loaded) <= 130


def test_a_day_of_reports_is_small(
    stack: Servers,
    database: Database[dict[str, Any]],
    mongo_url: str,
    state_dir: Path,
    exporter: ExporterRunner,
) -> None:
    load(database)
    assert exporter("once", env=reporting(stack, mongo_url, state_dir)).returncode == 0
    with StateDirectory.look(state_dir) as state:
        found = {meter: last_report.load(state, meter) for meter in ("beacon", "usage")}
    bodies = {meter: report.body for meter, report in found.items() if report is not None}
    assert len(bodies["beacon"]) <= 1_600
    assert len(bodies["usage"]) <= 4_800
    assert 24 * sum(len(gzip.compress(body)) for body in bodies.values()) <= 65_000


@pytest.mark.parametrize("name", ["schedule", "return"])
def test_the_scale_page_holds_what_the_simulation_prints(name: str) -> None:
    table = {"schedule": simulate.schedule_table, "return": simulate.return_table}[name]()
    page = (Path(__file__).parent.parent / "docs" / "scale.md").read_text()
    held = page.partition(f"<!-- {name} -->\n\n")[2].partition(f"\n\n<!-- /{name} -->")[0]
    assert held == table
