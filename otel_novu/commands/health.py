"""`otel-novu health`: is `run` alive, and was the last report due made?"""

import argparse
import json
import time

from otel_novu.commands.output import note
from otel_novu.commands.running import Running, write_fault
from otel_novu.log import plural
from otel_novu.metrics.usage import FIGURES_READ, figures_in_use
from otel_novu.otlp.console import request_json
from otel_novu.settings import Settings
from otel_novu.state_dir import LockOwner, lock_owner
from otel_novu.store import Store

# How late a report may be before something is wrong, seconds.
GRACE = 60.0


def main(settings: Settings, options: argparse.Namespace) -> int:
    """Answer a container probe: 0 only if all is well."""
    store = Store(settings.state_dir, read_only=True)
    waiting, problem = store.waiting(), _problem(settings, store)
    if options.strict and not problem:
        problem = _missing_figures(settings, store)
    message = problem or f"run is alive; {plural(waiting or 0, 'report', 'wait')} for delivery"
    if options.json:
        print(json.dumps({"ok": not problem, "message": message, "waiting": waiting}))
    elif problem:
        note(f"not ok: {problem}")
    else:
        print(f"ok: {message}")
    return int(bool(problem))


def _problem(settings: Settings, store: Store) -> str | None:
    # Where `run` can't write, it may have no lock file.
    if fault := store.fault or write_fault(settings.state_dir):
        return fault
    owner = lock_owner(settings.state_dir)
    if owner is None or owner.command != "run":
        return "no `otel-novu run` uses the state directory"
    if settings.why_nothing_is_sent:
        return None
    late = _lateness(settings, store, owner, "beacon")
    return f"the last beacon report is {late:.0f} s late" if late > GRACE else None


def _lateness(settings: Settings, store: Store, owner: LockOwner, scope: str) -> float:
    """Return the seconds since the scope's next report was due."""
    reports = (*store.listing(), store.last_attempt(scope))
    times = (each.read_at for each in reports if each and each.scope == scope)
    last = max([owner.since, *times])
    # The first report is due at once, later ones after an interval.
    return time.time() - last - (settings.interval if last > owner.since else 0.0)


def _missing_figures(settings: Settings, store: Store) -> str | None:
    running = Running(settings, store)
    if running.owner is None or not running.decision.enabled or settings.why_nothing_is_sent:
        return None
    late = _lateness(settings, store, running.owner, "usage")
    if late > GRACE + settings.query_timeout:
        return f"the last usage report is {late:.0f} s late; does run have MONGO_URL?"
    reports = [each for each in (store.newest("usage"), store.last_attempt("usage")) if each]
    last = max(reports, key=lambda report: report.read_at, default=None)
    if last is None:
        return None
    [resource] = json.loads(request_json(last.body))["resourceMetrics"]
    [metrics] = (scope["metrics"] for scope in resource["scopeMetrics"])
    count = len(figures_in_use(delivery=settings.delivery_figures))
    read = next(each for each in metrics if each["name"] == FIGURES_READ)
    number = int(read["gauge"]["dataPoints"][0]["asInt"])
    return None if number >= count else f"{number} of {count} usage figures could be read"
