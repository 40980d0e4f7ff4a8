import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import compare
import novu_data
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from pymongo.database import Database
from stack import Servers

from otel_novu.instruments import register
from otel_novu.metrics.beacon import BEACON, BeaconReading, DeliveryCounts
from otel_novu.metrics.usage import FIGURES, USAGE, Created, UsageReading
from otel_novu.sources.host import read_host

Compare = Callable[..., int]


@pytest.fixture
def compare_with_database(stack: Servers, mongo_url: str, instance_id: str) -> Compare:
    def run(*options: str) -> int:
        servers = ["--mongo-url", mongo_url, "--prometheus", stack.prometheus]
        return compare.main([instance_id, *servers, *options])

    return run


def usage_of(answers: compare.Answers) -> UsageReading:
    totals, providers = {}, {}
    for figure in FIGURES:
        match answers.get(figure.field):
            case int(total):
                totals[figure.name] = total
            case None:
                pass
            case by_provider:
                providers[figure.name] = by_provider
    names = [figure.name for figure in FIGURES]
    return UsageReading(
        timestamp=time.time(),
        totals=totals,
        providers=providers,
        created={name: Created(0, time.time()) for name in names if name.endswith(".created")},
        durations=dict.fromkeys(names, 0.01),
        failures=dict.fromkeys(names, 0),
    )


def send(stack: Servers, instance_id: str, usage: UsageReading) -> None:
    """Send both tables, by the SDK alone."""
    resource = Resource({"service.name": "novu", "service.instance.id": instance_id})
    exporter = OTLPMetricExporter(endpoint=f"{stack.otlp_http}/v1/metrics")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    beacon = BeaconReading(time.time(), read_host(), True, DeliveryCounts(0, 0, 0, 0))  # noqa: FBT003 - the flag
    register(provider.get_meter("beacon"), BEACON, lambda: beacon)
    register(provider.get_meter("usage"), USAGE, lambda: usage)
    provider.shutdown()


def test_all_agree_after_a_report_and_a_difference_is_found_after_a_change(
    stack: Servers,
    database: Database[dict[str, Any]],
    instance_id: str,
    compare_with_database: Compare,
    capsys: pytest.CaptureFixture[str],
) -> None:
    novu_data.load(database, seed=3, size="small", now=datetime.now(UTC))
    stack.analyze(database.name)
    send(stack, instance_id, usage_of(compare.ask_novu(database)))

    assert compare_with_database() == 0
    table = capsys.readouterr().out
    assert "novu_integration_count{other}" in table
    assert "DIFFERENT" not in table
    assert "MISSING" not in table

    database["integrations"].insert_one({"providerId": "brand-new", "deleted": False})
    assert compare_with_database("--wait", "0") == 1
    changed = [line for line in capsys.readouterr().out.splitlines() if "MISSING" in line]
    assert [line.split()[0] for line in changed] == ["novu_integration_count{brand-new}"]


def test_an_instance_that_never_reported_misses_every_metric(
    compare_with_database: Compare, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare_with_database("--wait", "0") == 1
    table = capsys.readouterr().out
    assert table.count("MISSING") >= len(BEACON) + len(USAGE) - 1


def test_servers_that_do_not_answer_are_one_sentence_without_the_url(
    stack: Servers, instance_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = "mongodb://root:S3cretPw@127.0.0.1:1/novu-db?serverSelectionTimeoutMS=100"
    servers = ["--mongo-url", closed, "--prometheus", stack.prometheus]
    assert compare.main([instance_id, *servers]) == 1
    told = capsys.readouterr()
    assert told.err == "The database can't be asked: ServerSelectionTimeoutError\n"
    assert "S3cretPw" not in told.out + told.err
