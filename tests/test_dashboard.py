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

import novu_dashboard
import pytest
import yaml
from history import DAY, HOUR, Backend, Novu, Reporter, backend
from promql import ROWS
from stack import Prometheus, ask_prometheus, build, poll

from otel_novu.metrics.prometheus import prometheus_label, prometheus_name

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[1]
GRAFANA, PROMETHEUS = ROOT / "examples" / "grafana", ROOT / "examples" / "prometheus"
NAMES = {prometheus_name(row) for row in ROWS.values()}
LABELS = {prometheus_label(key) for row in ROWS.values() for key in row.attributes}
FILE: dict[str, Any] = json.loads(novu_dashboard.FILE.read_text())
PANELS = {panel["title"]: panel for panel in FILE["panels"] if panel["type"] != "row"}
VARIABLES = {variable["name"]: variable for variable in FILE["templating"]["list"]}
QUERIES = [
    *(target["expr"] for panel in PANELS.values() for target in panel["targets"]),
    *(variable["query"] for name, variable in VARIABLES.items() if name != "datasource"),
]
TILES = {title: name.removeprefix("novu.") for name, title in novu_dashboard.TOTALS.items()}
HOSTS = ("Telemetry", "Instances", "Memory used", "Beacons", "Reports waiting")
# These show a deployment that is gone, and do not depend on usage figures.
LOOK_BACK = ("Age of the last report", "Telemetry", "Instances", "Beacons")
HOURS, MINUTES = 26, (1, 30, 59)

Vector = list[tuple[Mapping[str, str], float]]


def test_the_file_is_what_the_code_makes() -> None:
    assert novu_dashboard.FILE.read_text() == novu_dashboard.to_json(), "run `make dashboard`"


def test_every_panel_has_a_title_a_unit_a_text_for_no_answer_and_names_its_metrics() -> None:
    assert len(PANELS) == sum(panel["type"] != "row" for panel in FILE["panels"])
    for panel in PANELS.values():
        named = re.findall(r"`(novu\.[\w.]+)`", panel["description"])
        assert named
        assert set(named) <= ROWS.keys()
        assert {"unit", "noValue"} <= panel["fieldConfig"]["defaults"].keys()


def test_panels_fill_the_grid_without_overlaps_or_holes() -> None:
    taken: Counter[tuple[int, int]] = Counter()
    for panel in FILE["panels"]:
        at = panel["gridPos"]
        across, down = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        taken.update((x, y) for x in across for y in down)
    assert set(taken.values()) == {1}
    height = max(y for _, y in taken) + 1
    assert taken.keys() == {(x, y) for x in range(24) for y in range(height)}


def test_queries_ask_only_for_metrics_of_the_rows() -> None:
    assert set(re.findall(r"\bnovu_\w+", "\n".join(QUERIES))) <= NAMES | LABELS


def test_every_series_is_selected_by_the_variables_and_looked_back_for() -> None:
    """A plain selector sees 5 minutes; it is right only in `timestamp`, beside a longer look."""
    for query in QUERIES:
        assert set(re.findall(r"\$(\w+)", query)) <= {*VARIABLES, "__range", "1"}
        if query.startswith("label_values"):
            continue
        selectors = re.findall(r"\bnovu_\w+(?![\w),])(\{[^}]*\})?", query)
        assert set(selectors) == {'{job=~"$job",instance=~"$instance"}'}
        plain = re.sub(r"timestamp\(novu_\w+\{[^}]*\}( @ end\(\)| offset \S+)?\)", "", query)
        assert re.findall(r"\bnovu_\w+\{[^}]*\}(?!\[)", plain) == []
        assert re.findall(r"increase|rate\(", query) == []


def test_data_source_deployment_and_instance_are_chosen_by_the_user() -> None:
    assert VARIABLES.keys() == {"datasource", "job", "instance"}
    for name in ("job", "instance"):
        options = [VARIABLES[name][key] for key in ("multi", "includeAll", "allValue")]
        assert options == [True, True, ".+"]
    text, chosen = json.dumps(FILE), '{"type": "prometheus", "uid": "${datasource}"}'
    assert text.count('"datasource": {') == text.count(f'"datasource": {chosen}') > 0


