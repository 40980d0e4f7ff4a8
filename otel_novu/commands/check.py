"""`otel-novu check`: tests what a report needs, and says how to fix it."""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass

from otel_novu.commands.startup import NO_DATABASE
from otel_novu.consent import BY_UNREADABLE, read_decision
from otel_novu.identity import INSTANCE_ID
from otel_novu.log import sentence
from otel_novu.metrics.usage import COLLECTIONS, FIGURES
from otel_novu.otlp import sender
from otel_novu.otlp.outcome import Delivered, describe
from otel_novu.settings import Settings
from otel_novu.sources.novu import MongoUrlError, Round, address, check_url, read_round
from otel_novu.state_dir import lock_owner
from otel_novu.store import Store

# An OTLP request without a metric: every receiver accepts it, and nothing arrives.
_EMPTY_REQUEST = b""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check.

    Args:
        subject: what was tested.
        ok: nothing is to be fixed.
        message: what was found, and how to fix it.
    """

    subject: str
    ok: bool
    message: str


def main(settings: Settings, options: argparse.Namespace) -> int:
    """Test what a report needs and print a line each; nothing is sent or kept.

    Returns:
        The exit code: 1 if something is to be fixed.
    """
    all_ok = True
    for finding in _findings(settings, time.time):
        all_ok &= finding.ok
        mark = "ok   " if finding.ok else "WRONG"
        text = f"{mark}  {finding.subject}: {finding.message}"
        print(json.dumps(asdict(finding)) if options.json else text, flush=True)
    return 0 if all_ok else 1


def _findings(settings: Settings, now: Callable[[], float]) -> Iterator[Finding]:
    with closing(Store.open_read_only(settings.state_dir)) as store:
        yield _state_directory(settings, store)
        yield _instance(settings, store)
        decision = read_decision(settings, store)
        word = "on" if decision.enabled else "off"
        fix = ""
        if decision.by == BY_UNREADABLE:
            fix = "; fix the state directory, or set NOVU_TELEMETRY"
        yield Finding("usage figures", not fix, f"{word}, decided by {decision.by}{fix}.")
        if decision.enabled:
            yield from _database(settings, store, now)
    yield _collector(settings)


def _state_directory(settings: Settings, store: Store) -> Finding:
    subject, path = "state directory", settings.state_dir
    if store.fault is not None:
        fix = "set OTEL_NOVU_STATE_DIR to a directory of your own"
        return Finding(subject, ok=False, message=f"{path} is not used: {store.fault}; {fix}.")
    owner = lock_owner(path)
    used = f", used by process {owner.pid} (otel-novu {owner.command})" if owner else ""
    return Finding(subject, ok=True, message=f"{path}{used}.")


def _instance(settings: Settings, store: Store) -> Finding:
    if settings.instance_id is not None:
        message = f"{settings.instance_id} (OTEL_NOVU_INSTANCE_ID)."
    elif (kept := store.get(INSTANCE_ID)) is not None:
        message = f"{kept} (state directory)."
    else:
        message = "none is stored yet; `run` or `once` makes one."
    return Finding("instance id", ok=store.readable, message=message)


def _database(settings: Settings, store: Store, now: Callable[[], float]) -> Iterator[Finding]:
    url = settings.mongo_url
    if url is None:
        message = f"{NO_DATABASE}; set one of them, or NOVU_TELEMETRY=false."
        yield Finding("database", ok=False, message=message)
        return
    try:
        warnings = check_url(url)
    except MongoUrlError as error:
        yield Finding("database", ok=False, message=str(error))
        return
    yield from (Finding("database", ok=False, message=warning) for warning in warnings)
    where = address(url)
    round_ = read_round(url, store.created(where), settings.query_timeout, now)
    cause = _common_cause(round_)
    if cause is not None:
        yield Finding("database", ok=False, message=sentence(f"{where}: {cause}"))
        return
    yield Finding("database", ok=True, message=f"{where} answers.")
    if round_.collections is not None:
        missing = [name for name in COLLECTIONS if name not in round_.collections]
        found = ", ".join(sorted(round_.collections))
        rest = f"; not there yet, counted as 0: {', '.join(missing)}" if missing else ""
        yield Finding("collections", ok=True, message=f"{found}{rest}.")
    yield from _figures(round_)


def _common_cause(round_: Round) -> str | None:
    """Return the one reason why every figure failed, None if there is none."""
    reasons = set(round_.reasons.values())
    return reasons.pop() if len(round_.reasons) == len(FIGURES) and len(reasons) == 1 else None


def _figures(round_: Round) -> Iterator[Finding]:
    for figure in FIGURES:
        reason = round_.reasons.get(figure.name)
        seconds = round_.durations.get(figure.name, 0.0)
        message = f"read in {1000 * seconds:.1f} ms." if reason is None else sentence(reason)
        yield Finding(f"novu.{figure.name}", reason is None, message)


def _collector(settings: Settings) -> Finding:
    subject = "collector"
    if settings.sdk_disabled:
        return Finding(subject, ok=True, message="not used: OTEL_SDK_DISABLED is true.")
    if "otlp" not in settings.exporters:
        return Finding(subject, ok=True, message="not used: OTEL_METRICS_EXPORTER says so.")
    otlp = sender(settings.otlp)
    outcome = otlp.send(_EMPTY_REQUEST, settings.otlp.timeout)
    if isinstance(outcome, Delivered):
        return Finding(subject, ok=True, message=f"{otlp.endpoint} accepts OTLP metrics.")
    hint = "" if outcome.hint else "; does it run, and is its address right?"
    return Finding(subject, ok=False, message=f"{otlp.endpoint}: {describe(outcome)}{hint}")
