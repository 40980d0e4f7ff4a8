"""`otel-novu spool`: the reports that wait for delivery, and sending them now."""

import argparse
import json
import time
from contextlib import closing

from otel_novu.commands.output import fail, note, utc
from otel_novu.commands.running import decision_in_force, signal_running
from otel_novu.exporter import SCOPES, Exporter
from otel_novu.settings import Settings
from otel_novu.state_dir import LockedError, LockOwner, lock, lock_owner
from otel_novu.store import Store

# How long a running exporter may take beside one attempt, seconds.
_REACTION = 10.0
_POLL = 0.2


def main(settings: Settings, options: argparse.Namespace) -> int:
    """Run `spool`, or `spool --flush`."""
    return flush(settings) if options.flush else list_waiting(settings, as_json=options.json)


def list_waiting(settings: Settings, *, as_json: bool) -> int:
    """Print the reports that wait, oldest first, and those that the receiver rejected."""
    with closing(Store.open_read_only(settings.state_dir)) as store:
        if not store.readable:
            return fail(f"The reports can't be read: {store.fault}.")
        rows = store.listing()
        _, held = _waiting(settings, store)
    for row in rows:
        if as_json:
            line = {"scope": row.scope, "read": utc(row.read_at), "bytes": row.size}
            print(json.dumps(line if row.rejected is None else line | {"rejected": row.rejected}))
        else:
            rejected = "" if row.rejected is None else f"  rejected: {row.rejected}"
            print(f"{utc(row.read_at)}  {row.scope:6}  {row.size} bytes{rejected}")
    if not as_json:
        waiting = sum(row.rejected is None for row in rows)
        until = f", {held} of them (usage) until usage figures are on again" if held else ""
        print(f"{waiting} reports wait for delivery{until}.")
    return 0


def flush(settings: Settings) -> int:
    """Send what waits, now; through `run` if it runs on the state directory.

    Returns:
        The exit code: 0 only if nothing waits any more but usage reports while usage figures are
        off, which are not sent then.

    Raises:
        StateDirError: the state directory can't be used.
        LockedError: another command than `run` runs on it.
    """
    with closing(Store.open(settings.state_dir)) as store:
        if not store.readable:
            return fail(f"The reports can't be read: {store.fault}.")
        owner = lock_owner(settings.state_dir)
        if owner is not None and owner.command == "run":
            _flush_through_run(settings, store, owner)
            return _print_result(settings, store)
        with lock(settings.state_dir, "spool"):
            exporter = Exporter(settings, store)
            if not exporter.destination:
                why = "OTEL_SDK_DISABLED" if settings.sdk_disabled else "OTEL_METRICS_EXPORTER"
                return fail(f"Nothing is sent: {why} says so.")
            exporter.flush()
        return _print_result(settings, store)


def _flush_through_run(settings: Settings, store: Store, owner: LockOwner) -> None:
    if not _waiting(settings, store)[0]:
        return
    if not signal_running(owner):
        raise LockedError(settings.state_dir, owner)
    seconds = _REACTION + settings.otlp.timeout
    note(f"Asked process {owner.pid} (run) to send; waiting up to {seconds:g} seconds.")
    deadline = time.monotonic() + seconds
    while _waiting(settings, store)[0] and time.monotonic() < deadline:
        time.sleep(_POLL)


def _print_result(settings: Settings, store: Store) -> int:
    due, held = _waiting(settings, store)
    if held:
        print(f"{held} usage reports wait until usage figures are on again.")
    if due:
        return fail(f"{due} reports still wait; `otel-novu show --last` says why.")
    if not held:
        print("Nothing waits.")
    return 0


def _waiting(settings: Settings, store: Store) -> tuple[int, int]:
    """Count the reports to be sent, and those not sent while usage figures are off."""
    decision = decision_in_force(settings, store, lock_owner(settings.state_dir))
    scopes = SCOPES if decision.enabled else ("beacon",)
    held = 0 if decision.enabled else store.waiting(("usage",)) or 0
    return store.waiting(scopes) or 0, held
