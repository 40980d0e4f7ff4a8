"""What is asked of Novu's database: only counts, sizes and provider ids leave it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Stage = Mapping[str, Any]

UNKNOWN = "unknown"
OTHER = "other"
PROVIDER_LIMIT = 200
PROVIDER_FORM = "[a-z0-9][a-z0-9_.-]{0,63}"
# `\z`, as `$` would let a line feed pass at the end (PCRE, on the server).
PROVIDER_PATTERN = rf"^{PROVIDER_FORM}\z"

# mongoose-delete adds this match to Novu's own aggregates, not to its estimated counts.
_NOT_DELETED: Stage = {"$match": {"deleted": {"$ne": True}}}


class Asked(Protocol):
    """The three questions that a database answers."""

    def count(self, collection: str) -> int:
        """Estimate how many documents there are, from the collection's metadata."""

    def aggregate(self, collection: str, pipeline: Sequence[Stage]) -> Sequence[Mapping[str, Any]]:
        """Run a pipeline; its documents."""

    def count_created(self, collection: str, begin: int, end: int) -> int:
        """Count the documents whose `_id` was made in a window (Unix time, seconds)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """How many documents a collection holds, soft-deleted ones included (O(1))."""

    collection: str

    def read(self, database: Asked) -> int:
        """Ask; the number of documents."""
        return database.count(self.collection)

    def __str__(self) -> str:
        """Say where the figure comes from."""
        return f"`estimatedDocumentCount()` of `{self.collection}`"


@dataclass(frozen=True, slots=True)
class ArraySizes:
    """How many elements an array field holds in all documents that are not soft-deleted."""

    collection: str
    array: str

    def read(self, database: Asked) -> int:
        """Ask; the number of elements, 0 where the field is no array."""
        array = f"${self.array}"
        size = {"$cond": [{"$isArray": [array]}, {"$size": array}, 0]}
        pipeline = [_NOT_DELETED, {"$group": {"_id": None, "n": {"$sum": size}}}]
        return _single(database.aggregate(self.collection, pipeline))

    def __str__(self) -> str:
        """Say where the figure comes from."""
        return f"sum of the sizes of `{self.array}` in `{self.collection}` not soft-deleted"


@dataclass(frozen=True, slots=True)
class CountByProvider:
    """How many documents that are not soft-deleted there are of each provider.

    The server itself puts ids that are missing into ``unknown`` and those that are no lawful
    provider id into ``other``, and sums all beyond the 200 largest into ``other``: free text
    that somebody stored as a provider never leaves it.
    """

    collection: str
    field: str

    def read(self, database: Asked) -> Mapping[str, int]:
        """Ask; the number of documents by provider id."""
        answers = database.aggregate(self.collection, self._pipeline())
        if not answers:  # `$facet` always answers, but mongos not for a database that is missing
            return {}
        answer = answers[0]
        counts = {str(row["_id"]): int(row["n"]) for row in answer["largest"]}
        rest = sum(int(row["n"]) for row in answer["rest"])
        if rest:
            counts[OTHER] = counts.get(OTHER, 0) + rest
        return counts

    def _pipeline(self) -> Sequence[Stage]:
        provider = f"${self.field}"
        # `$regexMatch` refuses what is no text, but answers false to null.
        text = {"$cond": [{"$eq": [{"$type": provider}, "string"]}, provider, None]}
        lawful = {"$regexMatch": {"input": text, "regex": PROVIDER_PATTERN}}
        named = {"$cond": [lawful, provider, OTHER]}
        missing = {"$in": [{"$type": provider}, ["missing", "null", "undefined"]]}
        key = {"$cond": [missing, UNKNOWN, named]}
        rest = [{"$skip": PROVIDER_LIMIT}, {"$group": {"_id": None, "n": {"$sum": "$n"}}}]
        return [
            _NOT_DELETED,
            {"$group": {"_id": key, "n": {"$sum": 1}}},
            {"$sort": {"n": -1, "_id": 1}},
            {"$facet": {"largest": [{"$limit": PROVIDER_LIMIT}], "rest": rest}},
        ]

    def __str__(self) -> str:
        """Say where the figure comes from."""
        return f"documents of `{self.collection}` not soft-deleted, grouped by `{self.field}`"


@dataclass(frozen=True, slots=True)
class CreatedIn:
    """How many documents were created in a window of time, by the time in their `_id`."""

    collection: str

    def read(self, database: Asked, begin: int, end: int) -> int:
        """Ask for a window.

        Args:
            database: answers.
            begin: the first second of the window, Unix time.
            end: the first second after it, Unix time.
        """
        return database.count_created(self.collection, begin, end)

    def __str__(self) -> str:
        """Say where the figure comes from."""
        return f"range count of `_id` in `{self.collection}`"


def _single(answer: Sequence[Mapping[str, Any]]) -> int:
    return int(answer[0]["n"]) if answer else 0
