"""What the commands print and how they end, by the process, on the real servers."""

import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import compare
import novu_data
import otlp_reports
import pytest
from google.protobuf.json_format import ParseDict
from in_process import call
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from pymongo.database import Database
from real_faults import as_nobody, open_ground
from receivers import HttpSink, answer
from servers import ExporterRunner, eventually
from stack import Servers, free_port

import otel_novu.commands.check  # noqa: F401 - where `as_nobody` runs it nothing can be loaded
from otel_novu.commands.metrics import TABLES
from otel_novu.metrics.usage import COLLECTIONS, FIGURES
from otel_novu.state import last_report
from otel_novu.state.directory import StateDirectory

BEACON_FIELDS = [
    "freeMemory",
    "hostname",
    "instanceId",
    "ipAddress",
    "platform",
    "release",
    "timestamp",
    "totalMemory",
]
USAGE_FIELDS = [
    "eventCount",
    "integrationCount",
    "orgCount",
    "subscriberCount",
    "timestamp",
    "topicCount",
    "totalSteps",
    "userCount",
    "workflowCount",
]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
PASSWORD = "S3CRETMARK0123456789"


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink() as sink:
        yield sink


@pytest.fixture
def alone(state_dir: Path, instance_id: str, sink: HttpSink) -> dict[str, str]:
    """An instance that sends the beacon alone."""
    return {
        "NOVU_TELEMETRY": "off",
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_NOVU_INSTANCE_ID": instance_id,
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
    }


@pytest.fixture
def without_database(alone: Mapping[str, str]) -> dict[str, str]:
    """An instance with usage on, and nothing that names the database."""
    return {name: value for name, value in alone.items() if name != "NOVU_TELEMETRY"}


@pytest.fixture
def environment(without_database: Mapping[str, str], mongo_url: str) -> dict[str, str]:
    """An instance with an empty database of its own."""
    return {**without_database, "MONGO_URL": mongo_url}


@pytest.fixture
def novu(stack: Servers, database: Database[dict[str, Any]]) -> Database[dict[str, Any]]:
    """Novu-shaped data, its estimated counts up to date."""
    novu_data.load(database, seed=7, size="small", now=datetime.now(UTC))
    stack.analyze(database.name)
    return database


def away(environment: Mapping[str, str], port: int) -> dict[str, str]:
    """The same instance with a collector that is not there."""
    return {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}


def documents(text: str) -> list[dict[str, Any]]:
    """The JSON documents that follow each other in a text."""
    found, decoder, rest = [], json.JSONDecoder(), text.strip()
    while rest:
        document, end = decoder.raw_decode(rest)
        found.append(document)
        rest = rest[end:].strip()
    return found


def findings(text: str) -> dict[str, tuple[str, str]]:
    """The lines of `check`: by subject the mark and what it says."""
    lines = [re.fullmatch(r"(ok|WRONG) +([^:]+): (.*)", line) for line in text.splitlines()]
    assert all(lines), text
    return {line[2]: (line[1], line[3]) for line in lines if line is not None}


# --- show ----------------------------------------------------------------------------------------


def test_show_prints_both_documents_with_novus_fields_in_novus_order(
    environment: Mapping[str, str],
    novu: Database[dict[str, Any]],
    instance_id: str,
    exporter: ExporterRunner,
) -> None:
    done = exporter("show", env=away(environment, free_port()))
    assert (done.returncode, done.stderr) == (0, "")
    beacon, usage = documents(done.stdout)
    assert list(beacon) == BEACON_FIELDS
    assert beacon["hostname"] == socket.gethostname()
    assert beacon["instanceId"] == instance_id
    assert (beacon["platform"], beacon["release"]) == ("linux", os.uname().release)
    assert 0 < beacon["freeMemory"] <= beacon["totalMemory"]

    assert list(usage) == USAGE_FIELDS
    answers = dict(compare.ask_novu(novu))
    providers = {entry["providerId"]: entry["count"] for entry in usage["integrationCount"]}
    assert providers == answers.pop("integrationCount")
    assert [list(entry) for entry in usage["integrationCount"]] == [
        ["count", "providerId"] for _ in providers
    ]
    assert {field: usage[field] for field in answers} == answers

    for document in (beacon, usage):
        assert TIME.fullmatch(document["timestamp"])
        at = datetime.fromisoformat(f"{document['timestamp']}+00:00").timestamp()
        assert at == pytest.approx(time.time(), abs=600)


