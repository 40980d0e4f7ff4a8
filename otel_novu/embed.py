"""Puts the metrics on a MeterProvider that an application already has."""

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import lru_cache

from opentelemetry.metrics import MeterProvider

from otel_novu.consent import TelemetryFlag, read_decision
from otel_novu.identity import pseudonym_key
from otel_novu.log import LOG, FailureLog
from otel_novu.metrics import beacon, usage
from otel_novu.metrics.metric import Reading
from otel_novu.metrics.queries import Values
from otel_novu.report import register
from otel_novu.reporter import Created, UsageReader
from otel_novu.settings import Settings, load
from otel_novu.sources.host import read_host
from otel_novu.state_dir import LockedError, lock
from otel_novu.store import Store
from otel_novu.version import __version__

# How often the admin setting is read, seconds.
_POLL = 5.0
_CLOSE_TIMEOUT = 5.0
_VARIABLES = ("NOVU_TELEMETRY", "MONGO_URL", "MONGO_URL_FILE", "OTEL_METRIC_EXPORT_INTERVAL")


def register_beacon(meter_provider: MeterProvider, *, settings: Settings | None = None) -> None:
    """Register the beacon's metrics; the application's own readers and exporters do the rest.

    The host is read when metrics are collected. A forked process observes nothing. Without
    `settings`, the environment is read. Raises SettingsError or StateDirError.
    """
    read = _beacon_reader(settings or _from_environment())
    meter = meter_provider.get_meter(beacon.SCOPE, __version__)
    register(meter, beacon.BEACON, _in_this_process(read))


def register_usage(
    meter_provider: MeterProvider,
    *,
    settings: Settings | None = None,
    interval: float | None = None,
) -> "UsageHandle":
    """Register the usage metrics, read from Novu's database in a daemon thread.

    While the telemetry flag is off, nothing is observed and no database connection is opened.
    Counters of created documents begin at 0: a reader may send differences. What was created while
    the application was down is counted, once, unless the state directory is lost.
    `interval` is the time between two readings in seconds, else `OTEL_METRIC_EXPORT_INTERVAL`.
    Raises ValueError for one that is not positive and finite; else as `register_beacon`.
    """
    used = settings or _from_environment()
    handle = UsageHandle(used, used.interval if interval is None else interval)
    meter = meter_provider.get_meter(usage.SCOPE, __version__)
    rows = usage.metrics(usage.figures_in_use(delivery=used.delivery_figures))
    register(meter, rows, _in_this_process(lambda: handle.reading))
    return handle


class UsageHandle(AbstractContextManager["UsageHandle"]):
    """Reads usage figures until it is closed; also a context manager."""

    def __init__(self, settings: Settings, interval: float) -> None:
        if not 0 < interval < math.inf:
            raise ValueError("interval: expected a positive, finite number of seconds")
        # The last one; None if there is none, or usage figures are off.
        self.reading: usage.UsageReading | None = None
        self._interval, self._process = interval, os.getpid()
        self._closed, self._lock = threading.Event(), ExitStack()
        self._store = Store(settings.state_dir)
        try:
            self._lock.enter_context(lock(settings.state_dir, "embedded"))
        except LockedError as error:
            # Two processes must not advance the same counters.
            LOG.warning("%s; the created counters are kept in memory.", error)
            self._store = Store(settings.state_dir, read_only=True)
        flag, ended = TelemetryFlag(settings, self._store), self._closed.is_set
        self._reader = UsageReader(settings, self._store, flag, FailureLog(), ended=ended)
        self._counted = self._reader.counts()
        self._thread = threading.Thread(
            target=self._run, args=(flag,), name="otel-novu-usage", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the readings; from then on nothing is observed."""
        if os.getpid() != self._process:
            return
        self._closed.set()
        self.reading = None
        self._thread.join(_CLOSE_TIMEOUT)
        if not self._thread.is_alive():
            self._lock.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, flag: TelemetryFlag) -> None:
        if not self._reader.has_database:
            LOG.warning("Usage figures need MONGO_URL or MONGO_URL_FILE.")
            return
        due, wait = time.monotonic(), 0.0
        while not self._closed.wait(wait):
            flag.read()
            wait = _POLL
            if not flag.enabled:
                self.reading, due = None, time.monotonic()
                continue
            if time.monotonic() >= due:
                self._read()
                due = max(due + self._interval, time.monotonic())
            wait = max(0.0, min(_POLL, due - time.monotonic()))
        self.reading = None

    def _read(self) -> None:
        try:
            found = self._reader.read()
        except Exception as error:  # noqa: BLE001 - no fault may end the readings to come
            self.reading = None
            LOG.warning("Reading usage figures failed (%s).", type(error).__name__)
            return
        if found is not None:
            reading, created = found
            self.reading = replace(reading, values=_subtract(reading.values, self._counted))
            self._store.save_created(created)


def _subtract(values: Mapping[str, Values], counted: Created) -> dict[str, Values]:
    """Take off what was counted before the registration, so that no reader sends it again."""
    before = {name: {(): count.total, **count.by} for name, count in counted.items()}
    return {
        name: {labels: n - before.get(name, {}).get(labels, 0) for labels, n in numbers.items()}
        for name, numbers in values.items()
    }


def _beacon_reader(settings: Settings) -> Callable[[], beacon.BeaconReading]:
    store = Store(settings.state_dir)
    key = pseudonym_key(settings, store)

    @lru_cache(maxsize=1)  # one collection calls the callback of each instrument
    def read(_second: int) -> beacon.BeaconReading:
        enabled = read_decision(settings, Store(settings.state_dir, read_only=True)).enabled
        return beacon.BeaconReading(time.time(), read_host(key), enabled)

    return lambda: read(int(time.monotonic()))


def _in_this_process(current: Callable[[], Reading | None]) -> Callable[[], Reading | None]:
    process = os.getpid()
    return lambda: current() if os.getpid() == process else None


def _from_environment() -> Settings:
    """Read what concerns the metrics; exporter, resource and reader are the application's."""
    names = [name for name in os.environ if name in _VARIABLES or name.startswith("OTEL_NOVU_")]
    return load({name: os.environ[name] for name in names})
