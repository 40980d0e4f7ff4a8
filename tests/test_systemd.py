"""The systemd unit: systemd's own checks, and the exporter as the unit starts it."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest
from servers import ExporterRunner

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "examples" / "systemd" / "otel-novu.service"
TEXT = UNIT.read_text()
SET_MEMORY_DENY_WRITE_EXECUTE = 65  # prctl(2), since Linux 6.3


def section(name: str) -> dict[str, str]:
    """One section; of a setting that occurs twice, the last one."""
    parser = RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as typeshed wants it
    parser.read_string(TEXT)
    return dict(parser[name])


SERVICE = section("Service")


@pytest.fixture(scope="module")
def systemd_analyze() -> str:
    if not shutil.which("systemd-analyze") and os.geteuid() == 0:
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "systemd"]
        subprocess.run(install, capture_output=True, check=False)
    found = shutil.which("systemd-analyze")
    assert found, "this test needs systemd-analyze"
    return found


def test_systemd_accepts_every_line(systemd_analyze: str, tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    program = shlex.split(SERVICE["ExecStart"])[0]
    copy.write_text(TEXT.replace(program, sys.executable))  # it must exist
    command = [systemd_analyze, "verify", "--man=no", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if UNIT.stem in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


def test_systemd_rates_the_exposure_as_low(systemd_analyze: str) -> None:
    command = [systemd_analyze, "security", "--offline=yes", "--threshold=15", "--no-pager"]
    done = subprocess.run([*command, str(UNIT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    assert re.search(r"exposure level for otel-novu.service: 1\.\d OK", done.stdout)


def test_the_secret_is_a_credential_and_the_state_is_the_services_own() -> None:
    name, _, source = SERVICE["LoadCredential"].partition(":")
    assert SERVICE["Environment"] == f"MONGO_URL_FILE=%d/{name}"
    assert f"install -m 600 /dev/stdin {source}" in TEXT
    folder = SERVICE["StateDirectory"]
    assert (SERVICE["DynamicUser"], SERVICE["StateDirectoryMode"]) == ("yes", "0700")
    assert f"/var/lib/{folder}" in TEXT
    command = TEXT.partition("systemd-run")[2].partition("\n#\n")[0]
    for setting in ("DynamicUser", "User", "StateDirectory"):
        assert f"-p {setting}={SERVICE[setting]}" in command


def test_the_exporter_runs_as_the_unit_starts_it(tmp_path: Path, exporter: ExporterRunner) -> None:
    private = tmp_path / "private" / "otel-novu"  # as DynamicUser makes it
    private.mkdir(parents=True, mode=0o700)
    state = tmp_path / "otel-novu"
    state.symlink_to("private/otel-novu")
    (tmp_path / "mongo-url").write_text("mongodb://127.0.0.1:9/novu-db\n")
    name, _, value = SERVICE["Environment"].partition("=")
    env = {name: value.replace("%d", str(tmp_path)), "STATE_DIRECTORY": str(state)}
    env |= {"NOVU_TELEMETRY": "false", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    running = exporter.start(*shlex.split(SERVICE["ExecStart"])[1:], env=env)
    running.wait_for("reports to")
    assert exporter("health", env=env).returncode == 0
    assert re.fullmatch(r"/bin/kill -HUP \$MAINPID", SERVICE["ExecReload"])
    running.send(signal.SIGHUP)
    assert running.terminate(float(SERVICE["TimeoutStopSec"])) == 0
    assert (private / "state.db").exists()
    bad = exporter("run", env={**env, "NOVU_TELEMETRY": "perhaps"})
    assert str(bad.returncode) == SERVICE["RestartPreventExitStatus"]


def test_what_otel_novu_imports_loads_without_writable_executable_memory() -> None:
    # As MemoryDenyWriteExecute does it; an older kernel ignores the call.
    deny = f"import ctypes; ctypes.CDLL(None).prctl({SET_MEMORY_DENY_WRITE_EXECUTE}, 1, 0, 0, 0)"
    load = "import grpc, psutil, pymongo, otel_novu.exporter, otel_novu.report"
    subprocess.run([sys.executable, "-c", f"{deny}\n{load}"], check=True)
