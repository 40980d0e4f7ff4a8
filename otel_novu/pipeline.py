"""One table from its reading to the collector, on its own, so that neither holds up the other."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Generic, Protocol, TypeVar

from opentelemetry.sdk.metrics.export import MetricExporter

from otel_novu.delivery.queue import Queue
from otel_novu.journal import Journal
from otel_novu.meter import Made, ReportMeter, Request


class Timed(Protocol):
    """A reading knows when it was made."""

    @property
    def timestamp(self) -> float:
        """Unix time, seconds."""


R = TypeVar("R", bound=Timed)

# Reports of one table that may be under way at once: a hung disk must not stop the next reading.
MOST_UNDER_WAY = 8


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where the reports of one table go.

    Args:
        queue: to the collector, or None.
        console: the SDK's own console exporter, or None.
        record: told of a report that only the console got.
    """

    queue: Queue | None
    console: MetricExporter | None
    record: Callable[[Request, float], None]


class Pipeline(Generic[R]):
    """Reads one table, makes its report and hands it over, on a thread that lives no longer."""

    def __init__(
        self,
        name: str,
        meter: ReportMeter[R],
        read: Callable[[float], R | None],
        outlets: Outlets,
        journal: Journal,
    ) -> None:
        """Begin, without a thread.

        Args:
            name: `beacon` or `usage`.
            meter: makes a report of a reading.
            read: reads, within the seconds that it is given; None where it did not get its turn.
            outlets: where reports go.
            journal: where failures are said.
        """
        self.name = name
        self._meter = meter
        self._read = read
        self._outlets = outlets
        self._journal = journal
        self._making = Lock()
        self._under_way: list[Thread] = []
        self._discarding = False
        self.kept_in = 0
        self.console_failed = False

    @property
    def rejected(self) -> int:
        """Data points that a receiver said it rejected."""
        return self._outlets.queue.rejected if self._outlets.queue is not None else 0

    def report(self, timeout: float) -> None:
        """Begin a report; returns at once.

        Args:
            timeout: for the reading, seconds.
        """
        self._under_way = [thread for thread in self._under_way if thread.is_alive()]
        if len(self._under_way) >= MOST_UNDER_WAY:
            self._stumbled("earlier reports of it are still under way")
            return
        thread = Thread(
            target=self._report,
            args=(timeout,),
            name=f"otel-novu-{self.name}-report",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads
            self._stumbled("no thread could be started")
        else:
            self._under_way.append(thread)

    def deliver_waiting(self) -> None:
        """See to the delivery of reports that wait from an earlier run."""
        if self._outlets.queue is not None:
            self._outlets.queue.start()

    def settle(self, timeout: float) -> None:
        """Wait until all reports under way are handed over or given up.

        Args:
            timeout: in all, seconds.
        """
        deadline = time.monotonic() + timeout
        for thread in self._under_way:
            thread.join(max(0.0, deadline - time.monotonic()))

    def wind_up(self, timeout: float) -> None:
        """Give what waits one more attempt to be delivered; returns at once.

        Args:
            timeout: of the attempt, seconds.
        """
        if self._outlets.queue is not None:
            self._outlets.queue.wind_up(timeout)

    def close(self) -> None:
        """Wait for the end of `wind_up`; then no instrument is left."""
        if self._outlets.queue is not None:
            self._outlets.queue.close()
        self._meter.close()

    def discard(self) -> None:
        """End at once: what is being read is not kept, what waits stays in the spool."""
        self._discarding = True
        self.wind_up(0.0)
        self._meter.close()

    def _report(self, timeout: float) -> None:
        try:
            reading = self._read(timeout)
            if reading is None:
                return
            made = self._make(reading)
            if made.request is not None and not self._discarding:
                self._hand_over(made.request, reading.timestamp)
            self._journal.passed(self.name, f"The {self.name} report is made again.")
        except Exception as error:  # noqa: BLE001 - no fault may stop the reports to come
            self._stumbled(type(error).__name__)

    def _make(self, reading: R) -> Made:
        with self._making:
            made = self._meter.make(reading, reading.timestamp)
            self.kept_in += made.kept_in
        self._say_kept_in(made)
        return made

    def _hand_over(self, request: Request, read_at: float) -> None:
        if self._outlets.queue is not None:
            self._outlets.queue.put(request.body, read_at)
        written = self._write(request)
        if written and self._outlets.queue is None:
            self._outlets.record(request, read_at)

    def _write(self, request: Request) -> bool:
        """Write to the console; one that fails must cost nothing but itself."""
        if self._outlets.console is None:
            return True
        subject = f"{self.name} console"
        try:
            self._outlets.console.export(request.data)
        except (OSError, ValueError) as error:
            why = type(error).__name__
            self._journal.failed(
                subject, f"The {self.name} report could not be written to the console ({why})."
            )
            self.console_failed = True
            return False
        self._journal.passed(subject, f"The {self.name} reports are written to the console again.")
        return True

    def _say_kept_in(self, made: Made) -> None:
        if made.kept_in:
            self._journal.failed(
                f"{self.name} door",
                f"{made.kept_in} data points of the {self.name} report fitted no row of the "
                "tables and were not sent; the others were.",
            )
        if made.foreign:
            self._journal.failed(
                f"{self.name} resource",
                f"{made.foreign} attributes of the {self.name} report's resource are neither ours "
                "nor of OTEL_RESOURCE_ATTRIBUTES; they were not sent.",
            )

    def _stumbled(self, why: str) -> None:
        self._journal.failed(
            self.name,
            f"The {self.name} report could not be made ({why}); the next one is tried when due.",
        )
