"""A week without a collector, and hundreds of reports with random faults; both take minutes."""

import random
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from contract.case import BEACON, STALL_SECONDS, USAGE, Case, reading_times
from contract.clock import Clock
from contract.disk import fill, tiny_disk
from faults import Gate, Switch, dice
from receivers import HttpAnswer, HttpSink, answer, hang, reset
from servers import eventually
from stack import Servers, ask_prometheus

from otel_novu.metrics.beacon import BEACON as BEACON_ROWS
from otel_novu.metrics.prometheus import prometheus_name
from otel_novu.metrics.usage import USAGE as USAGE_ROWS

pytestmark = [pytest.mark.contract, pytest.mark.long, pytest.mark.timeout(1800)]

HOUR, WEEK = 3600, 7 * 24
SCOPES = {prometheus_name(row): BEACON for row in BEACON_ROWS}
SCOPES |= {prometheus_name(row): USAGE for row in USAGE_ROWS}


def samples(prometheus: str, instance: str) -> dict[str, list[set[int]]]:
    """By metric, the seconds of the samples of each of its series."""
    query = f'{{__name__=~"novu_.*", instance="{instance}"}}[9d]'
    found: dict[str, list[set[int]]] = {}
    for series in ask_prometheus(prometheus, query, time.time() + 60):
        times = {int(float(at)) for at, _ in series["values"]}
        found.setdefault(series["metric"]["__name__"], []).append(times)
    return found


def test_a_week_without_a_collector_ends_with_every_hour_of_every_metric_in_prometheus(
    stack: Servers, novu: Case, tmp_path: Path
) -> None:
    instance, clock = str(uuid4()), Clock(tmp_path)
    clock.step(-(WEEK - 1) * HOUR)
    novu.env |= {"OTEL_NOVU_INSTANCE_ID": instance, **clock.environment}
    novu.send_nowhere()
    for hour in range(WEEK):
        assert novu("once").returncode == 1, hour
        clock.step(HOUR)
    clock.step(-HOUR)
    kept = {scope: set(novu.waiting(scope)) for scope in (BEACON, USAGE)}
    assert [len(times) for times in kept.values()] == [WEEK, WEEK]

    flushed = novu("spool --flush", OTEL_EXPORTER_OTLP_ENDPOINT=stack.otlp_http)
    assert flushed.returncode == 0, flushed.stderr

    def complete(found: dict[str, list[set[int]]]) -> bool:
        right = (t == kept[SCOPES[name]] for name, series in found.items() for t in series)
        return found.keys() == SCOPES.keys() and all(right)

    eventually(lambda: samples(stack.prometheus, instance), complete)


FAULTS: list[HttpAnswer | None] = [
    None,
    answer(503),
    answer(400, b"bad", "text/plain"),
    answer(body=b"<html>", kind="text/html"),
    reset(),
    hang(),
    answer(429, headers={"Retry-After": "1"}),
]


@dataclass
class Weather:
    """What goes wrong now: with the collector, the database and the disk."""

    moments: random.Random
    switch: Switch
    gate: Gate
    disk: Path

    def change_for(self, seconds: float) -> None:
        """Let something else go wrong every few seconds; then all is well."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._clear()
            self.switch.now = self.moments.choice(FAULTS)
            self.gate.blocked = self.moments.choice([None, None, b"", b"aggregate"])
            if self.moments.random() < 0.3:
                fill(self.disk)
            time.sleep(self.moments.uniform(1, 3))
        self._clear()

    def _clear(self) -> None:
        self.switch.now = self.gate.blocked = None
        (self.disk / "filling").unlink(missing_ok=True)


def size_of(process: psutil.Process) -> tuple[int, int, int]:
    """Measure what may grow: threads, descriptors, and memory in MiB."""
    return process.num_threads(), process.num_fds(), process.memory_info().rss >> 20


def test_after_hundreds_of_reports_with_random_faults_nothing_has_grown(
    novu: Case, mongo_url: str, tmp_path: Path
) -> None:
    switch, moments, sizes = Switch(), dice(), []
    with tiny_disk(tmp_path / "disk", 4096) as disk, Gate(mongo_url) as gate:
        novu.read(gate.url)
        novu.env |= {"OTEL_NOVU_STATE_DIR": str(disk / "state"), "OTEL_NOVU_QUERY_TIMEOUT": "1"}
        with novu.send_to(HttpSink(switch)) as sink:
            running = novu.start(OTEL_EXPORTER_OTLP_TIMEOUT="1")
            for seconds in (60, 240):
                Weather(moments, switch, gate, disk).change_for(seconds)
                for scope in (BEACON, USAGE):
                    count = len(set(reading_times(switch.accepted(sink), scope)))
                    eventually(
                        lambda s=scope: set(reading_times(switch.accepted(sink), s)),  # type: ignore[misc]
                        lambda found, n=count: len(found) > n + 3,  # type: ignore[misc]
                    )
                sizes.append(size_of(psutil.Process(running.pid)))
            novu.stop(running)
            times = reading_times(switch.accepted(sink))
        novu.exporter.close()
    grown = [after - before for before, after in zip(*sizes, strict=True)]
    assert (grown[0] <= 4, grown[1] <= 8, grown[2] <= 16) == (True, True, True), grown
    # A report that is rejected while a later one passes is dropped, and counted.
    dropped = novu.values("novu.spool.dropped")[-1]
    assert len(set(times)) + dropped > 150
    gaps = [later - earlier for earlier, later in pairwise(sorted(set(times)))]
    assert max(gaps) < STALL_SECONDS + dropped
    assert "Traceback" not in "\n".join(running.stderr)
