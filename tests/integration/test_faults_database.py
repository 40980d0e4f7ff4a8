"""Whatever becomes of the database, the beacon goes on, and what can be read goes out."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import novu_data
import psutil
import pytest
import stack
from faults import BOUND, SECOND, WEEKLY, check_rhythm, reading_times, values_of
from name_server import name_server
from pymongo import MongoClient
from receivers import HttpSink
from scripted_mongo import HELLO, Document, Hang, answering, failing, scripted_mongo
from servers import EXPORTER, ExporterRunner, RunningExporter, eventually

from otel_novu.metrics.usage import FIGURES

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

NAMES = {figure.name for figure in FIGURES}
# Long enough for a machine that stalls; the other one is for a database that does not answer.
QUERY_TIMEOUT = {"OTEL_NOVU_QUERY_TIMEOUT": "30"}
IMPATIENT = {"OTEL_NOVU_QUERY_TIMEOUT": "2"}


@pytest.fixture
def environment(sink: HttpSink, state_dir: Path) -> Mapping[str, str]:
    """Both tables, every second, to a sink."""
    return {
        **SECOND,
        **QUERY_TIMEOUT,
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
    }


@pytest.fixture(scope="module")
def server() -> Iterator[stack.Database]:
    """A database server of this module's own."""
    with stack.Database(binaries=stack.build()) as server:
        yield server


@pytest.fixture
def novu(server: stack.Database) -> Iterator[str]:
    """The URL of a Novu's database there, which goes away with the test."""
    name = f"novu-{time.time_ns()}"
    with MongoClient[Document](server.url()) as client:
        novu_data.load(client[name], seed=7, size="small", now=datetime.now(UTC))
    yield server.url(name)
    server.resume()
    if not server.alive():
        server.start()
    with MongoClient[Document](server.url()) as client:
        client.drop_database(name)


def usage_reports(sink: HttpSink) -> list[Any]:
    return [each for each in sink.reports if reading_times([each], "usage")]


def figures(report: Any) -> set[str]:
    """The figures that a usage report holds."""
    return {
        name
        for name in NAMES
        if values_of(report, f"novu.{name}", "novu.provider.id" if "integration" in name else None)
    }


def failures(report: Any) -> Mapping[str, int | float]:
    """The failures that it counts, by figure."""
    return values_of(report, "novu.usage.read.failures", "novu.figure")


def whole_report(sink: HttpSink, after: int = 0) -> Any:
    """Wait for a usage report that holds every figure."""
    return eventually(
        lambda: next((r for r in usage_reports(sink)[after:] if figures(r) == NAMES), None)
    )


def empty_reports(sink: HttpSink, count: int, after: int = 0) -> list[Any]:
    """Wait for usage reports that hold no figure."""
    return eventually(
        lambda: [r for r in usage_reports(sink)[after:] if not figures(r)],
        lambda found: len(found) >= count,
    )


def warnings(running: RunningExporter) -> list[str]:
    return [line.partition(" WARNING ")[2] for line in running.stderr if " WARNING " in line]


def stop(server: stack.Database) -> None:
    server.stop()


def kill(server: stack.Database) -> None:
    server.kill()


def pause(server: stack.Database) -> None:
    server.pause()


@pytest.mark.parametrize("fault", [stop, kill, pause])
def test_while_the_database_is_gone_the_beacon_goes_on_and_the_figures_come_back_by_themselves(
    server: stack.Database,
    novu: str,
    environment: Mapping[str, str],
    sink: HttpSink,
    exporter: ExporterRunner,
    fault: Callable[[stack.Database], None],
) -> None:
    running = exporter.start("run", env={**environment, **IMPATIENT, "MONGO_URL": novu})
    whole_report(sink)
    fault(server)
    begun = len(usage_reports(sink))
    before = failures(usage_reports(sink)[begun - 1])
    assert set(before) == NAMES
    missing = empty_reports(sink, 3, after=begun)
    server.resume()
    if not server.alive():
        server.start()
    after = failures(whole_report(sink, after=len(usage_reports(sink))))
    assert running.terminate(BOUND) == 0
    # The outage was minutes or seconds: each reading within it is a failure of every figure.
    for name in NAMES:
        counted = [failures(report)[name] for report in missing]
        assert counted == sorted(counted)
        assert counted[-1] >= before[name] + 3
        assert after[name] >= counted[-1]
    check_rhythm(reading_times(sink.reports), 1.0)
    said = [line for line in warnings(running) if "be read:" in line]
    assert said
    # Said once, and once more only where the reasons changed.
    assert all(one != next_one for one, next_one in pairwise(said))
    assert any("Usage figures are read again." in line for line in running.stderr)


