"""Foreign packages, odd data, a lying database: nothing unlisted leaves, nothing lawful is lost."""

import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import otlp_reports
import pytest
from bson import Decimal128
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from pymongo.database import Database
from receivers import GrpcSink, HttpSink
from scripted_mongo import Document, answering, scripted_mongo
from servers import ExporterRunner, eventually

import otel_novu
from otel_novu.exporter import Exporter
from otel_novu.metrics.beacon import BEACON, Host
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.resource import RESOURCE
from otel_novu.metrics.usage import COLLECTIONS, FIGURES, USAGE
from otel_novu.reports import Sources
from otel_novu.settings import load
from otel_novu.sources.host import read_host
from otel_novu.state.consent import decide, read_admin
from otel_novu.state.directory import StateDirectory
from otel_novu.state.identity import instance_id as identity_of

TABLES: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
ROWS: Mapping[str, Metric[Any]] = {row.name: row for row in TABLES}
MOST = 2**63 - 1

# A package that any other program of the same environment may have brought along.
INTRUDER = """
from pathlib import Path
from opentelemetry.sdk.resources import Resource, ResourceDetector

class Detector(ResourceDetector):
    def detect(self):
        Path({noted!r}).touch()
        return Resource({{"process.owner": "INTRUDER", "intruder": "INTRUDER"}})
"""
ENTRY_POINTS = """
[opentelemetry_resource_detector]
intruder = intruder:Detector
"""


def check_listed(*reports: ExportMetricsServiceRequest, more: frozenset[str] = frozenset()) -> None:
    """Every name, unit, kind, label, value and attribute is one that a row has."""
    for point in otlp_reports.points(*reports):
        row = ROWS[point.name]
        assert (point.kind, point.unit) == (row.instrument.value, row.unit)
        assert row.admits(point.value, point.attributes), point
        assert set(point.resource) == {*RESOURCE, *more}


@pytest.fixture
def intruder(tmp_path: Path) -> tuple[Path, Path]:
    """A folder for PYTHONPATH with an installed package, and the file it makes when it is asked."""
    folder, noted = tmp_path / "packages", tmp_path / "noted"
    info = folder / "intruder-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "intruder.py").write_text(INTRUDER.format(noted=str(noted)))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: intruder\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder, noted


DETECT = """
from opentelemetry.sdk.resources import Resource
print(Resource.create({}).attributes.get("intruder"))
"""


