"""The queries of the usage figures, as data: numbers and closed lists alone leave the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from otel_novu.metrics.labels import COLLECTION, ENVIRONMENT, FIGURE, OTHER, Label
from otel_novu.metrics.metric import Instrument

Document = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]
Labels = tuple[str, ...]
Values = dict[Labels, float]  # by the values of the labels, in their order

MAX_LABEL_SETS = 200
ENVIRONMENTS = "environments"
# mongoose-delete adds this match to Novu's own aggregates, not to its estimated counts.
NOT_DELETED: Document = {"deleted": {"$ne": True}}


@dataclass(frozen=True)
class Query:
    """What is asked of one collection, by default its number of documents by labels.

    The 200 most frequent sets of labels are told apart; the rest counts as `other`.
    """

    collection: str
    labels: tuple[Label, ...] = ()
    match: Document = field(default_factory=lambda: NOT_DELETED)
    instrument = Instrument.UP_DOWN_COUNTER

    @property
    def collections(self) -> tuple[str, ...]:
        """All that are read."""
        looked_up = (ENVIRONMENTS,) if ENVIRONMENT in self.labels else ()
        return (self.collection, *looked_up)

    def commands(self) -> list[Document]:
        """Return what the database is asked."""
        return [aggregate(self.collection, count_by(self.match, self.labels))]

    def values(self, answers: Sequence[Rows]) -> Values:
        """Read the answers to the commands."""
        return counts(answers[0], self.labels)

    def __str__(self) -> str:
        fields = ", ".join(f"`{label.key}`" for label in self.labels)
        return f"documents of `{self.collection}` not soft-deleted, by {fields}"


class Estimate(Query):
    """The number of documents in the collection's metadata, soft-deleted ones included."""

    def commands(self) -> list[Document]:
        """Return what the database is asked."""
        return [{"count": self.collection}]

    def __str__(self) -> str:
        return f"`estimatedDocumentCount()` of `{self.collection}`"


@dataclass(frozen=True)
class ArraySizes(Query):
    """The number of elements in an array field of all documents that are not soft-deleted."""

    array: str = ""

    def commands(self) -> list[Document]:
        """Sum the sizes; a field that is no array counts 0."""
        array = f"${self.array}"
        size = {"$cond": [{"$isArray": [array]}, {"$size": array}, 0]}
        stages = [{"$match": NOT_DELETED}, {"$group": {"_id": None, "n": {"$sum": size}}}]
        return [aggregate(self.collection, stages)]

    def __str__(self) -> str:
        return f"sum of the sizes of `{self.array}` in `{self.collection}` not soft-deleted"


@dataclass(frozen=True)
class CreatedIn(Query):
    """The documents created in a window, which ends `delay` seconds before now."""

    match: Document = field(default_factory=dict)
    delay: int = 60  # an `_id` may be inserted this long after it was made
    instrument = Instrument.COUNTER

    def commands(self, window: Document | None = None) -> list[Document]:
        """Return what the database is asked; the window is a match of `_id`."""
        stages = count_by({**(window or {}), **self.match}, self.labels)
        # With a hint, the planner does not sort; plain counts need none.
        hint = {"hint": {"_id": 1}} if self.labels else {}
        return [{**aggregate(self.collection, stages), **hint}]

    def __str__(self) -> str:
        if not self.labels:
            return f"range count of `_id` in `{self.collection}`"
        fields = ", ".join(f"`{label.key}`" for label in self.labels)
        return f"documents of `{self.collection}` in a range of `_id`, by {fields}"


@dataclass(frozen=True)
class _OfCollections(Query):
    """One number of each collection, which is named by a word of the first label."""

    collection: str = ""
    words: Mapping[str, str] = field(default_factory=lambda: {w: w for w in COLLECTION.words})

    @property
    def collections(self) -> tuple[str, ...]:
        """All that are read."""
        return tuple(self.words.values())

    def values(self, answers: Sequence[Rows]) -> Values:
        """Read the answers; an empty collection has no value."""
        rows = zip(self.words, answers, strict=True)
        return {(word, *more): n for word, each in rows for more, n in self.read(each).items()}

    def read(self, rows: Rows) -> Values:
        """Read the answer for one collection."""
        raise NotImplementedError