def test_show_sends_nothing_and_writes_nothing(
    environment: Mapping[str, str],
    novu: Database[dict[str, Any]],
    state_dir: Path,
    sink: HttpSink,
    exporter: ExporterRunner,
) -> None:
    assert novu["users"].find_one()
    for option in (["--json"], ["--otlp"], ["--last"], ["--queries"]):
        assert exporter("show", *option, env=environment).returncode == 0
    assert sink.connections == 0
    assert list(state_dir.iterdir()) == []


def test_show_json_is_one_document_a_line(
    environment: Mapping[str, str], novu: Database[dict[str, Any]], exporter: ExporterRunner
) -> None:
    assert novu.name
    done = exporter("show", "--json", env=environment)
    assert [list(json.loads(line)) for line in done.stdout.splitlines()] == [
        BEACON_FIELDS,
        USAGE_FIELDS,
    ]


def test_show_says_why_usage_is_absent(
    alone: Mapping[str, str], without_database: Mapping[str, str], exporter: ExporterRunner
) -> None:
    off = exporter("show", env=alone)
    assert (off.returncode, len(documents(off.stdout))) == (0, 1)
    assert off.stderr == (
        "Usage figures are off (NOVU_TELEMETRY): they are neither read nor sent.\n"
    )
    unnamed = exporter("show", env=without_database)
    assert (unnamed.returncode, len(documents(unnamed.stdout))) == (0, 1)
    assert unnamed.stderr == (
        "Usage figures are on, but neither MONGO_URL nor MONGO_URL_FILE names Novu's database: "
        "they are absent.\n"
    )
    port = free_port()
    unreachable = {**without_database, "MONGO_URL": f"mongodb://root:{PASSWORD}@127.0.0.1:{port}"}
    failed = exporter("show", env={**unreachable, "OTEL_NOVU_QUERY_TIMEOUT": "3"})
    assert (failed.returncode, len(documents(failed.stdout))) == (1, 1)
    assert failed.stderr.startswith("No usage figure could be read: ")
    assert failed.stderr.count("\n") == 1
    assert PASSWORD not in failed.stderr


