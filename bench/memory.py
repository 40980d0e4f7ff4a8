"""Resident memory of `run` after a thousand cycles, beside what its imports alone take."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from addresses import Addresses
from installed import Installed
from processes import Started, importing, running, started, third_party
from relay import Relay, relay
from rounds import node_sender
from rows import AtMost, Row, apart
from samples import Samples

INTERVAL = 0.3
REPORTS_OF_A_CYCLE = 2
RUNS = 3
MEGABYTES = 1e6
MOST_OVER_HTTP = 60 * MEGABYTES


def after(program: Installed, cycles: int, at: Addresses) -> list[Row]:
    """The memory after so many cycles, over HTTP and over gRPC, and the Node sender's."""
    rows, taken = [], []
    for protocol in ("http/protobuf", "grpc"):
        ours = _resident(program, cycles, at, protocol)
        bare = _imported(program, at.variables(protocol))
        goals = [AtMost(1.25)]
        if protocol == "http/protobuf":
            goals.append(AtMost(MOST_OVER_HTTP, of_ratio=False))
        rows.append(
            apart(
                f"memory.{protocol.partition('/')[0]}",
                f"resident memory of `run` after {cycles:,} cycles, over {protocol}",
                ours,
                bare,
                unit="MB",
                against="a bare interpreter that imports the same modules of other packages",
                goals=tuple(goals),
            )
        )
        taken.append(ours)
    rows.append(
        apart(
            "memory.node",
            f"the same over HTTP after {cycles:,} cycles",
            taken[0],
            _node(cycles, at.mongo_url),
            unit="MB",
            against=f"Node with mongoose after {cycles:,} rounds, each with a POST",
        )
    )
    return rows


def _resident(program: Installed, cycles: int, at: Addresses, protocol: str) -> Samples:
    """Let several exporters run at a time; one waits for its database, another works."""
    with ExitStack() as held:
        pairs = [held.enter_context(_counted(program, at, protocol)) for _ in range(RUNS)]
        for _, line in pairs:
            while line.answered() < cycles * REPORTS_OF_A_CYCLE:
                time.sleep(0.1)
        return Samples(tuple(_settled(process) for process, _ in pairs))


@contextmanager
def _counted(program: Installed, at: Addresses, protocol: str) -> Iterator[tuple[Started, Relay]]:
    with relay(at.otlp(protocol)) as line:
        interval = {"OTEL_METRIC_EXPORT_INTERVAL": str(INTERVAL * 1000)}
        with running(program, at.through(line.own_port, protocol) | interval) as process:
            yield process, line


def _settled(process: Started) -> float:
    """The most of a second, as memory moves with the cycle."""
    taken = []
    for _ in range(20):
        taken.append(process.resident())
        time.sleep(0.05)
    return float(max(taken))


def _imported(program: Installed, variables: dict[str, str]) -> Samples:
    modules = third_party(program, variables)
    return Samples(tuple(_resident_of(importing(program, modules, _WAIT)) for _ in range(RUNS)))


_WAIT = "print(flush=True); input()"


def _resident_of(command: Sequence[str]) -> float:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with started(command, {}, **pipes) as bare:
        assert bare.process.stdout is not None  # noqa: S101 - for the type checker
        bare.process.stdout.readline()
        return float(bare.resident())


def _node(cycles: int, url: str) -> Samples:
    with _sink() as address:
        taken = []
        for _ in range(RUNS):
            with node_sender(url, address) as node:
                taken.append(node.order(f"cycle {cycles}"))
    return Samples(tuple(taken))


class _Taker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _sink() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Taker) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
