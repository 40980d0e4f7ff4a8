"""`otel-novu telemetry`: the admin setting of the usage figures, and what follows from it."""

import argparse
import json
import time
from collections.abc import Mapping

from otel_novu.commands.output import fail
from otel_novu.commands.running import Running, decided, facts, print_attempt
from otel_novu.consent import ADMIN_SETTING, Decision, read_decision
from otel_novu.settings import Settings, SettingsError
from otel_novu.store import SCOPES, LastAttempt, Store


def main(settings: Settings, options: argparse.Namespace) -> int:
    """Run `telemetry status`, `enable` or `disable`."""
    if options.action == "status":
        return status(settings, as_json=options.json)
    if options.json:
        raise SettingsError(f"--json: is given to {options.action}; expected only with status")
    return store(settings, "on" if options.action in ("enable", "on") else "off")


def status(settings: Settings, *, as_json: bool) -> int:
    """Print whether usage figures are sent, who decides, what was sent last, and what is due."""
    state = Store(settings.state_dir, read_only=True)
    decision, running = read_decision(settings, state), Running(settings, state)
    last, fault = running.last_attempts(time.time()), state.fault
    if as_json:
        owner, theirs = running.owner, _fields(running.decision)
        exporter = None if owner is None else {"pid": owner.pid, "decision": theirs}
        attempts = {scope: facts(last[scope]) for scope in last}
        document = {**_fields(decision), "last": attempts, "exporter": exporter, "fault": fault}
        print(json.dumps(document))
    elif fault is None:
        _print(decision, running, last)
    else:
        print(f"Usage figures are {decided(decision)}.")
    return 0 if fault is None else fail(f"{fault}.")


def _print(decision: Decision, running: Running, last: Mapping[str, LastAttempt]) -> None:
    change = "`otel-novu telemetry enable|disable`" if decision.changeable else "NOVU_TELEMETRY"
    print(f"Usage figures are {decided(decision)}.\nTo change it, use {change}.")
    print("The beacon is always sent.")
    if running.owner is None:
        print("No exporter runs on this state directory.")
    else:
        theirs = decided(running.decision)
        print(f"Process {running.owner.pid} reports; its usage figures are {theirs}.")
    for scope in SCOPES:
        if scope in last:
            print_attempt(last[scope])
        else:
            print(f"No attempt to send a {scope} report is stored.")


def store(settings: Settings, word: str) -> int:
    """Store the admin setting; a running exporter follows at once, at the latest in a minute."""
    state = Store(settings.state_dir)
    running = Running(settings, state)
    owner, decision, where = running.owner, running.decision, "here"
    if settings.telemetry is not None:
        decision = read_decision(settings, state)
    elif owner is not None:
        where = f"where the exporter runs (process {owner.pid})"
    if not decision.changeable:
        what = f"usage figures are {decision.word} until you unset it there"
        return fail(f"NOVU_TELEMETRY is set {where}: {what}.")
    if not state.set(ADMIN_SETTING, word):
        instead = f"NOVU_TELEMETRY={'true' if word == 'on' else 'false'} needs no disk"
        return fail(f"The admin setting was not stored: {state.fault}; {instead}.")
    follows = "the next exporter starts with it"
    if owner is not None:
        follows = f"the exporter follows {'at once' if running.signal() else 'within a minute'}"
    elif word == "off":
        # Or the next exporter would count what is created until usage figures are on again.
        state.pause_created()
    print(f"Usage figures are {word} from now on; {follows}.")
    return 0


def _fields(decision: Decision) -> dict[str, object]:
    return {"enabled": decision.enabled, "by": decision.by, "changeable": decision.changeable}
