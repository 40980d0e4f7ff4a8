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
from pathlib import Path
from threading import Thread

from rounds import node_sender
from samples import Row, Samples, interleave

ROOT = Path(__file__).parent.parent
DAY = 86_400
RUNS = 3


@dataclass
class Sink:
    """A collector that accepts everything and remembers the sizes of requests."""

    address: str
    requests: list[int] = field(default_factory=list)


@contextmanager
def sink() -> Iterator[Sink]:
    """Run one."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            self.rfile.read(length)
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
def process(
    command: Sequence[str], environment: Mapping[str, str], stdout: int | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """Start a process in an empty home; end it with SIGTERM if it still runs."""
    with tempfile.TemporaryDirectory(prefix="otel-novu-bench-") as home:
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": home, **environment}
        with subprocess.Popen(
            command, env=env, cwd=home, stdout=stdout, stderr=subprocess.DEVNULL, text=True
        ) as started:
            yield started
            started.terminate()


def seconds_of(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """How long a command takes, in an empty home."""
    started = time.perf_counter()
    with process(command, environment, stdout=subprocess.DEVNULL) as running:
        code = running.wait()
    if code:
        raise RuntimeError(f"{command} failed with exit code {code}")
    return time.perf_counter() - started


def settings(url: str, otlp: str, **more: str) -> dict[str, str]:
    """The environment of otel-novu."""
    return {"MONGO_URL": url, "OTEL_EXPORTER_OTLP_ENDPOINT": otlp, **more}


def starting(bin_: Path, url: str, times: int) -> list[Row]:
    """Whole processes: from the start to the end."""
    python, program = str(bin_ / "python"), str(bin_ / "otel-novu")
    script = str(Path(__file__).parent / "bare.py")
    with sink() as collector:
        run = partial(seconds_of, environment=settings(url, collector.address))
        ways = {
            "once": partial(run, [program, "once"]),
            "bare": partial(run, [python, script, url]),
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
            running = kept.enter_context(process([str(bin_ / "otel-novu"), "run"], environment))
            started.append((running, collector))
        for _, collector in started:
            while len(collector.requests) < 2 * cycles:
                time.sleep(0.1)
        ours = Samples(tuple(resident(running.pid) for running, _ in started))
    taken = []
    for _ in range(RUNS):
        with sink() as collector, node_sender(url, collector.address) as order:
            taken.append(order(f"cycle {cycles}"))
    what = f"resident memory of `run` after {cycles:,} reports, over HTTP"
    return [Row(what, ours, "MB", "Node with mongoose, after as many", Samples(tuple(taken)))]


def at_rest(bin_: Path, url: str, seconds: float) -> list[Row]:
    """CPU and wake-ups of `run` between two reports."""
    with sink() as collector:
        environment = settings(url, collector.address)
        with process([str(bin_ / "otel-novu"), "run"], environment) as running:
            while len(collector.requests) < 2:  # noqa: PLR2004 - beacon and usage
                time.sleep(0.05)
            time.sleep(3)  # until the driver's threads have ended
            before = used(running.pid)
            time.sleep(seconds)
            cpu, wake_ups = (
                (after - earlier) * DAY / seconds
                for after, earlier in zip(used(running.pid), before, strict=True)
            )
    return [
        Row("CPU of `run` between reports, per day", Samples((cpu,)), "s", limit=1.0),
        Row("wake-ups of `run` between reports, per day", Samples((wake_ups,)), ""),
    ]


def on_the_wire(bin_: Path, url: str) -> list[Row]:
    """What a day of hourly reports sends to the collector."""
    rows = []
    for compression in ("none", "gzip"):
        with sink() as collector:
            more = {"OTEL_EXPORTER_OTLP_COMPRESSION": compression}
            seconds_of([str(bin_ / "otel-novu"), "once"], settings(url, collector.address, **more))
            day = Samples((24.0 * sum(collector.requests),))
        rows.append(Row(f"bytes to the collector per day, compression {compression}", day, "kB"))
    return rows


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