@pytest.mark.parametrize("detectors", ["*", "intruder,host,os,process,service_instance"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_what_detectors_of_other_packages_know_does_not_leave(
    protocol: str,
    detectors: str,
    intruder: tuple[Path, Path],
    state_dir: Path,
    exporter: ExporterRunner,
) -> None:
    folder, noted = intruder
    surrounding = {
        "PYTHONPATH": str(folder),
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": detectors,
        "OTEL_METRICS_EXEMPLAR_FILTER": "always_on",
        "OTEL_RESOURCE_ATTRIBUTES": "team=blue",
    }
    command = [sys.executable, "-c", DETECT]
    lured = subprocess.run(command, env=surrounding, capture_output=True, text=True, check=True)
    assert lured.stdout == "INTRUDER\n"  # the bait works
    noted.unlink()

    with GrpcSink() if protocol == "grpc" else HttpSink() as sink:
        env = {
            **surrounding,
            "OTEL_NOVU_STATE_DIR": str(state_dir),
            "NOVU_TELEMETRY": "off",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
        }
        once = exporter("once", env=env)
        assert once.returncode == 0, once.stderr
        check_listed(*sink.reports, more=frozenset({"team"}))
        assert len(sink.reports) == 1
        assert b"INTRUDER" not in sink.requests[0].body
    assert not noted.exists()


FORKED = """
import os, sys
from uuid import UUID
from otel_novu.meter import ReportMeter, make_resource
from otel_novu.metrics import beacon
meter = ReportMeter(beacon.SCOPE, beacon.BEACON, make_resource("novu", UUID(int=7), {}), 0.0)
host = beacon.Host(1, 2, "web-1", None, "linux", "6.1.0")
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
made = meter.make(beacon.BeaconReading(1.0, host, True), 1.0)
print(made.foreign)
sys.stdout.flush()
sys.stdout.buffer.write(made.request.body)
"""


def test_what_the_sdk_adds_after_a_fork_does_not_leave() -> None:
    command = [sys.executable, "-c", FORKED]
    done = subprocess.run(command, capture_output=True, check=True)
    foreign, _, body = done.stdout.partition(b"\n")
    report = ExportMetricsServiceRequest.FromString(body)
    check_listed(report)
    assert otlp_reports.points(report)[0].resource["service.instance.id"].endswith("07")
    # The SDK gives the child an instance id of its own; that is what is left out and counted.
    assert int(foreign) > 0


# Data of a real database

ODD_IDS = [
    "send\x01grid",
    "sendgrid\n",
    "\tsendgrid",
    "send\u202egrid",
    "sendgrid\x7f",
    "SENDGRID",
    "\u017fendgrid",
    "ada@example.org",
    "mongodb://root:secret@host/",
    "a" * 65,
    "-sendgrid",
    " ",
]


def environment(url: str, state_dir: Path, sink: HttpSink) -> dict[str, str]:
    return {
        "MONGO_URL": url,
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
    }


def test_odd_provider_ids_are_other_and_lawful_ones_stay_as_they_are(
    database: Database[Document],
    mongo_url: str,
    state_dir: Path,
    exporter: ExporterRunner,
) -> None:
    lawful = ["sendgrid", "sendgrid", "africas-talking", "0_o.x-", "a" * 64]
    database.integrations.insert_many([{"providerId": odd} for odd in (*ODD_IDS, *lawful)])
    with HttpSink() as sink:
        once = exporter("once", env=environment(mongo_url, state_dir, sink))
        assert once.returncode == 0, once.stderr
        check_listed(*sink.reports)
        found = otlp_reports.points(*sink.reports)
    assert otlp_reports.values(found, "novu.integration.count", "novu.provider.id") == {
        "sendgrid": 2,
        "africas-talking": 1,
        "0_o.x-": 1,
        "a" * 64: 1,
        "other": len(ODD_IDS),
    }


def test_of_100_000_providers_the_largest_leave_and_none_is_left_uncounted(
    database: Database[Document],
    mongo_url: str,
    state_dir: Path,
    exporter: ExporterRunner,
) -> None:
    for begin in range(0, 100_000, 10_000):
        documents = [{"providerId": f"made-up-{n:06d}"} for n in range(begin, begin + 10_000)]
        database.integrations.insert_many(documents, ordered=False)
    large = {f"large-{n}": n + 2 for n in range(150)}
    database.integrations.insert_many(
        [{"providerId": name} for name, count in large.items() for _ in range(count)]
    )
    with HttpSink() as sink:
        env = {**environment(mongo_url, state_dir, sink), "OTEL_NOVU_QUERY_TIMEOUT": "120"}
        once = exporter("once", env=env)
        assert once.returncode == 0, once.stderr
        check_listed(*sink.reports)
        found = otlp_reports.points(*sink.reports)
    shown = otlp_reports.values(found, "novu.integration.count", "novu.provider.id")
    assert len(shown) <= 201
    assert large.items() <= shown.items()
    assert sum(shown.values()) == 100_000 + sum(large.values())


# A database that lies


def rows(*documents: Document) -> Document:
    return {"ok": 1.0, "cursor": {"id": 0, "ns": "novu-db.x", "firstBatch": list(documents)}}


def lying(**answers: Any) -> Any:
    """Answer well, but for the collections that the test names."""
    listed = rows(*({"name": name, "type": "collection"} for name in COLLECTIONS))

    def script(command: Document) -> Document:
        name = next(iter(command))
        told = answers.get(str(command[name])) if name in {"count", "aggregate"} else None
        if name == "aggregate" and command[name] == "notificationtemplates":
            return rows({"_id": None, "n": 10})
        if told is not None:
            return told  # type: ignore[no-any-return]
        return answering(listCollections=listed, count={"ok": 1.0, "n": 5}, aggregate=rows())(
            command
        )

    return script


def providers(*largest: tuple[Any, Any], rest: Any = ()) -> Document:
    groups = [{"_id": name, "n": count} for name, count in largest]
    return rows({"largest": groups, "rest": [{"_id": None, "n": n} for n in rest]})


LIES: list[tuple[str, Document, str]] = [
    ("users", {"ok": 1.0, "n": math.nan}, "user.count"),
    ("users", {"ok": 1.0, "n": math.inf}, "user.count"),
    ("users", {"ok": 1.0, "n": 1e300}, "user.count"),
    ("users", {"ok": 1.0, "n": -1}, "user.count"),
    ("users", {"ok": 1.0, "n": Decimal128("99999999999999999999")}, "user.count"),
    ("users", {"ok": 1.0, "n": "ada@example.org"}, "user.count"),
    ("users", {"ok": 1.0, "n": {"email": "ada@example.org"}}, "user.count"),
    ("users", {"ok": 1.0}, "user.count"),
    ("integrations", providers(("fcm", math.nan)), "integration.count"),
    ("integrations", providers(("fcm", -1)), "integration.count"),
    ("integrations", providers(("fcm", 1), rest=[MOST, MOST]), "integration.count"),
    ("integrations", providers(("fcm", "ada@example.org")), "integration.count"),
    ("integrations", rows({"email": "ada@example.org"}), "integration.count"),
]


@pytest.mark.parametrize(("collection", "lie", "figure"), LIES)
def test_a_figure_that_is_no_number_fails_alone(
    collection: str, lie: Document, figure: str, state_dir: Path, exporter: ExporterRunner
) -> None:
    with scripted_mongo(lying(**{collection: lie})) as server, HttpSink() as sink:
        env = environment(f"mongodb://127.0.0.1:{server.port}/novu-db", state_dir, sink)
        once = exporter("once", env=env)
        assert once.returncode == 1
        assert f"novu.{figure} could not be read" in once.stderr
        assert "ada@example.org" not in once.stderr
        check_listed(*sink.reports)
        assert all(b"ada@example.org" not in request.body for request in sink.requests)
        found = otlp_reports.points(*sink.reports)
    assert f"novu.{figure}" not in {point.name for point in found}
    counts = {f"novu.{each.name}" for each in FIGURES if each.field} - {f"novu.{figure}"}
    # No integration at all is no point at all.
    assert counts - {"novu.integration.count"} <= {point.name for point in found}
    failures = otlp_reports.values(found, "novu.usage.read.failures", "novu.figure")
    assert failures[figure] == 1
    assert sum(failures.values()) == 1


@pytest.mark.parametrize("names", ["lawful", "unlawful"])
def test_a_server_that_answers_100_000_providers_is_cut_short_here(
    names: str, state_dir: Path, exporter: ExporterRunner
) -> None:
    form = "made-up-{}" if names == "lawful" else "Made Up\x01 {}"
    many = providers(*((form.format(n), 1) for n in range(100_000)))
    with scripted_mongo(lying(integrations=many)) as server, HttpSink() as sink:
        env = {
            **environment(f"mongodb://127.0.0.1:{server.port}/novu-db", state_dir, sink),
            "OTEL_NOVU_QUERY_TIMEOUT": "120",
        }
        once = exporter("once", env=env)
        assert once.returncode == 0, once.stderr
        check_listed(*sink.reports)
        found = otlp_reports.points(*sink.reports)
    shown = otlp_reports.values(found, "novu.integration.count", "novu.provider.id")
    assert len(shown) <= 1000
    assert sum(shown.values()) == 100_000
    assert "other" in shown


def test_what_the_door_keeps_in_is_said_and_counted_in_the_next_beacon(
    state_dir: Path, exporter: ExporterRunner
) -> None:
    # Each is a number that OTLP can carry; what they come to is none.
    beyond = providers(("fcm", 3), ("Some Thing", MOST), ("Other Thing", MOST))
    with scripted_mongo(lying(integrations=beyond)) as server, HttpSink() as sink:
        env = {
            **environment(f"mongodb://127.0.0.1:{server.port}/novu-db", state_dir, sink),
            "OTEL_METRIC_EXPORT_INTERVAL": "400",
        }
        running = exporter.start("run", env=env)
        running.wait_for("1 data points of the usage report fitted no row of the tables")
        reports = eventually(lambda: sink.reports, lambda found: dropped_in(found) > 0)
        assert running.terminate() == 0
        check_listed(*sink.reports)
    found = otlp_reports.points(*reports)
    assert otlp_reports.values(found, "novu.integration.count", "novu.provider.id") == {"fcm": 3}
    assert otlp_reports.value(found, "novu.user.count") == 5


def test_an_application_of_its_own_hands_out_what_looks_as_its_row_says(state_dir: Path) -> None:
    beyond = providers(("fcm", 3), ("Some Thing", MOST), ("Other Thing", MOST))
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    with scripted_mongo(lying(integrations=beyond)) as server:
        variables = {
            "MONGO_URL": f"mongodb://127.0.0.1:{server.port}/novu-db",
            "OTEL_NOVU_STATE_DIR": str(state_dir),
        }
        settings = load(variables, env_file=None, cwd=state_dir, home=state_dir)
        with otel_novu.register_usage(provider, settings=settings):
            found = eventually(reader.get_metrics_data)
    provider.shutdown()
    assert found is not None
    shown = [
        (metric.name, point.value, dict(point.attributes or {}))
        for metric in found.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint)
    ]
    assert all(ROWS[name].admits(value, attributes) for name, value, attributes in shown)
    assert ("novu.integration.count", 3, {"novu.provider.id": "fcm"}) in shown
    assert ("novu.user.count", 5, {}) in shown
    assert "other" not in str(shown)


def dropped_in(reports: list[ExportMetricsServiceRequest]) -> float:
    found = otlp_reports.values(otlp_reports.points(*reports), "novu.schema.dropped")
    return found.get("", 0)


@pytest.mark.parametrize("name", ["evil\nname", "evil\x1b[31mname", "\u202eevil", "e" * 300])
def test_an_odd_host_name_stays_in_and_the_rest_of_the_beacon_leaves(
    name: str, state_dir: Path
) -> None:
    host = replace(read_host(), name=name)
    with HttpSink() as sink:
        with exporting({"OTEL_EXPORTER_OTLP_ENDPOINT": sink.base}, state_dir, host) as exporter:
            exporter.report()
            sink.wait_for(1)
            exporter.report_and_close(60.0, 60.0)
        check_listed(*sink.reports)
        first, second = (otlp_reports.points(report) for report in sink.reports)
    assert {point.name for point in first} == {row.name for row in BEACON} - {"novu.host.info"}
    assert otlp_reports.value(first, "novu.schema.dropped") == 0
    assert otlp_reports.value(second, "novu.schema.dropped") == 1


@contextmanager
def exporting(environ: Mapping[str, str], state_dir: Path, host: Host) -> Iterator[Exporter]:
    """An exporter of the beacon alone, on a host of the test's."""
    variables = {**environ, "OTEL_NOVU_STATE_DIR": str(state_dir), "NOVU_TELEMETRY": "off"}
    settings = load(variables, env_file=None, cwd=state_dir, home=state_dir)
    with StateDirectory.open(settings.state_dir) as state:
        decision = decide(settings.telemetry, read_admin(state))
        sources = Sources(host=lambda: host)
        yield Exporter(settings, state, identity_of(None, state), decision, sources=sources)
