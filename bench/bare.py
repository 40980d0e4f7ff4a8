"""The bare pymongo script that a round is compared with: it only does what is necessary.

It connects, authenticates, runs the queries of a round in parallel, and closes; without time limit
and without handling errors. As a command it does so once: python bare.py MONGO_URL
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bson import ObjectId
from pymongo import MongoClient

CONNECTIONS = 2  # the fastest of 1, 2 and 4
COUNTED = ["users", "organizations", "notificationtemplates", "notifications", "topics"]
COUNTED += ["subscribers"]

Document = dict[str, Any]

_NOT_DELETED: Document = {"$match": {"deleted": {"$ne": True}}}
_SIZE: Document = {"$cond": [{"$isArray": ["$steps"]}, {"$size": "$steps"}, 0]}
STEPS: list[Document] = [_NOT_DELETED, {"$group": {"_id": None, "n": {"$sum": _SIZE}}}]
PROVIDERS: list[Document] = [_NOT_DELETED, {"$group": {"_id": "$providerId", "n": {"$sum": 1}}}]


def bare_round(url: str) -> float:
    """Run all queries once over new connections; returns seconds."""
    started = time.perf_counter()
    end = int(time.time()) - 60
    first, last = (ObjectId(at.to_bytes(4, "big") + bytes(8)) for at in (end - 3600, end))
    hour: Document = {"_id": {"$gte": first, "$lt": last}}
    with (
        MongoClient[Document](url, maxPoolSize=CONNECTIONS) as client,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        database = client.get_default_database()
        queries: list[Callable[[], object]] = [
            lambda: database.command("hello"),
            database.list_collection_names,
            *(database[name].estimated_document_count for name in COUNTED),
            lambda: list(database["notificationtemplates"].aggregate(STEPS)),
            lambda: list(database["integrations"].aggregate(PROVIDERS)),
            *(lambda name=name: database[name].count_documents(hour) for name in COUNTED),
        ]
        list(pool.map(lambda query: query(), queries))
    return time.perf_counter() - started


if __name__ == "__main__":
    bare_round(sys.argv[1])
