"""`otel-novu spool`: the reports that wait for delivery, and sending them now."""

import argparse
import json
import time

from otel_novu.commands.output import fail, note, utc
from otel_novu.commands.running import Running, write_fault
from otel_novu.exporter import Exporter
from otel_novu.log import plural
from otel_novu.settings import Settings
from otel_novu.state_dir import LockedError, lock
from otel_novu.store import Listed, Store

# How long a running exporter may take beside one attempt, seconds.
_REACTION = 10.0
_POLL = 0.2


def main(settings: Settings, options: argparse.Namespace) -> int:
    """List the reports that wait or were rejected, oldest first; with --flush, first send them.

    While usage figures are off, their reports wait, which is no failed flush.
    """
    store = Store(settings.state_dir, read_only=not options.flush)
    before = _rejected(store.listing())
    if store.readable and options.flush and (why := _flush(settings, store)):
        return fail(why)
    rows, (due, held) = store.listing(), Running(settings, store).waiting()
    if not store.readable:
        return fail(f"{store.fault}.")
    _print(rows, due, held, as_json=options.json)
    if fault := write_fault(settings.state_dir):
        return fail(f"{fault}. Reports that an exporter keeps in memory are not listed.")
    if options.flush and due:
        return fail(f"{plural(due, 'report', 'wait')} still; `otel-novu show --last` says why.")
    if options.flush and (new := _rejected(rows) - before) > 0:
        return fail(f"Rejected just now, and not sent again: {plural(new, 'report')}.")
    return 0


def _rejected(rows: list[Listed]) -> int:
    return sum(row.rejected is not None for row in rows)


def _document(row: Listed) -> dict[str, object]:
    rejected = {"rejected": row.rejected} if row.rejected else {}
    return {"scope": row.scope, "read": utc(row.read_at), "bytes": row.size, **rejected}


def _print(rows: list[Listed], due: int, held: int, *, as_json: bool) -> None:
    given_up = _rejected(rows)
    if as_json:
        counts = {"waiting": due + held, "held": held, "rejected": given_up}
        print(json.dumps({"reports": [*map(_document, rows)], **counts}))
        return
    for row in rows:
        rejected = f"  rejected: {row.rejected}" if row.rejected else ""
        print(f"{utc(row.read_at)}  {row.scope:6}  {row.size} bytes{rejected}")
    if given_up:
        print(f"Rejected, and not sent again: {plural(given_up, 'report')}.")
    print(f"{plural(due, 'report', 'wait')} for delivery.")
    if held:
        print(f"{plural(held, 'usage report', 'wait')} until usage figures are on again.")


def _flush(settings: Settings, store: Store) -> str | None:
    """Send what waits, through `run` if it runs; return why nothing is sent."""
    running = Running(settings, store)
    if running.owner is None or not running.is_run:
        with lock(settings.state_dir, "spool"):
            Exporter(settings, store).flush()
        why = settings.why_nothing_is_sent
        return f"Nothing is sent: {why}." if why else None
    asked = running.signal()
    if not running.waiting()[0]:
        return None
    if not asked:
        raise LockedError(settings.state_dir, running.owner)
    seconds = _REACTION + settings.otlp.timeout
    note(f"Asked process {running.owner.pid} (run) to send; waiting up to {seconds:g} seconds.")
    deadline = time.monotonic() + seconds
    while Running(settings, store).waiting()[0] and time.monotonic() < deadline:
        time.sleep(_POLL)
    return None
