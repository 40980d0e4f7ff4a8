"""Delivers waiting reports, oldest first, however long the receiver is away."""

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from otel_novu.log import LOG, FailureLog, plural
from otel_novu.otlp.outcome import Delivered, Outcome, Rejected, Retryable, Sender, describe
from otel_novu.schedule import boot_time
from otel_novu.store import LastAttempt, Report, Store

FIRST_BACKOFF, MAX_BACKOFF = 5.0, 300.0
MAX_RETRY_AFTER = 3600.0
MAX_REJECTED = 3
"""Reports of a scope that are rejected in a row: then it is not a report, but the receiver."""


@dataclass(slots=True)
class Delivery:
    """Sends what waits in the store; times are in seconds."""

    store: Store
    sender: Sender
    timeout: float  # for one attempt
    scopes: Callable[[], tuple[str, ...]]  # that may be sent now
    next_due: Callable[[str], float | None]  # the Unix time of a scope's next report
    failures: FailureLog
    on_delivered: Callable[[], None] = lambda: None  # called when nothing waits any more
    rejected_points: int = 0  # data points that the receiver said it rejected
    outcomes: dict[str, Outcome] = field(default_factory=dict)  # of the last attempt, by scope
    _passed: dict[str, int] = field(default_factory=dict)  # id of the newest delivered, by scope
    _wake: threading.Event = field(default_factory=threading.Event)
    _ending: threading.Event = field(default_factory=threading.Event)
    _deadline: float = math.inf  # of the last delivery, on the boot clock

    def wake(self) -> None:
        """Deliver now: there is a new report, or somebody asks."""
        self._wake.set()

    def shut_down(self, timeout: float) -> None:
        """Make one more attempt, then end; returns at once."""
        self._deadline = boot_time() + timeout
        self._ending.set()
        self._wake.set()

    def run(self) -> None:
        """Deliver until `shut_down`."""
        backoff = FIRST_BACKOFF
        while True:
            self._wake.clear()
            last = self._ending.is_set()
            outcome = self.deliver()
            if last:
                return
            if outcome is None:
                backoff = FIRST_BACKOFF
                self._wake.wait()
            elif isinstance(outcome, Retryable) and outcome.retry_after:
                # As the receiver asks, whatever is read meanwhile; only the shutdown ends it.
                self._ending.wait(min(outcome.retry_after, MAX_RETRY_AFTER))
            else:
                self._wake.wait(random.uniform(backoff / 2, backoff))  # noqa: S311 - spreads load
                backoff = min(2 * backoff, MAX_BACKOFF)

    def deliver(self) -> Outcome | None:
        """Send what waits once; return None if all is delivered, else why not; never raises."""
        try:
            outcome = self._deliver_scopes()
            if outcome is None:
                self.on_delivered()
        except Exception as error:  # noqa: BLE001 - no fault may end the deliveries to come
            reason = type(error).__name__
            self.failures.failed("delivery", f"Delivering reports failed ({reason}); retrying.")
            return Retryable(reason)
        self.failures.recovered("delivery", "Delivering reports works again.")
        return outcome

    def delivered(self, scope: str) -> bool:
        """Return whether the scope's last report was delivered and none of it waits."""
        delivered = isinstance(self.outcomes.get(scope), Delivered)
        return delivered and self.store.waiting((scope,)) == 0

    def _deliver_scopes(self) -> Outcome | None:
        """Deliver in the order of reading: both scopes share the series `target_info`."""
        dropped: dict[str, list[Rejected]] = {scope: [] for scope in self.scopes()}
        left, result = set(dropped), None
        while left and not isinstance(result, Retryable):  # that holds for both scopes
            scope = min(left, key=self._oldest)
            outcome, rejected = self._try(scope)
            # The receiver has accepted a later one, so the fault lies in these reports.
            late = [each for each in rejected if each[0].id < self._passed.get(scope, 0)]
            for report, reason in late:
                self.store.reject_report(report, reason.reason)
                dropped[scope].append(reason)
            if isinstance(outcome, Retryable) or not (late or isinstance(outcome, Delivered)):
                left.remove(scope)
                result = outcome or result
                if isinstance(outcome, Rejected):
                    self._log_failed(scope, outcome)
        for scope, reasons in dropped.items():
            if reasons:
                what, why = plural(len(reasons), f"{scope} report"), describe(reasons[-1])
                LOG.warning("Dropped %s: %s; later ones are accepted.", what, why)
        return result

    def _oldest(self, scope: str) -> float:
        return next((report.id for report in self.store.reports((scope,))), math.inf)

    def _try(self, scope: str) -> tuple[Outcome | None, list[tuple[Report, Rejected]]]:
        outcome: Outcome | None = None
        rejected: list[tuple[Report, Rejected]] = []
        for report in self._candidates(scope):
            outcome = self._send(report)
            if not isinstance(outcome, Rejected):
                break
            rejected.append((report, outcome))
        return outcome, rejected

    def _candidates(self, scope: str) -> Iterator[Report]:
        """Yield the oldest reports, and last the newest: a receiver may reject only what is old."""
        last = 0
        for report in islice(self.store.reports((scope,)), MAX_REJECTED - 1):
            last = report.id
            yield report
        if (newest := self.store.newest(scope)) and newest.id > last:
            yield newest

    def _send(self, report: Report) -> Outcome:
        timeout = min(self.timeout, self._deadline - boot_time())
        if timeout <= 0:
            return Retryable("no time is left")
        began = time.monotonic()
        outcome = self.sender.send(report.body, timeout)
        message = "Sent a %s report to %s: %s (%d bytes, %.0f ms)."
        took, where = 1000 * (time.monotonic() - began), self.sender.endpoint
        LOG.debug(message, report.scope, where, describe(outcome), len(report.body), took)
        self._record(report, outcome)
        return outcome

    def _record(self, report: Report, outcome: Outcome) -> None:
        scope, endpoint, result = report.scope, self.sender.endpoint, describe(outcome)
        newest = report.id >= self._passed.get(scope, 0)
        if isinstance(outcome, Delivered):
            self.store.delete_report(report)
            self._log_delivered(scope, outcome)
            if newest:
                self._passed[scope] = report.id
        elif isinstance(outcome, Retryable):
            self._log_failed(scope, outcome)
        # The last attempt is that of the newest report.
        if newest:
            self.outcomes[scope] = outcome
            times = (report.read_at, time.time(), self.next_due(scope))
            self.store.save_last_attempt(LastAttempt(scope, *times, endpoint, result, report.body))

    def _log_failed(self, scope: str, outcome: Rejected | Retryable) -> None:
        what = f"Sending the {scope} report to {self.sender.endpoint} failed"
        self.failures.failed(f"{scope} sending", f"{what}: {describe(outcome)}; retrying.")

    def _log_delivered(self, scope: str, outcome: Delivered) -> None:
        endpoint, subject = self.sender.endpoint, f"{scope} partial success"
        again = f"{scope.capitalize()} reports are delivered to {endpoint} again."
        self.failures.recovered(f"{scope} sending", again)
        self.rejected_points += outcome.rejected
        what = f"{endpoint} rejected {plural(outcome.rejected, 'data point')} of the {scope} report"
        if outcome.rejected:
            self.failures.failed(subject, f"{what}: {outcome.message or 'no reason given'}.")
        elif outcome.message:
            message = f"{endpoint} accepts the {scope} report, with a warning: {outcome.message}."
            self.failures.failed(subject, message)
        else:
            again = f"{endpoint} accepts the {scope} report without a warning again."
            self.failures.recovered(subject, again)
