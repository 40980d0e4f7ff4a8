"""Both tables on a MeterProvider that an application already has."""

import json
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import compare
import novu_data
import otlp_reports
import pytest
from bson import ObjectId
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from pymongo.database import Database
from receivers import FAULT_SECONDS, HttpSink, Listener
from servers import ExporterRunner, eventually
from stack import Servers

import otel_novu
from otel_novu.consent import ADMIN_SETTING
from otel_novu.log import LOG
from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Instrument, Metric
from otel_novu.metrics.usage import USAGE
from otel_novu.settings import Settings, load
from otel_novu.sources.novu import address
from otel_novu.state_dir import lock_owner
from otel_novu.store import CreatedCount, Store

ROWS: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
# Where the application's own exporter delivers, there is no delivery of ours to tell of.
DELIVERY = {
    "novu.spool.size",
    "novu.spool.dropped",
    "novu.spool.rejected",
    "novu.schema.dropped",
}


class Application:
    """An application's provider with a metric of its own, and what its reader sees."""

    def __init__(self, *readers: MetricReader) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider(
            [self._reader, *readers],
            Resource({"service.name": "my-application"}),
            shutdown_on_exit=False,
        )
        self.provider.get_meter("my-application").create_counter("my.orders").add(1)

    def collect(self) -> list[otlp_reports.Point]:
        data = self._reader.get_metrics_data()
        assert data is not None
        return otlp_reports.points(encode_metrics(data))

    def usage(self) -> list[otlp_reports.Point]:
        return [point for point in self.collect() if point.scope == otlp_reports.USAGE]


@pytest.fixture
def application() -> Iterator[Application]:
    application = Application()
    yield application
    application.provider.shutdown()


Make = Callable[..., Settings]


@pytest.fixture
def settings(state_dir: Path, tmp_path: Path) -> Make:
    def make(**environ: str) -> Settings:
        given = {"OTEL_NOVU_STATE_DIR": str(state_dir), **environ}
        return load(given, env_file=None, cwd=tmp_path, home=tmp_path)

    return make


@pytest.fixture
def novu(stack: Servers, database: Database[dict[str, Any]]) -> Database[dict[str, Any]]:
    novu_data.load(database, seed=7, size="small", now=datetime.now(UTC))
    stack.analyze(database.name)
    return database


def by_name(found: list[otlp_reports.Point]) -> Mapping[str, otlp_reports.Point]:
    return {point.name: point for point in found}


def test_both_tables_stand_beside_the_applications_own_metrics(
    application: Application, settings: Make, novu: Database[dict[str, Any]], mongo_url: str
) -> None:
    used = settings(MONGO_URL=mongo_url)
    otel_novu.register_beacon(application.provider, settings=used)
    with otel_novu.register_usage(application.provider, settings=used):
        eventually(application.usage)
        found = application.collect()
    names = {point.name for point in found}
    # A counter by labels has no point before something was counted.
    counters = [row for row in USAGE if row.instrument is Instrument.COUNTER and row.since]
    later = {row.name for row in counters if row.attributes}
    assert names == {row.name for row in ROWS} - DELIVERY - later | {"my.orders"}
    for row in ROWS:
        if row.name in names:
            point = by_name(found)[row.name]
            assert (point.kind, point.unit) == (row.instrument.value, row.unit)
            assert point.description == row.description
    for field, answer in compare.ask_novu(novu).items():
        [name] = [row.name for row in USAGE if row.field == field]
        if isinstance(answer, Mapping):
            assert otlp_reports.values(found, name, "novu.provider.id") == answer
        else:
            assert otlp_reports.value(found, name) == answer
    assert otlp_reports.value(found, "novu.usage.enabled") == 1
    host = by_name(found)["novu.host.info"]
    assert host.attributes["host.name"] == socket.gethostname()


def test_the_sdks_own_periodic_reader_and_exporter_do_the_rest(
    settings: Make, novu: Database[dict[str, Any]], mongo_url: str
) -> None:
    assert novu.name
    with HttpSink() as sink:
        exporter = OTLPMetricExporter(endpoint=sink.endpoint)
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=300)
        application = Application(reader)
        used = settings(MONGO_URL=mongo_url)
        otel_novu.register_beacon(application.provider, settings=used)
        with otel_novu.register_usage(application.provider, settings=used):
            eventually(lambda: otlp_reports.USAGE in otlp_reports.scopes(*sink.reports))
        application.provider.shutdown()
        found = otlp_reports.points(*sink.reports)
    assert {point.resource["service.name"] for point in found} == {"my-application"}
    assert otlp_reports.value(found, "novu.user.count") > 0