def test_show_last_prints_what_left_last_when_and_where_to(
    alone: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    before = exporter("show", "--last", env=alone)
    assert (before.returncode, before.stdout) == (0, "")
    assert before.stderr == ("No beacon report was tried yet.\nNo usage report was tried yet.\n")
    assert exporter("once", env=alone).returncode == 0
    after = exporter("show", "--last", env=alone)
    assert after.returncode == 0
    [line] = after.stdout.splitlines()
    assert ParseDict(json.loads(line), ExportMetricsServiceRequest()) == sink.reports[0]
    assert re.search(r"^beacon: read \S+Z, tried \S+Z, delivered\.$", after.stderr, re.MULTILINE)
    assert f"to {sink.endpoint}; none is due." in after.stderr


def test_show_last_tells_why_it_did_not_leave(
    alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    port = free_port()
    assert exporter("once", env=away(alone, port)).returncode == 1
    done = exporter("show", "--last", env=alone)
    assert f"not delivered: nothing listens at 127.0.0.1:{port}." in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_show_queries_prints_every_command_of_a_round_and_asks_nothing(
    without_database: Mapping[str, str], exporter: ExporterRunner
) -> None:
    url = f"mongodb://root:{PASSWORD}@127.0.0.1:{free_port()}/novu-db"
    done = exporter("show", "--queries", env={**without_database, "MONGO_URL": url})
    assert (done.returncode, done.stderr) == (0, "")
    commands = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [next(iter(command)) for command in commands]
    assert kinds[:2] == ["hello", "listCollections"]
    assert len(commands) == 2 + len(FIGURES)
    assert set(kinds[2:]) == {"count", "aggregate"}
    assert {command["$db"] for command in commands} == {"novu-db"}
    assert PASSWORD not in done.stdout

    none = exporter("show", "--queries", env=without_database)
    assert (none.returncode, none.stdout) == (1, "")
    assert "MONGO_URL" in none.stderr


# --- check ---------------------------------------------------------------------------------------


def test_check_says_what_is_right_and_leaves_no_trace(
    environment: Mapping[str, str],
    novu: Database[dict[str, Any]],
    state_dir: Path,
    sink: HttpSink,
    exporter: ExporterRunner,
) -> None:
    done = exporter("check", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    found = findings(done.stdout)
    assert {mark for mark, _ in found.values()} == {"ok"}
    assert list(found) == [
        "state directory",
        "instance id",
        "usage figures",
        "database",
        "collections",
        *[f"novu.{figure.name}" for figure in FIGURES],
        "collector",
    ]
    assert novu.name in found["database"][1]
    assert all(name in found["collections"][1] for name in COLLECTIONS)
    for figure in FIGURES:
        assert re.fullmatch(r"read in \d+\.\d ms\.", found[f"novu.{figure.name}"][1])
    assert [list(report.resource_metrics) for report in sink.reports] == [[]]
    assert list(state_dir.iterdir()) == []


def test_check_json_is_one_finding_a_line(
    alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    done = exporter("check", "--json", env=alone)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(finding) for finding in found] == [["subject", "ok", "says"] for _ in found]
    assert [finding["subject"] for finding in found] == [
        "state directory",
        "instance id",
        "usage figures",
        "collector",
    ]


def wrong(exporter: ExporterRunner, env: Mapping[str, str]) -> dict[str, str]:
    """What `check` finds wrong."""
    done = exporter("check", env=env)
    found = findings(done.stdout)
    assert PASSWORD not in done.stdout + done.stderr
    assert done.returncode == int(any(mark == "WRONG" for mark, _ in found.values()))
    return {subject: says for subject, (mark, says) in found.items() if mark == "WRONG"}


def test_check_tells_a_wrong_password(
    without_database: Mapping[str, str], mongo_url: str, exporter: ExporterRunner
) -> None:
    url = re.sub(r"//.*@", f"//root:{PASSWORD}@", mongo_url)
    found = wrong(exporter, {**without_database, "MONGO_URL": url})
    assert list(found) == ["database"]
    assert "user, password or authSource is wrong" in found["database"]
    assert "mend the URL of MONGO_URL" in found["database"]


def test_check_tells_a_database_that_is_not_there(
    without_database: Mapping[str, str], exporter: ExporterRunner
) -> None:
    url = f"mongodb://root:{PASSWORD}@127.0.0.1:{free_port()}/novu-db"
    env = {**without_database, "MONGO_URL": url, "OTEL_NOVU_QUERY_TIMEOUT": "3"}
    found = wrong(exporter, env)
    assert list(found) == ["database"]
    assert "can't be reached" in found["database"]
    assert "mend the URL of MONGO_URL or MONGO_URL_FILE, or what" in found["database"]


def test_check_tells_a_database_that_is_not_named(
    without_database: Mapping[str, str], exporter: ExporterRunner
) -> None:
    found = wrong(exporter, without_database)
    assert list(found) == ["database"]
    assert found["database"].endswith("set one of them, or NOVU_TELEMETRY=false.")


def test_check_tells_a_collector_that_is_not_there_and_one_that_refuses(
    alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    port = free_port()
    found = wrong(exporter, away(alone, port))
    assert list(found) == ["collector"]
    assert f"nothing listens at 127.0.0.1:{port}; is it running" in found["collector"]
    with HttpSink(answer(401)) as refusing:
        found = wrong(exporter, {**alone, "OTEL_EXPORTER_OTLP_ENDPOINT": refusing.base})
    assert "OTEL_EXPORTER_OTLP_HEADERS" in found["collector"]


def test_check_tells_state_that_can_not_be_read(
    alone: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    (state_dir / "instance-id").write_text("vm-1\n")
    (state_dir / "telemetry").write_text("perhaps\n")
    drop = {"NOVU_TELEMETRY", "OTEL_NOVU_INSTANCE_ID"}
    found = wrong(exporter, {name: value for name, value in alone.items() if name not in drop})
    assert list(found) == ["instance id", "usage figures"]
    assert "holds no UUID" in found["instance id"]
    assert "telemetry enable or disable writes it anew" in found["usage figures"]


def test_check_tells_an_option_of_the_url_that_means_nothing(
    environment: Mapping[str, str],
    novu: Database[dict[str, Any]],
    mongo_url: str,
    exporter: ExporterRunner,
) -> None:
    assert novu.name
    found = wrong(exporter, {**environment, "MONGO_URL": f"{mongo_url}&conectTimeoutMS=5"})
    assert list(found) == ["MONGO_URL"]
    assert "conectTimeoutMS" in found["MONGO_URL"]


def test_check_tells_a_state_directory_that_can_not_be_made() -> None:
    with open_ground() as ground:
        env = {"NOVU_TELEMETRY": "off", "OTEL_METRICS_EXPORTER": "none", "HOME": str(ground)}
        code, out, _ = as_nobody(lambda: call(["check"], env)).split("\0")
    mark, says = findings(out)["state directory"]
    assert (code, mark) == ("1", "WRONG")
    assert "permission denied; set OTEL_NOVU_STATE_DIR to a directory of your own." in says


# --- which database ------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["no collection", "other collections"])
def test_a_database_that_is_not_novus_fails_every_figure_and_the_beacon_leaves(
    content: str,
    environment: Mapping[str, str],
    database: Database[dict[str, Any]],
    sink: HttpSink,
    exporter: ExporterRunner,
) -> None:
    if content == "other collections":
        database["orders"].insert_one({})
    once = exporter("once", env=environment)
    assert once.returncode == 1
    assert f'none of Novu\'s collections exist in database "{database.name}"' in once.stderr
    found = otlp_reports.points(*sink.reports)
    assert otlp_reports.value(found, "novu.usage.enabled") == 1
    names = {point.name for point in found if point.scope == otlp_reports.USAGE}
    # Absent, and never 0: only when, how long and how often it failed.
    assert names == {
        "novu.usage.timestamp",
        "novu.usage.read.duration",
        "novu.usage.read.failures",
    }
    failures = otlp_reports.values(found, "novu.usage.read.failures", "novu.figure")
    assert failures == {figure.name: 1 for figure in FIGURES}

    assert list(wrong(exporter, environment)) == ["collections"]
    show = exporter("show", env=environment)
    assert (show.returncode, len(documents(show.stdout))) == (1, 1)
    assert "wrong database?" in show.stderr


def test_collections_that_are_not_made_yet_count_as_0(
    environment: Mapping[str, str],
    database: Database[dict[str, Any]],
    sink: HttpSink,
    exporter: ExporterRunner,
) -> None:
    database["integrations"].insert_one({"providerId": "novu"})
    once = exporter("once", env=environment)
    assert once.returncode == 0, once.stderr
    found = otlp_reports.points(*sink.reports)
    for figure in FIGURES:
        if figure.name != "integration.count":
            assert otlp_reports.value(found, f"novu.{figure.name}") == 0
    counts = otlp_reports.values(found, "novu.integration.count", "novu.provider.id")
    assert counts == {"novu": 1}

    check_ = exporter("check", env=environment)
    assert check_.returncode == 0
    mark, says = findings(check_.stdout)["collections"]
    assert mark == "ok"
    assert says.startswith("integrations; not made yet, counted as 0: users, ")
    assert documents(exporter("show", env=environment).stdout)[1]["userCount"] == 0


def test_without_a_database_run_says_so_once_and_sends_the_beacon_alone(
    without_database: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    running = exporter.start("run", env={**without_database, "OTEL_METRIC_EXPORT_INTERVAL": "300"})
    sink.wait_for(4)
    assert running.terminate() == 0
    said = [line for line in running.stderr if "MONGO_URL" in line]
    assert len(said) == 1
    assert said[0].endswith(
        "WARNING Usage figures are on, but neither MONGO_URL nor MONGO_URL_FILE names Novu's "
        "database: only the beacon is sent."
    )
    assert otlp_reports.scopes(*sink.reports) == {otlp_reports.BEACON}


def test_without_a_database_once_says_so_sends_the_beacon_and_ends_with_1(
    without_database: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    done = exporter("once", env=without_database)
    assert done.returncode == 1
    assert done.stderr.count("MONGO_URL_FILE") == 1
    assert "set one of them, or NOVU_TELEMETRY=false" in done.stderr
    assert otlp_reports.scopes(*sink.reports) == {otlp_reports.BEACON}


# --- once ----------------------------------------------------------------------------------------


def test_once_ends_with_0_only_if_all_was_read_and_delivered(
    environment: Mapping[str, str],
    novu: Database[dict[str, Any]],
    sink: HttpSink,
    exporter: ExporterRunner,
) -> None:
    assert novu.name
    done = exporter("once", env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith(f"INFO Delivered to {sink.endpoint}: beacon and usage.\n")
    port = free_port()
    failed = exporter("once", env=away(environment, port))
    assert failed.returncode == 1
    assert "ERROR Not delivered: beacon and usage; what waits in the spool leaves" in failed.stderr


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"OTEL_METRICS_EXPORTER": "none"}, "nowhere (OTEL_METRICS_EXPORTER is none)"),
        ({"OTEL_SDK_DISABLED": "true"}, "nowhere (OTEL_SDK_DISABLED is true)"),
    ],
)
def test_nothing_leaves_where_the_standard_variables_say_so(
    variables: Mapping[str, str],
    said: str,
    alone: Mapping[str, str],
    sink: HttpSink,
    exporter: ExporterRunner,
) -> None:
    env = {**alone, **variables}
    done = exporter("once", env=env)
    assert done.returncode == 0
    assert said in done.stderr
    running = exporter.start("run", env=env)
    running.wait_for(re.escape(said))
    assert running.terminate() == 0
    assert sink.connections == 0


def test_the_console_gets_the_report_beside_the_collector(
    alone: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    both = exporter("once", env={**alone, "OTEL_METRICS_EXPORTER": "console,otlp"})
    assert both.returncode == 0, both.stderr
    [shown] = documents(both.stdout)
    scope = shown["resource_metrics"][0]["scope_metrics"][0]
    sent = {point.name for point in otlp_reports.points(*sink.reports)}
    assert {metric["name"] for metric in scope["metrics"]} == sent
    one = exporter("once", env={**alone, "OTEL_METRICS_EXPORTER": "console"})
    assert (one.returncode, len(documents(one.stdout)), len(sink.requests)) == (0, 1, 1)
    assert "to the console;" in exporter("show", "--last", env=alone).stderr


# --- health --------------------------------------------------------------------------------------


def test_health_is_well_while_run_is_alive_and_reports_are_delivered_or_kept(
    alone: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    for endpoint in (alone, away(alone, free_port())):
        running = exporter.start("run", env=endpoint)
        eventually((state_dir / "last-report-beacon.json").exists)
        done = exporter("health", env=alone)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("ok: run is alive")
        running.terminate()
        (state_dir / "last-report-beacon.json").unlink()


def test_health_is_not_well_where_no_run_holds_the_state_directory(
    alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    for _ in range(2):
        done = exporter("health", env=alone)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "not ok: no `otel-novu run` holds the state directory\n"
        running = exporter.start("run", env=alone)
        running.wait_for("reports to")
        running.kill()


def test_health_is_not_well_where_the_last_report_is_overdue(
    alone: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    running = exporter.start("run", env=alone)
    eventually((state_dir / "last-report-beacon.json").exists)
    with StateDirectory.open(state_dir) as state:
        report = last_report.load(state, "beacon")
        assert report is not None
        last_report.save(state, replace(report, read_at=report.read_at - 2 * 3600))
    done = exporter("health", env=alone)
    assert done.returncode == 1
    assert re.fullmatch(r"not ok: the last beacon report is overdue by 3[56]\d\d s\n", done.stderr)
    assert running.terminate() == 0


# --- spool ---------------------------------------------------------------------------------------


def test_spool_lists_what_waits_oldest_first(
    alone: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    none = exporter("spool", env=alone)
    assert (none.returncode, none.stdout) == (0, "0 reports wait for delivery.\n")
    for _ in range(2):
        exporter("once", env=away(alone, free_port()))
    done = exporter("spool", env=alone)
    first, second, last = done.stdout.splitlines()
    assert done.returncode == 0
    assert last == "2 reports wait for delivery."
    for line in (first, second):
        assert re.fullmatch(r"\S+Z  beacon  \d+ bytes", line)
    assert first[:20] <= second[:20]
    listed = [
        json.loads(line) for line in exporter("spool", "--json", env=alone).stdout.splitlines()
    ]
    assert [entry["meter"] for entry in listed] == ["beacon", "beacon"]

    (state_dir / "spool" / first_file(state_dir)).write_bytes(b"torn")
    damaged = exporter("spool", env=alone)
    assert damaged.returncode == 1
    assert "1 files of the spool are damaged" in damaged.stderr


def first_file(state_dir: Path) -> str:
    return min(entry.name for entry in (state_dir / "spool").iterdir())


def test_spool_flush_sends_what_waits_where_nobody_runs(
    alone: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    port = free_port()
    assert exporter("once", env=away(alone, port)).returncode == 1
    still_away = exporter("spool", "--flush", env=away(alone, port))
    assert still_away.returncode == 1
    assert "1 reports still wait; `otel-novu show --last` says why." in still_away.stderr
    done = exporter("spool", "--flush", env=alone)
    assert (done.returncode, done.stdout) == (0, "Nothing waits.\n")
    assert len(sink.requests) == 1


def test_spool_flush_has_the_running_exporter_send_what_waits(
    alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    port = free_port()
    running = exporter.start("run", env=away(alone, port))
    running.wait_for("nothing listens at")
    with HttpSink(port=port) as back:
        done = exporter("spool", "--flush", env=away(alone, port))
        assert (done.returncode, done.stdout) == (0, "Nothing waits.\n")
        assert len(back.requests) == 1
        running.wait_for("delivered again")
        assert running.terminate() == 0


def test_spool_flush_says_at_once_where_nothing_may_be_sent(
    alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    exporter("once", env=away(alone, free_port()))
    for variables in ({"OTEL_METRICS_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}):
        done = exporter("spool", "--flush", env={**alone, **variables})
        assert done.returncode == 1
        assert next(iter(variables)) in done.stderr


# --- reset-id ------------------------------------------------------------------------------------


def test_reset_id_makes_a_new_id_and_forgets_the_key_of_the_pseudonyms(
    alone: Mapping[str, str], state_dir: Path, sink: HttpSink, exporter: ExporterRunner
) -> None:
    env = {name: value for name, value in alone.items() if name != "OTEL_NOVU_INSTANCE_ID"}
    env["OTEL_NOVU_ANONYMIZE"] = "on"
    assert exporter("once", env=env).returncode == 0
    key = (state_dir / "pseudonym-key").read_text()
    done = exporter("reset-id", env=env)
    assert done.returncode == 0, done.stderr
    made = (state_dir / "instance-id").read_text().strip()
    assert made in done.stdout
    assert exporter("once", env=env).returncode == 0
    first, second = (
        {point.resource["service.instance.id"] for point in otlp_reports.points(report)}
        for report in sink.reports
    )
    assert second == {made}
    assert first != second
    assert (state_dir / "pseudonym-key").read_text() != key


def test_reset_id_refuses_while_the_id_is_in_use_or_set_from_outside(
    alone: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    outside = exporter("reset-id", env=alone)
    assert outside.returncode == 1
    assert "OTEL_NOVU_INSTANCE_ID is set and decides" in outside.stderr
    env = {name: value for name, value in alone.items() if name != "OTEL_NOVU_INSTANCE_ID"}
    running = exporter.start("run", env=env)
    running.wait_for("reports to")
    before = (state_dir / "instance-id").read_text()
    refused = exporter("reset-id", env=env)
    assert refused.returncode == 1
    assert f"another otel-novu (`run`, process {running.pid})" in refused.stderr
    assert running.terminate() == 0
    assert (state_dir / "instance-id").read_text() == before


# --- metrics -------------------------------------------------------------------------------------


def test_metrics_prints_every_row_in_each_form(exporter: ExporterRunner) -> None:
    rows = [(scope, row) for scope, rows in TABLES for row in rows]
    text = exporter("metrics")
    assert text.returncode == 0
    for scope, row in rows:
        assert f"{scope}:\n" in text.stdout
        assert re.search(
            rf"^  {row.name} .*{re.escape(row.description)}$", text.stdout, re.MULTILINE
        )

    printed = [json.loads(line) for line in exporter("metrics", "--json").stdout.splitlines()]
    assert [(entry["scope"], entry["name"]) for entry in printed] == [
        (scope, row.name) for scope, row in rows
    ]
    for entry, (_, row) in zip(printed, rows, strict=True):
        assert entry["instrument"] == row.instrument.value
        assert (entry["unit"], entry["description"]) == (row.unit, row.description)
        assert entry["field"] == (row.field or None)

    markdown = exporter("metrics", "--markdown").stdout
    for _, row in rows:
        assert markdown.count(f"| `{row.name}`") == 1
