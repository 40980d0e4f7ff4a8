"""`otel-novu show`: what would be sent, what was sent last, and what the database is asked."""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import closing

from otel_novu.commands.output import fail, note, row
from otel_novu.commands.running import Running, print_attempt
from otel_novu.commands.startup import NO_DATABASE, check_mongo_url
from otel_novu.consent import Decision, TelemetryFlag
from otel_novu.exporter import SCOPES
from otel_novu.identity import INSTANCE_ID, PSEUDONYM_KEY, instance_id, pseudonym_key
from otel_novu.log import FailureLog
from otel_novu.metrics import beacon, usage
from otel_novu.novu_report import (
    Document,
    beacon_document,
    delivery_document,
    usage_document,
)
from otel_novu.otlp.console import request_json
from otel_novu.report import ReportBuilder, make_resource
from otel_novu.reporter import UsageReader
from otel_novu.settings import Settings, SettingsError
from otel_novu.sources.created import an_hour_ago
from otel_novu.sources.host import pseudonymize, read_host
from otel_novu.sources.novu import queries
from otel_novu.store import Store


def main(settings: Settings, options: argparse.Namespace) -> int:
    """Run `show` in the form that the options ask for."""
    if options.otlp and (options.json or options.queries):
        raise SettingsError("--otlp: is given with another option; expected alone or with --last")
    if options.last:
        return _last(settings, otlp=options.otlp)
    check_mongo_url(settings)
    if options.queries:
        return _queries(settings)
    preview = _Preview(settings, last_hour=not options.otlp)
    if options.otlp:
        print(*map(request_json, preview.requests()), sep="\n")
    else:
        for document in preview.documents():
            print(json.dumps(document, indent=None if options.json else 1))
    return preview.exit_code


def _last(settings: Settings, *, otlp: bool) -> int:
    with closing(Store.open_read_only(settings.state_dir)) as store:
        attempts = Running(settings, store).last_attempts(time.time())
        if not store.readable:
            return fail(f"{store.fault}.")
    for scope in SCOPES:
        if scope not in attempts:
            note(f"No attempt to send a {scope} report is stored.")
        elif otlp:
            print(request_json(attempts[scope].body))
        else:
            print_attempt(attempts[scope])
            _print_points(attempts[scope].body)
    return 0


def _queries(settings: Settings) -> int:
    if settings.mongo_url is None:
        return fail("Neither MONGO_URL nor MONGO_URL_FILE is set: no database is read.")
    end = int(time.time()) - 60
    window = (end - int(settings.interval), end)
    figures = usage.figures_in_use(delivery=settings.delivery_figures)
    print(*queries(settings.mongo_url, settings.query_timeout, window, figures), sep="\n")
    return 0


class _Preview:
    """One reading of host and database; nothing is sent or written."""

    def __init__(self, settings: Settings, *, last_hour: bool) -> None:
        self._settings, self._started = settings, time.time()
        self._usage: usage.UsageReading | None = None
        with closing(Store.open_read_only(settings.state_dir)) as store:
            self.exit_code = _note_examples(settings, store)
            self._instance = instance_id(settings, store)
            flag = TelemetryFlag(settings, store)
            host = read_host()
            if settings.anonymize:
                host = pseudonymize(host, pseudonym_key(store))
            counts = beacon.DeliveryCounts(store.waiting() or 0, 0, 0, 0)
            self._beacon = beacon.BeaconReading(time.time(), host, flag.enabled, counts)
            self._reader = UsageReader(settings, store, flag, FailureLog())
            self._read_usage(flag.decision, last_hour=last_hour)

    def _read_usage(self, decision: Decision, *, last_hour: bool) -> None:
        hour = an_hour_ago(usage.DELIVERY, time.time()) if last_hour else None
        if not decision.enabled:
            note(f"Usage figures are off ({decision.by}): they are neither read nor sent.")
        elif not self._reader.has_database:
            note(f"{NO_DATABASE}: they are absent.")
        elif found := self._reader.read(counts=hour):
            self._usage = found[0]
            self.exit_code |= bool(self._reader.failed)

    def documents(self) -> Iterator[Document]:
        """Return the reports as Novu documents them, and the deliveries of an hour."""
        yield beacon_document(self._beacon, self._instance)
        if self._usage is not None and self._usage.values:
            yield usage_document(self._usage)
            if self._settings.delivery_figures:
                yield delivery_document(self._usage)

    def requests(self) -> Iterator[bytes]:
        """Return the requests that would be sent."""
        settings = self._settings
        resource = make_resource(
            settings.service_name, self._instance, settings.resource_attributes
        )
        beacons = ReportBuilder(beacon.SCOPE, beacon.BEACON, resource, self._started)
        bodies = [beacons.build(self._beacon, self._beacon.timestamp).body]
        if self._usage is not None:
            rows = usage.metrics(self._reader.figures)
            usages = ReportBuilder(usage.SCOPE, rows, resource, self._started)
            bodies.append(usages.build(self._usage, self._usage.timestamp).body)
        yield from (body for body in bodies if body is not None)


def _note_examples(settings: Settings, store: Store) -> int:
    """Say what `run` would have stored, or why it can't be read; return the exit code."""
    if not store.readable:
        return fail(f"{store.fault}.")
    keys = [INSTANCE_ID] if settings.instance_id is None else []
    for key in [*keys, PSEUDONYM_KEY] if settings.anonymize else keys:
        if store.get(key) is None:
            name = key.replace("_", " ")
            note(f"No {name} is stored yet; `run` or `once` makes one. This one is an example.")
    return 0


def _print_points(body: bytes) -> None:
    resources = json.loads(request_json(body))["resourceMetrics"]
    scopes = (scope for resource in resources for scope in resource["scopeMetrics"])
    for metric in (metric for scope in scopes for metric in scope["metrics"]):
        for point in (metric.get("gauge") or metric["sum"])["dataPoints"]:
            value = point.get("asInt") or str(round(point["asDouble"], 6))
            labels = (
                f"{e['key']}={e['value']['stringValue']}" for e in point.get("attributes", ())
            )
            print(row(f"  {metric['name']}", "  ".join((value, *labels)), 27))
