"""The bare pymongo script that a round is compared with: no more than what must be done.

It connects, authenticates, asks the questions of a round side by side, and closes. No time
limit, no fault handled, no answer judged. As a command it does so once: python bare.py MONGO_URL
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

# As many as otel-novu's rounds; more, or the driver's default of a hundred, make it slower.
CONNECTIONS = 4
COUNTED = (
    "users",
    "organizations",
    "notificationtemplates",
    "notifications",
    "topics",
    "subscribers",
)

Document = dict[str, Any]
Ask = Callable[[], Any]

_NOT_DELETED: Document = {"$match": {"deleted": {"$ne": True}}}
_SIZE: Document = {"$cond": [{"$isArray": ["$steps"]}, {"$size": "$steps"}, 0]}
STEPS: list[Document] = [_NOT_DELETED, {"$group": {"_id": None, "n": {"$sum": _SIZE}}}]
PROVIDERS: list[Document] = [_NOT_DELETED, {"$group": {"_id": "$providerId", "n": {"$sum": 1}}}]


def bare_round(url: str) -> float:
    """Ask all questions once over connections of its own; seconds."""
    began = time.perf_counter()
    with (
        MongoClient[Document](url, maxPoolSize=CONNECTIONS) as client,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        answers = pool.map(lambda ask: ask(), questions(client.get_default_database()))
        list(answers)
    return time.perf_counter() - began


def questions(database: Database[Document]) -> list[Ask]:
    """The questions of a round, each ready to be asked."""
    end = int(time.time()) - 60
    hour = window(end - 3600, end)
    return [
        lambda: database.command("hello"),
        database.list_collection_names,
        *(database[name].estimated_document_count for name in COUNTED),
        lambda: list(database.notificationtemplates.aggregate(STEPS)),
        lambda: list(database.integrations.aggregate(PROVIDERS)),
        *(lambda name=name: database[name].count_documents(hour) for name in COUNTED),
    ]


def window(begin: int, end: int) -> Document:
    """The filter for documents whose `_id` was made from one second to before another."""
    first, after = (ObjectId(at.to_bytes(4, "big") + bytes(8)) for at in (begin, end))
    return {"_id": {"$gte": first, "$lt": after}}


if __name__ == "__main__":
    bare_round(sys.argv[1])