def test_a_database_that_comes_up_after_the_exporter_is_read_without_a_restart(
    server: stack.Database,
    novu: str,
    environment: Mapping[str, str],
    sink: HttpSink,
    exporter: ExporterRunner,
) -> None:
    server.stop()
    running = exporter.start("run", env={**environment, **IMPATIENT, "MONGO_URL": novu})
    empty_reports(sink, 2)
    server.start()
    whole_report(sink)
    assert running.terminate(BOUND) == 0
    check_rhythm(reading_times(sink.reports), 1.0)


def test_a_wrong_password_is_said_once_and_the_right_one_needs_no_restart(
    server: stack.Database,
    novu: str,
    environment: Mapping[str, str],
    sink: HttpSink,
    exporter: ExporterRunner,
) -> None:
    login, password = f"reader{time.time_ns()}", "Right-0-password"
    url = novu.replace("root:secret", f"{login}:{password}")
    running = exporter.start("run", env={**environment, "MONGO_URL": url})
    empty_reports(sink, 3)
    said = warnings(running)
    assert len(said) == 1
    assert "not authenticated (code 18): user, password or authSource is wrong" in said[0]
    assert password not in "".join(running.stderr)
    server.create_login(login, password)
    whole_report(sink)
    assert running.terminate(BOUND) == 0
    check_rhythm(reading_times(sink.reports), 1.0)


