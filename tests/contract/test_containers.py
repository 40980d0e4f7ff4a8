"""The image and both compose files, on a container engine."""

import json
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import novu_data
import pytest
import yaml
from container_engine import DATABASE_PORT, Docker, engine, forwarded, provide
from pymongo import MongoClient
from servers import PrometheusClient, eventually
from stack import PORTS, Database, Servers, StackError, build, free_port

from otel_novu.version import __version__

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[2]
STACK = ROOT / "examples" / "stack" / "compose.yaml"
OVERRIDE = ROOT / "examples" / "novu" / "compose.override.yaml"
IMAGE, STATE = f"otel-novu:{__version__}", "/var/lib/otel-novu"
[BASE] = set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
OTLP_PORT = 14318  # on the gateway; 4318 is the override's
LATE_PORT = 14319
# What `docker run` is told in the docs, and no right at all.
OPTIONS = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")

# As Novu's own file has it, but for the time between two checks.
NOVU = """
name: novu
services:
  mongodb:
    image: {image}
    environment: [MONGO_INITDB_ROOT_USERNAME, MONGO_INITDB_ROOT_PASSWORD]
    healthcheck:
      test: [CMD, mongosh, --quiet, --eval, "db.adminCommand('ping').ok"]
      interval: 1s
      retries: 60
"""
DOT_ENV = """
MONGO_INITDB_ROOT_USERNAME=root
MONGO_INITDB_ROOT_PASSWORD=secret
MONGO_URL=mongodb://$MONGO_INITDB_ROOT_USERNAME:$MONGO_INITDB_ROOT_PASSWORD@mongodb:27017/novu-db?authSource=admin
"""


def services(file: Path) -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(file.read_text())["services"])


