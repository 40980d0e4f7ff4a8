"""`otel-novu check`: what is right or wrong, and how to mend it."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

from otel_novu import unread
from otel_novu.delivery.otlp import sender
from otel_novu.metrics.usage import COLLECTIONS, FIGURES
from otel_novu.mongo_url import database_name, safe_hosts
from otel_novu.outcome import Delivered, Later, Refused
from otel_novu.settings import Exporter, Secret, Settings
from otel_novu.sources.failure import TIMED_OUT, ReadFailed
from otel_novu.sources.novu_db import NovuDatabase, ignored_options
from otel_novu.sources.usage_round import NO_CLOCK, UsageRound, UsageSource
from otel_novu.state.consent import Admin, Decision, decide, read_admin
from otel_novu.state.created_file import Unsaved
from otel_novu.state.directory import StateDirectory, Unreadable
from otel_novu.state.identity import Origin, look_at_instance_id

_URL = "the URL of MONGO_URL or MONGO_URL_FILE"
_MADETIMED_OUTR = "`run` or `once` makes one and keeps it"
# An OTLP request without a metric: every receiver takes it, and nothing arrives.
_EMPTY_REQUEST = b""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check.

    Args:
        subject: what was looked at.
        ok: nothing is to be mended.
        says: what was found, and where it is wrong how to mend it.
    """

    subject: str
    ok: bool
    says: str


def check(settings: Settings, *, as_json: bool, now: Callable[[], float] = time.time) -> int:
    """Try everything that a report needs, and print a line each; nothing is sent or kept.

    Args:
        settings: what the user set.
        as_json: one JSON document a line.
        now: the wall clock, Unix time in seconds.

    Returns:
        The exit code: 1 where something must be mended.
    """
    wrong = False
    for finding in _findings(settings, now):
        wrong |= not finding.ok
        if as_json:
            print(json.dumps(asdict(finding)), flush=True)
        else:
            mark = "ok    " if finding.ok else "WRONG "
            print(f"{mark} {finding.subject}: {finding.says}", flush=True)
    return int(wrong)


def _findings(settings: Settings, now: Callable[[], float]) -> Iterator[Finding]:
    with StateDirectory.look(settings.state_dir) as state:
        yield _state(settings, state)
        closed = _why_closed(state)
        yield _instance(settings, state, closed)
        admin = read_admin(state)
        decision = decide(settings.telemetry, admin)
        yield _flag(decision, admin, closed)
        if decision.enabled:
            yield from _database(settings, state, now)
    yield _collector(settings)


def _state(settings: Settings, state: StateDirectory) -> Finding:
    subject = "state directory"
    if state.why_not_writable is not None:
        why = f"{settings.state_dir} keeps nothing: {state.why_not_writable}"
        return Finding(
            subject, ok=False, says=f"{why}; set OTEL_NOVU_STATE_DIR to a directory of your own."
        )
    holder = state.held_by()
    held = "" if holder is None else f", held by process {holder.pid} (otel-novu {holder.command})"
    return Finding(subject, ok=True, says=f"{settings.state_dir}{held}.")


def _why_closed(state: StateDirectory) -> str | None:
    """Say that the directory can't be read, as a clause; None where it can or is missing."""
    try:
        state.names()
    except Unreadable as error:
        return str(error)
    return None


def _instance(settings: Settings, state: StateDirectory, closed: str | None) -> Finding:
    identity = look_at_instance_id(settings.instance_id, state)
    if identity.origin is Origin.PROCESS:
        if closed is not None:
            return Finding("instance id", ok=False, says=f"it can't be known, as {closed}.")
        # A missing one is made by `run`; one that can't be read is to be mended.
        missing = "instance-id" not in state.names()
        says = f"none is kept yet; {_MADETIMED_OUTR}." if missing else identity.warning or ""
        return Finding("instance id", ok=missing, says=says)
    return Finding("instance id", ok=True, says=f"{identity.value} ({identity.origin.value}).")


def _flag(decision: Decision, admin: Admin, closed: str | None) -> Finding:
    word = "on" if decision.enabled else "off"
    says = f"{word}, decided by {decision.by}"
    if admin in (Admin.UNREADABLE, Admin.NO_ANSWER) and decision.changeable:
        anew = "otel-novu telemetry enable or disable writes it anew"
        mend = anew if closed is None else "mend the state directory first"
        return Finding("usage figures", ok=False, says=f"{says}; {mend}.")
    return Finding("usage figures", ok=True, says=f"{says}.")


