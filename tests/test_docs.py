"""The documentation: its commands, links, tables, and the names that it uses."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import novu_data
import pytest
import yaml
from pymongo.database import Database
from servers import ExporterRunner, PrometheusClient, RunningExporter
from stack import Servers

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.usage import COLLECTIONS, USAGE
from otel_novu.report import make_resource
from otel_novu.settings import VARIABLES, load

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {file.name: file.read_text() for file in (*ROOT.glob("*.md"), *DOCS.glob("*.md"))}
README = PAGES["README.md"]
ROWS: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
SERVERS = (
    "mongodb://root:secret@localhost:27017/novu-db?authSource=admin",
    "http://localhost:4318",
)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def commands() -> Iterator[str]:
    """Yield the commands of all pages, without comments; a quoted text may have several lines."""
    for page in PAGES.values():
        for block in blocks(page, "sh"):
            text = re.sub(r"\\\n\s*", "", re.sub(r"\s+#.*", "", block))
            yield from re.findall(r"(?:[^\n']|'[^']*')+", text)


def file_of(page: str) -> Path:
    return next(file for file in (ROOT / page, DOCS / page) if file.exists())


def cells(table: str) -> list[list[str]]:
    """Return the cells of a Markdown table's lines, without the headings."""
    lines = [line for line in table.splitlines() if re.match(r"\| (label )?`", line)]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


INSTALL = next(command for command in commands() if "pip install" in command)
RUN = next(command for command in commands() if command.endswith("otel-novu run"))


@pytest.mark.parametrize("command", sorted({*commands()} - {INSTALL, RUN}), ids=lambda c: c[:40])
def test_every_command_is_one_that_works(
    command: str, exporter: ExporterRunner, tmp_path: Path
) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        subprocess.run([*words, "-n"], cwd=ROOT, check=True)
    elif words[0] == "otel-novu":
        assert exporter(*words[1:], env={"NOVU_TELEMETRY": "false"}).returncode == 0
    elif words[:3] == ["docker", "compose", "-f"]:
        services = yaml.safe_load((ROOT / words[3]).read_text())["services"]
        assert {"database", "exporter", "collector", "prometheus", "grafana"} <= set(services)
    elif words[:4] == ["docker", "compose", "exec", "mongodb"]:
        [*_, user] = documents = [
            json.loads(found)
            for found in re.findall(r"\((\{.*?^\})\)", words[-1], re.DOTALL | re.MULTILINE)
        ]
        names = {role["role"] for role in user["roles"]}
        assert names == {"read"} or names == {documents[0]["role"]}
        privileges = documents[0].get("privileges", [])
        assert all(privilege["actions"] == ["find"] for privilege in privileges)
        assert {p["resource"]["collection"] for p in privileges} in (set(), set(COLLECTIONS))
    else:
        name, _, url = words[0].partition("=")
        settings = load({name: url}, env_file=None, cwd=tmp_path, home=tmp_path)
        assert settings.mongo_url is not None


def test_commands_and_options_in_the_text_are_those_of_the_program(
    exporter: ExporterRunner,
) -> None:
    known = set(re.findall(r"^    ([a-z-]+)(?:  |$)", exporter("--help").stdout, re.MULTILINE))
    table = README[README.index("| command | what it does |") :].partition("\n\n")[0]
    assert {re.split("[ `]", row[0])[1] for row in cells(table)} == known
    helps = {name: exporter(name, "--help").stdout for name in known}
    for name, page in PAGES.items():
        for words in re.findall(r"`otel-novu ([a-z][^`]*)`", page):
            command, *rest = re.split(r"[ |]", words)
            assert all(word in helps[command] for word in rest), (name, words)
    for row in cells(table):
        command, options = re.split("[ `]", row[0])[1], re.findall(r"`(--[a-z-]+)`", row[1])
        assert all(option in helps[command] for option in options), row


