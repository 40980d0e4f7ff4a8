"""The documentation: its commands, links, tables, and the names that it uses."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import novu_data
import pytest
import yaml
from pymongo.database import Database
from receivers import HttpSink
from servers import ExporterRunner, PrometheusClient, RunningExporter
from stack import Servers, build

import otel_novu
from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.usage import COLLECTIONS, USAGE
from otel_novu.report import make_resource
from otel_novu.settings import VARIABLES, load
from otel_novu.version import __version__

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
INDEX = "docs/README.md"
FILES = {file.name: file for file in DOCS.glob("*.md")}
FILES = {**FILES, INDEX: DOCS / "README.md", **{file.name: file for file in ROOT.glob("*.md")}}
PAGES = {name: file.read_text() for name, file in FILES.items()}
README = PAGES["README.md"]
ROWS: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
NO_MEANING = "\n## Standard variables without a meaning here\n"
SERVERS = (
    "mongodb://root:secret@localhost:27017/novu-db?authSource=admin",
    "http://localhost:4318",
)
OVERRIDE = ROOT / "examples" / "novu" / "compose.override.yaml"
# Other branches add these. Empty it when they are merged.


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", page, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in found]


def commands() -> Iterator[str]:
    """Yield the commands of all pages, without comments; a quoted text may have several lines."""
    for page in PAGES.values():
        for block in blocks(page, "sh"):
            text = re.sub(r"\\\n\s*", "", re.sub(r"\s+#.*", "", block))
            yield from re.findall(r"(?:[^\n']|'[^']*')+", text)


def cells(table: str) -> list[list[str]]:
    """Return the cells of a Markdown table's lines, without the headings."""
    lines = [line for line in table.splitlines() if re.match(r"\| (label )?`", line)]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


INSTALLS = sorted({found for found in commands() if found.endswith("install .")})
RUN = next(command for command in commands() if command.endswith("otel-novu run"))


@pytest.mark.parametrize(
    "command", sorted({*commands()} - {*INSTALLS, RUN}), ids=lambda command: command[:40]
)
def test_every_command_is_one_that_works(
    command: str, exporter: ExporterRunner, tmp_path: Path
) -> None:
    words, env = shlex.split(command), {}
    while words and (found := re.fullmatch(r"([A-Z_]+)=(.*)", words[0])):
        env[found[1]] = found[2]
        words.pop(0)
    match words:
        case []:
            assert load(env, env_file=None, cwd=tmp_path, home=tmp_path).mongo_url is not None
        case ["otel-novu", *arguments]:
            check_program(arguments, env, exporter)
        case ["make", *_]:
            subprocess.run([*words, "-n"], cwd=ROOT, check=True)
        case ["docker", *arguments]:
            check_docker(arguments, exporter)
        case ["cp", source, "."]:
            assert in_clone(source).is_file()
        case ["kubectl", "apply", "-n", "novu", "-k", folder]:
            assert in_clone(folder).is_dir()
        case ["kubectl", "exec", "-n", "novu", "deploy/otel-novu", "--", "otel-novu", *arguments]:
            assert exporter(*arguments, "--help").returncode == 0
        case _:
            pytest.fail(f"no test knows how to run {command!r}")


def in_clone(path: str) -> Path:
    return ROOT / path.replace("../otel-novu", ".")


def check_program(arguments: list[str], env: dict[str, str], exporter: ExporterRunner) -> None:
    """Run the program; a receiver takes the place of those that the page names."""
    arguments = [os.devnull if word.startswith("/opt/") else word for word in arguments]
    name = next((name for name in env if name.endswith("_ENDPOINT")), "OTEL_EXPORTER_OTLP_ENDPOINT")
    path = urlsplit(env.get(name, "")).path
    with HttpSink() as sink:
        env |= {name: sink.base + path}
        done = exporter(*arguments, env={"NOVU_TELEMETRY": "false", **env})
        assert done.returncode == 0, done.stdout + done.stderr
        if path:
            assert sink.requests[-1].path == path.removesuffix("/v1/metrics") + "/v1/metrics"


