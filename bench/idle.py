"""What `run` uses between two reports."""

import subprocess
import time
from itertools import pairwise

from addresses import Addresses
from installed import Installed
from processes import HERE, running, use_of
from relay import relay
from rows import AtMost, Row, alone
from samples import Samples, once

DAY = 86_400
# After a report the driver's threads end by themselves within a second.
SETTLING = 3.0
PARTS = 5


def between_reports(program: Installed, seconds: float, at: Addresses) -> list[Row]:
    """CPU, wakeups and threads of `run` while nothing is due, for so many seconds in all."""
    with relay(at.otlp_http) as line, running(program, at.through(line.own_port)) as process:
        while line.answered() < 2:  # noqa: PLR2004 - beacon and usage
            time.sleep(0.05)
        time.sleep(SETTLING)
        uses = [use_of(process.pid)]
        for _ in range(PARTS):
            time.sleep(seconds / PARTS)
            uses.append(use_of(process.pid))
    a_day = DAY / (seconds / PARTS)
    pairs = list(pairwise(uses))
    cpu = Samples(tuple((after.cpu - before.cpu) * a_day for before, after in pairs))
    wakeups = Samples(tuple((after.wakeups - before.wakeups) * a_day for before, after in pairs))
    return [
        alone(
            "idle.cpu",
            "CPU between reports, a day of it",
            cpu,
            unit="s",
            goals=(AtMost(1.0, of_ratio=False),),
            note=f"Measured over {seconds:g} seconds, then times {DAY / seconds:g}.",
        ),
        alone("idle.wakeups", "wakeups between reports, a day of them", wakeups, unit=""),
        alone(
            "idle.threads",
            "threads between reports",
            once(max(use.threads for use in uses)),
            unit="",
            goals=(AtMost(1, of_ratio=False),),
        ),
    ]


def looks_of_a_day(program: Installed, times: int) -> Row:
    """The same work without the waiting: every look of a day, one after the other."""
    command = [program.python, str(HERE / "looking.py")]
    taken = []
    for _ in range(times):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        taken.append(float(done.stdout))
    return alone(
        "idle.looks",
        "CPU of all of a day's looks at the admin setting, done in a row",
        Samples(tuple(taken)),
        unit="s",
        goals=(AtMost(1.0, of_ratio=False),),
    )