def test_no_connection_to_the_database_is_open_between_two_rounds(
    novu: str, environment: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    running = exporter.start("run", env={**environment, **WEEKLY, "MONGO_URL": novu})
    whole_report(sink)
    process = psutil.Process(running.pid)
    eventually(lambda: process.net_connections(kind="tcp"), lambda left: left == [])
    assert running.terminate(BOUND) == 0


def test_a_view_in_a_collections_place_is_counted_as_the_server_counts_it_and_spares_the_others(
    novu: str, environment: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    with MongoClient[Document](novu) as client:
        database = client.get_default_database()
        database["topics"].rename("topics_behind")
        database.create_collection("topics", viewOn="topics_behind", pipeline=[])
        expected = database["topics"].estimated_document_count()
    running = exporter.start("run", env={**environment, "MONGO_URL": novu})
    report = eventually(lambda: usage_reports(sink))[0]
    assert figures(report) | {"topic.count", "topic.created"} == NAMES
    assert values_of(report, "novu.topic.count") in ({}, {"": expected})
    assert running.terminate(BOUND) == 0


# --- what no server here does: a script in its place ---------------------------------------------


def test_one_slow_figure_spares_the_others_and_is_counted_and_said_alone(
    environment: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    def script(command: Document) -> Document:
        if command.get("aggregate") == "integrations":
            raise Hang
        return serving()(command)

    with scripted_mongo(script) as mongo:
        # So long that the others are read in time though the machine stalls.
        env = {**environment, "OTEL_NOVU_QUERY_TIMEOUT": "10", "MONGO_URL": address(mongo.port)}
        running = exporter.start("run", env=env)
        reports = eventually(lambda: usage_reports(sink), lambda r: len(r) >= 2)
        assert running.terminate(BOUND) == 0
    for number, report in enumerate(reports[:2], 1):
        assert figures(report) == NAMES - {"integration.count"}
        counted = failures(report)
        assert counted == {**dict.fromkeys(NAMES, 0), "integration.count": number}
    said = "novu.integration.count could not be read: timed out; the others go out, and it is tried"
    assert [line for line in warnings(running) if "integration.count" in line] == [
        f"{said} again with the next report."
    ]
    check_rhythm(reading_times(sink.reports), 1.0)


def test_a_primary_that_steps_down_costs_a_round_at_most_and_no_restart(
    environment: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    stepped_down = failing(10107, "not primary")
    fault: dict[str, Document] = {}

    def script(command: Document) -> Document:
        return fault.get(next(iter(command))) or serving()(command)

    with scripted_mongo(script) as mongo:
        running = exporter.start("run", env={**environment, "MONGO_URL": address(mongo.port)})
        whole_report(sink)
        fault.update(dict.fromkeys(("count", "aggregate", "listCollections"), stepped_down))
        empty_reports(sink, 2)
        fault.clear()
        whole_report(sink, after=len(usage_reports(sink)))
        assert running.terminate(BOUND) == 0
    check_rhythm(reading_times(sink.reports), 1.0)
    running.wait_for(r"steps down or starts \(code 10107\): a new primary is being elected")


def test_names_and_documents_of_every_odd_shape_fail_their_figures_alone(
    environment: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    odd: list[Document] = [
        {"_id": 5, "n": 1},
        {"_id": {"a": 1}, "n": 1},
        {"_id": b"\xff\xfe", "n": 1},
        {"_id": "Not a lawful id", "n": 1},
        {"_id": "sendgrid", "n": 2},
    ]

    def script(command: Document) -> Document:
        if command.get("aggregate") == "integrations":
            return providers(odd)
        if command.get("count") == "users":
            return {"ok": 1.0, "n": "many"}
        if command.get("count") == "topics":
            return {"ok": 1.0}
        return serving()(command)

    with scripted_mongo(script) as mongo:
        running = exporter.start("run", env={**environment, "MONGO_URL": address(mongo.port)})
        report = eventually(lambda: usage_reports(sink))[0]
        assert running.terminate(BOUND) == 0
    assert NAMES - figures(report) <= {"user.count", "topic.count", "integration.count"}
    assert {"user.count", "topic.count"} <= NAMES - figures(report)
    for provider in values_of(report, "novu.integration.count", "novu.provider.id"):
        assert re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", provider)


def test_a_reading_longer_than_the_interval_is_said_once_and_piles_nothing_up(
    environment: Mapping[str, str], sink: HttpSink, exporter: ExporterRunner
) -> None:
    with scripted_mongo(silent_after_hello) as mongo:
        env = {**environment, **IMPATIENT, "OTEL_METRIC_EXPORT_INTERVAL": "200"}
        running = exporter.start("run", env={**env, "MONGO_URL": address(mongo.port)})
        eventually(lambda: usage_reports(sink), lambda r: len(r) >= 4)
        threads = psutil.Process(running.pid).num_threads()
        assert running.terminate(BOUND) == 0
    assert threads < 40
    assert len([line for line in warnings(running) if "takes longer than" in line]) == 1
    # Every fifth of a second, though each reading of the figures took two seconds.
    assert len(set(reading_times(sink.reports))) > 3 * len(usage_reports(sink))


def test_a_resolver_that_hangs_costs_the_figures_alone(
    novu: str, environment: Mapping[str, str], sink: HttpSink, tmp_path: Path
) -> None:
    url = novu.replace("127.0.0.1", "mongodb.example")
    with name_server(silent=True) as names:
        exporter = ExporterRunner(tmp_path, names.program(tmp_path, EXPORTER))
        try:
            running = exporter.start("run", env={**environment, **IMPATIENT, "MONGO_URL": url})
            empty_reports(sink, 3)
            assert names.questions > 0
            names.silent = False
            whole_report(sink)
            assert running.terminate(BOUND) == 0
        finally:
            exporter.close()
    check_rhythm(reading_times(sink.reports), 1.0)


def silent_after_hello(command: Document) -> Document:
    if next(iter(command)) in {"hello", "ismaster"}:
        return HELLO
    raise Hang


def rows(documents: list[Document]) -> Document:
    """Word a cursor's answer."""
    return {"ok": 1.0, "cursor": {"id": 0, "ns": "novu-db.any", "firstBatch": documents}}


def providers(counts: list[Document]) -> Document:
    return rows([{"largest": counts, "rest": []}])


def serving() -> Callable[[Document], Document]:
    """Answer every question of a round."""
    collections = rows([{"name": name} for name in ("users", "notifications", "topics")])
    one = answering(aggregate=rows([{"_id": None, "n": 3}]), listCollections=collections)
    grouped = answering(aggregate=providers([{"_id": "sendgrid", "n": 3}]))

    def script(command: Document) -> Document:
        return (grouped if command.get("aggregate") == "integrations" else one)(command)

    return script


def address(port: int) -> str:
    return f"mongodb://127.0.0.1:{port}/novu-db"
