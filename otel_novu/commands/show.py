"""`otel-novu show`: what would be sent, what was sent last, and what the database is asked."""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from otel_novu.commands.output import note, utc
from otel_novu.commands.running import decision_in_force, next_due
from otel_novu.commands.startup import NO_DATABASE, check_mongo_url
from otel_novu.consent import read_decision
from otel_novu.exporter import SCOPES
from otel_novu.identity import INSTANCE_ID, PSEUDONYM_KEY, instance_id, pseudonym_key
from otel_novu.metrics import beacon, usage
from otel_novu.novu_report import beacon_document, usage_document
from otel_novu.otlp.console import request_json
from otel_novu.report import ReportBuilder, make_resource
from otel_novu.settings import Settings
from otel_novu.sources.host import pseudonymize, read_host
from otel_novu.sources.novu import UsageSource, address, queries
from otel_novu.state_dir import lock_owner
from otel_novu.store import LastAttempt, Store

Now = Callable[[], float]


def main(settings: Settings, options: argparse.Namespace) -> int:
    """Run `show` in the form that the options ask for."""
    if options.otlp:
        return show_otlp(settings)
    if options.last:
        return show_last(settings)
    if options.queries:
        return show_queries(settings)
    return show(settings, as_lines=options.json)


def show(settings: Settings, *, as_lines: bool, now: Now = time.time) -> int:
    """Print both reports as Novu documents them; why usage is absent goes to stderr.

    Args:
        settings: what the user set.
        as_lines: one JSON document a line instead of indented ones.
        now: the wall clock, Unix time in seconds.
    """
    preview = _Preview(settings, now)
    indent = None if as_lines else 1
    print(json.dumps(beacon_document(preview.beacon, preview.instance), indent=indent))
    if preview.usage is not None and len(preview.failed_figures) < len(usage.FIGURES):
        print(json.dumps(usage_document(preview.usage), indent=indent))
    return preview.exit_code


def show_otlp(settings: Settings, now: Now = time.time) -> int:
    """Print the OTLP requests as OTLP/JSON, one a line, the beacon first."""
    preview = _Preview(settings, now)
    for body in preview.requests():
        print(request_json(body))
    return preview.exit_code


def show_last(settings: Settings, now: Now = time.time) -> int:
    """Print what was sent last of each scope, when and where to, or why not; and what is due."""
    with closing(Store.open_read_only(settings.state_dir)) as store:
        if not store.readable:
            note(f"The last reports can't be read: {store.fault}.")
            return 1
        owner = lock_owner(settings.state_dir)
        decision = decision_in_force(settings, store, owner)
        for scope in SCOPES:
            attempt = store.last_attempt(scope)
            if attempt is None:
                note(f"No {scope} report was tried yet.")
            else:
                _print_attempt(attempt, next_due(attempt, owner, decision), now())
    return 0


def show_queries(settings: Settings, now: Now = time.time) -> int:
    """Print the database commands of a reading, as Extended JSON, one a line."""
    if settings.mongo_url is None:
        note("Neither MONGO_URL nor MONGO_URL_FILE is set: no database is read.")
        return 1
    check_mongo_url(settings)
    end = int(now()) - 60
    window = (end - int(settings.interval), end)
    for line in queries(settings.mongo_url, settings.query_timeout, window):
        print(line)
    return 0


class _Preview:
    """One reading of host and database; nothing is sent or written."""

    def __init__(self, settings: Settings, now: Now) -> None:
        check_mongo_url(settings)
        self._settings, self._started = settings, now()
        self.failed_figures: dict[str, str] = {}
        self.usage: usage.UsageReading | None = None
        with closing(Store.open_read_only(settings.state_dir)) as store:
            _note_missing(settings, store)
            self.instance = instance_id(settings, store)
            decision = read_decision(settings, store)
            host = read_host()
            if settings.anonymize:
                host = pseudonymize(host, pseudonym_key(store))
            counts = beacon.DeliveryCounts(store.waiting() or 0, 0, 0, 0)
            self.beacon = beacon.BeaconReading(now(), host, decision.enabled, counts)
            if not decision.enabled:
                note(f"Usage figures are off ({decision.by}): they are neither read nor sent.")
            elif settings.mongo_url is None:
                note(f"{NO_DATABASE}: they are absent.")
            else:
                source = UsageSource(settings.mongo_url, now, lambda: False)
                where = address(settings.mongo_url)
                self.usage, round_ = source.read(store.created(where), settings.query_timeout)
                self.failed_figures = round_.reasons
                if round_.reasons:
                    note(usage.describe_failures(round_.reasons, where.rpartition("/")[0]))

    @property
    def exit_code(self) -> int:
        return int(bool(self.failed_figures))

    def requests(self) -> Iterator[bytes]:
        """Build the requests that would be sent, the beacon's first."""
        settings = self._settings
        resource = make_resource(settings.service_name, self.instance, settings.resource_attributes)
        beacons = ReportBuilder(beacon.SCOPE, beacon.BEACON, resource, self._started)
        bodies = [beacons.build(self.beacon, self.beacon.timestamp).body]
        if self.usage is not None:
            usages = ReportBuilder(usage.SCOPE, usage.USAGE, resource, self._started)
            bodies.append(usages.build(self.usage, self.usage.timestamp).body)
        yield from (body for body in bodies if body is not None)


def _note_missing(settings: Settings, store: Store) -> None:
    if settings.instance_id is None and store.get(INSTANCE_ID) is None:
        note("No instance id is stored yet; `run` or `once` makes one. This one is an example.")
    if settings.anonymize and store.get(PSEUDONYM_KEY) is None:
        note("No pseudonym key is stored yet; `run` or `once` makes one. This one is an example.")


def _print_attempt(attempt: LastAttempt, due: float | None, now: float) -> None:
    next_one = "none is due"
    if due is not None:
        next_one = f"the next {'was' if due < now else 'is'} due {utc(due)}"
    read, tried = utc(attempt.read_at), utc(attempt.tried_at)
    note(f"{attempt.scope}: read {read}, tried {tried}, {attempt.result}.")
    note(f"  to {attempt.endpoint}; {next_one}.")
    print(request_json(attempt.body))
