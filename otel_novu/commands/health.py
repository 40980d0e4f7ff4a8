"""`otel-novu health`: is `run` alive, and was the last report due delivered or kept?"""

import sys
import time
from collections.abc import Callable

from otel_novu.delivery import spool
from otel_novu.settings import Settings
from otel_novu.state import last_report
from otel_novu.state.directory import StateDirectory, Unreadable

# What a report may be late by before something is wrong, seconds.
GRACE = 60.0


def health(settings: Settings, now: Callable[[], float] = time.time) -> int:
    """Tell a container probe; 0 only where all is well.

    Args:
        settings: what the user set.
        now: the wall clock, Unix time in seconds.
    """
    with StateDirectory.look(settings.state_dir) as state:
        holder = state.held_by()
        keeps_nothing = f"; it keeps nothing: {why}" if (why := state.why_not_writable) else ""
        if holder is None or holder.command != "run":
            return _ill(f"no `otel-novu run` holds the state directory{keeps_nothing}")
        if settings.sdk_disabled or not settings.exporters:
            return _well("run is alive; nothing is to be sent")
        newest = _newest_reading(state)
        since = state.held_since()
        if newest is None and since is not None and now() - since > GRACE:
            return _ill(f"of its reports none is in the state directory{keeps_nothing}")
        if newest is None:
            return _well("run is alive; its first report is not made yet")
        late = now() - newest - settings.interval
        if late > GRACE:
            return _ill(f"the last beacon report is overdue by {late:.0f} s{keeps_nothing}")
        waiting = len(spool.look(state).reports)
        kept = f"; {waiting} reports wait for the collector" if waiting else ""
        return _well(f"run is alive, and its last report was delivered or is kept{kept}")


def _newest_reading(state: StateDirectory) -> float | None:
    readings = [r.read_at for r in spool.look(state).reports if r.meter == "beacon"]
    try:
        last = last_report.load(state, "beacon")
    except Unreadable:
        last = None
    if last is not None:
        readings.append(last.read_at)
    return max(readings, default=None)


def _well(sentence: str) -> int:
    print(f"ok: {sentence}")
    return 0


def _ill(sentence: str) -> int:
    print(f"not ok: {sentence}", file=sys.stderr)
    return 1
