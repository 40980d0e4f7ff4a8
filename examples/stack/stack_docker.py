"""The shared servers as containers of `compose.yaml`, where a Docker engine runs."""

import os
import shutil
import subprocess
from collections.abc import Sequence

from stack_build import HERE, StackError
from stack_cache import Progress
from stack_servers import HOST, answers, poll

COMPOSE = ["docker", "compose", "-f", str(HERE / "compose.yaml")]
PORTS = {
    "OTEL_NOVU_STACK_DATABASE_PORT": 27117,
    "OTEL_NOVU_STACK_GRPC_PORT": 14317,
    "OTEL_NOVU_STACK_HTTP_PORT": 14318,
    "OTEL_NOVU_STACK_HEALTH_PORT": 14133,
    "OTEL_NOVU_STACK_PROMETHEUS_PORT": 19090,
}


def port(name: str) -> int:
    """The port of a server: that of its variable, else the usual one."""
    variable = f"OTEL_NOVU_STACK_{name}_PORT"
    text = os.environ.get(variable) or str(PORTS[variable])
    if not text.isdecimal() or not 0 < int(text) < 65536:  # noqa: PLR2004
        raise StackError(f"{variable}: is {text!r}; expected a port from 1 to 65535")
    return int(text)


def docker_runs() -> bool:
    """Whether an engine answers, and compose is there."""
    commands = (["docker", "info"], ["docker", "compose", "version"])
    return bool(shutil.which("docker")) and all(
        subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
        for command in commands
    )


def has_images(progress: Progress, names: Sequence[str]) -> bool:
    """Whether the images of these services are there, or can be pulled."""
    command = [*COMPOSE, "config", "--images", *names]
    images = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    for image in sorted(set(images)):
        inspect = ["docker", "image", "inspect", image]
        if subprocess.run(inspect, capture_output=True, check=False).returncode == 0:
            continue
        progress(f"pulling {image}")
        if subprocess.run(["docker", "pull", "--quiet", image], check=False).returncode:
            progress(f"Docker can't pull {image}, so the servers run natively")
            return False
    return bool(images)


def start_docker(progress: Progress, names: Sequence[str]) -> dict[str, str]:
    """Start the services; returns their addresses."""
    progress("starting the servers in Docker")
    if subprocess.run([*COMPOSE, "up", "-d", "--wait", *names], check=False).returncode:
        raise StackError("Docker did not start the servers; see its messages above.")
    health = f"http://{HOST}:{port('HEALTH')}"
    if "collector" in names and not poll(lambda: answers(health), 180):
        raise StackError("The collector in Docker is not healthy; see `docker compose logs`.")
    return docker_addresses()


def docker_addresses() -> dict[str, str]:
    """Where the services listen."""
    return {
        "mongo_url": f"mongodb://root:secret@{HOST}:{port('DATABASE')}/novu-db?authSource=admin",
        "otlp_http": f"http://{HOST}:{port('HTTP')}",
        "otlp_grpc": f"http://{HOST}:{port('GRPC')}",
        "prometheus": f"http://{HOST}:{port('PROMETHEUS')}",
    }
