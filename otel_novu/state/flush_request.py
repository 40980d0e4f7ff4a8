"""How `otel-novu spool --flush` asks a running exporter to send what waits, now."""

from contextlib import suppress

from otel_novu.state.directory import NotKept, StateDirectory, Unreadable

FILE = "flush-request"


def ask(state: StateDirectory) -> None:
    """Ask the process that holds the state directory.

    Raises:
        NotKept: the request could not be written.
    """
    state.write(FILE, b"flush\n")


def taken(state: StateDirectory) -> bool:
    """Tell whether somebody asked, and take the request away."""
    try:
        asked = state.read(FILE) is not None
    except Unreadable:
        return False
    if asked:
        with suppress(NotKept):
            state.remove(FILE)
    return asked
