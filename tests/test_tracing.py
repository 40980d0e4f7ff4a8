"""OpenTelemetry's instrumentations of an application beside otel-novu: .ci/test-versions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import urllib3
from opentelemetry import trace
from opentelemetry.instrumentation.grpc import GrpcInstrumentorClient
from opentelemetry.instrumentation.pymongo import PymongoInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pymongo import MongoClient
from receivers import HttpSink
from servers import eventually
from stack import Servers

import otel_novu
from otel_novu.exporter import Exporter
from otel_novu.settings import Settings, load
from otel_novu.store import Store

INSTRUMENTATIONS = (PymongoInstrumentor, URLLib3Instrumentor, GrpcInstrumentorClient)
SPANS = InMemorySpanExporter()


@pytest.fixture(scope="module", autouse=True)
def instrumented() -> Iterator[None]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(SPANS))
    trace.set_tracer_provider(provider)  # the one of gRPC has no other
    for each in INSTRUMENTATIONS:
        each().instrument(raise_exception_on_conflict=True)
    yield
    for each in INSTRUMENTATIONS:
        each().uninstrument()


@pytest.fixture(autouse=True)
def no_spans_of_others() -> None:
    SPANS.clear()


def names() -> list[str]:
    return [span.name for span in SPANS.get_finished_spans()]


def make_settings(folder: Path, **environ: str) -> Settings:
    given = {"OTEL_NOVU_STATE_DIR": str(folder / "state"), **environ}
    return load(given, env_file=None, cwd=folder, home=folder)


def test_the_applications_own_queries_and_requests_are_traced(
    stack: Servers, mongo_url: str, sink: HttpSink
) -> None:
    with MongoClient[dict[str, Any]](mongo_url) as client:
        client.get_default_database()["orders"].insert_one({})
    urllib3.PoolManager().request("GET", sink.base)
    with grpc.insecure_channel(stack.otlp_grpc.removeprefix("http://")) as channel:
        call = channel.unary_unary("/shop.Orders/List", None, None)
        with pytest.raises(grpc.RpcError, match="unknown service"):
            call(b"", timeout=60)
    scopes = [span.instrumentation_scope for span in SPANS.get_finished_spans()]
    assert {scope.name for scope in scopes if scope} == {
        each.__module__ for each in INSTRUMENTATIONS
    }
    assert any("endSessions" in name for name in names())


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_round_and_its_delivery_make_no_span(
    protocol: str, stack: Servers, mongo_url: str, tmp_path: Path
) -> None:
    with MongoClient[dict[str, Any]](mongo_url) as client:
        client.get_default_database()["users"].insert_one({})
    SPANS.clear()
    settings = make_settings(
        tmp_path,
        MONGO_URL=mongo_url,
        OTEL_EXPORTER_OTLP_ENDPOINT=stack.otlp_grpc if protocol == "grpc" else stack.otlp_http,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        OTEL_NOVU_QUERY_TIMEOUT="60",
    )
    exporter = Exporter(settings, Store(settings.state_dir))
    exporter.once()
    assert exporter.delivery.delivered("beacon")
    assert exporter.delivery.delivered("usage")
    assert names() == []


def test_a_request_carries_no_trace_of_the_application(sink: HttpSink, tmp_path: Path) -> None:
    settings = make_settings(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=sink.base)
    exporter = Exporter(settings, Store(settings.state_dir))
    with trace.get_tracer("shop").start_as_current_span("order"):
        exporter.once()
    assert sink.requests
    assert not [each for each in sink.requests if "traceparent" in {*map(str.lower, each.headers)}]
    assert names() == ["order"]


def test_embedded_readings_make_no_span(mongo_url: str, tmp_path: Path) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    settings = make_settings(tmp_path, MONGO_URL=mongo_url)
    otel_novu.register_beacon(provider, settings=settings)
    with otel_novu.register_usage(provider, settings=settings) as usage:
        eventually(lambda: usage.reading)
    assert names() == []
