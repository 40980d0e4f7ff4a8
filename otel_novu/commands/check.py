"""`otel-novu check`: tests what a report needs, and says how to fix it."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator

from otel_novu.commands.output import row, utc
from otel_novu.commands.running import decided, write_fault
from otel_novu.commands.startup import NO_DATABASE
from otel_novu.consent import BY_UNREADABLE, read_decision
from otel_novu.identity import INSTANCE_ID
from otel_novu.log import sentence
from otel_novu.metrics.metric import Instrument
from otel_novu.metrics.queries import Values
from otel_novu.metrics.usage import Figure, collections_of, figures_in_use
from otel_novu.otlp import sender
from otel_novu.otlp.outcome import Delivered, describe
from otel_novu.settings import Settings
from otel_novu.sources.created import an_hour_ago
from otel_novu.sources.novu import MongoUrlError, Round, address, check_url, read_round
from otel_novu.state_dir import lock_owner
from otel_novu.store import Store

# A result and its exit code.
PASS, WARN, FAIL, BAD_INPUT = ("PASS", 0), ("WARN", 0), ("FAIL", 1), ("FAIL", 2)
_COLOURS = {"PASS": 32, "WARN": 33, "FAIL": 31}
_WIDTH = len("PASS  novu.integration.active.count")
# An OTLP request without a metric: every receiver accepts it, and nothing arrives.
_EMPTY_REQUEST = b""
# A result, what was tested, and what was found; unless all is well, also how to fix it.
Finding = tuple[tuple[str, int], str, str]


def main(settings: Settings, options: argparse.Namespace) -> int:
    """Test what a report needs and print a line each; nothing is sent or kept."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    worst = 0
    for (word, code), subject, found in _findings(settings):
        worst = max(worst, code)
        message = found if word == "PASS" else sentence(found)
        line = row(f"{word}  {subject}", message, _WIDTH)
        if options.json:
            line = json.dumps({"result": word, "subject": subject, "message": message})
        elif coloured:
            line = line.replace(word, f"\033[{_COLOURS[word]}m{word}\033[0m", 1)
        print(line, flush=True)
    return worst


def _findings(settings: Settings) -> Iterator[Finding]:
    for warning in settings.warnings:
        yield FAIL if warning in settings.to_fix else WARN, "settings", warning
    store = Store(settings.state_dir, read_only=True)
    if fault := store.fault or write_fault(settings.state_dir):
        yield FAIL, "state directory", fault
    else:
        owner = lock_owner(settings.state_dir)
        used = f", used by process {owner.pid} (otel-novu {owner.command})" if owner else ""
        yield PASS, "state directory", f"{settings.state_dir}{used}"
    kept = store.get(INSTANCE_ID) or "none is stored yet; `run` or `once` makes one"
    if settings.instance_id is not None or store.readable:
        yield PASS, "instance id", str(settings.instance_id or kept)
    decision = read_decision(settings, store)
    result = WARN if decision.by == BY_UNREADABLE else PASS
    yield result, "usage figures", decided(decision)
    if decision.enabled:
        yield from _database(settings)
    yield _collector(settings)


def _database(settings: Settings) -> Iterator[Finding]:
    if (url := settings.mongo_url) is None:
        yield FAIL, "database", f"{NO_DATABASE}; set one of them, or NOVU_TELEMETRY=false"
        return
    try:
        yield from ((WARN, "database", warning) for warning in check_url(url))
    except MongoUrlError as error:
        yield BAD_INPUT, "database", str(error)
        return
    figures = figures_in_use(delivery=settings.delivery_figures)
    # On a fresh state directory, too, each query is sent.
    hour = an_hour_ago(figures, time.time())
    round_ = read_round(url, hour, settings.query_timeout, time.time, figures=figures)
    causes = set(round_.reasons.values())
    if len(round_.reasons) == len(figures) and len(causes) == 1:
        yield FAIL, "database", f"{address(url)}: {causes.pop()}"
        return
    yield PASS, "database", f"{address(url)} answers"
    yield from _collections(round_)
    yield from _figures(round_)


def _collections(round_: Round) -> Iterator[Finding]:
    found = round_.collections or frozenset()
    missing = [name for name in collections_of(round_.figures) if name not in found]
    rest = f"; not there yet, counted as 0: {', '.join(missing)}" if missing else ""
    yield PASS, "collections", f"{', '.join(sorted(found))}{rest}"
    indexes = round_.values.get("collection.index.count", {})
    if bare := [name for name in ("jobs", "messages") if indexes.get((name,)) == 1]:
        what = f"{' and '.join(bare)} have no index but `_id`, so Novu scans them at every step"
        yield WARN, "indexes", f"{what}; set MONGO_AUTO_CREATE_INDEXES=true on Novu's api"


def _figures(round_: Round) -> Iterator[Finding]:
    for figure in round_.figures:
        subject = f"novu.{figure.name}"
        if figure.name in round_.reasons:
            yield FAIL, subject, round_.reasons[figure.name]
        else:
            value = _value(figure, round_.values[figure.name])
            yield PASS, subject, f"{value}  ({1000 * round_.durations[figure.name]:.0f} ms)"


def _value(figure: Figure, values: Values) -> str:
    if figure.query.instrument is Instrument.GAUGE:
        return ", ".join(f"{labels[0]} {utc(time)}" for labels, time in values.items()) or "none"
    window = " in an hour" if figure.query.instrument is Instrument.COUNTER else ""
    return f"{sum(values.values()):.0f}{window}"


def _collector(settings: Settings) -> Finding:
    if settings.sdk_disabled:
        return WARN, "collector", "not used: OTEL_SDK_DISABLED is true"
    if "otlp" not in settings.exporters:
        return WARN, "collector", "not used: OTEL_METRICS_EXPORTER says so"
    otlp = sender(settings.otlp)
    outcome = otlp.send(_EMPTY_REQUEST, settings.otlp.timeout)
    if not isinstance(outcome, Delivered):
        return FAIL, "collector", f"{otlp.endpoint}: {describe(outcome)}"
    warning = f", with a warning: {outcome.message}" if outcome.message else ""
    return WARN if warning else PASS, "collector", f"{otlp.endpoint} accepts OTLP metrics{warning}"
