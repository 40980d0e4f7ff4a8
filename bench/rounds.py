"""A round of all figures: beside bare pymongo, beside Novu's own Node code, and by size."""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

import novu_data
import stack
from bare import Document, bare_round
from bson import json_util
from delivery_data import environments, generate_hour
from delivery_writes import insert
from pymongo import MongoClient
from samples import Row, Samples, interleave

from otel_novu.metrics.queries import CreatedIn
from otel_novu.metrics.usage import DELIVERY, NOVU, Figure
from otel_novu.settings import Secret
from otel_novu.sources.novu import Round, queries, read_round
from otel_novu.store import CreatedCount

NODE = Path(__file__).parent / "node"
HOUR = 3600
MONTH = 30 * 24 * HOUR
END = int(time.time()) - HOUR  # of the hour that is counted; all databases end with it
MESSAGES, JOBS = 1_000, 5_000  # in that hour
QUERY_TIMEOUT = 5  # the default of OTEL_NOVU_QUERY_TIMEOUT, seconds
MOST_ROUNDS = 10
LONG = 300

_COLLECTION = """
SELECT collection_id FROM documentdb_api_catalog.collections
WHERE database_name = '{name}' AND collection_name = '{collection}'
"""
# An `_id` is at a fixed place: text is replaced there. The second in it stays.
_COPIES = """
INSERT INTO {table}
SELECT {shard}, overlay(object_id::text PLACING id FROM 28)::documentdb_core.bson,
  overlay(document::text PLACING id FROM 34)::documentdb_core.bson
FROM (
  SELECT object_id, document FROM {table}
  WHERE substr(object_id::text, 20, 8) >= to_hex({begin}) ORDER BY object_id::text
) AS hour
CROSS JOIN LATERAL (
  SELECT substr(md5(object_id::text || n), 1, 16) AS id FROM generate_series(2, {copies}) AS n
) AS ids;
"""
_DOCUMENTS = """
INSERT INTO {table}
SELECT {shard},
  ('BSONHEX130000000700' || id || '00')::documentdb_core.bson,
  ('BSONHEX16000000075f696400' || id || '00')::documentdb_core.bson
FROM (
  SELECT lpad(to_hex({begin} + n * {seconds}::bigint / {size}), 8, '0')
    || lpad(to_hex(n), 16, '0') AS id
  FROM generate_series(1, {size} - (SELECT count(*) FROM {table})) AS n
) AS ids;
"""


def _in_one_hour(figures: Sequence[Figure]) -> tuple[Figure, ...]:
    """The figures with windows that all end now, so that one hour of data is in each of them."""
    return tuple(
        replace(each, query=replace(each.query, delay=60))
        if isinstance(each.query, CreatedIn)
        else each
        for each in figures
    )


WITHOUT, ALL = _in_one_hour(NOVU), _in_one_hour((*NOVU, *DELIVERY))


def read(url: str, figures: Sequence[Figure] = ALL) -> Round:
    """Read the figures as `run` does an hour after the last round."""
    count = CreatedCount(total=0, since=END - HOUR, until=END - HOUR)
    created = {each.name: count for each in figures if isinstance(each.query, CreatedIn)}
    return read_round(Secret(url), created, LONG, lambda: END + 60, figures=figures)


@cache
def counters(url: str) -> dict[str, CreatedCount]:
    """The counters with all labels of the hour, set back: the next round counts it again."""
    return {name: replace(each, until=END - HOUR) for name, each in read(url).created.items()}


def our_round(url: str, figures: Sequence[Figure] = ALL) -> float:
    """Read the figures once; returns seconds."""
    started = time.perf_counter()
    reasons = read(url, figures).reasons
    took = time.perf_counter() - started
    if reasons:
        raise RuntimeError(f"figures were not read: {reasons}")
    return took


def commands(url: str, figures: Sequence[Figure] = ALL) -> list[Document]:
    """The commands of that round."""
    texts = queries(Secret(url), LONG, (END - HOUR, END), figures)
    ours = {"$db", "maxTimeMS", "comment"}
    return [{k: v for k, v in json_util.loads(text).items() if k not in ours} for text in texts]


