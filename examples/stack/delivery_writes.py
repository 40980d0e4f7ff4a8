"""Writes deliveries to a database, changes them late, and deletes them."""

import itertools
import random
from collections.abc import Iterable, Sequence

from bson import ObjectId
from delivery_data import Document, Item
from delivery_words import INDEXES, OPEN_STATUSES
from pymongo import IndexModel
from pymongo.database import Database

BATCH = 5000


def insert(database: Database[Document], items: Iterable[Item]) -> None:
    """Insert in batches, each collection's documents in their order."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, BATCH)):
        for collection in dict.fromkeys(name for name, _ in batch):
            documents = [document for name, document in batch if name == collection]
            database[collection].insert_many(documents, ordered=False)


def finish_late(database: Database[Document], items: Iterable[Item], seed: int) -> None:
    """Complete a third of the open jobs and fail a third, in the database and in `items`."""
    source = random.Random(seed)  # noqa: S311 - no secret
    outcomes: tuple[Document, ...] = ({"status": "completed"}, {})
    outcomes += ({"status": "failed", "error": "Unexpected provider error"},)
    changes: list[list[Document]] = [[] for _ in outcomes]
    for collection, document in items:
        if collection == "jobs" and document["status"] in OPEN_STATUSES:
            source.choice(changes).append(document)
    for outcome, jobs in zip(outcomes, changes, strict=True):
        if outcome and jobs:
            ids = [job["_id"] for job in jobs]
            database["jobs"].update_many({"_id": {"$in": ids}}, {"$set": outcome})
        for job in jobs:
            job.update(outcome)


def delete_some(
    database: Database[Document], items: Sequence[Item], seed: int, share: float = 0.1
) -> list[Item]:
    """Delete a share of the documents; returns those that are left."""
    source = random.Random(seed)  # noqa: S311 - no secret
    left: list[Item] = []
    gone: dict[str, list[ObjectId]] = {}
    for collection, document in items:
        if source.random() < share:
            gone.setdefault(collection, []).append(document["_id"])
        else:
            left.append((collection, document))
    for collection, ids in gone.items():
        database[collection].delete_many({"_id": {"$in": ids}})
    return left


def create_indexes(database: Database[Document]) -> None:
    """Create indexes in the shape of Novu's, as MONGO_AUTO_CREATE_INDEXES=true does."""
    for collection, fields in INDEXES.items():
        database[collection].create_indexes([IndexModel(field) for field in fields])
