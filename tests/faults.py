"""What the tests of faults share: a collector that hands on to a sink, and what arrived there."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import otlp_reports
import stack
from receivers import HttpSink
from servers import PATIENCE, RunningExporter, eventually

from otel_novu.delivery import spool
from otel_novu.state.directory import StateDirectory

BOUND = 30.0
"""Seconds within which something has to come that a fault of minutes must not hold up."""

SECOND = {"OTEL_METRIC_EXPORT_INTERVAL": "1000", "OTEL_EXPORTER_OTLP_TIMEOUT": "60"}
"""Reports every second, so that an outage of seconds is one of many reports.

No attempt ends before its answer because the machine stalls: it would leave twice.
"""

IMPATIENT = {**SECOND, "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}
"""The same, where attempts that hang have to end within the test."""

WEEKLY = {"OTEL_METRIC_EXPORT_INTERVAL": str(7 * 86_400_000)}
"""Reports at the start and at the end alone.

The minute of an hourly one comes, now and then, in the midst of a test.
"""

# The shared configuration, handing on to a sink in place of Prometheus.
_TO_SINK = """
exporters:
  otlp_http/sink:
    endpoint: {sink}
    sending_queue:
      num_consumers: 1  # several would hand on in no order
service:
  pipelines:
    metrics:
      exporters: [otlp_http/sink]
"""


@dataclass(frozen=True)
class Behind:
    """A real collector, and the sink that it hands on to.

    Args:
        collector: takes the reports.
        sink: what it took.
    """

    collector: stack.Collector
    sink: HttpSink

    def times(self, meter: str = "beacon") -> list[float]:
        """When the reports that arrived were read, in the order of their arrival."""
        return reading_times(self.sink.reports, meter)

    def wait_for(
        self, wanted: set[float], meter: str = "beacon", seconds: float = 2 * PATIENCE
    ) -> None:
        """Wait until reports read at these times have arrived."""
        eventually(lambda: wanted - set(self.times(meter)), lambda missing: not missing, seconds)


@contextlib.contextmanager
def collector_before_a_sink(folder: Path) -> Iterator[Behind]:
    """Start both, and end them."""
    more = folder / "to-sink.yaml"
    with HttpSink() as sink:
        more.write_text(_TO_SINK.format(sink=sink.base))
        with stack.Collector(stack.COLLECTOR_CONFIG, binaries=stack.build(), more=[more]) as own:
            yield Behind(own, sink)


def reading_times(reports: list[Any], meter: str = "beacon") -> list[float]:
    """Tell when each report of a meter was read, in the order given."""
    return [
        point.value
        for point in otlp_reports.points(*reports)
        if point.name == f"novu.{meter}.timestamp"
    ]


def spooled(state_dir: Path, meter: str = "beacon") -> set[float]:
    """Tell when the reports that wait on the disk were read."""
    with StateDirectory.look(state_dir) as state:
        return {report.read_at for report in spool.look(state).reports if report.meter == meter}


def check_rhythm(times: list[float], interval: float, runs: int = 1) -> None:
    """Hold readings against their fixed rate: none late by more than the bound, none in a burst.

    Args:
        times: of the readings, Unix time in seconds.
        interval: seconds.
        runs: how many processes made them, one after the other.
    """
    ordered = sorted(set(times))
    gaps = [after - before for before, after in pairwise(ordered)]
    assert max(gaps) < BOUND, gaps
    # The first report and the first one due may lie close to each other, and the last one too.
    # On a busy machine one may be late and the next one in time; a burst would be most of them.
    burst = [gap for gap in gaps if gap < interval / 4]
    assert len(burst) <= 2 * runs + len(ordered) // 5, gaps


def check_the_end(running: RunningExporter, state_dir: Path) -> None:
    """Hold the last line against the disk: nothing is lost, and little is left.

    The end lasts three seconds and a half. A machine that stalls for as long leaves in the spool
    what was read last, as it should.
    """
    left = len(spooled(state_dir)) + len(spooled(state_dir, "usage"))
    assert left <= 4
    last = running.stderr[-1]
    told = re.search(r"Stopped; (\d+) reports wait in the spool", last)
    assert left == (int(told[1]) if told else 0), last
    assert told or "Stopped; every report was delivered" in last


def check_that_each_is_said_once(running: RunningExporter, subject: str) -> None:
    """A warning comes again only after another line about its subject.

    Args:
        running: has ended.
        subject: what is in all lines about it.
    """
    lines = [line.partition(" WARNING ")[2] or line for line in running.stderr if subject in line]
    assert lines
    assert all(one != after for one, after in pairwise(lines)), running.stderr


def values_of(report: Any, name: str, key: str | None = None) -> Mapping[str, int | float]:
    """Tell a metric's values in one report, by one attribute."""
    return otlp_reports.values(otlp_reports.points(report), name, key)
