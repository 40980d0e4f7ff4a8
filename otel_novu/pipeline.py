"""One table from its reading to the collector, on its own, so that neither holds up the other."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import Generic, Protocol, TypeVar

from opentelemetry.sdk.metrics.export import MetricExporter

from otel_novu.delivery.queue import Queue
from otel_novu.journal import Journal
from otel_novu.meter import Made, ReportMeter


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
    record: Callable[[Made, float], None]


class Pipeline(Generic[R]):
    """Reads one table, makes its report and hands it over, on a thread that lives no longer."""

    def __init__(
        self,
        name: str,
        meter: ReportMeter[R],
        read: Callable[[float], R],
        outlets: Outlets,
        journal: Journal,
    ) -> None:
        """Begin, without a thread.

        Args:
            name: `beacon` or `usage`.
            meter: makes a report of a reading.
            read: reads, within the seconds that it is given.
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
        self.kept_in = 0

    @property
    def rejected(self) -> int:
        """Data points that a receiver said it rejected."""
        return self._outlets.queue.rejected if self._outlets.queue is not None else 0

    def report(self, timeout: float) -> Event:
        """Begin a report; returns at once.

        Args:
            timeout: for the reading, seconds.

        Returns:
            Set once the report is handed over (kept on disk) or given up.
        """
        handed_over = Event()
        self._under_way = [thread for thread in self._under_way if thread.is_alive()]
        if len(self._under_way) >= MOST_UNDER_WAY:
            self._stumbled("earlier reports of it are still under way")
            handed_over.set()
            return handed_over
        thread = Thread(
            target=self._report,
            args=(timeout, handed_over),
            name=f"otel-novu-{self.name}-report",
            daemon=True,
        )
        self._under_way.append(thread)
        thread.start()
        return handed_over

    def deliver_waiting(self) -> None:
        """See to the delivery of reports that wait from an earlier run."""
        if self._outlets.queue is not None:
            self._outlets.queue.start()

    def close(self, timeout: float) -> None:
        """Stop: one more attempt to deliver what waits, then no instrument is left.

        Args:
            timeout: of the attempt, seconds.
        """
        if self._outlets.queue is not None:
            self._outlets.queue.close(timeout)
        self._meter.close()

    def _report(self, timeout: float, handed_over: Event) -> None:
        try:
            reading = self._read(timeout)
            with self._making:
                made = self._meter.make(reading, reading.timestamp)
            if made is not None:
                self._hand_over(made, reading.timestamp)
            self._journal.passed(self.name, f"The {self.name} report is made again.")
        except Exception as error:  # noqa: BLE001 - no fault may stop the reports to come
            self._stumbled(type(error).__name__)
        finally:
            handed_over.set()

    def _hand_over(self, made: Made, read_at: float) -> None:
        self.kept_in += made.kept_in
        if made.kept_in:
            self._journal.failed(
                f"{self.name} door",
                f"{made.kept_in} data points of the {self.name} report fitted no row of the "
                "tables and were not sent; the others were.",
            )
        if self._outlets.console is not None:
            self._outlets.console.export(made.data)
        if self._outlets.queue is not None:
            self._outlets.queue.put(made.body, read_at)
        else:
            self._outlets.record(made, read_at)

    def _stumbled(self, why: str) -> None:
        self._journal.failed(
            self.name,
            f"The {self.name} report could not be made ({why}); the next one is tried when due.",
        )
