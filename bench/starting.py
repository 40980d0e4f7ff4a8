"""How long `run` takes to its first beacon, and how long the other commands take."""

import tempfile
import time
from functools import partial

from addresses import Addresses
from installed import Installed
from processes import HERE, importing, running, seconds_of, third_party
from relay import Relay, relay
from rows import AtMost, Row, paired
from samples import interleave

BEACON = b"otel_novu.beacon"
# At most a second where imports take four tenths of one.
MOST_OVER_IMPORTS = 2.5
MOST_FOR_HELP = 0.25
COMMANDS = ("--help", "show", "check", "health")
BARE = (
    "for comparison, a bare pymongo script that asks a round's questions: half a second of it, as "
    "of `show` and `check`, is its end, where the driver waits for threads that sleep so long"
)


def first_beacon(program: Installed, at: Addresses, times: int) -> Row:
    """From the start to the answer to the first beacon, less the random delay that is logged."""
    modules = third_party(program, at.variables())
    taken = interleave(
        {
            "ours": partial(_to_the_first_beacon, program, at),
            "imports": partial(seconds_of, importing(program, modules), {}),
        },
        times,
    )
    return paired(
        "start.beacon",
        "start of `run` to the first delivered beacon, less its logged random delay",
        taken["ours"],
        taken["imports"],
        unit="ms",
        against="a bare interpreter that imports the same modules of other packages, and ends",
        goals=(AtMost(MOST_OVER_IMPORTS),),
    )


def commands(program: Installed, at: Addresses, times: int) -> list[Row]:
    """Commands that do not run on, against an interpreter that does nothing."""
    with tempfile.TemporaryDirectory(prefix="otel-novu-bench-") as state:
        variables = {**at.variables(), "OTEL_NOVU_STATE_DIR": f"{state}/state"}
        ways = {name: partial(seconds_of, [program.exporter, name], variables) for name in COMMANDS}
        bare = [program.python, str(HERE / "bare.py"), at.mongo_url]
        ways["bare"] = partial(seconds_of, bare, variables)
        ways["nothing"] = partial(seconds_of, [program.python, "-c", "pass"], variables)
        # `health` is well only while `run` runs.
        with running(program, variables):
            taken = interleave(ways, times)
    return [
        paired(
            f"command.{name.strip('-')}",
            BARE if name == "bare" else f"`otel-novu {name}`",
            taken[name],
            taken["nothing"],
            unit="ms",
            against="a bare interpreter",
            goals=(AtMost(MOST_FOR_HELP, of_ratio=False),) if name == "--help" else (),
        )
        for name in (*COMMANDS, "bare")
    ]


def _to_the_first_beacon(program: Installed, at: Addresses) -> float:
    with relay(at.otlp_http) as line, running(program, at.through(line.own_port)) as process:
        while (answered := _beacon_answered(line)) is None:
            time.sleep(0.005)
        return answered - process.began - float(process.logged(r"first in ([0-9.]+) s"))


def _beacon_answered(line: Relay) -> float | None:
    times = [
        exchange.answered
        for exchange in list(line.exchanges)
        if exchange.answered is not None and BEACON in exchange.head
    ]
    return min(times, default=None)
