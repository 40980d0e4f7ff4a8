"""Makes the report of a scope: reads, encodes, and keeps it until it is delivered."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from otel_novu.consent import TelemetryFlag
from otel_novu.delivery import Delivery
from otel_novu.identity import instance_id, pseudonym_key
from otel_novu.log import LOG, FailureLog
from otel_novu.metrics import beacon, usage
from otel_novu.report import Built, ReportBuilder, make_resource
from otel_novu.settings import Settings
from otel_novu.sources.host import pseudonymize, read_host
from otel_novu.sources.novu import UsageSource, address
from otel_novu.store import CreatedCount, LastAttempt, Store


@dataclass(frozen=True, slots=True)
class _Made:
    """A report, and what is kept with it."""

    scope: str
    read_at: float
    built: Built
    next_due: float | None
    created: Mapping[str, CreatedCount] | None = None


class Reporter:
    """Reads both scopes; the usage instruments exist only while the telemetry flag is set.

    Args:
        settings: what the user set.
        store: keeps the reports.
        flag: the telemetry flag.
        failures: where failures are logged.
        now: the wall clock, Unix time in seconds.
        host: reads the machine.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        flag: TelemetryFlag,
        failures: FailureLog,
        now: Callable[[], float] = time.time,
        host: Callable[[], beacon.Host] = read_host,
    ) -> None:
        self._settings, self._store, self._flag = settings, store, flag
        self._failures, self._now, self._read_host = failures, now, host
        self.instance: UUID = instance_id(settings, store)
        self.failed_figures: Mapping[str, str] = {}
        self.delivery: Delivery | None = None
        self.destinations = () if settings.sdk_disabled else settings.exporters
        self._started = now()
        self._key = pseudonym_key(store) if settings.anonymize else None
        self._resource = make_resource(
            settings.service_name, self.instance, settings.resource_attributes
        )
        self._beacon = ReportBuilder(beacon.SCOPE, beacon.BEACON, self._resource, self._started)
        self._usage: ReportBuilder[usage.UsageReading] | None = None
        self._source: UsageSource | None = None
        if settings.mongo_url is not None:
            self._source = UsageSource(settings.mongo_url, now, lambda: not flag.enabled)
        self._schema_dropped = 0
        self._switches = 0
        self.console_failed = False

    def scopes(self) -> tuple[str, ...]:
        """Name the scopes that make reports now."""
        if not self.destinations:
            return ()
        return self._flag.scopes() if self._source is not None else ("beacon",)

    def follow_flag(self) -> bool:
        """Let the usage instruments come and go with the flag.

        Returns:
            Whether they came just now.
        """
        self._flag.read()
        if not self._flag.enabled:
            if self._usage is not None:
                self._usage.close()
                self._usage = None
            self._store.pause_created()
            return False
        came = self._usage is None or self._switches != self._flag.switches
        self._switches = self._flag.switches
        if self._usage is None:
            self._usage = ReportBuilder(usage.SCOPE, usage.USAGE, self._resource, self._started)
        return came

    def report(self, scope: str, timeout: float, next_due: float | None = None) -> None:
        """Read one scope and keep its report; no fault leaves this method."""
        if scope not in self.scopes():
            return
        try:
            if scope == "beacon":
                self._report_beacon(next_due)
            else:
                self._report_usage(timeout, next_due)
        except Exception as error:  # noqa: BLE001 - no fault may end the readings to come
            reason = type(error).__name__
            self._failures.failed(scope, f"The {scope} report could not be made ({reason}).")
            LOG.debug("Traceback:", exc_info=True)
        else:
            self._failures.recovered(scope, f"{scope.capitalize()} reports are made again.")

    def _report_beacon(self, next_due: float | None) -> None:
        host = self._read_host()
        if self._key is not None:
            host = pseudonymize(host, self._key)
        waiting = self._store.waiting(timeout=1.0)
        counts = None
        if waiting is not None:
            rejected = 0 if self.delivery is None else self.delivery.rejected_points
            counts = beacon.DeliveryCounts(
                waiting, self._store.dropped, rejected, self._schema_dropped
            )
        reading = beacon.BeaconReading(self._now(), host, self._flag.enabled, counts)
        built = self._beacon.build(reading, reading.timestamp)
        self._keep(_Made("beacon", reading.timestamp, built, next_due))

    def _report_usage(self, timeout: float, next_due: float | None) -> None:
        builder, source = self._usage, self._source
        if builder is None or source is None:
            return
        switches = self._flag.switches
        created = self._store.created(address(source.url))
        reading, round_ = source.read(created, timeout)
        if self._flag.switches != switches:
            return  # switched off meanwhile, if only for a moment: nothing of it is kept
        self.failed_figures = round_.reasons
        self._log_failed_figures()
        built = builder.build(reading, reading.timestamp)
        self._keep(_Made("usage", reading.timestamp, built, next_due, round_.created))

    def _keep(self, made: "_Made") -> None:
        """Write a report where reports go: into the store for delivery, and to stdout."""
        if made.built.dropped:
            self._schema_dropped += made.built.dropped
            self._failures.failed(
                f"{made.scope} schema",
                f"Dropped {made.built.dropped} data points of the {made.scope} report that are "
                "not in the metric schema.",
            )
        if made.built.body is None or made.built.data is None:
            return
        on_disk = self._store.add_report(
            made.scope,
            made.read_at,
            made.built.body,
            oldest=self._now() - self._settings.spool_max_age,
            max_bytes=self._settings.spool_max_bytes,
            created=made.created,
        )
        if on_disk:
            self._failures.recovered("store", "Reports are written to disk again.")
        else:
            self._failures.failed("store", memory_only(self._store))
        if self.delivery is not None:
            self.delivery.wake()
        if "console" in self.destinations:
            self._print(made, made.built.body, made.built.data.to_json())

    def _print(self, made: "_Made", body: bytes, text: str) -> None:
        try:
            print(text, flush=True)  # noqa: T201 - OTEL_METRICS_EXPORTER=console asks for it
            result = "delivered"
        except (OSError, ValueError) as error:
            result = f"not delivered: {type(error).__name__}"
            self.console_failed = True
            self._failures.failed("console", f"Writing a report to stdout failed ({result}).")
        if self.delivery is not None:
            return
        printed = self._store.newest(made.scope)
        if printed is not None:
            self._store.delete_report(printed)
        self._store.save_last_attempt(
            LastAttempt(
                scope=made.scope,
                read_at=made.read_at,
                tried_at=self._now(),
                next_due=made.next_due,
                endpoint="the console",
                result=result,
                body=body,
            )
        )

    def _log_failed_figures(self) -> None:
        reasons = self.failed_figures
        if not reasons:
            self._failures.recovered("figures", "All usage figures are read again.")
            return
        self._failures.failed("figures", usage.describe_failures(reasons))


def memory_only(store: Store) -> str:
    """Say that state is not on disk, and what that means."""
    return (
        f"Can't write to OTEL_NOVU_STATE_DIR ({store.fault}): undelivered reports are kept in "
        "memory and lost on exit."
    )
