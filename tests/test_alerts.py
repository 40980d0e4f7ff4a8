import json
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import stack
import translation
import yaml
from deliveries import rows

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_label, prometheus_name
from otel_novu.metrics.usage import USAGE

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "examples" / "prometheus"
HOURS, DAYS, DELIVERY, STILL, MONTH = RULE_TESTS = (
    "alerts_test.yml",
    "alerts_week_test.yml",
    "alerts_delivery_test.yml",
    "alerts_still_test.yml",
    "alerts_month_test.yml",
)
slow = partial(pytest.param, marks=pytest.mark.long)
ROWS: tuple[Metric[Any], ...] = (*BEACON, *USAGE, *rows())
NAMES = {prometheus_name(row) for row in ROWS}
ALERTS_PAGE = (ROOT / "docs" / "alerts.md").read_text()

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
    (">= 10\n          and on (job)", ">= 0\n          and on (job)", DAYS),
    ("> 0.2 *", "> 0.3 *", DELIVERY),
    ("> 0.2 *", "> 0.19 *", DELIVERY),
    ('novu_message_status="error"', 'novu_message_status!="sent"', DELIVERY),
    (
        "> on (job) group_left ()\n          0.05",
        "> on (job) group_left ()\n          0.005",
        DELIVERY,
    ),
    ('novu_failure_reason!="provider_error",', "", DELIVERY),
    ("queued|running", "queued|running|delayed", DELIVERY),
    ("> 7200", "> 7300", DELIVERY),
    ("> 7200", ">= 7200", DELIVERY),
    ("for: 1h\n", "for: 0m\n", STILL),
    (
        'event_created|message_created"} offset 7d\n          ) >= 10',
        'event_created|message_created"}\n          ) >= 0',
        STILL,
    ),
    ("> 29 * 86400", "> -1", MONTH),
    ("- 1.1 *", "- 1.01 *", MONTH),
    ("> 2^30", "> 0", MONTH),
    ('novu_collection!~"subscribers|preferences"', "", MONTH),
]


def read_yaml(name: str) -> Any:
    return yaml.safe_load((PROMETHEUS / name).read_text())


RULES = [rule for group in read_yaml("alerts.yml")["groups"] for rule in group["rules"]]


PAGE = "https://github.com/otel-novu/otel-novu/blob/main/docs/alerts.md"


def promtool(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    words = [str(stack.build().promtool), *command.split()]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


CHECKS = [
    "check rules rules.yml alerts.yml",
    "check config prometheus.yml",
    "check config scrape.yml",
]


@pytest.mark.parametrize("command", [*CHECKS, *(f"test rules {name}" for name in RULE_TESTS)])
def test_promtool_accepts_the_files_and_every_alert_fires_as_it_must(command: str) -> None:
    done = promtool(PROMETHEUS, command)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("strategy", translation.STRATEGIES)
@pytest.mark.parametrize("name", [HOURS, DELIVERY, MONTH, *(slow(n) for n in (DAYS, STILL))])
def test_the_alerts_of_another_strategy_fire_as_those_of_the_default(
    name: str, strategy: str, tmp_path: Path
) -> None:
    translator = translation.Translator(strategy)

    def translated(node: Any, key: str = "") -> Any:
        if isinstance(node, dict):
            return {translator.plain(name): translated(value, name) for name, value in node.items()}
        if isinstance(node, list):
            return [translated(value, key) for value in node]
        translate = translator.query if key in {"series", "expr", "labels"} else translator.plain
        return translate(node) if isinstance(node, str) else node

    shutil.copytree(translation.folder(strategy), tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_text(yaml.safe_dump(translated(read_yaml(name))))
    done = promtool(tmp_path, f"test rules {name}")
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
        assert set(rule["annotations"]) == {"runbook_url", "summary", "description"}
        assert "$labels.job" in rule["annotations"]["summary"]
    tests = [test for name in RULE_TESTS for test in read_yaml(name)["tests"]]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
    for fires in (True, False):
        tested = {case["alertname"] for case in cases if bool(case.get("exp_alerts")) is fires}
        assert tested == {rule["alert"] for rule in RULES}


def test_every_alert_links_to_its_paragraph() -> None:
    paragraphs = dict(re.findall(r"^## (\w+)\n\n(.+)", ALERTS_PAGE, re.MULTILINE))
    assert list(paragraphs) == [rule["alert"] for rule in RULES]
    for rule in RULES:
        assert rule["annotations"]["runbook_url"] == f"{PAGE}#{rule['alert'].lower()}"


def test_alerts_their_tests_and_the_documentation_name_only_metrics_of_the_rows() -> None:
    viewing = (ROOT / "docs" / "viewing.md").read_text()
    documented = "".join(re.findall(r"```promql\n(.+?)```", viewing, re.DOTALL))
    labels = {prometheus_label(key) for row in ROWS for key in row.attributes}
    for text in (documented, *((PROMETHEUS / n).read_text() for n in ("alerts.yml", *RULE_TESTS))):
        assert set(re.findall(r"(?<!:)\bnovu_\w+(?=[\[{)])", text)) - labels <= NAMES


def test_the_documentation_lists_the_recording_rules() -> None:
    [group] = read_yaml("rules.yml")["groups"]
    viewing = (ROOT / "docs" / "viewing.md").read_text()
    listed = re.findall(r"^\| `([a-z]+:\w+:\w+)` \|", viewing, re.MULTILINE)
    assert listed == [rule["record"] for rule in group["rules"]]


def test_prometheus_takes_late_samples_as_in_the_stack_and_loads_the_alerts() -> None:
    config = read_yaml("prometheus.yml")
    assert config["storage"] == read_yaml("../stack/prometheus.yml")["storage"]
    assert config["rule_files"] == ["rules.yml", "alerts.yml"]


def test_a_scraped_collector_offers_what_prometheus_scrapes_and_keeps_its_labels() -> None:
    over, whole = read_yaml("collector-scrape.yaml"), read_yaml("../../collector-config.yaml")
    exporter = over["exporters"]["prometheus"]
    assert exporter["metric_expiration"] == "90m"
    [job] = read_yaml("scrape.yml")["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    assert exporter["endpoint"].endswith(f":-{target}}}")
    assert job["honor_labels"]
    used = over["service"]["pipelines"]["metrics/novu"]["exporters"]
    assert set(used) <= {*whole["exporters"], *over["exporters"]}
    listed = json.loads((ROOT / "examples/stack/distributions.json").read_text())["distributions"]
    assert all("prometheusexporter" in each["modules"]["exporters"] for each in listed.values())
