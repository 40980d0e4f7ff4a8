"""The file in which the counters of created documents are kept."""

from otel_novu.state.directory import NotKept, StateDirectory, Unreadable

FILE = "created.json"


class CreatedFile:
    """Keeps the counters whole in the state directory."""

    def __init__(self, state: StateDirectory) -> None:
        """Remember the directory."""
        self._state = state

    def load(self) -> bytes | None:
        """Return what was saved last, or None where nothing ever was.

        Raises:
            OSError: there is something, and it can't be read.
        """
        try:
            return self._state.read(FILE)
        except Unreadable as error:
            raise OSError(error.why) from error

    def save(self, data: bytes) -> None:
        """Keep the counters in place of the last ones.

        Raises:
            OSError: they can't be kept.
        """
        try:
            self._state.write(FILE, data)
        except NotKept as error:
            raise OSError(error.why) from error


class Unsaved(CreatedFile):
    """Starts from the counters as they are kept, and keeps none: for `show` and `check`."""

    def save(self, data: bytes) -> None:
        """Let it be."""
