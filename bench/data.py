"""Databases of any size: Novu-shaped where figures read documents, bare ids where they count."""

import time
from datetime import UTC, datetime

import novu_data
import stack
from bare import Document
from pymongo import MongoClient

SEED = 8
HOUR = 3600
# What a round's window finds in each database, so that only the totals differ.
IN_THE_HOUR = 100

_DOCUMENT = """
INSERT INTO {table}
SELECT {shard},
  ('BSONHEX130000000700' || id || '00')::documentdb_core.bson,
  ('BSONHEX16000000075f696400' || id || '00')::documentdb_core.bson
FROM (
  SELECT lpad(to_hex({begin} + n * {seconds}::bigint / {count}), 8, '0')
    || lpad(to_hex(n), 16, '0') AS id
  FROM generate_series(0, {count} - 1) AS n
) AS ids;
"""


def novu(database: stack.Database, name: str) -> str:
    """Make a small Novu of two organizations; its URL."""
    url = database.url(name)
    with MongoClient[Document](url) as client:
        novu_data.load(client[name], seed=SEED, size="small", now=datetime.now(UTC))
    return url


def grow(database: stack.Database, name: str, collection: str, documents: int) -> None:
    """Fill a collection up to so many documents, then let the server count them.

    The further ones are bare `_id`s: neither an estimate nor a range of ids reads more of them.
    They are spread over the month before yesterday, but for a hundred in the hour before now.
    """
    with MongoClient[Document](database.url(name)) as client:
        there = client[name][collection].estimated_document_count()
    fill(database, name, collection, IN_THE_HOUR, seconds=HOUR)
    month = 30 * 24 * HOUR
    fill(database, name, collection, documents - there - IN_THE_HOUR, seconds=month, ago=month)
    database.analyze(name)


def fill(
    database: stack.Database,
    name: str,
    collection: str,
    documents: int,
    *,
    seconds: int,
    ago: int = 0,
) -> tuple[int, int]:
    """Insert bare documents whose ids are spread over a span of time, by SQL.

    Args:
        database: the server.
        name: of the database.
        collection: an existing one.
        documents: how many.
        seconds: how long the span is.
        ago: how many seconds before now it ends.

    Returns:
        Begin and end of the span, Unix time.
    """
    table = database.documents(name, collection)
    end = int(time.time()) - ago
    sql = _DOCUMENT.format(
        table=table,
        shard=table.rpartition("_")[2],
        begin=end - seconds,
        seconds=seconds,
        count=documents,
    )
    database.sql(sql)
    return end - seconds, end
