"""The counters of created documents: exact, whatever happens to the exporter meanwhile."""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any

import novu_data
import otlp_reports
import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database
from receivers import HttpSink
from servers import ExporterRunner, RunningExporter, eventually

from otel_novu.metrics.usage import FIGURES

EVENTS, SUBSCRIBERS = "event.created", "subscriber.created"
WATCHED = {EVENTS: "notifications", SUBSCRIBERS: "subscribers"}
CREATED = [figure.name for figure in FIGURES if figure.name.endswith(".created")]
# A window is read a minute after its end. Ids of forty seconds ago are inserted twenty seconds
# before that, so that no test has to wait for the minute; a machine may stall for less than that.
LAG = 40
MINUTE = 60
RATE = 50.0


class Writer:
    """Inserts events and subscribers, and deletes events that are counted, until it is stopped.

    Args:
        url: of the database.
        counted: tells up to which second events are counted.
    """

    def __init__(self, url: str, counted: Callable[[], int]) -> None:
        self._url = url
        self._counted = counted
        self._stop = Event()
        self._thread = Thread(target=self._write, daemon=True)
        self.inserted = dict.fromkeys(WATCHED, 0)
        self.deleted = 0
        self.last = 0

    @contextmanager
    def writing(self) -> Iterator["Writer"]:
        self._thread.start()
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive()

    def _write(self) -> None:
        with MongoClient[dict[str, Any]](self._url) as client:
            database = client.get_default_database()
            while not self._stop.wait(1 / RATE):
                self._insert(database, SUBSCRIBERS if self.inserted[EVENTS] % 5 == 4 else EVENTS)
                if self.inserted[EVENTS] % 3 == 0:
                    self._delete(database)

    def _insert(self, database: Database[dict[str, Any]], figure: str) -> None:
        self.last = int(time.time()) - LAG
        # Beside each event a subscriber every fifth time, so that the two numbers differ.
        for name in {figure, EVENTS}:
            database[WATCHED[name]].insert_one({"_id": id_of(self.last)})
            self.inserted[name] += 1

    def _delete(self, database: Database[dict[str, Any]]) -> None:
        old = ObjectId.from_datetime(datetime.fromtimestamp(self._counted(), UTC))
        found = database[WATCHED[EVENTS]].delete_many({"_id": {"$lt": old}})
        self.deleted += found.deleted_count


def id_of(second: int) -> ObjectId:
    """An id that was made in a second of the past."""
    return ObjectId(second.to_bytes(4, "big") + ObjectId().binary[4:])


def begin_watch(state_dir: Path, second: int) -> None:
    """Leave the state of an exporter that began to watch then, and found nothing yet."""
    entry = {"total": 0, "since": second, "until": second, "paused": False}
    document = {"version": 1, "figures": dict.fromkeys(CREATED, entry)}
    (state_dir / "created.json").write_text(json.dumps(document))


def counted_until(state_dir: Path) -> int:
    """The second up to which events are counted, and that on disk."""
    try:
        document = json.loads((state_dir / "created.json").read_text())
    except FileNotFoundError:
        return 0
    return int(document["figures"][EVENTS]["until"])


def created(sink: HttpSink, figure: str) -> list[otlp_reports.Point]:
    """All points of a counter that arrived, by the time of their reading."""
    points = otlp_reports.points(*sink.reports)
    found = [point for point in points if point.name == f"novu.{figure}"]
    return sorted(found, key=lambda point: point.time)


def environment(url: str, state_dir: Path, sink: HttpSink) -> Mapping[str, str]:
    return {
        "MONGO_URL": url,
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
    }


def kill_in_its_midst(running: RunningExporter, sink: HttpSink, dice: random.Random) -> None:
    """Let it report at least twice more, then end it without a warning."""
    sink.wait_for(len(sink.requests) + 4)
    time.sleep(dice.uniform(0, 1))
    running.kill()


def test_the_counters_end_exact_though_the_exporter_is_killed_and_counted_documents_go(
    mongo_url: str, state_dir: Path, exporter: ExporterRunner
) -> None:
    dice = random.Random(20261124)  # noqa: S311 - moments of a test
    since = int(time.time()) - 2 * MINUTE
    begin_watch(state_dir, since)
    writer = Writer(mongo_url, lambda: counted_until(state_dir))
    with HttpSink() as sink, writer.writing():
        env = environment(mongo_url, state_dir, sink)
        for _ in range(3):
            kill_in_its_midst(exporter.start("run", env=env), sink, dice)
        running = exporter.start("run", env=env)
        eventually(lambda: writer.deleted)
        writer.stop()
        eventually(lambda: counted_until(state_dir), lambda until: until > writer.last, 240)
        eventually(lambda: created(sink, EVENTS)[-1].value >= writer.inserted[EVENTS])
        assert running.terminate() == 0

        for figure, number in writer.inserted.items():
            assert number > 0
            values = [point.value for point in created(sink, figure)]
            assert values == sorted(values)
            assert values[-1] == number
            assert {point.start for point in created(sink, figure)} == {since}
        assert {point.value for point in created(sink, "topic.created")} == {0}


@pytest.mark.long
def test_what_a_living_novu_writes_is_counted_from_the_first_start_on_and_nothing_before(
    mongo_url: str, database: Database[dict[str, Any]], state_dir: Path, exporter: ExporterRunner
) -> None:
    novu_data.load(database, seed=5, size=300, now=datetime.now(UTC))
    dice = random.Random(20261124)  # noqa: S311 - moments of a test
    with HttpSink() as sink:
        env = environment(mongo_url, state_dir, sink)
        running = exporter.start("run", env=env)
        began = eventually(lambda: counted_until(state_dir))
        time.sleep(max(0.0, began - time.time()))  # the second in which the watch begins
        written: list[novu_data.Written] = []
        stop = Event()

        def write() -> None:
            with MongoClient[dict[str, Any]](mongo_url) as client:
                target = client.get_default_database()
                written.append(novu_data.write(target, 20, 300, stop=stop, keep=3 * MINUTE))

        writer = Thread(target=write, daemon=True)
        writer.start()
        for _ in range(4):
            kill_in_its_midst(running, sink, dice)
            running = exporter.start("run", env=env)
        eventually(lambda: counted_until(state_dir), lambda until: until > began + 20, 300)
        stop.set()
        writer.join(120)
        end = time.time()
        eventually(lambda: counted_until(state_dir), lambda until: until > end, 300)
        eventually(lambda: created(sink, EVENTS)[-1].value >= written[0].events)
        assert running.terminate() == 0
        assert created(sink, EVENTS)[-1].value == written[0].events
        assert created(sink, SUBSCRIBERS)[-1].value == written[0].subscribers
        assert written[0].events > 0
