"""The command line: options before and after the command, and the help of each command."""

import re
from pathlib import Path

import pytest
from servers import ExporterRunner

COMMANDS = ("run", "once", "show", "check", "health", "telemetry", "spool", "reset-id", "metrics")


@pytest.fixture
def env_file(tmp_path: Path) -> str:
    file = tmp_path / "novu.env"
    file.write_text("NOVU_TELEMETRY=off\nOTEL_NOVU_STATE_DIR=state\n")
    return str(file)


@pytest.mark.parametrize("form", ["{0} telemetry status", "telemetry {0} status", "telemetry {0}"])
def test_options_work_before_and_after_the_command(
    form: str, env_file: str, exporter: ExporterRunner
) -> None:
    done = exporter(*form.format(f"--env-file {env_file} --verbose").split())
    assert (done.returncode, done.stderr) == (0, "")
    assert "off, decided by NOVU_TELEMETRY" in done.stdout


def test_an_option_after_the_command_wins(env_file: str, exporter: ExporterRunner) -> None:
    done = exporter("--env-file", "/nowhere", "telemetry", "--env-file", env_file)
    assert (done.returncode, done.stderr) == (0, "")
    done = exporter("--env-file", "/nowhere", "telemetry")
    assert (done.returncode, "/nowhere" in done.stderr) == (2, True)


@pytest.mark.parametrize("form", ["{0} spool", "spool {0}"])
def test_verbose_wins_over_the_log_level(form: str, exporter: ExporterRunner) -> None:
    env = {"OTEL_LOG_LEVEL": "error", "OTEL_SDK_DISABLED": "1"}
    assert exporter(*form.format("").split(), env=env).stderr == ""
    assert (
        "WARNING OTEL_SDK_DISABLED" in exporter(*form.format("--verbose").split(), env=env).stderr
    )


def test_telemetry_alone_shows_the_status(exporter: ExporterRunner) -> None:
    assert exporter("telemetry").stdout == exporter("telemetry", "status").stdout
    assert (
        exporter("telemetry", "--json").stdout == exporter("telemetry", "status", "--json").stdout
    )


def test_no_warning_of_a_library_is_shown(exporter: ExporterRunner) -> None:
    # Of such names, pymongo warns that they are no MongoDB.
    env = {"MONGO_URL": "mongodb://novu.docdb.amazonaws.com", "OTEL_NOVU_QUERY_TIMEOUT": "1"}
    done = exporter("once", env={**env, "OTEL_METRICS_EXPORTER": "console"})
    assert "MongoDB at novu.docdb.amazonaws.com" in done.stderr
    assert not [line for line in done.stderr.splitlines() if not re.match(r"\S+Z [A-Z]+ ", line)]


@pytest.mark.parametrize("words", [("on", "enable"), ("off", "disable")])
def test_on_and_off_are_words_for_enable_and_disable(
    words: tuple[str, str], exporter: ExporterRunner
) -> None:
    first, second = (exporter("telemetry", word) for word in words)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == second.stdout
    assert f"Usage figures are {words[0]} from now on" in first.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_one_example_and_a_link(
    command: str, exporter: ExporterRunner
) -> None:
    shown = exporter(command, "--help").stdout
    (example,) = re.findall("^example: otel-novu (.+)$", shown, re.MULTILINE)
    assert example.split()[0] == command
    assert exporter(*example.split(), "--help").returncode == 0
    assert all(word in shown for word in example.split()[1:] if word.startswith("--"))
    assert re.search("^docs: https://github.com/[^ ]+/docs$", shown, re.MULTILINE)
    assert "/docs/settings.md\n" in exporter("--help").stdout
