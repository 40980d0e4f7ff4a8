"""The usage table: what leaves only while the telemetry flag is set."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from otel_novu.metrics.metric import NO_LABELS, SECONDS, Attribute, Instrument, Metric, Point, Text
from otel_novu.metrics.question import (
    PROVIDER_FORM,
    ArraySizes,
    CountByProvider,
    CreatedIn,
    Estimate,
)

SCOPE = "otel_novu.usage"

PROVIDER = "novu.provider.id"
FIGURE = "novu.figure"


@dataclass(frozen=True, slots=True)
class Created:
    """Documents created since the exporter began to watch.

    Args:
        count: how many.
        since: Unix time at which the watch began, seconds.
    """

    count: int
    since: float


@dataclass(frozen=True, slots=True)
class UsageReading:
    """One round of all figures; a figure that could not be read is absent.

    Args:
        timestamp: Unix time of the reading, seconds.
        totals: by figure, how many there are now.
        providers: by figure, how many there are now of each provider id.
        created: by figure, how many were created.
        durations: by figure, how long its reading took, seconds.
        failures: by figure, how many readings failed since the process began.
    """

    timestamp: float
    totals: Mapping[str, int]
    providers: Mapping[str, Mapping[str, int]]
    created: Mapping[str, Created]
    durations: Mapping[str, float]
    failures: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of Novu: its metric, and the question that reads it.

    Args:
        name: the metric's name without ``novu.``, which names it in reports of failures too.
        unit: UCUM.
        question: what is asked of the database; it decides the instrument.
        description: one sentence, which leaves with the metric.
        field: the name in Novu's own report, or empty where Novu has none.
    """

    name: str
    unit: str
    question: Estimate | ArraySizes | CountByProvider | CreatedIn
    description: str
    field: str = ""


FIGURES: tuple[Figure, ...] = (
    Figure("user.count", "{user}", Estimate("users"), "Users.", "userCount"),
    Figure(
        "organization.count",
        "{organization}",
        Estimate("organizations"),
        "Organizations.",
        "orgCount",
    ),
    Figure(
        "workflow.count",
        "{workflow}",
        Estimate("notificationtemplates"),
        "Workflows of all environments, soft-deleted ones included.",
        "workflowCount",
    ),
    Figure(
        "workflow.step.count",
        "{step}",
        ArraySizes("notificationtemplates", "steps"),
        "Steps of all workflows that are not soft-deleted.",
        "totalSteps",
    ),
    Figure(
        "event.count",
        "{event}",
        Estimate("notifications"),
        "Events (triggered notifications) in the database.",
        "eventCount",
    ),
    Figure("topic.count", "{topic}", Estimate("topics"), "Topics.", "topicCount"),
    Figure(
        "subscriber.count",
        "{subscriber}",
        Estimate("subscribers"),
        "Subscribers of all environments, soft-deleted ones included.",
        "subscriberCount",
    ),
    Figure(
        "integration.count",
        "{integration}",
        CountByProvider("integrations", "providerId"),
        "Integrations that are not soft-deleted, by provider.",
        "integrationCount",
    ),
    Figure("user.created", "{user}", CreatedIn("users"), "Users created."),
    Figure(
        "organization.created",
        "{organization}",
        CreatedIn("organizations"),
        "Organizations created.",
    ),
    Figure(
        "workflow.created", "{workflow}", CreatedIn("notificationtemplates"), "Workflows created."
    ),
    Figure("event.created", "{event}", CreatedIn("notifications"), "Events triggered."),
    Figure("topic.created", "{topic}", CreatedIn("topics"), "Topics created."),
    Figure("subscriber.created", "{subscriber}", CreatedIn("subscribers"), "Subscribers created."),
)

COLLECTIONS: tuple[str, ...] = tuple(dict.fromkeys(f.question.collection for f in FIGURES))


_SIZE = "no person and no host: it tells how large the installation is"
_GROWTH = "no person and no host: it tells how fast the installation grows"

PROVIDER_LABELS = {
    PROVIDER: Attribute(
        Text(PROVIDER_FORM, "a provider id (`[a-z0-9][a-z0-9_.-]{0,63}`), `unknown` or `other`"),
        source="`providerId` of `integrations`; the database itself turns what has another form "
        "into `other`",
        identifies="no person and no host: it tells whose services are used; an id that the "
        "operator made up himself leaves too where it has that form",
    )
}
FIGURE_LABELS = {
    FIGURE: Attribute(
        Text("|".join(re.escape(figure.name) for figure in FIGURES), "the name of a figure"),
        source="a fixed list, the names of the metrics above",
        identifies="no: it is the same list everywhere",
    )
}


def _metric(figure: Figure) -> Metric[UsageReading]:
    name = figure.name

    def total(usage: UsageReading) -> list[Point]:
        return [Point(usage.totals[name])] if name in usage.totals else []

    def by_provider(usage: UsageReading) -> list[Point]:
        counts = usage.providers.get(name, {})
        return [Point(count, {PROVIDER: provider}) for provider, count in counts.items()]

    def created(usage: UsageReading) -> list[Point]:
        return [Point(usage.created[name].count)] if name in usage.created else []

    def since(usage: UsageReading) -> float | None:
        return usage.created[name].since if name in usage.created else None

    grows = isinstance(figure.question, CreatedIn)
    grouped = isinstance(figure.question, CountByProvider)
    return Metric(
        name=f"novu.{name}",
        instrument=Instrument.COUNTER if grows else Instrument.UP_DOWN_COUNTER,
        unit=figure.unit,
        description=figure.description,
        read=created if grows else by_provider if grouped else total,
        source=str(figure.question),
        attributes=PROVIDER_LABELS if grouped else NO_LABELS,
        field=figure.field,
        since=since if grows else None,
        identifies=_GROWTH if grows else _SIZE,
    )


USAGE: tuple[Metric[UsageReading], ...] = (
    *map(_metric, FIGURES),
    Metric(
        name="novu.usage.timestamp",
        instrument=Instrument.GAUGE,
        unit="s",
        description="Unix time at which these usage figures were read.",
        read=lambda usage: [Point(usage.timestamp)],
        source="the host's clock",
        field="timestamp",
        shape=SECONDS,
        identifies="no: it tells when, and whose clock is wrong",
    ),
    Metric(
        name="novu.usage.read.duration",
        instrument=Instrument.GAUGE,
        unit="s",
        description="How long the last reading of each figure took.",
        read=lambda usage: [Point(s, {FIGURE: name}) for name, s in usage.durations.items()],
        source="measured by the exporter",
        attributes=FIGURE_LABELS,
        shape=SECONDS,
        identifies="no: it tells how fast the database answers",
    ),
    Metric(
        name="novu.usage.read.failures",
        instrument=Instrument.COUNTER,
        unit="{failure}",
        description="Readings that failed since the exporter began, by figure.",
        read=lambda usage: [Point(n, {FIGURE: name}) for name, n in usage.failures.items()],
        source="counted by the exporter",
        attributes=FIGURE_LABELS,
        identifies="no: it counts failures of ours",
    ),
)