def _database(
    settings: Settings, state: StateDirectory, now: Callable[[], float]
) -> Iterator[Finding]:
    url = settings.mongo_url
    if url is None:
        yield Finding(
            "database",
            ok=False,
            says="usage figures are on, but neither MONGO_URL nor MONGO_URL_FILE names Novu's "
            "database; set one of them, or NOVU_TELEMETRY=false.",
        )
        return
    where = f'database "{database_name(url.reveal())}" at {safe_hosts(url.reveal())}'
    source = UsageSource(lambda seconds: NovuDatabase(url, seconds), Unsaved(state))
    round_ = source.read(settings.query_timeout, now)
    yield _connection(where, round_)
    yield from _options(url)
    if round_.collections is not None:
        yield _collections(round_.collections)
    if round_.collections or _why_silent(round_.reasons) is None:
        yield from _figures(round_)


def _options(url: Secret) -> Iterator[Finding]:
    try:
        ignored = ignored_options(url)
    except ReadFailed:  # the round has failed over it as well, and has said it
        return
    for option in ignored:
        yield Finding(
            "MONGO_URL", ok=False, says=f"its option {option} is not understood; mend it."
        )


def _connection(where: str, round_: UsageRound) -> Finding:
    # Where collections were listed it answers, whatever else there is to say.
    if round_.collections is not None or len(round_.reasons) < len(FIGURES):
        return Finding("database", ok=True, says=f"{where} answers.")
    why = _why_silent(round_.reasons) or "no figure can be read, as is said below"
    mend = " Mend" if why.endswith("?") else "; mend"
    says = f"{where}: {why}{mend} {_URL}, or what it names."
    return Finding("database", ok=False, says=says)


def _why_silent(reasons: Mapping[str, str]) -> str | None:
    """Tell the one reason why every figure failed; `all_alike`, but time-outs are one reason."""
    # What is created waits for the database's clock, and says that first.
    plain = {name: why.removeprefix(NO_CLOCK) for name, why in reasons.items()}
    if len(plain) == len(FIGURES) and all(why.startswith(TIMED_OUT) for why in plain.values()):
        return max(plain.values(), key=len)  # it tells most
    return unread.all_alike(plain)


def _collections(found: frozenset[str]) -> Finding:
    missing = [name for name in COLLECTIONS if name not in found]
    if not found:
        mend = f"mend the database's name in the path of {_URL}"
        says = f"none of Novu's seven exists there, so every figure is absent; {mend}."
        return Finding("collections", ok=False, says=says)
    there = ", ".join(sorted(found))
    says = f"{there}; not made yet, counted as 0: {', '.join(missing)}." if missing else f"{there}."
    return Finding("collections", ok=True, says=says)


def _figures(round_: UsageRound) -> Iterator[Finding]:
    for name, seconds in round_.reading.durations.items():
        why = round_.reasons.get(name)
        says = f"{why} (after {seconds:.3f} s)." if why else f"read in {seconds * 1000:.1f} ms."
        yield Finding(f"novu.{name}", ok=why is None, says=says)


def _collector(settings: Settings) -> Finding:
    if settings.sdk_disabled:
        return Finding("collector", ok=True, says="not used, as OTEL_SDK_DISABLED is true.")
    if Exporter.OTLP not in settings.exporters:
        return Finding("collector", ok=True, says="not used, as OTEL_METRICS_EXPORTER says.")
    otlp = sender(settings.otlp)
    outcome = otlp.send(_EMPTY_REQUEST, settings.otlp.timeout)
    if isinstance(outcome, Delivered):
        return Finding("collector", ok=True, says=f"{otlp.destination} takes OTLP metrics.")
    return Finding("collector", ok=False, says=f"{otlp.destination}: {_with_remedy(outcome)}")


def _with_remedy(outcome: Refused | Later) -> str:
    """Say what happened, and ask the general questions only where it has no remedy of its own."""
    why = outcome.why
    # A remedy stands behind a colon, as no address has it; who answers is there and runs.
    if isinstance(outcome, Later) and ": " not in why and not why.startswith("answered "):
        return f"{why}; is it running, and is its address right?"
    return why if why.endswith("?") else f"{why}."
