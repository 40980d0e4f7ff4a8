"""What a round of all figures costs: beside bare pymongo, Novu's own sender, and its own size."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import data
import stack
from bare import bare_round
from ours import our_round
from processes import HERE
from rows import AtMost, Row, paired
from samples import interleave

NODE = HERE / "node"
SMALLEST = 10_000
_WHOLE = "connecting, authenticating and closing included"


class NodeSender:
    """Novu's questions as its own Node sender asks them, in a process that is warm."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def order(self, order: str) -> float:
        """Let it do something; what it answers.

        Raises:
            RuntimeError: it ended.
        """
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        assert self._process.stdout is not None  # noqa: S101 - as above
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the Node sender ended")
        return float(answer)

    def seconds(self, order: str) -> float:
        """Let it ask; how long that took."""
        return self.order(order) / 1000


@contextmanager
def node_sender(url: str, sink: str = "http://127.0.0.1:1") -> Iterator[NodeSender]:
    """Start it, ended with the block."""
    command = ["node", str(NODE / "sender.mjs"), url, sink]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield NodeSender(process)
        finally:
            assert process.stdin is not None  # noqa: S101 - for the type checker
            process.stdin.close()
            process.wait(20)


def beside_others(url: str, times: int) -> list[Row]:
    """One round of all figures against bare pymongo and against Node."""
    with node_sender(url) as node:
        taken = interleave(
            {
                "ours": partial(our_round, url),
                "bare": partial(bare_round, url),
                "all": partial(node.seconds, "all"),
                "own": partial(node.seconds, "own"),
                "open": partial(node.seconds, "open"),
            },
            times,
            warm_up=10,
        )
    ours = taken["ours"]
    measure = f"one round of all figures, {_WHOLE}"
    row = partial(paired, measure=measure, value=ours, unit="ms")
    return [
        row(
            "round.bare",
            other=taken["bare"],
            against="bare pymongo, the same questions over four connections",
            goals=(AtMost(1.15),),
        ),
        row(
            "round.node",
            other=taken["all"],
            against="Node with mongoose, the same questions",
            goals=(AtMost(1.0),),
        ),
        row(
            "round.node.own",
            other=taken["own"],
            against="Node with mongoose, only the eight questions of Novu's own sender",
            note="Half as many questions: no created counters, no clock, no list of collections.",
        ),
        row(
            "round.node.open",
            other=taken["open"],
            against="the same eight over connections that Node keeps open all hour",
            note="Not like with like, but what Novu's worker does: it pays for its connections "
            "with sockets, monitoring threads and a heartbeat every ten seconds.",
        ),
    ]


def by_size(database: stack.Database, largest: int, times: int) -> list[Row]:
    """The same round on databases that differ in nothing but size."""
    sizes = [10**power for power in range(4, 8) if 10**power <= largest]
    names = {f"{_written(size)} events": ("notifications", size) for size in sizes}
    names[f"{_written(10**6)} subscribers"] = ("subscribers", 10**6)
    ways = {
        label: partial(our_round, _grown(database, collection, size))
        for label, (collection, size) in names.items()
    }
    taken = interleave(ways, times, warm_up=5)
    smallest = next(iter(names))
    return [
        paired(
            "size." + label.replace(" ", "."),
            f"one round at {label}",
            taken[label],
            taken[smallest],
            unit="ms",
            against=f"at {smallest}",
            goals=(AtMost(1.2),),
        )
        for label in list(names)[1:]
    ]


def _grown(database: stack.Database, collection: str, size: int) -> str:
    name = f"bench-{collection}-{size}"
    url = data.novu(database, name)
    data.grow(database, name, collection, size)
    return url


def _written(size: int) -> str:
    return f"10^{len(str(size)) - 1}"
