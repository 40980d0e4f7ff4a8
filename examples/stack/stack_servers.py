"""The native servers as objects: a test's own, or the shared ones of `stack.py up`.

Each listens on 127.0.0.1 only, is polled until it answers, and can be stopped, killed, paused and
started again on the same port with the same data. Unless `detached`, the kernel ends it when the
thread that started it ends, so nothing outlives a killed test run: start servers from the main
thread.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from stack_build import (
    CHROOT_ENVIRONMENT,
    HERE,
    POSTGRES_BIN,
    Binaries,
    StackError,
    build,
    copy_template,
    launch_command,
    need_root,
    postgres_options,
    private_name,
    psql_command,
    remove_tree,
    run_inside,
)

HOST = "127.0.0.1"
POLL_SECONDS = 0.05
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_GIVEN: set[int] = set()


# --- processes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Process:
    """A process by its number and start time: a number that is used again is another process."""

    pid: int
    ticks: int

    def alive(self) -> bool:
        """Whether it still runs; a child of ours that has ended is reaped on the way."""
        state, ticks = state_and_start(self.pid)
        if ticks != self.ticks:
            return False
        with contextlib.suppress(ChildProcessError):
            return os.waitpid(self.pid, os.WNOHANG)[0] == 0
        return state not in "ZX"

    def send(self, number: signal.Signals) -> None:
        """Send a signal, to this very process only."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def end(self, number: signal.Signals, seconds: float) -> None:
        """Ask it to end, wait, and kill it if it has not ended by then."""
        self.send(signal.SIGCONT)
        self.send(number)
        if not poll(lambda: not self.alive(), seconds):
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        self.send(signal.SIGKILL)
        poll(lambda: not self.alive(), 60)


def state_and_start(pid: int) -> tuple[str, int]:
    """A process's state and its start in clock ticks since boot (proc(5)); X and 0 if it is gone.

    A child is to be waited for even as a zombie: its first thread ends before the others do.
    """
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return after_name[0], int(after_name[19])


