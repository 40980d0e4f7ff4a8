"""A wall clock of the test's own for the exporter's process, as libfaketime gives one."""

import os
import time
from pathlib import Path

_SITE = """
import os, time
_real = time.time
def _time():
    with open(os.environ["TEST_CLOCK"]) as file:
        return _real() + float(file.read())
time.time, time.time_ns = _time, lambda: int(_time() * 1e9)
"""


class Clock:
    """A shifted clock for processes that get `environment`; it runs beside the real one."""

    def __init__(self, folder: Path) -> None:
        self._file, self._offset = folder / "clock", 0.0
        (folder / "sitecustomize.py").write_text(_SITE)
        path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        self.environment = {"PYTHONPATH": path, "TEST_CLOCK": str(self._file)}
        self.step(0.0)

    def now(self) -> float:
        """Tell the Unix time that it shows."""
        return time.time() + self._offset

    def step(self, seconds: float) -> None:
        """Move it."""
        self._offset += seconds
        new = self._file.with_suffix(".new")
        new.write_text(str(self._offset))
        new.rename(self._file)
