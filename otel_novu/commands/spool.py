"""`otel-novu spool`: what waits for delivery, and sending it now."""

import json
import sys
import time
from collections.abc import Callable

from otel_novu.commands.complaint import complain
from otel_novu.commands.due import decision_in_force
from otel_novu.delivery import spool
from otel_novu.exporter import Exporter
from otel_novu.settings import Exporter as Destination
from otel_novu.settings import Settings
from otel_novu.state import flush_request
from otel_novu.state.consent import decide, read_admin
from otel_novu.state.directory import Held, NotKept, StateDirectory, Unreadable
from otel_novu.state.identity import look_at_instance_id
from otel_novu.times import utc

# How long a running exporter may take to see the request, beside one attempt a report, seconds.
_SEEN_WITHIN = 10.0
_LOOK = 0.2


def list_waiting(settings: Settings, *, as_json: bool) -> int:
    """Print the reports that wait, oldest first.

    Args:
        settings: what the user set.
        as_json: one JSON document a line.
    """
    with StateDirectory.look(settings.state_dir) as state:
        try:
            listing = spool.look(state)
            _, held_back = _waiting(settings, state, listing)
        except Unreadable as error:
            return complain(f"the spool can't be read: {error.why}.")
    for report in listing.reports:
        if as_json:
            read = utc(report.read_at)
            print(json.dumps({"meter": report.meter, "read": read, "bytes": report.size}))
        else:
            print(f"{utc(report.read_at)}  {report.meter:6}  {report.size} bytes")
    if not as_json:
        until = (
            f", {held_back} of them (usage) until usage figures are on again" if held_back else ""
        )
        print(f"{len(listing.reports)} reports wait for delivery{until}.")
    if listing.damaged:
        complain(f"{listing.damaged} files of the spool are damaged; `run` sets them aside.")
    return int(listing.damaged > 0)


def flush(settings: Settings, now: Callable[[], float] = time.time) -> int:
    """Send what waits, now; through `run` where it holds the state directory.

    Args:
        settings: what the user set.
        now: the wall clock, Unix time in seconds.

    Returns:
        The exit code: 0 only where nothing waits any more but usage reports while usage figures
        are off, which are not sent then.

    Raises:
        StateError: the state directory can't be used.
        Held: another command than `run` holds it.
    """
    with StateDirectory.open(settings.state_dir) as state:
        try:
            with state.lock("spool"):
                if (why_not := _why_not_sent(settings)) is not None:
                    return complain(f"nothing is sent, as {why_not}.")
                _send(settings, state, now)
        except Held as error:
            if error.command != "run":
                raise
            return _flush_through_run(settings, state, error.pid)
        return _tell_what_waits(settings, state)


def _why_not_sent(settings: Settings) -> str | None:
    if settings.sdk_disabled:
        return "OTEL_SDK_DISABLED is true"
    if Destination.OTLP not in settings.exporters:
        return "OTEL_METRICS_EXPORTER does not name otlp"
    return None


def _send(settings: Settings, state: StateDirectory, now: Callable[[], float]) -> None:
    identity = look_at_instance_id(settings.instance_id, state)
    decision = decide(settings.telemetry, read_admin(state))
    exporter = Exporter(settings, state, identity, decision, now)
    exporter.deliver_waiting()
    deadline = time.monotonic() + settings.otlp.timeout * max(1, exporter.waiting)
    while exporter.due and time.monotonic() < deadline and not exporter.failed:
        time.sleep(_LOOK)
    exporter.close(settings.otlp.timeout)


def _flush_through_run(settings: Settings, state: StateDirectory, pid: int | None) -> int:
    try:
        flush_request.ask(state)
    except NotKept as error:
        return complain(f"the running exporter could not be asked: {error.why}.")
    seconds = _SEEN_WITHIN + settings.otlp.timeout
    if _waiting(settings, state, spool.look(state))[0]:
        asked = f"Asked process {pid} (run) to send; waiting up to {seconds:g} seconds."
        print(asked, file=sys.stderr, flush=True)
    deadline = time.monotonic() + seconds
    while _waiting(settings, state, spool.look(state))[0] and time.monotonic() < deadline:
        time.sleep(_LOOK)
    return _tell_what_waits(settings, state)


def _tell_what_waits(settings: Settings, state: StateDirectory) -> int:
    due, held_back = _waiting(settings, state, spool.look(state))
    if held_back:
        print(f"{held_back} usage reports wait until usage figures are on again.")
    if due:
        return complain(f"{due} reports still wait; `otel-novu show --last` says why.")
    if not held_back:
        print("Nothing waits.")
    return 0


def _waiting(settings: Settings, state: StateDirectory, listing: spool.Listing) -> tuple[int, int]:
    """Count the reports that wait to be sent, and those that are not sent while usage is off."""
    decision = decision_in_force(settings, state.held_by(), state)
    meters = [report.meter for report in listing.reports]
    held_back = 0 if decision.enabled else meters.count("usage")
    return len(meters) - held_back, held_back
