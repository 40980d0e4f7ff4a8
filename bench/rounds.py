"""A round of all figures: beside bare pymongo, beside Novu's own Node code, and by size."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import novu_data
import stack
from bare import Document, bare_round
from pymongo import MongoClient
from samples import Row, interleave

from otel_novu.metrics.usage import FIGURES
from otel_novu.settings import Secret
from otel_novu.sources.novu import read_round
from otel_novu.store import CreatedCount

NODE = Path(__file__).parent / "node"
HOUR = 3600
MONTH = 30 * 24 * HOUR

_COLLECTION = """
SELECT collection_id FROM documentdb_api_catalog.collections
WHERE database_name = '{name}' AND collection_name = 'notifications'
"""
_DOCUMENTS = """
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


def our_round(url: str) -> float:
    """Read all figures as `run` does an hour after the last round; returns seconds."""
    until = int(time.time()) - 60 - HOUR + 1  # so that the window is one slice
    count = CreatedCount(total=0, since=until - HOUR, until=until)
    names = [figure.name for figure in FIGURES if figure.name.endswith(".created")]
    started = time.perf_counter()
    read = read_round(Secret(url), dict.fromkeys(names, count), 60, time.time)
    took = time.perf_counter() - started
    if read.reasons:
        raise RuntimeError(f"figures were not read: {read.reasons}")
    return took


def beside_others(url: str, times: int) -> list[Row]:
    """One round against bare pymongo and against Node."""
    with node_sender(url) as order:
        ways: dict[str, Callable[[], float]] = {
            "ours": partial(our_round, url),
            "bare": partial(bare_round, url),
            "same": lambda: order("same") / 1000,
            "novu": lambda: order("novu") / 1000,
        }
        taken = interleave(ways, times, warm_up=10)
    row = partial(Row, "a round of all figures, over new connections", taken["ours"], "ms")
    return [
        row("bare pymongo, the same queries over two connections", taken["bare"], 1.15),
        row("Node with mongoose, the same queries", taken["same"], 1.0),
        row("Node with mongoose, only the eight queries of Novu's own report", taken["novu"]),
    ]


def by_size(database: stack.Database, largest: int, times: int) -> list[Row]:
    """A round on databases that differ only in size."""
    sizes = [10**power for power in range(4, 8) if 10**power <= largest]
    urls = {size: grown(database, f"bench-{size}", size) for size in sizes}
    ways = {str(size): partial(our_round, url) for size, url in urls.items()}
    taken = interleave(ways, times, warm_up=5)
    smallest = taken[str(sizes[0])]
    against = f"the same at {sizes[0]:,} events"
    return [
        Row(f"a round at {size:,} events", taken[str(size)], "ms", against, smallest, 1.2)
        for size in sizes[1:]
    ]


def grown(database: stack.Database, name: str, events: int) -> str:
    """Make a small Novu with so many events; returns its URL.

    Most events are bare `_id`s, which is all that estimates and ranges of ids read. A hundred are
    of the last hour, the others of the month before.
    """
    url = database.url(name)
    with MongoClient[Document](url) as client:
        novu_data.load(client[name], seed=8, size="small", now=datetime.now(UTC))
    number = database.postgres.sql(_COLLECTION.format(name=name)).strip()
    table, now = f"documentdb_data.documents_{number}", int(time.time())
    for count, end, seconds in ((100, now, HOUR), (events - 300, now - MONTH, MONTH)):
        begin = end - seconds
        database.postgres.sql(
            _DOCUMENTS.format(table=table, shard=number, begin=begin, seconds=seconds, count=count)
        )
    database.analyze(name)
    return url


class Node:
    """Novu's queries from Node, in a process that is warm; a call is an order (sender.mjs)."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, order: str) -> float:
        """Send an order; returns the answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the Node process has no pipes")
        print(order, file=stdin, flush=True)
        return float(stdout.readline())


@contextmanager
def node_sender(url: str, sink: str = "http://127.0.0.1:1") -> Iterator[Node]:
    """Start the Node process."""
    command = ["node", str(NODE / "sender.mjs"), url, sink]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield Node(process)
