"""Puts the tables on a MeterProvider that an application already has."""

import math
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Self

from opentelemetry.metrics import MeterProvider

from otel_novu import unread
from otel_novu.instruments import register
from otel_novu.journal import Journal
from otel_novu.metrics import beacon, usage
from otel_novu.metrics.metric import Metric, Point, Reading
from otel_novu.reports import Figures, novu_figures
from otel_novu.settings import Settings, load
from otel_novu.sources.beacon_source import BeaconSource
from otel_novu.state.consent import Admin, decide, read_admin
from otel_novu.state.created_file import CreatedFile, Unsaved
from otel_novu.state.directory import Held, Lock, StateDirectory
from otel_novu.state.pseudonym import pseudonyms
from otel_novu.version import __version__

# One collection asks each row's instrument; they get the same reading.
_SAME_COLLECTION = 1.0
# How often the admin setting is looked at, seconds.
_LOOK = 5.0
# How long a reading under way may take to end when it is told to, seconds.
_ENDING = 5.0
_OURS = ("NOVU_TELEMETRY", "MONGO_URL", "MONGO_URL_FILE", "OTEL_METRIC_EXPORT_INTERVAL")


def register_beacon(meter_provider: MeterProvider, *, settings: Settings | None = None) -> None:
    """Register the beacon's table; the application's own readers and exporters do the rest.

    The host is read when the metrics are collected; nothing of that waits. A process that is
    forked off this one observes nothing, so that nothing is told twice.

    Args:
        meter_provider: the application's own.
        settings: what the user set; None: from the environment.

    Raises:
        SettingsError: a variable can't be used.
        StateError: the state directory can't be used.
    """
    readings = _BeaconReadings(settings or _from_environment())
    meter = meter_provider.get_meter(beacon.SCOPE, __version__)
    register(meter, map(_checked, beacon.BEACON), readings.current)


def register_usage(
    meter_provider: MeterProvider,
    *,
    settings: Settings | None = None,
    interval: float | None = None,
) -> "UsageHandle":
    """Register the usage table, read from Novu's database on a daemon thread of its own.

    While the telemetry flag is off, nothing is observed and no database connection is opened.
    A process that is forked off this one observes nothing either, so that nothing is told twice.

    Args:
        meter_provider: the application's own.
        settings: what the user set; None: from the environment.
        interval: between two readings, seconds; None: `OTEL_METRIC_EXPORT_INTERVAL`.

    Returns:
        A handle that ends the readings.

    Raises:
        SettingsError: a variable can't be used.
        StateError: the state directory can't be used.
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
        """Begin to read."""
        if not 0 < interval < math.inf:
            raise ValueError("the interval between two readings has to be positive and finite")
        self._settings = settings
        self._interval = interval
        self._process = os.getpid()
        self._consent = _Consent(settings)
        self._journal = Journal()
        self._reading: usage.UsageReading | None = None
        self._closed = threading.Event()
        self._state = StateDirectory.open(settings.state_dir)
        self._lock = self._take_lock()
        self._source = self._make_source()
        self._thread = threading.Thread(target=self._read_on, name="otel-novu-usage", daemon=True)
        self._thread.start()

    def current(self) -> usage.UsageReading | None:
        """Return the last reading, or None where there is none, usage is off or after a fork."""
        return self._reading if _is_still(self._process) else None

    def close(self) -> None:
        """End the readings, one under way included; from then on nothing is observed."""
        if not _is_still(self._process):
            return
        self._closed.set()
        self._source.end_by(0.0)
        self._reading = None
        self._thread.join(_ENDING)
        if not self._thread.is_alive():
            if self._lock is not None:
                self._lock.release()
            self._state.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_lock(self) -> Lock | None:
        try:
            return self._state.lock("embedded")
        except Held as error:
            # Two must not count into one file; these counters live as long as the process.
            self._journal.failed("state", f"{error}; the created counters are kept in memory.")
            return None

    def _make_source(self) -> Figures:
        return novu_figures(
            self._settings, Unsaved(self._state) if self._lock is None else CreatedFile(self._state)
        )

    def _read_on(self) -> None:
        due = time.monotonic()
        while not self._closed.is_set():
            if not self._consent.is_given(self._state):
                self._pause()
                due = time.monotonic()
            elif time.monotonic() >= due:
                self._read()
                due = max(due + self._interval, time.monotonic())
            left = max(0.0, due - time.monotonic())
            self._closed.wait(min(_LOOK, left) if self._reading is not None else _LOOK)
        self._reading = None

    def _pause(self) -> None:
        self._reading = None
        self._source.forget_begin()

    def _read(self) -> None:
        if self._settings.mongo_url is None:
            self._journal.failed(
                "usage", "Usage figures are on, but neither MONGO_URL nor MONGO_URL_FILE is set."
            )
            return
        try:
            round_ = self._source.read(self._settings.query_timeout, time.time)
        except Exception as error:  # noqa: BLE001 - no fault may stop the readings to come
            self._reading = None
            why = type(error).__name__
            self._journal.failed("usage", f"Usage figures could not be read ({why}).")
            return
        if not self._closed.is_set():
            unread.say(self._journal, round_.reasons, "they are tried again with the next reading")
            self._reading = round_.reading


class _BeaconReadings:
    def __init__(self, settings: Settings) -> None:
        self._process = os.getpid()
        self._consent = _Consent(settings)
        self._state = StateDirectory.open(settings.state_dir)
        hidden = pseudonyms(self._state) if settings.anonymize else None
        self._source = BeaconSource(time.time, hidden)
        self._lock = threading.Lock()
        self._read_at = -_SAME_COLLECTION
        self._last: beacon.BeaconReading | None = None

    def current(self) -> beacon.BeaconReading | None:
        if not _is_still(self._process):
            return None
        with self._lock:
            if self._last is None or time.monotonic() - self._read_at >= _SAME_COLLECTION:
                self._last = self._read()
                self._read_at = time.monotonic()
            return self._last

    def _read(self) -> beacon.BeaconReading:
        return self._source.read(None, usage_enabled=self._consent.is_given(self._state))


class _Consent:
    """The telemetry flag, as it was last known."""

    def __init__(self, settings: Settings) -> None:
        self._variable = settings.telemetry
        self._given = decide(self._variable, Admin.NO_ANSWER).enabled

    def is_given(self, state: StateDirectory) -> bool:
        admin = read_admin(state)
        if admin is not Admin.NO_ANSWER:  # what can't be read just now was not changed just now
            self._given = decide(self._variable, admin).enabled
        return self._given


def _is_still(process: int) -> bool:
    """Tell a process from its forks: the SDK's readers go on in them, and would report twice."""
    return os.getpid() == process


def _checked(row: Metric[Reading]) -> Metric[Reading]:
    """Let a row hand out only what has its shape: the door of the exporter is not here."""

    def read(reading: Reading) -> list[Point]:
        points = row.read(reading)
        return [point for point in points if row.admits(point.value, point.attributes)]

    return replace(row, read=read)


def _from_environment() -> Settings:
    """Read what concerns the tables; exporter, resource and reader are the application's."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if name in _OURS or name.startswith("OTEL_NOVU_")
    }
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    return load(environ, env_file=None, cwd=Path.cwd(), home=home)
