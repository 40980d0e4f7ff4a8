"""Processes that are measured: started, asked for what they use, and ended."""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from installed import Installed

HERE = Path(__file__).parent
NANOSECONDS = 1e9
_TICKS = os.sysconf("SC_CLK_TCK")


def clean(given: Mapping[str, str], home: Path) -> dict[str, str]:
    """An environment that holds the path, a home and what is given."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), **given}


@dataclass
class Started:
    """A process under measurement.

    Args:
        process: itself; what it logs is in `log`.
        log: its stderr.
        began: `time.monotonic` just before it was started.
    """

    process: subprocess.Popen[str]
    log: Path
    began: float

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def resident(self) -> int:
        """Resident memory, bytes."""
        return _status(self.pid, "VmRSS") * 1024

    def logged(self, pattern: str) -> str:
        """What the first group of the pattern matches in the log.

        Raises:
            RuntimeError: nothing does.
        """
        found = re.search(pattern, self.log.read_text())
        if found is None:
            raise RuntimeError(f"the exporter did not log {pattern!r}: {self.log.read_text()}")
        return found[1]


@contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str], **pipes: int | IO[str]
) -> Iterator[Started]:
    """Start a process in an empty home, and end it with SIGTERM."""
    with tempfile.TemporaryDirectory(prefix="otel-novu-bench-") as folder:
        home = Path(folder)
        log = home / "log"
        with log.open("w") as stderr:
            began = time.monotonic()
            process = subprocess.Popen(  # type: ignore[call-overload]
                command, env=clean(environment, home), cwd=home, stderr=stderr, text=True, **pipes
            )
        with process:
            try:
                yield Started(process, log, began)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(20)


@contextmanager
def running(program: Installed, environment: Mapping[str, str]) -> Iterator[Started]:
    """`otel-novu run` with an environment of its own."""
    with started([program.exporter, "run"], environment, stdout=subprocess.DEVNULL) as process:
        yield process


def seconds_of(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Run a command to its end in an empty home; how long that took.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    with tempfile.TemporaryDirectory(prefix="otel-novu-bench-") as folder:
        home = Path(folder)
        began = time.perf_counter()
        subprocess.run(
            command, env=clean(environment, home), cwd=home, check=True, capture_output=True
        )
        return time.perf_counter() - began


def third_party(program: Installed, environment: Mapping[str, str]) -> list[str]:
    """The modules of other packages that a whole report loads, in the order of loading."""
    with tempfile.TemporaryDirectory(prefix="otel-novu-bench-") as folder:
        home = Path(folder)
        done = subprocess.run(
            [program.python, str(HERE / "loaded.py")],
            env=clean(environment, home),
            cwd=home,
            check=True,
            capture_output=True,
            text=True,
        )
    return done.stdout.split()


_IMPORT = """
import contextlib, importlib, sys
names = {names!r}.split()
for name in names:
    with contextlib.suppress(ImportError):  # of a circle, which another of them resolves
        importlib.import_module(name)
if missing := set(names) - set(sys.modules):
    sys.exit(f"not imported: {{missing}}")
{then}
"""


def importing(program: Installed, modules: Sequence[str], then: str = "") -> list[str]:
    """The command of a bare interpreter that imports these modules, and nothing of ours."""
    return [program.python, "-c", _IMPORT.format(names=" ".join(modules), then=then)]


@dataclass(frozen=True, slots=True)
class Use:
    """What a process has used so far.

    Args:
        cpu: seconds of all its threads.
        wakeups: how often one of them went to sleep, to be woken later.
        threads: how many there are.
    """

    cpu: float
    wakeups: int
    threads: int


def use_of(pid: int) -> Use:
    """Ask the kernel; threads that ended are not in it, so ask where none ends."""
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    nanoseconds = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    wakeups = sum(_status(int(task.name), "voluntary_ctxt_switches") for task in tasks)
    return Use(nanoseconds / NANOSECONDS, wakeups, len(tasks))


def cpu_of_family(pids: Sequence[int]) -> float:
    """CPU seconds of processes and of all their children, those that ended included."""
    return sum(_cpu_of_tree(pid) for pid in pids)


def _cpu_of_tree(pid: int) -> float:
    # What ended since it was listed is in its parent's account.
    with suppress(FileNotFoundError, ProcessLookupError):
        return _cpu_of_living(pid)
    return 0.0


def _cpu_of_living(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(int(number) for number in fields[11:15]) / _TICKS
    return own + sum(_cpu_of_tree(child) for child in _children(pid))


def _children(pid: int) -> list[int]:
    texts = (file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for text in texts for child in text.split()]


def _status(pid: int, name: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"the kernel does not tell {name} of process {pid}")
    return int(found[1])
