"""Both pipelines of one process, and the coming and going of the usage one."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from threading import Lock

from otel_novu import settings as s
from otel_novu import unread
from otel_novu.console import PatientConsole
from otel_novu.delivery.otlp import sender
from otel_novu.delivery.queue import Attempt, Queue
from otel_novu.delivery.spool import Spool
from otel_novu.journal import Journal
from otel_novu.meter import ReportMeter, Request
from otel_novu.metrics import beacon, usage
from otel_novu.outcome import Delivered, Outcome, Sender
from otel_novu.patience import Patience
from otel_novu.pipeline import Outlets, Pipeline, R
from otel_novu.reports import Sources, beacon_meter, usage_meter
from otel_novu.sources.beacon_source import BeaconSource
from otel_novu.state import last_report
from otel_novu.state.consent import Decision, keep_decision
from otel_novu.state.created_file import CreatedFile
from otel_novu.state.directory import NotKept, StateDirectory
from otel_novu.state.identity import Identity
from otel_novu.state.pseudonym import pseudonyms

# A last report at the end of the process, seconds: reading, handing over and sending come to less
# than five, whatever hangs.
LAST_READING = 1.0
LAST_SENDING = 1.75
# From the end of a reading to the report on disk, seconds, on a bad night; half of it is what a
# reading in which something hangs takes beyond its time.
_HANDING_OVER = 1.0
# How long a report may take to be written to the console, seconds.
_CONSOLE_PATIENCE = 5.0
_NO_FIGURE_FOLLOWS = "the beacon goes on, and they are tried again with the next report"
# What is left of a reading's time after an earlier one, seconds, below which it is left out.
_LEAST_READING = 0.5


class Exporter:
    """The beacon's pipeline, and the usage one while the flag is set."""

    def __init__(
        self,
        settings: s.Settings,
        state: StateDirectory,
        identity: Identity,
        decision: Decision,
        now: Callable[[], float] = time.time,
        sources: Sources | None = None,
    ) -> None:
        """Build; nothing is read or sent yet.

        Args:
            settings: what the user set.
            state: the state directory, held by this process.
            identity: who reports.
            decision: the telemetry flag.
            now: the wall clock, Unix time in seconds.
            sources: what is read; None: this machine, and the database that the settings name.
        """
        self.decision = decision
        self.identity = identity
        self.journal = Journal()
        self.next_due: Callable[[], float] = lambda: now() + settings.interval
        self.outcomes: dict[str, Outcome] = {}
        self.unread_figures: Mapping[str, str] = {}
        self._settings = settings
        self._state = state
        self._now = now
        self._began = now()
        self._console = Patience("otel-novu-console", _CONSOLE_PATIENCE)
        self._reading_usage = Lock()
        self._waiting_to_read_usage = Lock()
        self._left_out = False
        self._last_reading_ends = math.inf
        self._begin_to_forget = False
        # Of usage pipelines that are gone: the counters of the beacon never fall.
        self._rejected = self._kept_in = 0
        self._exporters = () if settings.sdk_disabled else settings.exporters
        self._sender: Sender | None = None
        if s.Exporter.OTLP in self._exporters:
            self._sender = sender(settings.otlp)
        self._spool = Spool(state, settings.spool_max_age, settings.spool_max_bytes, now)
        hidden = pseudonyms(state) if settings.anonymize else None
        if hidden is not None and hidden.warning is not None:
            self.journal.failed("pseudonyms", hidden.warning)
        sources = Sources() if sources is None else sources
        self._beacon_source = BeaconSource(now, hidden, sources.host)
        self._usage_source = sources.figures(settings, CreatedFile(state))
        self._beacon: Pipeline[beacon.BeaconReading] = self._pipeline(
            "beacon", beacon_meter(settings, identity.value, self._began), self._read_beacon
        )
        self._usage: Pipeline[usage.UsageReading] | None = None
        self.set_usage(decision)

    @property
    def meters(self) -> tuple[str, ...]:
        """What is reported: `beacon`, `usage`; nothing where nothing is to be sent."""
        return tuple(pipeline.name for pipeline in self._reporting()) if self._exporters else ()

    @property
    def due(self) -> int:
        """Reports that wait and are sent by this exporter; usage reports only while they are on."""
        return sum(self._spool.waiting(pipeline.name) for pipeline in self._pipelines())

    def delivered(self, meter: str) -> bool:
        """Tell whether the meter's last attempt delivered, and nothing of it waits any more."""
        waits = self._sender is not None and self._spool.waiting(meter) > 0
        return isinstance(self.outcomes.get(meter), Delivered) and not waits

    @property
    def failed(self) -> bool:
        """Whether the last attempt of some meter did not deliver."""
        return not all(isinstance(outcome, Delivered) for outcome in [*self.outcomes.values()])

    @property
    def console_failed(self) -> bool:
        """Whether some report could not be written to the console."""
        return any(pipeline.console_failed for pipeline in self._pipelines())

    @property
    def waiting(self) -> int:
        """Reports that wait for delivery."""
        return self._spool.waiting_total

    @property
    def unkept(self) -> int:
        """Those of them that the disk does not hold."""
        return sum(not report.kept for report in self._spool.reports())

    @property
    def destinations(self) -> str:
        """Where reports go, as a clause."""
        if self._settings.sdk_disabled:
            return "nowhere (OTEL_SDK_DISABLED is true)"
        names = [self._sender.destination] if self._sender is not None else []
        names += ["the console"] if s.Exporter.CONSOLE in self._exporters else []
        return " and ".join(names) or "nowhere (OTEL_METRICS_EXPORTER is none)"

    def set_usage(self, decision: Decision) -> None:
        """Let the usage pipeline come or go whole; the beacon's does not notice."""
        self.decision = decision
        if not decision.enabled:
            self._drop_usage()
        elif self._usage is None:
            self._usage_source.end_by(math.inf)
            meter = usage_meter(self._settings, self.identity.value, self._began)
            self._usage = self._pipeline("usage", meter, self._read_usage)
        # What could not be kept was said at the start.
        with suppress(NotKept):
            keep_decision(self._state, decision)

    def _drop_usage(self) -> None:
        gone, self._usage = self._usage, None
        if gone is not None:
            gone.discard()
            self._rejected += gone.rejected
            self._kept_in += gone.kept_in
        self._usage_source.end_by(0.0)
        self._begin_to_forget = True
        self._forget_begin_unless_reading()

    def report_usage(self) -> None:
        """Begin a report of the usage figures alone, where they are on."""
        pipeline = self._usage
        if pipeline is not None and pipeline.name in self.meters:
            pipeline.report(self._settings.query_timeout)

    def report(self, reading: float | None = None) -> None:
        """Begin a report of each pipeline; returns at once.

        Args:
            reading: seconds for the reading of all figures; None: as set.
        """
        if not self._exporters:
            return
        for pipeline in self._reporting():
            pipeline.report(self._settings.query_timeout if reading is None else reading)

    def report_and_close(self, reading: float, sending: float) -> None:
        """Make a report and stop; what is not delivered in time stays in the spool.

        Args:
            reading: seconds for the reading of all figures, one that is under way included,
                which then is the last one.
            sending: seconds for the delivery.
        """
        self._last_reading_ends = time.monotonic() + reading
        deadline = self._last_reading_ends + _HANDING_OVER
        self._usage_source.end_by(reading)
        self.report(reading)
        for pipeline in self._pipelines():
            pipeline.settle(max(0.0, deadline - time.monotonic()))
        self.close(sending)

    def close(self, sending: float) -> None:
        """Stop, with one more attempt to deliver what waits.

        Args:
            sending: seconds for the delivery.
        """
        for pipeline in self._pipelines():
            pipeline.wind_up(sending)
        for pipeline in self._pipelines():
            pipeline.close()

    def give_up(self, seconds: float) -> None:
        """Stop as soon as may be; what was read by then is kept, nothing more is sent.

        Args:
            seconds: for readings under way to be handed over.
        """
        deadline = time.monotonic() + seconds
        for pipeline in self._pipelines():
            pipeline.wind_up(0.0)
        for pipeline in self._pipelines():
            pipeline.settle(max(0.0, deadline - time.monotonic()))

    def deliver_waiting(self) -> None:
        """See to the delivery of what waits from an earlier run."""
        for pipeline in self._pipelines():
            pipeline.deliver_waiting()

    def _pipelines(self) -> list[Pipeline[beacon.BeaconReading] | Pipeline[usage.UsageReading]]:
        other = self._usage  # once, as it may go meanwhile
        return [self._beacon, *([other] if other is not None else [])]

    def _reporting(self) -> list[Pipeline[beacon.BeaconReading] | Pipeline[usage.UsageReading]]:
        """List those that make reports; without a database the usage one delivers what waits."""
        return self._pipelines() if self._settings.mongo_url is not None else [self._beacon]

    def _pipeline(
        self, name: str, meter: ReportMeter[R], read: Callable[[float], R | None]
    ) -> Pipeline[R]:
        settings = self._settings
        queue = None
        if self._sender is not None:
            record = partial(self._record_attempt, name)
            timeout = settings.otlp.timeout
            queue = Queue(name, self._spool, self._sender, timeout, self.journal, record)
        console = None
        if s.Exporter.CONSOLE in self._exporters:
            console = PatientConsole(self._console)
        outlets = Outlets(queue, console, partial(self._record_console, name))
        return Pipeline(name, meter, read, outlets, self.journal)

    def _forget_begin_unless_reading(self) -> None:
        """Forget where the created counters stood; a reading under way does it when it ends."""
        if self._reading_usage.acquire(blocking=False):
            try:
                self._forget_begin()
            finally:
                self._reading_usage.release()

    def _forget_begin(self) -> None:
        if self._begin_to_forget:
            self._begin_to_forget = False
            self._usage_source.forget_begin()

    def _read_beacon(self, _: float) -> beacon.BeaconReading:
        pipelines = self._pipelines()
        counts = beacon.DeliveryCounts(
            waiting=self._spool.waiting_total,
            dropped=self._spool.dropped,
            rejected=self._rejected + sum(pipeline.rejected for pipeline in pipelines),
            kept_in=self._kept_in + sum(pipeline.kept_in for pipeline in pipelines),
        )
        return self._beacon_source.read(counts, usage_enabled=self.decision.enabled)

    def _read_usage(self, timeout: float) -> usage.UsageReading | None:
        deadline = time.monotonic() + timeout
        if not self._take_turn(timeout):
            return None
        try:
            self._left_out = False
            self._forget_begin()
            left = min(deadline, self._last_reading_ends) - time.monotonic()
            # A time that was short from the start is tried all the same: its failures tell why.
            if left < _LEAST_READING < timeout or not self.decision.enabled:
                return None
            round_ = self._usage_source.read(left, self._now)
        finally:
            self._reading_usage.release()
            self._forget_begin_unless_reading()
        self._say_pace()
        self.unread_figures = round_.reasons
        unread.say(self.journal, round_.reasons, _NO_FIGURE_FOLLOWS)
        return round_.reading

    def _take_turn(self, timeout: float) -> bool:
        """Wait for the end of an earlier reading; one may wait, what else comes due is left out."""
        if self._reading_usage.acquire(blocking=False):
            return True
        if self._waiting_to_read_usage.acquire(blocking=False):
            try:
                if self._reading_usage.acquire(timeout=timeout):
                    return True
            finally:
                self._waiting_to_read_usage.release()
        self._left_out = True
        return False

    def _say_pace(self) -> None:
        subject = "usage pace"
        if self._left_out:
            self.journal.failed(
                subject,
                "A reading of the usage figures takes longer than the time between two reports "
                "(OTEL_METRIC_EXPORT_INTERVAL); those that come due meanwhile are left out.",
            )
        else:
            self.journal.passed(subject, "Usage figures are read whenever they are due again.")

    def _record_attempt(self, meter: str, attempt: Attempt) -> None:
        report = attempt.report
        self._record(meter, report.body, report.read_at, attempt.destination, attempt.outcome)

    def _record_console(self, meter: str, request: Request, read_at: float) -> None:
        self._record(meter, request.body, read_at, "the console", Delivered())

    def _record(
        self, meter: str, body: bytes, read_at: float, destination: str, outcome: Outcome
    ) -> None:
        self.outcomes[meter] = outcome
        report = last_report.LastReport(
            meter, body, read_at, self._now(), destination, outcome, self.next_due()
        )
        # What could not be kept was said at the start.
        with suppress(NotKept):
            last_report.save(self._state, report)
