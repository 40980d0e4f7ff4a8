"""What the commands print, without real servers."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from contract.case import Case
from receivers import HttpSink, answer
from servers import EXPORTER, ExporterRunner

from otel_novu.commands.output import row
from otel_novu.log import plural
from otel_novu.state_dir import lock
from otel_novu.store import LastAttempt, Store

# Root without the capabilities that let it write and read every file.
PLAIN = ("/usr/bin/setpriv", "--bounding-set", "-dac_override,-dac_read_search", *EXPORTER)
NO_DATABASE = "mongodb://127.0.0.1:1/novu-db"


@pytest.fixture
def case(state_dir: Path, tmp_path: Path, sink: HttpSink) -> Iterator[Case]:
    """The beacon alone, by a user who can't override permissions."""
    runner = ExporterRunner(tmp_path, EXPORTER if os.geteuid() else PLAIN)
    env = {"NOVU_TELEMETRY": "off", "OTEL_NOVU_STATE_DIR": str(state_dir)}
    case = Case(runner, state_dir, sink, env)
    case.send_to(sink)
    with closing(runner):
        yield case


@pytest.fixture
def unwritable(case: Case) -> Iterator[Case]:
    """A state directory that can't be written."""
    case.state.chmod(0o500)
    yield case
    case.state.chmod(0o700)


@pytest.mark.parametrize("command", ["check", "health", "spool", "spool --json", "spool --flush"])
def test_a_directory_that_can_not_be_written_is_something_to_fix(
    command: str, unwritable: Case
) -> None:
    for state in (unwritable.state, unwritable.state / "below"):
        done = unwritable(command, OTEL_NOVU_STATE_DIR=str(state))
        said = re.sub(r"\s+", " ", done.stdout + done.stderr)
        assert (done.returncode, f"{state} can't be written: permission" in said) == (1, True)
        assert "no `otel-novu run`" not in said


@pytest.mark.parametrize(("command", "value"), [("disable", "false"), ("enable", "true")])
def test_an_admin_setting_that_can_not_be_stored_names_the_variable_that_needs_no_disk(
    command: str, value: str, unwritable: Case
) -> None:
    done = unwritable(f"telemetry {command}", NOVU_TELEMETRY="")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"not stored: permission denied; NOVU_TELEMETRY={value} needs no disk" in done.stderr


@pytest.mark.parametrize("command", ["telemetry disable", "telemetry status", "reset-id"])
def test_a_mistake_elsewhere_keeps_nobody_from_switching_off(command: str, case: Case) -> None:
    case.env |= {"OTEL_EXPORTER_OTLP_TIMEOUT": "700", "OTEL_EXPORTER_OTLP_ENDPOINT": "nowhere"}
    case.env |= {"MONGO_URL": "mistake", "OTEL_NOVU_QUERY_TIMEOUT": "0", "NOVU_TELEMETRY": ""}
    done = case(command)
    assert (done.returncode, done.stderr) == (0, "")
    assert case("telemetry status", NOVU_TELEMETRY="maybe").returncode == 2


def test_health_sees_that_a_report_is_not_made(case: Case) -> None:
    with lock(case.state, "run"):
        pid, command, since, namespace = (case.state / "lock").read_text().split(" ")
        old = f"{pid} {command} {float(since) - 100} {namespace}"
        (case.state / "lock").write_text(old)
        assert re.search(r"the last beacon report is 10\d s late", case("health").stderr)
        now = time.time()
        made = LastAttempt("beacon", now, now, None, "there", "delivered", b"")
        Store(case.state).save_last_attempt(made)
        assert case("health --strict").returncode == 0
        strict = case("health --strict", NOVU_TELEMETRY="on")
        late = r"the last usage report is 10\d s late; does run have MONGO_URL\?"
        assert (strict.returncode, bool(re.search(late, strict.stderr))) == (1, True)


def test_a_probe_does_not_repeat_the_warnings_about_variables(case: Case) -> None:
    case.env["OTEL_LOG_LEVEL"] = "verbose"
    assert "OTEL_LOG_LEVEL" in case("spool").stderr
    assert case("health").stderr == "not ok: no `otel-novu run` uses the state directory\n"


