"""The demo's table: each metric, what the database answers now, and what Prometheus has."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from novu_data import Document, provider_of
from pymongo.database import Database
from stack import ask_prometheus

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.labels import PROVIDER
from otel_novu.metrics.metric import Instrument, Metric
from otel_novu.metrics.prometheus import prometheus_label, prometheus_name
from otel_novu.metrics.usage import USAGE

Answers = Mapping[str, int | Mapping[str, int]]

ESTIMATED = {
    "userCount": "users",
    "orgCount": "organizations",
    "workflowCount": "notificationtemplates",
    "eventCount": "notifications",
    "topicCount": "topics",
    "subscriberCount": "subscribers",
}
_FIXED = {"novu.host.info": 1, "novu.usage.enabled": 1, "novu.usage.read.failures": 0}
_NOT_DELETED = {"$match": {"deleted": {"$ne": True}}}


class Line(NamedTuple):
    """One line; `expected` is empty where the database knows nothing of the metric."""

    series: str
    expected: str
    seen: str
    verdict: str


def ask_novu(database: Database[Document]) -> Answers:
    """Run Novu's own queries; returns the answers by field of Novu's report."""
    size = {"$cond": [{"$isArray": "$steps"}, {"$size": "$steps"}, 0]}
    total = {"$group": {"_id": None, "total": {"$sum": size}}}
    steps = list(database["notificationtemplates"].aggregate([_NOT_DELETED, total]))
    by_provider = {"$group": {"_id": "$providerId", "count": {"$sum": 1}}}
    providers: Counter[str] = Counter()
    for row in database["integrations"].aggregate([_NOT_DELETED, by_provider]):
        providers[provider_of({"providerId": row["_id"]})] += row["count"]
    return {
        **{field: database[name].estimated_document_count() for field, name in ESTIMATED.items()},
        "totalSteps": int(steps[0]["total"]) if steps else 0,
        "integrationCount": dict(providers),
    }


def read_table(database: Database[Document], prometheus: str, instance: str) -> list[Line]:
    """Compare all metrics of one exporter, at least one line each."""
    answers = ask_novu(database)
    rows: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
    lines: list[Line] = []
    for row in rows:
        name = prometheus_name(row)
        query = f'last_over_time({name}{{job="novu",instance="{instance}"}}[65m])'
        found = ask_prometheus(prometheus, query)
        if not found and row.attributes and row.instrument is Instrument.COUNTER:
            lines.append(Line(name, "", "", "nothing counted yet"))
            continue
        expected = answers.get(row.field, _FIXED.get(row.name))
        if isinstance(expected, Mapping):
            lines += _provider_lines(name, expected, found)
        else:
            lines.append(_line(name, expected, [float(entry["value"][1]) for entry in found]))
    return lines


def _provider_lines(
    name: str, expected: Mapping[str, int], found: Sequence[Document]
) -> Iterator[Line]:
    label = prometheus_label(PROVIDER.key)
    seen = {entry["metric"][label]: [float(entry["value"][1])] for entry in found}
    for provider in sorted({*expected, *seen}):  # one that is gone is sent as 0
        yield _line(f"{name}{{{provider}}}", expected.get(provider, 0), seen.get(provider, []))


def _line(series: str, expected: int | None, values: Sequence[float]) -> Line:
    if not values:
        return Line(series, str(expected or ""), "", "MISSING")
    ends = sorted({min(values), max(values)})
    seen = " to ".join(f"{value:.{3 if value % 1 else 0}f}" for value in ends)
    if expected is None:
        return Line(series, "", seen, "there")
    return Line(series, str(expected), seen, "equal" if {*values} == {expected} else "DIFFERENT")


def format_table(lines: Sequence[Line]) -> str:
    """Align the lines below a heading."""
    rows = [("metric", "database", "Prometheus", ""), *lines]
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{a:<{width}}  {b:>8}  {c:>22}  {d}".rstrip() for a, b, c, d in rows)