def test_figures_are_read_again_and_again(
    application: Application, settings: Make, database: Database[dict[str, Any]], mongo_url: str
) -> None:
    database["integrations"].insert_one({"providerId": "fcm"})
    used = settings(MONGO_URL=mongo_url)
    with otel_novu.register_usage(application.provider, settings=used, interval=0.2):
        eventually(application.usage)
        database["integrations"].insert_one({"providerId": "fcm"})
        name, key = "novu.integration.count", "novu.provider.id"
        eventually(lambda: otlp_reports.values(application.usage(), name, key) == {"fcm": 2})


def hangs(_: socket.socket, ended: threading.Event) -> None:
    ended.wait(FAULT_SECONDS)


def test_with_the_flag_off_nothing_is_observed_and_nobody_knocks_at_the_database(
    application: Application, settings: Make, state_dir: Path
) -> None:
    with Listener(hangs) as database:
        url = f"mongodb://127.0.0.1:{database.port}"
        used = settings(MONGO_URL=url, NOVU_TELEMETRY="no")
        otel_novu.register_beacon(application.provider, settings=used)
        with otel_novu.register_usage(application.provider, settings=used, interval=0.1):
            time.sleep(1.5)
            found = application.collect()
            assert otlp_reports.value(found, "novu.usage.enabled") == 0
            assert application.usage() == []
        assert database.connections == 0
    store = Store(state_dir, read_only=True)
    assert store.created("any/database") == {}


def test_usage_comes_and_goes_with_the_admin_setting(
    application: Application, settings: Make, novu: Database[dict[str, Any]], mongo_url: str
) -> None:
    assert novu.name
    used = settings(MONGO_URL=mongo_url)
    store = Store(used.state_dir)
    with otel_novu.register_usage(application.provider, settings=used):
        eventually(application.usage)
        store.set(ADMIN_SETTING, "off")
        eventually(application.usage, lambda found: not found)
        store.set(ADMIN_SETTING, "on")
        eventually(application.usage)


def test_a_database_that_hangs_holds_up_no_collection(
    application: Application, settings: Make
) -> None:
    with Listener(hangs) as database:
        url = f"mongodb://127.0.0.1:{database.port}"
        used = settings(MONGO_URL=url, OTEL_NOVU_QUERY_TIMEOUT="300")
        otel_novu.register_beacon(application.provider, settings=used)
        handle = otel_novu.register_usage(application.provider, settings=used)
        eventually(lambda: database.connections)
        began = time.monotonic()
        assert "novu.beacon.timestamp" in by_name(application.collect())
        assert application.usage() == []
        handle.close()
        assert time.monotonic() - began < FAULT_SECONDS / 2