def test_what_run_keeps_in_memory_is_sent_by_a_flush_and_not_said_to_be_nothing(
    case: Case,
) -> None:
    (case.state / "lock").touch(0o600)
    case.state.chmod(0o500)
    port = case.send_nowhere()
    running = case.start()
    running.wait_for("WARNING Sending")
    with case.send_to(HttpSink(port=port)) as sink:
        done = case("spool --flush")
        sink.wait_for(1)
        case.stop(running)
    assert (done.returncode, "keeps in memory" in done.stderr) == (1, True)


@pytest.mark.parametrize("command", ["once", "spool --flush", "run"])
def test_a_report_that_is_dropped_meanwhile_is_no_success(command: str, case: Case) -> None:
    case.send_nowhere()
    for _ in range(2):
        assert case("once").returncode == 1
    with case.send_to(HttpSink(answer(400, b"bad point", "text/plain"), answer())) as sink:
        running = case.start(command)
        if command == "run":
            sink.wait_for(3)
            case.stop(running)
            assert running.stderr[-1].endswith("INFO Stopped; dropped, as logged: 1 report.")
        else:
            assert running.wait() == 1
    summary = "Rejected, and not sent again: 1 report.\n0 reports wait for delivery.\n"
    assert case("spool").stdout.endswith(summary)
    assert json.loads(case("spool --json").stdout)["rejected"] == 1


def test_a_directory_that_is_missing_is_no_fault(case: Case) -> None:
    missing = str(case.state / "a" / "b")
    assert case("check", OTEL_NOVU_STATE_DIR=missing).returncode == 0
    assert case("spool", OTEL_NOVU_STATE_DIR=missing).returncode == 0
    assert "no `otel-novu run`" in case("health", OTEL_NOVU_STATE_DIR=missing).stderr


@pytest.mark.parametrize("damage", ["garbage", "no permission"])
@pytest.mark.parametrize(
    "command",
    ["check", "health", "show", "show --last", "spool", "spool --flush", "telemetry status"],
)
def test_a_state_that_can_not_be_read_is_named_once_and_nothing_untrue_follows(
    command: str, damage: str, case: Case
) -> None:
    case.read(NO_DATABASE)
    file = case.state / "state.db"
    file.write_bytes(b"garbage " * 1000)
    file.chmod(0 if damage == "no permission" else 0o600)
    done = case(command)
    said = re.sub(r"\s+", " ", done.stdout + done.stderr)
    hint = f"move {file} away" if damage == "garbage" else "run as the user that owns it"
    assert (done.returncode, said.count(hint)) == (1, 1), said
    assert said.count(f"{file} can't be read") == 1
    untrue = "stored yet|enable.disable|No attempt|No beacon|was tried|set OTEL_NOVU_STATE_DIR"
    assert not re.search(untrue, said), said
    if command == "telemetry status":
        document = json.loads(case("telemetry status --json").stdout)
        assert (document["enabled"], hint in document["fault"]) == (False, True)


