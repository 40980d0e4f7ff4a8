"""The command line itself: what it takes, how it ends, and where its words go."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from receivers import HttpSink, hang
from servers import ExporterRunner

from otel_novu import __version__
from otel_novu.cli import main

COMMANDS = {
    "run": ["--env-file", "--verbose"],
    "once": ["--env-file"],
    "show": ["--otlp", "--last", "--queries", "--json"],
    "check": ["--json"],
    "health": ["--env-file"],
    "telemetry": ["status", "enable", "disable", "--json"],
    "spool": ["--flush", "--json"],
    "reset-id": ["--env-file"],
    "metrics": ["--json", "--markdown", "--settings"],
}


@pytest.fixture
def module(tmp_path: Path) -> ExporterRunner:
    """`python -m otel_novu`."""
    return ExporterRunner(tmp_path, (sys.executable, "-m", "otel_novu"))


def test_script_and_module_tell_the_same_version(
    exporter: ExporterRunner, module: ExporterRunner
) -> None:
    for run in (exporter, module):
        done = run("--version")
        assert (done.returncode, done.stdout) == (0, f"otel-novu {__version__}\n")


def test_the_help_names_every_command_the_exit_codes_and_the_variables_used_most(
    exporter: ExporterRunner,
) -> None:
    done = exporter("--help")
    assert done.returncode == 0
    listed = re.findall(r"^    ([a-z][a-z-]+)(?: |$)", done.stdout, re.MULTILINE)
    assert listed == list(COMMANDS)
    assert "exit codes: 0 done, 1 something to mend, 2 bad input" in done.stdout
    for variable in ("MONGO_URL", "NOVU_TELEMETRY", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        assert variable in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_that_names_its_options(
    command: str, exporter: ExporterRunner
) -> None:
    done = exporter(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: otel-novu {command}")
    for option in COMMANDS[command]:
        assert option in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["run", "--frobnicate"],
        ["once", "more"],
        ["show", "--otlp", "--last"],
        ["show", "--ot"],
        ["metrics", "--json", "--markdown"],
        ["spool", "--flush", "--json"],
        ["telemetry"],
        ["telemetry", "pause"],
        ["run", "--env-file"],
    ],
    ids=" ".join,
)
def test_what_it_does_not_know_ends_with_2_and_its_usage(
    arguments: list[str], exporter: ExporterRunner
) -> None:
    done = exporter(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("usage: otel-novu")
    assert "error: " in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("reader", ["head -1", "true"])
@pytest.mark.parametrize("command", ["metrics", "metrics --json", "--help"])
def test_a_reader_that_goes_away_is_no_reason_for_a_traceback(
    reader: str, command: str, tmp_path: Path
) -> None:
    program = Path(sys.executable).with_name("otel-novu")
    # Until the reader has gone, nothing is written.
    line = f"{{ sleep 0.2; exec {program} {command}; }} | {reader}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stderr == ""


def test_an_output_that_can_not_be_written_is_told_in_one_sentence(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("otel-novu")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [program, "metrics"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == ("otel-novu: the output can't be written (No space left on device).\n")


def test_an_interrupt_ends_a_command_without_a_traceback(
    state_dir: Path, exporter: ExporterRunner
) -> None:
    with HttpSink(hang()) as sink:
        env = {
            "NOVU_TELEMETRY": "off",
            "OTEL_NOVU_STATE_DIR": str(state_dir),
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "300",
        }
        running = exporter.start("once", env=env)
        sink.wait_for(1)
        running.send(signal.SIGINT)
        assert running.wait(60) == 128 + signal.SIGINT
        assert "Traceback" not in "\n".join(running.stderr)


def test_a_working_directory_that_is_gone_is_told_in_one_sentence(
    tmp_path: Path,
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    program = Path(sys.executable).with_name("otel-novu")
    line = f"rmdir {gone}; exec {program} health"
    done = subprocess.run(
        ["bash", "-c", line], cwd=gone, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "otel-novu: The working directory does not exist any more.\n"


def test_neither_help_nor_a_wrong_setting_loads_a_driver(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from otel_novu.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'opentelemetry', 'pymongo', 'requests', 'grpc', 'psutil'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    for arguments in (["--help"], ["run"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path,
            env={"PATH": os.defpath, "HOME": str(tmp_path), "NOVU_TELEMETRY": "maybe"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr.splitlines()[-1] == "[]"


def test_what_a_variable_misspells_is_warned_of_and_ignored(exporter: ExporterRunner) -> None:
    done = exporter("health", env={"OTEL_NOVU_STATE_DIRECTORY": "/x"})
    assert done.returncode == 1
    assert (
        "the variable OTEL_NOVU_STATE_DIRECTORY means nothing to otel-novu and is ignored; "
        "did you mean OTEL_NOVU_STATE_DIR?"
    ) in done.stderr


def test_main_returns_the_exit_code_to_a_caller_in_the_same_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["metrics", "--json"]) == 0
    assert '"name": "novu.user.count"' in capsys.readouterr().out
