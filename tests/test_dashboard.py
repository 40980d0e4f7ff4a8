"""The shipped dashboard: its file, and what its own queries answer on a real Prometheus."""

import json
import math
import re
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lively_month
import novu_dashboard
import pytest
import rules
import translation
import yaml
from history import (
    DAY,
    HOUR,
    Backend,
    Novu,
    Reporter,
    UncompactedOtlpPrometheus,
    UncompactedPrometheus,
    backend,
)
from stack import ask_prometheus, build, poll

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_label, prometheus_name
from otel_novu.metrics.usage import USAGE

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[1]
GRAFANA, PROMETHEUS = ROOT / "examples" / "grafana", ROOT / "examples" / "prometheus"
# Metrics that are not in the tables yet.
_TABLES: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
ROWS = {row.name: row for row in _TABLES}
NAMES = {prometheus_name(row) for row in ROWS.values()}
LABELS = {prometheus_label(key) for row in ROWS.values() for key in row.attributes}
NOVUS_OWN = {"novu_queue_jobs", "httpcheck_status"}
RECORDED = {rule["record"] for rule in yaml.safe_load(rules.to_yaml())["groups"][0]["rules"]}
FILE: dict[str, Any] = json.loads(novu_dashboard.FILE.read_text())
ROW_PANELS = {
    row["title"]: row["panels"] for row in FILE["panels"] if row["type"] == "row" and row["panels"]
}