def poll(condition: Callable[[], bool], seconds: float) -> bool:
    """Ask until it is so or the time is over; whether it is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def free_port() -> int:
    """A port that nobody listens on, below those that the kernel gives to outgoing connections.

    None is given twice: whoever has it may not listen on it yet, or is just about to end.
    """
    while True:
        # Not by `random`, whose seed pytest-randomly sets anew before each test.
        port = 20000 + secrets.randbelow(12000)
        if port not in _GIVEN and port_is_free(port):
            _GIVEN.add(port)
            return port


def port_is_free(port: int) -> bool:
    """Whether we could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def connects(port: int) -> bool:
    """Whether someone listens there."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 (our own address)
            return cast("int", answer.status) == 200  # noqa: PLR2004
    except (OSError, urllib.error.URLError):
        return False


# --- what all servers have in common -------------------------------------------------------------


@dataclass(kw_only=True)
class Server(ABC):
    """One server. `folder` holds its log and data; a private one goes away with `close`."""

    binaries: Binaries = field(default_factory=build)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="otel-novu-")))
    detached: bool = False
    start_seconds: float = 180
    processes: list[Process] = field(default_factory=list)

    @abstractmethod
    def launch(self) -> None:
        """Start the processes."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers."""

    @property
    @abstractmethod
    def log(self) -> Path:
        """Where it logs to; a restart appends."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where a client finds it."""

    def start(self) -> Self:
        """Start it, or start it again, and wait until it answers."""
        self.processes.clear()
        try:
            self.launch()
            self.wait_until(self.ready)
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
            process.end(signal.SIGTERM, 60)

    def kill(self) -> None:
        """End it as a crash would; `start` finds its data again."""
        for process in reversed(self.processes):
            process.kill()

    def pause(self) -> None:
        """Freeze what talks to clients: the kernel takes connections, and nobody answers them."""
        self.processes[-1].send(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after a pause."""
        self.processes[-1].send(signal.SIGCONT)

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        remove_tree(self.folder)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def spawn(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        root: Path | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> Process:
        """Start one process, its output going to the log.

        Not by `subprocess`, which would complain of shared servers that outlive us.
        """
        tie = 0 if self.detached else int(death_signal)
        folder = "/" if root else str(self.folder)
        command = launch_command(command, folder=folder, root=root, death_signal=tie)
        output = (os.POSIX_SPAWN_OPEN, 1, str(self.log), APPEND, 0o644)
        pid = os.posix_spawn(
            command[0],
            command,
            env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                output,
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        process = Process(pid, state_and_start(pid)[1])
        self.processes.append(process)
        return process

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for the condition; if a process ends before, or time does, say so."""
        poll(lambda: not self.alive() or condition(), self.start_seconds)
        name = type(self).__name__
        if not self.alive():
            raise StackError(f"{name} ended while starting: {self.last_line()} See {self.log}")
        if not condition():
            raise StackError(f"{name} gave no answer in {self.start_seconds:g} s; see {self.log}")

    def last_line(self) -> str:
        """What the log ends with."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return lines[-1].strip() if lines else "its log is empty."


# --- database ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TlsFiles:
    """Certificate and key of a server in PEM; with `ca`, clients must show a certificate of it."""

    certificate: Path
    key: Path
    ca: Path | None = None


@dataclass
class Database(Server):
    """FerretDB in front of a PostgreSQL of its own, both in the chroot as user postgres.

    Login `root`, password `secret`, as in Novu's example .env. `create_login` makes others, but
    FerretDB 2.7 lets every login do everything. With `tls` it listens on `tls_port` too.
    """

    _: KW_ONLY
    folder: Path = Path()
    port: int = 0
    tls: TlsFiles | None = None
    tls_port: int = 0
    name: str = field(default_factory=private_name)

    def __post_init__(self) -> None:
        """Its folder is in the chroot; a test's temporary one would be out of its reach."""
        self.folder = self.binaries.chroot / "srv" / self.name

    @property
    def log(self) -> Path:
        """FerretDB's and PostgreSQL's lines."""
        return self.folder / "log"

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{HOST}:{self.port}"

    def url(self, database: str = "novu-db", login: str = "root:secret") -> str:
        """As `MONGO_URL` would have it."""
        return f"mongodb://{login}@{self.address}/{database}?authSource=admin"

    def tls_url(self, database: str = "novu-db", login: str = "root:secret") -> str:
        """The same over TLS; the client adds `tlsCAFile`."""
        return f"mongodb://{login}@{HOST}:{self.tls_port}/{database}?authSource=admin&tls=true"

    def launch(self) -> None:
        """PostgreSQL first, FerretDB when that answers."""
        need_root("starting the database")
        self.port = self.port or free_port()
        if not (self.folder / "data").exists():
            sweep(self.binaries.chroot / "srv")
            copy_template(self.binaries, self.name)
        self.launch_postgres()
        self.launch_ferretdb()

    def ready(self) -> bool:
        """PostgreSQL answered before FerretDB was started: that this listens is enough."""
        return connects(self.port)

    def launch_postgres(self) -> None:
        """Start PostgreSQL; after a kill its old children may hold its memory for a moment more."""
        command = [f"{POSTGRES_BIN}/postgres", "-D", f"/srv/{self.name}/data"]
        command += postgres_options(self.name).split()
        deadline = time.monotonic() + self.start_seconds
        while True:
            postgres = self.spawn_inside(command, signal.SIGQUIT)
            poll(lambda p=postgres: not p.alive() or self.postgres_answers(), self.start_seconds)  # type: ignore[misc]
            if postgres.alive() and self.postgres_answers():
                return
            if time.monotonic() > deadline or "shared memory" not in self.recent_log():
                raise StackError(f"PostgreSQL did not start: {self.last_line()} See {self.log}")
            self.processes.clear()
            time.sleep(0.2)

    def recent_log(self) -> str:
        """The log's end."""
        return self.log.read_text(errors="replace")[-1000:]

    def postgres_answers(self) -> bool:
        """Whether SQL can be run."""
        if not (self.folder / ".s.PGSQL.5432").exists():
            return False
        try:
            self.sql("SELECT 1")
        except StackError:
            return False
        return True

    def launch_ferretdb(self) -> None:
        """Start FerretDB, its own telemetry off, its state where PostgreSQL's is."""
        with contextlib.suppress(FileExistsError):
            os.link(self.binaries.ferretdb, self.folder / "ferretdb")
        command = [
            f"/srv/{self.name}/ferretdb",
            f"--postgresql-url=postgres://postgres@/postgres?host=/srv/{self.name}",
            f"--listen-addr={self.address}",
            "--debug-addr=-",
            f"--state-dir=/srv/{self.name}",
            "--log-level=WARN",
            *self.tls_options(),
        ]
        self.spawn_inside(command, signal.SIGKILL)

    def tls_options(self) -> list[str]:
        """FerretDB's flags for TLS; the files are copied to where it can read them."""
        if not self.tls:
            return []
        self.tls_port = self.tls_port or free_port()
        options = [f"--listen-tls={HOST}:{self.tls_port}"]
        for flag, file in (
            ("cert", self.tls.certificate),
            ("key", self.tls.key),
            ("ca", self.tls.ca),
        ):
            if file:
                shutil.copyfile(file, self.folder / f"tls-{flag}.pem")
                (self.folder / f"tls-{flag}.pem").chmod(0o644)
                options.append(f"--listen-tls-{flag}-file=/srv/{self.name}/tls-{flag}.pem")
        return options

    def spawn_inside(self, command: Sequence[str], death_signal: signal.Signals) -> Process:
        """Start one process in the chroot."""
        return self.spawn(
            command,
            env={**CHROOT_ENVIRONMENT, "FERRETDB_TELEMETRY": "disable"},
            root=self.binaries.chroot,
            death_signal=death_signal,
        )

    def stop(self) -> None:
        """FerretDB, then PostgreSQL, whose fast way to end is SIGINT."""
        for process in reversed(self.processes[1:]):
            process.end(signal.SIGTERM, 30)
        for process in self.processes[:1]:
            process.end(signal.SIGINT, 60)

    def sql(self, text: str) -> str:
        """Run SQL in PostgreSQL; bare rows, fields split by `|`."""
        return run_inside(self.binaries.chroot, psql_command(self.name), text)

    def analyze(self, database: str | None = None) -> None:
        """Make counts of all collections, or one database's, cost the same whatever their size.

        Until then `count` and `estimatedDocumentCount` are exact and read every row; from then on
        they stay as they are now, until the next call: an estimate that lags, as after bulk loads.
        """
        where = f"WHERE database_name = {quoted(database)}" if database else ""
        query = f"SELECT collection_id FROM documentdb_api_catalog.collections {where}"  # noqa: S608
        numbers = self.sql(query).split()
        statements = [f"ANALYZE documentdb_data.documents_{number};" for number in numbers]
        self.sql("\n".join(["SET track_counts = on;", *statements]))

    def create_login(
        self, user: str, password: str, roles: Sequence[str] = ("readAnyDatabase",)
    ) -> None:
        """A further login; its password needs 8 characters of several kinds.

        DocumentDB knows `readAnyDatabase`, or `readWriteAnyDatabase` together with `clusterAdmin`.
        """
        request = {
            "createUser": user,
            "pwd": password,
            "roles": [{"role": role, "db": "admin"} for role in roles],
        }
        self.sql(f"SELECT documentdb_api.create_user({quoted(json.dumps(request))})")

    def documents(self, database: str, collection: str) -> str:
        """The PostgreSQL table that holds an existing collection, to be filled by SQL in bulk."""
        where = f"database_name = {quoted(database)} AND collection_name = {quoted(collection)}"
        query = f"SELECT collection_id FROM documentdb_api_catalog.collections WHERE {where}"  # noqa: S608
        number = self.sql(query).strip()
        if not number:
            raise StackError(f"There is no collection {collection} in database {database}.")
        return f"documentdb_data.documents_{number}"


def quoted(text: str) -> str:
    """An SQL string."""
    return "'" + text.replace("'", "''") + "'"


def sweep(instances: Path) -> None:
    """Remove what killed test runs left: instances whose maker is gone."""
    for folder in instances.glob("p*-*"):
        owner = folder.name[1:].partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            remove_tree(folder)


# --- collector -----------------------------------------------------------------------------------


@dataclass
class Collector(Server):
    """The OpenTelemetry Collector with a configuration file.

    Its addresses are handed to it in the variables of the repository's collector-config.yaml;
    `env` adds variables or overrides these, `overrides` are settings as its `--set` takes them
    (`receivers.otlp.protocols.http.tls.cert_file=...`), `more` further files merged over the first.
    """

    config: Path
    env: Mapping[str, str] = field(default_factory=dict)
    _: KW_ONLY
    grpc_port: int = 0
    http_port: int = 0
    health_port: int = 0
    overrides: Sequence[str] = ()
    more: Sequence[Path] = ()
    log_offset: int = 0

    @property
    def log(self) -> Path:
        """Its output, the debug exporter's included."""
        return self.folder / "collector.log"

    @property
    def address(self) -> str:
        """Host and port of OTLP over HTTP."""
        return f"{HOST}:{self.http_port}"

    @property
    def otlp_http(self) -> str:
        """As `OTEL_EXPORTER_OTLP_ENDPOINT` would have it for `http/protobuf`."""
        return f"http://{HOST}:{self.http_port}"

    @property
    def otlp_grpc(self) -> str:
        """As `OTEL_EXPORTER_OTLP_ENDPOINT` would have it for `grpc`."""
        return f"http://{HOST}:{self.grpc_port}"

    def launch(self) -> None:
        """Start the one process."""
        self.grpc_port = self.grpc_port or free_port()
        self.http_port = self.http_port or free_port()
        self.health_port = self.health_port or free_port()
        self.log_offset = self.log.stat().st_size if self.log.exists() else 0
        command = [str(self.binaries.collector)]
        command += [f"--config={file.resolve()}" for file in (self.config, *self.more)]
        command += [f"--set={override}" for override in self.overrides]
        self.spawn(command, env=self.environment())

    def environment(self) -> dict[str, str]:
        """What it sees: nothing of ours but the path."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "OTEL_NOVU_COLLECTOR_GRPC_ENDPOINT": f"{HOST}:{self.grpc_port}",
            "OTEL_NOVU_COLLECTOR_HTTP_ENDPOINT": f"{HOST}:{self.http_port}",
            "OTEL_NOVU_COLLECTOR_HEALTH_ENDPOINT": f"{HOST}:{self.health_port}",
            "OTEL_NOVU_COLLECTOR_METRICS_PORT": str(free_port()),
            **self.env,
        }

    def ready(self) -> bool:
        """It says so itself, once all parts of the pipeline run."""
        with self.log.open("rb") as file:
            file.seek(self.log_offset)
            return b"Everything is ready" in file.read()

    def output(self) -> str:
        """The whole log."""
        return self.log.read_text(errors="replace")


def validate(config: Path, parts: Binaries, env: Mapping[str, str] | None = None) -> str:
    """What the collector's own `validate` says against a configuration; empty if nothing."""
    command = [str(parts.collector), "validate", f"--config={config}"]
    environment = {"PATH": os.defpath, **(env or {})}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd="/", env=environment
    )
    return (done.stdout + done.stderr).strip() if done.returncode else ""


