"""Runs what the README tells a newcomer to type."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import novu_data
import pytest
import stack as stack_module
import yaml
from pymongo.database import Database
from servers import ExporterRunner, PrometheusClient

from otel_novu.settings import VARIABLES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every command of the README, one a line, continuation lines joined, comments cut off."""
    joined = "".join(blocks("sh")).replace("\\\n", " ")
    lines = (re.sub(r"\s+#.*", "", line).strip() for line in joined.splitlines())
    return [re.sub(r"\s+", " ", line) for line in lines if line]


PIP = "pip install ."
RUN = (
    "MONGO_URL='mongodb://root:secret@localhost:27017/novu-db?authSource=admin' "
    "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 otel-novu run"
)
DOCKER = "docker compose -f examples/stack/compose.yaml up"
MAKE = ["make demo", "make test", "make check"]
EXPORTER = ["otel-novu show", "otel-novu check", "otel-novu once", "otel-novu health"]


def test_every_command_of_the_readme_is_known_to_these_tests() -> None:
    assert sorted(commands()) == sorted([PIP, RUN, DOCKER, *MAKE, *EXPORTER])


@pytest.mark.parametrize("command", MAKE)
def test_make_knows_the_verb(command: str) -> None:
    done = subprocess.run([*command.split(), "-n"], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0


def test_the_demo_ends_with_a_table_in_which_all_is_equal(stack: stack_module.Servers) -> None:
    # `make demo` calls this; make itself would set the environment up anew.
    done = subprocess.run(
        [sys.executable, "examples/stack/demo.py"],
        cwd=ROOT,
        env={**os.environ, **stack.as_variables()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of them differ or are missing." in done.stdout
    assert "otel_novu run" in done.stdout


@pytest.mark.long
def test_the_two_commands_bring_figures_into_the_collector(
    stack: stack_module.Servers,
    mongo_url: str,
    instance_id: str,
    prometheus: PrometheusClient,
    tmp_path: Path,
    shell: Callable[..., subprocess.Popen[str]],
) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    clone = shutil.copytree(
        ROOT, tmp_path / "clone", ignore=shutil.ignore_patterns(".venv", ".git", "*cache*")
    )
    pip = [str(venv / "bin" / "python"), "-m", *PIP.split(), "--quiet"]
    subprocess.run(pip, cwd=clone, check=True, capture_output=True)
    there = RUN.replace("mongodb://root:secret@localhost:27017/novu-db?authSource=admin", mongo_url)
    there = there.replace("http://localhost:4318", stack.otlp_http)
    process = shell(there, venv / "bin", instance_id)
    prometheus.eventually(f'novu_beacon_timestamp_seconds{{instance="{instance_id}"}}')
    process.terminate()
    assert process.wait(240) == 0


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    def start(line: str, programs: Path, instance: str) -> subprocess.Popen[str]:
        env = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "OTEL_NOVU_INSTANCE_ID": instance,
        }
        # `exec`, so that the signal reaches the exporter and not the shell.
        line = line.replace("otel-novu run", "exec otel-novu run")
        return subprocess.Popen(
            ["bash", "-c", line],
            cwd=tmp_path,
            env=env,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    return start


def test_the_commands_that_ask_whether_all_is_well_say_yes(
    exporter: ExporterRunner,
    stack: stack_module.Servers,
    mongo_url: str,
    database: Database[Any],
    state_dir: Path,
) -> None:
    novu_data.load(database, seed=1, size="small", now=datetime.now(UTC))
    env = {
        "MONGO_URL": mongo_url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.otlp_http,
        "OTEL_NOVU_STATE_DIR": str(state_dir),
    }
    for command in EXPORTER[:3]:
        done = exporter(*command.split()[1:], env=env)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    running = exporter.start("run", env=env)
    running.wait_for("reports to")
    assert exporter("health", env=env).returncode == 0
    assert running.terminate() == 0


def test_the_compose_file_that_the_readme_names_brings_up_all_that_it_promises() -> None:
    # By form, as there may be no Docker engine; tests/test_containers.py looks at the rest.
    services = yaml.safe_load((ROOT / DOCKER.split()[3]).read_text())["services"]
    assert {"database", "exporter", "collector", "prometheus", "grafana"} <= set(services)


def test_the_lines_for_a_collector_of_ones_own_are_a_whole_configuration(tmp_path: Path) -> None:
    (snippet,) = blocks("yaml")
    assert len(snippet.splitlines()) == 3
    config = tmp_path / "collector.yaml"
    config.write_text(snippet)
    assert set(yaml.safe_load(snippet)) == {"receivers", "exporters", "service"}
    assert stack_module.validate(config, stack_module.build()) == ""


def test_the_readme_lists_every_command_of_the_program(exporter: ExporterRunner) -> None:
    table = README[README.index("| command | what it does |") :]
    listed = set(re.findall(r"^\| `([a-z-]+)", table, re.MULTILINE))
    usage = exporter("--help").stdout
    known = set(re.findall(r"^    ([a-z-]+)  ", usage, re.MULTILINE))
    assert known
    assert known <= listed


def test_the_readme_names_no_variable_that_the_settings_do_not_know() -> None:
    known = {name for row in VARIABLES for name in row.names} | {"OTEL_NOVU_CACHE"}
    named = set(re.findall(r"`((?:OTEL|NOVU|MONGO)_[A-Z_]*[A-Z])[`=]", README))
    assert named <= known


def test_the_files_that_the_readme_links_to_exist() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    links += re.findall(r'(?:src|srcset)="([^"]+)"', README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
