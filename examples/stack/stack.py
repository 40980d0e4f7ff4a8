#!/usr/bin/env python3
"""The real servers for tests and the demo: database, collector, Prometheus.

    python3 examples/stack/stack.py up       start what does not run, building it if necessary
    python3 examples/stack/stack.py env      print the addresses as shell variables
    python3 examples/stack/stack.py down     stop the servers and delete their data

Each server is the first available of: an address in `TEST_MONGO_URL`, `TEST_OTLP_HTTP`,
`TEST_OTLP_GRPC`, `TEST_PROMETHEUS`; Docker, where an engine runs and has or pulls the images; the
native build. Ports are 27117
(database), 14317 and 14318 (OTLP), 19090 (Prometheus), all on 127.0.0.1. Set
`OTEL_NOVU_STACK_DATABASE_PORT`, `_GRPC_PORT`, `_HTTP_PORT`, `_HEALTH_PORT` or `_PROMETHEUS_PORT` to
change them. A native server whose port is taken gets a free one. Standard library only.
"""

import argparse
import json
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from stack_build import (
    HERE,
    Binaries,
    StackError,
    binaries,
    build,
)
from stack_cache import Progress, cache_dir, locked, remove_tree, short_hash
from stack_docker import (
    COMPOSE,
    PORTS,
    docker_addresses,
    docker_runs,
    has_images,
    port,
    start_docker,
)
from stack_servers import (
    Collector,
    Database,
    OtlpPrometheus,
    Process,
    Prometheus,
    Server,
    ask_prometheus,
    free_port,
    poll,
    port_is_free,
)

__all__ = ["PORTS", "Binaries", "Collector", "Database", "Process", "Prometheus", "StackError"]
__all__ += ["OtlpPrometheus", "ask_prometheus", "build", "free_port", "poll"]

COLLECTOR_CONFIG = HERE.parent.parent / "collector-config.yaml"
PROMETHEUS_CONFIG = HERE / "prometheus.yml"
PROVIDES = {  # in the order of starting
    "database": {"mongo_url"},
    "prometheus": {"prometheus"},
    "collector": {"otlp_http", "otlp_grpc"},
}
ADDRESSES = [name for provides in PROVIDES.values() for name in provides]


@dataclass(frozen=True)
class Servers:
    """Addresses of the shared servers; each test has its own database and instance id there."""

    mongo_url: str
    otlp_http: str
    otlp_grpc: str
    prometheus: str

    def as_variables(self) -> dict[str, str]:
        """As environment variables."""
        return {f"TEST_{name.upper()}": address for name, address in asdict(self).items()}

    def analyze(self, name: str | None = None) -> None:
        """On the native database do what `Database.analyze` does; MongoDB needs nothing."""
        ours = _running_native().get("mongo_url", "")
        if with_database(ours, "") == with_database(self.mongo_url, ""):
            Database(binaries=binaries(), name="shared").analyze(name)


def servers(progress: Progress = print) -> Servers:
    """The shared servers; starts those that do not run."""
    given = _given()
    names = [name for name, provides in PROVIDES.items() if not provides <= given.keys()]
    if not names:
        return Servers(**given)
    docker = docker_runs() and has_images(progress, names)
    start = start_docker if docker else _start_native
    with locked("up", progress):
        return Servers(**{**start(progress, names), **given})


def running() -> Servers | None:
    """The shared servers, if all run; starts nothing."""
    found = {**_running_native(), **_given()}
    if len(found) < len(ADDRESSES) and docker_runs():
        done = subprocess.run([*COMPOSE, "ps", "-q", "collector"], capture_output=True, check=False)
        found = {**docker_addresses(), **_given()} if done.stdout else found
    return Servers(**found) if len(found) == len(ADDRESSES) else None


def stop_servers(progress: Progress = print) -> None:
    """Stop the shared servers and delete their data."""
    with locked("up", progress):
        for name in reversed(PROVIDES):
            if state := _State.read(name):
                state.end(name)
                progress(f"{name} is stopped")
        if docker_runs():
            subprocess.run([*COMPOSE, "down", "--volumes"], check=False)