@pytest.mark.parametrize(
    ("url", "code", "result"),
    [
        ("mongodb://root:secret@127.0.0.1:99999/novu-db", 2, "FAIL"),
        (f"{NO_DATABASE}?authMechanism=none-such", 2, "FAIL"),
        (f"{NO_DATABASE}?conectTimeoutMS=5", 1, "WARN"),
    ],
)
def test_a_bad_url_is_bad_input_for_check_too(url: str, code: int, result: str, case: Case) -> None:
    case.read(url)
    case.env["OTEL_NOVU_QUERY_TIMEOUT"] = "1"
    done = case("check --json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    first = next(each for each in found if each["subject"] == "database")
    assert (done.returncode, first["result"], found[-1]["result"]) == (code, result, "PASS")
    assert re.fullmatch(r"MONGO_URL: .*[^.]\.", first["message"])


def test_check_fits_80_columns_and_exits_0_with_warnings_only(case: Case) -> None:
    done = case("check", OTEL_METRICS_EXPORTER="none")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert [line[:4] for line in lines if line[0] != " "] == ["PASS"] * 3 + ["WARN"]
    assert lines[0].split() == ["PASS", "state", "directory", str(case.state)]
    _, *lines = case("check", NOVU_TELEMETRY="on").stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize(("no_color", "coloured"), [("", 1), ("1", 0)])
def test_check_is_coloured_on_a_terminal_only(no_color: str, coloured: int, case: Case) -> None:
    assert "\033" not in case("check", NO_COLOR=no_color).stdout
    ours, theirs = os.openpty()
    env = {**case.env, "NO_COLOR": no_color, "PATH": os.environ["PATH"]}
    if "PYTHONPATH" in os.environ:
        env["PYTHONPATH"] = os.environ["PYTHONPATH"]
    subprocess.run([*EXPORTER, "check"], env=env, stdout=theirs, cwd=case.state.parent, check=True)
    os.close(theirs)
    shown = os.read(ours, 200)
    os.close(ours)
    assert shown.count(b"\033[32mPASS\033[0m  state") == coloured


def test_counts_have_their_plural(case: Case) -> None:
    assert case("spool").stdout == "0 reports wait for delivery.\n"
    case.send_nowhere()
    for count in ("1 report waits", "2 reports wait"):
        case("once")
        assert case("spool").stdout.splitlines()[-1] == f"{count} for delivery."
    assert [plural(n, "byte") for n in (0, 1, 2)] == ["0 bytes", "1 byte", "2 bytes"]


def test_a_value_is_wrapped_below_itself_and_a_path_stays_whole() -> None:
    assert row("a", "b", 3) == "a    b"
    assert row("a", "/x" * 60, 3) == "a    " + "/x" * 60
    assert row("a", f"{'b' * 70} {'c-d' * 20}", 3).splitlines()[1] == "     " + "c-d" * 20


def test_json_is_one_document_of_each_command(case: Case) -> None:
    health = json.loads(case("health --json").stdout)
    assert (health["ok"], "run" in health["message"]) == (False, True)
    assert json.loads(case("spool --json").stdout) == {
        "reports": [],
        "waiting": 0,
        "held": 0,
        "rejected": 0,
    }
    port = case.send_nowhere()
    case("once")
    done = case("spool --flush --json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["waiting"], len(document["reports"])) == (1, 1, 1)
    with case.send_to(HttpSink(port=port)):
        done = case("spool --flush --json")
    assert (done.returncode, json.loads(done.stdout)["reports"]) == (0, [])
    made = json.loads(case("reset-id --json").stdout)["instance_id"]
    assert made in case("check").stdout


def test_show_last_is_a_block_and_the_raw_request_with_otlp(case: Case) -> None:
    assert case("once").returncode == 0
    block = case("show --last").stdout
    assert re.search(r"^last beacon report$", block, re.MULTILINE)
    for fact in (r"read +20\S+Z", r"tried +20\S+Z", "outcome +delivered", "next due +none"):
        assert re.search(rf"^  {fact}$", block, re.MULTILINE), fact
    assert re.search(r"^  novu\.host\.info +1  host\.name=", block, re.MULTILINE)
    assert re.search(r"^  novu\.usage\.enabled +0$", block, re.MULTILINE)
    [request] = map(json.loads, case("show --last --otlp").stdout.splitlines())
    assert list(request) == ["resourceMetrics"]


@pytest.mark.parametrize("late", [0.5, -0.5, 2.5])
def test_the_next_report_is_due_after_now_however_long_the_collector_is_away(
    late: float, case: Case
) -> None:
    due = int(time.time() - late * 3600)
    attempt = LastAttempt("beacon", due - 3600.0, due - 3600.0, due, "there", "not delivered", b"")
    store = Store(case.state)
    with lock(case.state, "run"):
        store.save_last_attempt(attempt)
        texts = case("show --last").stdout, case("telemetry status").stdout
        [shown] = {time for text in texts for time in re.findall(r"next due +(\S+)", text)}
        last = json.loads(case("telemetry status --json").stdout)["last"]
    expected = due + 3600 * max(0, int(late + 1))
    assert last["beacon"]["next_due"] == shown
    assert shown == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expected))
