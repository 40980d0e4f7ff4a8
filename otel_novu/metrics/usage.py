"""The usage scope: metrics that are sent only while the telemetry flag is set."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from otel_novu.log import sentence
from otel_novu.metrics import labels as by
from otel_novu.metrics.metric import Instrument, Metric, Point
from otel_novu.metrics.queries import (
    NEWEST,
    NOT_DELETED,
    ArraySizes,
    CreatedIn,
    CreationTime,
    Estimate,
    Query,
    Storage,
    Values,
)

SCOPE = "otel_novu.usage"

FIGURES_READ = "novu.usage.figures.read"
_FIGURE = "novu.figure"
_OPEN = {"status": {"$in": list(by.OPEN_STATUSES)}}
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_SIZES = Storage(
    labels=(by.COLLECTION, by.STORAGE),
    fields=dict(zip(by.STORAGE.words, ("storageSize", "totalIndexSize"), strict=True)),
)
_INDEXES = Storage(labels=(by.COLLECTION,), fields={"indexes": "nindexes"})


@dataclass(frozen=True, slots=True)
class UsageReading:
    """One reading, by the names of the figures; one that could not be read is absent."""

    timestamp: float  # Unix time, seconds
    values: Mapping[str, Values]
    since: Mapping[str, float]  # Unix time at which a counter began, seconds
    lags: Mapping[str, float]  # how far a counter is behind, seconds
    durations: Mapping[str, float]  # seconds
    failures: Mapping[str, int]  # since the process began


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of Novu: its metric, and the query that reads it."""

    name: str  # the metric's without `novu.`; also the value of `novu.figure`
    unit: str  # UCUM
    query: Query  # decides instrument and labels, too
    description: str  # one sentence, sent with the metric
    field: str = ""  # the name in Novu's own report
    age: str = ""  # of a metric that several figures make up, a word of `novu.job.age`

    @property
    def metric(self) -> str:
        """The metric's name."""
        return f"novu.{self.name.removesuffix(f'.{self.age}')}"

    def points(self, usage: UsageReading) -> list[Point]:
        """Return the figure of a reading; nothing if it could not be read."""
        fixed = {by.AGE.key: self.age} if self.age else {}
        keys = [label.key for label in self.query.labels]
        values = usage.values.get(self.name, {})
        if isinstance(self.query, CreationTime) and self.query.order > 0:
            values = {labels: max(0.0, usage.timestamp - t) for labels, t in values.items()}
        return [
            Point(value, {**fixed, **dict(zip(keys, labels, strict=True))})
            for labels, value in values.items()
        ]


