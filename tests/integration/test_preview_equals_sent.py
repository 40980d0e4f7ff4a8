"""With clock and readings frozen, what is shown is what is sent, to the byte."""

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Semaphore
from typing import Any

import novu_data
import pytest
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from pymongo.database import Database
from receivers import GrpcSink, HttpSink
from servers import eventually

from otel_novu.commands import show
from otel_novu.delivery import spool
from otel_novu.exporter import Exporter
from otel_novu.metrics.beacon import Host
from otel_novu.outcome import Delivered
from otel_novu.reports import Figures, Sources, novu_figures
from otel_novu.settings import Settings, load
from otel_novu.sources.created import Store
from otel_novu.sources.host import read_host
from otel_novu.sources.usage_round import UsageRound
from otel_novu.state import last_report
from otel_novu.state.consent import decide, read_admin
from otel_novu.state.created_file import Unsaved
from otel_novu.state.directory import StateDirectory
from otel_novu.state.identity import instance_id as identity_of

NOW = 1_800_000_000.123
SECONDS = 60.0


def now() -> float:
    return NOW


@dataclass(frozen=True)
class Frozen:
    """One round of figures, read from the real database, again and again.

    Each time after the host, whose report counts what waits: else it may count this one.
    """

    round: UsageRound
    host_was_read: Semaphore

    def read(self, _deadline_seconds: float, _now: Callable[[], float]) -> UsageRound:
        assert self.host_was_read.acquire(timeout=SECONDS)
        return self.round

    def forget_begin(self) -> None:
        """Nothing was begun."""

    def end_by(self, seconds: float) -> None:
        """Every round ends at once."""


@pytest.fixture
def environ(
    database: Database[dict[str, Any]], mongo_url: str, state_dir: Path, instance_id: str
) -> dict[str, str]:
    novu_data.load(database, seed=13, size="small", now=datetime.now(UTC))
    return {
        "MONGO_URL": mongo_url,
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_NOVU_INSTANCE_ID": instance_id,
        "OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop,team=the%20blue%20one,ö=ü",
    }


def settings_of(environ: dict[str, str]) -> Settings:
    return load(environ, env_file=None, cwd=Path("/"), home=Path("/"))


def frozen(settings: Settings) -> Sources:
    """Read host and database once, for all that follows."""
    with StateDirectory.look(settings.state_dir) as state:
        round_ = novu_figures(settings, Unsaved(state)).read(SECONDS, now)
    assert round_.reasons == {}
    host = read_host()
    host_was_read = Semaphore(0)

    def same_host() -> Host:
        host_was_read.release()
        return host

    def same_figures(_settings: Settings, _store: Store) -> Figures:
        return Frozen(round_, host_was_read)

    return Sources(same_host, same_figures)


def previewed(
    settings: Settings, sources: Sources, capsys: pytest.CaptureFixture[str]
) -> list[bytes]:
    assert show.show_otlp(settings, now, sources) == 0
    lines = capsys.readouterr().out.splitlines()
    return [
        Parse(line, ExportMetricsServiceRequest()).SerializeToString(deterministic=True)
        for line in lines
    ]


@contextmanager
def exporting(settings: Settings, sources: Sources) -> Iterator[Exporter]:
    with StateDirectory.open(settings.state_dir) as state, state.lock("once"):
        identity = identity_of(settings.instance_id, state)
        decision = decide(settings.telemetry, read_admin(state))
        yield Exporter(settings, state, identity, decision, now, sources)


def beacon_first(bodies: list[bytes]) -> list[bytes]:
    return sorted(bodies, key=lambda body: b"otel_novu.beacon" not in body)


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("anonymize", ["off", "on"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_preview_equals_request_equals_last_report_byte_for_byte(
    protocol: str,
    anonymize: str,
    compression: str,
    environ: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with GrpcSink() if protocol == "grpc" else HttpSink() as sink:
        settings = settings_of(
            {
                **environ,
                "OTEL_NOVU_ANONYMIZE": anonymize,
                "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
                "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
                "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
            }
        )
        sources = frozen(settings)
        with exporting(settings, sources) as exporter:  # which makes the pseudonyms' key
            shown = previewed(settings, sources, capsys)
            exporter.report_and_close(SECONDS, SECONDS)
        bodies = [request.body for request in sink.requests]
        sent = [unpacked(body) for body in bodies] if protocol != "grpc" else bodies
    assert len(shown) == 2
    assert beacon_first(sent) == shown
    with StateDirectory.look(settings.state_dir) as state:
        last = [last_report.load(state, meter) for meter in last_report.METERS]
    assert [report and report.body for report in last] == shown
    assert all(report and isinstance(report.outcome, Delivered) for report in last)


def unpacked(body: bytes) -> bytes:
    return gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body


def test_preview_equals_what_the_spool_keeps_and_what_is_sent_later(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    away = settings_of({**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    sources = frozen(away)
    shown = previewed(away, sources, capsys)
    with exporting(away, sources) as exporter:
        exporter.report_and_close(SECONDS, SECONDS)
    with StateDirectory.look(away.state_dir) as state:
        listing = spool.look(state)
        names = state.names(spool.FOLDER)
        kept = [state.read(f"{spool.FOLDER}/{name}") for name in names]
    assert len(listing.reports) == 2
    assert all(any(data and data.endswith(body) for data in kept) for body in shown)

    # The next preview counts what waits by now, as the next report will.
    again = previewed(away, sources, capsys)
    assert again != shown
    with HttpSink() as sink:
        back = settings_of({**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base})
        with exporting(back, sources) as exporter:
            exporter.report_and_close(SECONDS, SECONDS)
        sent = [request.body for request in sink.requests]
    assert beacon_first(sent)[:1] == shown[:1]
    assert sorted(sent) == sorted([*shown, *again])


def test_what_is_shown_is_sent_and_written_nowhere(
    environ: dict[str, str], state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with HttpSink() as sink:
        settings = settings_of({**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base})
        assert len(previewed(settings, frozen(settings), capsys)) == 2
        assert sink.requests == []
    assert list(state_dir.iterdir()) == []


def test_the_preview_of_a_flag_that_is_off_is_the_beacon_alone(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with HttpSink() as sink:
        settings = settings_of(
            {
                **environ,
                "NOVU_TELEMETRY": "false",
                "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
            }
        )
        sources = frozen(settings)
        shown = previewed(settings, sources, capsys)
        with exporting(settings, sources) as exporter:
            exporter.report_and_close(SECONDS, SECONDS)
        sent = eventually(lambda: [request.body for request in sink.requests])
    assert sent == shown
    assert len(shown) == 1
