"""What the contract tests share: an exporter with a state directory and a receiver of its own."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, TypeVar

import otlp_reports
import pytest
from receivers import GrpcSink, HttpSink
from servers import ExporterRunner, RunningExporter, eventually
from stack import free_port

from otel_novu.metrics.queries import CreatedIn
from otel_novu.metrics.usage import FIGURES

BEACON, USAGE = "beacon", "usage"
HTTP, GRPC = "http/protobuf", "grpc"
# How long the end may take: what Docker grants. The exporter itself plans less than 5 seconds.
STOP_SECONDS = 10.0
# A machine that runs many tests may stall for this long; a fault lasts longer.
STALL_SECONDS = 30.0
# A report at the start and one at the end, none between.
ONE_REPORT = {"OTEL_METRIC_EXPORT_INTERVAL": str(7 * 86_400_000)}

# A counter by labels has no point before something was counted.
LATER = {f.metric for f in FIGURES if isinstance(f.query, CreatedIn) and f.query.labels}

Sink = TypeVar("Sink", bound=HttpSink | GrpcSink)
each_protocol = pytest.mark.parametrize("protocol", [HTTP, GRPC])


@dataclass
class Case:
    """An exporter that reports every second: the beacon alone, until `read` names a database."""

    exporter: ExporterRunner
    state: Path
    sink: HttpSink | GrpcSink
    env: dict[str, str]

    def __call__(self, command: str, **changes: str) -> CompletedProcess[str]:
        """Run a command to its end."""
        return self.exporter(*command.split(), env=self.env | changes)

    def start(self, command: str = "run", **changes: str) -> RunningExporter:
        """Start a command; `run` has got past its first line when this returns."""
        running = self.exporter.start(*command.split(), env=self.env | changes)
        if command.startswith("run"):
            running.wait_for("reports to")
        return running

    def stop(self, running: RunningExporter) -> None:
        """End it by SIGTERM, as it should end."""
        assert running.terminate(STOP_SECONDS) == 0

    def send_to(self, sink: Sink) -> Sink:
        """Send to another receiver from now on."""
        self.sink = sink
        protocol = GRPC if isinstance(sink, GrpcSink) else HTTP
        self.env["OTEL_EXPORTER_OTLP_PROTOCOL"] = protocol
        self.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = sink.base
        return sink

    def receive(self, protocol: str) -> HttpSink | GrpcSink:
        """Send to a new receiver that accepts everything."""
        return self.send_to(GrpcSink() if protocol == GRPC else HttpSink())

    def send_nowhere(self) -> int:
        """Send to a port where nothing listens; the port."""
        port = free_port()
        self.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"
        return port

    def read(self, url: str) -> None:
        """Read usage figures from a database; the admin setting decides whether."""
        self.env |= {"MONGO_URL": url, "NOVU_TELEMETRY": ""}

    def points(self) -> list[otlp_reports.Point]:
        """Return all points that arrived."""
        return otlp_reports.points(*self.sink.reports)

    def values(self, name: str) -> list[float]:
        """Return all values of a metric that arrived."""
        return [point.value for point in self.points() if point.name == name]

    def times(self, scope: str = BEACON) -> list[float]:
        """Tell when the reports of a scope were read, in the order of their arrival."""
        return reading_times(self.sink.reports, scope)

    def listed(self) -> list[dict[str, Any]]:
        """Return what `spool --json` lists."""
        reports: list[dict[str, Any]] = json.loads(self("spool --json").stdout)["reports"]
        return reports

    def waiting(self, scope: str = BEACON) -> Counter[int]:
        """Count the reports of a scope that wait, by the second of their reading."""
        rows = [row for row in self.listed() if "rejected" not in row]
        found = (row["read"] for row in rows if row.get("scope", row.get("meter")) == scope)
        return Counter(int(datetime.fromisoformat(read).timestamp()) for read in found)

    def wait_for_waiting(self, count: int) -> Counter[int]:
        """Wait until so many beacons wait."""
        return eventually(self.waiting, lambda found: found.total() >= count)


def reading_times(reports: Sequence[Any], scope: str = BEACON) -> list[float]:
    """Tell when the reports of a scope were read, in their order."""
    points = otlp_reports.points(*reports)
    return [point.value for point in points if point.name == f"novu.{scope}.timestamp"]


def seconds(times: list[float]) -> Counter[int]:
    """Count reports by the second of their reading; what arrived twice counts once."""
    return Counter(map(int, set(times)))


def check_rhythm(times: Sequence[float]) -> None:
    """Check that reports were read every second: none is very late, and none come in a burst."""
    gaps = [after - before for before, after in pairwise(sorted(set(times)))]
    assert max(gaps, default=0.0) < STALL_SECONDS, gaps
    # The first report and the first one due may lie close together, and so may the last two.
    assert sum(gap < 0.25 for gap in gaps) <= 2 + len(gaps) // 5, gaps