@pytest.mark.contract
@pytest.mark.long
def test_the_quick_start_brings_figures_into_prometheus(
    stack: Servers,
    mongo_url: str,
    database: Database[dict[str, Any]],
    instance_id: str,
    prometheus: PrometheusClient,
    tmp_path: Path,
) -> None:
    novu_data.load(database, seed=1, size="small", now=datetime.now(UTC))
    ignored = shutil.ignore_patterns(".venv", ".git", "*cache*")
    clone = Path(shutil.copytree(ROOT, tmp_path / "clone", ignore=ignored))
    path = f"{clone}/.venv/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {"PATH": path, "HOME": str(tmp_path), "OTEL_NOVU_INSTANCE_ID": instance_id}
    subprocess.run(["bash", "-ec", INSTALL], cwd=clone, env={**os.environ, **env}, check=True)
    run = RUN.replace(SERVERS[0], mongo_url).replace(SERVERS[1], stack.otlp_http)
    running = RunningExporter(["bash", "-c", run], env, tmp_path)
    try:
        prometheus.eventually(f'novu_event_count{{instance="{instance_id}"}}')
        assert running.terminate() == 0
    finally:
        running.close()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_link_leads_to_a_file_or_a_heading(name: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGES[name])
    links += re.findall(r'(?:src|srcset)="([^"]+)"', PAGES[name])
    for link in links:
        place, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (file_of(name).parent / place).resolve() if place else file_of(name)
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            headings = re.findall(r"^#+ (.+)", target.read_text(), re.MULTILINE)
            slugs = [
                re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings
            ]
            assert anchor in slugs, link


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_variable_in_the_text_is_known(name: str) -> None:
    known = {name for variable in VARIABLES for name in variable.names}
    named = set(re.findall(r"`((?:OTEL|NOVU|MONGO)_[A-Z_]*[A-Z])[`=]", PAGES[name])) - known
    stack = [(ROOT / "collector-config.yaml").read_text()]
    stack += [file.read_text() for file in (ROOT / "examples" / "stack").glob("*.py")]
    assert [variable for variable in named if variable not in "\n".join(stack)] == []


def test_the_metrics_page_has_the_tables_that_the_program_prints(exporter: ExporterRunner) -> None:
    generated = "<!-- generated: metrics -->\n"
    written = PAGES["metrics.md"].partition(generated)[2].partition("<!-- end -->")[0]
    assert written.strip() == exporter("metrics", "--markdown").stdout.strip(), "run `make docs`"
    assert [row[0].split("`")[1] for row in cells(written)] == [row.name for row in ROWS]
    assert all(cell or head in (3, 6) for row in cells(written) for head, cell in enumerate(row))


def test_make_docs_writes_the_tables_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "metrics.md"
    page.write_text(re.sub(r"(?m)^\| `.*\n", "", PAGES["metrics.md"]))
    subprocess.run([sys.executable, "-m", "otel_novu.docs", str(page)], cwd=ROOT, check=True)
    assert page.read_text() == PAGES["metrics.md"]


def test_the_settings_page_has_a_row_for_each_variable_and_no_other() -> None:
    for row, variable in zip(cells(PAGES["settings.md"]), VARIABLES, strict=True):
        names, default, accepted, meaning = row
        assert set(re.findall("`([A-Z_]+)`", names)) == set(variable.names)
        assert names.endswith(f"; `{variable.names[0]}` wins over it") or len(variable.names) == 1
        assert default == f"`{variable.default}`" or (default and not variable.default)
        assert accepted == variable.accepts
        assert meaning
        assert ("Its value is never shown." in meaning) == variable.secret


def form(row: Metric[Any]) -> str:
    if row.most == 1:
        return "0 or 1" if row.least == 0 else "1"
    return "seconds, 0 or more" if row.unit == "s" else "a whole number, 0 or more"


def test_the_privacy_page_has_a_row_for_each_value_that_can_be_sent_and_no_other() -> None:
    sent = [f"`{key}`" for key in make_resource("novu", UUID(int=0), {}).attributes]
    for row in ROWS:
        sent += [f"`{row.name}`", *(f"label `{key}`" for key in row.attributes)]
    rows = cells(PAGES["privacy.md"])
    assert [row[0] for row in rows] == sent
    assert all(all(row) for row in rows)
    facts = {row[0]: row[1:3] for row in rows}
    assert all(facts[f"`{row.name}`"] == [form(row), row.source] for row in ROWS)


@cache
def names_of_tests() -> frozenset[str]:
    texts = [file.read_text() for file in (ROOT / "tests").rglob("test_*.py")]
    return frozenset(
        name for text in texts for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)
    )


def test_each_fault_of_the_reliability_page_names_a_test_that_exists() -> None:
    page = PAGES["reliability.md"]
    faults = [line for line in page.splitlines() if re.match(r"\| (?!fault |--)", line)]
    assert len(faults) > 20
    for fault in faults:
        named = re.findall(r"\b(test_\w+)\b(?!\.py)", fault)
        assert named, fault
        assert set(named) <= names_of_tests(), fault


def test_the_window_on_the_reliability_page_is_the_one_that_ships() -> None:
    setting = re.compile(r"out_of_order_time_window: \w+")
    shown = setting.findall(PAGES["reliability.md"])
    for config in ("examples/prometheus/prometheus.yml", "examples/stack/prometheus.yml"):
        assert setting.findall((ROOT / config).read_text()) == shown


def test_the_database_user_page_lists_every_command_of_a_round(exporter: ExporterRunner) -> None:
    printed = exporter("show", "--queries", env={"MONGO_URL": "mongodb://127.0.0.1/novu-db"})
    sent = {next(iter(json.loads(line))) for line in printed.stdout.splitlines()}
    assert sent
    listed = [row[0] for row in cells(PAGES["database-user.md"])]
    assert sent <= set(re.findall(r"`(\w+)`", " ".join(listed)))
