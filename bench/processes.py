"""otel-novu as a process: its start, its memory, its CPU at rest, and what it sends."""

import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread

from bson import json_util
from rounds import commands, counters, node_sender
from samples import Row, Samples, interleave

from otel_novu.settings import Secret
from otel_novu.sources.novu import address
from otel_novu.store import Store

ROOT = Path(__file__).parent.parent
DAY = 86_400
RUNS = 3
BEACONS = 8


@dataclass
class Sink:
    """A collector that accepts everything and remembers the sizes of requests."""

    address: str
    requests: list[int] = field(default_factory=list)
    beacons: list[float] = field(default_factory=list)  # when they came, seconds


@contextmanager
def sink() -> Iterator[Sink]:
    """Run one."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            if b"otel_novu.usage" not in self.rfile.read(length):
                found.beacons.append(time.monotonic())
            heading = len(self.requestline) + 2 + len(bytes(self.headers)) + 2
            found.requests.append(heading + length)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Sink(f"http://127.0.0.1:{server.server_address[1]}")
        Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


@contextmanager
def installed() -> Iterator[Path]:
    """The bin folder of an environment with the wheel and the locked packages, as users have it."""
    with tempfile.TemporaryDirectory(prefix="otel-novu-bench-") as place:
        folder = Path(place)
        venv.create(folder / "venv", symlinks=True)
        build = ["-m", "build", "--no-isolation", "--wheel", "-o", place, str(ROOT)]
        install = ["-m", "uv", "pip", "install", "--compile-bytecode", "--python"]
        install.append(str(folder / "venv/bin/python"))
        locked = ["--require-hashes", "-r", str(ROOT / "requirements.txt")]
        for command in (build, [*install, *locked]):
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
        wheels = map(str, folder.glob("*.whl"))
        command = [sys.executable, *install, "--no-deps", *wheels]
        subprocess.run(command, check=True, capture_output=True)
        yield folder / "venv/bin"


@contextmanager
def ready(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a process that has to count the hour, in a home of its own."""
    with tempfile.TemporaryDirectory(prefix="otel-novu-bench-") as home:
        state, path = f"{home}/state", os.environ.get("PATH", os.defpath)
        store, url = Store(Path(state)), environment["MONGO_URL"]
        store.created(address(Secret(url)))
        store.save_created(counters(url))
        yield {"PATH": path, "HOME": home, "OTEL_NOVU_STATE_DIR": state, **environment}


