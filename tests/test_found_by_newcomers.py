"""What a newcomer stumbled over: words that were not true, silence, and a command that hung."""

import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from receivers import HttpSink
from servers import EXPORTER, ExporterRunner, eventually, in_bash
from stack import free_port

from otel_novu.state import last_report
from otel_novu.state.directory import StateDirectory

SECRET = "S3CRETMARK0123456789"
# Far more than a command takes, far less than for ever.
SOON = 60.0


@pytest.fixture
def beacon_alone(state_dir: Path, sink: HttpSink) -> dict[str, str]:
    return {
        "NOVU_TELEMETRY": "off",
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
    }


def away(environment: Mapping[str, str]) -> dict[str, str]:
    """The same instance with a collector that is not there."""
    return {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}


def with_usage(environment: Mapping[str, str], mongo_url: str) -> dict[str, str]:
    rest = {name: value for name, value in environment.items() if name != "NOVU_TELEMETRY"}
    return {**rest, "MONGO_URL": mongo_url}


# --- what is due next ----------------------------------------------------------------------------


def test_nothing_is_due_where_nobody_runs(
    beacon_alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    assert exporter("once", env=beacon_alone).returncode == 0
    last = exporter("show", "--last", env=beacon_alone).stderr
    assert "; none is due.\n" in last
    assert "the next" not in last
    assert "; none is due.\n" in exporter("telemetry", "status", env=beacon_alone).stdout
    document = json.loads(exporter("telemetry", "status", "--json", env=beacon_alone).stdout)
    assert document["last"]["beacon"]["next_due"] is None


def test_the_next_report_is_due_where_run_holds_the_directory(
    beacon_alone: Mapping[str, str], state_dir: Path, exporter: ExporterRunner
) -> None:
    running = exporter.start("run", env=beacon_alone)
    eventually((state_dir / "last-report-beacon.json").exists)
    for command in (("show", "--last"), ("telemetry", "status")):
        done = exporter(*command, env=beacon_alone)
        assert "; the next is due " in done.stdout + done.stderr
    document = json.loads(exporter("telemetry", "status", "--json", env=beacon_alone).stdout)
    assert document["last"]["beacon"]["next_due"].endswith("Z")
    with StateDirectory.open(state_dir) as state:
        report = last_report.load(state, "beacon")
        assert report is not None
        last_report.save(state, replace(report, next_due=time.time() - 100))
    for command in (("show", "--last"), ("telemetry", "status")):
        done = exporter(*command, env=beacon_alone)
        assert "; the next was due " in done.stdout + done.stderr
    assert running.terminate() == 0


def test_no_usage_report_is_due_once_usage_figures_are_off(
    beacon_alone: Mapping[str, str], mongo_url: str, state_dir: Path, exporter: ExporterRunner
) -> None:
    environment = with_usage(beacon_alone, mongo_url)
    running = exporter.start("run", env=environment)
    eventually((state_dir / "last-report-usage.json").exists)
    assert exporter("telemetry", "disable", env=environment).returncode == 0
    running.wait_for("Usage figures are off now")
    last = eventually(
        lambda: exporter("show", "--last", env=environment).stderr,
        lambda said: said.count("none is due") == 1,
        SOON,
    )
    assert last.count("the next is due") == 1
    assert last.index("the next is due") < last.index("none is due")
    assert running.terminate() == 0


# --- files that are none -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "MONGO_URL_FILE",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    ],
)
def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(
    name: str, beacon_alone: Mapping[str, str], tmp_path: Path, exporter: ExporterRunner
) -> None:
    os.mkfifo(tmp_path / "pipe")
    environment = {**beacon_alone, name: str(tmp_path / "pipe")}
    done = exporter("telemetry", "status", env=environment, timeout=SOON)
    assert (done.returncode, done.stdout) == (2, "")
    told = f"otel-novu: {name} names the file {tmp_path}/pipe, which is no regular file; accepted: "
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["tlsCAFile", "tlsCertificateKeyFile"])
def test_a_pipe_in_the_place_of_a_file_that_the_url_names_is_refused_at_once(
    option: str, beacon_alone: Mapping[str, str], tmp_path: Path, exporter: ExporterRunner
) -> None:
    os.mkfifo(tmp_path / "pipe")
    url = f"mongodb://127.0.0.1:1/novu-db?tls=true&{option}={tmp_path}/pipe"
    done = exporter("once", env={**beacon_alone, "MONGO_URL": url}, timeout=SOON)
    assert done.returncode == 2
    assert done.stderr == (
        "otel-novu: MONGO_URL can't be used: the file of the URL's option "
        f"{option} is no regular file\n"
    )


