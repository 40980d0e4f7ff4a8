"""Puts the metrics on a MeterProvider that an application already has."""

import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Self

from opentelemetry import context
from opentelemetry.metrics import MeterProvider

from otel_novu.consent import TelemetryFlag, read_decision
from otel_novu.identity import pseudonym_key
from otel_novu.log import LOG, FailureLog
from otel_novu.metrics import beacon, usage
from otel_novu.metrics.metric import Metric, Point, Reading
from otel_novu.report import register
from otel_novu.reporter import UsageReader
from otel_novu.settings import Settings, load
from otel_novu.sources.host import pseudonymize, read_host
from otel_novu.state_dir import LockedError, lock
from otel_novu.store import Store
from otel_novu.version import __version__

# How often the admin setting is read, seconds.
_POLL = 5.0
_CLOSE_TIMEOUT = 5.0
_VARIABLES = ("NOVU_TELEMETRY", "MONGO_URL", "MONGO_URL_FILE", "OTEL_METRIC_EXPORT_INTERVAL")


def register_beacon(meter_provider: MeterProvider, *, settings: Settings | None = None) -> None:
    """Register the beacon's metrics; the application's own readers and exporters do the rest.

    The host is read when metrics are collected. A forked process observes nothing.

    Args:
        meter_provider: the application's own.
        settings: what the user set; None: from the environment.

    Raises:
        SettingsError: a variable can't be used.
        StateDirError: the state directory can't be used.
    """
    read = _beacon_reader(settings or _from_environment())
    meter = meter_provider.get_meter(beacon.SCOPE, __version__)
    register(meter, map(_checked, beacon.BEACON), _in_this_process(read))


def register_usage(
    meter_provider: MeterProvider,
    *,
    settings: Settings | None = None,
    interval: float | None = None,
) -> "UsageHandle":
    """Register the usage metrics, read from Novu's database in a daemon thread.

    While the telemetry flag is off, nothing is observed and no database connection is opened.

    Args:
        meter_provider: the application's own.
        settings: what the user set; None: from the environment.
        interval: between two readings, seconds; None: `OTEL_METRIC_EXPORT_INTERVAL`.

    Raises:
        SettingsError: a variable can't be used.
        StateDirError: the state directory can't be used.
        ValueError: the interval is not positive and finite.
    """
    used = settings or _from_environment()
    handle = UsageHandle(used, used.interval if interval is None else interval)
    meter = meter_provider.get_meter(usage.SCOPE, __version__)
    rows = usage.metrics(usage.figures_in_use(delivery=used.delivery_figures))
    register(meter, map(_checked, rows), _in_this_process(lambda: handle.reading))
    return handle


class UsageHandle:
    """Reads usage figures until it is closed; also a context manager.

    Attributes:
        reading: the last one; None if there is none, or usage figures are off.
    """

    def __init__(self, settings: Settings, interval: float) -> None:
        """Start to read."""
        if not 0 < interval < math.inf:
            raise ValueError("interval: expected a positive, finite number of seconds")
        self.reading: usage.UsageReading | None = None
        self._interval, self._process = interval, os.getpid()
        self._closed, self._resources = threading.Event(), ExitStack()
        self._store = self._resources.enter_context(closing(self._open(settings.state_dir)))
        flag = TelemetryFlag(settings, self._store)
        self._reader = UsageReader(
            settings, self._store, flag, FailureLog(), ended=self._closed.is_set
        )
        self._thread = threading.Thread(target=self._run, args=(flag,), daemon=True)
        self._thread.name = "otel-novu-usage"
        self._thread.start()

    def close(self) -> None:
        """End the readings; from then on nothing is observed."""
        if os.getpid() != self._process:
            return
        self._closed.set()
        self.reading = None
        self._thread.join(_CLOSE_TIMEOUT)
        if not self._thread.is_alive():
            self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, state_dir: Path) -> Store:
        store = Store.open(state_dir)
        try:
            self._resources.enter_context(lock(state_dir, "embedded"))
        except LockedError as error:
            # Two processes must not advance the same counters.
            store.close()
            LOG.warning("%s; the created counters are kept in memory.", error)
            return Store.open_read_only(state_dir)
        return store

    def _run(self, flag: TelemetryFlag) -> None:
        if not self._reader.has_database:
            LOG.warning("Usage figures need MONGO_URL or MONGO_URL_FILE.")
            return
        # An instrumented pymongo must not trace our queries as the application's own.
        context.attach(context.set_value("suppress_instrumentation", value=True))
        due = time.monotonic()
        while not self._closed.is_set():
            flag.read()
            if not flag.enabled:
                self.reading, due = None, time.monotonic()
            elif time.monotonic() >= due:
                self._read()
                due = max(due + self._interval, time.monotonic())
            wait = due - time.monotonic() if flag.enabled else _POLL
            self._closed.wait(max(0.0, min(_POLL, wait)))
        self.reading = None

    def _read(self) -> None:
        try:
            found = self._reader.read()
        except Exception as error:  # noqa: BLE001 - no fault may end the readings to come
            self.reading = None
            LOG.warning("Reading usage figures failed (%s).", type(error).__name__)
            return
        if found is not None:
            self.reading, created = found
            self._store.save_created(created)


def _beacon_reader(settings: Settings) -> Callable[[], beacon.BeaconReading]:
    with closing(Store.open(settings.state_dir)) as store:
        key = pseudonym_key(store) if settings.anonymize else None

    @lru_cache(maxsize=1)  # one collection calls the callback of each instrument
    def read(_second: int) -> beacon.BeaconReading:
        with closing(Store.open_read_only(settings.state_dir)) as store:
            enabled = read_decision(settings, store).enabled
        host = read_host()
        if key is not None:
            host = pseudonymize(host, key)
        return beacon.BeaconReading(time.time(), host, enabled)

    return lambda: read(int(time.monotonic()))


def _in_this_process(current: Callable[[], Reading | None]) -> Callable[[], Reading | None]:
    process = os.getpid()
    return lambda: current() if os.getpid() == process else None


def _checked(row: Metric[Reading]) -> Metric[Reading]:
    """Let a row return only points of its schema: no ReportBuilder checks them here."""

    def read(reading: Reading) -> list[Point]:
        return [p for p in row.read(reading) if row.accepts(p.value, p.attributes)]

    return replace(row, read=read)


def _from_environment() -> Settings:
    """Read what concerns the metrics; exporter, resource and reader are the application's."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if name in _VARIABLES or name.startswith("OTEL_NOVU_")
    }
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    return load(environ, env_file=None, cwd=Path.cwd(), home=home)
