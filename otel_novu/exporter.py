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
from otel_novu.metrics import beacon
from otel_novu.otlp import sender
from otel_novu.otlp.outcome import Delivered
from otel_novu.reporter import Reporter
from otel_novu.schedule import Schedule
from otel_novu.settings import Settings
from otel_novu.sources.host import read_host
from otel_novu.store import Store

SCOPES = ("beacon", "usage")
# SIGTERM: the last readings, then the last delivery; together less than five seconds.
LAST_READING, LAST_DELIVERY = 1.5, 2.0
# How often the admin setting is read and a suspend is noticed, seconds.
POLL = 60.0
# A fleet that starts at the same moment does not send its first reports at the same moment.
MAX_START_DELAY = 1.0
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


class Exporter:
    """Reads, keeps and delivers the reports of one state directory.

    Args:
        settings: what the user set.
        store: of the state directory, locked by this process.
        now: the wall clock, Unix time in seconds.
        host: reads the machine.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        now: Callable[[], float] = time.time,
        host: Callable[[], beacon.Host] = read_host,
    ) -> None:
        self._settings, self._store, self._now = settings, store, now
        self.flag = TelemetryFlag(settings, store)
        self.failures = FailureLog()
        self.reporter = Reporter(settings, store, self.flag, self.failures, now, host)
        self._schedules: dict[str, Schedule] = {}
        self._stopping = threading.Event()
        self._wake = {scope: threading.Event() for scope in SCOPES}
        self.delivery: Delivery | None = None
        if "otlp" in self.reporter.destinations:
            self.delivery = self.reporter.delivery = Delivery(
                store=store,
                sender=sender(settings.otlp),
                timeout=settings.otlp.timeout,
                scopes=self.flag.scopes,
                next_due=self.next_due,
                now=now,
                failures=self.failures,
            )

    def delivered(self, scope: str) -> bool:
        """Tell whether the scope's last report was delivered and none of it waits."""
        if self.delivery is None:
            return True
        outcome = self.delivery.outcomes.get(scope)
        return isinstance(outcome, Delivered) and self._store.waiting((scope,)) == 0

    def next_due(self, scope: str) -> float | None:
        """Return the Unix time of the scope's next report, None if none is scheduled."""
        schedule = self._schedules.get(scope)
        return None if schedule is None else self._now() + schedule.remaining()

    def run(self) -> str:
        """Report until SIGTERM or SIGINT, whose name is returned; SIGHUP delivers now.

        The caller ends the process with `os._exit`: a thread may hang in a resolver.
        """
        # Before the threads start, which inherit the mask.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        readers = [self._start(partial(self._read_periodically, scope), scope) for scope in SCOPES]
        delivery = None
        if self.delivery is not None:
            delivery = self._start(self.delivery.run, "delivery")
        while (number := signal.sigwait(_SIGNALS)) == signal.SIGHUP:
            self._look_now()
        LOG.info("Stopping on %s.", signal.Signals(number).name)
        self._stopping.set()
        for event in self._wake.values():
            event.set()
        _join(readers, LAST_READING)
        if self.delivery is not None and delivery is not None:
            self.delivery.shut_down(LAST_DELIVERY)
            _join([delivery], LAST_DELIVERY)
        return signal.Signals(number).name

    def once(self) -> None:
        """Make one report of each scope, and deliver what waits once.

        It may leave threads behind that hang: end the process with `os._exit` then.
        """
        timeout = self._settings.query_timeout
        self.reporter.follow_flag()
        _join(
            [self._start(partial(self._report, scope, timeout), scope) for scope in SCOPES],
            timeout + 1,
        )
        self.flush()

    def flush(self) -> None:
        """Deliver what waits once, oldest first."""
        if self.delivery is not None:
            waiting = self._store.waiting() or 0
            seconds = self._settings.otlp.timeout * max(1, waiting) + 1
            _join([self._start(self.delivery.deliver, "delivery")], seconds)

    def _report(self, scope: str, timeout: float) -> None:
        self.reporter.report(scope, timeout, self.next_due(scope))

    def _start(self, call: Callable[[], object], name: str) -> threading.Thread:
        thread = threading.Thread(target=call, name=f"otel-novu-{name}", daemon=True)
        thread.start()
        return thread

    def _look_now(self) -> None:
        """Obey SIGHUP: read the admin setting, and deliver what waits."""
        self.flag.read()
        self._wake["usage"].set()
        if self.delivery is not None:
            self.delivery.wake()

    def _read_periodically(self, scope: str) -> None:
        """Report at the start, at every due time, when switched on, and at the end."""
        schedule = Schedule.start(self.reporter.instance, self._settings.interval, self._now())
        self._schedules[scope] = schedule
        self._stopping.wait(random.uniform(0, MAX_START_DELAY))  # noqa: S311 - spreads load
        report_now = True
        while not self._stopping.is_set():
            report_now |= scope == "usage" and self.reporter.follow_flag()
            if report_now or schedule.remaining() <= 0:
                self._report(scope, self._settings.query_timeout)
                report_now = False
                if schedule.remaining() <= 0:
                    schedule.advance()
            self._wake[scope].wait(min(schedule.remaining(), POLL))
            if not self._stopping.is_set():
                self._wake[scope].clear()
        self._report(scope, LAST_READING)


def _join(threads: list[threading.Thread], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
