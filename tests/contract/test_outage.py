"""A week without a collector, and hundreds of reports with random faults; both take minutes."""

import time
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from contract.case import BEACON, LATER, STALL_SECONDS, USAGE, Case, reading_times
from contract.clock import Clock
from contract.disk import fill, tiny_disk
from faults import Gate, Switch, dice
from receivers import HttpSink, answer, hang, reset
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


def test_after_a_week_without_a_collector_every_hour_of_every_metric_reaches_prometheus(
    stack: Servers, novu: Case, tmp_path: Path
) -> None:
    instance, clock = str(uuid4()), Clock(tmp_path)
    clock.step(-WEEK * HOUR)
    novu.env |= {"OTEL_NOVU_INSTANCE_ID": instance, **clock.environment}
    novu.send_nowhere()
    for hour in range(WEEK):
        clock.step(HOUR)
        assert novu("once").returncode == 1, hour
    kept = {scope: set(novu.waiting(scope)) for scope in (BEACON, USAGE)}
    assert [len(times) for times in kept.values()] == [WEEK, WEEK]

    flushed = novu("spool --flush", OTEL_EXPORTER_OTLP_ENDPOINT=stack.otlp_http)
    assert flushed.returncode == 0, flushed.stderr

    def complete(found: dict[str, list[set[int]]]) -> bool:
        later = {prometheus_name(row) for row in USAGE_ROWS if row.name in LATER}
        for name, series in found.items():
            for times in series:
                first = min(times if name in later else kept[SCOPES[name]])
                if times != {each for each in kept[SCOPES[name]] if each >= first}:
                    return False
        return found.keys() >= SCOPES.keys() - later

    eventually(lambda: samples(stack.prometheus, instance), complete)


RETRY = answer(429, headers={"Retry-After": "1"})
PAGE, BAD = answer(body=b"<html>", kind="text/html"), answer(400, b"bad", "text/plain")
COLLECTOR_FAULTS = [None, answer(503), BAD, PAGE, reset(), hang(), RETRY]
DATABASE_FAULTS = [None, None, b"", b"aggregate"]


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
            for cycles in (30, 120):
                for _ in range(cycles):
                    switch.now = moments.choice(COLLECTOR_FAULTS)
                    gate.blocked = moments.choice(DATABASE_FAULTS)
                    if moments.random() < 0.3:
                        fill(disk)
                    time.sleep(moments.uniform(1, 3))
                    (disk / "filling").unlink(missing_ok=True)
                switch.now = gate.blocked = None
                now = time.time()
                for scope in (BEACON, USAGE):
                    eventually(
                        lambda s=scope: reading_times(switch.accepted(sink)[-9:], s),  # type: ignore[misc]
                        lambda times, now=now: max(times, default=0.0) > now,  # type: ignore[misc]
                    )
                sizes.append(size_of(psutil.Process(running.pid)))
            novu.stop(running)
            times = sorted(set(reading_times(switch.accepted(sink))))
        novu.exporter.close()
    grown = [after - before for before, after in zip(*sizes, strict=True)]
    assert (grown[0] <= 4, grown[1] <= 8, grown[2] <= 16) == (True, True, True), grown
    # A report that is rejected while a later one passes is dropped, and counted.
    dropped = novu.values("novu.spool.dropped")[-1]
    assert len(times) + dropped > 150
    assert max(later - before for before, later in pairwise(times)) < STALL_SECONDS + dropped
    assert "Traceback" not in "\n".join(running.stderr)
