"""The bare pymongo script that a round is compared with: it only does what is necessary.

It connects, authenticates, sends the commands of a round in parallel, and closes; without time
limit and without handling errors. As a command it does so once: python bare.py MONGO_URL COMMANDS
"""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bson import json_util
from pymongo import MongoClient

Document = dict[str, Any]


def bare_round(url: str, commands: Sequence[Document], connections: int) -> float:
    """Send all commands once over new connections; returns seconds."""
    started = time.perf_counter()
    with (
        MongoClient[Document](url, maxPoolSize=connections) as client,
        ThreadPoolExecutor(connections) as pool,
    ):
        list(pool.map(client.get_default_database().command, commands))
    return time.perf_counter() - started


if __name__ == "__main__":
    bare_round(sys.argv[1], json_util.loads(sys.argv[2]), connections=2)