def check_docker(arguments: list[str], exporter: ExporterRunner) -> None:
    [service] = yaml.safe_load(OVERRIDE.read_text())["services"].items()
    match arguments:
        case ["build", "-t", tag, folder]:
            assert tag == service[1]["image"] == f"otel-novu:{__version__}"
            assert (in_clone(folder) / "Dockerfile").is_file()
        case ["compose", "-f", file, "up"]:
            services = yaml.safe_load((ROOT / file).read_text())["services"]
            assert {"database", "exporter", "collector", "prometheus", "grafana"} <= set(services)
        case ["compose", "exec", "mongodb", *_, script]:
            check_roles(script)
        case ["compose", "exec", name, "otel-novu", *rest]:
            assert name == service[0]
            assert exporter(*rest, "--help").returncode == 0
        case ["compose", "logs", name]:
            assert name == service[0]
        case _:
            assert arguments == ["compose", "up", "-d"]


def check_roles(script: str) -> None:
    [*_, user] = documents = [
        json.loads(found)
        for found in re.findall(r"\((\{.*?^\})\)", script, re.DOTALL | re.MULTILINE)
    ]
    names = {role["role"] for role in user["roles"]}
    assert names == {"read"} or names == {documents[0]["role"]}
    privileges = documents[0].get("privileges", [])
    assert all({*each["actions"]} <= {"find", "collStats"} for each in privileges)
    named = {each["resource"]["collection"] for each in privileges}
    assert named in (set(), {*COLLECTIONS}), (
        "docs/database-user.md: a privilege for each collection"
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of the repository in a new user's home, where uv and pipx are on the path."""
    ignored = shutil.ignore_patterns(".venv", ".git", "*cache*")
    shutil.copytree(ROOT, tmp_path / "clone", ignore=ignored)
    pipx = tmp_path / "bin" / "pipx"
    pipx.parent.mkdir()
    pipx.write_text('#!/bin/sh\nexec uv tool run pipx "$@"\n')
    pipx.chmod(0o755)
    return tmp_path / "clone"


def install(command: str, clone: Path) -> dict[str, str]:
    """Run a command of the README; the environment in which `otel-novu` is on the path."""
    home = clone.parent
    places = [
        home / "otel-novu/bin",
        home / ".local/bin",
        home / "bin",
        Path(sys.executable).parent,
    ]
    path = ":".join([*map(str, places), os.environ["PATH"]])
    env = {"PATH": path, "HOME": str(home), "UV_PYTHON": sys.executable}
    inherited = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(["bash", "-ec", command], cwd=clone, env={**inherited, **env}, check=True)
    return env


@pytest.mark.contract
@pytest.mark.parametrize("command", INSTALLS)
def test_each_way_to_install_brings_the_program(command: str, clone: Path) -> None:
    env = install(command, clone)
    program = shutil.which("otel-novu", path=env["PATH"])
    assert program is not None
    assert clone.parent in Path(program).parents
    shown = subprocess.run([program, "--version"], env=env, capture_output=True, check=True)
    assert shown.stdout.decode().split() == ["otel-novu", __version__]


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
    clone: Path,
) -> None:
    novu_data.load(database, seed=1, size="small", now=datetime.now(UTC))
    venv = next(command for command in INSTALLS if "venv" in command)
    env = install(venv, clone) | {"OTEL_NOVU_INSTANCE_ID": instance_id}
    run = RUN.replace(SERVERS[0], mongo_url).replace(SERVERS[1], stack.otlp_http)
    running = RunningExporter(["bash", "-c", run], env, clone)
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
        target = (FILES[name].parent / place).resolve() if place else FILES[name]
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
    known |= set(re.findall("`(OTEL_[A-Z_]+)`", PAGES["settings.md"].partition(NO_MEANING)[2]))
    named = set(re.findall(r"`((?:OTEL|NOVU|MONGO)_[A-Z_]*[A-Z])[`=]", PAGES[name])) - known
    stack = [(ROOT / "collector-config.yaml").read_text()]
    stack += [file.read_text() for file in (ROOT / "examples" / "novu").glob("*.yaml")]
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
    subprocess.run([sys.executable, ROOT / ".ci" / "metrics_docs.py", page], check=True)
    assert page.read_text() == PAGES["metrics.md"]


