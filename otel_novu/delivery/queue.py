"""Brings the reports of one meter to the collector, oldest first, however long it takes."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Lock, Thread

from otel_novu.delivery.report_file import Report
from otel_novu.delivery.spool import Spool
from otel_novu.journal import LOG, Journal
from otel_novu.outcome import Delivered, Later, Outcome, Refused, Sender
from otel_novu.schedule import steady_time

# Distances between attempts, seconds; each is drawn between half of it and the whole.
FIRST_WAIT = 5.0
LONGEST_WAIT = 300.0
LONGEST_ASKED_WAIT = 3_600.0
# Reports in a row that may be refused before the newest is tried: a wrong token refuses all, and
# a week of them need not be sent every few minutes; where the newest passes, it was the reports.
MOST_REFUSED = 2


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to deliver one report."""

    report: Report
    destination: str
    outcome: Outcome


class Queue:
    """The reports of one meter on their way; its thread lives only while one waits."""

    def __init__(
        self,
        meter: str,
        spool: Spool,
        sender: Sender,
        timeout: float,
        journal: Journal,
        record: Callable[[Attempt], None],
    ) -> None:
        """Begin, without a thread.

        Args:
            meter: `beacon` or `usage`.
            spool: keeps the reports.
            sender: sends one.
            timeout: of one attempt, seconds.
            journal: where failures are said.
            record: told of every attempt.
        """
        self._meter = meter
        self._spool = spool
        self._sender = sender
        self._timeout = timeout
        self._journal = journal
        self._record = record
        self._lock = Lock()
        self._wake = Event()
        self._worker: Thread | None = None
        self._closing_at: float | None = None
        self._not_before = 0.0
        self._wait = FIRST_WAIT
        self.rejected = 0

    def put(self, body: bytes, read_at: float) -> Report:
        """Keep a report on disk, then see to its delivery; returns once it is kept."""
        report = self._spool.put(self._meter, body, read_at)
        self.start()
        return report

    def start(self) -> None:
        """See to the delivery of what waits, at once."""
        with self._lock:
            self._wake.set()
            if self._worker is None and self._spool.waiting(self._meter):
                self._start_worker()

    def _start_worker(self) -> None:
        name = f"otel-novu-{self._meter}-delivery"
        worker = Thread(target=self._work, name=name, daemon=True)
        try:
            worker.start()
        except RuntimeError:  # the system gives no more threads
            self._stumbled("no thread could be started")
        else:
            self._worker = worker

    def wind_up(self, timeout: float) -> None:
        """Give what waits one more attempt, then stop; returns at once.

        Args:
            timeout: in all, seconds; what is not delivered by then stays in the spool.
        """
        self._closing_at = steady_time() + timeout
        self.start()

    def close(self) -> None:
        """Wait for the end of `wind_up`, which does not come later than it was told."""
        worker, closing_at = self._worker, self._closing_at
        if worker is not None and closing_at is not None:
            worker.join(max(0.0, closing_at - steady_time()))

    def _work(self) -> None:
        try:
            while self._go_on():
                self._wake.clear()
                self._rest(self.attempt_all())
        except Exception as error:  # noqa: BLE001 - the thread must never end in a traceback
            with self._lock:
                self._worker = None
            self._stumbled(type(error).__name__)

    def _stumbled(self, why: str) -> None:
        self._journal.failed(
            f"{self._meter} delivery",
            f"Delivery of the {self._meter} reports stumbled ({why}); "
            "it is tried again with the next report.",
        )

    def _go_on(self) -> bool:
        with self._lock:
            waits = self._spool.waiting(self._meter) > 0
            closed = self._closing_at is not None and not self._wake.is_set()
            if not waits or closed:
                self._worker = None
                return False
            return True

    def _rest(self, seconds: float) -> None:
        """Wait before the next attempts; a new report ends it, unless the receiver asked."""
        if self._closing_at is None:
            self._wake.wait(seconds)
        while self._closing_at is None and (left := self._not_before - steady_time()) > 0:
            self._wake.clear()
            self._wake.wait(left)

    def attempt_all(self) -> float:
        """Try what waits, oldest first, until one has to wait.

        Returns:
            Seconds until the next attempt makes sense; 0 where nothing waits.
        """
        refused: list[Report] = []
        report = None if self._must_wait() else self._spool.oldest(self._meter)
        while report is not None and not self._must_wait():
            outcome = self._attempt(report)
            match outcome:
                case Delivered():
                    self._delivered(report, outcome, refused)
                    refused = []
                    report = self._spool.oldest(self._meter)
                case Refused():
                    refused.append(report)
                    report = self._next_probe(refused)
                case Later():
                    return self._later(outcome)
        if refused:
            return LONGEST_WAIT
        # What still waits can't be read at the moment, or not be sent before its time.
        return FIRST_WAIT if self._spool.waiting(self._meter) else 0.0

    def _next_probe(self, refused: list[Report]) -> Report | None:
        """Choose what to try after a refusal: is it this report, or all of them?"""
        if len(refused) > MOST_REFUSED:
            return None
        if len(refused) == MOST_REFUSED:
            newest = self._spool.newest(self._meter)
            return None if newest in refused else newest
        return self._spool.after(refused[-1])

    def _must_wait(self) -> bool:
        now = steady_time()
        return self._not_before > now or self._time_left(now) <= 0

    def _time_left(self, now: float) -> float:
        if self._closing_at is None:
            return self._timeout
        return min(self._timeout, self._closing_at - now)

    def _attempt(self, report: Report) -> Outcome:
        LOG.debug("Sending a %s report to %s.", self._meter, self._sender.destination)
        outcome = self._sender.send(report.body, self._time_left(steady_time()))
        self._record(Attempt(report, self._sender.destination, outcome))
        if not isinstance(outcome, Delivered):
            follows = "kept and tried again" if report.kept else "held in memory and tried again"
            self._journal.failed(
                f"{self._meter} delivery",
                f"The {self._meter} report was not delivered to {self._sender.destination}: "
                f"{outcome.why}; it is {follows}.",
                at_the_end=self._closing_at is not None,
            )
        return outcome

    def _delivered(self, report: Report, outcome: Delivered, refused: list[Report]) -> None:
        self._spool.remove(report)
        self._wait = FIRST_WAIT
        for earlier in refused:
            self._spool.set_aside(earlier, "refused, while a later one was taken")
        self._journal.passed(
            f"{self._meter} delivery",
            f"The {self._meter} reports are delivered again to {self._sender.destination}.",
        )
        if outcome.rejected or outcome.message:
            self.rejected += outcome.rejected
            self._journal.failed(
                f"{self._meter} rejection",
                f"{self._sender.destination} took the {self._meter} report but rejected "
                f"{outcome.rejected} of its data points: {outcome.message or 'no reason given'}.",
            )
        else:
            self._journal.passed(
                f"{self._meter} rejection",
                f"{self._sender.destination} takes the {self._meter} reports whole again.",
            )

    def _later(self, outcome: Later) -> float:
        wait = self._wait * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        self._wait = min(self._wait * 2, LONGEST_WAIT)
        if outcome.after is None:
            return wait
        asked = min(outcome.after, LONGEST_ASKED_WAIT)
        self._not_before = steady_time() + asked
        return max(wait, asked)
