"""Whether usage figures are sent, and who decided."""

import json
from dataclasses import asdict, dataclass
from enum import Enum

from otel_novu.state.directory import StateDirectory, Unreadable

FILE = "telemetry"
DECISION_FILE = "telemetry-decision.json"
BY_UNREADABLE = "an admin setting that can't be read"
_WORDS = {True: b"on\n", False: b"off\n"}


class Admin(Enum):
    """The stored admin setting."""

    UNSET = "unset"
    ON = "on"
    OFF = "off"
    UNREADABLE = "unreadable"
    NO_ANSWER = "no answer"  # it can't be read just now, by a fault of the moment


@dataclass(frozen=True, slots=True)
class Decision:
    """The telemetry flag.

    Args:
        enabled: usage figures are sent.
        by: who decided, as a clause: "NOVU_TELEMETRY", "the admin setting", "the default".
        changeable: the admin setting can change it.
    """

    enabled: bool
    by: str
    changeable: bool


def decide(variable: bool | None, admin: Admin) -> Decision:  # noqa: FBT001 - the flag itself
    """Decide: `NOVU_TELEMETRY` where it is set, else the admin setting, else on.

    Args:
        variable: `NOVU_TELEMETRY`, or None where it is not set.
        admin: the admin setting; one that can't be read means off.
    """
    if variable is not None:
        return Decision(variable, "NOVU_TELEMETRY", changeable=False)
    if admin is Admin.UNSET:
        return Decision(enabled=True, by="the default", changeable=True)
    if admin in (Admin.UNREADABLE, Admin.NO_ANSWER):
        return Decision(enabled=False, by=BY_UNREADABLE, changeable=True)
    return Decision(admin is Admin.ON, "the admin setting", changeable=True)


def read_admin(state: StateDirectory) -> Admin:
    """Read the admin setting; only a missing file means that there is none."""
    try:
        word = state.read(FILE)
    except Unreadable as error:
        return Admin.NO_ANSWER if error.passing else Admin.UNREADABLE
    if word is None:
        return Admin.UNSET
    if word == _WORDS[True]:
        return Admin.ON
    return Admin.OFF if word == _WORDS[False] else Admin.UNREADABLE


def store_admin(state: StateDirectory, *, enabled: bool) -> None:
    """Store the admin setting.

    Raises:
        NotKept: it could not be written.
    """
    state.write(FILE, _WORDS[enabled])


def keep_decision(state: StateDirectory, decision: Decision) -> None:
    """Keep what the holder of the state directory has decided, for the commands beside it.

    Raises:
        NotKept: it could not be written.
    """
    text = json.dumps(asdict(decision)).encode() + b"\n"
    try:
        known = state.read(DECISION_FILE)
    except Unreadable:
        known = None
    if known != text:
        state.write(DECISION_FILE, text)


def kept_decision(state: StateDirectory) -> Decision | None:
    """Tell what the holder of the state directory has decided; None where that is not known.

    Its environment may be another one than that of the command that asks.
    """
    try:
        text = state.read(DECISION_FILE)
        document = None if text is None else json.loads(text)
        return None if document is None else _parse(document)
    except (Unreadable, ValueError, RecursionError):
        return None


def _parse(document: object) -> Decision:
    if not isinstance(document, dict) or document.keys() != {"enabled", "by", "changeable"}:
        raise ValueError("keys")
    enabled, by, changeable = (document[key] for key in ("enabled", "by", "changeable"))
    if not (isinstance(enabled, bool) and isinstance(by, str) and isinstance(changeable, bool)):
        raise ValueError("kinds")  # noqa: TRY004 - one kind of error for all damage
    return Decision(enabled, by, changeable)
