"""Waits for SIGTERM or SIGINT without a lock that a signal could find taken."""

import contextlib
import os
import select
import signal
import time
from types import TracebackType
from typing import Self


class StopSignals:
    """Turns SIGTERM and SIGINT into something to wait for; for the main thread only.

    `threading.Event.set` in a handler can find the event's own lock taken by the very thread
    that it interrupts, so the handler writes to a pipe.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __enter__(self) -> Self:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self.name: str | None = None
        for number in self._SIGNALS:
            signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        # They stay ignored until the process has ended: a second signal must not cut off the end.
        for number in self._SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        os.close(self._read_end)
        os.close(self._write_end)

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; whether a signal came.

        Args:
            seconds: how long.
        """
        deadline = time.monotonic() + seconds
        while self.name is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            select.select([self._read_end], [], [], left)
        return True

    def _note(self, number: int, _: object) -> None:
        self.name = signal.Signals(number).name
        with contextlib.suppress(BlockingIOError):
            os.write(self._write_end, b"x")
