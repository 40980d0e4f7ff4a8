"""Measures what otel-novu costs, side by side with what it is compared with, and prints it.

    python bench/bench.py                everything; writes docs/cost.md and docs/cost.json
    python bench/bench.py --quick        the same up to 10^6 documents; writes nothing
    python bench/bench.py --only round   one part; its rows are written anew, the others stay

It exits with 1 where a ratio is worse than the one checked in, beyond both spreads, or a goal is
missed that was met.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

# The servers' and the data's makers are scripts beside the stack.
sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "stack"))

import created
import data
import fleet
import idle
import memory
import page
import rounds
import stack
import starting
import wire
from addresses import Addresses
from installed import Installed, installed
from processes import HERE
from rows import Row


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured.

    Args:
        events: of the largest database.
        rounds: pairs of rounds.
        starts: pairs of processes.
        cycles: of `run`, for its memory.
        idle: seconds without a report.
        hours: of the fleet, compressed.
    """

    events: int
    rounds: int
    starts: int
    cycles: int
    idle: float
    hours: int


FULL = Extent(events=10**7, rounds=200, starts=15, cycles=1000, idle=300, hours=24)
QUICK = Extent(events=10**6, rounds=20, starts=5, cycles=200, idle=30, hours=2)
INSTANCES = 10_000
COMPRESSED_HOUR = 25.0  # seconds: a day in ten minutes

Part = Callable[[], list[Row]]


def parts(
    program: Installed, database: stack.Database, at: Addresses, extent: Extent
) -> Mapping[str, Part]:
    """All that is measured, by name, in order; what disturbs others comes last."""
    return {
        "round": lambda: rounds.beside_others(at.mongo_url, extent.rounds),
        "command": lambda: starting.commands(program, at, extent.starts),
        "start": lambda: [starting.first_beacon(program, at, extent.starts)],
        "wire": lambda: wire.a_day(program, database, at),
        "idle": lambda: [
            *idle.between_reports(program, extent.idle, at),
            idle.looks_of_a_day(program, min(5, extent.starts)),
        ],
        "memory": lambda: memory.after(program, extent.cycles, at),
        "created": lambda: created.an_hour(program, database, extent.rounds),
        "size": lambda: rounds.by_size(database, extent.events, extent.rounds),
        "fleet": lambda: fleet.a_day(program, at, INSTANCES, extent.hours, COMPRESSED_HOUR),
    }


def measure(extent: Extent, only: list[str]) -> list[Row]:
    """Start servers of our own, and measure."""
    _install_node_sender()
    with installed() as program, stack.Database() as database, stack.Prometheus() as prometheus:
        variables = {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": prometheus.remote_write}
        with stack.Collector(stack.COLLECTOR_CONFIG, variables) as collector:
            url = data.novu(database, "novu-db")
            data.grow(database, "novu-db", "notifications", rounds.SMALLEST)
            at = Addresses(url, collector.address, f"127.0.0.1:{collector.grpc_port}")
            return _all_of(parts(program, database, at, extent), only)


def _all_of(parts: Mapping[str, Part], only: list[str]) -> list[Row]:
    rows: list[Row] = []
    for name, part in parts.items():
        if only and name not in only:
            continue
        began = time.monotonic()
        of_part = part()
        _say(f"\n{name}, measured in {time.monotonic() - began:.0f} s\n\n{page.table(of_part)}")
        rows += of_part
    return rows


def _install_node_sender() -> None:
    if shutil.which("npm") is None:
        raise SystemExit("bench: Novu's own sender is a Node program: install node and npm.")
    command = ["npm", "ci", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(command, cwd=HERE / "node", check=True)


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Measure, print, compare, and write what was measured in full."""
    parser = argparse.ArgumentParser(description="Measures what otel-novu costs.")
    parser.add_argument("--quick", action="store_true", help="up to 10^6 documents; write nothing")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="one part only")
    options = parser.parse_args()
    rows = measure(QUICK if options.quick else FULL, options.only)
    said = page.compare(rows, page.checked_in())
    _say("\n".join(said))
    # A part alone makes no page where there is none to be put into.
    if not options.quick and (page.checked_in() or not options.only):
        page.write(rows)
        _say(f"\n{page.headline(page.checked_in())}\nWritten to docs/cost.md and docs/cost.json.")
    _say(f"Goals missed: {', '.join(page.missed(rows)) or 'none'}.")
    return int(any(line.startswith("worse") for line in said))


if __name__ == "__main__":
    sys.exit(main())
