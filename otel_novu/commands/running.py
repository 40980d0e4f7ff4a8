"""The state directory and the exporter that runs on it, seen from another process."""

import math
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from otel_novu.commands.output import row, utc
from otel_novu.consent import Decision, read_decision, running_decision
from otel_novu.settings import Settings
from otel_novu.state_dir import lock_owner, pid_namespace
from otel_novu.store import SCOPES, LastAttempt, Store

_ELSEWHERE = "set OTEL_NOVU_STATE_DIR to another directory"


class Running:
    """The exporter that runs on the state directory."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._interval, self._store = settings.interval, store
        self.owner = lock_owner(settings.state_dir)  # None: no exporter runs
        self.is_run = self.owner is not None and self.owner.command == "run"
        theirs = None if self.owner is None else running_decision(store)
        # Of the exporter, or of this environment, which may differ.
        self.decision = theirs or read_decision(settings, store)

    def waiting(self) -> tuple[int, int]:
        """Count the reports to be sent, and those that wait until usage figures are on again."""
        beacons, usages = (self._store.waiting((scope,)) or 0 for scope in SCOPES)
        return (beacons + usages, 0) if self.decision.enabled else (beacons, usages)

    def last_attempts(self, now: float) -> dict[str, LastAttempt]:
        """Return the last attempt of each scope; its next report is due after `now`."""
        found = filter(None, map(self._store.last_attempt, SCOPES))
        return {each.scope: replace(each, next_due=self._next_due(each, now)) for each in found}

    def _next_due(self, attempt: LastAttempt, now: float) -> float | None:
        scheduled = self.is_run and (attempt.scope == "beacon" or self.decision.enabled)
        if attempt.next_due is None or not scheduled:
            return None
        missed = math.floor((now - attempt.next_due) / self._interval) + 1
        return attempt.next_due + max(0, missed) * self._interval

    def signal(self) -> bool:
        """Let `run` read the admin setting and deliver what waits; return whether it was asked."""
        owner = self.owner
        # In another container's namespace, the id is another process's.
        if owner and owner.pid and self.is_run and owner.namespace == pid_namespace():
            with suppress(OSError):
                os.kill(owner.pid, signal.SIGHUP)
                return True
        return False


def decided(decision: Decision) -> str:
    """Say whether usage figures are on, and who decided."""
    return f"{decision.word}, decided by {decision.by}"


def facts(attempt: LastAttempt) -> Mapping[str, str | None]:
    """Return when and where to a report was sent, and with which result."""
    return {
        "read": utc(attempt.read_at),
        "tried": utc(attempt.tried_at),
        "destination": attempt.endpoint,
        "outcome": attempt.result,
        "next_due": None if attempt.next_due is None else utc(attempt.next_due),
    }


def print_attempt(attempt: LastAttempt) -> None:
    """Print the facts, one a line."""
    print(f"last {attempt.scope} report")
    for name, value in facts(attempt).items():
        print(row(f"  {name.replace('_', ' ')}", value or "none", 13))


def write_fault(directory: Path) -> str | None:
    """Return why the state directory can't be written, as a clause, or None; it may be missing."""
    try:
        place = next(each for each in (directory, *directory.parents) if each.exists())
        if not directory.is_absolute():
            fault = f"no home directory; {_ELSEWHERE}"
        elif not os.access(place, os.W_OK | os.X_OK):
            fault = f"permission denied or read-only; {_ELSEWHERE}"
        elif not os.statvfs(place).f_bavail:
            fault = "no space left; free some"
        else:
            return None
    except OSError as error:
        fault = str(error.strerror)
    return f"{directory} can't be written: {fault}"
