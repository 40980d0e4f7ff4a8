#!/usr/bin/env python3
"""The real servers for tests and the demo: database, collector, Prometheus.

    python3 examples/stack/stack.py up       start what does not run yet, building it if need be
    python3 examples/stack/stack.py down     stop them and forget their data
    python3 examples/stack/stack.py status   one line each; exit code 1 if one is not up
    python3 examples/stack/stack.py env      their addresses as shell variables
    python3 examples/stack/stack.py build    build the native servers, start nothing

Each server is taken from the first of: an address in `TEST_MONGO_URL`, `TEST_OTLP_HTTP`,
`TEST_OTLP_GRPC`, `TEST_PROMETHEUS`; Docker, where an engine runs; the native build. `up --native`
leaves Docker out. Ports are 27117 (database), 14317 and 14318 (OTLP), 19090 (Prometheus), all on
127.0.0.1; `OTEL_NOVU_STACK_DATABASE_PORT`, `_GRPC_PORT`, `_HTTP_PORT`, `_HEALTH_PORT` and
`_PROMETHEUS_PORT` move them, and a native server whose port is taken gets a free one.

Standard library only. Tests import what they need from here.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stack_build import (
    HERE,
    Binaries,
    Progress,
    StackError,
    binaries,
    build,
    cache_dir,
    locked,
    missing,
    short_hash,
)
from stack_servers import (
    HOST,
    Collector,
    Database,
    Process,
    Prometheus,
    Server,
    TlsFiles,
    answers,
    ask_prometheus,
    free_port,
    poll,
    port_is_free,
    validate,
)

__all__ = [
    "COLLECTOR_CONFIG",
    "Binaries",
    "Collector",
    "Database",
    "Process",
    "Prometheus",
    "Server",
    "Servers",
    "StackError",
    "TlsFiles",
    "ask_prometheus",
    "build",
    "free_port",
    "poll",
    "running",
    "servers",
    "stop_servers",
    "validate",
    "with_database",
]

COLLECTOR_CONFIG = HERE.parent.parent / "collector-config.yaml"
PROMETHEUS_CONFIG = HERE / "prometheus.yml"
COMPOSE_FILE = HERE / "compose.yaml"

PORTS = {
    "OTEL_NOVU_STACK_DATABASE_PORT": 27117,
    "OTEL_NOVU_STACK_GRPC_PORT": 14317,
    "OTEL_NOVU_STACK_HTTP_PORT": 14318,
    "OTEL_NOVU_STACK_HEALTH_PORT": 14133,
    "OTEL_NOVU_STACK_PROMETHEUS_PORT": 19090,
}
NAMES = ("database", "prometheus", "collector")  # in the order of starting


@dataclass(frozen=True)
class Servers:
    """Where the shared servers are; tests use databases and instance ids of their own on them."""

    mongo_url: str
    otlp_http: str
    otlp_grpc: str
    prometheus: str

    def as_variables(self) -> dict[str, str]:
        """The variables that hand these servers to somebody else."""
        return {
            "TEST_MONGO_URL": self.mongo_url,
            "TEST_OTLP_HTTP": self.otlp_http,
            "TEST_OTLP_GRPC": self.otlp_grpc,
            "TEST_PROMETHEUS": self.prometheus,
        }

    def analyze(self, name: str | None = None) -> None:
        """On our native database make counts cheap and fixed, as `Database.analyze` says.

        Real MongoDB counts so by itself.
        """
        database = attached_database()
        if database and f"@{database.address}/" in self.mongo_url:
            database.analyze(name)


def servers(progress: Progress = print, *, docker: bool = True) -> Servers:
    """The shared servers, started where they do not run: given, else Docker's, else native."""
    given = given_addresses()
    if len(given) == len(VARIABLES):
        return Servers(**given)
    start = start_docker if docker and docker_runs() else start_native
    with locked("up", progress):
        found = start(progress, [name for name in NAMES if not covered(name, given)])
    return Servers(**{**found, **given})


