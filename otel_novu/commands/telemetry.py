"""`otel-novu telemetry`: the admin setting of the usage figures, and what follows from it."""

import argparse
import json
import time
from contextlib import closing

from otel_novu.commands.output import fail, utc
from otel_novu.commands.running import decision_in_force, next_due, signal_running
from otel_novu.consent import ADMIN_SETTING, Decision, read_decision
from otel_novu.exporter import SCOPES
from otel_novu.settings import Settings, SettingsError
from otel_novu.state_dir import LockOwner, lock_owner
from otel_novu.store import LastAttempt, Store


def main(settings: Settings, options: argparse.Namespace) -> int:
    """Run `telemetry status`, `enable` or `disable`.

    Raises:
        SettingsError: --json goes with status only.
    """
    if options.action == "status":
        return status(settings, as_json=options.json)
    if options.json:
        raise SettingsError(f"--json: is given to {options.action}; expected only with status")
    return store(settings, enabled=options.action == "enable")


def status(settings: Settings, *, as_json: bool) -> int:
    """Print whether usage figures are sent, who decides, what was sent last, and what is due."""
    with closing(Store.open_read_only(settings.state_dir)) as store:
        decision = read_decision(settings, store)
        owner = lock_owner(settings.state_dir)
        theirs = decision_in_force(settings, store, owner)
        attempts = {scope: store.last_attempt(scope) for scope in SCOPES}
    due = {scope: next_due(attempts[scope], owner, theirs) for scope in SCOPES}
    if as_json:
        print(json.dumps(_document(decision, owner, theirs, attempts, due)))
        return 0
    change = "`otel-novu telemetry enable|disable`" if decision.changeable else "NOVU_TELEMETRY"
    print(f"Usage figures are {_decided(decision)}. To change it, use {change}.")
    print("The beacon is always sent.")
    if owner is None:
        print("No exporter runs on this state directory.")
    else:
        print(f"An exporter runs (process {owner.pid}); its usage figures are {_decided(theirs)}.")
    for scope in SCOPES:
        print(_sentence(scope, attempts[scope], due[scope], time.time()))
    return 0


def store(settings: Settings, *, enabled: bool) -> int:
    """Store the admin setting; a running exporter follows at once, at the latest in a minute.

    Raises:
        StateDirError: the state directory can't be used.
    """
    if settings.telemetry is not None:
        word = "on" if settings.telemetry else "off"
        return fail(
            f"NOVU_TELEMETRY is set and decides that usage figures are {word}; unset it to let "
            "the admin setting decide."
        )
    with closing(Store.open(settings.state_dir)) as state:
        owner = lock_owner(settings.state_dir)
        theirs = decision_in_force(settings, state, owner)
        if owner is not None and not theirs.changeable:
            return fail(
                f"NOVU_TELEMETRY is set where the exporter runs (process {owner.pid}) and decides "
                f"that usage figures are {_word(theirs)}; unset it there to let the admin setting "
                "decide."
            )
        if not state.set(ADMIN_SETTING, "on" if enabled else "off"):
            return fail(f"The admin setting was not stored: {state.fault}.")
        if not enabled and owner is None:
            # Or the next exporter would count what is created until usage figures are on again.
            state.pause_created()
    print(f"Usage figures are {'on' if enabled else 'off'} from now on; {_follows(owner)}.")
    return 0


def _follows(owner: LockOwner | None) -> str:
    if owner is None:
        return "the next exporter starts with it"
    when = "at once" if signal_running(owner) else "within a minute"
    return f"the running exporter follows {when}"


def _word(decision: Decision) -> str:
    return "on" if decision.enabled else "off"


def _decided(decision: Decision) -> str:
    return f"{_word(decision)}, decided by {decision.by}"


def _sentence(scope: str, attempt: LastAttempt | None, due: float | None, now: float) -> str:
    if attempt is None:
        return f"No {scope} report was tried yet."
    next_one = "none is due"
    if due is not None:
        next_one = f"the next {'was' if due < now else 'is'} due {utc(due)}"
    return (
        f"The last {scope} report was read {utc(attempt.read_at)} and tried "
        f"{utc(attempt.tried_at)} to {attempt.endpoint}: {attempt.result}; {next_one}."
    )


def _document(
    decision: Decision,
    owner: LockOwner | None,
    theirs: Decision,
    attempts: dict[str, LastAttempt | None],
    due: dict[str, float | None],
) -> dict[str, object]:
    return {
        **_fields(decision),
        "exporter": None if owner is None else {"pid": owner.pid, "decision": _fields(theirs)},
        "last": {
            scope: {
                "read": utc(attempt.read_at),
                "tried": utc(attempt.tried_at),
                "destination": attempt.endpoint,
                "outcome": attempt.result,
                "next_due": None if (when := due[scope]) is None else utc(when),
            }
            for scope, attempt in attempts.items()
            if attempt is not None
        },
    }


def _fields(decision: Decision) -> dict[str, object]:
    return {
        "enabled": decision.enabled,
        "by": decision.by,
        "changeable": decision.changeable,
    }