def panels_of(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the panels of all rows, open or closed."""
    rows = [[row, *row.get("panels", [])] for row in board["panels"]]
    return [panel for row in rows for panel in row if panel["type"] != "row"]


ALL_PANELS = panels_of(FILE)
PANELS = {panel["title"]: panel for panel in ALL_PANELS}
VARIABLES = {variable["name"]: variable for variable in FILE["templating"]["list"]}
QUERIES = [
    *(target["expr"] for panel in PANELS.values() for target in panel["targets"]),
    *(VARIABLES[name]["query"] for name in ("job", "instance")),
]
TOTALS = "Totals, and their change over the time range"
EVENTS, MESSAGES = "Events in 24 hours", "Messages without a recorded failure"
UNFINISHED, NEWEST = "Unfinished jobs in 24 hours", "Newest event and message"
AGE, FAILED, INTEGRATIONS = (
    "Age of the last report",
    "What failed, worst first",
    "Integrations by provider",
)
PER_HOUR, ERRORS = "Messages per hour by channel", "Failed messages per hour by provider"
EXPORTERS = "Exporters that reported within two hours"
FIGURES = "Figures that are slow, failing or behind"
PER_DAY = ("Events created per day", "Subscribers created per day")
BEACONS, DATABASE = "Beacons", "Database: does a clean-up run?"
QUEUES, EXPORTERS_ROW = "Novu's own queues and health pages", "Exporter"
OWN = {panel["title"] for panel in ROW_PANELS[QUEUES]}
# What one report can tell; without usage figures, the exporters and NaN in the tiles.
EXPORTER = {panel["title"] for panel in ROW_PANELS[EXPORTERS_ROW]}
FROM_ONE = {NEWEST, AGE, TOTALS, DATABASE, INTEGRATIONS, "Active integrations by channel"}
# Beside the first query of a panel: for what is new, or for nothing at all.
SOMETIMES = {(FAILED, 2), (FAILED, 3), (NEWEST, 1), (EVENTS, 1), (TOTALS, 2), (TOTALS, 3)}
SOMETIMES |= {(DATABASE, 2), (PER_HOUR, 1), (ERRORS, 1)}
SOMETIMES |= {("Messages made within 10 seconds, in 24 hours", 1)}
NEEDS_TWO = "Needs two hourly reports"
HOURS, MINUTES = 26, (1, 30, 59)

Vector = list[tuple[Mapping[str, str], float]]


def test_the_files_are_what_the_code_makes() -> None:
    assert novu_dashboard.FILE.read_text() == novu_dashboard.to_json(), "run `make dashboard`"
    assert rules.FILE.read_text() == rules.to_yaml(), "run `make dashboard`"
    for file, text in translation.files():
        assert file.read_text() == text, "run `make dashboard`"


def test_every_panel_has_a_title_a_unit_a_text_for_no_answer_and_names_its_metrics() -> None:
    assert len(PANELS) == len(ALL_PANELS) <= 22
    for panel in PANELS.values():
        named = re.findall(r"`((?:novu|httpcheck)\.[\w.]+)`", panel["description"])
        assert named
        assert set(named) <= {*ROWS, "novu.queue.jobs", "httpcheck.status"}
        assert {"unit", "noValue"} <= panel["fieldConfig"]["defaults"].keys()


def test_today_delivery_and_usage_are_open_and_the_rest_is_closed() -> None:
    rows = [row for row in FILE["panels"] if row["type"] == "row"]
    assert [row["title"] for row in rows if not row["collapsed"]] == ["Today", "Delivery", "Usage"]
    assert ROW_PANELS.keys() == {QUEUES, EXPORTERS_ROW}


def test_panels_fill_the_grid_without_overlaps_or_holes() -> None:
    for panels in (FILE["panels"], *ROW_PANELS.values()):
        taken: Counter[tuple[int, int]] = Counter()
        for panel in panels:
            at = panel["gridPos"]
            across, down = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
            taken.update((x, y) for x in across for y in down)
        assert set(taken.values()) == {1}
        top, bottom = min(y for _, y in taken), max(y for _, y in taken) + 1
        assert taken.keys() == {(x, y) for x in range(24) for y in range(top, bottom)}


def test_queries_are_short_and_ask_only_for_metrics_of_the_rows_and_the_rules() -> None:
    assert [query for query in QUERIES if len(query) >= 300] == []
    recorded = r"\b(?:job|instance):\w+:\w+"
    text = "\n".join([*QUERIES, rules.to_yaml()])
    assert set(re.findall(recorded, text)) == RECORDED
    plain = re.sub(recorded, "", text).replace("novu_(", "")
    named = set(re.findall(r"\b(?:novu|httpcheck)_\w+(?![\w.*|)])", plain))
    assert named <= NAMES | LABELS | NOVUS_OWN


def test_every_series_is_selected_by_the_variables_and_looked_back_for() -> None:
    """A plain selector sees 5 minutes: enough for what is recorded, and for Novu's own."""
    for query in QUERIES:
        assert set(re.findall(r"\$(\w+)", query)) <= {*VARIABLES, "__range", "1"}
        if query.startswith("label_values"):
            continue
        selectors = re.findall(r"\b(novu_\w+|\w+:\w+:\w+)(\{[^}]*\})?(\[)?", query)
        for name, matchers, window in selectors:
            if name in NAMES | RECORDED and name != rules.HOST:
                assert 'job=~"$job"' in matchers, query
            assert name not in NAMES or window, query
        assert re.findall(r"increase\(|rate\(", query) == []


def test_data_source_deployment_environment_and_exporter_are_chosen_by_the_user() -> None:
    assert list(VARIABLES) == ["datasource", "job", "env", "instance"]
    assert VARIABLES["env"]["current"]["value"] == ["prod"]
    for name in ("job", "env", "instance"):
        options = [VARIABLES[name][key] for key in ("multi", "includeAll", "allValue")]
        assert options == [True, True, ".+"]
    text, chosen = json.dumps(FILE), '{"type": "prometheus", "uid": "${datasource}"}'
    assert text.count('"datasource": {') == text.count(f'"datasource": {chosen}') > 0


def test_a_tile_has_a_word_for_usage_that_is_off() -> None:
    for title in (EVENTS, MESSAGES, UNFINISHED, NEWEST):
        [mapping] = PANELS[title]["fieldConfig"]["defaults"]["mappings"]
        assert mapping["options"]["match"] == "null+nan"
        assert mapping["options"]["result"]["text"] == "usage off"


def test_grafana_is_provisioned_with_this_dashboard_as_its_home() -> None:
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/novu.yaml").read_text())
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())
    stack = ROOT / "examples" / "stack"
    grafana = yaml.safe_load((stack / "compose.yaml").read_text())["services"]["grafana"]
    mounts = {m.split(":")[1]: stack / m.split(":")[0] for m in grafana["volumes"]}
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert mounts["/etc/grafana/provisioning"].resolve() == GRAFANA / "provisioning"
    assert provider["providers"][0]["options"]["path"] == str(home.parent)
    assert mounts[str(home.parent)].resolve() / home.name == novu_dashboard.FILE
    assert sources["datasources"][0]["url"] == "http://prometheus:9090"