def running() -> Servers | None:
    """The shared servers, if all are up; starts nothing."""
    given = given_addresses()
    found = {**running_native(), **given}
    if len(found) < len(VARIABLES) and docker_runs() and docker_up():
        found = {**docker_addresses(), **given}
    return Servers(**found) if len(found) == len(VARIABLES) else None


def with_database(url: str, name: str) -> str:
    """The same server and login, another database."""
    return urllib.parse.urlsplit(url)._replace(path=f"/{name}").geturl()


# --- given ---------------------------------------------------------------------------------------

VARIABLES = {
    "mongo_url": "TEST_MONGO_URL",
    "otlp_http": "TEST_OTLP_HTTP",
    "otlp_grpc": "TEST_OTLP_GRPC",
    "prometheus": "TEST_PROMETHEUS",
}


def given_addresses() -> dict[str, str]:
    """What the environment gives."""
    found = {name: os.environ.get(variable, "") for name, variable in VARIABLES.items()}
    return {name: address for name, address in found.items() if address}


def covered(name: str, given: dict[str, str]) -> bool:
    """Whether the environment gives all that we would start this server for."""
    wanted = {
        "database": {"mongo_url"},
        "collector": {"otlp_http", "otlp_grpc"},
        "prometheus": {"prometheus"},
    }
    return wanted[name] <= given.keys()


# --- Docker --------------------------------------------------------------------------------------


def docker_runs() -> bool:
    """Whether a Docker engine runs, with its compose."""
    return bool(shutil.which("docker")) and all(
        quiet(["docker", *words]) for words in (["info"], ["compose", "version"])
    )


