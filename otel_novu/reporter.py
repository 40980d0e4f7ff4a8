"""Makes the report of a scope: reads, encodes, and keeps it until it is delivered."""

import threading
import time
from collections.abc import Callable, Mapping

from otel_novu.consent import TelemetryFlag
from otel_novu.delivery import Delivery
from otel_novu.identity import instance_id, pseudonym_key
from otel_novu.log import LOG, FailureLog
from otel_novu.metrics import beacon, usage
from otel_novu.report import Built, ReportBuilder, make_resource
from otel_novu.settings import Settings
from otel_novu.sources.host import read_host
from otel_novu.sources.novu import UsageSource, address
from otel_novu.store import CreatedCount, Store

Created = Mapping[str, CreatedCount]
Reading = beacon.BeaconReading | usage.UsageReading
# Both reports end in the same series `target_info`, which a Prometheus without an out-of-order
# window takes in the order of time only. The beacon is sent first, so it is read first: the reading
# of usage figures waits for it for so many seconds.
BEACON_WAIT = 0.5


class UsageReader:
    """Reads the usage figures while the telemetry flag is on, until `ended` returns true."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        flag: TelemetryFlag,
        failures: FailureLog,
        ended: Callable[[], bool] = lambda: False,
    ) -> None:
        self.figures = usage.figures_in_use(delivery=settings.delivery_figures)
        self.failed: Mapping[str, str] = {}  # of the last reading: figures and reasons
        self._store, self._flag, self._failures = store, flag, failures
        self._timeout = settings.query_timeout
        self._cancelled: Callable[[], bool] = lambda: ended() or not flag.enabled
        self._source: UsageSource | None = None
        if (url := settings.mongo_url) is not None:
            self._source = UsageSource(url, time.time, self._cancelled, self.figures)

    @property
    def has_database(self) -> bool:
        """Whether MONGO_URL or MONGO_URL_FILE is set."""
        return self._source is not None

    @property
    def all_failed(self) -> bool:
        """Whether the last reading failed as a whole."""
        return len(self.failed) == len(self.figures)

    def counts(self) -> Created:
        """Return the created counters of the store; without a database there are none."""
        return {} if self._source is None else self._store.created(address(self._source.url))

    def read(
        self, timeout: float | None = None, counts: Created | None = None
    ) -> tuple[usage.UsageReading, Created] | None:
        """Read all figures within `timeout` seconds; None: OTEL_NOVU_QUERY_TIMEOUT.

        Counters go on from those of the store, or from `counts`, and are returned as they are now.
        Returns None without a database, and if usage figures were off meanwhile.
        """
        if self._source is None:
            return None
        switches, before = self._flag.switches, {**self.counts(), **(counts or {})}
        reading, round_ = self._source.read(before, timeout or self._timeout)
        if self._cancelled() or self._flag.switches != switches:
            return None
        self.failed = round_.reasons
        if self.failed:
            hosts = address(self._source.url).rpartition("/")[0]
            self._failures.failed(
                "figures", usage.describe_failures(self.failed, len(self.figures), hosts)
            )
        else:
            self._failures.recovered("figures", "All usage figures are read again.")
        return reading, round_.created

    def summary(self) -> str:
        """Say how much of the last reading succeeded, as a noun."""
        count = len(self.figures)
        if self.all_failed:
            return f"usage report without figures (0 of {count})"
        return f"usage ({count - len(self.failed)} of {count} figures)"


class Reporter:
    """Makes reports of both scopes; the usage instruments exist only while the flag is on."""

    def __init__(
        self, settings: Settings, store: Store, flag: TelemetryFlag, delivery: Delivery
    ) -> None:
        self._settings, self._store, self._flag, self._delivery = settings, store, flag, delivery
        self._failures = delivery.failures
        self.instance = instance_id(settings, store)
        self._key = pseudonym_key(settings, store)
        self.usage = UsageReader(settings, store, flag, self._failures)
        self._started, self._switches, self._schema_dropped = time.time(), 0, 0
        self._resource = make_resource(
            settings.service_name, self.instance, settings.resource_attributes
        )
        self._beacon = ReportBuilder(beacon.SCOPE, beacon.BEACON, self._resource, self._started)
        self._usage: ReportBuilder[usage.UsageReading] | None = None
        self._beacon_kept = threading.Event()

    def scopes(self) -> tuple[str, ...]:
        """Name the scopes that make reports now."""
        if self._settings.why_nothing_is_sent:
            return ()
        return self._flag.scopes() if self.usage.has_database else ("beacon",)

    def follow_flag(self) -> bool:
        """Let the usage instruments come and go with the flag; return whether they came."""
        self._flag.read()
        switches, self._switches = self._switches, self._flag.switches
        if not self._flag.enabled:
            if self._usage is not None:
                self._usage.close()
                self._usage = None
            return False
        if self._usage is not None:
            return switches != self._switches
        rows = usage.metrics(self.usage.figures)
        self._usage = ReportBuilder(usage.SCOPE, rows, self._resource, self._started)
        return True

    def report(self, scope: str, timeout: float | None = None, *, retry: bool = False) -> None:
        """Read one scope and keep its report; no fault leaves this method.

        A `retry` keeps no report if all figures fail again. `timeout` as for `UsageReader.read`.
        """
        if scope not in self.scopes():
            return
        try:
            if scope == "beacon":
                self._keep(scope, self.read_beacon())
                self._beacon_kept.set()
            else:
                self._beacon_kept.wait(BEACON_WAIT)
                self._beacon_kept.clear()
                found = self.usage.read(timeout)
                if found and not (retry and self.usage.all_failed):
                    self._keep(scope, *found)
        except Exception as error:  # noqa: BLE001 - no fault may end the readings to come
            reason = type(error).__name__
            self._failures.failed(scope, f"The {scope} report could not be made ({reason}).")
            LOG.debug("Traceback:", exc_info=True)
        else:
            self._failures.recovered(scope, f"{scope.capitalize()} reports are made again.")

    def read_beacon(self) -> beacon.BeaconReading:
        """Read the host, and how delivery goes."""
        now, counts = time.time(), None
        if (waiting := self._store.waiting(timeout=1.0)) is not None:
            rejected, schema_dropped = self._delivery.rejected_points, self._schema_dropped
            counts = beacon.DeliveryCounts(waiting, self._store.dropped, rejected, schema_dropped)
        return beacon.BeaconReading(now, read_host(self._key), self._flag.enabled, counts)

    def build(self, reading: Reading) -> Built:
        """Make the report of a reading."""
        if isinstance(reading, beacon.BeaconReading):
            return self._beacon.build(reading, reading.timestamp)
        if self._usage is None:  # the flag has just changed
            return Built(None, 0)
        return self._usage.build(reading, reading.timestamp)

    def _keep(self, scope: str, reading: Reading, created: Created | None = None) -> None:
        built = self.build(reading)
        if built.dropped:
            self._schema_dropped += built.dropped
            what = f"{built.dropped} data points of the {scope} report"
            message = f"Dropped {what} that are not in the metric schema."
            self._failures.failed(f"{scope} schema", message)
        if built.body is None:
            return
        oldest = time.time() - self._settings.spool_max_age
        most = self._settings.spool_max_bytes
        if self._store.add_report(
            scope, reading.timestamp, built.body, oldest=oldest, max_bytes=most, created=created
        ):
            self._failures.recovered("store", "Reports are written to disk again.")
        else:
            self._failures.failed("store", memory_only(self._store))
        self._delivery.wake()


def memory_only(store: Store) -> str:
    """Say that state is not on disk, and what that means."""
    return (
        f"Can't write to OTEL_NOVU_STATE_DIR ({store.fault}): undelivered reports are kept in "
        "memory and lost on exit."
    )