# --- Prometheus ----------------------------------------------------------------------------------


@dataclass
class Prometheus(Server):
    """Prometheus with remote write switched on."""

    config: Path = HERE / "prometheus.yml"
    _: KW_ONLY
    port: int = 0

    @property
    def log(self) -> Path:
        """Its output."""
        return self.folder / "prometheus.log"

    @property
    def address(self) -> str:
        """Its base address."""
        return f"http://{HOST}:{self.port}"

    @property
    def remote_write(self) -> str:
        """Where the collector writes to."""
        return f"{self.address}/api/v1/write"

    def launch(self) -> None:
        """Start the one process."""
        self.port = self.port or free_port()
        command = [
            str(self.binaries.prometheus),
            f"--config.file={self.config.resolve()}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
            "--web.enable-remote-write-receiver",
        ]
        self.spawn(command, env={"PATH": os.defpath})

    def ready(self) -> bool:
        """Its own readiness."""
        return answers(f"{self.address}/-/ready")

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The result of an instant query."""
        return ask_prometheus(self.address, promql)


def ask_prometheus(address: str, promql: str, at: float | None = None) -> list[dict[str, Any]]:
    """The result of an instant query, now or at a Unix time.

    An instant sees samples of the last 5 minutes only: for hourly ones ask `last_over_time(x[2h])`.
    """
    question = {"query": promql} | ({} if at is None else {"time": f"{at:.3f}"})
    url = f"{address}/api/v1/query?{urllib.parse.urlencode(question)}"
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 (our own address)
        return cast("list[dict[str, Any]]", json.load(answer)["data"]["result"])
