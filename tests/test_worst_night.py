"""What goes wrong on a bad night: odd outputs, odd moments, and words that mislead."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import otlp_reports
import pytest
from real_faults import read_only
from receivers import HttpAnswer, HttpSink, Listener, answer, hang, raw, reset
from servers import EXPORTER, ExporterRunner, eventually, in_bash
from stack import free_port

from otel_novu import unread
from otel_novu.delivery.otlp.http import HttpSender
from otel_novu.delivery.spool import Spool
from otel_novu.exporter import LAST_READING, Exporter
from otel_novu.journal import Journal
from otel_novu.metrics.usage import FIGURES
from otel_novu.outcome import Later
from otel_novu.reports import Sources
from otel_novu.settings import Secret, load
from otel_novu.sources.failure import NoConnection, ReadFailed
from otel_novu.sources.novu_db import NovuDatabase
from otel_novu.sources.usage_round import Database, UsageSource
from otel_novu.state.consent import Admin, Decision, keep_decision, read_admin
from otel_novu.state.directory import StateDirectory
from otel_novu.state.identity import Identity, Origin

NOON = 1_800_000_000.0


@pytest.fixture
def alone(state_dir: Path) -> dict[str, str]:
    """An instance that sends the beacon alone, to a collector that is not there."""
    return {
        "NOVU_TELEMETRY": "off",
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
    }


def shell(line: str, environment: Mapping[str, str], folder: Path) -> tuple[int, str]:
    """Run `otel-novu` as a shell starts it; its exit code, and all that it printed."""
    done = in_bash(f"exec {EXPORTER[0]} {line}", environment, folder)
    return done.returncode, done.stdout + done.stderr


def pile_up(state_dir: Path, count: int, meter: str = "beacon") -> None:
    """Leave reports in the spool as an earlier process would."""
    with StateDirectory.open(state_dir) as state:
        spool = Spool(state, 1e9, 1 << 20, time.time)
        for number in range(count):
            spool.put(meter, bytes([number]), time.time())


# --- outputs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_process_that_is_started_without_outputs_ends_as_ever(
    closed: str, alone: Mapping[str, str], tmp_path: Path
) -> None:
    assert shell(f"metrics {closed}", alone, tmp_path)[0] == 0
    assert shell(f"once --env-file /nowhere {closed}", alone, tmp_path)[0] == 2
    code, printed = shell(f"once {closed}", alone, tmp_path)
    assert (code, "Traceback" in printed) == (1, False)


def test_an_error_output_that_is_full_changes_no_exit_code(
    alone: Mapping[str, str], tmp_path: Path
) -> None:
    assert shell("once --env-file /nowhere 2>/dev/full", alone, tmp_path)[0] == 2
    assert shell("once 2>/dev/full", alone, tmp_path)[0] == 1
    with HttpSink() as sink:
        there = {**alone, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        assert shell("once --verbose 2>/dev/full", there, tmp_path)[0] == 0


def test_words_that_the_terminal_has_no_letters_for_are_printed_all_the_same(
    alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    refusal = answer(403, "zugriff verwehrt: Schlüssel 鍵 ungültig".encode(), "text/plain")
    with HttpSink(refusal) as sink:
        used = {**alone, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base, "PYTHONIOENCODING": "ascii"}
        done = exporter("check", env=used)
        assert done.returncode == 1
        assert "Schl\\xfcssel \\u9375" in done.stdout
        assert "Traceback" not in done.stderr
        assert exporter("once", env=used).returncode == 1
        done = exporter("telemetry", "status", env=used)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_log_that_could_not_be_written_for_a_while_holds_no_traceback() -> None:
    script = """
import io, logging, sys
from otel_novu.cli import main
class Full(io.StringIO):
    failures = 0
    def write(self, text):
        Full.failures += 1
        if Full.failures == 1:
            raise OSError(28, "No space left on device")
        return super().write(text)
sys.stderr = Full()
main(["once"])
print(Full.failures, sys.stderr.getvalue())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": os.environ["PATH"], "NOVU_TELEMETRY": "off", "OTEL_NOVU_STATE_DIR": "/proc/x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert int(done.stdout.split()[0]) > 1
    assert "Traceback" not in done.stdout + done.stderr


