"""File calls that hang as long as a test wants, as on a network file system without its server."""

import threading
from pathlib import Path

from receivers import FAULT_SECONDS

from otel_novu.state.directory import FileOps


class HangingDisk(FileOps):
    """Hangs in `fsync`, as a write does, or in `open` too, as everything does.

    Attributes:
        hung: how many calls hang now.
    """

    def __init__(self) -> None:
        self._answers = threading.Event()
        self._answers.set()
        self._wholly = False
        self.hung = 0

    def hang(self, *, wholly: bool = False) -> None:
        """Let no call through from now on."""
        self._wholly = wholly
        self._answers.clear()

    def go_on(self) -> None:
        """Let all through."""
        self._answers.set()

    def open(
        self, path: str | Path, flags: int, mode: int = 0o600, *, at: int | None = None
    ) -> int:
        if self._wholly:
            self._wait()
        return super().open(path, flags, mode, at=at)

    def fsync(self, fd: int) -> None:
        self._wait()
        super().fsync(fd)

    def _wait(self) -> None:
        self.hung += 1
        self._answers.wait(FAULT_SECONDS)
        self.hung -= 1
