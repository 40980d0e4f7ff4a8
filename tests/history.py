"""Hours of hourly reports in seconds: with times of the caller's, through a collector."""

import contextlib
import json
import subprocess
import urllib.parse
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rules
import yaml
from deliveries import Delivered, Figures, rows
from stack import (
    COLLECTOR_CONFIG,
    Binaries,
    Collector,
    OtlpPrometheus,
    Prometheus,
    ask_prometheus,
    poll,
)
from stack_servers import Process

from otel_novu.metrics import beacon
from otel_novu.metrics import usage as usage_rows
from otel_novu.metrics.beacon import BeaconReading, DeliveryCounts, Host
from otel_novu.metrics.queries import Values
from otel_novu.metrics.usage import NOVU as FIGURES
from otel_novu.metrics.usage import UsageReading
from otel_novu.report import ReportBuilder, make_resource

HOUR = 3600.0
DAY = 24 * HOUR
PROVIDERS = "integration.count"


class UncompactedPrometheus(Prometheus):
    """Compacts nothing: while it does, once a minute, a query may miss samples that came late."""

    def spawn(self, command: Sequence[str], *more: Any, **named: Any) -> Process:
        """Start it with the flags that are meant for tests."""
        flags = [f"--storage.tsdb.{each}-block-duration=30d" for each in ("min", "max")]
        return super().spawn([*command, *flags], *more, **named)


class UncompactedOtlpPrometheus(UncompactedPrometheus, OtlpPrometheus):
    """The same with an OTLP receiver of its own."""


@dataclass
class Backend:
    """A collector that writes to a Prometheus, or that alone; they belong to the caller."""

    receiver: Collector | OtlpPrometheus
    prometheus: Prometheus
    parts: Binaries
    rules: Path = rules.FILE
    step: int = 120  # seconds between two evaluations of the recording rules

    def wait_for(self, query: str, at: float) -> None:
        """Wait until an instant query has an answer: the collector passes on what it got later."""
        assert poll(lambda: bool(ask_prometheus(self.prometheus.address, query, at)), 240), query

    def record(self, begin: float, end: float) -> None:
        """Evaluate the recording rules for a time in the past, as if Prometheus had then."""
        [group] = yaml.safe_load(self.rules.read_text())["groups"]
        left = {rule["record"]: rule["expr"] for rule in group["rules"]}
        while left:
            ready = {
                name: expr
                for name, expr in left.items()
                if not any(other in expr for other in left)
            }
            for name, expr in ready.items():
                del left[name]
                found = self._over(expr, begin, end)
                for job in {series["metric"]["job"] for series in found}:
                    self._push(name, job, [each for each in found if each["metric"]["job"] == job])

    def _over(self, expr: str, begin: float, end: float) -> list[Any]:
        question = {"query": expr, "start": begin, "end": end, "step": self.step}
        url = f"{self.prometheus.address}/api/v1/query_range?{urllib.parse.urlencode(question)}"
        with urllib.request.urlopen(url, timeout=600) as answer:  # noqa: S310 - our own address
            return list(json.load(answer)["data"]["result"])

    def _push(self, name: str, job: str, found: list[Any]) -> None:
        # Blocks of `promtool tsdb create-blocks-from` are not for the last three hours.
        lines = [f"# TYPE {name} gauge"]
        for series in found:
            kept = {**series["metric"], "job": "", "__name__": ""}
            labels = [f'"{key}"="{text}"' for key, text in kept.items() if text]
            lines += [
                f"{name}{{{','.join(labels)}}} {value} {at * 1000:.0f}"
                for at, value in series["values"]
            ]
        command = [str(self.parts.promtool), "push", "metrics", f"--label=job={job}"]
        done = subprocess.run(
            [*command, self.prometheus.remote_write],
            input="\n".join([*lines, ""]),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stderr}\n{self.prometheus.output()[-5000:]}"


