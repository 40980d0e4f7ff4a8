"""The native servers as objects: private to a test, or the shared ones of `stack.py up`.

Each listens on 127.0.0.1, is polled until it answers, and can be stopped, killed and restarted
on the same port with the same data. Unless `detached`, the kernel ends it when the thread
that started it ends, so nothing outlives a killed test run: start servers from the main thread.
"""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from stack_build import (
    CHROOT_ENVIRONMENT,
    HERE,
    Binaries,
    Postgres,
    StackError,
    build,
    build_prometheus,
    launch_command,
    need_root,
)
from stack_cache import remove_tree

HOST = "127.0.0.1"
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
START_SECONDS = 180.0
_GIVEN: set[int] = set()


@dataclass(frozen=True)
class Process:
    """A process by its id and start time, as ids are reused."""

    pid: int
    ticks: int

    def alive(self) -> bool:
        """Whether it still runs; reaps a child of ours that has ended."""
        state, ticks = state_and_start(self.pid)
        if ticks != self.ticks:
            return False
        # A child may be a zombie while its other threads still run; only waitpid knows.
        with contextlib.suppress(ChildProcessError):
            return os.waitpid(self.pid, os.WNOHANG)[0] == 0
        return state not in "ZX"

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end; kill it after a minute."""
        self.send(number)
        self.send(signal.SIGCONT)
        if not poll(lambda: not self.alive(), 60):
            self.send(signal.SIGKILL)
            poll(lambda: not self.alive(), 60)


def state_and_start(pid: int) -> tuple[str, int]:
    """A process's state and its start in clock ticks since boot (proc(5)); X, 0 if it is gone."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return after_name[0], int(after_name[19])


def poll(condition: Callable[[], bool], seconds: float) -> bool:
    """Check until the condition holds or the time is over; returns whether it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def free_port() -> int:
    """A free port below those of outgoing connections; never the same one twice."""
    while True:
        # Not `random`: pytest-randomly resets its seed before each test.
        port = 20000 + secrets.randbelow(12000)
        if port not in _GIVEN and port_is_free(port):
            _GIVEN.add(port)
            return port


def port_is_free(port: int) -> bool:
    """Whether a server could listen there."""
    with contextlib.suppress(OSError):
        socket.create_server((HOST, port)).close()
        return True
    return False


def answers(url: str) -> bool:
    """Whether a GET succeeds."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):  # noqa: S310
        return True
    return False


