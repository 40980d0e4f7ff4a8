"""`otel-novu show`: what would be sent, what was sent last, and what the database is asked."""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from uuid import UUID

from otel_novu.commands.output import fail, note, row
from otel_novu.commands.running import Running, print_attempt
from otel_novu.commands.startup import NO_DATABASE, check_mongo_url
from otel_novu.exporter import Exporter
from otel_novu.identity import INSTANCE_ID, PSEUDONYM_KEY
from otel_novu.log import plural
from otel_novu.metrics import usage
from otel_novu.metrics.beacon import BeaconReading
from otel_novu.novu_report import Document, beacon_document, delivery_document, usage_document
from otel_novu.otlp.console import request_json
from otel_novu.reporter import Reading
from otel_novu.settings import Settings, SettingsError
from otel_novu.sources.created import an_hour_ago
from otel_novu.sources.novu import queries
from otel_novu.store import SCOPES, Store


def main(settings: Settings, options: argparse.Namespace) -> int:
    """Run `show` in the form that the options ask for."""
    if options.otlp and (options.json or options.queries):
        raise SettingsError("--otlp: is given with another option; expected alone or with --last")
    if options.last:
        return _last(settings, otlp=options.otlp)
    check_mongo_url(settings)
    if options.queries:
        return _queries(settings)
    return _preview(settings, options)


def _last(settings: Settings, *, otlp: bool) -> int:
    store = Store(settings.state_dir, read_only=True)
    running = Running(settings, store)
    attempts = running.last_attempts(time.time())
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
    if waiting := sum(running.waiting()):
        note(f"{plural(waiting, 'report', 'wait')} for delivery; `otel-novu spool` lists them.")
    return 0


def _queries(settings: Settings) -> int:
    if settings.mongo_url is None:
        return fail("Neither MONGO_URL nor MONGO_URL_FILE is set: no database is read.")
    end = int(time.time()) - 60
    window = (end - int(settings.interval), end)
    figures = usage.figures_in_use(delivery=settings.delivery_figures)
    print(*queries(settings.mongo_url, settings.query_timeout, window, figures), sep="\n")
    return 0


def _preview(settings: Settings, options: argparse.Namespace) -> int:
    """Print one reading of host and database; nothing is sent or written."""
    store = Store(settings.state_dir, read_only=True)
    exit_code = _note_examples(settings, store)
    exporter = Exporter(settings, store)
    decision, reporter, usages = exporter.flag.decision, exporter.reporter, exporter.reporter.usage
    readings: list[Reading] = [reporter.read_beacon()]
    if not decision.enabled:
        note(f"Usage figures are off ({decision.by}): they are neither read nor sent.")
    elif not usages.has_database:
        note(f"{NO_DATABASE}: they are absent.")
    else:
        hour = None if options.otlp else an_hour_ago(usage.DELIVERY, time.time())
        if found := usages.read(counts=hour):
            readings.append(found[0])
    if options.otlp:
        reporter.follow_flag()
        bodies = (reporter.build(reading).body for reading in readings)
        print(*map(request_json, filter(None, bodies)), sep="\n")
    else:
        for document in _documents(settings, reporter.instance, readings):
            print(json.dumps(document, indent=None if options.json else 1))
    return exit_code or int(bool(usages.failed))


def _documents(
    settings: Settings, instance: UUID, readings: Iterable[Reading]
) -> Iterator[Document]:
    """Return the reports as Novu documents them, and the deliveries of an hour."""
    for reading in readings:
        if isinstance(reading, BeaconReading):
            yield beacon_document(reading, instance)
        elif reading.values:
            yield usage_document(reading)
            if settings.delivery_figures:
                yield delivery_document(reading)


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
