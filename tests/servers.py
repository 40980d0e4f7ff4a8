"""The exporter as a process, a client of Prometheus, and polling with a deadline."""

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
# For what should come at once: a busy machine may stall for long.
TIMEOUT = 120.0
EXPORTER = (sys.executable, "-m", "otel_novu")


def eventually(
    read: Callable[[], Answer], fits: Callable[[Answer], bool] = bool, seconds: float = TIMEOUT
) -> Answer:
    """Read until the answer fits; the answer.

    Raises:
        AssertionError: none did in time; it shows the last one.
    """
    deadline = time.monotonic() + seconds
    while not fits(answer := read()):
        assert time.monotonic() < deadline, f"after {seconds:g} s the answer still is {answer!r}"
        time.sleep(POLL_SECONDS)
    return answer


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an instant query's result; `time` is that of the query."""

    labels: Mapping[str, str]
    time: float
    value: float


@dataclass(frozen=True, slots=True)
class PrometheusClient:
    """Queries the shared Prometheus; a test looks for its own instance id there."""

    address: str

    def query(self, expression: str, at: float | None = None) -> list[Sample]:
        """Send an instant query, for now or for a Unix time.

        It sees samples of the last 5 minutes only: `last_over_time(x[2h])` sees more.
        """
        return [
            Sample(entry["metric"], float(entry["value"][0]), float(entry["value"][1]))
            for entry in ask_prometheus(self.address, expression, at)
        ]

    def eventually(
        self, expression: str, fits: Callable[[list[Sample]], bool] = bool
    ) -> list[Sample]:
        """Query until the result fits (by default: is not empty), or fail."""
        return eventually(lambda: self.query(expression), fits)


class RunningExporter:
    """The exporter as a process that goes on; the kernel ends it with this one.

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
        self.pid = self._process.pid
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._readers = [
            self._follow(self._process.stdout, self.stdout),
            self._follow(self._process.stderr, self.stderr),
        ]

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def warnings(self) -> list[str]:
        """The warnings and errors of its log, without their times."""
        levels = re.compile(r" (?:WARNING|ERROR) (.*)")
        return [match[1] for line in self.stderr if (match := levels.search(line))]

    def wait_for(self, pattern: str, seconds: float = TIMEOUT, *, after: int = 0) -> str:
        """Wait until a line of its output matches a regular expression; the line.

        Args:
            pattern: the expression.
            seconds: how long.
            after: how many lines of stderr and of stdout are skipped.

        Raises:
            AssertionError: no such line came in time, or the process ended without it.
        """

        def found() -> str | None:
            lines = [*self.stderr[after:], *self.stdout[after:]]
            return next((line for line in lines if re.search(pattern, line)), None)

        deadline = time.monotonic() + seconds
        reading = True
        while (line := found()) is None:
            assert reading and time.monotonic() < deadline, f"no {pattern!r} in:\n{self._output()}"  # noqa: PT018
            reading = any(reader.is_alive() for reader in self._readers)
            time.sleep(POLL_SECONDS)
        return line

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, seconds: float = TIMEOUT) -> int:
        """Wait for its end; the exit code.

        Raises:
            AssertionError: it still runs.
        """
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it still runs:\n{self._output()}") from None
        for reader in self._readers:
            reader.join(TIMEOUT)
        return code

    def terminate(self, seconds: float = TIMEOUT) -> int:
        """Send SIGTERM and wait; the exit code."""
        self.send(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self) -> None:
        """End it at once (SIGKILL), as a crash would."""
        self._process.kill()
        self.wait()

    def close(self) -> None:
        """End what still runs, and close its pipes."""
        if self.running:
            self._process.kill()
        self.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _follow(self, pipe: IO[str] | None, lines: list[str]) -> threading.Thread:
        def read() -> None:
            for line in pipe or ():
                lines.append(line.rstrip("\n"))  # noqa: PERF401 - tests read it while it grows

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        return reader

    def _output(self) -> str:
        return "\n".join([*self.stderr, *self.stdout]) or "(no output)"


class ExporterRunner:
    """Runs `otel-novu` with a clean environment: PATH, HOME, and what the test gives.

    PYTHONPATH is passed on, to test another version, and COVERAGE_*, to measure. `home` is the
    working directory unless a call names one; `program` is the command before its arguments.
    """

    def __init__(self, home: Path, program: Sequence[str] = EXPORTER) -> None:
        self.home = home
        self._program = program
        self._started: list[RunningExporter] = []

    def __call__(
        self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end; exit code, stdout and stderr."""
        return subprocess.run(
            [*self._program, *arguments],
            env=self._environment(env),
            cwd=cwd or self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * TIMEOUT,
            check=False,
        )

    def start(
        self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> RunningExporter:
        """Start it; it ends with the test at the latest."""
        command = [*self._program, *arguments]
        running = RunningExporter(command, self._environment(env), cwd or self.home)
        self._started.append(running)
        return running

    def close(self) -> None:
        """End all that were started and still run."""
        for running in self._started:
            running.close()

    def _environment(self, given: Mapping[str, str] | None) -> dict[str, str]:
        passed = {
            name: value
            for name, value in os.environ.items()
            if name in {"PATH", "PYTHONPATH"} or name.startswith("COVERAGE_")
        }
        return {**passed, "HOME": str(self.home), **(given or {})}
