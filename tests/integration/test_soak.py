"""A thousand cycles with random faults: neither threads, descriptors nor memory grow."""

import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import psutil
import pytest
from faults import BOUND, reading_times, spooled
from handed_run import Hand
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from real_faults import tiny_disk
from receivers import HttpSink, answer, partial_success, reset
from scripted_mongo import Document, Drop, answering, failing, scripted_mongo
from servers import ExporterRunner, RunningExporter, eventually

CYCLES = 1000
MEBIBYTE = 1 << 20
# A fault hangs longer than every limit below.
HANGS = 2.0


class Weather:
    """What goes wrong now; each part asks it, and the test changes it."""

    def __init__(self, dice: random.Random, hand: Hand, state: Path) -> None:
        self._dice = dice
        self._hand = hand
        self._filling = state / "filling"
        self.collector = self.database = "sound"

    def change(self) -> None:
        """Let something else go wrong."""
        self.clear()
        self.collector = self._dice.choice(
            ["sound", "sound", "503", "400", "page", "reset", "hangs", "rejects", "retry-after"]
        )
        self.database = self._dice.choice(["sound", "sound", "refuses", "drops", "hangs", "odd"])
        disk = self._dice.choice(["sound", "sound", "hangs", "hangs wholly", "full"])
        if disk.startswith("hangs"):
            self._hand.hang(wholly="wholly" in disk)
        elif disk == "full":
            self._fill()

    def clear(self) -> None:
        """Let all be sound."""
        self.collector = self.database = "sound"
        self._hand.go_on()
        self._filling.unlink(missing_ok=True)

    def answer_report(self, connection: socket.socket, ended: Event) -> None:
        """Answer as a collector of this weather."""
        if self.collector == "hangs":
            ended.wait(HANGS)
        answers = {
            "503": answer(503),
            "400": answer(400, b"bad", "text/plain"),
            "page": answer(body=b"<html>", kind="text/html"),
            "reset": reset(),
            "rejects": answer(body=partial_success(1, "too old")),
            "retry-after": answer(429, headers={"Retry-After": "1"}),
        }
        answers.get(self.collector, answer())(connection, ended)

    def answer_question(self, command: Document) -> Document:
        """Answer as a database of this weather."""
        if self.database == "drops":
            raise Drop
        if self.database == "hangs":
            time.sleep(HANGS)
            raise Drop
        if self.database == "refuses":
            return failing(13)
        if self.database == "odd":
            return answering(count={"ok": 1.0, "n": "many"})(command)
        return sound(command)

    def _fill(self) -> None:
        with self._filling.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return


def sound(command: Document) -> Document:
    """Answer every question of a round."""
    named = [{"name": name} for name in ("users", "notifications", "topics")]
    providers = [{"largest": [{"_id": "sendgrid", "n": 3}], "rest": []}]
    rows = providers if command.get("aggregate") == "integrations" else [{"_id": None, "n": 3}]
    return answering(aggregate=cursor(rows), listCollections=cursor(named))(command)


def cursor(documents: list[Document]) -> Document:
    return {"ok": 1.0, "cursor": {"id": 0, "ns": "novu-db.any", "firstBatch": documents}}


@dataclass(frozen=True)
class Size:
    """What a process takes up."""

    threads: int
    descriptors: int
    memory: int


def size_in_calm(running: RunningExporter, weather: Weather, state: Path) -> Size:
    """Let the weather clear and what waits leave, and take the least of some seconds."""
    weather.clear()
    eventually(lambda: len(spooled(state)) + len(spooled(state, "usage")), lambda n: n <= 2, 300)
    time.sleep(2 * HANGS)
    process = psutil.Process(running.pid)
    samples = []
    for _ in range(40):
        samples.append((process.num_threads(), process.num_fds(), process.memory_info().rss))
        time.sleep(0.05)
    return Size(*(min(column) for column in zip(*samples, strict=True)))


def live_through(weather: Weather, sink: HttpSink, state: Path, cycles: int) -> None:
    """Change the weather twice a second until so many beacons were read in all."""
    deadline = time.monotonic() + 1800
    read: set[float] = set()
    seen = 0
    while len(read) < cycles:
        assert time.monotonic() < deadline, len(read)
        weather.change()
        time.sleep(0.5)
        read |= spooled(state)
        requests = sink.requests[seen:]
        seen += len(requests)
        reports = [ExportMetricsServiceRequest.FromString(each.body) for each in requests]
        read.update(reading_times(reports))


@pytest.fixture
def dice() -> random.Random:
    seed = random.randrange(2**32)  # noqa: S311 - weather of a test
    print(f"seed {seed}")  # noqa: T201 - to try a failure again
    return random.Random(seed)  # noqa: S311 - as above


@pytest.fixture
def weather(tmp_path: Path, hand: Hand, dice: random.Random) -> Iterator[Weather]:
    with tiny_disk(tmp_path / "state", 2048) as state:
        yield Weather(dice, hand, state)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_after_a_thousand_cycles_with_random_faults_nothing_has_grown(
    weather: Weather, hand: Hand, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    exporter = ExporterRunner(tmp_path, hand.program)
    with HttpSink(weather.answer_report) as sink, scripted_mongo(weather.answer_question) as mongo:
        env = {
            "MONGO_URL": f"mongodb://127.0.0.1:{mongo.port}/novu-db",
            "OTEL_NOVU_STATE_DIR": str(state),
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5",
            "OTEL_NOVU_QUERY_TIMEOUT": "0.3",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
        }
        running = exporter.start(env=env)
        try:
            sizes = []
            for cycles in (100, CYCLES // 2, CYCLES):
                live_through(weather, sink, state, cycles)
                sizes.append(size_in_calm(running, weather, state))
            # On a busy machine something may be under way even in calm; what has grown stays.
            late = eventually(
                lambda: size_in_calm(running, weather, state),
                lambda size: (
                    size.threads <= sizes[0].threads and size.descriptors <= sizes[0].descriptors
                ),
                seconds=300,
            )
            assert running.terminate(BOUND) == 0
        finally:
            weather.clear()
            exporter.close()
    print(sizes)  # noqa: T201 - seen where it fails
    assert late.memory - sizes[1].memory < 5 * MEBIBYTE