def test_the_settings_page_has_a_row_for_each_variable_and_no_other() -> None:
    for row, variable in zip(cells(PAGES["settings.md"]), VARIABLES, strict=True):
        names, default, accepted, meaning = row
        assert set(re.findall("`([A-Z_]+)`", names)) == set(variable.names)
        assert names.endswith(f"; `{variable.names[0]}` wins over it") or len(variable.names) == 1
        assert default == f"`{variable.default}`" or (default and not variable.default)
        assert accepted == variable.accepts
        assert meaning
        assert ("never shown" in meaning) == variable.secret


def test_of_the_variables_without_a_meaning_those_warn_that_the_settings_page_names() -> None:
    section = PAGES["settings.md"].partition(NO_MEANING)[2]
    ours = {name for row in VARIABLES for name in row.names}
    first, *others = (
        set(re.findall("`(OTEL_[A-Z_]+[*]?)`", item)) - ours for item in section.split("\n- ")[1:]
    )
    names = [name.replace("*", "X") for name in first.union(*others)]
    settings = load(dict.fromkeys(names, "x"), cwd=Path("/nonexistent"))
    assert {warning.partition(" ")[0] for warning in settings.warnings} == first
    assert len(others) == 4


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
    page = PAGES["reliability.md"].partition("## Each fault and its test\n")[2]
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


def sentences() -> Iterator[str]:
    """Yield the texts of the program; what it fills in is `{}`."""
    for file in Path(otel_novu.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(part, "value", "") for part in node.values)
                yield "".join(part if isinstance(part, str) else "{}" for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_each_message_of_the_troubleshooting_page_is_one_of_the_program() -> None:
    texts = [*sentences()]
    rows = re.findall(r"^\| (`+)(.+?)\1 \|", PAGES["troubleshooting.md"], re.MULTILINE)
    assert len(rows) > 40
    for _, message in rows:
        pattern = ".*".join(map(re.escape, message.split("...")))
        assert any(re.search(pattern, text) for text in texts), message


def links_of(name: str) -> set[str]:
    """The pages that a page links to."""
    places = re.findall(r"\]\(([^)#:]+)[^)]*\)", PAGES[name])
    targets = {(FILES[name].parent / place).resolve() for place in places}
    return {page for page, file in FILES.items() if file in targets}


@pytest.mark.parametrize(
    ("page", "answer"),
    [
        (INDEX, "Can I see only Production's figures?"),
        ("databases.md", "MongoDB Atlas"),
        ("vendors.md", "Addresses"),
        ("without-a-collector.md", "Without a collector"),
        (INDEX, "What does it cost the database?"),
        ("upgrade.md", "Upgrade"),
        ("upgrade.md", "Remove"),
        (INDEX, "Have the events stopped?"),
        (INDEX, "Which provider fails?"),
        (INDEX, "Can I have figures per organization?"),
        ("vendors.md", "Through a proxy"),
        ("databases.md", "What was tried"),
    ],
)
def test_what_operators_ask_is_answered_within_two_clicks(page: str, answer: str) -> None:
    assert re.search(rf"^#+ {re.escape(answer)}$", PAGES[page], re.MULTILINE)
    one_click = links_of("README.md")
    assert page in one_click.union(*map(links_of, one_click))


def test_every_page_is_in_the_index_and_the_readme_is_short() -> None:
    assert {file.name for file in DOCS.glob("*.md")} - {"README.md"} <= links_of(INDEX)
    assert len(README.splitlines()) < 120


@pytest.mark.contract
def test_the_errors_by_provider_include_a_provider_that_failed_for_the_first_time(
    tmp_path: Path,
) -> None:
    [query] = blocks(PAGES[INDEX], "promql")
    email, sms = (
        f'{{novu_channel="{channel}",novu_provider_id="{provider}"}}'
        for channel, provider in (("email", "sendgrid"), ("sms", "twilio"))
    )
    series = 'novu_message_created_total{novu_message_status="error",job="novu",'
    inputs = [(series + email[1:], "5+1x30"), (series + sms[1:], "_x20 3 4x9")]
    expected = {"labels": email, "value": 24}, {"labels": sms, "value": 4}
    case = {
        "interval": "1h",
        "input_series": [{"series": name, "values": values} for name, values in inputs],
        "promql_expr_test": [{"expr": query, "eval_time": "30h", "exp_samples": expected}],
    }
    document = {"evaluation_interval": "1h", "tests": [case]}
    (tmp_path / "test.yml").write_text(json.dumps(document))
    command = [str(build().promtool), "test", "rules", "test.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
