"""What the exporter that holds the state directory has decided, and what it sends next."""

from otel_novu.settings import Settings
from otel_novu.state.consent import Decision, decide, kept_decision, read_admin
from otel_novu.state.directory import Holder, StateDirectory
from otel_novu.state.last_report import LastReport
from otel_novu.times import utc

# They keep what they decided. What an embedding application finds was left by one of these.
_DECIDING = ("run", "once", "spool")


def decision_of(holder: Holder | None, state: StateDirectory) -> Decision | None:
    """Tell what the holder has decided; None where nobody holds it, or that is not known."""
    if holder is None or holder.command not in _DECIDING:
        return None
    return kept_decision(state)


def decision_in_force(settings: Settings, holder: Holder | None, state: StateDirectory) -> Decision:
    """Tell what the holder has decided, else what this command's own environment comes to."""
    return decision_of(holder, state) or decide(settings.telemetry, read_admin(state))


def next_due(report: LastReport, holder: Holder | None, in_force: Decision) -> float | None:
    """Tell when the next report of that meter is due, Unix seconds; None where none is.

    Args:
        report: the last one.
        holder: who holds the state directory.
        in_force: as `decision_in_force` tells.
    """
    if holder is None or holder.command != "run":
        return None
    return report.next_due if report.meter == "beacon" or in_force.enabled else None


def due_clause(due: float | None, now: float) -> str:
    """Say when the next report is due, or was, or that none is.

    Args:
        due: what `next_due` tells.
        now: Unix seconds.
    """
    if due is None:
        return "none is due"
    return f"the next {'was' if due < now else 'is'} due {utc(due)}"