def test_a_symbolic_link_to_a_file_is_followed(
    beacon_alone: Mapping[str, str], tmp_path: Path, exporter: ExporterRunner
) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "url").write_text("mongodb://127.0.0.1:1/novu-db")
    (tmp_path / "url").symlink_to("..data/url")
    trustme.CA().cert_pem.write_to_path(tmp_path / "..data" / "ca.pem")
    (tmp_path / "ca.pem").symlink_to("..data/ca.pem")
    (tmp_path / "..data" / "variables").write_text("NOVU_TELEMETRY=off\n")
    (tmp_path / "variables").symlink_to("..data/variables")
    environment = {
        "OTEL_NOVU_STATE_DIR": beacon_alone["OTEL_NOVU_STATE_DIR"],
        "MONGO_URL_FILE": str(tmp_path / "url"),
        "OTEL_EXPORTER_OTLP_CERTIFICATE": str(tmp_path / "ca.pem"),
    }
    arguments = ("telemetry", "status", "--env-file", str(tmp_path / "variables"))
    done = exporter(*arguments, env=environment, timeout=SOON)
    assert (done.returncode, done.stderr) == (0, "")
    assert "off, decided by NOVU_TELEMETRY" in done.stdout


def test_an_env_file_may_be_what_a_program_writes(state_dir: Path) -> None:
    script = f'"{EXPORTER[0]}" telemetry status --env-file <(sleep 0.5; echo NOVU_TELEMETRY=off)'
    done = in_bash(script, {"OTEL_NOVU_STATE_DIR": str(state_dir)}, state_dir, SOON)
    assert (done.returncode, done.stderr) == (0, "")
    assert "off, decided by NOVU_TELEMETRY" in done.stdout


def test_an_env_file_may_be_a_named_pipe_that_is_written_to(
    state_dir: Path, tmp_path: Path, exporter: ExporterRunner
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("NOVU_TELEMETRY=off\n",), daemon=True)
    writer.start()
    environment = {"OTEL_NOVU_STATE_DIR": str(state_dir)}
    arguments = ("telemetry", "status", "--env-file", str(pipe))
    done = exporter(*arguments, env=environment, timeout=SOON)
    assert (done.returncode, done.stderr) == (0, "")
    assert "off, decided by NOVU_TELEMETRY" in done.stdout
    writer.join(SOON)


def test_an_env_file_that_nobody_writes_to_is_refused_and_does_not_hang(
    beacon_alone: Mapping[str, str], tmp_path: Path, exporter: ExporterRunner
) -> None:
    os.mkfifo(tmp_path / "pipe")
    arguments = ("telemetry", "status", "--env-file", str(tmp_path / "pipe"))
    done = exporter(*arguments, env=beacon_alone, timeout=SOON)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path}/pipe can't be read (it is a pipe without an end for " in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_env_file_from_a_program_that_wrote_nothing_is_refused(state_dir: Path) -> None:
    script = f'"{EXPORTER[0]}" telemetry status --env-file <(false)'
    done = in_bash(script, {"OTEL_NOVU_STATE_DIR": str(state_dir)}, state_dir, SOON)
    assert (done.returncode, done.stdout) == (2, "")
    assert "can't be read (it is a pipe, and empty)" in done.stderr


