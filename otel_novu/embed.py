"""Puts the metrics on a MeterProvider that an application already has."""

import math
import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Self

from opentelemetry import context
from opentelemetry.metrics import MeterProvider

from otel_novu.consent import TelemetryFlag, read_decision
from otel_novu.identity import pseudonym_key
from otel_novu.log import FailureLog
from otel_novu.metrics import beacon, usage
from otel_novu.metrics.metric import Metric, Point, Reading
from otel_novu.report import register
from otel_novu.settings import Settings, load
from otel_novu.sources.host import pseudonymize, read_host
from otel_novu.sources.novu import UsageSource, address
from otel_novu.state_dir import LockedError, lock
from otel_novu.store import CreatedCount, Store
from otel_novu.version import __version__

# One collection calls each instrument's callback; all of them get the same reading.
_SAME_COLLECTION = 1.0
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
    source = _BeaconSource(settings or _from_environment())
    meter = meter_provider.get_meter(beacon.SCOPE, __version__)
    register(meter, map(_checked, beacon.BEACON), source.current)


def register_usage(
    meter_provider: MeterProvider,
    *,
    settings: Settings | None = None,
    interval: float | None = None,
) -> "UsageHandle":
    """Register the usage metrics, read from Novu's database in a daemon thread.

    While the telemetry flag is off, nothing is observed and no database connection is opened.
    A forked process observes nothing.

    Args:
        meter_provider: the application's own.
        settings: what the user set; None: from the environment.
        interval: between two readings, seconds; None: `OTEL_METRIC_EXPORT_INTERVAL`.

    Returns:
        A handle that ends the readings.

    Raises:
        SettingsError: a variable can't be used.
        StateDirError: the state directory can't be used.
        ValueError: the interval is not positive and finite.
    """
    used = settings or _from_environment()
    handle = UsageHandle(used, used.interval if interval is None else interval)
    meter = meter_provider.get_meter(usage.SCOPE, __version__)
    register(meter, map(_checked, usage.USAGE), handle.current)
    return handle


class UsageHandle:
    """Reads usage figures until it is closed; also a context manager."""

    def __init__(self, settings: Settings, interval: float) -> None:
        """Start to read."""
        if not 0 < interval < math.inf:
            raise ValueError("interval: expected a positive, finite number of seconds")
        self._settings, self._interval = settings, interval
        self._process = os.getpid()
        self._failures = FailureLog()
        self._reading: usage.UsageReading | None = None
        self._closed = threading.Event()
        self._resources = ExitStack()
        self._store = Store.open(settings.state_dir)
        self._resources.callback(self._store.close)
        self._flag = TelemetryFlag(settings, self._store)
        self._counts_kept = self._lock()
        self._thread = threading.Thread(target=self._run, name="otel-novu-usage", daemon=True)
        self._thread.start()

    def current(self) -> usage.UsageReading | None:
        """Return the last reading; None if there is none, usage is off, or after a fork."""
        return self._reading if os.getpid() == self._process else None

    def close(self) -> None:
        """End the readings; from then on nothing is observed."""
        if os.getpid() != self._process:
            return
        self._closed.set()
        self._reading = None
        self._thread.join(_CLOSE_TIMEOUT)
        if not self._thread.is_alive():
            self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self) -> bool:
        try:
            self._resources.enter_context(lock(self._settings.state_dir, "embedded"))
        except LockedError as error:
            # Two processes must not advance the same counters.
            message = f"{error}; the created counters are kept in memory."
            self._failures.failed("state", message)
            return False
        return True

    def _run(self) -> None:
        url = self._settings.mongo_url
        if url is None:
            self._failures.failed("usage", "Usage figures need MONGO_URL or MONGO_URL_FILE.")
            return
        # An instrumented pymongo must not trace our queries as the application's own.
        context.attach(context.set_value("suppress_instrumentation", value=True))
        source = UsageSource(
            url, time.time, lambda: self._closed.is_set() or not self._flag.enabled
        )
        created: Mapping[str, CreatedCount] = self._store.created(address(url))
        due = time.monotonic()
        while not self._closed.is_set():
            self._flag.read()
            wait = _POLL
            if self._flag.enabled:
                if time.monotonic() >= due:
                    created = self._read(source, created)
                    due = max(due + self._interval, time.monotonic())
                wait = min(_POLL, max(0.0, due - time.monotonic()))
            elif self._reading is not None or created:
                self._reading = None
                created = {name: replace(count, paused=True) for name, count in created.items()}
                self._save(created)
                due = time.monotonic()
            self._closed.wait(wait)

    def _read(
        self, source: UsageSource, created: Mapping[str, CreatedCount]
    ) -> Mapping[str, CreatedCount]:
        try:
            reading, round_ = source.read(created, self._settings.query_timeout)
        except Exception as error:  # noqa: BLE001 - no fault may end the readings to come
            self._reading = None
            reason = type(error).__name__
            self._failures.failed("usage", f"Reading usage figures failed ({reason}).")
            return created
        if self._closed.is_set() or not self._flag.enabled:
            return created
        if round_.reasons:
            self._failures.failed("figures", usage.describe_failures(round_.reasons))
        self._reading = reading
        self._save(round_.created)
        return round_.created

    def _save(self, created: Mapping[str, CreatedCount]) -> None:
        if self._counts_kept:
            self._store.save_created(created)


class _BeaconSource:
    """Reads the host, at most once a second."""

    def __init__(self, settings: Settings) -> None:
        self._process = os.getpid()
        self._settings = settings
        with closing(Store.open(settings.state_dir)) as store:
            self._key = pseudonym_key(store) if settings.anonymize else None
        self._lock = threading.Lock()
        self._read_at = -_SAME_COLLECTION
        self._last: beacon.BeaconReading | None = None

    def current(self) -> beacon.BeaconReading | None:
        if os.getpid() != self._process:
            return None
        with self._lock:
            if self._last is None or time.monotonic() - self._read_at >= _SAME_COLLECTION:
                self._last = self._read()
                self._read_at = time.monotonic()
            return self._last

    def _read(self) -> beacon.BeaconReading:
        with closing(Store.open_read_only(self._settings.state_dir)) as store:
            enabled = read_decision(self._settings, store).enabled
        host = read_host()
        if self._key is not None:
            host = pseudonymize(host, self._key)
        return beacon.BeaconReading(time.time(), host, enabled)


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
