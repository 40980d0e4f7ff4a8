"""The usage scope: metrics that are sent only while the telemetry flag is set."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from otel_novu.log import sentence
from otel_novu.metrics.metric import SECONDS, Attribute, Instrument, Metric, Point, Text
from otel_novu.metrics.queries import (
    PROVIDER_FORM,
    ArraySizes,
    CountByProvider,
    CreatedIn,
    Estimate,
    Total,
)

SCOPE = "otel_novu.usage"

PROVIDER = "novu.provider.id"
FIGURE = "novu.figure"


@dataclass(frozen=True, slots=True)
class Created:
    """Documents created since a Unix time in seconds."""

    count: int
    since: float


@dataclass(frozen=True, slots=True)
class UsageReading:
    """One reading of all figures, by their names; one that could not be read is absent."""

    timestamp: float  # Unix time, seconds
    totals: Mapping[str, int]
    providers: Mapping[str, Mapping[str, int]]  # totals by provider id
    created: Mapping[str, Created]
    durations: Mapping[str, float]  # seconds
    failures: Mapping[str, int]  # since the process began


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of Novu: its metric, and the query that reads it."""

    name: str  # the metric's name without `novu.`; also the value of `novu.figure`
    unit: str  # UCUM
    query: Total | CreatedIn  # decides the instrument, too
    description: str  # one sentence, sent with the metric
    field: str = ""  # the name in Novu's own report


# A new figure is a new row.
# fmt: off
FIGURES: tuple[Figure, ...] = (
    Figure("user.count", "{user}", Estimate("users"), "Users.", "userCount"),
    Figure("organization.count", "{organization}", Estimate("organizations"),
           "Organizations.", "orgCount"),
    Figure("workflow.count", "{workflow}", Estimate("notificationtemplates"),
           "Workflows of all environments, soft-deleted ones included.", "workflowCount"),
    Figure("workflow.step.count", "{step}", ArraySizes("notificationtemplates", "steps"),
           "Steps of all workflows that are not soft-deleted.", "totalSteps"),
    Figure("event.count", "{event}", Estimate("notifications"),
           "Events (triggered notifications) in the database.", "eventCount"),
    Figure("topic.count", "{topic}", Estimate("topics"), "Topics.", "topicCount"),
    Figure("subscriber.count", "{subscriber}", Estimate("subscribers"),
           "Subscribers of all environments, soft-deleted ones included.", "subscriberCount"),
    Figure("integration.count", "{integration}", CountByProvider("integrations", "providerId"),
           "Integrations that are not soft-deleted, by provider.", "integrationCount"),
    Figure("user.created", "{user}", CreatedIn("users"), "Users created."),
    Figure("organization.created", "{organization}", CreatedIn("organizations"),
           "Organizations created."),
    Figure("workflow.created", "{workflow}", CreatedIn("notificationtemplates"),
           "Workflows created."),
    Figure("event.created", "{event}", CreatedIn("notifications"), "Events triggered."),
    Figure("topic.created", "{topic}", CreatedIn("topics"), "Topics created."),
    Figure("subscriber.created", "{subscriber}", CreatedIn("subscribers"), "Subscribers created."),
)
# fmt: on

COLLECTIONS: tuple[str, ...] = tuple(dict.fromkeys(figure.query.collection for figure in FIGURES))

_PROVIDER_LABELS = {
    PROVIDER: Attribute(
        Text(PROVIDER_FORM, "a provider id (`[a-z0-9][a-z0-9_.-]{0,63}`), `unknown` or `other`"),
        source="`providerId` of `integrations`; the database turns other texts into `other`",
        identifies="no person and no host, but the services in use; an id of the operator's own "
        "is sent too if it has this form",
    )
}
_FIGURE_LABELS = {
    FIGURE: Attribute(
        Text("|".join(re.escape(figure.name) for figure in FIGURES), "the name of a figure"),
        source="a fixed list, the names of the metrics above",
        identifies="no: the list is the same everywhere",
    )
}


def _points(name: str) -> Callable[[UsageReading], list[Point]]:
    def read(usage: UsageReading) -> list[Point]:
        if name in usage.totals:
            return [Point(usage.totals[name])]
        if name in usage.created:
            return [Point(usage.created[name].count)]
        counts = usage.providers.get(name, {})
        return [Point(count, {PROVIDER: provider}) for provider, count in counts.items()]

    return read


def _since(name: str) -> Callable[[UsageReading], float | None]:
    return lambda usage: usage.created[name].since if name in usage.created else None


def _metric(figure: Figure) -> Metric[UsageReading]:
    grows = isinstance(figure.query, CreatedIn)
    return Metric(
        name=f"novu.{figure.name}",
        instrument=Instrument.COUNTER if grows else Instrument.UP_DOWN_COUNTER,
        unit=figure.unit,
        description=figure.description,
        read=_points(figure.name),
        source=str(figure.query),
        attributes=_PROVIDER_LABELS if isinstance(figure.query, CountByProvider) else {},
        field=figure.field,
        since=_since(figure.name) if grows else None,
        identifies=f"no: only {'the growth' if grows else 'the size'} of the installation",
    )


# fmt: off
USAGE: tuple[Metric[UsageReading], ...] = (
    *map(_metric, FIGURES),
    Metric("novu.usage.timestamp", Instrument.GAUGE, "s",
           "Unix time at which these usage figures were read.",
           lambda usage: [Point(usage.timestamp)],
           source="the host's clock", field="timestamp",
           shape=SECONDS, identifies="no: it is a time"),
    Metric("novu.usage.read.duration", Instrument.GAUGE, "s",
           "How long the last reading of each figure took.",
           lambda usage: [Point(s, {FIGURE: name}) for name, s in usage.durations.items()],
           source="measured by the exporter", attributes=_FIGURE_LABELS,
           shape=SECONDS, identifies="no: it shows how fast the database answers"),
    Metric("novu.usage.read.failures", Instrument.COUNTER, "{failure}",
           "Readings that failed since the exporter began, by figure.",
           lambda usage: [Point(n, {FIGURE: name}) for name, n in usage.failures.items()],
           source="counted by the exporter", attributes=_FIGURE_LABELS,
           identifies="no: it counts failures of this exporter"),
)
# fmt: on


def describe_failures(reasons: Mapping[str, str]) -> str:
    """Say which figures could not be read and why; one cause is named once."""
    figures: dict[str, list[str]] = {}
    for figure, reason in reasons.items():
        figures.setdefault(reason, []).append(figure)
    count = f"{len(reasons)} of {len(FIGURES)} usage figures could not be read"
    if len(figures) == 1 and len(reasons) == len(FIGURES):
        return sentence(f"{count}: {next(iter(figures))}")
    causes = "; ".join(f"{', '.join(names)}: {why}" for why, names in figures.items())
    return sentence(f"{count}: {causes}")