@dataclass(frozen=True)
class CreationTime(_OfCollections):
    """The creation time of the newest (-1) or oldest (1) document, Unix time in seconds."""

    order: int = -1
    instrument = Instrument.GAUGE

    def commands(self) -> list[Document]:
        """Return what the database is asked: one entry of an index each."""
        stages: list[Document] = [
            {"$match": {"_id": {"$type": "objectId"}}},
            {"$sort": {"_id": self.order}},
            {"$limit": 1},
            {"$project": {"_id": 0, "t": {"$toDate": "$_id"}}},
        ]
        return [aggregate(each, stages) for each in self.collections]

    def read(self, rows: Rows) -> Values:
        """Read the answer for one collection."""
        return {(): rows[0]["t"].replace(tzinfo=UTC).timestamp()} if rows else {}

    def __str__(self) -> str:
        return f"the {'newest' if self.order < 0 else 'oldest'} `_id`"


@dataclass(frozen=True)
class Storage(_OfCollections):
    """Numbers of `$collStats`, by the words of a second label, if there is one."""

    fields: Mapping[str, str] = field(default_factory=dict)  # by word

    def commands(self) -> list[Document]:
        """Return what the database is asked; the projection leaves no name of an index."""
        numbers = {word: f"$storageStats.{name}" for word, name in self.fields.items()}
        project = {"$project": {"_id": 0, **numbers}}
        stages: list[Document] = [{"$collStats": {"storageStats": {}}}, project]
        return [aggregate(each, stages) for each in self.collections]

    def read(self, rows: Rows) -> Values:
        """Read the answer for one collection, a row for each shard; a missing one has 0."""
        several = len(self.labels) > 1
        sums = {word: sum(int(row.get(word, 0)) for row in rows) for word in self.fields}
        return {((word,) if several else ()): number for word, number in sums.items()}

    def __str__(self) -> str:
        return f"{' and '.join(f'`{name}`' for name in self.fields.values())} of `$collStats`"


NEWEST = CreationTime(
    labels=(FIGURE,),
    words={"event": "notifications", "message": "messages", "job": "jobs"}
    | {"subscriber": "subscribers"},
)


def aggregate(collection: str, pipeline: Sequence[Document]) -> Document:
    """Return a command whose answer is one batch."""
    return {"aggregate": collection, "pipeline": [*pipeline], "cursor": {"batchSize": 1000}}


def count_by(match: Document, labels: Sequence[Label]) -> list[Document]:
    """Return a pipeline that counts by labels: first by what is stored, then by its words."""
    if not labels:
        return [{"$match": match}, {"$group": {"_id": None, "n": {"$sum": 1}}}]
    names = [f"l{n}" for n in range(len(labels))]
    stored = {name: label.group for name, label in zip(names, labels, strict=True)}
    words = {name: label.value(f"$_id.{name}") for name, label in zip(names, labels, strict=True)}
    stages = [{"$match": match}, {"$group": {"_id": stored, "n": {"$sum": 1}}}]
    if ENVIRONMENT in labels:
        path = f"_id.{names[labels.index(ENVIRONMENT)]}"
        lookup = {"from": ENVIRONMENTS, "localField": path, "foreignField": "_id"}
        stages.append({"$lookup": {**lookup, "as": "environment"}})
    total = {"$sum": "$n"}
    rest = [{"$skip": MAX_LABEL_SETS}, {"$group": {"_id": None, "n": total}}]
    stages += [{"$group": {"_id": words, "n": total}}, {"$sort": {"n": -1, "_id": 1}}]
    return [*stages, {"$facet": {"largest": [{"$limit": MAX_LABEL_SETS}], "rest": rest}}]


def counts(rows: Rows, labels: Sequence[Label]) -> Values:
    """Read the answer to `count_by`; mongos gives none if the database is missing."""
    if not labels:
        return {(): sum(int(row["n"]) for row in rows)}
    found: Values = {}
    for group in [group for row in rows for group in (*row["largest"], *row["rest"])]:
        words = group["_id"] or {}
        key = tuple(str(words.get(f"l{n}", OTHER)) for n in range(len(labels)))
        found[key] = found.get(key, 0) + int(group["n"])
    return found
