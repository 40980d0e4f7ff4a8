"""Hours of reports in seconds: the exporter on a clock of the test's, into a real Prometheus."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import novu_data
from bson import ObjectId
from pymongo.database import Database
from servers import eventually
from stack import COLLECTOR_CONFIG, Binaries, Collector, Prometheus, ask_prometheus

from otel_novu.exporter import Exporter
from otel_novu.outcome import Delivered
from otel_novu.settings import load
from otel_novu.state.consent import decide, read_admin, store_admin
from otel_novu.state.created_file import FILE as CREATED_FILE
from otel_novu.state.directory import StateDirectory
from otel_novu.state.identity import instance_id

HOUR = 3600.0

# A query sees what the collector has passed on; until then it is asked again.
_ARRIVAL_SECONDS = 240.0


@dataclass
class Backend:
    """A collector and a Prometheus of the test's own: what is asked there is what was sent there.

    Args:
        collector: takes the reports.
        prometheus: answers the queries.
    """

    collector: Collector
    prometheus: Prometheus

    def wait_for(self, query: str, at: float) -> None:
        """Wait until an instant query has an answer."""
        eventually(
            lambda: ask_prometheus(self.prometheus.address, query, at), seconds=_ARRIVAL_SECONDS
        )


@contextlib.contextmanager
def backend(parts: Binaries, prometheus_config: Path) -> Iterator[Backend]:
    """Start both, and end them."""
    with (
        Prometheus(prometheus_config, binaries=parts) as prometheus,
        Collector(
            COLLECTOR_CONFIG,
            {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": prometheus.remote_write},
            binaries=parts,
        ) as collector,
    ):
        yield Backend(collector, prometheus)


@dataclass
class Novu:
    """A database in Novu's shape, to which documents come at times of the test's.

    Args:
        database: where they are kept.
    """

    database: Database[dict[str, Any]]

    def load(self, before: float) -> None:
        """Fill it with data that are all older than a Unix time."""
        now = datetime.fromtimestamp(before, UTC)
        novu_data.load(self.database, seed=5, size="small", now=now)

    def create(self, collection: str, count: int, at: float, **fields: object) -> None:
        """Insert documents whose ids were made at a Unix time."""
        second = int(at).to_bytes(4, "big")
        documents = [{"_id": ObjectId(second + os.urandom(8)), **fields} for _ in range(count)]
        self.database[collection].insert_many(documents)

    def delete(self, collection: str, count: int) -> None:
        """Delete the oldest documents."""
        found = self.database[collection].find({}, {"_id": 1}).sort("_id", 1).limit(count)
        ids = [document["_id"] for document in found]
        self.database[collection].delete_many({"_id": {"$in": ids}})


@dataclass
class Reporter:
    """One exporter, whose clock stands where the test puts it.

    Args:
        folder: its own, with the state directory in it.
        environ: its environment.
    """

    # `reported_at` is the Unix time of the last report.

    folder: Path
    environ: Mapping[str, str]
    reported_at: float = field(default=0.0, init=False)
    _now: float = field(default=0.0, init=False)
    _exporter: Exporter | None = field(default=None, init=False)
    _state: StateDirectory | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def instance(self) -> str:
        """Its instance id, once it has reported."""
        assert self._exporter is not None
        return str(self._exporter.identity.value)

    def report(self, at: float) -> None:
        """Report as if it were then; returns once all is delivered.

        Args:
            at: Unix time.
        """
        self._now = at
        if self._exporter is None:
            self._exporter = self._start()
        self._deliver(self._exporter, self._exporter.report, set(self._exporter.meters))

    def report_usage(self, at: float) -> None:
        """Report the usage figures alone, as when they were switched on."""
        self._now = at
        assert self._exporter is not None
        self._deliver(self._exporter, self._exporter.report_usage, {"usage"})

    def switch_usage(self, *, on: bool) -> None:
        """Set the admin setting, and let the exporter follow it."""
        assert self._exporter is not None
        assert self._state is not None
        store_admin(self._state, enabled=on)
        self._exporter.set_usage(decide(None, read_admin(self._state)))

    def stop(self) -> None:
        """End; the next report is that of a new process on the same state directory."""
        if self._exporter is not None:
            self._exporter.close(0.0)
        if self._state is not None:
            self._state.close()
        self._exporter, self._state = None, None

    def lose_counters(self) -> None:
        """Lose the file of the counters of created documents, and nothing else."""
        assert self._exporter is None
        (self.folder / "state" / CREATED_FILE).unlink()

    def _deliver(self, exporter: Exporter, begin: Callable[[], object], meters: set[str]) -> None:
        exporter.outcomes.clear()
        begin()
        eventually(lambda: set(exporter.outcomes) == meters and not exporter.waiting)
        assert all(isinstance(outcome, Delivered) for outcome in exporter.outcomes.values())
        self.reported_at = self._now

    def _start(self) -> Exporter:
        environ = {**self.environ, "OTEL_NOVU_STATE_DIR": str(self.folder / "state")}
        settings = load(environ, env_file=None, cwd=self.folder, home=self.folder)
        self._state = StateDirectory.open(settings.state_dir)
        identity = instance_id(settings.instance_id, self._state)
        decision = decide(settings.telemetry, read_admin(self._state))
        return Exporter(settings, self._state, identity, decision, lambda: self._now)
