"""`otel-novu run` as a process on clocks and a disk that a test holds in its hand.

Started with a folder: `wall` and `steady` in it are seconds that the clocks are ahead, and while
there is a file `hang` the disk takes no write, while there is `hang-wholly` no call at all.
"""

import logging
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from otel_novu.commands.run import run
from otel_novu.journal import LOG
from otel_novu.schedule import steady_time
from otel_novu.settings import load
from otel_novu.state.directory import FileOps

_LOOK = 0.02


class Hand:
    """The test's side: moves clocks and disk of a process.

    Args:
        folder: where they are told; not on the disk that hangs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def program(self) -> tuple[str, ...]:
        """The command to start."""
        return (sys.executable, __file__, str(self._folder))

    def step_wall(self, seconds: float) -> None:
        """Put the wall clock ahead by so much in all."""
        self._tell("wall", str(seconds))

    def step_steady(self, seconds: float) -> None:
        """Put the steady clock ahead by so much in all, as a suspend does."""
        self._tell("steady", str(seconds))

    def hang(self, *, wholly: bool = False) -> None:
        """Let writes hang, or all calls."""
        self._tell("hang-wholly" if wholly else "hang", "")

    def go_on(self) -> None:
        """Let the disk answer again."""
        for name in ("hang", "hang-wholly"):
            (self._folder / name).unlink(missing_ok=True)

    def _tell(self, name: str, text: str) -> None:
        aside = self._folder / f"{name}.new"
        aside.write_text(text)
        aside.rename(self._folder / name)


class _Disk(FileOps):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(
        self, path: str | Path, flags: int, mode: int = 0o600, *, at: int | None = None
    ) -> int:
        while (self._folder / "hang-wholly").exists():
            time.sleep(_LOOK)
        return super().open(path, flags, mode, at=at)

    def fsync(self, fd: int) -> None:
        while (self._folder / "hang").exists() or (self._folder / "hang-wholly").exists():
            time.sleep(_LOOK)
        super().fsync(fd)


def _ahead(file: Path) -> float:
    with suppress(FileNotFoundError):
        return float(file.read_text())
    return 0.0


def _main(folder: Path) -> int:
    logging.basicConfig(format=" %(levelname)s %(message)s")
    LOG.setLevel(logging.INFO)
    LOG.addHandler(logging.getLogger().handlers[0])
    LOG.propagate = False
    settings = load(os.environ, env_file=None, cwd=Path.cwd(), home=folder)
    return run(
        settings,
        lambda: time.time() + _ahead(folder / "wall"),
        lambda: steady_time() + _ahead(folder / "steady"),
        _Disk(folder),
    )


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
