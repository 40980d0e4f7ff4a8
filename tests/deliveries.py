"""What a Novu delivers and how large it is, invented: figures by their names on the wire."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from otel_novu.metrics.metric import Metric, Point
from otel_novu.metrics.usage import DELIVERY, USAGE

Labels = tuple[tuple[str, str], ...]
Series = tuple[str, Labels]

NAMES = {figure.metric for figure in DELIVERY} | {"novu.usage.lag"}
_JOBS: Series = ("novu.job.created", ())
_FIGURES = ("message.created", "message.delay", "job.created", "job.failed", "job.unfinished.1h")
_DAY = 86400.0
_COLLECTIONS = {
    "notifications": 6,
    "messages": 8,
    "jobs": 9,
    "executiondetails": 4,
    "subscribers": 4,
    "preferences": 5,
}


@dataclass(frozen=True)
class Figures:
    """One reading."""

    counts: Mapping[Series, int]
    gauges: Mapping[Series, float]


@dataclass
class Delivered:
    """What was delivered until now."""

    counts: Counter[Series] = field(default_factory=Counter)
    newest: dict[str, float] = field(default_factory=dict)  # Unix times, by kind of document
    active: dict[tuple[str, str], int] = field(default_factory=lambda: {("email", "prod"): 2})
    sizes: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_COLLECTIONS, 2e8))
    oldest: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_COLLECTIONS, 40.0))
    lag: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_FIGURES, 0.0))

    def count(self, name: str, count: int, **labels: str) -> None:
        """Count under a name without `novu.`; underscores in labels are dots on the wire."""
        named = sorted((f"novu.{key.replace('_', '.')}", text) for key, text in labels.items())
        self.counts[f"novu.{name}", tuple(named)] += count

    def send(
        self, channel: str, provider: str, count: int, status: str = "sent", delay: str = "1s"
    ) -> None:
        """Create messages in production."""
        where = {"channel": channel, "provider_id": provider}
        self.count(
            "message.created", count, **where, message_status=status, environment_type="prod"
        )
        self.count("message.delay", count, channel=channel, delay=delay)
        self.count("job.created", count)

    def fail(self, step: str, reason: str, count: int) -> None:
        """Let jobs of production fail."""
        labels = {"step_type": step, "failure_reason": reason, "environment_type": "prod"}
        self.count("job.failed", count, **labels)

    def lose(self, step: str, count: int, *, age: str = "1h", status: str = "queued") -> None:
        """Leave jobs of production unfinished."""
        labels = {"job_age": age, "job_status": status, "environment_type": "prod"}
        self.count("job.unfinished", count, step_type=step, **labels)

    def since(self, before: Mapping[Series, int]) -> dict[Series, int]:
        """Return what was counted since; labels that were not seen meanwhile are absent."""
        grown = {key: count - before.get(key, 0) for key, count in self.counts.items()}
        jobs = {_JOBS: grown.pop(_JOBS, 0)}
        return jobs | {key: count for key, count in grown.items() if count}

    def gauges(self, at: float) -> dict[Series, float]:
        """Return what is not counted, at a Unix time."""
        return {(f"novu.{name}", labels): value for name, labels, value in self._gauges(at)}

    def _gauges(self, at: float) -> Iterator[tuple[str, Labels, float]]:
        for kind in ("event", "message", "job", "subscriber"):
            newest = self.newest.get(kind, at - 120)
            yield "created.timestamp", (("novu.figure", kind),), newest
        for name, size in self.sizes.items():
            collection = ("novu.collection", name)
            for storage, share in (("data", 0.75), ("index", 0.25)):
                labels = (collection, ("novu.storage", storage))
                yield "collection.size", labels, int(size * share)
            yield "collection.oldest.age", (collection,), self.oldest[name] * _DAY
            yield "collection.index.count", (collection,), _COLLECTIONS[name]
        for (channel, kind), count in self.active.items():
            labels = (("novu.channel", channel), ("novu.environment.type", kind))
            yield "integration.active.count", labels, count
        for name, lag in self.lag.items():
            yield "usage.lag", (("novu.figure", name),), lag


def rows() -> tuple[Metric[Figures], ...]:
    """Return the rows that turn a reading into a report."""
    mine: tuple[Metric[Any], ...] = tuple(row for row in USAGE if row.name in NAMES)
    return tuple(replace(row, read=partial(_points, row.name), since=None) for row in mine)


def _points(name: str, figures: Figures) -> list[Point]:
    values: Mapping[Any, float] = {**figures.counts, **figures.gauges}
    return [
        Point(value, dict(labels)) for (named, labels), value in values.items() if named == name
    ]