@contextlib.contextmanager
def backend(parts: Binaries, prometheus: Prometheus) -> Iterator[Backend]:
    """Start both, and stop them."""
    with prometheus:
        environ = {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": prometheus.remote_write}
        with Collector(COLLECTOR_CONFIG, environ, binaries=parts) as collector:
            yield Backend(collector, prometheus, parts)


@dataclass
class Novu:
    """What a Novu holds now: by figure and by provider; and what was ever created in it."""

    totals: Counter[str]
    providers: dict[str, int]
    created: Counter[str] = field(default_factory=Counter)
    delivered: Delivered = field(default_factory=Delivered)

    def create(self, entity: str, count: int) -> None:
        """Create documents."""
        self.totals[f"{entity}.count"] += count
        self.created[f"{entity}.created"] += count

    def delete(self, entity: str, count: int) -> None:
        """Delete documents."""
        self.totals[f"{entity}.count"] -= count


class Reporter:
    """One exporter's reports on a Novu; the namespace names the deployment."""

    def __init__(
        self,
        receiver: Collector | OtlpPrometheus,
        novu: Novu,
        namespace: str,
        host: str = "novu-worker-1",
    ) -> None:
        self.instance, self.job = str(uuid.uuid4()), f"{namespace}/novu"
        self.memory_free = 3 * 2**30
        self._url = f"{receiver.otlp_http}/v1/metrics"
        self._novu, self._host = novu, host
        self._seen: set[str] = set()
        self._failures: Counter[str] = Counter()
        self._watch: tuple[float, Counter[str]] | None = None
        self._delivered: Counter[Any] | None = None
        attributes = {"service.namespace": namespace}
        self._resource = make_resource("novu", uuid.UUID(self.instance), attributes)

    def report(self, at: float, *, usage: bool = True, failed: bool = False) -> None:
        """Report as if it were then: a beacon, and usage figures where they are on.

        Args:
            at: Unix time.
            usage: whether usage figures are on.
            failed: whether the database does not answer.
        """
        host = Host(self.memory_free, 2**33, self._host, "192.0.2.7", "linux", "6.12.9-amd64")
        reading = BeaconReading(at, host, usage, DeliveryCounts(0, 0, 0, 0))
        self._send(ReportBuilder(beacon.SCOPE, beacon.BEACON, self._resource, at), reading, at)
        if usage:
            self.report_usage(at, failed=failed)

    def report_usage(self, at: float, *, failed: bool = False) -> None:
        """Report usage figures without a beacon, as when they were just switched on."""
        names = [figure.name for figure in FIGURES]
        if failed:
            self._failures.update(names)
        failures = {name: self._failures[name] for name in names}
        durations = {name: 0.01 + len(name) / 1000 for name in names}
        reading = UsageReading(at, {}, {}, {}, durations, failures)
        if not failed:
            values: dict[str, Values] = {name: {(): n} for name, n in self._novu.totals.items()}
            values[PROVIDERS] = {(name,): n for name, n in self._providers().items()}
            created, since = self._created(at)
            since_each = dict.fromkeys(created, since)
            reading = UsageReading(at, values | created, since_each, {}, durations, failures)
        self._send(
            ReportBuilder(usage_rows.SCOPE, usage_rows.USAGE, self._resource, at), reading, at
        )
        if not failed:
            self._send_delivered(at)

    def restart(self, *, lose_counters: bool = False) -> None:
        """Go on as a new process, with or without the counters of created documents."""
        self._seen, self._failures = set(), Counter()
        if lose_counters:
            self._watch = self._delivered = None

    def watch(self, since: float) -> None:
        """Count from now on, as if since an earlier time."""
        self._watch = since, Counter(self._novu.created)
        self._delivered = Counter(self._novu.delivered.counts)

    def _providers(self) -> dict[str, int]:
        self._seen |= self._novu.providers.keys()
        return dict.fromkeys(self._seen, 0) | self._novu.providers

    def _created(self, at: float) -> tuple[dict[str, Values], float]:
        if self._watch is None:
            self._watch = at, Counter(self._novu.created)
        since, before = self._watch
        names = [figure.name for figure in FIGURES if figure.name.endswith(".created")]
        return {name: {(): self._novu.created[name] - before[name]} for name in names}, since

    def _send_delivered(self, at: float) -> None:
        delivered = self._novu.delivered
        if self._delivered is None:
            self._delivered = Counter(delivered.counts)
        figures = Figures(delivered.since(self._delivered), delivered.gauges(at))
        self._send(ReportBuilder(usage_rows.SCOPE, rows(), self._resource, at), figures, at)

    def _send(self, builder: ReportBuilder[Any], reading: object, at: float) -> None:
        built = builder.build(reading, at)
        builder.close()
        assert built.body is not None
        assert built.dropped == 0
        headers = {"Content-Type": "application/x-protobuf"}
        request = urllib.request.Request(self._url, built.body, headers)  # noqa: S310 - our own
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
            assert answer.status == 200
