"""What each command prints, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import novu_data
import otlp_reports
import pytest
from contract.clock import Clock
from contract.reports import BEACON, ONE_REPORT, STOP_SECONDS, variables, waiting
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from pymongo.database import Database
from receivers import HttpSink, answer, hang
from servers import EXPORTER, ExporterRunner, PrometheusClient, eventually
from stack import Servers, free_port

from otel_novu.metrics.beacon import BEACON as BEACON_ROWS
from otel_novu.metrics.prometheus import prometheus_name
from otel_novu.metrics.usage import COLLECTIONS, FIGURES
from otel_novu.metrics.usage import USAGE as USAGE_ROWS

pytestmark = pytest.mark.contract

OPTIONS = {
    "run": ["--env-file", "--verbose"],
    "once": ["--env-file"],
    "show": ["--otlp", "--last", "--queries", "--json"],
    "check": ["--json"],
    "health": ["--env-file"],
    "telemetry": ["status", "enable", "disable", "--json"],
    "spool": ["--flush", "--json"],
    "reset-id": ["--env-file"],
    "metrics": ["--json", "--markdown"],
}
# Novu's names, in Novu's order.
BEACON_FIELDS = ["freeMemory", "hostname", "instanceId", "ipAddress", "platform", "release"]
BEACON_FIELDS += ["timestamp", "totalMemory"]
USAGE_FIELDS = ["eventCount", "integrationCount", "orgCount", "subscriberCount", "timestamp"]
USAGE_FIELDS += ["topicCount", "totalSteps", "userCount", "workflowCount"]
PASSWORD = "S3CRETMARK0123456789"
EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "embed.py"


@pytest.fixture
def alone(state_dir: Path, sink: HttpSink) -> dict[str, str]:
    """An exporter that sends the beacon alone."""
    return variables(state_dir, sink.base, **ONE_REPORT)


@pytest.fixture
def env(
    alone: dict[str, str], stack: Servers, database: Database[dict[str, Any]], mongo_url: str
) -> dict[str, str]:
    """An exporter of both scopes, with data in the database."""
    novu_data.load(database, seed=7, size=50, now=datetime.now(UTC))
    stack.analyze(database.name)
    return with_usage(alone, mongo_url)


def with_usage(alone: Mapping[str, str], mongo_url: str = "") -> dict[str, str]:
    return {**alone, "NOVU_TELEMETRY": "", "MONGO_URL": mongo_url}


def away(env: Mapping[str, str], port: int = 0) -> dict[str, str]:
    """The same exporter with a collector that is not there."""
    return {**env, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port or free_port()}"}


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# --- the command line ------------------------------------------------------------------------------


def test_help_names_every_command_its_options_and_the_exit_codes(exporter: ExporterRunner) -> None:
    done = exporter("--help")
    assert done.returncode == 0
    assert re.findall(r"^    ([a-z][a-z-]+)(?: |$)", done.stdout, re.MULTILINE) == list(OPTIONS)
    assert "exit codes: 0 done, 1 something to" in done.stdout
    for command, options in OPTIONS.items():
        done = exporter(command, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert all(option in done.stdout for option in options)
    assert re.fullmatch(r"otel-novu \d+\.\d+\.\d+\S*\n", exporter("--version").stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "frobnicate",
        "run --frobnicate",
        "once more",
        "show --otlp --last",
        "show --ot",
        "metrics --json --markdown",
        "spool --flush --json",
        "telemetry",
        "telemetry pause",
        "telemetry enable --json",
        "run --env-file",
    ],
)
def test_unknown_arguments_end_with_2(arguments: str, exporter: ExporterRunner) -> None:
    done = exporter(*arguments.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "code"),
    [("metrics | true", 0), ("metrics > /dev/full", 1), ("health 2> /dev/full", 1)],
)
def test_an_output_that_takes_nothing_is_no_reason_for_a_traceback(
    line: str, code: int, tmp_path: Path
) -> None:
    env = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(
        ["bash", "-c", f"{' '.join(EXPORTER)} {line}"],
        env={**env, "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr


# --- run and once ----------------------------------------------------------------------------------


def test_once_ends_with_0_only_if_all_was_read_and_delivered(
    env: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    done = exporter("once", env=env)
    assert done.returncode == 0, done.stderr
    assert sink.endpoint in done.stderr
    assert otlp_reports.scopes(*sink.reports) == {otlp_reports.BEACON, otlp_reports.USAGE}
    assert exporter("once", env=away(env)).returncode == 1
    unread = {**env, "MONGO_URL": f"mongodb://127.0.0.1:{free_port()}/x"}
    assert exporter("once", env={**unread, "OTEL_NOVU_QUERY_TIMEOUT": "1"}).returncode == 1


@pytest.mark.parametrize("command", ["run", "once"])
def test_without_a_database_it_says_so_once_and_sends_the_beacon(
    command: str, alone: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    running = exporter.start(command, env=with_usage(alone))
    sink.wait_for(1)
    if command == "run":
        running.wait_for("reports to")
        running.send(signal.SIGTERM)
    assert running.wait(STOP_SECONDS) == (0 if command == "run" else 1)
    assert len([line for line in running.warnings if "MONGO_URL_FILE" in line]) == 1
    assert otlp_reports.scopes(*sink.reports) == {otlp_reports.BEACON}


def test_a_second_run_or_once_ends_with_1_and_names_the_first(
    alone: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    running = exporter.start("run", env=alone)
    sink.wait_for(1)
    for command in ("run", "once", "reset-id"):
        second = exporter(command, env=alone)
        assert second.returncode == 1
        assert second.stderr.count("\n") == 1
        for word in (str(running.pid), "run", "OTEL_NOVU_STATE_DIR"):
            assert word in second.stderr
    assert len(sink.requests) == 1
    # The first one goes on, and the next one may begin when it has ended.
    assert running.terminate(STOP_SECONDS) == 0
    assert exporter("once", env=alone).returncode == 0


@pytest.mark.parametrize("name", ["OTEL_METRICS_EXPORTER", "OTEL_SDK_DISABLED"])
def test_nothing_is_sent_where_the_standard_variables_say_so(
    name: str, alone: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    value = {"OTEL_METRICS_EXPORTER": "none", "OTEL_SDK_DISABLED": "true"}[name]
    done = exporter("once", env={**alone, name: value})
    assert (done.returncode, name in done.stderr) == (0, True)
    running = exporter.start("run", env={**alone, name: value})
    running.wait_for(name)
    assert exporter("health", env={**alone, name: value}).returncode == 0
    assert running.terminate(STOP_SECONDS) == 0
    assert sink.connections == 0


def test_the_console_gets_the_report_beside_the_collector(
    alone: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    both = exporter("once", env={**alone, "OTEL_METRICS_EXPORTER": "console,otlp"})
    assert both.returncode == 0, both.stderr
    scope = json.loads(both.stdout)["resource_metrics"][0]["scope_metrics"][0]
    sent = {point.name for point in otlp_reports.points(*sink.reports)}
    assert {metric["name"] for metric in scope["metrics"]} == sent
    one = exporter("once", env={**alone, "OTEL_METRICS_EXPORTER": "console"})
    assert one.returncode == 0
    assert json.loads(one.stdout)
    assert len(sink.requests) == 1
    assert "console" in exporter("show", "--last", env=alone).stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_once_keeps_its_report(
    number: signal.Signals, code: int, alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    with HttpSink(hang()) as sink:
        env = {**alone, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        running = exporter.start("once", env={**env, "OTEL_EXPORTER_OTLP_TIMEOUT": "300"})
        sink.wait_for(1)
        running.send(number)
        assert running.wait(STOP_SECONDS) == code
        assert "Traceback" not in "\n".join(running.stderr)
    assert waiting(exporter, env).total() == 1


# --- show ------------------------------------------------------------------------------------------


def test_show_prints_novus_two_documents_and_sends_and_writes_nothing(
    env: Mapping[str, str], state_dir: Path, sink: HttpSink, exporter: ExporterRunner
) -> None:
    done = exporter("show", "--json", env=env)
    assert done.returncode == 0, done.stderr
    beacon, usage = lines(done.stdout)
    assert [list(beacon), list(usage)] == [BEACON_FIELDS, USAGE_FIELDS]
    assert beacon["hostname"] == socket.gethostname()
    assert (beacon["platform"], beacon["release"]) == ("linux", os.uname().release)
    assert 0 < beacon["freeMemory"] <= beacon["totalMemory"]
    assert usage["eventCount"] == 50
    assert {"count", "providerId"} == set(usage["integrationCount"][0])
    for document in (beacon, usage):
        at = datetime.fromisoformat(f"{document['timestamp']}+00:00").timestamp()
        assert at == pytest.approx(time.time(), abs=600)
    indented = exporter("show", env=env)
    assert indented.stdout.count("\n") > 20
    for option in ("--otlp", "--last", "--queries"):
        assert exporter("show", option, env=env).returncode == 0
    assert sink.connections == 0
    assert list(state_dir.iterdir()) == []


def test_show_says_why_usage_is_absent(alone: Mapping[str, str], exporter: ExporterRunner) -> None:
    off = exporter("show", "--json", env=alone)
    assert (off.returncode, len(lines(off.stdout))) == (0, 1)
    assert "NOVU_TELEMETRY" in off.stderr
    unnamed = exporter("show", "--json", env=with_usage(alone))
    assert (unnamed.returncode, len(lines(unnamed.stdout))) == (0, 1)
    assert "MONGO_URL_FILE" in unnamed.stderr


def test_show_last_tells_what_was_sent_when_where_to_and_what_is_due(
    alone: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    before = exporter("show", "--last", env=alone)
    assert (before.returncode, before.stdout, "beacon" in before.stderr) == (0, "", True)
    assert exporter("once", env=alone).returncode == 0
    after = exporter("show", "--last", env=alone)
    [document] = lines(after.stdout)
    assert ParseDict(document, ExportMetricsServiceRequest()) == sink.reports[0]
    for word in ("delivered", sink.endpoint, "none is due"):
        assert word in after.stderr

    running = exporter.start("run", env=away(alone, port := free_port()))
    running.wait_for(f"127.0.0.1:{port}.*kept")
    failed = exporter("show", "--last", env=alone)
    for word in ("not delivered", f"127.0.0.1:{port}", "is due 20"):
        assert word in failed.stderr
    status = json.loads(exporter("telemetry", "status", "--json", env=alone).stdout)
    assert status["last"][BEACON]["next_due"].endswith("Z")
    assert running.terminate(STOP_SECONDS) == 0


def test_show_queries_prints_every_command_and_connects_to_nothing(
    alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    url = f"mongodb://root:{PASSWORD}@127.0.0.1:{free_port()}/novu-db"
    done = exporter("show", "--queries", env=with_usage(alone, url))
    assert (done.returncode, done.stderr) == (0, "")
    commands = lines(done.stdout)
    kinds = [next(iter(command)) for command in commands]
    assert kinds[:2] == ["hello", "listCollections"]
    assert len(commands) == 2 + len(FIGURES)
    assert set(kinds[2:]) == {"count", "aggregate"}
    assert {command["$db"] for command in commands} == {"novu-db"}
    assert PASSWORD not in done.stdout
    none = exporter("show", "--queries", env=with_usage(alone))
    assert (none.returncode, none.stdout, "MONGO_URL" in none.stderr) == (1, "", True)


# --- check -----------------------------------------------------------------------------------------


def wrong(exporter: ExporterRunner, env: Mapping[str, str]) -> dict[str, str]:
    """What `check` finds wrong, by subject."""
    done = exporter("check", env=env)
    assert PASSWORD not in done.stdout + done.stderr
    found = [re.fullmatch(r"(ok|WRONG) +([^:]+): (.*)", line) for line in done.stdout.splitlines()]
    assert all(found), done.stdout
    bad = {line[2]: line[3] for line in found if line and line[1] == "WRONG"}
    assert done.returncode == int(bool(bad))
    return bad


def test_check_says_what_is_right_and_leaves_no_trace(
    env: Mapping[str, str], state_dir: Path, sink: HttpSink, exporter: ExporterRunner
) -> None:
    done = exporter("check", "--json", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    found = {finding["subject"]: finding for finding in lines(done.stdout)}
    figures = [f"novu.{figure.name}" for figure in FIGURES]
    first = ["state directory", "instance id", "usage figures", "database", "collections"]
    assert list(found) == [*first, *figures, "collector"]
    assert all(finding["ok"] for finding in found.values())
    assert all(name in str(found["collections"]) for name in COLLECTIONS)
    # The collector is asked with a request without a metric.
    assert [list(report.resource_metrics) for report in sink.reports] == [[]]
    assert list(state_dir.iterdir()) == []


def test_check_says_what_is_wrong_and_how_to_fix_it(
    env: dict[str, str], alone: dict[str, str], exporter: ExporterRunner
) -> None:
    found = wrong(exporter, {**env, "MONGO_URL": ""})
    assert "MONGO_URL_FILE" in found.pop("database")
    assert found == {}

    found = wrong(
        exporter, {**env, "MONGO_URL": re.sub("root:secret", f"root:{PASSWORD}", env["MONGO_URL"])}
    )
    assert re.search("password", found.pop("database"))
    assert found == {}

    found = wrong(exporter, {**env, "MONGO_URL": f"{env['MONGO_URL']}&conectTimeoutMS=5"})
    assert "conectTimeoutMS" in str(found)

    found = wrong(exporter, away(alone, port := free_port()))
    assert f"127.0.0.1:{port}" in found.pop("collector")
    assert found == {}
    with HttpSink(answer(401)) as refusing:
        found = wrong(exporter, {**alone, "OTEL_EXPORTER_OTLP_ENDPOINT": refusing.base})
    assert "OTEL_EXPORTER_OTLP_HEADERS" in found["collector"]


# --- health ----------------------------------------------------------------------------------------


def test_health_is_0_while_run_reports_in_time_whether_they_are_delivered_or_kept(
    alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    assert exporter("health", env=alone).returncode == 1
    for env in (alone, away(alone)):
        running = exporter.start("run", env=env)
        running.wait_for("reports to")
        done = exporter("health", env=env)
        assert (done.returncode, done.stderr, "ok" in done.stdout) == (0, "", True)
        running.kill()
        assert exporter("health", env=env).returncode == 1


def test_health_is_1_where_the_last_report_is_late(
    alone: Mapping[str, str], sink: HttpSink, tmp_path: Path, exporter: ExporterRunner
) -> None:
    clock = Clock(tmp_path)
    env = {**alone, "OTEL_METRIC_EXPORT_INTERVAL": "60000", **clock.environment}
    running = exporter.start("run", env=env)
    sink.wait_for(1)
    running.send(signal.SIGSTOP)
    clock.step(110)
    assert exporter("health", env=env).returncode == 0
    clock.step(30)
    late = exporter("health", env=env)
    assert (late.returncode, "late" in late.stderr or "overdue" in late.stderr) == (1, True)
    running.send(signal.SIGCONT)
    assert running.terminate(STOP_SECONDS) == 0


# --- telemetry, spool, reset-id, metrics -----------------------------------------------------------


def test_telemetry_status_says_on_or_off_who_decides_and_what_was_sent(
    alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    env = with_usage(alone)
    for word, action in (("on", ""), ("off", "disable"), ("on", "enable")):
        if action:
            stored = exporter("telemetry", action, env=env)
            assert (stored.returncode, f"are {word} from now on" in stored.stdout) == (0, True)
        done = exporter("telemetry", "status", env=env)
        assert done.returncode == 0
        decided = "the admin setting" if action else "the default"
        assert f"Usage figures are {word}, decided by {decided}" in done.stdout
    exporter("once", env=alone)
    assert "last beacon report" in exporter("telemetry", "status", env=alone).stdout


def test_spool_lists_what_waits_oldest_first(
    alone: Mapping[str, str], mongo_url: str, exporter: ExporterRunner
) -> None:
    none = exporter("spool", env=alone)
    assert (none.returncode, none.stdout) == (0, "0 reports wait for delivery.\n")
    exporter("once", env=away(with_usage(alone, mongo_url)))
    exporter("once", env=away(alone))
    *rows, last = exporter("spool", env=alone).stdout.splitlines()
    assert last.startswith("3 reports wait for delivery, 1 of them (usage)")
    for row in rows:
        assert re.fullmatch(r"\S+Z  (beacon|usage ) {2}\d+ bytes", row)
    assert len(rows) == 3
    beacons = [row for row in rows if "beacon" in row]
    assert beacons == sorted(beacons, key=lambda row: row[:20])


def test_reset_id_makes_a_new_id_and_new_pseudonyms(
    alone: dict[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    env = {**alone, "OTEL_NOVU_ANONYMIZE": "on"}
    assert exporter("once", env=env).returncode == 0
    done = exporter("reset-id", env=env)
    assert done.returncode == 0, done.stderr
    assert exporter("once", env=env).returncode == 0
    first, second = (otlp_reports.points(report) for report in sink.reports)
    ids = [points[0].resource["service.instance.id"] for points in (first, second)]
    assert ids[0] != ids[1]
    assert ids[1] in done.stdout
    names = [
        next(p.attributes["host.name"] for p in points if p.name == "novu.host.info")
        for points in (first, second)
    ]
    assert names[0] != names[1]
    outside = exporter("reset-id", env={**env, "OTEL_NOVU_INSTANCE_ID": ids[0]})
    assert (outside.returncode, "OTEL_NOVU_INSTANCE_ID" in outside.stderr) == (1, True)


def test_metrics_prints_every_row_in_each_form(exporter: ExporterRunner) -> None:
    rows = [*BEACON_ROWS, *USAGE_ROWS]
    text, markdown = exporter("metrics").stdout, exporter("metrics", "--markdown").stdout
    printed = lines(exporter("metrics", "--json").stdout)
    for entry, row in zip(printed, rows, strict=True):
        assert (entry["name"], entry["prometheus"]) == (row.name, prometheus_name(row))
        assert entry["instrument"] == row.instrument.value
        assert (entry["unit"], entry["description"]) == (row.unit, row.description)
        assert re.search(rf"^  {row.name} .*{re.escape(row.description)}$", text, re.MULTILINE)
        assert markdown.count(f"| `{row.name}`") == 1


# --- an application of its own ---------------------------------------------------------------------


def test_the_example_of_an_application_shows_both_scopes_under_its_own_name(
    env: dict[str, str],
    stack: Servers,
    instance_id: str,
    tmp_path: Path,
    prometheus: PrometheusClient,
) -> None:
    example = ExporterRunner(tmp_path, (sys.executable, str(EXAMPLE)))
    env |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.otlp_http,
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "OTEL_RESOURCE_ATTRIBUTES": f"service.instance.id={instance_id}",
    }
    running = example.start(env=env)
    try:
        series = f'novu_event_count{{job="my-application",instance="{instance_id}"}}'
        [events] = prometheus.eventually(series)
        assert events.value == 50
        [enabled] = prometheus.eventually(f'novu_usage_enabled{{instance="{instance_id}"}}')
        assert enabled.value == 1
        assert running.terminate() == 0
        assert "Traceback" not in "\n".join(running.stderr)
    finally:
        example.close()
    assert eventually(lambda: running.running is False)
