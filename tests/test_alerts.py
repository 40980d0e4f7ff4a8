import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import stack
import yaml

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_name
from otel_novu.metrics.usage import USAGE

ROOT = Path(__file__).resolve().parents[1]
PROMETHEUS = ROOT / "examples" / "prometheus"
RULE_TESTS = ("alerts_test.yml", "alerts_week_test.yml")
ROWS: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
NAMES = {prometheus_name(row) for row in ROWS}

# What an alert would be if it were wrong, and the tests that must tell.
MUTANTS = [
    ("> 2 * 3600", "> 3 * 3600", "alerts_test.yml"),
    ("for: 5m", "for: 0m", "alerts_test.yml"),
    (
        "by (job) (max_over_time(novu_b",
        "by (job, instance) (max_over_time(novu_b",
        "alerts_test.yml",
    ),
    ("for: 75m", "for: 60m", "alerts_test.yml"),
    ("offset 65m", "offset 60m", "alerts_test.yml"),
    ("< 0.10", "< 0.05", "alerts_test.yml"),
    ("for: 1d", "for: 23h", "alerts_test.yml"),
    ("free_bytes[2h]", "free_bytes[1h]", "alerts_test.yml"),
    ("offset 1h)", "offset 2h)", "alerts_test.yml"),
    ("== 0\n", "<= 0\n", "alerts_week_test.yml"),
    (">= 20", ">= 0", "alerts_week_test.yml"),
    (">= 10", ">= 0", "alerts_week_test.yml"),
]


def read_yaml(name: str) -> Any:
    return yaml.safe_load((PROMETHEUS / name).read_text())


def rules() -> list[dict[str, Any]]:
    return [rule for group in read_yaml("alerts.yml")["groups"] for rule in group["rules"]]


def promtool(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = [str(stack.build().promtool), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_promtool_finds_rules_and_configuration_valid() -> None:
    for words in (
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("check", "config", "scrape.yml"),
    ):
        done = promtool(PROMETHEUS, *words)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", RULE_TESTS)
def test_every_alert_fires_when_it_must_and_stays_quiet_when_it_must_not(name: str) -> None:
    done = promtool(PROMETHEUS, "test", "rules", name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.parametrize(("right", "wrong", "name"), MUTANTS)
def test_the_rule_tests_would_tell_an_alert_that_is_wrong(
    right: str, wrong: str, name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "prometheus"
    shutil.copytree(PROMETHEUS, folder)
    text = (folder / "alerts.yml").read_text()
    assert right in text
    (folder / "alerts.yml").write_text(text.replace(right, wrong))
    assert promtool(folder, "test", "rules", name).returncode == 1


def test_every_alert_is_tested_both_firing_and_quiet() -> None:
    asked = [
        case
        for name in RULE_TESTS
        for test in read_yaml(name)["tests"]
        for case in test["alert_rule_test"]
    ]
    names = {rule["alert"] for rule in rules()}
    assert {case["alertname"] for case in asked if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in asked if not case.get("exp_alerts")} == names


def test_every_alert_says_what_is_wrong_how_grave_it_is_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert "$labels.job" in rule["annotations"]["summary"]


def test_alerts_and_their_tests_ask_only_for_metrics_that_the_tables_define() -> None:
    for name in ("alerts.yml", *RULE_TESTS):
        named = re.findall(r"\bnovu_\w+(?=[\[{])", (PROMETHEUS / name).read_text())
        assert named
        assert set(named) <= NAMES


def test_prometheus_takes_reports_as_late_as_in_the_stack_and_loads_the_alerts() -> None:
    config = read_yaml("prometheus.yml")
    of_the_stack = yaml.safe_load((ROOT / "examples/stack/prometheus.yml").read_text())
    assert config["storage"] == of_the_stack["storage"]
    assert config["rule_files"] == ["alerts.yml"]


def test_the_scraped_set_up_scrapes_what_the_collector_offers_and_keeps_its_labels() -> None:
    exporter = read_yaml("collector-scrape.yaml")["exporters"]["prometheus"]
    [job] = read_yaml("scrape.yml")["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [
        exporter["endpoint"].partition(":-")[2].removesuffix("}")
    ]
    assert job["honor_labels"]
    assert exporter["metric_expiration"] == "90m"


def test_the_scraped_set_up_changes_the_configuration_of_the_collector_where_it_says() -> None:
    whole = yaml.safe_load((ROOT / "collector-config.yaml").read_text())
    over = read_yaml("collector-scrape.yaml")
    assert set(over["service"]["pipelines"]) <= set(whole["service"]["pipelines"])
    known = {*whole["exporters"], *over["exporters"]}
    assert set(over["service"]["pipelines"]["metrics"]["exporters"]) <= known
    listed = json.loads((ROOT / "examples/stack/distributions.json").read_text())
    for distribution in listed["distributions"].values():
        assert "prometheusexporter" in distribution["modules"]["exporters"]


def test_the_documentation_tells_of_every_alert_and_only_of_metrics_that_exist() -> None:
    text = (ROOT / "docs" / "viewing.md").read_text()
    assert set(re.findall(r"`(OtelNovu\w+)`", text)) == {rule["alert"] for rule in rules()}
    queries = "".join(re.findall(r"```promql\n(.+?)```", text, re.DOTALL))
    assert set(re.findall(r"\bnovu_\w+", queries)) <= NAMES
