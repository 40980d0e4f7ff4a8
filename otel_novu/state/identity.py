"""The instance id: one UUID for as long as its state directory lives."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid4

from otel_novu.state.directory import NotKept, StateDirectory, Unreadable

FILE = "instance-id"
_MEND = "`otel-novu reset-id` makes a new one, unless its file is restored"


class Origin(StrEnum):
    """Where an instance id comes from."""

    CONFIGURED = "configured"
    KEPT = "kept"
    MADE = "made"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who reports.

    Args:
        value: `service.instance.id`; random or the operator's, never made of a host's name or
            address.
        origin: where it comes from.
        warning: one sentence to log where the id will not last, or None.
    """

    value: UUID
    origin: Origin
    warning: str | None


def instance_id(
    configured: UUID | None, state: StateDirectory, new: Callable[[], UUID] = uuid4
) -> Identity:
    """Tell the instance id, making and keeping one where the state directory holds none.

    Args:
        configured: `OTEL_NOVU_INSTANCE_ID`: it wins, and is not stored.
        state: the state directory.
        new: makes an id.
    """
    known = _known(configured, state, new)
    if known is not None:
        return known
    made = new()
    try:
        state.write(FILE, f"{made}\n".encode())
    except NotKept as error:
        return _of_this_process(made, f"The instance id could not be kept ({error.why})")
    return Identity(made, Origin.MADE, None)


def look_at_instance_id(
    configured: UUID | None, state: StateDirectory, new: Callable[[], UUID] = uuid4
) -> Identity:
    """Tell the instance id as `instance_id` does, but keep none that is made here."""
    known = _known(configured, state, new)
    if known is not None:
        return known
    return _of_this_process(new(), "There is no instance id yet, `run` makes and keeps one")


def _known(
    configured: UUID | None, state: StateDirectory, new: Callable[[], UUID]
) -> Identity | None:
    """Tell the id without making one to be kept; None only where none is there."""
    if configured is not None:
        return Identity(configured, Origin.CONFIGURED, None)
    try:
        kept = state.read(FILE)
        return None if kept is None else Identity(_parse(kept), Origin.KEPT, None)
    except Unreadable as error:
        return _of_this_process(new(), f"The kept instance id can't be read ({error.why})")
    except ValueError as fault:
        why = f"The kept instance id can't be read ({fault}): {_MEND}"
        return _of_this_process(new(), why)


def _of_this_process(value: UUID, why: str) -> Identity:
    warning = f"{why}; the one in use now is this process's alone."
    return Identity(value, Origin.PROCESS, warning)


def _parse(data: bytes) -> UUID:
    text = data.decode("ascii", "replace").strip().lower()
    try:
        value = UUID(text)
    except ValueError:
        raise ValueError("it holds no UUID") from None
    if str(value) != text:  # the parser also takes braces, a prefix, hyphens anywhere
        raise ValueError("it holds no UUID in its usual form")
    return value
