"""What each command prints, and how it ends."""

import json
import re
import signal
import socket
import sys
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import otlp_reports
import pytest
from bson import ObjectId
from contract.case import BEACON, ONE_REPORT, STALL_SECONDS, STOP_SECONDS, Case
from contract.clock import Clock
from pymongo.database import Database
from receivers import HttpSink, answer, hang
from servers import ExporterRunner, PrometheusClient, eventually
from stack import Servers, free_port

from otel_novu.metrics.beacon import BEACON as BEACON_ROWS
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_name
from otel_novu.metrics.usage import COLLECTIONS, DELIVERY, FIGURES
from otel_novu.metrics.usage import USAGE as USAGE_ROWS

pytestmark = pytest.mark.contract

# Each command, and the options that its help names.
HELP = "run --env-file --verbose,once --env-file,show --otlp --last --queries --json,check --json,"
HELP += "health --json,telemetry status enable disable --json,spool --flush --json,"
HELP += "reset-id --json,metrics --json --markdown"
UNKNOWN = ",frobnicate,run --frobnicate,once more,show --otlp --json,show --otlp --queries,"
UNKNOWN += "show --last --json,show --ot,telemetry pause,telemetry enable --json,run --env-file"
# Novu's names, in Novu's order.
BEACON_FIELDS = "freeMemory hostname instanceId ipAddress platform release timestamp totalMemory"
USAGE_FIELDS = "eventCount integrationCount orgCount subscriberCount timestamp topicCount"
USAGE_FIELDS += " totalSteps userCount workflowCount"
PASSWORD = "S3CRETMARK0123456789"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_help_names_every_command_its_options_and_the_exit_codes(exporter: ExporterRunner) -> None:
    top = exporter("--help").stdout
    commands = [line.split() for line in HELP.split(",")]
    assert re.findall(r"^    ([a-z][a-z-]+)(?: |$)", top, re.MULTILINE) == [c[0] for c in commands]
    assert "exit codes: 0 done, 1 something to" in top
    for command, *options in commands:
        done = exporter(command, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert all(option in done.stdout for option in options)
    assert re.fullmatch(r"otel-novu \d+\.\d+\.\d+\S*\n", exporter("--version").stdout)


@pytest.mark.parametrize("arguments", UNKNOWN.split(","))
def test_unknown_arguments_end_with_2(arguments: str, exporter: ExporterRunner) -> None:
    done = exporter(*arguments.split())
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False)