def test_a_last_report_that_is_damaged_is_told_in_one_sentence(
    alone: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    assert exporter("once", env=alone).returncode == 1
    file = state_dir / "last-report-beacon.json"
    document = json.loads(file.read_bytes())
    document["body"] = "AAAA" + document["body"]
    file.write_text(json.dumps(document))
    done = exporter("show", "--last", env=alone)
    assert (done.returncode, done.stdout) == (1, "")
    assert "last-report-beacon.json is damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_env_file_without_a_name_is_told_as_such(exporter: ExporterRunner) -> None:
    done = exporter("health", "--env-file", "")
    assert done.returncode == 2
    assert done.stderr == (
        "otel-novu: --env-file names no file; accepted: the path of a readable file\n"
    )


# --- reports that wait ---------------------------------------------------------------------------


def test_once_does_not_end_with_0_while_some_reports_still_wait(
    alone: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    pile_up(state_dir, 12)

    def slow(connection: socket.socket, ended: threading.Event) -> None:
        if not ended.wait(0.7):
            answer()(connection, ended)

    with HttpSink(slow) as sink:
        used = {**alone, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        done = exporter("once", env={**used, "OTEL_EXPORTER_OTLP_TIMEOUT": "2"})
        assert done.returncode == 1, done.stderr
        assert "Not delivered: beacon" in done.stderr


def test_flush_does_not_wait_for_what_it_has_sent_and_can_not_remove(
    alone: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    pile_up(state_dir, 3)
    with HttpSink() as sink, read_only(state_dir):
        used = {**alone, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        began = time.monotonic()
        exporter("spool", "--flush", env={**used, "OTEL_EXPORTER_OTLP_TIMEOUT": "60"}, timeout=300)
        assert time.monotonic() - began < 60
        assert len(sink.requests) == 3


def test_usage_reports_that_wait_leave_though_no_database_is_named_any_more(
    alone: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    pile_up(state_dir, 2, "usage")
    with HttpSink() as sink:
        used = {**alone, "NOVU_TELEMETRY": "on", "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        done = exporter("spool", "--flush", env=used)
        assert (done.returncode, done.stdout) == (0, "Nothing waits.\n")
        assert [request.body for request in sink.requests] == [b"\0", b"\1"]


def test_a_reading_that_hangs_to_its_end_still_has_its_report_delivered(
    state_dir: Path, tmp_path: Path
) -> None:
    """As where the resolver of the database's name hangs: the report tells of the failures."""
    released = threading.Event()

    def hang(_: float) -> Database:
        released.wait(60)
        raise NoConnection("it was let go")

    with HttpSink() as sink, StateDirectory.open(state_dir) as state:
        environ = {"MONGO_URL": "mongodb://127.0.0.1:1", "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        exporter = Exporter(
            load(environ, env_file=None, cwd=tmp_path, home=tmp_path),
            state,
            Identity(uuid4(), Origin.CONFIGURED, None),
            Decision(enabled=True, by="the test", changeable=True),
            sources=Sources(figures=lambda _, store: UsageSource(hang, store)),
        )
        exporter.report_and_close(LAST_READING, 30)
        scopes = [otlp_reports.points(report)[0].scope for report in sink.reports]
        released.set()
        assert sorted(scopes) == [otlp_reports.BEACON, otlp_reports.USAGE]


# --- words ---------------------------------------------------------------------------------------


def test_a_server_that_knows_no_tls_is_told_where_tls_was_asked_for() -> None:
    def hang(_: socket.socket, ended: threading.Event) -> None:
        ended.wait(60)

    with Listener(hang) as server:
        url = f"mongodb://127.0.0.1:{server.port}/novu-db"
        for option, hint in (("?tls=true", "; does it speak TLS?"), ("", "")):
            database = NovuDatabase(Secret(url + option), 0.5)
            with pytest.raises(ReadFailed) as failed:
                database.count("users")
            database.close()
            assert failed.value.reason == f"timed out: the server does not answer{hint}"


@pytest.mark.parametrize("end", [reset(), raw(b""), raw(bytes(9) + b"\r\n\r\n")])
def test_a_port_of_another_protocol_is_hinted_at_however_it_ends_the_connection(
    end: HttpAnswer, tmp_path: Path
) -> None:
    with HttpSink(end) as sink:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        used = load(environ, env_file=None, cwd=tmp_path, home=tmp_path)
        outcome = HttpSender(used.otlp).send(b"", 30)
    assert isinstance(outcome, Later)
    assert outcome.why.endswith(
        ": if that lasts, is it a TLS port (https://) or that of gRPC (4317)?"
    )


def test_where_every_figure_failed_for_different_reasons_no_other_goes_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = [figure.name for figure in FIGURES]
    unread.say(Journal(), {**dict.fromkeys(names, "timed out"), names[0]: "refused"}, "none left")
    assert "none left" in caplog.text
    assert "the others go out" not in caplog.text


def test_what_an_earlier_exporter_decided_does_not_bind_an_application(
    alone: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    unset = {**alone, "NOVU_TELEMETRY": ""}
    with StateDirectory.open(state_dir) as state, state.lock("embedded"):
        keep_decision(state, Decision(enabled=True, by="NOVU_TELEMETRY", changeable=False))
        done = exporter("telemetry", "disable", env=unset)
        assert (done.returncode, done.stderr) == (0, "")
        assert read_admin(state) is Admin.OFF


def test_an_application_short_of_files_does_not_lose_the_admins_setting(mongo_url: str) -> None:
    script = """
import os, resource, sys, time
from pathlib import Path
from opentelemetry.sdk.metrics import MeterProvider
import otel_novu
with otel_novu.register_usage(MeterProvider(), interval=3600) as usage:
    end = time.monotonic() + 60
    while usage.current() is None and time.monotonic() < end:
        time.sleep(0.05)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
    time.sleep(7)  # it looks every five seconds
    seen = usage.current()
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print("on" if seen is not None else "off")
"""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={
                "PATH": os.environ["PATH"],
                "MONGO_URL": mongo_url,
                "OTEL_NOVU_STATE_DIR": f"{folder}/state",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "on\n"), done.stderr


# --- one report ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_report_that_is_interrupted_on_its_way_is_kept_and_told_without_a_false_warning(
    number: signal.Signals, code: int, alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    with HttpSink(hang()) as sink:
        running = exporter.start("once", env={**alone, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base})
        eventually(lambda: sink.connections)
        running.send(number)
        assert running.wait() == code
    assert running.wait_for("Interrupted").endswith("1 reports wait in the spool.")
    assert len(running.stderr) == 1
    with HttpSink() as sink:
        done = exporter("once", env={**alone, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base})
        assert done.returncode == 0
        assert len(sink.reports) == 2


def test_one_report_tells_that_usage_is_off_because_the_setting_can_not_be_read(
    alone: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    (state_dir / "telemetry").write_text("garbage")
    with HttpSink() as sink:
        used = {**alone, "NOVU_TELEMETRY": "", "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}
        done = exporter("once", env=used)
    assert done.returncode == 1
    assert "can't be read; `otel-novu telemetry enable` or `disable` writes it anew" in done.stderr
    assert "Delivered" in done.stderr


@pytest.mark.parametrize(
    "switch", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_METRICS_EXPORTER": "none"}]
)
def test_one_report_that_goes_nowhere_does_not_claim_that_something_was_sent(
    switch: Mapping[str, str], alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    done = exporter("once", env={**alone, "NOVU_TELEMETRY": "", **switch})
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "Reports go nowhere" in done.stderr


def test_the_end_of_a_run_tells_what_waits_until_usage_is_on_again(
    alone: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    pile_up(state_dir, 3, "usage")
    with HttpSink() as sink:
        running = exporter.start("run", env={**alone, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base})
        eventually(lambda: sink.reports)
        assert running.terminate() == 0
    assert "3 of them until usage figures are on again" in running.stderr[-1]


def test_a_last_attempt_in_a_hurry_is_no_new_failure(
    alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    with HttpSink(hang()) as sink:
        used = {
            **alone,
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
        }
        running = exporter.start("run", env=used)
        running.wait_for("no complete answer")
        assert running.terminate() == 0
    assert sum("no complete answer" in line for line in running.stderr) == 1