@dataclass(kw_only=True)
class Server(ABC):
    """A server. `folder` holds its log and data; `close` removes it."""

    binaries: Binaries = field(default_factory=build)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="otel-novu-")))
    detached: bool = False
    processes: list[Process] = field(default_factory=list)
    addresses: dict[str, str] = field(default_factory=dict)  # after the start, as in stack.Servers

    @abstractmethod
    def launch(self) -> None:
        """Start the processes."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers."""

    @property
    def log(self) -> Path:
        """Its output; a restart appends."""
        return self.folder / "log"

    def start(self) -> Self:
        """Start it, or restart it, and wait until it answers."""
        self.processes.clear()
        try:
            self.launch()
            poll(lambda: not self.alive() or self.ready(), START_SECONDS)
            self._must(self.alive() and self.ready())
        except BaseException:
            self.kill()
            raise
        return self

    def alive(self) -> bool:
        """Whether all its processes run."""
        return bool(self.processes) and all(process.alive() for process in self.processes)

    def stop(self) -> None:
        """End it as an administrator would."""
        for process in reversed(self.processes):
            process.end()

    def kill(self) -> None:
        """End it as a crash would; the database may lose the writes of the last second."""
        for process in reversed(self.processes):
            process.end(signal.SIGKILL)

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        remove_tree(self.folder)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def spawn(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        root: Path | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> Process:
        """Start one process; its output goes to the log."""
        tie = 0 if self.detached else death_signal
        command = launch_command(command, folder=str(self.folder), root=root, death_signal=tie)
        log = (os.POSIX_SPAWN_OPEN, 1, str(self.log), APPEND, 0o644)
        nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        actions = [nothing, log, (os.POSIX_SPAWN_DUP2, 1, 2)]
        # Not subprocess, which warns of processes that outlive it.
        pid = os.posix_spawn(command[0], command, env, file_actions=actions, setsid=True)
        self.processes.append(Process(pid, state_and_start(pid)[1]))
        return self.processes[-1]

    def output(self) -> str:
        """The whole log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _must(self, started: bool) -> None:  # noqa: FBT001
        if not started:
            last = (self.output().splitlines() or ["the log is empty"])[-1].strip()
            raise StackError(f"{type(self).__name__} did not start: {last}; see {self.log}")


@dataclass
class Database(Server):
    """FerretDB on a PostgreSQL of its own, both in the chroot.

    Login `root`, password `secret`. FerretDB 2.7 lets every login do everything.
    """

    _: KW_ONLY
    folder: Path = Path()
    port: int = 0
    name: str = field(default_factory=lambda: f"p{os.getpid()}-{secrets.token_hex(3)}")

    def __post_init__(self) -> None:
        """Its folder is in the chroot."""
        self.postgres = Postgres(self.binaries.chroot, self.name)
        self.folder = self.postgres.folder

    def url(self, database: str = "novu-db", login: str = "root:secret") -> str:
        """As in `MONGO_URL`."""
        return f"mongodb://{login}@{HOST}:{self.port}/{database}?authSource=admin"

    def launch(self) -> None:
        """Start PostgreSQL, then FerretDB."""
        need_root("Starting the database")
        self.port = self.port or free_port()
        self.addresses = {"mongo_url": self.url()}
        if not (self.folder / "data").exists():
            _sweep(self.binaries.chroot / "srv")
            self.postgres.create_folder()
            data = str(self.binaries.template / "data")
            subprocess.run(["cp", "-a", "--reflink=auto", data, str(self.folder)], check=True)
        self._must(poll(self._launch_postgres, START_SECONDS))
        with contextlib.suppress(FileExistsError):
            os.link(self.binaries.ferretdb, self.folder / "ferretdb")
        command = [
            f"/srv/{self.name}/ferretdb",
            f"--postgresql-url=postgres://postgres@/postgres?host=/srv/{self.name}",
            f"--listen-addr={HOST}:{self.port}",
            "--debug-addr=-",
            f"--state-dir=/srv/{self.name}",
            "--log-level=WARN",
        ]
        self.spawn(command, CHROOT_ENVIRONMENT, self.binaries.chroot)

    def ready(self) -> bool:
        """Whether FerretDB listens."""
        with contextlib.suppress(OSError):
            socket.create_connection((HOST, self.port), timeout=1).close()
            return True
        return False

    def _launch_postgres(self) -> bool:
        """After a kill, its old children may hold its memory for a moment; then try again."""
        self.processes.clear()
        command = self.postgres.command("postgres", *self.postgres.options())
        chroot, end = self.binaries.chroot, signal.SIGQUIT
        postgres = self.spawn(command, CHROOT_ENVIRONMENT, chroot, end)
        poll(lambda: not postgres.alive() or self._postgres_answers(), START_SECONDS)
        if postgres.alive():
            return True
        self._must("shared memory" in self.output()[-1000:])
        return False

    def _postgres_answers(self) -> bool:
        with contextlib.suppress(StackError):
            return self.postgres.sql("SELECT 1") == "1\n"
        return False

    def analyze(self, database: str | None = None) -> None:
        """Freeze the counts of one database's or all collections, so that counting is cheap.

        Before, `count` and `estimatedDocumentCount` are exact and read every row; afterwards they
        answer what they were at the last call.
        """
        where = f"WHERE database_name = '{database}'" if database else ""
        query = f"SELECT collection_id FROM documentdb_api_catalog.collections {where}"  # noqa: S608
        numbers = self.postgres.sql(query).split()
        statements = [f"ANALYZE documentdb_data.documents_{number};" for number in numbers]
        self.postgres.sql("\n".join(["SET track_counts = on;", *statements]))


def _sweep(instances: Path) -> None:
    """Remove instances whose owner is gone: killed test runs leave them."""
    for folder in instances.glob("p*-*"):
        owner = folder.name[1:].partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            remove_tree(folder)


@dataclass
class Collector(Server):
    """The OpenTelemetry Collector with a configuration file, and `more` merged over it.

    Its addresses are in the variables of collector-config.yaml; `env` adds or overrides variables.
    """

    config: Path
    env: Mapping[str, str] = field(default_factory=dict)
    _: KW_ONLY
    grpc_port: int = 0
    http_port: int = 0
    health_port: int = 0
    more: Sequence[Path] = ()
    log_offset: int = 0

    @property
    def otlp_http(self) -> str:
        """As in `OTEL_EXPORTER_OTLP_ENDPOINT` for `http/protobuf`."""
        return f"http://{HOST}:{self.http_port}"

    @property
    def otlp_grpc(self) -> str:
        """As in `OTEL_EXPORTER_OTLP_ENDPOINT` for `grpc`."""
        return f"http://{HOST}:{self.grpc_port}"

    def launch(self) -> None:
        """Start the process."""
        self.grpc_port = self.grpc_port or free_port()
        self.http_port = self.http_port or free_port()
        self.health_port = self.health_port or free_port()
        self.addresses = {"otlp_http": self.otlp_http, "otlp_grpc": self.otlp_grpc}
        self.log_offset = self.log.stat().st_size if self.log.exists() else 0
        command = [str(self.binaries.collector)]
        command += [f"--config={file.resolve()}" for file in (self.config, *self.more)]
        addresses = {
            "OTEL_NOVU_COLLECTOR_GRPC_ENDPOINT": f"{HOST}:{self.grpc_port}",
            "OTEL_NOVU_COLLECTOR_HTTP_ENDPOINT": f"{HOST}:{self.http_port}",
            "OTEL_NOVU_COLLECTOR_HEALTH_ENDPOINT": f"{HOST}:{self.health_port}",
            "OTEL_NOVU_COLLECTOR_METRICS_PORT": str(free_port()),
        }
        self.spawn(command, {"PATH": os.defpath, **addresses, **self.env})

    def ready(self) -> bool:
        """Whether it has said that all parts of the pipeline run."""
        return b"Everything is ready" in self.log.read_bytes()[self.log_offset :]


@dataclass
class Prometheus(Server):
    """Prometheus with remote write switched on."""

    config: Path = HERE / "prometheus.yml"
    _: KW_ONLY
    port: int = 0
    receivers: ClassVar[Sequence[str]] = ("--web.enable-remote-write-receiver",)

    @property
    def program(self) -> Path:
        """The binary."""
        return self.binaries.prometheus

    @property
    def address(self) -> str:
        """Its base address."""
        return f"http://{HOST}:{self.port}"

    @property
    def remote_write(self) -> str:
        """Where the collector writes to."""
        return f"{self.address}/api/v1/write"

    def launch(self) -> None:
        """Start the process."""
        self.port = self.port or free_port()
        self.addresses = {"prometheus": self.address}
        command = [
            str(self.program),
            f"--config.file={self.config.resolve()}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
            *self.receivers,
        ]
        self.spawn(command, {"PATH": os.defpath})

    def ready(self) -> bool:
        """Its own readiness."""
        return answers(f"{self.address}/-/ready")


@dataclass
class OtlpPrometheus(Prometheus):
    """A newer Prometheus with its own OTLP receiver too; built when it is first used."""

    receivers: ClassVar[Sequence[str]] = (*Prometheus.receivers, "--web.enable-otlp-receiver")

    @property
    def program(self) -> Path:
        """The binary."""
        return build_prometheus()

    @property
    def otlp_http(self) -> str:
        """As in `OTEL_EXPORTER_OTLP_ENDPOINT` for `http/protobuf`."""
        return f"{self.address}/api/v1/otlp"


def ask_prometheus(address: str, promql: str, at: float | None = None) -> list[dict[str, Any]]:
    """The result of an instant query, now or at a Unix time.

    An instant sees samples of the last 5 minutes only: for hourly ones ask `last_over_time(x[2h])`.
    """
    query = {"query": promql} | ({} if at is None else {"time": f"{at:.3f}"})
    url = f"{address}/api/v1/query?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own address
        return cast("list[dict[str, Any]]", json.load(answer)["data"]["result"])