def with_database(url: str, name: str) -> str:
    """The same server and login, another database."""
    return urllib.parse.urlsplit(url)._replace(path=f"/{name}").geturl()


def _given() -> dict[str, str]:
    found = {name: os.environ.get(f"TEST_{name.upper()}", "") for name in ADDRESSES}
    return {name: address for name, address in found.items() if address}


# --- native --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _State:
    """A running native server, as recorded in the cache."""

    recipe: str
    folder: str
    addresses: dict[str, str]
    processes: list[list[int]]

    @staticmethod
    def file(name: str) -> Path:
        return cache_dir() / "run" / f"{name}.json"

    @classmethod
    def read(cls, name: str) -> "_State | None":
        try:
            found = json.loads(cls.file(name).read_text())
            return cls(*(found[field] for field in cls.__dataclass_fields__))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, name: str) -> None:
        new = self.file(name).with_suffix(".new")
        new.parent.mkdir(exist_ok=True)
        new.write_text(json.dumps(asdict(self), indent=1))
        new.replace(self.file(name))

    def alive(self) -> bool:
        return all(Process(*process).alive() for process in self.processes)

    def end(self, name: str) -> None:
        for process in reversed(self.processes):
            Process(*process).end()
        remove_tree(Path(self.folder))
        self.file(name).unlink()


def _start_native(progress: Progress, names: Sequence[str]) -> dict[str, str]:
    """Start what does not run; restart a server whose version or configuration changed."""
    parts = build(progress)
    for name in names:
        recipe = short_hash(_recipe(name, parts))
        if state := _State.read(name):
            if state.recipe == recipe and state.alive():
                continue
            state.end(name)
        server = _make(name, parts).start()
        processes = [[process.pid, process.ticks] for process in server.processes]
        _State(recipe, str(server.folder), server.addresses, processes).write(name)
        progress(f"{name} is up at {', '.join(server.addresses.values())}")
    return _running_native()


def _make(name: str, parts: Binaries) -> Server:
    if name == "database":
        return Database(binaries=parts, detached=True, port=_free("DATABASE"), name="shared")
    folder = cache_dir() / "run" / name
    folder.mkdir(parents=True, exist_ok=True)
    if name == "prometheus":
        port = _free("PROMETHEUS")
        return Prometheus(binaries=parts, folder=folder, detached=True, port=port)
    return Collector(
        COLLECTOR_CONFIG,
        {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": f"{_prometheus()}/api/v1/write"},
        binaries=parts,
        folder=folder,
        detached=True,
        grpc_port=_free("GRPC"),
        http_port=_free("HTTP"),
        health_port=_free("HEALTH"),
    )


def _recipe(name: str, parts: Binaries) -> str:
    """What a server depends on."""
    return {
        "database": f"{parts.ferretdb} {parts.template}",
        "prometheus": f"{parts.chroot} {PROMETHEUS_CONFIG.read_text()}",
        "collector": f"{parts.collector} {COLLECTOR_CONFIG.read_text()} {_prometheus()}",
    }[name]


def _prometheus() -> str:
    return {**_running_native(), **_given()}.get("prometheus", "")


def _free(name: str) -> int:
    wanted = port(name)
    return wanted if port_is_free(wanted) else free_port()


def _running_native() -> dict[str, str]:
    states = [state for name in PROVIDES if (state := _State.read(name)) and state.alive()]
    return {key: address for state in states for key, address in state.addresses.items()}


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(description="The real servers for tests and the demo.")
    parser.add_argument("command", choices=["up", "env", "down"])
    command = parser.parse_args().command
    try:
        if command == "down":
            return stop_servers(_say)
        found = servers(_say) if command == "up" else running()
        if not found:
            sys.exit("Not all servers run; start them with `stack.py up`.")
        _say("\n".join(f"{name}={address}" for name, address in found.as_variables().items()))
    except KeyboardInterrupt:
        sys.exit("Interrupted; finished parts are kept.")
    except (StackError, OSError, subprocess.SubprocessError) as error:
        sys.exit(str(error))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