@contextmanager
def running(
    command: Sequence[str | Path], environment: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process, and end it with SIGTERM."""
    with (
        ready(environment) as env,
        subprocess.Popen(command, env=env, cwd=env["HOME"], stderr=subprocess.DEVNULL) as process,
    ):
        yield process
        process.terminate()


def seconds_of(command: Sequence[str | Path], environment: Mapping[str, str]) -> float:
    """How long a command takes."""
    with ready(environment) as env:
        started = time.perf_counter()
        subprocess.run(command, env=env, cwd=env["HOME"], capture_output=True, check=True)
        return time.perf_counter() - started


def settings(url: str, otlp: str, **more: str) -> dict[str, str]:
    """The environment of otel-novu."""
    return {"MONGO_URL": url, "OTEL_EXPORTER_OTLP_ENDPOINT": otlp, **more}


def starting(bin_: Path, url: str, times: int) -> list[Row]:
    """Whole processes: from the start to the end."""
    python, program = str(bin_ / "python"), str(bin_ / "otel-novu")
    script, asked = str(Path(__file__).parent / "bare.py"), json_util.dumps(commands(url))
    with sink() as collector:
        run = partial(seconds_of, environment=settings(url, collector.address))
        ways = {
            "once": partial(run, [program, "once"]),
            "bare": partial(run, [python, script, url, asked]),
            "help": partial(run, [program, "--help"]),
            "python": partial(run, [python, "-c", "pass"]),
        }
        taken = interleave(ways, times)
    script = "a bare pymongo script that runs the same queries and prints nothing"
    return [
        Row("`otel-novu once`, the whole process", taken["once"], "ms", script, taken["bare"]),
        Row("`otel-novu --help`", taken["help"], "ms", "`python -c pass`", taken["python"]),
    ]


def memory(bin_: Path, url: str, cycles: int) -> list[Row]:
    """Resident memory of `run` after so many reports of both scopes, and of Node."""
    with ExitStack() as kept:
        started = []
        for _ in range(RUNS):
            collector = kept.enter_context(sink())
            each_second = {"OTEL_METRIC_EXPORT_INTERVAL": "1000"}
            environment = settings(url, collector.address, **each_second)
            process = kept.enter_context(running([bin_ / "otel-novu", "run"], environment))
            started.append((process, collector))
        for _, collector in started:
            while len(collector.requests) < 2 * cycles:
                time.sleep(0.1)
        ours = Samples(tuple(resident(process.pid) for process, _ in started))
    taken = []
    for _ in range(RUNS):
        with sink() as collector, node_sender(url, collector.address) as order:
            taken.append(order(f"cycle {cycles}"))
    what = f"resident memory of `run` after {cycles:,} reports, over HTTP"
    node = Samples(tuple(taken))
    return [
        Row(what, ours, "MB", limit=60e6),
        Row(what, ours, "MB", "Node with mongoose, after as many", node),
    ]


def at_rest(bin_: Path, url: str, seconds: float) -> list[Row]:
    """CPU and wake-ups of `run` between two reports."""
    with sink() as collector:
        # No report falls due meanwhile.
        environment = settings(url, collector.address, OTEL_METRIC_EXPORT_INTERVAL=f"{DAY}000")
        with running([bin_ / "otel-novu", "run"], environment) as process:
            while len(collector.requests) < 2:  # noqa: PLR2004 - beacon and usage
                time.sleep(0.05)
            time.sleep(3)  # until the driver's threads have ended
            before = used(process.pid)
            time.sleep(seconds)
            cpu, wake_ups = (
                (after - earlier) * DAY / seconds
                for after, earlier in zip(used(process.pid), before, strict=True)
            )
    return [
        Row("CPU of `run` between reports, per day", Samples((cpu,)), "s", limit=3.0),
        Row("wake-ups of `run` between reports, per day", Samples((wake_ups,)), ""),
    ]


def on_the_wire(bin_: Path, url: str) -> list[Row]:
    """What a day of hourly reports sends to the collector."""
    rows = []
    for compression in ("none", "gzip"):
        with sink() as collector:
            more = {"OTEL_EXPORTER_OTLP_COMPRESSION": compression}
            run = partial(seconds_of, [bin_ / "otel-novu", "once"])
            run(settings(url, collector.address, **more))
            run(settings(url, collector.address, OTEL_NOVU_DELIVERY_FIGURES="false", **more))
        sizes = [Samples((float(max(collector.requests[n : n + 2])),)) for n in (0, 2)]
        what, against = f"a usage report, compression {compression}", "without delivery figures"
        day = Samples((24.0 * sum(collector.requests[:2]),))
        rows.append(Row(what, sizes[0], "kB", against, sizes[1]))
        rows.append(Row(f"bytes to the collector per day, compression {compression}", day, "kB"))
    return rows


def beacons(bin_: Path, url: str, times: int) -> list[Row]:
    """The worst lateness of a beacon each second, at first beside a long round."""
    ways = {"beside": {}, "alone": {"NOVU_TELEMETRY": "false"}}
    late: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(times):
        with ExitStack() as kept:
            sinks = {}
            for way, more in ways.items():
                sinks[way] = collector = kept.enter_context(sink())
                each_second = {"OTEL_METRIC_EXPORT_INTERVAL": "1000", **more}
                environment = settings(url, collector.address, **each_second)
                kept.enter_context(running([bin_ / "otel-novu", "run"], environment))
            while any(len(each.beacons) < BEACONS for each in sinks.values()):
                time.sleep(0.1)
            for way, each in sinks.items():  # the first one is sent at once, not when due
                late[way].append(max(b - a - 1 for a, b in pairwise(each.beacons[1:BEACONS])))
    what = f"worst lateness of {BEACONS - 1} beacons, one a second, beside a round of seconds"
    samples = {way: Samples(tuple(values)) for way, values in late.items()}
    return [Row(what, samples["beside"], "ms", "without usage figures", samples["alone"])]


def resident(pid: int) -> float:
    """Resident memory, bytes."""
    return 1024.0 * _number(f"/proc/{pid}/status", "VmRSS")


def used(pid: int) -> tuple[float, float]:
    """CPU seconds of all threads, and how often they went to sleep."""
    tasks = [str(task) for task in Path(f"/proc/{pid}/task").iterdir()]
    cpu = sum(int(Path(task, "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    return cpu, sum(_number(f"{task}/status", "voluntary_ctxt_switches") for task in tasks)


def _number(file: str, name: str) -> int:
    return int(re.findall(rf"^{name}:\s+(\d+)", Path(file).read_text(), re.MULTILINE)[0])