def test_a_tile_has_a_word_for_usage_that_is_off() -> None:
    for title in TILES:
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


# --- its queries ---------------------------------------------------------------------------------


def ask(address: str, path: str, **question: object) -> Any:
    url = f"{address}/api/v1/{path}?{urllib.parse.urlencode(question)}"
    with urllib.request.urlopen(url, timeout=120) as answer:  # noqa: S310 - our own address
        return json.load(answer)["data"]


def fill(expr: str, jobs: Iterable[str]) -> str:
    """Replace the variables: these deployments, all their instances, a day."""
    values = {"$job": "|".join(jobs), "$instance": ".+", "$__range": "86400s"}
    return re.sub(r"\$(job|instance|__range)\b", lambda found: values[found[0]], expr)


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
        return {title: counts[figure] for title, figure in TILES.items()}


@dataclass
class Stage:
    """The deployments, all in one Prometheus, which is asked as Grafana asks it."""

    own: Backend
    end: float
    lives: dict[str, Life] = field(default_factory=dict)

    def life(self, namespace: str, exporters: int = 1) -> Life:
        """Begin a deployment that has not reported yet."""
        counts = {
            figure: 200 + 17 * index for index, figure in enumerate(list(TILES.values())[:-1])
        }
        novu = Novu(Counter(counts), {"sendgrid": 3, "twilio": 2, "unknown": 1})
        reporters = [Reporter(self.own.collector, novu, namespace) for _ in range(exporters)]
        self.lives[namespace] = Life(f"{namespace}/novu", novu, reporters)
        return self.lives[namespace]

    def hours(self) -> Iterator[tuple[int, float]]:
        for hour in range(HOURS + 1):
            yield hour, self.end - (HOURS - hour) * HOUR

    def moments(self, after: float = 0.0) -> list[float]:
        """Return times between the last report and the next one."""
        return [self.end + after + minutes * 60 for minutes in MINUTES]

    def query(self, expr: str, at: float) -> Vector:
        found = ask_prometheus(self.own.prometheus.address, expr, at)
        return [(answer["metric"], float(answer["value"][1])) for answer in found]

    def instant(self, title: str, at: float, *jobs: str, query: int = 0) -> Vector:
        return self.query(fill(PANELS[title]["targets"][query]["expr"], jobs), at)

    def by(self, label: str, title: str, at: float, *jobs: str) -> dict[str, float]:
        return {labels[label]: value for labels, value in self.instant(title, at, *jobs)}

    def number(self, title: str, at: float, job: str, *jobs: str, query: int = 0) -> float | None:
        """Return the only answer of a query, or None if there is none."""
        answers = self.instant(title, at, job, *jobs, query=query)
        assert len(answers) <= 1, answers
        return answers[0][1] if answers else None

    def tiles(self, at: float, *jobs: str, suffix: str = "") -> dict[str, float | None]:
        return {title: self.number(title + suffix, at, *jobs) for title in TILES}

    def over(
        self, title: str, at: float, job: str, query: int = 0, begin: float = 0
    ) -> list[float]:
        """Return the first series that a query answers over the day before, at the panel's step."""
        panel = PANELS[title]
        step = {"1h": 3600, "1d": 86400, "30m": 1800}.get(panel.get("interval", ""), 120)
        expr = fill(panel["targets"][query]["expr"], [job])
        begin = begin or (at - DAY) // step * step
        address = self.own.prometheus.address
        found = ask(address, "query_range", query=expr, start=begin, end=at, step=step)["result"]
        return [float(value) for series in found[:1] for _, value in series["values"]]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    parts = build()
    with backend(parts, Prometheus(PROMETHEUS / "prometheus.yml", binaries=parts)) as own:
        # An odd minute: reports have no place of their own in the hour.
        made = Stage(own, (time.time() // HOUR - 5) * HOUR + 17 * 60)
        for live in (live_alone, live_as_a_pair, live_as_fifty, live_switched, live_restarted):
            live(made)
        # The collector sends in order: once this report is there, all are.
        made.life("last").exporters[0].report(made.end)
        own.wait_for('novu_user_count{job="last/novu"}', made.end)
        yield made


def live_alone(stage: Stage) -> None:
    """Report for 26 hours, ten events and three subscribers an hour; and without one of six."""
    lone, missing = stage.life("lone"), stage.life("missing")
    for hour, at in stage.hours():
        lone.novu.create("event", 10)
        lone.novu.create("subscriber", 3)
        lone.exporters[0].report(at)
        if HOURS - hour in {6, 5, 4, 2, 1, 0}:
            missing.exporters[0].report(at)


def live_as_a_pair(stage: Stage) -> None:
    """Report from two exporters; much is deleted between their last reports."""
    pair = stage.life("pair", exporters=2)
    for hour, at in stage.hours():
        pair.novu.create("event", 10)
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
    [switched] = stage.life("switched").exporters
    for hour in (3, 2, 1, 0):
        switched.report(stage.end - hour * HOUR, usage=hour > 0)
    [again] = stage.life("again").exporters
    again.report(stage.end - HOUR)
    again.report(stage.end - HOUR / 4, usage=False)
    again.report_usage(stage.end)


def live_restarted(stage: Stage) -> None:
    """Restart three times: once with lost counters, once after a provider is gone."""
    restarted = stage.life("restarted")
    [exporter] = restarted.exporters
    for hour, at in stage.hours():
        if hour == 8:
            exporter.restart()
            exporter.report(at - 7 * 60)
        restarted.novu.create("event", 10)
        if hour == 14:
            exporter.restart(lose_counters=True)
        if hour == HOURS:
            exporter.restart()
            del restarted.novu.providers["twilio"]
        exporter.report(at)


def test_every_query_answers_at_any_minute_of_the_hour(stage: Stage) -> None:
    job = stage.lives["lone"].job
    for at in stage.moments():
        for title, panel in PANELS.items():
            for query, target in enumerate(panel["targets"]):
                assert stage.instant(title, at, job, query=query), (title, query)
                assert not target["range"] or stage.over(title, at, job, query), (title, query)


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
    for at in stage.moments():
        assert stage.tiles(at, life.job) == life.totals
        assert stage.tiles(at, life.job, suffix=" over time") == life.totals
        shown = stage.by("novu_provider_id", "Integrations by provider", at, life.job)
        assert shown == life.novu.providers


def test_the_change_is_that_over_the_range_and_left_out_without_a_beginning(stage: Stage) -> None:
    job = stage.lives["lone"].job
    for at in stage.moments():
        changes = [stage.number(t, at, job, query=1) for t in ("Subscribers", "Events", "Topics")]
        assert changes == [24 * 3, 24 * 10, 0]
    assert stage.number("Events", stage.end - 12 * HOUR, job) is not None
    assert stage.number("Events", stage.end - 12 * HOUR, job, query=1) is None


@pytest.mark.parametrize("name", ["lone", "pair"])
def test_each_hour_and_each_day_shows_once_what_was_created_in_it(stage: Stage, name: str) -> None:
    job = stage.lives[name].job
    for at in stage.moments():
        assert stage.over("Events triggered per hour", at, job) == [10] * 25
    assert stage.number("Events triggered per day", stage.end + 60, job) == 24 * 10
    # On the first day, before which nothing was reported.
    first = stage.end - 20 * HOUR + 60
    assert stage.number("Events triggered per day", first, job) == 6 * 10


def test_created_bars_survive_restarts_and_lost_counters(stage: Stage) -> None:
    job = stage.lives["restarted"].job
    values = stage.over("Events triggered per hour", stage.end + 60, job)
    # What was created in the hour of the loss is not counted, and nothing else is missing.
    assert Counter(values) == {10: len(values) - 1, 0: 1}
    for _, at in stage.hours():
        day = stage.number("Events triggered per day", at + 60, job)
        assert day is not None
        assert 0 <= day <= 24 * 10


def test_three_hours_after_the_last_report_only_its_age_is_shown(stage: Stage) -> None:
    job, at = stage.lives["lone"].job, stage.end + 3 * HOUR
    assert set(stage.tiles(at, job).values()) == {None}
    assert set(stage.tiles(at, job, suffix=" over time").values()) == {None}
    assert stage.instant("Integrations by provider", at, job) == []
    for title in LOOK_BACK:
        for query, _ in enumerate(PANELS[title]["targets"]):
            assert stage.instant(title, at, job, query=query), title
    assert stage.over("Beacons", at, job)[-3:] == [0, 0, 0]
    for then in (at, *stage.moments()):
        age = stage.number("Age of the last report", then, job)
        assert age == pytest.approx(then - stage.end, abs=1)


def test_a_missing_hour_shows_in_the_timeline_wherever_its_steps_fall(stage: Stage) -> None:
    job = stage.lives["missing"].job
    for minute in range(30):
        begin = stage.end - 5 * HOUR + 60 * minute
        shown = stage.over("Beacons", stage.end, job, begin=begin)
        missing = [begin + 1800 * index for index, value in enumerate(shown) if value == 0]
        assert 1 <= len(missing) <= 2
        assert all(stage.end - 3 * HOUR < at < stage.end - 2 * HOUR for at in missing)


@pytest.mark.parametrize("name", ["pair", "fifty"])
def test_every_exporter_of_a_deployment_is_listed(stage: Stage, name: str) -> None:
    life = stage.lives[name]
    for title in HOSTS:
        for query, _ in enumerate(PANELS[title]["targets"]):
            found = stage.instant(title, stage.end + 60, life.job, query=query)
            assert sorted(labels["instance"] for labels, _ in found) == life.instances


def test_deployments_add_up_in_the_tiles_and_stand_side_by_side_over_time(stage: Stage) -> None:
    lives = [stage.lives["lone"], stage.lives["pair"]]
    jobs = [life.job for life in lives]
    for at in stage.moments():
        for title in TILES:
            each = {life.job: life.totals[title] for life in lives}
            assert stage.number(title, at, *jobs) == sum(each.values())
            assert stage.by("job", f"{title} over time", at, *jobs) == each
        assert stage.by("job", "Age of the last report", at, *jobs).keys() == set(jobs)


def test_usage_that_is_off_is_said_and_usage_that_is_on_again_shows_at_once(stage: Stage) -> None:
    switched = stage.lives["switched"]
    for at in stage.moments():
        assert all(math.isnan(value or 0) for value in stage.tiles(at, switched.job).values())
        assert set(stage.tiles(at, switched.job, suffix=" over time").values()) == {None}
        assert [flag for _, flag in stage.instant("Telemetry", at, switched.job)] == [0]
        for title in (*LOOK_BACK, *HOSTS, "Dropped and rejected per hour"):
            assert stage.instant(title, at, switched.job), title
    for at in stage.moments(after=-HOUR):
        assert stage.tiles(at, switched.job) == switched.totals
    again = stage.lives["again"]
    assert stage.tiles(stage.end + 60, again.job) == again.totals


def test_every_query_in_the_documentation_answers(stage: Stage) -> None:
    queries = re.findall(r"```promql\n(.+?)```", (ROOT / "docs/viewing.md").read_text(), re.DOTALL)
    assert len(queries) > 5
    for at in stage.moments():
        for query in queries:
            assert stage.lives["lone"].job in {m["job"] for m, _ in stage.query(query, at)}, query


def test_prometheus_evaluates_every_alert_and_none_fires_within_the_hour(stage: Stage) -> None:
    def rules() -> list[dict[str, Any]]:
        [group] = ask(stage.own.prometheus.address, "rules")["groups"]
        return list(group["rules"])

    assert poll(lambda: {rule["health"] for rule in rules()} == {"ok"}, 300)
    later, job = stage.end + 3 * HOUR, stage.lives["lone"].job
    for rule in rules():
        for at in (*stage.moments(), later):
            fires = job in {labels["job"] for labels, _ in stage.query(rule["query"], at)}
            assert fires is (at == later and rule["name"] == "OtelNovuStoppedReporting")