def test_no_variables_at_all_may_be_asked_for(
    beacon_alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    done = exporter("telemetry", "status", "--env-file", os.devnull, env=beacon_alone)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_passed_over_in_the_place_of_the_env_file_is_told(
    make: object, beacon_alone: Mapping[str, str], tmp_path: Path, exporter: ExporterRunner
) -> None:
    assert callable(make)
    make(tmp_path / ".env")
    arguments = ("telemetry", "status")
    done = exporter(*arguments, env=beacon_alone, cwd=tmp_path, timeout=SOON)
    assert done.returncode == 0
    kind = "directory" if make is os.mkdir else "pipe"
    assert f" WARNING .env in the working directory is a {kind}, and is passed over" in done.stderr
    assert done.stderr.count("\n") == 1


# --- the file of the URL -------------------------------------------------------------------------


def test_a_bad_url_in_a_file_is_told_with_the_files_name(
    beacon_alone: Mapping[str, str], tmp_path: Path, exporter: ExporterRunner
) -> None:
    (tmp_path / "url").write_text(f"http://root:{SECRET}@host/")
    environment = {**beacon_alone, "MONGO_URL_FILE": str(tmp_path / "url")}
    done = exporter("telemetry", "status", env=environment)
    assert done.returncode == 2
    told = (
        f"otel-novu: MONGO_URL_FILE names the file {tmp_path}/url, which can't be used: it begins"
    )
    assert done.stderr.startswith(told)
    assert SECRET not in done.stderr


def test_a_byte_order_mark_before_the_url_is_none_of_it(
    beacon_alone: Mapping[str, str], tmp_path: Path, exporter: ExporterRunner
) -> None:
    (tmp_path / "url").write_text("mongodb://127.0.0.1:1/novu-db\r\n", encoding="utf-8-sig")
    environment = {**beacon_alone, "MONGO_URL_FILE": str(tmp_path / "url")}
    done = exporter("telemetry", "status", env=environment)
    assert (done.returncode, done.stderr) == (0, "")


# --- spool ---------------------------------------------------------------------------------------


def test_spool_tells_which_reports_wait_until_usage_figures_are_on_again(
    beacon_alone: Mapping[str, str], mongo_url: str, exporter: ExporterRunner
) -> None:
    environment = away(with_usage(beacon_alone, mongo_url))
    assert exporter("once", env=environment).returncode == 1
    assert exporter("spool", env=environment).stdout.endswith("2 reports wait for delivery.\n")
    assert exporter("telemetry", "disable", env=environment).returncode == 0
    done = exporter("spool", env=environment)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == (
        "2 reports wait for delivery, 1 of them (usage) until usage figures are on again."
    )


def test_flush_beside_run_says_first_whom_it_asked_and_how_long_it_waits(
    beacon_alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    environment = {**away(beacon_alone), "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5"}
    running = exporter.start("run", env=environment)
    running.wait_for("nothing listens at")
    flush = exporter.start("spool", "--flush", env=environment)
    flush.wait_for(rf"^Asked process {running.pid} \(run\) to send; waiting up to 10.5 seconds\.$")
    assert flush.running
    assert flush.wait() == 1
    assert running.terminate() == 0


# --- words and numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["enable", "disable"])
def test_json_is_of_telemetry_status_alone(
    action: str, state_dir: Path, exporter: ExporterRunner
) -> None:
    environment = {"OTEL_NOVU_STATE_DIR": str(state_dir)}
    done = exporter("telemetry", action, "--json", env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"otel-novu: --json can't go with `telemetry {action}`; accepted")
    assert list(state_dir.iterdir()) == []


@pytest.mark.parametrize("word", ["1", "garbage", SECRET, " "])
@pytest.mark.parametrize("command", ["run", "once", "check"])
def test_a_word_that_is_no_truth_value_disables_nothing_and_is_told_once(
    word: str, command: str, beacon_alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    environment = {**beacon_alone, "OTEL_SDK_DISABLED": word}
    running = exporter.start(command, env=environment)
    if command == "run":
        running.wait_for("reports to")
        assert running.terminate() == 0
    else:
        assert running.wait() == 0
    told = " WARNING OTEL_SDK_DISABLED is neither true nor false and is taken as false, "
    assert len([line for line in running.stderr if told in line]) == 1
    assert not [line for line in running.stderr if SECRET in line]


@pytest.mark.parametrize("word", ["true", "False", "FALSE"])
def test_a_truth_value_is_told_nothing_about(
    word: str, beacon_alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    done = exporter("telemetry", "status", env={**beacon_alone, "OTEL_SDK_DISABLED": word})
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("-1", "is too small"),
        ("-64MiB", "is too small"),
        ("1" + "0" * 26, "is too large"),
        ("9" * 5000 + "GiB", "is too large"),
    ],
)
def test_a_size_beyond_the_bounds_is_told_as_such(
    text: str, fault: str, beacon_alone: Mapping[str, str], exporter: ExporterRunner
) -> None:
    environment = {**beacon_alone, "OTEL_NOVU_SPOOL_MAX_BYTES": text}
    done = exporter("telemetry", "status", env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith(f"otel-novu: OTEL_NOVU_SPOOL_MAX_BYTES {fault}; accepted: bytes,")
    assert "from 64KiB to 1024GiB" in done.stderr
