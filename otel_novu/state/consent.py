"""Whether usage figures are sent, and who decided."""

from dataclasses import dataclass
from enum import Enum

from otel_novu.state.directory import StateDirectory, Unreadable

FILE = "telemetry"
_WORDS = {True: b"on\n", False: b"off\n"}


class Admin(Enum):
    """The stored admin setting."""

    UNSET = "unset"
    ON = "on"
    OFF = "off"
    UNREADABLE = "unreadable"


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
    if admin is Admin.UNREADABLE:
        return Decision(enabled=False, by="an admin setting that can't be read", changeable=True)
    return Decision(admin is Admin.ON, "the admin setting", changeable=True)


def read_admin(state: StateDirectory) -> Admin:
    """Read the admin setting; only a missing file means that there is none."""
    try:
        word = state.read(FILE)
    except Unreadable:
        return Admin.UNREADABLE
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
