"""Measures what otel-novu costs, beside what it is compared with.

python bench/bench.py                everything; writes docs/cost.md
python bench/bench.py --quick        a few minutes, up to 10^5 documents; writes nothing
python bench/bench.py --only round   one part; writes nothing
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "stack"))

import processes
import rounds
import stack
from samples import Row, table

PAGE = processes.ROOT / "docs" / "cost.md"
TOP = """\
<!-- Written by `make bench`; edit bench/bench.py. -->

# What otel-novu costs

Measured on {date} by `make bench` (bench/README.md) on real servers: {machine}. A ratio is the
median of pairs that were measured one after the other, with its quartiles in parentheses. Absolute
values belong to this machine.

"""
END = """

## What the numbers mean

- A round does not depend on the size of the collections, but the delivery figures read what the
  hour created: five times its jobs, twice its messages. It sends its queries over two connections,
  so that most cores of the database are left to Novu; a script with more connections is faster.
- A figure whose hour does not fit into half of the time that is left keeps its counter, and
  `novu.usage.lag` tells how far it is behind. `OTEL_NOVU_QUERY_TIMEOUT` gives it more.
- A round closes its connections, so nothing stays open between the hourly reports.
- A bare pymongo script takes half a second to end, because it waits for the driver's threads.
  `once` does not wait for them.
- Most of the memory is what the imports of pymongo and the OpenTelemetry SDK take.
- A container probe (`otel-novu health`) is a Python process. One a minute takes more CPU than
  everything else together: every five minutes is enough.
- Most of a report's bytes are the labels of the delivery figures, which compress well:
  set `OTEL_EXPORTER_OTLP_COMPRESSION=gzip`.
"""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured: sizes, pairs of rounds, hours and processes, reports, seconds."""

    events: int
    copies: int  # of the hour of a thousand messages
    rounds: int
    hours: int
    starts: int
    reports: int
    rest: float


FULL = Extent(events=10**7, copies=100, rounds=100, hours=5, starts=15, reports=300, rest=300)
QUICK = Extent(events=10**5, copies=10, rounds=10, hours=3, starts=3, reports=10, rest=20)


def parts(
    bin_: Path, database: stack.Database, url: str, extent: Extent
) -> Mapping[str, Callable[[], list[Row]]]:
    """All that is measured, by name."""
    busy = cache(partial(rounds.grown, database, "busy", 1, extent.copies))
    return {
        "round": lambda: rounds.beside_others(url, extent.rounds),
        "size": lambda: rounds.by_size(database, extent.events, extent.rounds),
        "hour": lambda: rounds.busy_hour(busy(), extent.copies, extent.hours),
        "start": lambda: processes.starting(bin_, url, extent.starts),
        "memory": lambda: processes.memory(bin_, url, extent.reports),
        "rest": lambda: processes.at_rest(bin_, url, extent.rest),
        "wire": lambda: processes.on_the_wire(bin_, url),
        "beacon": lambda: processes.beacons(bin_, busy(), extent.hours),
    }


def measure(extent: Extent, only: Sequence[str]) -> list[Row]:
    """Measure on a database of our own."""
    if shutil.which("npm") is None:
        raise SystemExit("bench: install node and npm; Novu's own report comes from Node.")
    command = ["npm", "ci", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(command, cwd=rounds.NODE, check=True)
    rows: list[Row] = []
    with processes.installed() as bin_, stack.Database() as database:
        url = rounds.grown(database, "novu-db", 10_000)
        for name, part in parts(bin_, database, url, extent).items():
            if not only or name in only:
                started = time.monotonic()
                rows += (found := part())
                seconds = time.monotonic() - started
                print(f"\n{name}, measured in {seconds:.0f} s\n\n{table(found)}", flush=True)
    return rows


def page(rows: Sequence[Row]) -> str:
    """The text of docs/cost.md."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("pymongo", "opentelemetry-sdk"))
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    top = TOP.format(date=datetime.now(UTC).date(), machine=f"{machine}, {packages}")
    return "\n\n".join(textwrap.fill(text, 100) for text in top.split("\n\n")) + table(rows) + END


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description="Measures what otel-novu costs.")
    parser.add_argument("--quick", action="store_true", help="a few minutes; write nothing")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="write nothing")
    options = parser.parse_args()
    rows = measure(QUICK if options.quick else FULL, options.only)
    if not options.quick and not options.only:
        PAGE.write_text(page(rows))
    missed = [row.what for row in rows if not row.met]
    print(f"\nGoals missed: {'; '.join(missed) or 'none'}.")


if __name__ == "__main__":
    main()