def beside_bare(
    url: str, figures: Sequence[Figure], times: int, what: str, warm_up: int = 10
) -> list[Row]:
    """One round against the fastest of three bare pymongo scripts."""
    asked = commands(url, figures)
    ways: dict[str, Callable[[], float]] = {"ours": partial(our_round, url, figures)}
    for connections in (1, 2, 4):
        ways[f"{connections}"] = partial(bare_round, url, asked, connections)
    taken = interleave(ways, times, warm_up)
    ours = taken.pop("ours")
    best = min(taken, key=lambda name: taken[name].median)
    against = (
        f"bare pymongo, the same {len(asked)} queries (fastest of 1, 2, 4 connections: {best})"
    )
    return [Row(what, ours, "ms", against, taken[best], 1.25)]


def beside_others(url: str, times: int) -> list[Row]:
    """One round against bare pymongo and against Node."""
    rows = beside_bare(url, ALL, times, "a round of all figures")
    rows += beside_bare(url, WITHOUT, times, "a round without delivery figures")
    with node_sender(url) as order:
        ways: dict[str, Callable[[], float]] = {
            "ours": partial(our_round, url, WITHOUT),
            "same": lambda: order("same") / 1000,
            "novu": lambda: order("novu") / 1000,
        }
        taken = interleave(ways, times, warm_up=10)
    row = partial(Row, "a round without delivery figures", taken["ours"], "ms")
    return [
        *rows,
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
    what, against = "a round at {:,} events, messages and jobs each", "the same at {:,}"
    against = against.format(sizes[0])
    return [
        Row(what.format(size), taken[str(size)], "ms", against, smallest, 1.2) for size in sizes[1:]
    ]


def busy_hour(url: str, copies: int, times: int) -> list[Row]:
    """A round that counts an hour of many messages and jobs."""
    hour = f"an hour of {copies * MESSAGES:,} messages and {copies * JOBS:,} jobs"
    (beside,) = beside_bare(url, ALL, times, f"a round that counts {hour}", warm_up=1)
    rounds, counted = zip(*(_catch_up(url) for _ in range(times)), strict=True)
    within = f"{QUERY_TIMEOUT} s"
    what = f"rounds of {within} until {hour} is counted (at most {MOST_ROUNDS} are tried)"
    first = f"counters, of {len(counters(url))}, that the first of these rounds advances"
    return [
        replace(beside, unit="s", limit=None),
        Row(f"{beside.what}; to fit into one", beside.value, "s", limit=QUERY_TIMEOUT),
        Row(what, Samples(rounds), "", limit=1),
        Row(first, Samples(counted), ""),
    ]


def _catch_up(url: str) -> tuple[float, float]:
    """Count an hour; returns how many rounds that takes, and how many figures the first counts."""
    created: Mapping[str, CreatedCount] = counters(url)
    counted: list[int] = []
    while len(counted) < MOST_ROUNDS and counted[-1:] != [len(created)]:
        created = read_round(
            Secret(url), created, QUERY_TIMEOUT, lambda: END + 60, figures=ALL
        ).created
        counted.append(sum(count.until == END for count in created.values()))
    return len(counted), counted[0]


def grown(database: stack.Database, name: str, size: int, copies: int = 1) -> str:
    """Make a small Novu with so many events, messages and jobs each; returns its URL.

    A thousand messages and five thousand jobs, times `copies`, are of the last hour and whole.
    Most are bare `_id`s of the month before the last, which is all that ranges of ids read.
    """
    url = database.url(name)
    with MongoClient[Document](url) as client:
        novu_data.load(client[name], seed=8, size="small", now=datetime.fromtimestamp(END, UTC))
        places = environments(seed=8)
        insert(client[name], [("environments", each) for each in places])
        insert(client[name], generate_hour(8, END - HOUR, MESSAGES, JOBS, places))
    for collection in ("notifications", "messages", "jobs"):
        find = _COLLECTION.format(name=name, collection=collection)
        number = database.postgres.sql(find).strip()
        table = {"table": f"documentdb_data.documents_{number}", "shard": number}
        copy = _COPIES.format(**table, begin=END - HOUR, copies=copies)
        fill = _DOCUMENTS.format(**table, begin=END - 2 * MONTH, seconds=MONTH, size=size)
        database.postgres.sql(copy + fill)
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
