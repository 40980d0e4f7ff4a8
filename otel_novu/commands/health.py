"""`otel-novu health`: is `run` alive, and was the last report due made?"""

import argparse
import os
import time
from contextlib import closing

from otel_novu.commands.output import note
from otel_novu.settings import Settings
from otel_novu.state_dir import lock_owner
from otel_novu.store import Store

# How late a report may be before something is wrong, seconds.
GRACE = 60.0


def main(settings: Settings, _: argparse.Namespace) -> int:
    """Answer a container probe: 0 only if all is well."""
    with closing(Store.open_read_only(settings.state_dir)) as store:
        problem = _problem(settings, store, time.time())
        if problem is not None:
            note(f"not ok: {problem}")
            return 1
        waiting = store.waiting()
    if settings.sdk_disabled or not settings.exporters:
        print("ok: run is alive; it has nothing to send")
    else:
        print(f"ok: run is alive and reports in time; {waiting} reports wait for delivery")
    return 0


def _problem(settings: Settings, store: Store, now: float) -> str | None:
    owner = lock_owner(settings.state_dir)
    if not store.readable:
        return store.fault
    if owner is None or owner.command != "run":
        return "no `otel-novu run` uses the state directory"
    if settings.sdk_disabled or not settings.exporters:
        return None
    if why := _not_writable(settings):
        return f"the state directory can't be written ({why}); reports are kept in memory"
    last = max([owner.since, *_beacon_times(store)])
    # The first report is due at once, later ones after an interval.
    allowed = GRACE + (settings.interval if last > owner.since else 0.0)
    late = now - last - allowed
    return f"the last beacon report is {late + GRACE:.0f} s late" if late > 0 else None


def _not_writable(settings: Settings) -> str | None:
    try:
        if not os.access(settings.state_dir, os.W_OK | os.X_OK):
            return "permission denied or read-only"
        return None if os.statvfs(settings.state_dir).f_bavail else "no space left"
    except OSError as error:
        return error.strerror


def _beacon_times(store: Store) -> list[float]:
    times = [row.read_at for row in store.listing() if row.scope == "beacon"]
    last = store.last_attempt("beacon")
    return times if last is None else [*times, last.read_at]
