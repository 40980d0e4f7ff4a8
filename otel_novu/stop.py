"""Waits for SIGTERM, SIGINT or news without a lock that a signal could find taken."""

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

_ALL = 65_536  # what a pipe holds at most


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does; for the main thread only.

    As PID 1 of a container a process without a handler would not notice it.

    Raises:
        KeyboardInterrupt: with the signal's number.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupted(error: KeyboardInterrupt) -> int:
    """Tell the exit code of a command that a signal has ended, as shells do."""
    return 128 + (error.args[0] if error.args else signal.SIGINT)


def end_at_once_where_something_hangs(code: int) -> None:
    """End without the interpreter's own end, which would wait for a disk, a pipe or a driver.

    Args:
        code: of the exit.
    """
    if threading.active_count() > 1:
        os._exit(code)


class StopSignals:
    """Turns SIGTERM and SIGINT into something to wait for; for the main thread only.

    SIGIO, by which the kernel tells of changes in a folder, ends a wait early.

    The interpreter's own C handler writes each signal's number into a pipe. A handler in Python
    would run only once the main thread is back from what it waits in: not at all for a signal that
    comes between the last line before the wait and the wait itself.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __enter__(self) -> Self:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self.name: str | None = None
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in (*self._SIGNALS, signal.SIGIO):
            signal.signal(number, _leave_it_to_the_pipe)
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
        signal.set_wakeup_fd(-1)
        os.close(self._read_end)
        os.close(self._write_end)

    def wait(self, seconds: float) -> bool:
        """Wait at most so long, less where there is news; whether it is time to stop.

        Args:
            seconds: how long.
        """
        if self.name is None and select.select([self._read_end], [], [], seconds)[0]:
            came = os.read(self._read_end, _ALL)
            stop = next((number for number in came if number in self._SIGNALS), None)
            self.name = None if stop is None else signal.Signals(stop).name
        return self.name is not None


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)


def _leave_it_to_the_pipe(_number: int, _frame: object) -> None:
    """Do nothing; a signal without a handler would end the process."""
