"""What counting an hour's new documents costs, and that its memory is flat."""

import subprocess
import time
from collections.abc import Callable
from functools import partial

import data
import stack
from bare import Document, window
from installed import Installed
from processes import HERE
from pymongo import MongoClient
from rows import AtMost, Row, paired
from samples import interleave

from otel_novu.settings import Secret
from otel_novu.sources.novu_db import NovuDatabase

NAME = "bench-created"
IN_THE_HOUR = 100_000
BEFORE = 900_000
TIMES_IN_A_PROCESS = 20


def an_hour(program: Installed, database: stack.Database, times: int) -> list[Row]:
    """An hour with 10^5 new documents among 10^6, counted by us and by the bare driver."""
    url = data.novu(database, NAME)
    data.fill(database, NAME, "notifications", BEFORE, seconds=30 * 24 * 3600, ago=4000)
    begin, end = data.fill(database, NAME, "notifications", IN_THE_HOUR, seconds=3600)
    database.analyze(NAME)
    with MongoClient[Document](url) as client:
        ours = NovuDatabase(Secret(url), 60)
        try:
            taken = interleave(
                {
                    "ours": _timed(lambda: ours.count_created("notifications", begin, end)),
                    "bare": _timed(
                        lambda: client[NAME].notifications.count_documents(window(begin, end))
                    ),
                },
                times,
                warm_up=5,
            )
        finally:
            ours.close()
    row = paired(
        "created.hour",
        "created counters: the question for an hour with 10^5 new documents",
        taken["ours"],
        taken["bare"],
        unit="ms",
        against="`_id` range count by the bare driver",
        goals=(AtMost(1.15),),
    )
    return [row, _memory(program, url, begin, end)]


def _timed(count: Callable[[], int]) -> Callable[[], float]:
    def seconds() -> float:
        began = time.perf_counter()
        found = count()
        took = time.perf_counter() - began
        if found != IN_THE_HOUR:
            raise RuntimeError(f"{found} documents were counted, not {IN_THE_HOUR}")
        return took

    return seconds


def _memory(program: Installed, url: str, begin: int, end: int) -> Row:
    peak = partial(_peak, program, url)
    ways = {"full": lambda: peak(begin, end), "empty": lambda: peak(begin - 10**6, begin - 10**6)}
    taken = interleave(ways, 5, warm_up=0)
    return paired(
        "created.memory",
        f"the same: peak memory of a process that counts that hour {TIMES_IN_A_PROCESS} times",
        taken["full"],
        taken["empty"],
        unit="MB",
        against="the same over an empty hour",
        goals=(AtMost(1.05),),
    )


def _peak(program: Installed, url: str, begin: int, end: int) -> float:
    command = [program.python, str(HERE / "counting.py"), url, str(begin), str(end)]
    command.append(str(TIMES_IN_A_PROCESS))
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)