def test_novus_own_metrics_come_by_receivers_that_the_collector_has() -> None:
    over = yaml.safe_load((ROOT / "examples/novu/collector-novu.yaml").read_text())
    whole = yaml.safe_load((ROOT / "collector-config.yaml").read_text())
    [pipeline] = over["service"]["pipelines"].values()
    assert set(pipeline["receivers"]) == over["receivers"].keys()
    assert set(pipeline["exporters"]) == over["exporters"].keys()
    # Only reports are acknowledged end to end: these have a pipeline with a queue.
    assert over["service"]["pipelines"].keys().isdisjoint(whole["service"]["pipelines"])
    listed = json.loads((ROOT / "examples/stack/distributions.json").read_text())["distributions"]
    known = listed["otelcol-contrib"]["modules"]["receivers"]
    assert {f"{name.partition('/')[0]}receiver" for name in over["receivers"]} <= set(known)
    [worker] = yaml.safe_load((ROOT / "examples/novu/novu-otel.override.yaml").read_text())[
        "services"
    ].values()
    assert worker["environment"] == {"ENABLE_OTEL": "true"}
    assert all(port.startswith("127.0.0.1:") for port in worker["ports"])


# --- its queries ---------------------------------------------------------------------------------


def ask(address: str, path: str, **question: object) -> Any:
    url = f"{address}/api/v1/{path}?{urllib.parse.urlencode(question)}"
    with urllib.request.urlopen(url, timeout=120) as answer:  # noqa: S310 - our own address
        return json.load(answer)["data"]


def fill(expr: str, jobs: Iterable[str]) -> str:
    """Replace the variables: these deployments, all their instances, production, a day."""
    values = {"$job": "|".join(jobs), "$instance": ".+", "$env": "prod", "$__range": "86400s"}
    return re.sub(r"\$(job|instance|env|__range)\b", lambda found: values[found[0]], expr)


@dataclass
class Life:
    """A deployment and its reports, which end at the same time as those of the others."""

    job: str
    novu: Novu
    exporters: list[Reporter]

    @property
    def instances(self) -> list[str]:
        return sorted(exporter.instance for exporter in self.exporters)

    @property
    def totals(self) -> dict[str, int]:
        counts = self.novu.totals | {"integration.count": sum(self.novu.providers.values())}
        return {
            name.removesuffix(".count").replace(".", "_"): count for name, count in counts.items()
        }

    def work(self) -> None:
        """Do what an hour does: ten events, three subscribers, some messages."""
        self.novu.create("event", 10)
        self.novu.create("subscriber", 3)
        delivered = self.novu.delivered
        delivered.send("email", "sendgrid", 8)
        delivered.send("email", "sendgrid", 2, "error", "10m")
        delivered.send("in_app", "novu", 10)
        delivered.fail("sms", "no_integration", 1)
        delivered.lose("email", 1)
        delivered.count("job.skipped", 2, skip_reason="preference", step_type="push")