def quiet(command: Sequence[str]) -> bool:
    """Whether a command succeeds within a minute."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def compose(*words: str) -> list[str]:
    """A command on our compose file."""
    return ["docker", "compose", "-f", str(COMPOSE_FILE), *words]


def start_docker(progress: Progress, names: Sequence[str]) -> dict[str, str]:
    """Start the containers and wait until each is healthy."""
    progress("starting the servers in Docker (the first time their images are fetched)")
    if subprocess.run(compose("up", "-d", "--wait", *names), check=False).returncode:
        raise StackError("Docker could not start the servers; its reason stands above.")
    health = f"http://{HOST}:{wanted_port('OTEL_NOVU_STACK_HEALTH_PORT')}"
    if "collector" in names and not poll(lambda: answers(health), 180):
        raise StackError("The collector in Docker is not healthy; see `docker compose logs`.")
    return docker_addresses()


def docker_up() -> bool:
    """Whether the containers run."""
    command = compose("ps", "--services", "--status", "running")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return set(NAMES) <= set(done.stdout.split())


def docker_addresses() -> dict[str, str]:
    """Where compose.yaml publishes them."""
    port = {name.removeprefix("OTEL_NOVU_STACK_"): wanted_port(name) for name in PORTS}
    login = "mongodb://root:secret"
    return {
        "mongo_url": f"{login}@{HOST}:{port['DATABASE_PORT']}/novu-db?authSource=admin",
        "otlp_http": f"http://{HOST}:{port['HTTP_PORT']}",
        "otlp_grpc": f"http://{HOST}:{port['GRPC_PORT']}",
        "prometheus": f"http://{HOST}:{port['PROMETHEUS_PORT']}",
    }


def wanted_port(variable: str) -> int:
    """The port that the environment asks for, else ours."""
    text = os.environ.get(variable) or str(PORTS[variable])
    if not text.isdecimal() or not 0 < int(text) < 65536:  # noqa: PLR2004
        raise StackError(f"{variable} is {text!r}; a port is a number from 1 to 65535.")
    return int(text)


# --- native --------------------------------------------------------------------------------------


def start_native(progress: Progress, names: Sequence[str]) -> dict[str, str]:
    """Build and start what does not run; a server whose configuration changed is started anew."""
    parts = build(progress)
    makers = {"database": new_database, "prometheus": new_prometheus, "collector": new_collector}
    for name in names:
        recipe = recipe_of(name)
        if (state := read_state(name)) and state.recipe == recipe and state.alive():
            continue
        forget(name)
        started = makers[name](parts).start()
        write_state(name, started, recipe)
        progress(f"{name} is up at {shown_address(started)}")
    return running_native()


def new_database(parts: Binaries) -> Database:
    """The shared database."""
    port = native_port("OTEL_NOVU_STACK_DATABASE_PORT")
    return Database(binaries=parts, detached=True, port=port, name="shared")


def new_prometheus(parts: Binaries) -> Prometheus:
    """The shared Prometheus."""
    port = native_port("OTEL_NOVU_STACK_PROMETHEUS_PORT")
    folder = run_folder("prometheus")
    return Prometheus(binaries=parts, folder=folder, detached=True, port=port)


def new_collector(parts: Binaries) -> Collector:
    """The shared collector, writing to the shared Prometheus."""
    return Collector(
        COLLECTOR_CONFIG,
        {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": f"{prometheus_address()}/api/v1/write"},
        binaries=parts,
        folder=run_folder("collector"),
        detached=True,
        grpc_port=native_port("OTEL_NOVU_STACK_GRPC_PORT"),
        http_port=native_port("OTEL_NOVU_STACK_HTTP_PORT"),
        health_port=native_port("OTEL_NOVU_STACK_HEALTH_PORT"),
    )


def prometheus_address() -> str:
    """Where the shared Prometheus is: given, or ours."""
    return {**running_native(), **given_addresses()}.get("prometheus", "")


def native_port(variable: str) -> int:
    """The wanted port, or a free one if it is taken."""
    wanted = wanted_port(variable)
    return wanted if port_is_free(wanted) else free_port()


def recipe_of(name: str) -> str:
    """Changes when the server must be started anew."""
    parts = binaries()
    what = {
        "database": lambda: f"{parts.ferretdb} {parts.template}",
        "prometheus": lambda: f"{parts.chroot} {PROMETHEUS_CONFIG.read_text()}",
        "collector": lambda: (
            f"{parts.collector} {COLLECTOR_CONFIG.read_text()} {prometheus_address()}"
        ),
    }
    return short_hash(what[name]())


def shown_address(server: Server) -> str:
    """Address or addresses, for people."""
    if isinstance(server, Collector):
        return f"{server.otlp_http} (HTTP) and {server.otlp_grpc} (gRPC)"
    return server.address


# --- what `up` remembers -------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """One running server of ours, as it stands in the cache."""

    recipe: str
    folder: str
    log: str
    shown: str
    addresses: dict[str, str]
    processes: list[list[int]]

    def alive(self) -> bool:
        """Whether all its processes run."""
        return all(Process(pid, ticks).alive() for pid, ticks in self.processes)


def run_folder(name: str) -> Path:
    """A folder for a server's log and data."""
    folder = cache_dir() / "run" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def state_file(name: str) -> Path:
    """Where the state of a server stands."""
    return cache_dir() / "run" / f"{name}.json"