# A new figure is a new row.
# fmt: off
NOVU: tuple[Figure, ...] = (
    Figure("user.count", "{user}", Estimate("users"), "Users.", "userCount"),
    Figure("organization.count", "{organization}", Estimate("organizations"), "Organizations.",
           "orgCount"),
    Figure("workflow.count", "{workflow}", Estimate("notificationtemplates"),
           "Workflows of all environments, soft-deleted ones included.", "workflowCount"),
    Figure("workflow.step.count", "{step}", ArraySizes("notificationtemplates", array="steps"),
           "Steps of all workflows that are not soft-deleted.", "totalSteps"),
    Figure("event.count", "{event}", Estimate("notifications"),
           "Events (triggered notifications) in the database.", "eventCount"),
    Figure("topic.count", "{topic}", Estimate("topics"), "Topics.", "topicCount"),
    Figure("subscriber.count", "{subscriber}", Estimate("subscribers"),
           "Subscribers of all environments, soft-deleted ones included.", "subscriberCount"),
    Figure("integration.count", "{integration}", Query("integrations", (by.PROVIDER,)),
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
# Read unless OTEL_NOVU_DELIVERY_FIGURES is off; the cheap ones first.
DELIVERY: tuple[Figure, ...] = (
    Figure("created.timestamp", "s", NEWEST,
           "Unix time at which the newest document was created."),
    Figure("integration.active.count", "{integration}",
           Query("integrations", (by.CHANNEL, by.ENVIRONMENT), {**NOT_DELETED, "active": True}),
           "Integrations that are active, by channel."),
    Figure("collection.index.count", "{index}", _INDEXES,
           "Indexes of a collection; 1 means `_id` alone."),
    Figure("collection.oldest.age", "s", CreationTime(labels=(by.COLLECTION,), order=1),
           "Age of the oldest document: shows whether a clean-up runs."),
    Figure("collection.size", "By", _SIZES,
           "Bytes on disk of a collection's data and indexes."),
    Figure("job.created", "{job}", CreatedIn("jobs"), "Jobs created, one for each step."),
    Figure("message.created", "{message}",
           CreatedIn("messages", (by.CHANNEL, by.PROVIDER, by.ENVIRONMENT, by.MESSAGE_STATUS),
                     delay=5 * _MINUTE),
           "Messages, by what is recorded of them after five minutes; `sent` means no failure."),
    Figure("job.failed", "{job}",
           CreatedIn("jobs", (by.STEP_TYPE, by.ENVIRONMENT, by.FAILURE_REASON),
                     {"status": "failed"}, delay=_HOUR),
           "Jobs that had failed an hour after they were created."),
    Figure("job.skipped", "{job}",
           CreatedIn("jobs", (by.STEP_TYPE, by.SKIP_REASON), {"status": "canceled"}, delay=_HOUR),
           "Jobs that were skipped or canceled within an hour."),
    *(Figure(f"job.unfinished.{age}", "{job}",
             CreatedIn("jobs", (by.STEP_TYPE, by.ENVIRONMENT, by.JOB_STATUS), _OPEN, delay=delay),
             "Jobs that were still queued, running or delayed at an age.", age=age)
      for age, delay in zip(by.AGE.words, (_HOUR, _DAY, 7 * _DAY), strict=True)),
    Figure("message.delay", "{message}",
           CreatedIn("messages", (by.CHANNEL, by.DELAY),
                     {"_notificationId": {"$type": "objectId"}}, delay=5 * _MINUTE),
           "Messages, by the time from the event to the message, in classes."),
)
# fmt: on
FIGURES = (*NOVU, *DELIVERY)


def figures_in_use(*, delivery: bool) -> tuple[Figure, ...]:
    """Return the figures that are read: all, or without those of OTEL_NOVU_DELIVERY_FIGURES."""
    return FIGURES if delivery else NOVU


def collections_of(figures: Iterable[Figure]) -> tuple[str, ...]:
    """Return the collections that are read for figures."""
    return tuple(dict.fromkeys(name for each in figures for name in each.query.collections))


COLLECTIONS = collections_of(FIGURES)

_FIGURES = {_FIGURE: re.compile("|".join(re.escape(figure.name) for figure in FIGURES))}


def _metric(name: str, figures: list[Figure]) -> Metric[UsageReading]:
    first = figures[0]
    counter = first.query.instrument is Instrument.COUNTER
    labels = [by.AGE, *first.query.labels] if first.age else first.query.labels

    def since(usage: UsageReading) -> float | None:
        return min((usage.since[f.name] for f in figures if f.name in usage.since), default=None)

    return Metric(
        name=name,
        instrument=first.query.instrument,
        unit=first.unit,
        description=first.description,
        read=lambda usage: [point for figure in figures for point in figure.points(usage)],
        source=str(first.query),
        attributes={label.key: label.pattern for label in labels},
        field=first.field,
        since=since if counter else None,
    )


def metrics(figures: Iterable[Figure]) -> tuple[Metric[UsageReading], ...]:
    """Return the rows of these figures, and those about the reading itself."""
    grouped = groupby(figures, key=lambda figure: figure.metric)
    return (*(_metric(name, [*group]) for name, group in grouped), *_READING)


def _by_figure(values: Mapping[str, float]) -> list[Point]:
    return [Point(value, {_FIGURE: name}) for name, value in values.items()]


# fmt: off
_READING: tuple[Metric[UsageReading], ...] = (
    Metric("novu.usage.timestamp", Instrument.GAUGE, "s",
           "Unix time at which these usage figures were read.",
           lambda usage: [Point(usage.timestamp)], "the host's clock", field="timestamp"),
    Metric(FIGURES_READ, Instrument.GAUGE, "{figure}",
           "Usage figures that the last reading could read.",
           lambda usage: [Point(len(usage.values))], "counted by the exporter"),
    Metric("novu.usage.lag", Instrument.GAUGE, "s",
           "How far the counter of a figure is behind the time up to which it could count.",
           lambda usage: _by_figure(usage.lags), "measured by the exporter", _FIGURES),
    Metric("novu.usage.read.duration", Instrument.GAUGE, "s",
           "How long the last reading of each figure took.",
           lambda usage: _by_figure(usage.durations), "measured by the exporter", _FIGURES),
    Metric("novu.usage.read.failures", Instrument.COUNTER, "{failure}",
           "Readings that failed since the exporter began, by figure.",
           lambda usage: _by_figure(usage.failures), "counted by the exporter", _FIGURES),
)
# fmt: on
USAGE = metrics(FIGURES)


def describe_failures(reasons: Mapping[str, str], count: int, hosts: str) -> str:
    """Say which of `count` figures could not be read and why; one cause is named once."""
    figures: dict[str, list[str]] = {}
    for figure, reason in reasons.items():
        figures.setdefault(reason, []).append(figure)
    if len(figures) == 1 and len(reasons) == count:
        return sentence(f"MongoDB at {hosts}: {next(iter(figures))}")
    causes = "; ".join(f"{', '.join(names)}: {why}" for why, names in figures.items())
    what = f"{len(reasons)} of {count} usage figures could not be read"
    return sentence(f"{what} from MongoDB at {hosts}: {causes}")
