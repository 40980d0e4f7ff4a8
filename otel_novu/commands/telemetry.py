"""`otel-novu telemetry`: the admin setting, and what it comes to."""

import json

from otel_novu.commands.complaint import complain
from otel_novu.outcome import describe
from otel_novu.settings import Settings
from otel_novu.state import last_report
from otel_novu.state.consent import Decision, decide, read_admin, store_admin
from otel_novu.state.directory import NotKept, StateDirectory, Unreadable
from otel_novu.times import utc


def status(settings: Settings, *, as_json: bool) -> int:
    """Print whether usage figures are sent, who decided, what left last, and what is due next."""
    with StateDirectory.look(settings.state_dir) as state:
        decision = decide(settings.telemetry, read_admin(state))
        reports = [_last(state, meter) for meter in last_report.METERS]
    if as_json:
        print(json.dumps(_document(decision, reports)))
        return 0
    change = "otel-novu telemetry enable or disable" if decision.changeable else "NOVU_TELEMETRY"
    word = "on" if decision.enabled else "off"
    print(f"Usage figures are {word}, decided by {decision.by}; {change} changes it.")
    print("The beacon is always sent.")
    for meter, report in zip(last_report.METERS, reports, strict=True):
        print(_sentence(meter, report))
    return 0


def store(settings: Settings, *, enabled: bool) -> int:
    """Store the admin setting; a running exporter follows within ten seconds.

    Raises:
        StateError: the state directory can't be used.
    """
    word = "on" if enabled else "off"
    if settings.telemetry is not None:
        now = "on" if settings.telemetry else "off"
        return complain(
            f"NOVU_TELEMETRY is set and has decided that usage figures are {now}; unset it to "
            "let the admin setting decide."
        )
    with StateDirectory.open(settings.state_dir) as state:
        try:
            store_admin(state, enabled=enabled)
        except NotKept as error:
            return complain(f"the admin setting was not stored: {error.why}.")
    print(f"Usage figures are {word} from now on; a running exporter follows within ten seconds.")
    return 0


def _last(state: StateDirectory, meter: str) -> last_report.LastReport | None:
    try:
        return last_report.load(state, meter)
    except Unreadable:
        return None


def _sentence(meter: str, report: last_report.LastReport | None) -> str:
    if report is None:
        return f"No {meter} report is known to have been tried."
    return (
        f"The last {meter} report was read {utc(report.read_at)} and tried {utc(report.tried_at)} "
        f"to {report.destination}: {describe(report.outcome)}; the next is due "
        f"{utc(report.next_due)}."
    )


def _document(
    decision: Decision, reports: list[last_report.LastReport | None]
) -> dict[str, object]:
    return {
        "enabled": decision.enabled,
        "by": decision.by,
        "changeable": decision.changeable,
        "last": {
            report.meter: {
                "read": utc(report.read_at),
                "tried": utc(report.tried_at),
                "destination": report.destination,
                "outcome": describe(report.outcome),
                "next_due": utc(report.next_due),
            }
            for report in reports
            if report is not None
        },
    }
