"""The shipped dashboard's own queries, on the real Prometheus, fed by the exporter.

Each deployment of the tests has a database and a life of its own, and all end at the same time.
"""

import contextlib
import json
import math
import re
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import compare
import novu_dashboard
import pytest
import stack as stack_module
import yaml
from history import HOUR, Backend, Novu, Reporter, backend
from pymongo import MongoClient
from servers import eventually
from stack import Servers, StackError, ask_prometheus, with_database

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "examples" / "prometheus"
VIEWING = ROOT / "docs" / "viewing.md"
HOURS = 26
DAY = 24 * HOUR
RANGE = int(DAY)
MINUTES = (1, 30, 59)
TILES = {
    "Subscribers": "subscriberCount",
    "Events": "eventCount",
    "Workflows": "workflowCount",
    "Steps": "totalSteps",
    "Topics": "topicCount",
    "Users": "userCount",
    "Organizations": "orgCount",
    "Integrations": "integrationCount",
}
# What tells of a deployment that is gone; and what never depends on usage figures.
LOOK_BACK = {"Age of the last report", "Telemetry", "Instances", "Beacons"}
OF_THE_BEACON = LOOK_BACK | {"Memory used", "Reports waiting", "Dropped and rejected per hour"}

Labels = Mapping[str, str]
Vector = list[tuple[Labels, float]]
Series = list[tuple[Labels, list[tuple[float, float]]]]


