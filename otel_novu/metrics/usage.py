"""The usage scope: metrics that are sent only while the telemetry flag is set."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from otel_novu.log import sentence
from otel_novu.metrics.metric import Instrument, Metric, Point
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
    """One figure of Novu: its metric, and the query that reads it.

    The name is the metric's without `novu.`; its last word but one is the unit.
    """

    name: str  # also the value of `novu.figure`
    query: Total | CreatedIn  # decides the instrument, too
    description: str  # one sentence, sent with the metric
    field: str = ""  # the name in Novu's own report

    def points(self, usage: UsageReading) -> list[Point]:
        """Return the figure of a reading; nothing if it could not be read."""
        if self.name in usage.totals:
            return [Point(usage.totals[self.name])]
        if self.name in usage.created:
            return [Point(usage.created[self.name].count)]
        counts = usage.providers.get(self.name, {})
        return [Point(count, {PROVIDER: provider}) for provider, count in counts.items()]

    def since(self, usage: UsageReading) -> float | None:
        """Return when a created counter began, as Unix time."""
        return usage.created[self.name].since if self.name in usage.created else None


# A new figure is a new row.
# fmt: off
FIGURES: tuple[Figure, ...] = (
    Figure("user.count", Estimate("users"), "Users.", "userCount"),
    Figure("organization.count", Estimate("organizations"), "Organizations.", "orgCount"),
    Figure("workflow.count", Estimate("notificationtemplates"),
           "Workflows of all environments, soft-deleted ones included.", "workflowCount"),
    Figure("workflow.step.count", ArraySizes("notificationtemplates", "steps"),
           "Steps of all workflows that are not soft-deleted.", "totalSteps"),
    Figure("event.count", Estimate("notifications"),
           "Events (triggered notifications) in the database.", "eventCount"),
    Figure("topic.count", Estimate("topics"), "Topics.", "topicCount"),
    Figure("subscriber.count", Estimate("subscribers"),
           "Subscribers of all environments, soft-deleted ones included.", "subscriberCount"),
    Figure("integration.count", CountByProvider("integrations", "providerId"),
           "Integrations that are not soft-deleted, by provider.", "integrationCount"),
    Figure("user.created", CreatedIn("users"), "Users created."),
    Figure("organization.created", CreatedIn("organizations"), "Organizations created."),
    Figure("workflow.created", CreatedIn("notificationtemplates"), "Workflows created."),
    Figure("event.created", CreatedIn("notifications"), "Events triggered."),
    Figure("topic.created", CreatedIn("topics"), "Topics created."),
    Figure("subscriber.created", CreatedIn("subscribers"), "Subscribers created."),
)
# fmt: on

COLLECTIONS: tuple[str, ...] = tuple(dict.fromkeys(figure.query.collection for figure in FIGURES))

_PROVIDER_LABELS = {PROVIDER: re.compile(PROVIDER_FORM)}
_FIGURE_LABELS = {FIGURE: re.compile("|".join(re.escape(figure.name) for figure in FIGURES))}


def _metric(figure: Figure) -> Metric[UsageReading]:
    created = isinstance(figure.query, CreatedIn)
    return Metric(
        name=f"novu.{figure.name}",
        instrument=Instrument.COUNTER if created else Instrument.UP_DOWN_COUNTER,
        unit=f"{{{figure.name.split('.')[-2]}}}",
        description=figure.description,
        read=figure.points,
        source=str(figure.query),
        attributes=_PROVIDER_LABELS if isinstance(figure.query, CountByProvider) else {},
        field=figure.field,
        since=figure.since if created else None,
    )


# fmt: off
USAGE: tuple[Metric[UsageReading], ...] = (
    *map(_metric, FIGURES),
    Metric("novu.usage.timestamp", Instrument.GAUGE, "s",
           "Unix time at which these usage figures were read.",
           lambda usage: [Point(usage.timestamp)], "the host's clock", field="timestamp"),
    Metric("novu.usage.read.duration", Instrument.GAUGE, "s",
           "How long the last reading of each figure took.",
           lambda usage: [Point(s, {FIGURE: name}) for name, s in usage.durations.items()],
           "measured by the exporter", _FIGURE_LABELS),
    Metric("novu.usage.read.failures", Instrument.COUNTER, "{failure}",
           "Readings that failed since the exporter began, by figure.",
           lambda usage: [Point(n, {FIGURE: name}) for name, n in usage.failures.items()],
           "counted by the exporter", _FIGURE_LABELS),
)
# fmt: on


def describe_failures(reasons: Mapping[str, str], hosts: str) -> str:
    """Say which figures could not be read and why; one cause is named once."""
    figures: dict[str, list[str]] = {}
    for figure, reason in reasons.items():
        figures.setdefault(reason, []).append(figure)
    if len(figures) == 1 and len(reasons) == len(FIGURES):
        return sentence(f"MongoDB at {hosts}: {next(iter(figures))}")
    causes = "; ".join(f"{', '.join(names)}: {why}" for why, names in figures.items())
    count = f"{len(reasons)} of {len(FIGURES)} usage figures could not be read"
    return sentence(f"{count} from MongoDB at {hosts}: {causes}")
