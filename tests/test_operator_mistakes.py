"""What an operator got wrong once, by the process: each was found by somebody who tried."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from servers import EXPORTER, ExporterRunner
from stack import free_port


@pytest.fixture
def environment(state_dir: Path) -> dict[str, str]:
    """A database and a collector that are not there, in addresses that are lawful."""
    return {
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "MONGO_URL": f"mongodb://127.0.0.1:{free_port()}/novu-db",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_NOVU_QUERY_TIMEOUT": "1",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }


def with_option(environment: Mapping[str, str], option: str) -> dict[str, str]:
    return {**environment, "MONGO_URL": f"{environment['MONGO_URL']}?{option}"}


def test_a_mistyped_option_of_the_url_is_named_and_left_out(
    exporter: ExporterRunner, environment: dict[str, str]
) -> None:
    done = exporter("once", env=with_option(environment, "authSorce=admin"))
    assert "MONGO_URL's option authSorce is not understood and is left out" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("option", ["tlsCAFile=/nowhere.pem", "authMechanism=none-such"])
@pytest.mark.parametrize("command", ["run", "once"])
def test_an_option_of_trust_or_identity_that_can_not_be_used_is_bad_input(
    exporter: ExporterRunner, environment: dict[str, str], command: str, option: str
) -> None:
    done = exporter(command, env=with_option(environment, option))
    assert done.returncode == 2
    assert done.stderr.startswith("otel-novu: MONGO_URL can't be used: ")
    assert option.partition("=")[0] in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_check_tells_of_such_an_option_and_goes_on_to_the_collector(
    exporter: ExporterRunner, environment: dict[str, str]
) -> None:
    done = exporter("check", env=with_option(environment, "tlsCAFile=/nowhere.pem"))
    assert done.returncode == 1
    assert "tlsCAFile" in done.stdout
    assert "WRONG  collector:" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NOVU_TELEMETY", "NOVU_TELEMETRY"),
        ("NOVU_TELEMETRY_ENABLED", "NOVU_TELEMETRY"),
        ("OTEL_METRICS_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_INTERVAL"),
        ("OTEL_EXPORTER_OTLP_ENDPOIN", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ],
)
def test_a_mistyped_name_of_a_variable_is_warned_of(
    exporter: ExporterRunner, environment: dict[str, str], name: str, meant: str
) -> None:
    done = exporter("health", env={**environment, name: "false"})
    assert f"the variable {name} means nothing to otel-novu; did you mean {meant}?" in done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_LOGS_EXPORTER",
        "OTEL_TRACES_EXPORTER",
        "OTEL_METRIC_EXPORT_TIMEOUT",
        "OTEL_NOVU_CACHE",
    ],
)
def test_a_variable_of_another_part_is_not_warned_of(
    exporter: ExporterRunner, environment: dict[str, str], name: str
) -> None:
    done = exporter("health", env={**environment, name: "x"})
    assert name not in done.stderr


def test_a_pipe_in_the_place_of_the_env_file_holds_nothing_up(
    exporter: ExporterRunner, environment: dict[str, str], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / ".env")
    done = exporter("telemetry", "status", env=environment, cwd=tmp_path)
    assert done.returncode == 0


def test_the_root_of_the_file_system_is_no_state_directory(
    exporter: ExporterRunner, environment: dict[str, str]
) -> None:
    done = exporter("once", env={**environment, "OTEL_NOVU_STATE_DIR": "/"})
    assert done.returncode == 2
    assert "is the root of the file system" in done.stderr


def test_counters_that_can_not_be_read_are_told_with_the_remedy_in_one_line(
    exporter: ExporterRunner, environment: dict[str, str], state_dir: Path
) -> None:
    (state_dir / "created.json").write_text("{")
    done = exporter("once", env=environment)
    assert "Traceback" not in done.stderr
    assert (state_dir / "created.json").read_text() == "{"


def test_a_query_timeout_that_nothing_can_meet_is_told_as_such(
    exporter: ExporterRunner, environment: dict[str, str]
) -> None:
    done = exporter("once", env={**environment, "OTEL_NOVU_QUERY_TIMEOUT": "0.001"})
    assert done.returncode == 1
    assert "could not be read: timed out" in done.stderr


@pytest.mark.parametrize("delay", [0.02, 0.05, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("command", ["check", "once", "show"])
def test_ctrl_c_at_any_moment_ends_without_a_traceback(
    environment: dict[str, str], tmp_path: Path, command: str, delay: float
) -> None:
    process = subprocess.Popen(
        [*EXPORTER, command],
        env={**environment, "PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=240)
    # Until its first line runs the interpreter itself says what happened; not ours to mend.
    ours = [line for line in said.splitlines() if re.search(r"/otel_novu/(?!__)", line)]
    assert not ours