def unique(name: str) -> str:
    return f"otel-novu-test-{name}-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    """An engine that has the image."""
    with ExitStack() as closing:
        try:
            docker = closing.enter_context(engine(BASE))
        except StackError as error:
            # CI skips nothing.
            outcome = pytest.fail.Exception if os.environ.get("CI") else pytest.skip.Exception
            raise outcome(f"No container engine: {error}", pytrace=False) from None
        docker("build", "--network=host", f"--tag={IMAGE}", str(ROOT))
        for image in {service["image"] for service in services(STACK).values()} - {IMAGE}:
            provide(docker, image, BASE)
        yield docker


@pytest.fixture(scope="module")
def reachable(docker: Docker, stack: Servers) -> Iterator[dict[str, str]]:
    """The settings of an exporter in a container, with data in `novu-db` of a private database."""
    gateway = docker.gateway
    with (
        Database(binaries=build()) as database,
        MongoClient[Any](database.url()) as client,
        forwarded(f"{gateway}:{DATABASE_PORT}", f"127.0.0.1:{database.port}"),
        forwarded(f"{gateway}:{OTLP_PORT}", urlsplit(stack.otlp_http).netloc),
    ):
        novu_data.load(client["novu-db"], seed=1, size="small", now=datetime.now(UTC))
        url = database.url().replace(f"127.0.0.1:{database.port}", f"{gateway}:{DATABASE_PORT}")
        yield {"MONGO_URL": url, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{gateway}:{OTLP_PORT}"}


@pytest.fixture
def volume(docker: Docker) -> Iterator[str]:
    """A named volume, and what uses it, until the end of the test."""
    name = unique("volume")
    yield name
    if users := docker("ps", "--all", "--quiet", f"--filter=volume={name}").stdout.split():
        docker("rm", "--force", *users)
    docker("volume", "rm", "--force", name)


@contextmanager
def project(docker: Docker, *options: str, **env: str) -> Iterator[list[str]]:
    """A compose project that is up; yields the words before a command of compose."""
    words = ["compose", f"--project-name={unique('project')}", *options]
    try:
        docker(*words, "up", "--detach", "--no-build", env=env)
        yield words
    finally:
        docker(*words, "down", "--volumes", env=env)


def container_of(docker: Docker, words: list[str], service: str) -> str:
    return docker(*words, "ps", "--all", "--quiet", service).stdout.strip()


def health_of(docker: Docker, container: str) -> str:
    return docker.inspect("{{if .State.Health}}{{.State.Health.Status}}{{end}}", container)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("--version", 0),
        ("show", 0),
        ("show --otlp", 0),
        ("check", 0),
        ("once", 0),
        ("health", 1),
        ("telemetry status", 0),
        ("telemetry disable", 0),
        ("spool", 0),
        ("spool --flush", 0),
        ("reset-id", 0),
        ("metrics", 0),
    ],
)
def test_every_command_works_in_a_read_only_container_with_a_volume(
    docker: Docker, reachable: dict[str, str], volume: str, command: str, code: int
) -> None:
    given = [f"--env={name}={value}" for name, value in reachable.items()]
    options = ["--rm", *OPTIONS, *given, f"--volume={volume}:{STATE}"]
    done = docker("run", *options, IMAGE, *command.split(), check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert (done.stdout + done.stderr).strip()
    assert "Traceback" not in done.stderr


def test_run_reports_without_root_its_health_follows_and_sigterm_ends_it_in_time(
    docker: Docker,
    reachable: dict[str, str],
    volume: str,
    instance_id: str,
    prometheus: PrometheusClient,
) -> None:
    env = {**reachable, "OTEL_NOVU_INSTANCE_ID": instance_id}
    given = [f"--env={name}={value}" for name, value in env.items()]
    given += [*OPTIONS, f"--volume={volume}:{STATE}"]
    probes = ["--health-interval=1s", "--health-start-period=1s", "--health-retries=2"]
    container = docker("run", "--detach", *given, *probes, IMAGE).stdout.strip()

    def inside(*words: str) -> str:
        return docker("exec", container, *words, check=False).stdout.strip()

    eventually(lambda: health_of(docker, container), lambda status: status == "healthy")
    prometheus.eventually(f'novu_user_count{{instance="{instance_id}"}}')
    assert inside("id", "--user") == "10001"
    assert inside("stat", "--format=%u %a", STATE) == "10001 700"
    assert docker("exec", container, "touch", "/x", check=False).returncode == 1
    second = docker("run", "--rm", *given, IMAGE, "once", check=False)
    assert second.returncode == 1, second.stdout + second.stderr
    inside("chmod", "500", STATE)  # reports can't be kept any more
    eventually(lambda: health_of(docker, container), lambda status: status == "unhealthy")
    inside("chmod", "700", STATE)
    eventually(lambda: health_of(docker, container), lambda status: status == "healthy")
    begin = time.monotonic()
    docker("stop", "--time=30", container)
    assert time.monotonic() - begin < 10
    assert docker.inspect("{{.State.ExitCode}}", container) == "0"


def test_the_first_hour_with_a_wrong_password_and_a_database_that_comes_up_later(
    docker: Docker, reachable: dict[str, str], volume: str
) -> None:
    url, place = reachable["MONGO_URL"], f"{docker.gateway}:{DATABASE_PORT}"
    wrong, late = re.sub("//.*@", "//root:Wr0ng-w0rd@", url), f"{docker.gateway}:{LATE_PORT}"

    def options(mongo_url: str) -> list[str]:
        env = reachable | {"MONGO_URL": mongo_url}
        given = [f"--env={name}={value}" for name, value in env.items()]
        return [*OPTIONS, *given, f"--volume={volume}:{STATE}", IMAGE]

    once = docker("run", "--rm", *options(wrong), "once", check=False)
    assert (once.returncode, "(code 18)" in once.stderr) == (1, True)
    assert "Wr0ng-w0rd" not in once.stdout + once.stderr
    container = docker("run", "--detach", *options(url.replace(place, late))).stdout.strip()

    def log() -> str:
        done = docker("logs", container)
        return done.stdout + done.stderr

    eventually(lambda: f"WARNING MongoDB at {late}: " in log())
    with forwarded(late, place):
        eventually(lambda: "All usage figures are read again" in log())
        docker("kill", "--signal=INT", container)
        eventually(lambda: docker.inspect("{{.State.Status}}", container) == "exited")
    assert docker.inspect("{{.State.ExitCode}}", container) == "0"
    assert "Stopped; every report was delivered." in log()


def test_the_stack_comes_up_and_only_the_exporter_has_its_health_check(
    docker: Docker, reachable: dict[str, str]
) -> None:
    assert reachable
    names = [*PORTS, "OTEL_NOVU_STACK_GRAFANA_PORT"]
    ports = {name: str(free_port()) for name in names}
    env = {**ports, "OTEL_METRIC_EXPORT_INTERVAL": "2000"}
    with project(docker, f"--file={STACK}", **env) as words:
        address = f"http://127.0.0.1:{ports['OTEL_NOVU_STACK_PROMETHEUS_PORT']}"
        found = PrometheusClient(address).eventually('novu_subscriber_count{job="novu"}')
        assert found[0].value > 0
        exporter = container_of(docker, words, "exporter")
        eventually(lambda: health_of(docker, exporter), lambda status: status == "healthy")
        for service in ("sample-data", "traffic"):
            container = container_of(docker, words, service)
            check = json.loads(docker.inspect("{{json .Config.Healthcheck}}", container))
            assert check["Test"] == ["NONE"]
        data = container_of(docker, words, "sample-data")
        assert docker.inspect("{{.State.Status}} {{.State.ExitCode}}", data) == "exited 0"
        traffic = container_of(docker, words, "traffic")
        assert docker.inspect("{{.State.Status}} {{.RestartCount}}", traffic) == "running 0"
        grafana = f"http://127.0.0.1:{ports['OTEL_NOVU_STACK_GRAFANA_PORT']}/api/health"
        with urlopen(grafana, timeout=30) as answer:
            assert json.load(answer)["database"] == "ok"


@contextmanager
def collector_of_the_override(docker: Docker, stack: Servers, folder: Path) -> Iterator[None]:
    """The collector as the comment in the override starts it, in front of the shared Prometheus."""
    comment = re.search(r"(?:^ +# {3}.*\n)+", OVERRIDE.read_text(), re.MULTILINE)
    assert comment
    command = re.sub(r"^ +#", "", comment[0], flags=re.MULTILINE)
    (folder / "otelcol-contrib").symlink_to(build().collector)
    environ = [f"{name}={value}" for name, value in (docker.environ or {}).items()]
    words = [*docker.prefix, "env", *environ, shutil.which("docker") or "docker"]
    words[-1] = "docker" if docker.prefix else words[-1]
    (folder / "docker").write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    (folder / "docker").chmod(0o755)
    env = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "OTEL_NOVU_REMOTE_WRITE_ENDPOINT": f"{stack.prometheus}/api/v1/write",
        "OTEL_NOVU_COLLECTOR_GRPC_ENDPOINT": f"127.0.0.1:{free_port()}",
        "OTEL_NOVU_COLLECTOR_HEALTH_ENDPOINT": f"127.0.0.1:{free_port()}",
        "OTEL_NOVU_COLLECTOR_METRICS_PORT": str(free_port()),
    }
    shell = ["sh", "-ec", command.replace("PATH/TO/otel-novu", str(ROOT))]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(shell, env=env, stdout=log, stderr=log, start_new_session=True) as process,
    ):
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def test_the_override_beside_novus_compose_file_reaches_the_collector_that_it_names(
    docker: Docker,
    reachable: dict[str, str],
    stack: Servers,
    prometheus: PrometheusClient,
    tmp_path: Path,
) -> None:
    assert reachable
    novu, namespace = tmp_path / "novu", unique("namespace")
    novu.mkdir()
    image = services(STACK)["database"]["image"]
    (novu / "docker-compose.yml").write_text(NOVU.format(image=image))
    resource = f"NOVU_RESOURCE_ATTRIBUTES=service.namespace={namespace}\n"
    (novu / ".env").write_text(DOT_ENV + resource)
    shutil.copy(OVERRIDE, novu)
    query = f'novu_subscriber_count{{job="{namespace}/novu"}}'
    with (
        collector_of_the_override(docker, stack, tmp_path),
        project(docker, f"--project-directory={novu}") as words,
    ):
        assert prometheus.eventually(query)[0].value > 0
        for command in ("check", "health"):
            docker(*words, "exec", "-T", "otel-novu", "otel-novu", command)


def syscalls(group: str) -> set[str]:
    """The system calls that systemd's filter means by a name such as @system-service."""
    command = ["systemd-analyze", "syscall-filter", "--no-pager", group]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    words = [line.strip() for line in lines[1:] if line.strip() and "#" not in line]
    return {call for word in words for call in (syscalls(word) if word[0] == "@" else {word})}


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_the_system_calls_that_the_systemd_unit_allows_are_enough(
    protocol: str, docker: Docker, stack: Servers, reachable: dict[str, str], tmp_path: Path
) -> None:
    unit = (ROOT / "examples" / "systemd" / "otel-novu.service").read_text()
    allowed, denied = re.findall(r"^SystemCallFilter=(~?@.*)", unit, re.MULTILINE)
    calls = syscalls(allowed) | syscalls("@default")
    for group in denied[1:].split():
        calls -= syscalls(group)
    profile = {"names": sorted(calls), "action": "SCMP_ACT_ALLOW"}
    file = tmp_path / "seccomp.json"
    file.write_text(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [profile]}))
    endpoint = stack.otlp_grpc if protocol == "grpc" else stack.otlp_http
    env = {**reachable, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    given = [f"--env={n}={v}" for n, v in {**env, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}.items()]
    options = ["--rm", "--network=host", f"--security-opt=seccomp={file}", *OPTIONS, *given]
    done = docker("run", *options, IMAGE, "once", check=False)
    assert done.returncode == 0, done.stderr
