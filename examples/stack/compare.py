"""The demo's table: each metric, what the database answers now, and what Prometheus answers.

    python examples/stack/compare.py INSTANCE_ID

takes the servers from `TEST_MONGO_URL` and `TEST_PROMETHEUS` (`stack.py env` prints them). The
database is asked Novu's own queries, directly. What it can't tell (memory, times, what was created
since the exporter began) is judged by sense. Exit code 0 only if every metric is there and agrees.
"""

import argparse
import os
import socket
import sys
import time
import urllib.error
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
from novu_data import DEFAULT_DATABASE, provider_of
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError
from stack import ask_prometheus

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_label, prometheus_name
from otel_novu.metrics.question import OTHER, PROVIDER_LIMIT
from otel_novu.metrics.usage import FIGURE, FIGURES, PROVIDER, USAGE

Document = dict[str, Any]
Answers = Mapping[str, int | Mapping[str, int]]

RECENT = 600  # seconds that a report may be old
NOT_DELETED = {"$match": {"deleted": {"$ne": True}}}
ESTIMATED = {
    "userCount": "users",
    "orgCount": "organizations",
    "workflowCount": "notificationtemplates",
    "eventCount": "notifications",
    "topicCount": "topics",
    "subscriberCount": "subscribers",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value in Prometheus."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    series: str
    expected: str
    seen: str
    good: bool
    agreed: str = "equal"

    @property
    def verdict(self) -> str:
        """In one word."""
        return self.agreed if self.good else "DIFFERENT" if self.seen else "MISSING"


@dataclass(frozen=True, slots=True)
class Sense:
    """How a metric is judged that the database knows nothing of.

    Args:
        expected: what the table shows in the database's place.
        fits: whether these samples make sense at that Unix time.
    """

    expected: str
    fits: Callable[[Sequence[Sample], float], bool]


def ask_novu(database: Database[Document]) -> Answers:
    """Ask the database Novu's own queries; the answers by the field of Novu's report."""
    counts = {
        field: database[collection].estimated_document_count()
        for field, collection in ESTIMATED.items()
    }
    size = {"$cond": [{"$isArray": "$steps"}, {"$size": "$steps"}, 0]}
    total = {"$group": {"_id": None, "total": {"$sum": size}}}
    steps = list(database["notificationtemplates"].aggregate([NOT_DELETED, total]))
    by_provider = {"$group": {"_id": "$providerId", "count": {"$sum": 1}}}
    providers = list(database["integrations"].aggregate([NOT_DELETED, by_provider]))
    return {
        **counts,
        "totalSteps": int(steps[0]["total"]) if steps else 0,
        "integrationCount": fold_providers(providers),
    }


def fold_providers(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, int]:
    """Fold unlawful ids into `other`, missing ones into `unknown`, and all beyond the largest."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts[provider_of({"providerId": row["_id"]})] += row["count"]
    largest = sorted(counts, key=lambda provider: (-counts[provider], provider))
    for provider in largest[PROVIDER_LIMIT:]:
        counts[OTHER] += counts.pop(provider)
    return dict(counts)


def compare(metric: Metric[Any], answers: Answers, samples: list[Sample], now: float) -> list[Line]:
    """Compare one metric.

    Args:
        metric: the row of our tables.
        answers: the database's, by the field of Novu's report.
        samples: Prometheus' answer for the metric.
        now: Unix time, seconds.

    Returns:
        A line for each series, at least one.
    """
    series = prometheus_name(metric)
    answer = answers.get(metric.field)
    if isinstance(answer, Mapping):
        return _compare_providers(series, answer, samples)
    if isinstance(answer, int):
        return [Line(series, str(answer), _show(samples), [s.value for s in samples] == [answer])]
    sense = _sense(metric.name)
    good = bool(samples) and sense.fits(samples, now)
    return [Line(series, sense.expected, _show(samples), good, "plausible")]


def _compare_providers(
    series: str, answer: Mapping[str, int], samples: Sequence[Sample]
) -> list[Line]:
    label = prometheus_label(PROVIDER)
    seen = {sample.labels.get(label, ""): sample for sample in samples}
    lines = []
    for provider in sorted({*answer, *seen}):
        expected = answer.get(provider, 0)  # gone, but seen before: sent as 0
        found = [seen[provider]] if provider in seen else []
        good = [sample.value for sample in found] == [expected]
        lines.append(Line(f"{series}{{{provider}}}", str(expected), _show(found), good))
    return lines or [Line(series, "none", "", good=not answer)]


def _sense(name: str) -> Sense:
    if name in SENSES:
        return SENSES[name]
    if name.endswith(".timestamp"):
        return Sense("(the last minutes)", lambda samples, now: _only(samples, now - RECENT, now))
    if name.endswith(".created"):
        return Sense("(0 or more)", _are_whole)
    return Sense("(there)", _are_whole)


def _only(samples: Sequence[Sample], low: float, high: float) -> bool:
    return len(samples) == 1 and low <= samples[0].value <= high


def _are_whole(samples: Sequence[Sample], _: float) -> bool:
    return all(sample.value >= 0 and sample.value.is_integer() for sample in samples)


def _is_total(samples: Sequence[Sample], _: float) -> bool:
    total = psutil.virtual_memory().total
    return _only(samples, total, total)


def _is_free(samples: Sequence[Sample], _: float) -> bool:
    return _only(samples, 1, psutil.virtual_memory().total)


def _is_host(samples: Sequence[Sample], _: float) -> bool:
    labels = samples[0].labels
    named = labels.get("host_name") == socket.gethostname()
    return _only(samples, 1, 1) and named and {"os_type", "os_version"} <= labels.keys()


def _have_every_figure(samples: Sequence[Sample]) -> bool:
    label = prometheus_label(FIGURE)
    return {sample.labels.get(label) for sample in samples} == {f.name for f in FIGURES}


SENSES = {
    "novu.host.memory.free": Sense("(this machine's)", _is_free),
    "novu.host.memory.total": Sense("(this machine's)", _is_total),
    "novu.host.info": Sense("(this machine's)", _is_host),
    "novu.usage.enabled": Sense("(1: on)", lambda samples, _: _only(samples, 1, 1)),
    "novu.usage.read.duration": Sense(
        f"({len(FIGURES)} figures)", lambda samples, _: _have_every_figure(samples)
    ),
    "novu.usage.read.failures": Sense(
        f"({len(FIGURES)} figures: 0)",
        lambda samples, _: _have_every_figure(samples) and not any(s.value for s in samples),
    ),
}


def _show(samples: Sequence[Sample]) -> str:
    if len(samples) > 1:
        low, high = (_number(pick(s.value for s in samples)) for pick in (min, max))
        return f"{len(samples)} series: {low if low == high else f'{low} to {high}'}"
    return _number(samples[0].value) if samples else ""


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else f"{value:.3f}"


def ask_samples(address: str, series: str, options: argparse.Namespace) -> list[Sample]:
    """Ask Prometheus for a metric of one job and instance, its last value."""
    wanted = f'{series}{{job="{options.job}",instance="{options.instance}"}}'
    found = ask_prometheus(address, f"last_over_time({wanted}[{options.within}])")
    return [Sample(entry["metric"], float(entry["value"][1])) for entry in found]


def read_table(database: Database[Document], options: argparse.Namespace) -> list[Line]:
    """Read both sides now, all metrics of both tables."""
    answers = ask_novu(database)
    rows: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
    lines = []
    for metric in rows:
        samples = ask_samples(options.prometheus, prometheus_name(metric), options)
        lines += compare(metric, answers, samples, time.time())
    return lines


def format_table(lines: Sequence[Line]) -> str:
    """Align the lines, with a heading."""
    heading = ("metric", "database", "Prometheus", "")
    cells = [heading, *((line.series, line.expected, line.seen, line.verdict) for line in lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    return "\n".join(
        f"{name:<{widths[0]}}  {expected:>{widths[1]}}  {seen:>{widths[2]}}  {verdict}".rstrip()
        for name, expected, seen, verdict in cells
    )


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare Novu's database with Prometheus.")
    parser.add_argument("instance", help="the exporter's instance id")
    parser.add_argument("--job", default="novu", help="default: novu")
    parser.add_argument("--within", default="65m", help="how old a sample may be (default: 65m)")
    parser.add_argument(
        "--wait", type=float, default=120, help="seconds to wait until all agree (default: 120)"
    )
    parser.add_argument("--mongo-url", default=os.environ.get("TEST_MONGO_URL"))
    parser.add_argument("--prometheus", default=os.environ.get("TEST_PROMETHEUS"))
    options = parser.parse_args(arguments)
    if not options.mongo_url or not options.prometheus:
        parser.error("TEST_MONGO_URL and TEST_PROMETHEUS must say where the servers are")
    return options


def _read_until_good(options: argparse.Namespace) -> list[Line]:
    """Read again until all agree: what was sent takes a moment to pass the collector."""
    deadline = time.monotonic() + options.wait
    client: MongoClient[Document] = MongoClient(options.mongo_url, appname="otel-novu-compare")
    with client:
        database = client.get_default_database(DEFAULT_DATABASE)
        while True:
            lines = read_table(database, options)
            if all(line.good for line in lines) or time.monotonic() > deadline:
                return lines
            time.sleep(0.5)


def main(arguments: Sequence[str]) -> int:
    """Print the table; the exit code."""
    options = _parse(arguments)
    try:
        lines = _read_until_good(options)
    except (PyMongoError, ValueError) as error:  # its text may hold a piece of the URL
        print(f"The database can't be asked: {type(error).__name__}", file=sys.stderr)
        return 1
    except urllib.error.URLError as error:
        print(f"Prometheus can't be asked: {error.reason}", file=sys.stderr)
        return 1
    print(format_table(lines))
    bad = [line for line in lines if not line.good]
    print(f"\n{len(lines)} lines, {len(bad)} of them differ or are missing.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