@dataclass
class Stage:
    """The deployments, all in one Prometheus, which is asked as Grafana asks it."""

    own: Backend
    end: float
    panels: Mapping[str, Any] = field(default_factory=lambda: PANELS)
    lives: dict[str, Life] = field(default_factory=dict)

    def life(self, namespace: str, exporters: int = 1) -> Life:
        """Begin a deployment that has not reported yet."""
        names = ("user", "organization", "workflow", "workflow.step", "event", "topic")
        counts = {f"{name}.count": 200 + 17 * i for i, name in enumerate((*names, "subscriber"))}
        novu = Novu(Counter(counts), {"sendgrid": 3, "twilio": 2, "unknown": 1})
        reporters = [Reporter(self.own.receiver, novu, namespace) for _ in range(exporters)]
        self.lives[namespace] = Life(f"{namespace}/novu", novu, reporters)
        return self.lives[namespace]

    def hours(self) -> Iterator[tuple[int, float]]:
        for hour in range(HOURS + 1):
            yield hour, self.end - (HOURS - hour) * HOUR

    def moments(self, after: float = 0.0) -> list[float]:
        """Return times between the last report and the next one."""
        return [self.end + after + minutes * 60 for minutes in MINUTES]

    def settled(self) -> list[float]:
        """Return those when what is gone since the last report is gone from the rules.

        A Prometheus that evaluates them marks at once what is gone; who writes them later can't.
        """
        return self.moments()[1:]

    def query(self, expr: str, at: float) -> Vector:
        found = ask_prometheus(self.own.prometheus.address, expr, at)
        return [(answer["metric"], float(answer["value"][1])) for answer in found]

    def instant(self, title: str, at: float, *jobs: str, query: int = 0) -> Vector:
        return self.query(fill(self.panels[title]["targets"][query]["expr"], jobs), at)

    def by(self, label: str, title: str, at: float, *jobs: str, query: int = 0) -> dict[str, float]:
        found = self.instant(title, at, *jobs, query=query)
        return {labels.get(label, ""): value for labels, value in found}

    def number(self, title: str, at: float, job: str, *jobs: str, query: int = 0) -> float | None:
        """Return the only answer of a query, or None if there is none."""
        answers = self.instant(title, at, job, *jobs, query=query)
        assert len(answers) <= 1, answers
        return answers[0][1] if answers else None

    def over(self, title: str, at: float, job: str, query: int = 0) -> list[list[float]]:
        """Return the values of each series that a query answers over the day before."""
        panel = self.panels[title]
        step = 86400 if "interval" in panel else 120
        expr = fill(panel["targets"][query]["expr"], [job])
        question = {"start": (at - DAY) // step * step, "end": at // step * step, "step": step}
        address = self.own.prometheus.address
        found = ask(address, "query_range", query=expr, **question)["result"]
        return [[float(value) for _, value in series["values"]] for series in found]

    def answering(self, at: float, job: str) -> set[tuple[str, int]]:
        """Return the panels and queries that answer, as the panels ask them."""
        return {
            (title, number)
            for title, panel in self.panels.items()
            for number, target in enumerate(panel["targets"])
            if (
                self.over(title, at, job, number)
                if target["range"]
                else self.instant(title, at, job, query=number)
            )
        }


def queries_of(titles: Iterable[str]) -> set[tuple[str, int]]:
    """Return all queries of panels, by number."""
    return {(title, n) for title in titles for n, _ in enumerate(PANELS[title]["targets"])}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    parts = build()
    prometheus = UncompactedPrometheus(PROMETHEUS / "prometheus.yml", binaries=parts)
    with backend(parts, prometheus) as own:
        # An odd minute: reports have no place of their own in the hour.
        made = Stage(own, (time.time() // HOUR - 5) * HOUR + 17 * 60)
        stories = (live_alone, live_as_a_pair, live_as_fifty, live_switched, live_restarted)
        for live in (*stories, live_a_first_day, live_without_messages):
            live(made)
        # The collector sends in order: once this report is there, all are.
        made.life("last").exporters[0].report(made.end)
        own.wait_for('novu_usage_figures_read{job="last/novu"}', made.end)
        own.record(made.end - (HOURS - 1) * HOUR + 60, made.end + 3 * HOUR)
        yield made


def live_alone(stage: Stage) -> None:
    """Report for 26 hours; and without one of six."""
    lone, missing = stage.life("lone"), stage.life("missing")
    for hour, at in stage.hours():
        lone.work()
        lone.exporters[0].report(at)
        if HOURS - hour in {6, 5, 4, 2, 1, 0}:
            missing.exporters[0].report(at)


def live_as_a_pair(stage: Stage) -> None:
    """Report from two exporters; much is deleted between their last reports."""
    pair = stage.life("pair", exporters=2)
    for hour, at in stage.hours():
        pair.work()
        pair.exporters[0].report(at - 20 * 60)
        if hour == HOURS:
            pair.novu.delete("event", 120)
            pair.novu.delete("subscriber", 30)
            del pair.novu.providers["twilio"]
        pair.exporters[1].report(at)


def live_as_fifty(stage: Stage) -> None:
    """Report from fifty exporters beside one Novu that shrinks before the last of them."""
    fifty = stage.life("fifty", exporters=50)
    for index, exporter in enumerate(fifty.exporters):
        if index == 49:
            fifty.novu.delete("event", 100)
        exporter.report(stage.end - (49 - index) * 20)


def live_switched(stage: Stage) -> None:
    """Switch usage figures off before the last report; and on again."""
    switched = stage.life("switched")
    for hour in (3, 2, 1, 0):
        if hour:
            switched.work()
        switched.exporters[0].report(stage.end - hour * HOUR, usage=hour > 0)
    [again] = stage.life("again").exporters
    again.report(stage.end - HOUR)
    again.report(stage.end - HOUR / 4, usage=False)
    again.report_usage(stage.end)


def live_restarted(stage: Stage) -> None:
    """Restart: once with lost counters, once after a provider is gone; fail to read for hours."""
    restarted = stage.life("restarted")
    [exporter] = restarted.exporters
    for hour, at in stage.hours():
        if hour == 8:
            exporter.restart()
            exporter.report(at - 7 * 60)
        restarted.work()
        if hour == 14:
            exporter.restart(lose_counters=True)
        if hour == HOURS:
            exporter.restart()
            del restarted.novu.providers["twilio"]
        exporter.report(at, failed=hour in {18, 19, 20, 21})


def live_a_first_day(stage: Stage) -> None:
    """Report once; twice; and twice to a new Prometheus, by an exporter that has counted before."""
    for name, reports in (("one", 1), ("two", 2), ("moved", 2)):
        life = stage.life(name)
        [exporter] = life.exporters
        if name == "moved":
            exporter.watch(stage.end - 9 * HOUR)
            life.work()
        for hour in reversed(range(reports)):
            if hour < reports - 1:
                life.work()
            exporter.report(stage.end - hour * HOUR)


def live_without_messages(stage: Stage) -> None:
    """Report from a Novu that nobody uses yet."""
    [idle] = stage.life("idle").exporters
    for hour in (2, 1, 0):
        idle.report(stage.end - hour * HOUR)


def test_every_query_answers_at_any_minute_of_the_hour(stage: Stage) -> None:
    for at in stage.moments():
        missing = queries_of(PANELS.keys() - OWN) - stage.answering(at, stage.lives["lone"].job)
        assert missing <= SOMETIMES - {(TOTALS, 2), (TOTALS, 3), (DATABASE, 2), (FAILED, 2)}


def test_one_report_tells_what_it_can_and_other_panels_say_that_they_need_two(
    stage: Stage,
) -> None:
    job = stage.lives["one"].job
    for at in stage.moments():
        answering = {title for title, _ in stage.answering(at, job)}
        assert answering == FROM_ONE | EXPORTER
        for title in PANELS.keys() - answering - OWN:
            text = PANELS[title]["fieldConfig"]["defaults"]["noValue"]
            assert text.startswith(NEEDS_TWO), title


@pytest.mark.parametrize("name", ["two", "moved"])
def test_two_reports_are_enough_for_every_panel(stage: Stage, name: str) -> None:
    job = stage.lives[name].job
    for at in stage.moments():
        assert queries_of(PANELS.keys() - OWN) - stage.answering(at, job) <= SOMETIMES
        assert stage.number(EVENTS, at, job) == 10
        assert stage.number(MESSAGES, at, job, query=1) == 20
        assert stage.number(UNFINISHED, at, job) == 1


def test_panels_say_that_there_was_no_message_rather_than_that_reports_are_missing(
    stage: Stage,
) -> None:
    job = stage.lives["idle"].job
    for at in stage.moments():
        assert {title for title, _ in stage.answering(at, job)} == PANELS.keys() - OWN
        assert stage.number(PER_HOUR, at, job, query=1) == 0
        assert stage.number(UNFINISHED, at, job) == 0
        assert stage.by("novu_failure_reason", FAILED, at, job, query=3) == {"none": 0}


def test_every_variable_offers_what_reports(stage: Stage) -> None:
    fifty = stage.lives["fifty"]
    jobs = sorted(life.job for life in stage.lives.values())
    for name, offered in (("job", jobs), ("instance", fifty.instances)):
        [selector] = re.findall(rf"label_values\((.+), {name}\)", VARIABLES[name]["query"])
        question = {"match[]": fill(selector, [fifty.job]), "start": stage.end - DAY}
        path = f"label/{name}/values"
        assert ask(stage.own.prometheus.address, path, **question, end=stage.end) == offered


@pytest.mark.parametrize("name", ["lone", "pair", "fifty", "restarted"])
def test_totals_and_providers_are_those_of_the_exporter_that_read_last(
    stage: Stage, name: str
) -> None:
    life = stage.lives[name]
    for at in stage.settled():
        assert stage.by("figure", TOTALS, at, life.job, query=1) == life.totals
        shown = stage.by("novu_provider_id", INTEGRATIONS, at, life.job)
        assert shown == life.novu.providers


def test_the_change_is_that_over_the_range_and_left_out_without_a_beginning(stage: Stage) -> None:
    job = stage.lives["lone"].job
    for at in stage.moments():
        changes = stage.by("figure", TOTALS, at, job, query=2)
        assert (changes["subscriber"], changes["event"], changes["topic"]) == (72, 240, 0)
    early = stage.end - 12 * HOUR
    assert stage.by("figure", TOTALS, early, job, query=1)
    assert stage.by("figure", TOTALS, early, job, query=2) == {}


@pytest.mark.parametrize("name", ["lone", "pair"])
def test_a_day_and_an_hour_show_what_was_delivered_in_them(stage: Stage, name: str) -> None:
    job = stage.lives[name].job
    for at in stage.moments():
        assert stage.number(EVENTS, at, job) == 24 * 10
        assert stage.number(MESSAGES, at, job) == 90
        assert stage.number(MESSAGES, at, job, query=1) == 24 * 20
        assert stage.number(UNFINISHED, at, job) == 24
        assert stage.number(UNFINISHED, at, job, query=1) == 0
        failures = stage.by("novu_failure_reason", FAILED, at, job)
        assert failures == {"error": 48, "no_integration": 24}
        assert stage.by("novu_failure_reason", FAILED, at, job, query=1) == {"error": 0.2}
        channels = stage.by("novu_channel", PER_HOUR, at, job)
        assert channels == {"email": 10, "in_app": 10}
        assert stage.by("novu_provider_id", ERRORS, at, job) == {"sendgrid": 2, "novu": 0}
        shares = stage.by("novu_channel", "Messages made within 10 seconds, in 24 hours", at, job)
        assert shares == {"email": 80, "in_app": 100}
        [email, in_app] = stage.over(PER_HOUR, at, job)
        assert {*email, *in_app} == {10}
    # On the first day, before which nothing was reported.
    assert stage.number(EVENTS, stage.end - 20 * HOUR + 60, job) == 6 * 10


def test_restarts_lost_counters_and_failed_readings_invent_nothing(stage: Stage) -> None:
    job = stage.lives["restarted"].job
    # What was created in the hour of the loss is not counted; an hour is empty where not read.
    values = stage.over(PER_HOUR, stage.end + 60, job)
    assert {value for series in values for value in series} == {10}
    for _, at in list(stage.hours())[2:]:
        for title in (EVENTS, UNFINISHED):
            day = stage.number(title, at + 60, job)
            assert day is None or 0 <= day <= 24 * 10


def test_three_hours_after_the_last_report_only_its_age_is_shown(stage: Stage) -> None:
    job, at = stage.lives["lone"].job, stage.end + 3 * HOUR
    now = {
        title
        for title, number in queries_of(PANELS.keys() - OWN)
        if stage.instant(title, at, job, query=number)
    }
    # These look back a day.
    assert now <= {AGE, BEACONS, FAILED, FIGURES, *PER_DAY}
    assert stage.instant(FAILED, at, job) == []
    assert stage.over(BEACONS, at, job)[0][-3:] == [0, 0, 0]
    for then in (at, *stage.moments()):
        age = stage.number(AGE, then, job)
        assert age == pytest.approx(then - stage.end, abs=1)


def test_a_missing_hour_shows_in_the_timeline(stage: Stage) -> None:
    [shown] = stage.over(BEACONS, stage.end, stage.lives["missing"].job)
    # From 75 minutes after the report before it to the next report.
    assert sum(value == 0 for value in shown[-3 * 30 :]) == pytest.approx(45 / 2, abs=1)


@pytest.mark.parametrize("name", ["pair", "fifty"])
def test_every_exporter_of_a_deployment_is_listed(stage: Stage, name: str) -> None:
    life = stage.lives[name]
    for title in (EXPORTERS, BEACONS):
        for query, _ in enumerate(PANELS[title]["targets"]):
            found = stage.instant(title, stage.end + 60, life.job, query=query)
            assert sorted(labels["instance"] for labels, _ in found) == life.instances


def test_deployments_add_up(stage: Stage) -> None:
    lives = [stage.lives["lone"], stage.lives["pair"]]
    jobs = [life.job for life in lives]
    for at in stage.moments():
        expected = sum((Counter(life.totals) for life in lives), Counter())
        assert stage.by("figure", TOTALS, at, *jobs, query=1) == expected
        assert stage.number(EVENTS, at, *jobs) == 2 * 240
        assert stage.by("novu_channel", PER_HOUR, at, *jobs) == {"email": 20, "in_app": 20}
        assert stage.by("job", AGE, at, *jobs).keys() == set(jobs)


def test_usage_that_is_off_is_said_and_usage_that_is_on_again_shows_at_once(stage: Stage) -> None:
    switched = stage.lives["switched"]
    for at in stage.settled():
        for title, query in ((EVENTS, 0), (MESSAGES, 1), (UNFINISHED, 0)):
            number = stage.number(title, at, switched.job, query=query)
            assert number is not None
            assert math.isnan(number)
        assert stage.instant(TOTALS, at, switched.job, query=1) == []
        assert [flag for _, flag in stage.instant(EXPORTERS, at, switched.job, query=3)] == [0]
        for title in (AGE, EXPORTERS, BEACONS):
            assert stage.instant(title, at, switched.job), title
        # One of two is on.
        assert stage.number(EVENTS, at, switched.job, stage.lives["one"].job) is None
    for at in stage.moments(after=-HOUR):
        assert stage.by("figure", TOTALS, at, switched.job, query=1) == switched.totals
        assert stage.number(EVENTS, at, switched.job) == 20
    again = stage.lives["again"]
    assert stage.by("figure", TOTALS, stage.end + 60, again.job, query=1) == again.totals


def test_every_query_in_the_documentation_answers(stage: Stage) -> None:
    queries = re.findall(r"```promql\n(.+?)```", (ROOT / "docs/viewing.md").read_text(), re.DOTALL)
    assert len(queries) > 5
    for at in stage.moments():
        for query in queries:
            assert stage.lives["lone"].job in {m["job"] for m, _ in stage.query(query, at)}, query


def test_prometheus_evaluates_every_rule_and_no_alert_fires_without_a_cause(stage: Stage) -> None:
    check_rules(stage)


def check_rules(stage: Stage) -> None:
    """Check that Prometheus evaluates them, and which alerts fire for the deployment `lone`."""

    def rules_of(kind: str) -> list[dict[str, Any]]:
        groups = ask(stage.own.prometheus.address, "rules", type=kind)["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def healthy() -> bool:
        return {r["health"] for r in (*rules_of("record"), *rules_of("alert"))} == {"ok"}

    assert poll(healthy, 300)
    job = stage.lives["lone"].job
    # An hour of it loses a job, and its few failures are too few.
    caused = {"OtelNovuJobsUnfinished"}
    for rule in rules_of("alert"):
        for at in stage.moments():
            fires = job in {labels["job"] for labels, _ in stage.query(rule["query"], at)}
            assert fires is (rule["name"] in caused), rule["name"]
        late = job in {m["job"] for m, _ in stage.query(rule["query"], stage.end + 3 * HOUR)}
        assert late is (rule["name"] == "OtelNovuStoppedReporting")


@pytest.mark.parametrize("strategy", [translation.DEFAULT, *translation.STRATEGIES])
def test_the_dashboard_and_the_alerts_of_a_strategy_answer_without_a_collector(
    strategy: str, tmp_path: Path
) -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    folder = translation.folder(strategy)
    config["global"] = {"evaluation_interval": "2s"}
    for name in config["rule_files"]:
        text = (folder / name).read_text().replace("interval: 2m", "interval: 2s")
        (tmp_path / name).write_text(text)
    if strategy != translation.DEFAULT:
        config["otlp"] = {"translation_strategy": strategy}
    file, parts = tmp_path / "prometheus.yml", build()
    file.write_text(yaml.safe_dump(config))
    board = json.loads(translation.dashboard(strategy).read_text())
    with UncompactedOtlpPrometheus(file, binaries=parts) as prometheus:
        own = Backend(prometheus, prometheus, parts, folder / "rules.yml")
        panels = {panel["title"]: panel for panel in panels_of(board)}
        stage = Stage(own, (time.time() // HOUR - 5) * HOUR + 17 * 60, panels)
        live_alone(stage)
        own.record(stage.end - (HOURS - 1) * HOUR + 60, stage.end + 3 * HOUR)
        test_every_query_answers_at_any_minute_of_the_hour(stage)
        life = stage.lives["lone"]
        for at in stage.moments():
            assert stage.number(EVENTS, at, life.job) == 24 * 10
            totals = stage.by("figure", TOTALS, at, life.job, query=1)
            assert {name.replace(".", "_"): n for name, n in totals.items()} == life.totals
        check_rules(stage)


@pytest.mark.long
def test_after_a_month_every_panel_answers_and_the_outage_of_a_provider_is_first() -> None:
    parts, end = build(), lively_month.last_end()
    prometheus = lively_month.LongPrometheus(PROMETHEUS / "prometheus.yml", binaries=parts)
    with backend(parts, prometheus) as own:
        lively_month.live(own, 31 * 24, end)
        month, job = Stage(own, end - HOUR + 41 * 60), "shop/novu"
        for at in month.moments():
            answering = month.answering(at, job)
            assert {title for title, _ in answering} == PANELS.keys() - OWN
            worst = max(month.instant(FAILED, at, job), key=lambda found: found[1])
            assert worst[0]["novu_provider_id"] == "sendgrid"
