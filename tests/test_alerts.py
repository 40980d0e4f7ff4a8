import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import stack
import yaml
from promql import ROWS

from otel_novu.metrics.prometheus import prometheus_name

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "examples" / "prometheus"
HOURS, DAYS = RULE_TESTS = ("alerts_test.yml", "alerts_week_test.yml")
NAMES = {prometheus_name(row) for row in ROWS.values()}

# Wrong alerts, and the rule tests that must fail for them.
MUTANTS = [
    ("> 2 * 3600", "> 3 * 3600", HOURS),
    ("for: 5m", "for: 0m", HOURS),
    ("by (job) (max_over_time(novu_b", "by (job, instance) (max_over_time(novu_b", HOURS),
    ("for: 75m", "for: 60m", HOURS),
    ("offset 65m", "offset 60m", HOURS),
    ("< 0.10", "< 0.05", HOURS),
    ("for: 1d", "for: 23h", HOURS),
    ("free_bytes[2h]", "free_bytes[1h]", HOURS),
    ("offset 1h)", "offset 2h)", HOURS),
    ("== 0\n", "<= 0\n", DAYS),
    (">= 20", ">= 0", DAYS),
    (">= 10", ">= 0", DAYS),
]


def read_yaml(name: str) -> Any:
    return yaml.safe_load((PROMETHEUS / name).read_text())


RULES = [rule for group in read_yaml("alerts.yml")["groups"] for rule in group["rules"]]


def promtool(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    words = [str(stack.build().promtool), *command.split()]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


CHECKS = ["check rules alerts.yml", "check config prometheus.yml", "check config scrape.yml"]


@pytest.mark.parametrize("command", [*CHECKS, *(f"test rules {name}" for name in RULE_TESTS)])
def test_promtool_accepts_the_files_and_every_alert_fires_as_it_must(command: str) -> None:
    done = promtool(PROMETHEUS, command)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.parametrize(("right", "wrong", "name"), MUTANTS)
def test_the_rule_tests_fail_for_a_wrong_alert(
    right: str, wrong: str, name: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(PROMETHEUS, tmp_path / "prometheus"))
    text = (folder / "alerts.yml").read_text()
    assert right in text
    (folder / "alerts.yml").write_text(text.replace(right, wrong))
    assert promtool(folder, f"test rules {name}").returncode == 1


def test_every_alert_has_a_severity_a_summary_a_description_and_rule_tests_of_both_kinds() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert "$labels.job" in rule["annotations"]["summary"]
    tests = [test for name in RULE_TESTS for test in read_yaml(name)["tests"]]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for fires in (True, False):
        tested = {case["alertname"] for case in cases if bool(case.get("exp_alerts")) is fires}
        assert tested == {rule["alert"] for rule in RULES}


def test_alerts_their_tests_and_the_documentation_name_only_metrics_of_the_rows() -> None:
    viewing = (ROOT / "docs" / "viewing.md").read_text()
    documented = "".join(re.findall(r"```promql\n(.+?)```", viewing, re.DOTALL))
    for text in (documented, *((PROMETHEUS / n).read_text() for n in ("alerts.yml", *RULE_TESTS))):
        assert set(re.findall(r"\bnovu_\w+(?=[\[{)])", text)) - {"novu_figure"} <= NAMES
    assert set(re.findall(r"`(OtelNovu\w+)`", viewing)) == {rule["alert"] for rule in RULES}


def test_prometheus_takes_late_samples_as_in_the_stack_and_loads_the_alerts() -> None:
    config = read_yaml("prometheus.yml")
    assert config["storage"] == read_yaml("../stack/prometheus.yml")["storage"]
    assert config["rule_files"] == ["alerts.yml"]


def test_a_scraped_collector_offers_what_prometheus_scrapes_and_keeps_its_labels() -> None:
    over, whole = read_yaml("collector-scrape.yaml"), read_yaml("../../collector-config.yaml")
    exporter = over["exporters"]["prometheus"]
    assert exporter["metric_expiration"] == "90m"
    [job] = read_yaml("scrape.yml")["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    assert exporter["endpoint"].endswith(f":-{target}}}")
    assert job["honor_labels"]
    used = over["service"]["pipelines"]["metrics"]["exporters"]
    assert set(used) <= {*whole["exporters"], *over["exporters"]}
    listed = json.loads((ROOT / "examples/stack/distributions.json").read_text())["distributions"]
    assert all("prometheusexporter" in each["modules"]["exporters"] for each in listed.values())
