"""The state directory of a process that goes on while the disk under it hangs."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from otel_novu.patience import Patience
from otel_novu.state.directory import FileOps, Lock, NotKept, StateDirectory, Unreadable

T = TypeVar("T")

_SILENT = "the disk does not answer"


class PatientDirectory(StateDirectory):
    """Answers within the patience it is given, whatever hangs; without an end until that is told.

    What hangs is told as a fault that passes: nothing can be read or kept, and a file that could
    not be removed will be as soon as the disk answers.
    """

    def __init__(
        self,
        files: FileOps,
        fd: int | None,
        absent: OSError | None,
        why_not_writable: str | None,
        *,
        looking: bool,
    ) -> None:
        super().__init__(files, fd, absent, why_not_writable, looking=looking)
        self._patience = Patience("otel-novu-disk", math.inf)

    def wait_at_most(self, seconds: float) -> None:
        """Let every operation, those under way included, take no longer than so many seconds."""
        self._patience.wait_at_most(seconds)

    @contextmanager
    def holding(self, command: str) -> Iterator[Lock]:
        """Hold the directory; the end, too, takes no longer than it may.

        Raises:
            Held: another process holds it.
        """
        lock = self.lock(command)
        try:
            yield lock
        finally:
            with suppress(OSError):
                self._patience.do(lock.release)

    def close(self) -> None:
        """See `StateDirectory.close`."""
        with suppress(OSError):
            self._patience.do(super().close)

    def read(self, name: str) -> bytes | None:
        """See `StateDirectory.read`."""
        plain = super().read
        return self._asked(name, lambda: plain(name))

    def names(self, folder: str = "") -> tuple[str, ...]:
        """See `StateDirectory.names`."""
        plain = super().names
        return self._asked(folder or ".", lambda: plain(folder))

    def size(self, name: str) -> int:
        """See `StateDirectory.size`."""
        plain = super().size
        try:
            return self._patience.do(lambda: plain(name))
        except TimeoutError:
            return 0

    def write(self, name: str, data: bytes) -> None:
        """See `StateDirectory.write`."""
        plain = super().write
        self._kept(name, lambda: self._patience.do(lambda: plain(name, data)))

    def move(self, name: str, new: str) -> None:
        """See `StateDirectory.move`."""
        plain = super().move
        self._kept(name, lambda: self._patience.do(lambda: plain(name, new)))

    def remove(self, name: str) -> None:
        """See `StateDirectory.remove`; it will be done though `NotKept` tells that the disk hangs.

        Otherwise what was delivered meanwhile would leave once more with the next start.
        """
        plain = super().remove
        self._kept(name, lambda: self._patience.do_sometime(lambda: plain(name)))

    def _asked(self, name: str, ask: Callable[[], T]) -> T:
        try:
            return self._patience.do(ask)
        except TimeoutError:
            raise Unreadable(name, _SILENT, passing=True) from None

    def _kept(self, name: str, keep: Callable[[], None]) -> None:
        try:
            keep()
        except TimeoutError:
            self.why_not_writable = _SILENT
            raise NotKept(name, _SILENT) from None