def test_what_can_not_be_read_is_said_once_and_absent(
    application: Application,
    settings: Make,
    mongo_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    used = settings(MONGO_URL=mongo_url)  # an empty database
    with otel_novu.register_usage(application.provider, settings=used, interval=0.1):
        failures = "novu.usage.read.failures"
        eventually(
            lambda: otlp_reports.values(application.usage(), failures, "novu.figure"),
            lambda counts: counts.get("user.count", 0) >= 3,
        )
        assert "novu.user.count" not in by_name(application.usage())
    [line] = [record.getMessage() for record in caplog.records if record.name == LOG.name]
    assert re.match(r"MongoDB at [\w.:]+: none of Novu's collections exist", line)


def test_without_a_database_nothing_is_observed_and_that_is_said_once(
    application: Application, settings: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    with otel_novu.register_usage(application.provider, settings=settings(), interval=0.1):
        eventually(lambda: [r for r in caplog.records if r.name == LOG.name])
        assert application.usage() == []
    [line] = [record.getMessage() for record in caplog.records if record.name == LOG.name]
    assert line == "Usage figures need MONGO_URL or MONGO_URL_FILE."


def test_pseudonyms_stand_for_the_hosts_names_where_they_are_wanted(
    application: Application, settings: Make
) -> None:
    otel_novu.register_beacon(application.provider, settings=settings(OTEL_NOVU_ANONYMIZE="on"))
    host = by_name(application.collect())["novu.host.info"].attributes
    assert host["host.name"] != socket.gethostname()
    assert len(host["host.name"]) == 32


def test_after_close_nothing_is_observed_and_the_state_directory_is_free(
    application: Application, settings: Make, novu: Database[dict[str, Any]], mongo_url: str
) -> None:
    assert novu.name
    used = settings(MONGO_URL=mongo_url)
    before = {thread for thread in threading.enumerate() if thread.name == "otel-novu-usage"}
    handle = otel_novu.register_usage(application.provider, settings=used)
    eventually(application.usage)
    owner = lock_owner(used.state_dir)
    assert owner is not None
    assert owner.command == "embedded"
    for _ in range(2):
        handle.close()
    assert lock_owner(used.state_dir) is None
    assert application.usage() == []
    after = {thread for thread in threading.enumerate() if thread.name == "otel-novu-usage"}
    assert after <= before


def test_beside_a_running_exporter_the_counters_are_kept_in_memory(
    application: Application,
    settings: Make,
    database: Database[dict[str, Any]],
    mongo_url: str,
    exporter: ExporterRunner,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    database["users"].insert_one({})
    used = settings(MONGO_URL=mongo_url)
    with HttpSink() as sink:
        env = {
            "NOVU_TELEMETRY": "off",
            "OTEL_NOVU_STATE_DIR": str(used.state_dir),
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
        }
        running = exporter.start("run", env=env)
        sink.wait_for(1)
        with otel_novu.register_usage(application.provider, settings=used):
            eventually(application.usage)
            assert otlp_reports.value(application.usage(), "novu.user.created") == 0
        running.terminate()
    store = Store(used.state_dir, read_only=True)
    assert store.created("any/database") == {}
    [line] = [record.getMessage() for record in caplog.records if record.name == LOG.name]
    assert f"process {running.pid} (otel-novu run)" in line
    assert line.endswith("the created counters are kept in memory.")


def test_a_delta_reader_sends_what_was_created_since_the_registration_once(
    settings: Make, database: Database[dict[str, Any]], mongo_url: str
) -> None:
    used, now, labels = settings(MONGO_URL=mongo_url), time.time(), ("email", "ses", "prod", "sent")
    persisted = {
        "user.created": CreatedCount(5000, since=1, until=int(now) - 600),
        "message.created": CreatedCount(0, since=1, until=int(now) - 600, by={labels: 700}),
    }
    store = Store(used.state_dir)
    assert used.mongo_url
    store.created(address(used.mongo_url))
    store.save_created(persisted)
    # While the application was down.
    made = datetime.fromtimestamp(now - 300, UTC)
    database["users"].insert_one({"_id": ObjectId.from_datetime(made)})

    def run_once() -> Mapping[str, otlp_reports.Point]:
        reader = InMemoryMetricReader({ObservableCounter: AggregationTemporality.DELTA})
        application, began = Application(reader), time.time()
        with otel_novu.register_usage(application.provider, settings=used):
            eventually(application.usage)
            data = reader.get_metrics_data()
        assert data
        found = by_name(otlp_reports.points(encode_metrics(data)))
        assert all(began <= found[f"novu.{name}"].start <= time.time() for name in persisted)
        return found

    first, restarted = run_once(), run_once()
    assert [each["novu.user.created"].value for each in (first, restarted)] == [1, 0]
    assert [each["novu.message.created"].value for each in (first, restarted)] == [0, 0]
    store = Store(used.state_dir, read_only=True)
    assert store.created(address(used.mongo_url))["user.created"].total == 5001


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf")])
def test_an_interval_that_is_none_is_refused(
    interval: float, application: Application, settings: Make
) -> None:
    with pytest.raises(ValueError, match="positive, finite"):
        otel_novu.register_usage(application.provider, settings=settings(), interval=interval)


AN_APPLICATION = """
import json, os, sys, time
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
import otel_novu
from otel_novu.settings import SettingsError

def seen(reader):
    data = json.loads(reader.get_metrics_data().to_json())
    return sorted(
        metric["name"]
        for resource in data["resource_metrics"]
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
    )

reader = InMemoryMetricReader()
provider = MeterProvider([reader], shutdown_on_exit=False)
provider.get_meter("mine").create_counter("my.orders").add(1)
try:
    otel_novu.register_beacon(provider)
    usage = otel_novu.register_usage(provider)
except SettingsError as error:
    sys.exit(str(error))
deadline = time.monotonic() + 120
while "novu.user.count" not in seen(reader) and time.monotonic() < deadline:
    time.sleep(0.1)
print(json.dumps(seen(reader)), flush=True)
child = os.fork()
if child == 0:
    print(json.dumps(seen(reader)), flush=True)
    usage.close()
    os._exit(0)
os.waitpid(child, 0)
print(json.dumps(seen(reader)), flush=True)
usage.close()
"""


def run_application(tmp_path: Path, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", AN_APPLICATION],
        env={"HOME": str(tmp_path), **environ},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_a_process_that_is_forked_off_observes_nothing_of_ours(
    novu: Database[dict[str, Any]], mongo_url: str, state_dir: Path, tmp_path: Path
) -> None:
    assert novu.name
    # What concerns reader and exporter is the application's, and not judged here.
    environ = {
        "MONGO_URL": mongo_url,
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
    }
    done = run_application(tmp_path, environ)
    assert done.returncode == 0, done.stderr
    before, child, after = (json.loads(line) for line in done.stdout.splitlines())
    assert "novu.user.count" in before
    assert child == ["my.orders"]
    assert after == before


def test_a_variable_that_can_not_be_used_is_told_to_the_application(tmp_path: Path) -> None:
    done = run_application(tmp_path, {"NOVU_TELEMETRY": "perhaps"})
    assert done.returncode == 1
    assert done.stderr.startswith("NOVU_TELEMETRY: 'perhaps' is not valid; expected")