def test_once_ends_with_0_only_if_all_was_read_and_delivered(novu: Case) -> None:
    done = novu("once")
    assert (done.returncode, novu.sink.base in done.stderr) == (0, True)
    assert otlp_reports.scopes(*novu.sink.reports) == {otlp_reports.BEACON, otlp_reports.USAGE}
    nowhere = f"127.0.0.1:{free_port()}"
    assert novu("once", OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{nowhere}").returncode == 1
    assert novu("once", MONGO_URL=f"mongodb://{nowhere}/x").returncode == 1


@pytest.mark.parametrize(("command", "code"), [("run", 0), ("once", 1)])
def test_without_a_database_the_beacon_is_sent(command: str, code: int, case: Case) -> None:
    case.read("")
    running = case.start(command)
    case.sink.wait_for(1)
    running.send(signal.SIGTERM if command == "run" else signal.SIGCONT)
    assert running.wait(STOP_SECONDS) == code
    assert len([line for line in running.warnings if "MONGO_URL_FILE" in line]) == 1
    assert otlp_reports.scopes(*case.sink.reports) == {otlp_reports.BEACON}


def test_a_second_run_or_once_ends_with_1_and_names_the_first(case: Case) -> None:
    running = case.start(**ONE_REPORT)
    case.sink.wait_for(1)
    for command in ("run", "once", "reset-id"):
        second = case(command)
        assert (second.returncode, second.stderr.count("\n")) == (1, 1)
        assert all(w in second.stderr for w in (str(running.pid), "run", "OTEL_NOVU_STATE_DIR"))
    assert len(case.sink.requests) == 1
    # The first one goes on, and the next one may begin when it has ended.
    case.stop(running)
    assert case("once").returncode == 0


@pytest.mark.parametrize("variable", ["OTEL_METRICS_EXPORTER=none", "OTEL_SDK_DISABLED=true"])
def test_nothing_is_sent_where_a_variable_says_so(variable: str, case: Case) -> None:
    name, _, case.env[name] = variable.partition("=")
    running = case.start()
    running.wait_for(name)
    assert case("health").returncode == 0
    case.stop(running)
    done = case("once")
    assert (done.returncode, name in done.stderr, case.sink.requests) == (0, True, [])


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_an_interrupted_once_keeps_its_report(number: int, code: int, case: Case) -> None:
    with case.send_to(HttpSink(hang())) as sink:
        running = case.start("once")
        sink.wait_for(1)
        running.send(signal.Signals(number))
        assert running.wait(STOP_SECONDS) == code
    assert "Traceback" not in "\n".join(running.stderr)
    assert case.waiting().total() == 1


def test_show_prints_novus_two_documents_and_the_deliveries_and_sends_and_writes_nothing(
    novu: Case,
) -> None:
    done = novu("show --json")
    assert done.returncode == 0, done.stderr
    beacon, usage, delivery = lines(done.stdout)
    assert list(delivery) == [figure.name for figure in DELIVERY]
    assert [list(beacon), list(usage)] == [BEACON_FIELDS.split(), USAGE_FIELDS.split()]
    assert (beacon["hostname"], beacon["platform"]) == (socket.gethostname(), "linux")
    assert 0 < beacon["freeMemory"] <= beacon["totalMemory"]
    assert usage["eventCount"] == 50
    assert set(usage["integrationCount"][0]) == {"count", "providerId"}
    at = datetime.fromisoformat(f"{usage['timestamp']}+00:00").timestamp()
    assert at == pytest.approx(time.time(), abs=600)
    for command in ("show", "show --otlp", "show --last", "show --queries", "spool", "health"):
        assert novu(command).returncode == int(command == "health")
    assert novu.sink.requests == []
    assert list(novu.state.iterdir()) == []


def test_show_says_why_usage_is_absent(case: Case) -> None:
    nowhere = f"mongodb://root:{PASSWORD}@127.0.0.1:{free_port()}/x"
    case.env["OTEL_NOVU_QUERY_TIMEOUT"] = "1"
    for url, code, word in (("", 0, "MONGO_URL_FILE"), (nowhere, 1, "MongoDB at 127.0.0.1")):
        case.read(url)
        done = case("show --json")
        assert (done.returncode, len(lines(done.stdout)), word in done.stderr) == (code, 1, True)
        assert PASSWORD not in done.stderr


def test_show_last_tells_what_was_sent_when_where_to_and_what_is_due(case: Case) -> None:
    before = case("show --last")
    assert (before.returncode, before.stdout, "beacon" in before.stderr) == (0, "", True)
    assert case("once").returncode == 0
    after = case("show --last").stdout
    assert all(word in after for word in ("delivered", case.sink.base, "next due     none"))

    port = case.send_nowhere()
    running = case.start(**ONE_REPORT)
    running.wait_for(f"WARNING.*127.0.0.1:{port}")
    last = case("show --last")
    failed = last.stdout
    assert "1 report waits for delivery" in last.stderr
    assert all(word in failed for word in ("not delivered", f"127.0.0.1:{port}", "due     20"))
    status = json.loads(case("telemetry status --json").stdout)
    assert status["last"][BEACON]["next_due"].endswith("Z")
    assert "last beacon report" in case("telemetry status").stdout
    case.stop(running)


def test_show_queries_prints_every_command_and_connects_to_nothing(case: Case) -> None:
    case.read(f"mongodb://root:{PASSWORD}@127.0.0.1:{free_port()}/novu-db")
    done = case("show --queries")
    assert (done.returncode, done.stderr, PASSWORD in done.stdout) == (0, "", False)
    hello, collections, *queries = lines(done.stdout)
    assert ("hello" in hello, "listCollections" in collections) == (True, True)
    kinds = [next(iter(query)) for query in queries]
    count = sum(len(figure.query.commands()) for figure in FIGURES)
    assert (len(kinds), set(kinds)) == (count, {"count", "aggregate"})
    case.read("")
    assert case("show --queries").returncode == 1


def check(case: Case, **changes: str) -> tuple[dict[str, str], dict[str, str]]:
    """What `check` finds right, and wrong, by subject; a value goes on below itself."""
    done = case("check", **changes)
    assert PASSWORD not in done.stdout + done.stderr
    rows = re.sub(r"\n {20,}", " ", done.stdout).splitlines()
    found = [re.fullmatch(r"(PASS|WARN|FAIL)  (\S+(?: \S+)?) +(.*)", each) for each in rows]
    assert all(found), done.stdout
    right, wrong = ({r[2]: r[3] for r in found if r and r[1] == mark} for mark in ("PASS", "FAIL"))
    assert done.returncode == int(bool(wrong))
    return right, wrong


def test_check_says_what_is_right_and_leaves_no_trace(
    novu: Case, database: Database[dict[str, Any]]
) -> None:
    for collection, number, age in (("topics", 3, 1800), ("jobs", 2, 5400)):
        second = int(time.time() - age).to_bytes(4, "big")
        ids = [ObjectId(second + n.to_bytes(8, "big")) for n in range(number)]
        database[collection].insert_many([{"_id": each, "status": "failed"} for each in ids])
    right, wrong = check(novu)
    first = ["state directory", "instance id", "usage figures", "database", "collections"]
    assert list(right) == [*first, *(f"novu.{figure.name}" for figure in FIGURES), "collector"]
    assert wrong == {}
    assert all(name in right["collections"] for name in COLLECTIONS)
    assert re.fullmatch(r"50  \(\d+ ms\)", right["novu.event.count"])
    # The created counters, too, are read: on a fresh state directory, an hour of them.
    assert re.fullmatch(r"3 in an hour  \(\d+ ms\)", right["novu.topic.created"])
    assert re.fullmatch(r"2 in an hour  \(\d+ ms\)", right["novu.job.failed"])
    found = [(each["subject"], each["result"]) for each in lines(novu("check --json").stdout)]
    # The sample data has no indexes, as an installation without MONGO_AUTO_CREATE_INDEXES.
    assert [subject for subject, _ in found if subject != "indexes"] == list(right)
    assert ("indexes", "WARN") in found
    # The collector is asked with a request without a metric.
    assert [list(report.resource_metrics) for report in novu.sink.reports] == [[], []]
    assert list(novu.state.iterdir()) == []


def test_check_says_what_is_wrong_and_how_to_fix_it(novu: Case, mongo_url: str) -> None:
    assert "MONGO_URL_FILE" in check(novu, MONGO_URL="")[1]["database"]
    wrong = check(novu, MONGO_URL=mongo_url.replace("root:secret", f"root:{PASSWORD}"))[1]
    assert (list(wrong), "password" in wrong["database"]) == (["database"], True)
    wrong = check(novu, MONGO_URL=f"{mongo_url}&replicaSet=rs9")[1]
    assert (list(wrong), "check replicaSet" in wrong["database"]) == (["database"], True)
    ignored = novu("check", MONGO_URL=f"{mongo_url}&conectTimeoutMS=5")
    assert (ignored.returncode, "conectTimeoutMS" in ignored.stdout) == (0, True)
    port = novu.send_nowhere()
    wrong = check(novu)[1]
    assert (list(wrong), f"127.0.0.1:{port}" in wrong["collector"]) == (["collector"], True)
    with novu.send_to(HttpSink(answer(401))):
        assert "OTEL_EXPORTER_OTLP_HEADERS" in check(novu)[1]["collector"]


def test_health_is_0_only_while_run_reports_in_time(case: Case, tmp_path: Path) -> None:
    clock, sink = Clock(tmp_path), case.sink
    case.env |= clock.environment | {"OTEL_METRIC_EXPORT_INTERVAL": "60000"}
    assert case("health").returncode == 1
    case.send_nowhere()  # kept is as good as delivered
    running = case.start()
    done = case("health")
    assert (done.returncode, done.stderr, "ok" in done.stdout) == (0, "", True)
    running.kill()
    assert case("health").returncode == 1

    case.send_to(sink)
    began, running = time.time(), case.start()
    eventually(lambda: max(case.times(), default=0.0) > began and not case.waiting())
    running.send(signal.SIGSTOP)
    clock.step(110)
    assert case("health").returncode == 0
    clock.step(30)
    assert case("health").returncode == 1
    running.send(signal.SIGCONT)
    case.stop(running)


def test_spool_lists_what_waits_oldest_first(novu: Case) -> None:
    assert novu("spool").stdout == "0 reports wait for delivery.\n"
    novu.send_nowhere()
    for flag in ("", "off"):
        novu("once", NOVU_TELEMETRY=flag)
    *rows, last = novu("spool", NOVU_TELEMETRY="off").stdout.splitlines()
    assert last == "1 usage report waits until usage figures are on again."
    assert rows.pop() == "2 reports wait for delivery."
    assert all(re.fullmatch(r"\S+Z  (beacon|usage ) {2}\d+ bytes", row) for row in rows)
    beacons = [row[:20] for row in rows if "beacon" in row]
    assert (len(rows), beacons) == (3, sorted(beacons))


def test_reset_id_makes_a_new_id_and_new_pseudonyms(case: Case) -> None:
    case.env["OTEL_NOVU_ANONYMIZE"] = "on"
    assert case("once").returncode == 0
    done = case("reset-id")
    assert done.returncode == 0, done.stderr
    assert case("once").returncode == 0
    hosts = [point for point in case.points() if point.name == "novu.host.info"]
    ids = [point.resource["service.instance.id"] for point in hosts]
    assert (ids[0] == ids[1], ids[1] in done.stdout) == (False, True)
    assert hosts[0].attributes["host.name"] != hosts[1].attributes["host.name"]
    assert case("reset-id", OTEL_NOVU_INSTANCE_ID=ids[0]).returncode == 1


def test_metrics_prints_every_row_in_each_form(exporter: ExporterRunner) -> None:
    rows: list[Metric[Any]] = [*BEACON_ROWS, *USAGE_ROWS]
    shown, markdown = exporter("metrics").stdout, exporter("metrics", "--markdown").stdout
    assert max(map(len, shown.splitlines())) <= 80
    text = " ".join(shown.split())
    printed = lines(exporter("metrics", "--json").stdout)
    for entry, row in zip(printed, rows, strict=True):
        assert (entry["name"], entry["prometheus"]) == (row.name, prometheus_name(row))
        assert entry["instrument"] == row.instrument.value
        assert (entry["unit"], entry["description"]) == (row.unit, row.description)
        assert f" {row.name} {row.description} ({row.instrument.value}" in text
        assert markdown.count(f"| `{row.name}`") == 1


def test_the_example_shows_both_scopes_under_the_name_of_its_application(
    novu: Case, stack: Servers, instance_id: str, prometheus: PrometheusClient
) -> None:
    example = Path(__file__).parent.parent.parent / "examples" / "embed.py"
    application = ExporterRunner(novu.exporter.home, (sys.executable, str(example)))
    novu.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = stack.otlp_http
    novu.env["OTEL_RESOURCE_ATTRIBUTES"] = f"service.instance.id={instance_id}"
    with closing(application):
        running = application.start(env=novu.env)
        for name, value in {"novu_event_count": 50, "novu_usage_enabled": 1}.items():
            series = f'{name}{{job="my-application",instance="{instance_id}"}}'
            assert [sample.value for sample in prometheus.eventually(series)] == [value]
        # The SDK's last export may take its time.
        assert running.terminate(STALL_SECONDS) == 0
    assert "Traceback" not in "\n".join(running.stderr)
