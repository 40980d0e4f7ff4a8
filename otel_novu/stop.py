"""Waits for SIGTERM, SIGINT or news without a lock that a signal could find taken."""

import contextlib
import os
import select
import signal
from types import TracebackType
from typing import Self

_ALL = 65_536  # what a pipe holds at most


class StopSignals:
    """Turns SIGTERM and SIGINT into something to wait for; for the main thread only.

    SIGIO, by which the kernel tells of changes in a folder, ends a wait early.

    `threading.Event.set` in a handler can find the event's own lock taken by the very thread
    that it interrupts, so the handler writes to a pipe.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __enter__(self) -> Self:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self.name: str | None = None
        for number in self._SIGNALS:
            signal.signal(number, self._stop)
        signal.signal(signal.SIGIO, self._wake)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        # They stay ignored until the process has ended: a second signal must not cut off the end.
        for number in (*self._SIGNALS, signal.SIGIO):
            signal.signal(number, signal.SIG_IGN)
        os.close(self._read_end)
        os.close(self._write_end)

    def wait(self, seconds: float) -> bool:
        """Wait at most so long, less where there is news; whether it is time to stop.

        Args:
            seconds: how long.
        """
        if self.name is None and select.select([self._read_end], [], [], seconds)[0]:
            os.read(self._read_end, _ALL)
        return self.name is not None

    def _stop(self, number: int, _: object) -> None:
        self.name = signal.Signals(number).name
        self._wake(number, _)

    def _wake(self, _number: int, _: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._write_end, b"x")
