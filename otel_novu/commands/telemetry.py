"""`otel-novu telemetry`: the admin setting, and what it comes to."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict

from otel_novu.commands.complaint import complain
from otel_novu.commands.due import decision_of, due_clause, next_due
from otel_novu.outcome import describe
from otel_novu.settings import Settings
from otel_novu.sources.created import CreatedWatch
from otel_novu.state import last_report
from otel_novu.state.consent import Decision, decide, read_admin, store_admin
from otel_novu.state.created_file import CreatedFile
from otel_novu.state.directory import Held, Holder, NotKept, StateDirectory, Unreadable
from otel_novu.state.last_report import LastReport
from otel_novu.times import utc


def status(settings: Settings, *, as_json: bool, now: Callable[[], float] = time.time) -> int:
    """Print whether usage figures are sent, who decided, what left last, and what is due next."""
    with StateDirectory.look(settings.state_dir) as state:
        decision = decide(settings.telemetry, read_admin(state))
        running = state.held_by()
        theirs = decision_of(running, state)
        reports = {meter: _last(state, meter) for meter in last_report.METERS}
    due = {
        meter: next_due(report, running, theirs or decision)
        for meter, report in reports.items()
        if report is not None
    }
    if as_json:
        print(json.dumps(_document(decision, running, theirs, reports, due)))
        return 0
    change = "otel-novu telemetry enable or disable" if decision.changeable else "NOVU_TELEMETRY"
    print(f"Usage figures are {_decided(decision)}; {change} changes it.")
    print("The beacon is always sent.")
    print(_running_sentence(decision, running, theirs))
    for meter, report in reports.items():
        print(_sentence(meter, report, due_clause(due.get(meter), now())))
    return 0


def store(settings: Settings, *, enabled: bool) -> int:
    """Store the admin setting; a running exporter follows within ten seconds.

    Raises:
        StateError: the state directory can't be used.
    """
    if settings.telemetry is not None:
        now = _word(enabled=settings.telemetry)
        return complain(
            f"NOVU_TELEMETRY is set and has decided that usage figures are {now}; unset it to "
            "let the admin setting decide."
        )
    with StateDirectory.open(settings.state_dir) as state:
        running = state.held_by()
        theirs = decision_of(running, state)
        if theirs is not None and not theirs.changeable:
            return complain(
                f"NOVU_TELEMETRY is set where the exporter runs{_pid(running)} and has decided "
                f"that usage figures are {_word(enabled=theirs.enabled)}; unset it there to let "
                "the admin setting decide."
            )
        try:
            _store(state, enabled=enabled)
        except NotKept as error:
            return complain(f"the admin setting was not stored: {error.why}.")
    follows = "the running exporter follows within ten seconds"
    next_one = "no exporter runs, the next one begins with it"
    print(
        f"Usage figures are {_word(enabled=enabled)} from now on; "
        f"{next_one if running is None else follows}."
    )
    return 0


def _store(state: StateDirectory, *, enabled: bool) -> None:
    before = decide(None, read_admin(state))
    store_admin(state, enabled=enabled)
    if before.enabled == enabled:
        return
    # A running exporter does it itself. Without one, what is created until usage is on again
    # would else be counted by the next as if it had only been away.
    try:
        with state.lock("telemetry"):
            CreatedWatch(CreatedFile(state), ()).forget_begin()
    except Held:
        return


def _word(*, enabled: bool) -> str:
    return "on" if enabled else "off"


def _decided(decision: Decision) -> str:
    return f"{_word(enabled=decision.enabled)}, decided by {decision.by}"


def _pid(running: Holder | None) -> str:
    return "" if running is None or running.pid is None else f" (process {running.pid})"


def _running_sentence(decision: Decision, running: Holder | None, theirs: Decision | None) -> str:
    if running is None:
        return "No exporter runs on this state directory: nothing is due."
    if theirs is None or theirs.enabled == decision.enabled:
        return f"An exporter runs{_pid(running)}."
    return f"An exporter runs{_pid(running)}; its usage figures are {_decided(theirs)}."


def _last(state: StateDirectory, meter: str) -> LastReport | None:
    try:
        return last_report.load(state, meter)
    except Unreadable:
        return None


def _sentence(meter: str, report: LastReport | None, due: str) -> str:
    if report is None:
        return f"No {meter} report is known to have been tried."
    return (
        f"The last {meter} report was read {utc(report.read_at)} and tried {utc(report.tried_at)} "
        f"to {report.destination}: {describe(report.outcome)}; {due}."
    )


def _document(
    decision: Decision,
    running: Holder | None,
    theirs: Decision | None,
    reports: dict[str, LastReport | None],
    due: dict[str, float | None],
) -> dict[str, object]:
    exporter = None
    if running is not None:
        exporter = {"pid": running.pid, "decision": None if theirs is None else asdict(theirs)}
    return {
        **asdict(decision),
        "exporter": exporter,
        "last": {
            meter: {
                "read": utc(report.read_at),
                "tried": utc(report.tried_at),
                "destination": report.destination,
                "outcome": describe(report.outcome),
                "next_due": None if (next_one := due[meter]) is None else utc(next_one),
            }
            for meter, report in reports.items()
            if report is not None
        },
    }
