import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import novu_dashboard
import promql
import pytest
import yaml

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_label, prometheus_name
from otel_novu.metrics.usage import USAGE

ROOT = Path(__file__).resolve().parents[1]
GRAFANA = ROOT / "examples" / "grafana"
ROWS: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
NAMES = {prometheus_name(row) for row in ROWS}
LABELS = {prometheus_label(key) for row in ROWS for key in row.attributes}
VARIABLES = {"job", "instance", "datasource"}
COLUMNS = 24

Panel = dict[str, Any]


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(novu_dashboard.FILE.read_text())
    return found


def panels_of(board: dict[str, Any]) -> list[Panel]:
    assert all(not panel.get("panels") for panel in board["panels"])
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries_of(board: dict[str, Any]) -> Iterator[str]:
    for panel in panels_of(board):
        for target in panel["targets"]:
            yield target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]


def cells(panel: Panel) -> set[tuple[int, int]]:
    at = panel["gridPos"]
    across = range(at.get("x", 0), at.get("x", 0) + at["w"])
    return {(x, y) for x in across for y in range(at["y"], at["y"] + at["h"])}


def everything(node: object) -> Iterator[tuple[str, object]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from everything(value)
    elif isinstance(node, list):
        for value in node:
            yield from everything(value)


def test_the_file_is_what_the_code_makes() -> None:
    assert novu_dashboard.FILE.read_text() == novu_dashboard.to_json(), (
        "the dashboard's code has changed: run python examples/grafana/novu_dashboard.py"
    )


def test_every_panel_has_a_title_and_a_description_that_says_from_where(
    board: dict[str, Any],
) -> None:
    for panel in panels_of(board):
        assert panel["title"]
        assert re.search(r"`novu\.\w", panel["description"]), panel["title"]
    titles = [panel["title"] for panel in panels_of(board)]
    assert len(set(titles)) == len(titles)


def test_descriptions_name_only_metrics_that_the_tables_define(board: dict[str, Any]) -> None:
    names = {row.name for row in ROWS}
    for panel in panels_of(board):
        named = re.findall(r"`(novu\.[\w.]+)`", panel["description"])
        assert set(named) <= names, panel["title"]


def test_every_panel_has_a_unit_and_every_number_of_a_table_too(board: dict[str, Any]) -> None:
    for panel in panels_of(board):
        assert panel["fieldConfig"]["defaults"]["unit"]
        if panel["type"] != "table":
            continue
        for override in panel["fieldConfig"]["overrides"]:
            properties = {entry["id"] for entry in override["properties"]}
            if override["matcher"]["options"] in {"Free memory", "Total memory", "Last beacon"}:
                assert "unit" in properties


def test_every_panel_says_why_it_may_be_empty(board: dict[str, Any]) -> None:
    for panel in panels_of(board):
        assert panel["fieldConfig"]["defaults"]["noValue"]


def test_panels_fill_the_grid_without_overlaps(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        own = cells(panel)
        assert all(x < COLUMNS for x, _ in own)
        assert not own & taken, panel["title"]
        taken |= own
    # Nor are there holes, for which Grafana would move up what is below.
    height = max(y for _, y in taken) + 1
    assert len(taken) == COLUMNS * height


def test_queries_ask_only_for_metrics_that_the_tables_define(board: dict[str, Any]) -> None:
    for query in queries_of(board):
        named = set(re.findall(r"\bnovu_\w+", query)) - LABELS
        assert named
        assert named <= NAMES


def test_every_metric_of_the_tables_is_shown(board: dict[str, Any]) -> None:
    assert set(re.findall(r"\bnovu_\w+", "\n".join(queries_of(board)))) - LABELS == NAMES


def test_a_metric_that_no_row_defines_can_not_be_asked_for() -> None:
    with pytest.raises(KeyError):
        promql.last("novu.subscriber.total")


def test_every_series_that_is_asked_for_is_chosen_by_the_variables(board: dict[str, Any]) -> None:
    for panel in panels_of(board):
        for target in panel["targets"]:
            for selector in re.findall(r"\bnovu_\w+(\{[^}]*\})", target["expr"]):
                assert selector == '{job=~"$job",instance=~"$instance"}'
            assert re.findall(r"\bnovu_\w+(?![\w{),])", target["expr"]) == []


def test_no_query_sees_the_last_five_minutes_only(board: dict[str, Any]) -> None:
    """A plain selector is right only inside `timestamp`, beside the same over hours."""
    for query in queries_of(board):
        if query.startswith("label_values"):
            continue
        plain = re.sub(r"timestamp\(novu_\w+\{[^}]*\}( @ end\(\)| offset \S+)?\)", "", query)
        assert re.findall(r"\bnovu_\w+\{[^}]*\}(?!\[)", plain) == []
        assert "increase" not in query
        assert "rate(" not in query


def test_data_source_deployment_and_instance_are_variables_and_nothing_is_hard_wired(
    board: dict[str, Any],
) -> None:
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert set(variables) == VARIABLES
    assert variables["datasource"]["query"] == "prometheus"
    for name in ("job", "instance"):
        assert variables[name]["multi"]
        assert variables[name]["includeAll"]
        assert variables[name]["allValue"] == ".+"
    sources = [value for key, value in everything(board) if key == "datasource"]
    assert sources
    for source in sources:
        assert source == {"type": "prometheus", "uid": "${datasource}"}


def test_queries_use_only_variables_that_exist(board: dict[str, Any]) -> None:
    for query in queries_of(board):
        used = set(re.findall(r"\$(\w+)", query))
        assert used <= VARIABLES | {"__range", "1"}  # $1 is a group of label_replace


def test_the_hosts_row_says_that_these_are_the_machines_of_the_exporters(
    board: dict[str, Any],
) -> None:
    titles = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    assert [title.partition(":")[0] for title in titles] == [
        "At a glance",
        "Growth",
        "Hosts",
        "Reading and delivery",
    ]
    assert "the machines that the exporters run on" in titles[2]


def test_the_provisioning_names_the_dashboards_that_exist() -> None:
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/novu.yaml").read_text())
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())
    folder = provider["providers"][0]["options"]["path"]
    compose = yaml.safe_load((ROOT / "examples/stack/compose.yaml").read_text())
    mounts = dict(
        reversed(mount.removesuffix(":ro").split(":"))
        for mount in compose["services"]["grafana"]["volumes"]
    )
    inside = (ROOT / "examples/stack" / mounts[folder]).resolve()
    assert [file.name for file in inside.iterdir()] == ["novu.json"]
    assert (ROOT / "examples/stack" / mounts["/etc/grafana/provisioning"]).resolve() == (
        GRAFANA / "provisioning"
    )
    assert [entry["type"] for entry in source["datasources"]] == ["prometheus"]
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    assert source["datasources"][0]["isDefault"]


def test_the_home_dashboard_of_the_demo_is_this_one() -> None:
    compose = yaml.safe_load((ROOT / "examples/stack/compose.yaml").read_text())
    grafana = compose["services"]["grafana"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    mounted = [mount.split(":")[1] for mount in grafana["volumes"]]
    assert str(home.parent) in mounted
    assert home.name == novu_dashboard.FILE.name


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pictures_are_small_and_told_of(theme: str) -> None:
    picture = ROOT / "docs" / "images" / f"dashboard-{theme}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 300_000
    assert f"images/{picture.name}" in (ROOT / "docs" / "viewing.md").read_text()


def test_what_the_documentation_of_viewing_links_to_exists() -> None:
    text = (ROOT / "docs" / "viewing.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / "docs" / link).exists(), link
