"""A week without a collector, and what becomes of its reports in a real Prometheus."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import history
import pytest
import requests
import stack
from pymongo.database import Database
from receivers import HttpSink, answer
from servers import ExporterRunner, eventually
from stack import COLLECTOR_CONFIG, Collector, Prometheus, ask_prometheus, build, free_port

from otel_novu.exporter import Exporter
from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_name
from otel_novu.metrics.usage import USAGE
from otel_novu.outcome import Delivered
from otel_novu.settings import load
from otel_novu.state.consent import decide, read_admin
from otel_novu.state.directory import StateDirectory
from otel_novu.state.identity import instance_id

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

HOUR = 3600
WEEK = 7 * 24
SHIPPED = Path(stack.__file__).parents[1] / "prometheus" / "prometheus.yml"
TABLES: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
NAMES = {prometheus_name(row) for row in TABLES}
LOST = "otelcol_exporter_send_failed_metric_points"


@dataclass
class Clock:
    """Stands where the test puts it."""

    time: float

    def __call__(self) -> float:
        return self.time


@contextmanager
def exporter_at(clock: Clock, env: Mapping[str, str], folder: Path) -> Iterator[Exporter]:
    """An exporter whose hours the test counts; a new process on the same state each time."""
    settings = load(env, env_file=None, cwd=folder, home=folder)
    with StateDirectory.open(settings.state_dir) as state, state.lock("run"):
        identity = instance_id(settings.instance_id, state)
        decision = decide(settings.telemetry, read_admin(state))
        exporter = Exporter(settings, state, identity, decision, clock)
        yield exporter
        exporter.close(0)


def live_through_an_outage(
    hours: list[int], clock: Clock, env: Mapping[str, str], folder: Path
) -> None:
    """Report at each hour, to nobody; in the midst of it the process ends and another begins."""
    half = len(hours) // 2
    for part in (hours[:half], hours[half:]):
        with exporter_at(clock, env, folder) as exporter:
            before = exporter.waiting
            for number, hour in enumerate(part, 1):
                clock.time = hour
                exporter.report()
                wanted = before + number * len(exporter.meters)
                eventually(lambda w=wanted, e=exporter: e.waiting == w)  # type: ignore[misc]


def deliver(clock: Clock, env: Mapping[str, str], folder: Path) -> None:
    """Start once more, with the collector there; returns when nothing waits any longer."""
    with exporter_at(clock, env, folder) as exporter:
        exporter.deliver_waiting()
        eventually(lambda: exporter.waiting, lambda waiting: waiting == 0, seconds=600)
        # Every report was answered for as delivered, with nothing rejected.
        assert set(exporter.outcomes.values()) == {Delivered()}


def samples(prometheus: Prometheus, instance: str) -> dict[str, list[set[int]]]:
    """By metric, the whole seconds of the samples of each of its series."""
    query = f'{{__name__=~"novu_.*", instance="{instance}"}}[9d]'
    found: dict[str, list[set[int]]] = {}
    for series in ask_prometheus(prometheus.address, query, time.time() + 60):
        times = {round(float(at)) for at, _ in series["values"]}
        assert len(times) == len(series["values"])
        found.setdefault(series["metric"]["__name__"], []).append(times)
    return found


@contextmanager
def prometheus_with_life(
    config: Path, port: int, exporter: ExporterRunner, folder: Path
) -> Iterator[tuple[Prometheus, Collector]]:
    """Prometheus and a collector, and in them already a report of now, of another instance."""
    with Prometheus(config, binaries=build()) as prometheus:
        target = {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": prometheus.remote_write}
        target["OTEL_NOVU_COLLECTOR_METRICS_PORT"] = str(free_port())
        with Collector(COLLECTOR_CONFIG, target, binaries=build(), http_port=port) as collector:
            env = {
                "NOVU_TELEMETRY": "off",
                "OTEL_NOVU_STATE_DIR": str(folder / "other"),
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.otlp_http,
            }
            assert exporter("once", env=env).returncode == 0
            eventually(lambda: prometheus.query("novu_beacon_timestamp_seconds"))
            yield prometheus, collector


def own_metric(collector: Collector, name: str) -> float:
    """The sum of what the collector tells about itself under a name."""
    port = collector.env["OTEL_NOVU_COLLECTOR_METRICS_PORT"]
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
    lines = [line for line in text.splitlines() if line.startswith(name)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_a_week_without_a_collector_ends_with_every_hour_of_every_metric_in_prometheus(
    database: Database[dict[str, Any]],
    mongo_url: str,
    state_dir: Path,
    tmp_path: Path,
    instance_id: str,
    exporter: ExporterRunner,
) -> None:
    port, now = free_port(), int(time.time())
    hours = [now - HOUR * back for back in reversed(range(WEEK))]
    novu = history.Novu(database)
    novu.load(before=hours[0] - HOUR)
    env = {
        "MONGO_URL": mongo_url,
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_NOVU_INSTANCE_ID": instance_id,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
    }
    clock = Clock(hours[0])
    live_through_an_outage(hours, clock, env, tmp_path)
    assert len(list((state_dir / "spool").iterdir())) == 2 * WEEK
    with prometheus_with_life(SHIPPED, port, exporter, tmp_path) as (prometheus, _):
        deliver(clock, env, tmp_path)
        found = eventually(
            lambda: samples(prometheus, instance_id),
            lambda seen: (
                seen.keys() == NAMES
                and all(series == [set(hours)] * len(series) for series in seen.values())
            ),
            seconds=240,
        )
    assert {len(series) for name, series in found.items() if name.endswith("_created_total")} == {1}
    assert sum(len(series) for series in found.values()) > len(NAMES)


@pytest.mark.parametrize(("window", "arriving"), [("0s", range(1, 3)), ("1d", range(24, 27))])
def test_with_too_small_a_window_prometheus_refuses_what_the_collector_has_answered_for(
    state_dir: Path,
    tmp_path: Path,
    instance_id: str,
    exporter: ExporterRunner,
    window: str,
    arriving: range,
) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text(f"storage:\n  tsdb:\n    out_of_order_time_window: {window}\n")
    port, now = free_port(), int(time.time())
    hours = [now - HOUR * back for back in reversed(range(WEEK))]
    env = {
        "NOVU_TELEMETRY": "off",
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_NOVU_INSTANCE_ID": instance_id,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
    }
    clock = Clock(hours[0])
    live_through_an_outage(hours, clock, env, tmp_path)
    with prometheus_with_life(config, port, exporter, tmp_path) as (prometheus, collector):
        # The exporter is told that all is well, so nothing waits and nothing is said.
        deliver(clock, env, tmp_path)
        arrived = eventually(
            lambda: samples(prometheus, instance_id).get("novu_beacon_timestamp_seconds", [set()]),
            lambda seen: max(seen[0], default=0) == now,
        )[0]
        assert len(arrived) in arriving
        assert arrived == set(hours[-len(arrived) :])
        # What is missing was refused by Prometheus. The collector alone tells of it, in its log,
        # which is cut short where lines repeat, and in a count of its own.
        log = collector.output()
        assert "Exporting failed. Dropping data." in log
        assert "out of bounds" in log or "too old sample" in log
        lost = len(BEACON) * (WEEK - len(arrived))
        eventually(lambda: own_metric(collector, LOST), lambda told: told >= lost)
        assert own_metric(collector, LOST) == lost


def test_what_the_collector_has_answered_for_is_lost_if_it_dies_while_prometheus_is_away(
    state_dir: Path, instance_id: str, exporter: ExporterRunner
) -> None:
    env = {
        "NOVU_TELEMETRY": "off",
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_NOVU_INSTANCE_ID": instance_id,
    }
    with Prometheus(SHIPPED, binaries=build()) as prometheus:
        target = {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": prometheus.remote_write}
        with Collector(COLLECTOR_CONFIG, target, binaries=build()) as collector:
            env["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.otlp_http
            prometheus.stop()
            assert exporter("once", env=env).returncode == 0
            collector.kill()
            collector.start()
            prometheus.start()
            assert exporter("once", env=env).returncode == 0
            name = "novu_beacon_timestamp_seconds"
            eventually(lambda: name in samples(prometheus, instance_id))
            assert [len(series) for series in samples(prometheus, instance_id)[name]] == [1]


@pytest.mark.parametrize(("status", "again"), [(503, True), (500, True), (404, False)])
def test_what_a_backend_refuses_for_good_is_lost_behind_the_collector_and_what_fails_is_sent_again(
    state_dir: Path, exporter: ExporterRunner, status: int, *, again: bool
) -> None:
    with HttpSink(answer(status, b"no", "text/plain"), answer()) as backend:
        target = {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": backend.base}
        with Collector(COLLECTOR_CONFIG, target, binaries=build()) as collector:
            env = {
                "NOVU_TELEMETRY": "off",
                "OTEL_NOVU_STATE_DIR": str(state_dir),
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.otlp_http,
            }
            assert exporter("once", env=env).returncode == 0
            if again:
                first, second = backend.wait_for(2)[:2]
                assert first.raw == second.raw
            else:
                eventually(lambda: "Exporting failed. Dropping data." in collector.output())
                assert len(backend.requests) == 1
