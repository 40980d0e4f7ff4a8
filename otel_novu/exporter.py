"""The running exporter: a thread reads the beacon, one the usage figures, and one delivers."""

import random
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

from otel_novu.consent import TelemetryFlag
from otel_novu.delivery import Delivery
from otel_novu.log import LOG, FailureLog
from otel_novu.otlp import sender
from otel_novu.otlp.console import ConsoleSender
from otel_novu.otlp.outcome import Sender
from otel_novu.reporter import BEACON_WAIT, Reporter
from otel_novu.schedule import Schedule, boot_time
from otel_novu.settings import Settings
from otel_novu.store import SCOPES, Store

# SIGTERM: the last readings, then the last delivery; together less than five seconds.
LAST_READING, LAST_DELIVERY = 1.5, 2.0
# How often the admin setting is read and a suspend is noticed, seconds.
POLL = 60.0
# A fleet that starts at the same moment does not send its first reports at the same moment.
MAX_START_DELAY = 1.0
# A round that failed as a whole is read again after these seconds: the database may just start.
RETRIES = (10.0, 10.0, 30.0, 60.0, 300.0)
_DAY = 86400.0
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


class Exporter:
    """Reads, keeps and delivers the reports of one state directory, locked by this process."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self.flag, self.failures = TelemetryFlag(settings, store), FailureLog()
        self.delivery = Delivery(
            store=store,
            sender=_sender(settings),
            timeout=settings.otlp.timeout,
            scopes=lambda: self.flag.scopes() if self.destination else (),
            next_due=self.next_due,
            failures=self.failures,
            on_delivered=self._log_delivered,
        )
        self.reporter = Reporter(settings, store, self.flag, self.delivery)
        self._schedules: dict[str, Schedule] = {}
        self._stopping = threading.Event()
        self._wake = {scope: threading.Event() for scope in SCOPES}
        self._logged_at: float | None = None  # boot clock

    @property
    def destination(self) -> str:
        """Where reports go; empty if nothing is sent."""
        return "" if self._settings.why_nothing_is_sent else self.delivery.sender.endpoint

    def next_due(self, scope: str) -> float | None:
        """Return the Unix time of the scope's next report, None if none is scheduled."""
        schedule = self._schedules.get(scope)
        return None if schedule is None else time.time() + schedule.remaining()

    def describe(self, scope: str) -> str:
        """Name the last report of a scope and how much of it was read."""
        return self.reporter.usage.summary() if scope == "usage" else scope

    def run(self) -> None:
        """Report until SIGTERM or SIGINT; SIGHUP delivers now.

        The caller ends the process with `os._exit`: a thread may hang in a resolver.
        """
        # Before the threads start, which inherit the mask.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        instance, interval = self.reporter.instance, self._settings.interval
        self._schedules = {scope: Schedule(instance, interval, time.time()) for scope in SCOPES}
        delay = random.uniform(0, MAX_START_DELAY)  # noqa: S311 - spreads load
        read = self._read_periodically
        readers = [self._start(partial(read, scope, delay), scope) for scope in SCOPES]
        delivery = self._start(self.delivery.run, "delivery")
        while (number := signal.sigwait(_SIGNALS)) == signal.SIGHUP:
            self._look_now()
        LOG.info("Stopping on %s.", signal.Signals(number).name)
        self._stopping.set()
        for event in self._wake.values():
            event.set()
        _join(readers, BEACON_WAIT + LAST_READING)
        self.delivery.shut_down(LAST_DELIVERY)
        _join([delivery], LAST_DELIVERY)

    def once(self) -> None:
        """Make one report of each scope, and deliver what waits once.

        It may leave threads behind that hang: end the process with `os._exit` then.
        """
        self.reporter.follow_flag()
        readers = [self._start(partial(self.reporter.report, scope), scope) for scope in SCOPES]
        _join(readers, BEACON_WAIT + self._settings.query_timeout + 1)
        self.flush()

    def flush(self) -> None:
        """Deliver what waits once, oldest first."""
        seconds = self._settings.otlp.timeout * max(1, self._store.waiting() or 0) + 1
        _join([self._start(self.delivery.deliver, "delivery")], seconds)

    def _start(self, call: Callable[[], object], name: str) -> threading.Thread:
        thread = threading.Thread(target=call, name=f"otel-novu-{name}", daemon=True)
        thread.start()
        return thread

    def _look_now(self) -> None:
        """Obey SIGHUP: read the admin setting, and deliver what waits."""
        self.flag.read()
        self._wake["usage"].set()
        self.delivery.wake()

    def _read_periodically(self, scope: str, delay: float) -> None:
        """Report at the start, at every due time, when switched on, and at the end."""
        schedule, wake, failed = self._schedules[scope], self._wake[scope], 0
        self._stopping.wait(delay)
        retry_at, report_now = float("inf"), True
        while not self._stopping.is_set():
            report_now |= scope == "usage" and self.reporter.follow_flag()
            due = report_now or schedule.remaining() <= 0
            if due or boot_time() >= retry_at:
                self.reporter.report(scope, retry=not due)
                failed = failed + 1 if self._must_retry(scope) else 0
                wait = RETRIES[min(failed, len(RETRIES)) - 1] if failed else float("inf")
                report_now, retry_at = False, boot_time() + wait
                if schedule.remaining() <= 0:
                    schedule.advance()
            wake.wait(max(0.0, min(schedule.remaining(), retry_at - boot_time(), POLL)))
            if not self._stopping.is_set():
                wake.clear()
        self.reporter.report(scope, LAST_READING)

    def _must_retry(self, scope: str) -> bool:
        return scope == "usage" and self.flag.enabled and self.reporter.usage.all_failed

    def _log_delivered(self) -> None:
        """Log the first complete delivery, and then one a day."""
        scopes = self.reporter.scopes()
        if not (self._schedules and scopes and all(map(self.delivery.delivered, scopes))):
            return
        first = self._logged_at is None
        if self._logged_at is not None and boot_time() - self._logged_at < _DAY:
            return
        self._logged_at = boot_time()
        what = ", ".join(self.describe(scope) for scope in scopes)
        due = time.strftime("%H:%M:%SZ", time.gmtime(self.next_due("beacon") or time.time()))
        verb = "First report delivered" if first else "Reports are delivered"
        LOG.info("%s to %s: %s; next at %s.", verb, self.destination, what, due)


def _sender(settings: Settings) -> Sender:
    receiver = sender(settings.otlp)
    if "console" not in settings.exporters:
        return receiver
    return ConsoleSender(receiver if "otlp" in settings.exporters else None)


def _join(threads: list[threading.Thread], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