def read_state(name: str) -> State | None:
    """The state of a server; what can't be read is none."""
    try:
        return State(**json.loads(state_file(name).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_state(name: str, server: Server, recipe: str) -> None:
    """Remember a server that was started, whole or not at all."""
    state = State(
        recipe=recipe,
        folder=str(server.folder),
        log=str(server.log),
        shown=shown_address(server),
        addresses=addresses_of(server),
        processes=[[process.pid, process.ticks] for process in server.processes],
    )
    state_file(name).parent.mkdir(parents=True, exist_ok=True)
    aside = state_file(name).with_suffix(".new")
    aside.write_text(json.dumps(state.__dict__, indent=1))
    aside.replace(state_file(name))


def addresses_of(server: Server) -> dict[str, str]:
    """What of `Servers` it provides."""
    match server:
        case Database():
            return {"mongo_url": server.url()}
        case Collector():
            return {"otlp_http": server.otlp_http, "otlp_grpc": server.otlp_grpc}
        case _:
            return {"prometheus": server.address}


def running_native() -> dict[str, str]:
    """The addresses of our native servers that run."""
    states = [state for name in NAMES if (state := read_state(name)) and state.alive()]
    return {key: address for state in states for key, address in state.addresses.items()}


def attached_database() -> Database | None:
    """The shared native database, if it runs, to run SQL in."""
    state = read_state("database")
    if not state or not state.alive():
        return None
    port = urllib.parse.urlsplit(state.addresses["mongo_url"]).port
    return Database(binaries=binaries(), detached=True, port=port or 0, name="shared")


def forget(name: str) -> bool:
    """Stop a server of ours and remove its data; whether there was one."""
    state = read_state(name)
    if not state:
        return False
    attached = server_of(name, state)
    attached.processes = [Process(pid, ticks) for pid, ticks in state.processes]
    attached.close()
    state_file(name).unlink(missing_ok=True)
    return True


def server_of(name: str, state: State) -> Server:
    """The object to stop a remembered server with."""
    folder = Path(state.folder)
    if name == "database":
        chroot = folder.parent.parent
        return Database(binaries=replace(binaries(), chroot=chroot), name=folder.name)
    if name == "collector":
        return Collector(COLLECTOR_CONFIG, binaries=binaries(), folder=folder)
    return Prometheus(binaries=binaries(), folder=folder)


def stop_servers(progress: Progress = print) -> None:
    """Stop the shared servers and forget their data."""
    with locked("up", progress):
        for name in reversed(NAMES):
            if forget(name):
                progress(f"{name} is stopped, its data are gone")
        if docker_runs() and docker_up():
            subprocess.run(compose("down", "--volumes"), check=False)


# --- commands ------------------------------------------------------------------------------------


def command_up(arguments: argparse.Namespace) -> int:
    """`up`."""
    found = servers(flushed, docker=not arguments.native)
    flushed("\n".join(f"{name}={address}" for name, address in found.as_variables().items()))
    return 0


def command_down(_: argparse.Namespace) -> int:
    """`down`."""
    stop_servers(flushed)
    return 0


def command_status(_: argparse.Namespace) -> int:
    """`status`."""
    given = given_addresses()
    in_docker = docker_runs() and docker_up()
    lines = {name: status_of(name, given, in_docker=in_docker) for name in NAMES}
    for name, (up, where) in lines.items():
        flushed(f"{name:<10} {'up' if up else 'down':<4} {where}")
    return 0 if all(up for up, _ in lines.values()) else 1


def status_of(name: str, given: dict[str, str], *, in_docker: bool) -> tuple[bool, str]:
    """Whether a server is up, and where or why not."""
    if covered(name, given):
        return True, "given by the environment"
    state = read_state(name)
    if state and state.alive():
        pids = " ".join(str(pid) for pid, _ in state.processes)
        return True, f"{state.shown}  pid {pids}  log {state.log}"
    if in_docker:
        return True, "in Docker"
    return False, f"it ended; see {state.log}" if state else "not started"


def command_env(_: argparse.Namespace) -> int:
    """`env`."""
    found = running()
    if not found:
        raise StackError("Not all servers are up: start them with `stack.py up`.")
    flushed("\n".join(f"{name}={address}" for name, address in found.as_variables().items()))
    return 0


def command_build(_: argparse.Namespace) -> int:
    """`build`."""
    there = not missing(binaries())
    parts = build(flushed)
    flushed("nothing to build:" if there else "built:")
    flushed("\n".join(f"  {name} {version}" for name, version in parts.versions().items()))
    return 0


COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int], str]] = {
    "up": (command_up, "start what does not run yet, building it if need be"),
    "down": (command_down, "stop the servers and forget their data"),
    "status": (command_status, "one line each; exit code 1 if one is not up"),
    "env": (command_env, "addresses as shell variables"),
    "build": (command_build, "build the native servers, start nothing"),
}


def flushed(line: str) -> None:
    """Print at once, so that progress is seen through a pipe."""
    print(line, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Parse, call, choose the exit code."""
    parser = argparse.ArgumentParser(description="The real servers for tests and the demo.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == "up":
            command.add_argument("--native", action="store_true", help="leave Docker out")
    arguments = parser.parse_args(words)
    try:
        for variable in PORTS:
            wanted_port(variable)
        return COMMANDS[arguments.command][0](arguments)
    except StackError as error:
        print(error, file=sys.stderr)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"The servers could not be handled: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("Interrupted; what was whole by then is kept.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
