"""The exporter that runs on the state directory, seen from another process."""

import os
import signal

from otel_novu.consent import Decision, read_decision, running_decision
from otel_novu.settings import Settings
from otel_novu.state_dir import LockOwner, pid_namespace
from otel_novu.store import LastAttempt, Store


def decision_in_force(settings: Settings, store: Store, owner: LockOwner | None) -> Decision:
    """Return what the running exporter has decided, else what this environment decides.

    Their environments may differ.
    """
    if owner is not None and (decision := running_decision(store)):
        return decision
    return read_decision(settings, store)


def next_due(
    attempt: LastAttempt | None, owner: LockOwner | None, decision: Decision
) -> float | None:
    """Return the Unix time of the scope's next report, None if none is due."""
    if attempt is None or owner is None or owner.command != "run":
        return None
    return attempt.next_due if attempt.scope == "beacon" or decision.enabled else None


def signal_running(owner: LockOwner) -> bool:
    """Send SIGHUP to a running `run`: it reads the admin setting and delivers what waits.

    Returns:
        Whether it was sent. It is not sent into another container's process namespace, where the
        id is another process's.
    """
    if owner.command != "run" or owner.pid is None or owner.namespace != pid_namespace():
        return False
    try:
        os.kill(owner.pid, signal.SIGHUP)
    except OSError:
        return False
    return True
