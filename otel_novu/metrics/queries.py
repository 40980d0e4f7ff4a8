"""The queries of the usage figures, as data: only counts and provider ids leave the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Stage = Mapping[str, Any]

UNKNOWN = "unknown"
OTHER = "other"
PROVIDER_LIMIT = 200
PROVIDER_FORM = "[a-z0-9][a-z0-9_.-]{0,63}"
# `\z`, because `$` would accept a line feed at the end (PCRE, on the server).
PROVIDER_PATTERN = rf"^{PROVIDER_FORM}\z"

# mongoose-delete adds this match to Novu's own aggregates, not to its estimated counts.
_NOT_DELETED: Stage = {"$match": {"deleted": {"$ne": True}}}


@dataclass(frozen=True, slots=True)
class Estimate:
    """The number of documents in the collection's metadata, soft-deleted ones included."""

    collection: str

    def __str__(self) -> str:
        return f"`estimatedDocumentCount()` of `{self.collection}`"


@dataclass(frozen=True, slots=True)
class ArraySizes:
    """The number of elements in an array field of all documents that are not soft-deleted."""

    collection: str
    array: str

    def pipeline(self) -> list[Stage]:
        """Sum the sizes; a field that is no array counts 0."""
        array = f"${self.array}"
        size = {"$cond": [{"$isArray": [array]}, {"$size": array}, 0]}
        return [_NOT_DELETED, {"$group": {"_id": None, "n": {"$sum": size}}}]

    def __str__(self) -> str:
        return f"sum of the sizes of `{self.array}` in `{self.collection}` not soft-deleted"


@dataclass(frozen=True, slots=True)
class CountByProvider:
    """The number of documents that are not soft-deleted, by provider id."""

    collection: str
    field: str

    def pipeline(self) -> list[Stage]:
        """Count the 200 largest providers and the rest; free text becomes `other` on the server."""
        provider = f"${self.field}"
        # `$regexMatch` fails for what is no text, but returns false for null.
        text = {"$cond": [{"$eq": [{"$type": provider}, "string"]}, provider, None]}
        valid = {"$regexMatch": {"input": text, "regex": PROVIDER_PATTERN}}
        missing = {"$in": [{"$type": provider}, ["missing", "null", "undefined"]]}
        key = {"$cond": [missing, UNKNOWN, {"$cond": [valid, provider, OTHER]}]}
        rest = [{"$skip": PROVIDER_LIMIT}, {"$group": {"_id": None, "n": {"$sum": "$n"}}}]
        return [
            _NOT_DELETED,
            {"$group": {"_id": key, "n": {"$sum": 1}}},
            {"$sort": {"n": -1, "_id": 1}},
            {"$facet": {"largest": [{"$limit": PROVIDER_LIMIT}], "rest": rest}},
        ]

    @staticmethod
    def counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Read the answer to the pipeline; mongos gives none if the database is missing."""
        counts: dict[str, int] = {}
        for group in [group for row in rows for group in (*row["largest"], *row["rest"])]:
            provider = OTHER if group["_id"] is None else str(group["_id"])
            counts[provider] = counts.get(provider, 0) + int(group["n"])
        return counts

    def __str__(self) -> str:
        return f"documents of `{self.collection}` not soft-deleted, grouped by `{self.field}`"


@dataclass(frozen=True, slots=True)
class CreatedIn:
    """The number of documents created in a window, by the time in their `_id`."""

    collection: str

    def __str__(self) -> str:
        return f"range count of `_id` in `{self.collection}`"


Total = Estimate | ArraySizes | CountByProvider