# --- Grafana's part ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Board:
    """The shipped dashboard, asked as Grafana would ask.

    Args:
        panels: by title.
        variables: the queries of the variables, by name.
        address: of Prometheus.
    """

    panels: Mapping[str, dict[str, Any]]
    variables: Mapping[str, str]
    address: str

    def queries(self, title: str) -> list[str]:
        """The panel's queries, as they stand in the file."""
        return [target["expr"] for target in self.panels[title]["targets"]]

    def instant(self, title: str, at: float, *jobs: str, query: int = 0) -> Vector:
        """What a query of a panel answers at a moment."""
        expr = fill(self.queries(title)[query], jobs)
        answers = ask_prometheus(self.address, expr, at)
        return [(answer["metric"], float(answer["value"][1])) for answer in answers]

    def number(self, title: str, at: float, *jobs: str, query: int = 0) -> float | None:
        """The only value that a query answers, or None where it answers nothing."""
        answers = self.instant(title, at, *jobs, query=query)
        assert len(answers) <= 1, answers
        return answers[0][1] if answers else None

    def over(self, title: str, at: float, *jobs: str, query: int = 0) -> Series:
        """What a query of a panel answers over the day before a moment, at the panel's own step."""
        step = {"1h": 3600, "1d": 86400, "30m": 1800}.get(
            self.panels[title].get("interval", ""), 120
        )
        expr = fill(self.queries(title)[query], jobs)
        question = {"query": expr, "start": (at - DAY) // step * step, "end": at // step * step}
        answers = ask(self.address, "query_range", question | {"step": step})["result"]
        return [
            (answer["metric"], [(float(at), float(value)) for at, value in answer["values"]])
            for answer in answers
        ]

    def options(self, name: str, at: float, *jobs: str) -> list[str]:
        """What a variable offers."""
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", self.variables[name])
        assert found is not None
        question = {"match[]": fill(found[1], jobs), "start": at - DAY, "end": at}
        return list(ask(self.address, f"label/{found[2]}/values", question))


def fill(expr: str, jobs: Sequence[str]) -> str:
    """Put values in the places of variables: these deployments, all their instances, a day."""
    chosen = "|".join(re.escape(job).replace("\\", "\\\\") for job in jobs)
    expr = expr.replace("$job", f"({chosen})").replace("$instance", ".+")
    return expr.replace("$__range", f"{RANGE}s")


def ask(address: str, path: str, question: Mapping[str, object]) -> Any:
    url = f"{address}/api/v1/{path}?{urllib.parse.urlencode(question)}"
    with urllib.request.urlopen(url, timeout=120) as answer:  # noqa: S310 - our own address
        return json.load(answer)["data"]


# --- lives ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Life:
    """One deployment, all of whose reports have arrived.

    Args:
        job: what Prometheus calls it.
        end: Unix time of its last report.
        truth: what the database answered then.
        instances: the ids of its exporters.
    """

    job: str
    end: float
    truth: Mapping[str, Any]
    instances: tuple[str, ...]


@dataclass
class Stage:
    """Where deployments are made.

    Args:
        servers: the shared servers, for the databases.
        backend: the collector and the Prometheus of these tests.
        folder: of these tests.
        end: Unix time at which every deployment reports last.
        open: closes what was opened.
    """

    servers: Servers
    backend: Backend
    folder: Path
    end: float
    open: contextlib.ExitStack

    def novu(self) -> Novu:
        """An empty database."""
        url = with_database(self.servers.mongo_url, f"novu-test-{uuid.uuid4().hex[:12]}")
        client = self.open.enter_context(MongoClient[dict[str, Any]](url, tz_aware=True))
        database = client.get_default_database()
        self.open.callback(client.drop_database, database.name)
        return Novu(database)

    def reporter(self, novu: Novu, namespace: str) -> Reporter:
        """An exporter beside a database."""
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir(mode=0o700)
        environ = {
            "MONGO_URL": with_database(self.servers.mongo_url, novu.database.name),
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.backend.collector.otlp_http,
            "OTEL_RESOURCE_ATTRIBUTES": f"service.namespace={namespace}",
            "OTEL_NOVU_QUERY_TIMEOUT": "60",
        }
        return self.open.enter_context(Reporter(folder, environ))

    def analyze(self) -> None:
        """Bring the estimated counts up to date, while other tests may drop their databases."""

        def done() -> bool:
            try:
                self.servers.analyze()
            except StackError:
                return False
            return True

        eventually(done)

    def ended(self, namespace: str, novu: Novu, *reporters: Reporter) -> Life:
        """Wait until the last report has arrived."""
        instances = tuple(reporter.instance for reporter in reporters)
        job = f"{namespace}/novu"
        for reporter in reporters:
            last = f'{{job="{job}",instance="{reporter.instance}"}}[5s]'
            query = f"last_over_time(novu_spool_dropped_total{last})"
            self.backend.wait_for(query, reporter.reported_at + 1)
        return Life(job, self.end, compare.ask_novu(novu.database), instances)


@pytest.fixture(scope="module")
def stage(
    stack: Servers, tmp_path_factory: pytest.TempPathFactory, parts: stack_module.Binaries
) -> Iterator[Stage]:
    # An odd minute of an hour that is over: reports are in no step with the hour.
    end = (time.time() // HOUR - 5) * HOUR + 17 * 60
    folder = tmp_path_factory.mktemp("dashboard")
    folder.chmod(0o700)
    with (
        backend(parts, PROMETHEUS / "prometheus.yml") as own,
        contextlib.ExitStack() as opened,
    ):
        yield Stage(stack, own, folder, end, opened)


@pytest.fixture(scope="module")
def parts() -> stack_module.Binaries:
    return stack_module.build()


@pytest.fixture(scope="module")
def board(stage: Stage) -> Board:
    file = json.loads(novu_dashboard.FILE.read_text())
    panels = {panel["title"]: panel for panel in file["panels"] if panel["type"] != "row"}
    queries = {v["name"]: v["query"] for v in file["templating"]["list"] if v["type"] == "query"}
    return Board(panels, queries, stage.backend.prometheus.address)


@pytest.fixture(scope="module")
def lone(stage: Stage) -> Life:
    """One exporter, 26 hours, growing; ten events and three subscribers an hour."""
    novu = stage.novu()
    reporter = stage.reporter(novu, "lone")
    begin = stage.end - HOURS * HOUR
    novu.load(begin)
    for hour in range(HOURS + 1):
        at = begin + hour * HOUR
        if hour:
            novu.create("notifications", 10, at - HOUR / 2)
            novu.create("subscribers", 3, at - HOUR / 2, deleted=False)
        if hour == HOURS:
            stage.analyze()
        reporter.report(at)
    return stage.ended("lone", novu, reporter)


@pytest.fixture(scope="module")
def pair(stage: Stage) -> Life:
    """Two exporters beside one database; much is deleted between their last reports."""
    novu = stage.novu()
    first, second = stage.reporter(novu, "pair"), stage.reporter(novu, "pair")
    begin = stage.end - HOURS * HOUR
    novu.load(begin - HOUR)
    for hour in range(HOURS + 1):
        at = begin + hour * HOUR
        novu.create("notifications", 10, at - HOUR / 2)
        if hour == HOURS:
            stage.analyze()
        first.report(at - 20 * 60)
        if hour == HOURS:
            novu.delete("notifications", 120)
            novu.delete("subscribers", 30)
            novu.database["integrations"].delete_many({"providerId": "twilio"})
            stage.analyze()
        second.report(at)
    return stage.ended("pair", novu, first, second)


@pytest.fixture(scope="module")
def fifty(stage: Stage) -> Life:
    """Fifty exporters beside one database, which shrinks from report to report."""
    novu = stage.novu()
    novu.load(stage.end - DAY)
    reporters = [stage.reporter(novu, "fifty") for _ in range(50)]
    for left, reporter in reversed(list(enumerate(reporters))):
        if left == 0:
            novu.delete("notifications", 100)
            stage.analyze()
        reporter.report(stage.end - left * 60)
    return stage.ended("fifty", novu, *reporters)


@pytest.fixture(scope="module")
def switched(stage: Stage) -> Life:
    """One exporter whose usage figures were switched off before its last report."""
    novu = stage.novu()
    reporter = stage.reporter(novu, "switched")
    novu.load(stage.end - 3 * HOUR)
    for hours_left in (3, 2, 1):
        reporter.report(stage.end - hours_left * HOUR)
    reporter.switch_usage(on=False)
    reporter.report(stage.end)
    return stage.ended("switched", novu, reporter)


@pytest.fixture(scope="module")
def restarted(stage: Stage) -> Life:
    """One exporter that was restarted, and one day lost the file of its counters."""
    novu = stage.novu()
    reporter = stage.reporter(novu, "restarted")
    begin = stage.end - HOURS * HOUR
    novu.load(begin)
    for hour in range(HOURS + 1):
        at = begin + hour * HOUR
        if hour:
            novu.create("notifications", 10, at - HOUR / 2)
        if hour == 8:  # at once, and again when due
            reporter.stop()
            reporter.report(at - 7 * 60)
        if hour == 14:
            reporter.stop()
            reporter.lose_counters()
        if hour == HOURS:
            reporter.stop()
            novu.database["integrations"].delete_many({"providerId": "twilio"})
            stage.analyze()
        reporter.report(at)
    return stage.ended("restarted", novu, reporter)


def moments(life: Life) -> list[float]:
    return [life.end + minutes * 60 for minutes in MINUTES]


def truth_of(life: Life) -> dict[str, int]:
    return {
        title: sum(value.values()) if isinstance(value := life.truth[field], Mapping) else value
        for title, field in TILES.items()
    }


# --- one exporter --------------------------------------------------------------------------------


def test_every_query_of_every_panel_answers_at_any_minute_of_the_hour(
    board: Board, lone: Life
) -> None:
    for at in moments(lone):
        for title, panel in board.panels.items():
            for query, target in enumerate(panel["targets"]):
                assert board.instant(title, at, lone.job, query=query), (title, query)
                if target.get("range"):
                    assert board.over(title, at, lone.job, query=query), (title, query)


def test_every_variable_offers_what_reports(board: Board, lone: Life) -> None:
    for at in moments(lone):
        assert lone.job in board.options("job", at)
        assert board.options("instance", at, lone.job) == list(lone.instances)


def test_the_totals_are_exactly_the_databases_figures(board: Board, lone: Life) -> None:
    for at in moments(lone):
        shown = {title: board.number(title, at, lone.job) for title in TILES}
        assert shown == truth_of(lone)
        over_time = {title: board.number(f"{title} over time", at, lone.job) for title in TILES}
        assert over_time == truth_of(lone)


def test_the_providers_are_exactly_the_databases(board: Board, lone: Life) -> None:
    for at in moments(lone):
        shown = {
            labels["novu_provider_id"]: value
            for labels, value in board.instant("Integrations by provider", at, lone.job)
        }
        assert shown == lone.truth["integrationCount"]


def test_the_change_is_that_over_the_chosen_range(board: Board, lone: Life) -> None:
    for at in moments(lone):
        assert board.number("Subscribers", at, lone.job, query=1) == 24 * 3
        assert board.number("Events", at, lone.job, query=1) == 24 * 10
        assert board.number("Topics", at, lone.job, query=1) == 0


def test_a_change_is_left_out_where_there_was_no_reading_at_the_beginning(
    board: Board, lone: Life
) -> None:
    assert board.number("Events", lone.end - 12 * HOUR, lone.job) is not None
    assert board.number("Events", lone.end - 12 * HOUR, lone.job, query=1) is None


def test_each_hour_shows_what_was_created_in_it(board: Board, lone: Life) -> None:
    for at in moments(lone):
        [(_, points)] = board.over("Events triggered per hour", at, lone.job)
        assert len(points) == 25
        assert {value for _, value in points} == {10}
        [(_, points)] = board.over("Subscribers created per hour", at, lone.job)
        assert {value for _, value in points} == {3}


def test_a_day_shows_what_was_created_in_it(board: Board, lone: Life) -> None:
    assert board.number("Events triggered per day", lone.end + 60, lone.job) == 24 * 10
    # The first day, before which nobody reported.
    assert board.number("Events triggered per day", lone.end - 20 * HOUR + 60, lone.job) == 6 * 10


def test_three_hours_after_an_instance_has_gone_its_totals_are_gone_and_the_rest_tells_of_it(
    board: Board, lone: Life
) -> None:
    at = lone.end + 3 * HOUR
    for title in TILES:
        assert board.number(title, at, lone.job) is None
        assert board.number(f"{title} over time", at, lone.job) is None
    assert board.instant("Integrations by provider", at, lone.job) == []
    for title in LOOK_BACK:
        for query, _ in enumerate(board.queries(title)):
            assert board.instant(title, at, lone.job, query=query), title
    assert board.number("Age of the last report", at, lone.job) == pytest.approx(3 * HOUR, abs=1)
    [(_, beacons)] = board.over("Beacons", at, lone.job)
    assert [value for _, value in beacons[-3:]] == [0, 0, 0]


def test_the_age_is_that_of_the_last_report(board: Board, lone: Life) -> None:
    for at in moments(lone):
        age = board.number("Age of the last report", at, lone.job)
        assert age == pytest.approx(at - lone.end, abs=1)


def test_a_missing_hour_shows_in_the_timeline(board: Board, stage: Stage) -> None:
    reporter = stage.reporter(stage.novu(), "missing")
    times = [stage.end - hours * HOUR for hours in (6, 5, 4, 2, 1, 0)]
    for at in times:
        reporter.report(at)
    job = "missing/novu"
    stage.backend.wait_for(f'last_over_time(novu_beacon_timestamp_seconds{{job="{job}"}}[1m])', at)
    expr = fill(board.queries("Beacons")[0], [job])
    for minute in range(30):  # of the panel's steps, wherever they fall
        question = {"query": expr, "start": stage.end - DAY + 60 * minute, "end": stage.end}
        [answer] = ask(board.address, "query_range", question | {"step": 1800})["result"]
        missing = [at for at, value in answer["values"] if value == "0"]
        assert answer["metric"]["host_name"]
        assert 1 <= len(missing) <= 2
        assert all(stage.end - 3 * HOUR < at < stage.end - 2 * HOUR for at in missing)


# --- several exporters, several deployments ------------------------------------------------------


def test_of_two_exporters_the_fresher_counts_and_not_the_larger(board: Board, pair: Life) -> None:
    series = f'last_over_time(novu_event_count{{job="{pair.job}"}}[2h])'
    for at in moments(pair):
        values = [float(s["value"][1]) for s in ask_prometheus(board.address, series, at)]
        assert len(values) == 2
        assert max(values) == truth_of(pair)["Events"] + 120
        assert {title: board.number(title, at, pair.job) for title in TILES} == truth_of(pair)


def test_of_two_exporters_the_provider_that_is_gone_is_gone(board: Board, pair: Life) -> None:
    for at in moments(pair):
        shown = {
            labels["novu_provider_id"]: value
            for labels, value in board.instant("Integrations by provider", at, pair.job)
        }
        assert "twilio" not in shown
        assert shown == pair.truth["integrationCount"]


def test_two_exporters_do_not_double_what_was_created(board: Board, pair: Life) -> None:
    [(_, points)] = board.over("Events triggered per hour", pair.end + 60, pair.job)
    assert {value for _, value in points} == {10}
    assert board.number("Events triggered per day", pair.end + 60, pair.job) == 24 * 10


def test_both_exporters_are_listed(board: Board, pair: Life) -> None:
    for title in ("Telemetry", "Instances", "Memory used", "Beacons", "Reports waiting"):
        found = {labels["instance"] for labels, _ in board.instant(title, pair.end + 60, pair.job)}
        assert found == set(pair.instances)


def test_two_deployments_add_up_in_the_tiles_and_stand_side_by_side_over_time(
    board: Board, lone: Life, pair: Life
) -> None:
    jobs = (lone.job, pair.job)
    for at in moments(lone):
        for title in TILES:
            expected = {life.job: truth_of(life)[title] for life in (lone, pair)}
            assert board.number(title, at, *jobs) == sum(expected.values())
            side_by_side = board.instant(f"{title} over time", at, *jobs)
            assert {labels["job"]: value for labels, value in side_by_side} == expected
        ages = board.instant("Age of the last report", at, *jobs)
        assert {labels["job"] for labels, _ in ages} == set(jobs)


def test_fifty_exporters_beside_one_database_are_fifty_hosts_and_one_truth(
    board: Board, fifty: Life
) -> None:
    for at in moments(fifty):
        assert {title: board.number(title, at, fifty.job) for title in TILES} == truth_of(fifty)
        for title in ("Telemetry", "Instances", "Memory used", "Beacons", "Reports waiting"):
            for query, _ in enumerate(board.queries(title)):
                answers = board.instant(title, at, fifty.job, query=query)
                assert sorted(labels["instance"] for labels, _ in answers) == sorted(
                    fifty.instances
                )
    assert board.options("instance", fifty.end, fifty.job) == sorted(fifty.instances)


# --- switched off --------------------------------------------------------------------------------


def test_usage_panels_say_that_usage_is_off_and_the_beacons_are_unharmed(
    board: Board, switched: Life
) -> None:
    for at in moments(switched):
        for title in TILES:
            shown = board.number(title, at, switched.job)
            assert shown is not None
            assert math.isnan(shown), title  # for which the tile says "usage off"
            assert board.number(f"{title} over time", at, switched.job) is None
        [(_, flag)] = board.instant("Telemetry", at, switched.job)
        assert flag == 0
        for title in OF_THE_BEACON:
            for query, _ in enumerate(board.queries(title)):
                assert board.instant(title, at, switched.job, query=query), title


def test_a_tile_has_a_word_for_usage_that_is_off(board: Board) -> None:
    for title in TILES:
        [mapping] = board.panels[title]["fieldConfig"]["defaults"]["mappings"]
        assert mapping["type"] == "special"
        assert mapping["options"]["match"] == "null+nan"
        assert mapping["options"]["result"]["text"] == "usage off"


def test_while_usage_was_on_its_figures_were_shown(board: Board, switched: Life) -> None:
    for minutes in MINUTES:
        at = switched.end - HOUR + minutes * 60
        assert {title: board.number(title, at, switched.job) for title in TILES} == truth_of(
            switched
        )


def test_usage_that_is_on_again_shows_before_the_next_beacon_says_so(
    board: Board, stage: Stage
) -> None:
    novu = stage.novu()
    reporter = stage.reporter(novu, "again")
    novu.load(stage.end - 3 * HOUR)
    stage.analyze()
    reporter.report(stage.end - HOUR)
    reporter.switch_usage(on=False)
    reporter.report(stage.end - HOUR / 2)
    reporter.switch_usage(on=True)
    reporter.report_usage(stage.end)
    stage.backend.wait_for('last_over_time(novu_user_count{job="again/novu"}[5s])', stage.end + 1)
    users = novu.database["users"].count_documents({})
    assert board.number("Users", stage.end + 60, "again/novu") == users


# --- counters that begin anew --------------------------------------------------------------------


def test_created_per_hour_survives_a_restart_and_a_lost_state_file(
    board: Board, restarted: Life
) -> None:
    [(_, points)] = board.over("Events triggered per hour", restarted.end + 60, restarted.job)
    values = [value for _, value in points]
    assert all(0 <= value <= 10 for value in values)
    # What was created before the watch began anew is not counted, and nothing else is missing.
    assert sorted(set(values)) == [0, 10]
    assert values.count(0) == 1


def test_created_per_day_never_falls_below_zero_nor_exceeds_what_was_created(
    board: Board, restarted: Life
) -> None:
    for hour in range(HOURS + 1):
        at = restarted.end - hour * HOUR + 60
        value = board.number("Events triggered per day", at, restarted.job)
        assert value is not None
        assert 0 <= value <= 24 * 10


def test_a_provider_that_went_while_the_exporter_was_down_is_gone(
    board: Board, restarted: Life
) -> None:
    of_the_gone = f'{{job="{restarted.job}",novu_provider_id="twilio"}}'
    for at in moments(restarted):
        series = f"last_over_time(novu_integration_count{of_the_gone}[2h])"
        assert ask_prometheus(board.address, series, at)  # so the query must leave it out
        shown = {
            labels["novu_provider_id"]: value
            for labels, value in board.instant("Integrations by provider", at, restarted.job)
        }
        assert shown == restarted.truth["integrationCount"]
        assert board.number("Integrations", at, restarted.job) == sum(shown.values())


# --- docs/viewing.md -----------------------------------------------------------------------------


def test_every_query_that_the_documentation_gives_answers(board: Board, lone: Life) -> None:
    queries = re.findall(r"```promql\n(.+?)```", VIEWING.read_text(), re.DOTALL)
    assert len(queries) > 5
    for at in moments(lone):
        for query in queries:
            jobs = {answer["metric"]["job"] for answer in ask_prometheus(board.address, query, at)}
            assert lone.job in jobs, query


# --- alerts --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("lone")
def test_prometheus_itself_evaluates_every_alert_without_error(board: Board) -> None:
    def health() -> set[str]:
        groups = ask(board.address, "rules", {})["groups"]
        return {rule["health"] for group in groups for rule in group["rules"]}

    eventually(health, lambda found: found == {"ok"}, seconds=300)


def test_the_alert_for_silence_is_quiet_within_the_hour_and_names_the_one_that_is_gone(
    board: Board, lone: Life
) -> None:
    rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
    [silence] = [rule["expr"] for rule in rules if rule["alert"] == "OtelNovuStoppedReporting"]

    def silent(at: float) -> set[str]:
        return {answer["metric"]["job"] for answer in ask_prometheus(board.address, silence, at)}

    for at in moments(lone):
        assert lone.job not in silent(at)
    assert lone.job in silent(lone.end + 3 * HOUR)


def test_every_alert_can_be_asked_at_any_minute(board: Board, lone: Life) -> None:
    rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        for at in moments(lone):
            found = ask_prometheus(board.address, rule["expr"], at)
            assert lone.job not in {answer["metric"]["job"] for answer in found}, rule["alert"]
