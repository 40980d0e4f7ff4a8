"""What tests hold in their hands: a client of Prometheus, and the exporter as a process."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from stack import ask_prometheus
from stack_build import launch_command

Answer = TypeVar("Answer")

POLL_SECONDS = 0.1
# For what should come at once: it costs nothing where it does, and a busy machine may stall.
PATIENCE = 120.0
EXPORTER = (str(Path(sys.executable).with_name("otel-novu")),)


def eventually(
    read: Callable[[], Answer], fits: Callable[[Answer], bool] = bool, seconds: float = PATIENCE
) -> Answer:
    """Read until the answer fits; the answer.

    Raises:
        AssertionError: none did in time; it shows the last one.
    """
    deadline = time.monotonic() + seconds
    while not fits(answer := read()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:g} s the answer still is {answer!r}")
        time.sleep(POLL_SECONDS)
    return answer


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an instant query's result.

    Args:
        labels: all of them, `__name__` included where the query keeps it.
        time: Unix time, seconds; of the query, not of the sample.
        value: as Prometheus keeps it.
    """

    labels: Mapping[str, str]
    time: float
    value: float


@dataclass(frozen=True, slots=True)
class PrometheusClient:
    """Asks the shared Prometheus; a test seeks its own instance id there."""

    address: str

    def query(self, expression: str, at: float | None = None) -> list[Sample]:
        """Ask an instant query, now or at a Unix time.

        An instant sees the samples of the last 5 minutes only: `last_over_time(x[2h])` sees more.
        """
        return [
            Sample(entry["metric"], float(entry["value"][0]), float(entry["value"][1]))
            for entry in ask_prometheus(self.address, expression, at)
        ]

    def eventually(
        self,
        expression: str,
        fits: Callable[[list[Sample]], bool] = bool,
        *,
        seconds: float = PATIENCE,
        at: float | None = None,
    ) -> list[Sample]:
        """Ask until the result fits (by default: is not empty), or fail.

        What was sent passes the collector's batches first, so no test asks once only.
        """
        return eventually(lambda: self.query(expression, at), fits, seconds)


class RunningExporter:
    """The exporter as a process of its own that goes on; the kernel ends it with this one.

    Start it from the main thread: it ends with the thread that started it.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self._process = subprocess.Popen(
            launch_command(command, folder=str(folder), death_signal=signal.SIGKILL),
            env=dict(env),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._readers = [
            self._follow(self._process.stdout, self.stdout),
            self._follow(self._process.stderr, self.stderr),
        ]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait_for(self, pattern: str, seconds: float = PATIENCE, *, after: int = 0) -> str:
        """Wait until a line of stderr or stdout holds a match; the line.

        Args:
            pattern: a regular expression.
            seconds: how long.
            after: how many lines of each stream to pass over.

        Raises:
            AssertionError: no such line came in time, or the process ended without it.
        """

        def found() -> str | None:
            lines = [*self.stderr[after:], *self.stdout[after:]]
            return next((line for line in lines if re.search(pattern, line)), None)

        deadline = time.monotonic() + seconds
        while found() is None and self._is_followed() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if (line := found()) is not None:
            return line
        raise AssertionError(
            f"no line matches {pattern!r}; {self._state()} and said:\n{self._said()}"
        )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for its end; the exit code.

        Raises:
            AssertionError: it still runs.
        """
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still runs and said:\n{self._said()}") from None
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def terminate(self, seconds: float = PATIENCE) -> int:
        """Ask it to end (SIGTERM) and wait; the exit code."""
        self.send(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would."""
        self._process.kill()
        self.wait()

    def close(self) -> None:
        """End what still runs, and let go of its pipes."""
        if self.running:
            self.send(signal.SIGCONT)
            self._process.kill()
        self.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _follow(self, pipe: IO[str] | None, lines: list[str]) -> threading.Thread:
        def read() -> None:
            for line in pipe or ():
                lines.append(line.rstrip("\n"))  # noqa: PERF401 - seen while it grows

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        return reader

    def _is_followed(self) -> bool:
        return any(reader.is_alive() for reader in self._readers)

    def _state(self) -> str:
        code = self._process.poll()
        return "it runs" if code is None else f"it ended with {code}"

    def _said(self) -> str:
        return "\n".join([*self.stderr, *self.stdout]) or "(nothing)"


class ExporterRunner:
    """Runs `otel-novu` in a folder of its own with a clean environment.

    The process sees `PATH`, `HOME` (an empty folder) and what the test gives; `COVERAGE_*` passes
    too, so that its lines are counted where they are measured.

    Args:
        home: an empty folder; it is the working directory too unless a call names one.
        program: the command before its arguments.
    """

    def __init__(self, home: Path, program: Sequence[str] = EXPORTER) -> None:
        self._home = home
        self._program = program
        self._started: list[RunningExporter] = []

    def __call__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 2 * PATIENCE,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end; exit code, stdout and stderr.

        Raises:
            subprocess.TimeoutExpired: it had to be killed.
        """
        return subprocess.run(
            [*self._program, *arguments],
            env=self._environment(env),
            cwd=cwd or self._home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(
        self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> RunningExporter:
        """Start it and let it run; it ends with the test at the latest."""
        command = [*self._program, *arguments]
        running = RunningExporter(command, self._environment(env), cwd or self._home)
        self._started.append(running)
        return running

    def close(self) -> None:
        """End all that were started and still run."""
        for running in self._started:
            running.close()

    def _environment(self, given: Mapping[str, str] | None) -> Mapping[str, str]:
        measured = {k: v for k, v in os.environ.items() if k.startswith("COVERAGE_")}
        path = os.environ.get("PATH", os.defpath)
        return {"PATH": path, "HOME": str(self._home), **measured, **(given or {})}


def in_bash(
    script: str, env: Mapping[str, str], folder: Path, timeout: float = 2 * PATIENCE
) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, for what only a shell can hand to a process.

    Args:
        script: the line.
        env: what it sees beside `PATH` and `HOME`.
        folder: the working directory, and the home.
        timeout: seconds.
    """
    return subprocess.run(
        ["bash", "-c", script],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **env},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
