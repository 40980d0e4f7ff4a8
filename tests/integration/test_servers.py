import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import compare
import novu_data
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from pymongo import MongoClient
from pymongo.database import Database
from servers import ExporterRunner, PrometheusClient
from stack import Servers

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Instrument, Metric
from otel_novu.metrics.prometheus import prometheus_name
from otel_novu.metrics.usage import COLLECTIONS, USAGE

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
ROWS: tuple[Metric[Any], ...] = (*BEACON, *USAGE)

ECHO = """
import json, os, sys
print(json.dumps([dict(os.environ), os.getcwd(), sys.argv[1:]]))
"""
LINGER = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
print("ready", flush=True)
number = signal.sigwait({signal.SIGTERM, signal.SIGINT})
print("stopped by", number, file=sys.stderr, flush=True)
sys.exit(3)
"""


@pytest.fixture
def lingering(tmp_path: Path) -> Iterator[ExporterRunner]:
    runner = ExporterRunner(tmp_path, (sys.executable, "-c", LINGER))
    yield runner
    runner.close()


def send_one_of_each(endpoint: str, instance_id: str) -> None:
    """Send 7 for every row of the tables, by the SDK alone."""
    resource = Resource({"service.name": "novu", "service.instance.id": instance_id})
    exporter = OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    meter = provider.get_meter("test")
    create = {
        Instrument.GAUGE: meter.create_observable_gauge,
        Instrument.UP_DOWN_COUNTER: meter.create_observable_up_down_counter,
        Instrument.COUNTER: meter.create_observable_counter,
    }

    def seven(_: CallbackOptions) -> list[Observation]:
        return [Observation(7)]

    for row in ROWS:
        create[row.instrument](row.name, [seven], row.unit, row.description)
    provider.shutdown()


def test_each_test_has_an_empty_database_of_its_own(database: Database[dict[str, Any]]) -> None:
    assert database.list_collection_names() == []
    database["users"].insert_one({"firstName": "ada"})
    assert database["users"].count_documents({}) == 1


@pytest.mark.parametrize("marked", [False, True])
def test_loaded_data_answer_novus_own_queries_as_expected(
    stack: Servers,
    database: Database[dict[str, Any]],
    marked: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    expected = novu_data.load(database, seed=1, size="small", now=NOW, marked=marked)
    stack.analyze(database.name)
    answers = compare.ask_novu(database)
    assert answers["integrationCount"] == expected.providers
    assert answers["totalSteps"] == expected.steps
    for field, collection in compare.ESTIMATED.items():
        assert answers[field] == expected.documents[collection]
    for collection in COLLECTIONS:
        assert database[collection].count_documents({}) == expected.documents[collection]


def test_the_live_writer_inserts_with_ids_of_now_and_prunes_only_old_events(
    database: Database[dict[str, Any]],
) -> None:
    loaded = novu_data.load(database, seed=1, size=50, now=NOW)
    before = database["notifications"].distinct("_id")
    begin = int(time.time())
    written = novu_data.write(database, rate=100, seconds=0.5)
    assert (written.events, written.subscribers, written.deleted) == (40, 10, 10)
    fresh = database["notifications"].count_documents({"_id": {"$nin": before}})
    assert fresh == written.events
    assert database["notifications"].count_documents({}) == 50 + 40 - 10
    people = database["subscribers"].count_documents({})
    assert people == loaded.documents["subscribers"] + 10
    newest = database["notifications"].find_one(sort=[("_id", -1)])
    assert newest is not None
    assert newest["_id"].generation_time.timestamp() >= begin - 1


def test_the_data_command_refuses_to_mix_its_data_with_others(
    mongo_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    load = ["--size", "1", "--url", mongo_url]
    assert novu_data.main(load) == 0
    assert novu_data.main(load) == 1
    assert "--replace drops them first" in capsys.readouterr().out
    assert novu_data.main([*load, "--replace"]) == 0
    with MongoClient[dict[str, Any]](mongo_url) as client:
        assert client.get_default_database()["notifications"].count_documents({}) == 1


def test_prometheus_shows_every_row_under_the_name_that_we_derive(
    stack: Servers, prometheus: PrometheusClient, instance_id: str
) -> None:
    send_one_of_each(stack.otlp_http, instance_id)
    seen = prometheus.eventually(
        f'{{instance="{instance_id}",__name__=~"novu_.*"}}', lambda found: len(found) >= len(ROWS)
    )
    assert {sample.labels["__name__"] for sample in seen} == {prometheus_name(row) for row in ROWS}
    assert {(sample.labels["job"], sample.value) for sample in seen} == {("novu", 7)}


def test_the_exporter_sees_only_path_home_and_what_the_test_gives(tmp_path: Path) -> None:
    runner = ExporterRunner(tmp_path, (sys.executable, "-c", ECHO))
    done = runner("once", "--x", env={"NOVU_TELEMETRY": "off"})
    environment, folder, arguments = json.loads(done.stdout)
    names = {name for name in environment if not name.startswith("COVERAGE_")}
    assert names - {"LC_CTYPE"} == {"PATH", "HOME", "NOVU_TELEMETRY"}  # Python sets LC_CTYPE
    assert environment["HOME"] == folder == str(tmp_path)
    assert environment["NOVU_TELEMETRY"] == "off"
    assert arguments == ["once", "--x"]


def test_a_running_exporter_works_in_the_folder_that_the_test_gives(tmp_path: Path) -> None:
    runner = ExporterRunner(tmp_path, (sys.executable, "-c", ECHO))
    folder = tmp_path / "folder"
    folder.mkdir()
    running = runner.start("run", cwd=folder)
    assert running.wait() == 0
    assert json.loads(running.stdout[0])[1:] == [str(folder), ["run"]]
    runner.close()


def test_a_running_exporter_is_waited_for_and_terminated(lingering: ExporterRunner) -> None:
    running = lingering.start()
    assert running.wait_for("^ready$") == "ready"
    assert running.running
    assert running.terminate() == 3
    assert running.stderr == ["stopped by 15"]


def test_waiting_for_a_line_that_never_comes_shows_what_came(lingering: ExporterRunner) -> None:
    running = lingering.start()
    with pytest.raises(AssertionError, match="no line matches 'absent'; it runs and said:\nready"):
        running.wait_for("absent", 2)
    running.kill()
    with pytest.raises(AssertionError, match="it ended with -9"):
        running.wait_for("absent")


def test_closing_ends_an_exporter_that_a_test_left_running(tmp_path: Path) -> None:
    runner = ExporterRunner(tmp_path, (sys.executable, "-c", LINGER))
    running = runner.start()
    runner.close()
    assert not running.running
