"""The first hour on a fresh account: installed from the wheel, configured, run, and stopped."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.case import ONE_REPORT, STOP_SECONDS, Case
from contract.test_database_faults import NAMES, PASSWORD, figures, usage_reports
from faults import Gate
from servers import ExporterRunner, eventually
from stack import free_port

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parents[2]
UV = str(Path(sys.executable).with_name("uv"))
INSTALLERS = {
    "uv": [UV, "tool", "install"],
    "pipx": [UV, "tool", "run", "pipx", "install"],
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module", params=INSTALLERS)
def installed(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ExporterRunner]:
    """The installed command, on an account that has nothing but a home."""
    home = tmp_path_factory.mktemp("home")
    env = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    command = [*INSTALLERS[request.param], "--python", sys.executable, str(wheel)]
    done = subprocess.run(
        command, env=env | {"HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    runner = ExporterRunner(home, [str(home / ".local/bin/otel-novu")])
    yield runner
    runner.close()


@pytest.fixture
def fresh(installed: ExporterRunner, novu: Case) -> Case:
    """The installed command, with data in its database, and its state in the user's home."""
    env = {name: text for name, text in novu.env.items() if name != "OTEL_NOVU_STATE_DIR"}
    return Case(installed, novu.state, novu.sink, env | ONE_REPORT)


def test_the_first_hour(fresh: Case, mongo_url: str) -> None:
    assert re.fullmatch(r"otel-novu \S+\n", fresh("--version").stdout)
    shown = fresh("show")
    assert (shown.returncode, shown.stdout.count('"timestamp"')) == (0, 2)
    checked = fresh("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr

    wrong = fresh("once", MONGO_URL=mongo_url.replace("root:secret", f"root:{PASSWORD}"))
    assert (wrong.returncode, "(code 18)" in wrong.stderr) == (1, True)
    assert PASSWORD not in wrong.stdout + wrong.stderr
    before = len(usage_reports(fresh))

    port, server = free_port(), mongo_url.rpartition("@")[2].partition("/")[0]
    late = mongo_url.replace(server, f"127.0.0.1:{port}")
    running = fresh.start(MONGO_URL=late)
    running.wait_for("refuses connections")
    with Gate(mongo_url, port=port):
        eventually(lambda: any(figures(each) == NAMES for each in usage_reports(fresh)[before:]))
        running.send(signal.SIGINT)
        assert running.wait(STOP_SECONDS) == 0
    assert running.stderr[-1].endswith("INFO Stopped; every report was delivered.")
    assert (fresh.exporter.home / ".local/state/otel-novu/state.db").is_file()
