import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pymongo
import pytest
import stack
import stack_build
import yaml
from contract.case import GRPC, HTTP, Case, each_protocol
from contract.clock import Clock
from pymongo.errors import OperationFailure
from receivers import HttpSink
from servers import ExporterRunner
from stack import (
    COLLECTOR_CONFIG,
    Collector,
    OtlpPrometheus,
    Prometheus,
    ask_prometheus,
    free_port,
    poll,
)

pytestmark = pytest.mark.contract
STACK = Path(stack.__file__).parent
KINDS = ("receivers", "processors", "exporters", "extensions")
INSTANCE = str(uuid.uuid4())
NAMES = ("TEST_MONGO_URL", "TEST_OTLP_HTTP", "TEST_OTLP_GRPC", "TEST_PROMETHEUS")


@pytest.fixture(scope="module")
def parts() -> stack.Binaries:
    return stack.build()


def run_stack(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **dict.fromkeys(NAMES, ""), **variables}
    command = [sys.executable, str(STACK / "stack.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_collector_and_promtool_accept_the_configurations(parts: stack.Binaries) -> None:
    collector = [str(parts.collector), "validate", f"--config={COLLECTOR_CONFIG}"]
    promtool = [str(parts.promtool), "check", "config", str(STACK / "prometheus.yml")]
    for command in (collector, promtool):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_both_stock_distributions_have_every_component_in_use(parts: stack.Binaries) -> None:
    listed = json.loads((STACK / "distributions.json").read_text())
    command = [str(parts.collector), "components"]
    real = yaml.safe_load(subprocess.run(command, capture_output=True, check=True).stdout)
    used = {(c["kind"], c["type"], c["module"]) for c in listed["used"]["components"]}
    assert used == {(k, c["name"], c["module"].split()[0]) for k in KINDS for c in real[k]}
    config = yaml.safe_load(COLLECTOR_CONFIG.read_text())
    for kind in KINDS:
        configured = {name.partition("/")[0] for name in config.get(kind, {})}
        assert configured <= {name for used_kind, name, _ in used if used_kind == kind}
        modules = {module.rpartition("/")[2] for used_kind, _, module in used if used_kind == kind}
        for distribution in listed["distributions"].values():
            assert modules <= set(distribution["modules"][kind])
    assert real["buildinfo"]["version"] == stack_build.collector_version()


def test_the_compose_file_has_the_ports_and_versions_of_the_native_stack(
    parts: stack.Binaries,
) -> None:
    text = (STACK / "compose.yaml").read_text()
    ports = {name: int(port) for name, port in re.findall(r"\$\{(\w+_PORT):-(\d+)\}", text)}
    assert ports == stack.PORTS | {"OTEL_NOVU_STACK_GRAFANA_PORT": 13000}
    assert f"opentelemetry-collector-contrib:{stack_build.collector_version()}" in text
    packages = (parts.chroot.parent / "packages.txt").read_text()
    (minor,) = re.findall(r"^prometheus (\d+\.\d+\.)", packages, re.MULTILINE)
    assert f"prom/prometheus:v{minor}" in text


@pytest.fixture
def beacons(exporter: ExporterRunner, state_dir: Path, sink: HttpSink) -> Case:
    """An exporter of the beacon alone."""
    env = {"OTEL_SERVICE_NAME": "late", "OTEL_NOVU_INSTANCE_ID": INSTANCE, "NOVU_TELEMETRY": "off"}
    env |= {"OTEL_NOVU_STATE_DIR": str(state_dir)}
    return Case(exporter, state_dir, sink, env)


def beacons_in(prometheus: Prometheus) -> list[dict[str, Any]]:
    return ask_prometheus(prometheus.address, 'novu_beacon_timestamp_seconds{job="late"}')


@contextlib.contextmanager
def collector_for(
    prometheus: Prometheus, protocol: str, case: Case, *more: Path
) -> Iterator[Collector]:
    """Start a collector that writes to a Prometheus, and let the exporter report to it."""
    target = {"OTEL_NOVU_REMOTE_WRITE_ENDPOINT": prometheus.remote_write}
    with Collector(COLLECTOR_CONFIG, target, binaries=prometheus.binaries, more=more) as collector:
        endpoint = collector.otlp_grpc if protocol == GRPC else collector.otlp_http
        case.env |= {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        case.env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        yield collector


@each_protocol
def test_a_report_is_delivered_only_when_prometheus_has_it(
    parts: stack.Binaries, protocol: str, beacons: Case
) -> None:
    with (
        Prometheus(binaries=parts) as prometheus,
        collector_for(prometheus, protocol, beacons) as collector,
    ):
        prometheus.kill()
        failed = beacons("once")
        assert (failed.returncode, "connection refused" in failed.stderr) == (1, True)
        # The collector has nothing that could be lost.
        collector.kill()
        collector.start()
        prometheus.start()
        assert beacons("spool --flush").returncode == 0
        [found] = beacons_in(prometheus)
        labels = {"job": "late", "instance": INSTANCE}
        assert found["metric"] == {"__name__": "novu_beacon_timestamp_seconds", **labels}
        [target_info] = ask_prometheus(prometheus.address, 'target_info{job="late"}')
        assert target_info["metric"]["telemetry_distro_name"] == "otel-novu"


@each_protocol
def test_a_report_that_prometheus_rejects_holds_up_no_later_one(
    parts: stack.Binaries, protocol: str, beacons: Case, tmp_path: Path
) -> None:
    config, clock = tmp_path / "no-window.yml", Clock(tmp_path)
    config.write_text("{}")
    with (
        Prometheus(config, binaries=parts) as prometheus,
        collector_for(prometheus, protocol, beacons),
    ):
        assert beacons("once").returncode == 0
        clock.step(-8 * 3600)
        nowhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
        assert beacons("once", **clock.environment, **nowhere).returncode == 1
        flushed = beacons("spool --flush")
        assert (flushed.returncode, "http status 400" in flushed.stderr) == (1, True)
        assert beacons.waiting().total() == 1
        done = beacons("once")
        assert (beacons.waiting().total(), len(beacons.listed())) == (0, 1), done.stderr
        [found] = beacons_in(prometheus)
        assert float(found["value"][1]) > time.time() - 3600


# An exporter added to the pipeline of the reports, in front of a backend that is down.
ANOTHER = """
exporters:
  otlp_http:
    endpoint: http://127.0.0.1:{port}
    {queue}
service:
  pipelines:
    metrics/novu:
      exporters: [prometheus_remote_write, debug, otlp_http]
"""


@pytest.mark.parametrize(
    ("queue", "code"), [("sending_queue: {enabled: false}", 1), ("timeout: 5s", 0)]
)
def test_another_exporter_is_waited_for_unless_it_has_a_queue(
    parts: stack.Binaries, queue: str, code: int, beacons: Case, tmp_path: Path
) -> None:
    more = tmp_path / "another.yaml"
    retry = "retry_on_failure: {enabled: false}"
    more.write_text(ANOTHER.format(port=free_port(), queue=f"{queue}\n    {retry}"))
    with (
        Prometheus(binaries=parts) as prometheus,
        collector_for(prometheus, HTTP, beacons, more),
    ):
        assert beacons("once").returncode == code
        assert len(beacons_in(prometheus)) == 1


def test_prometheus_alone_takes_the_reports_late_ones_too(
    parts: stack.Binaries, beacons: Case, tmp_path: Path
) -> None:
    clock, endpoint = Clock(tmp_path), "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
    beacons.env |= {"OTEL_RESOURCE_ATTRIBUTES": "service.namespace=shop"}
    with OtlpPrometheus(binaries=parts) as prometheus:
        of_all_signals = {"OTEL_EXPORTER_OTLP_ENDPOINT": prometheus.otlp_http}
        assert "accepts OTLP metrics" in beacons("check", **of_all_signals).stdout
        beacons.env |= {endpoint: f"{prometheus.otlp_http}/v1/metrics"}
        assert beacons("once").returncode == 0
        clock.step(-7 * 86_400)
        assert beacons("once", **clock.environment).returncode == 0
        query = f'count_over_time(novu_beacon_timestamp_seconds{{instance="{INSTANCE}"}}[8d])'
        [found] = ask_prometheus(prometheus.address, query)
        assert (found["metric"]["job"], found["value"][1]) == ("shop/late", "2")


def test_the_database_wants_its_login_freezes_counts_and_survives_a_kill(
    parts: stack.Binaries,
) -> None:
    with (
        stack.Database(binaries=parts) as database,
        pymongo.MongoClient[Any](database.url(), timeoutMS=5000) as client,
    ):
        url = database.url(login="root:wrong")
        with pymongo.MongoClient[Any](url) as wrong, pytest.raises(OperationFailure):
            wrong["novu-db"].users.find_one()
        users = client["novu-db"].users
        users.insert_many([{"_id": n} for n in range(100)])
        users.delete_many({"_id": {"$lt": 10}})
        assert users.estimated_document_count() == 90
        database.analyze("novu-db")
        users.insert_one({"_id": 100})
        assert users.estimated_document_count() == 90
        database.analyze()
        assert users.estimated_document_count() == 91
        database.postgres.sql("CHECKPOINT")
        database.kill()
        assert not database.alive()
        database.start()
        assert users.count_documents({}) == 91


def test_private_servers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = "import stack, time; servers = stack.Prometheus().start(), stack.Database().start()\n"
    script += "print(*[p.pid for s in servers for p in s.processes], flush=True); time.sleep(600)"
    environment = {**os.environ, "PYTHONPATH": str(STACK), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        pids = parent.stdout.readline().decode().split()
        parent.send_signal(signal.SIGKILL)
    assert len(pids) == 3
    assert poll(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 120)


def test_given_addresses_come_first_and_nothing_is_started(tmp_path: Path) -> None:
    given = dict.fromkeys(NAMES, "mongodb://db.example/novu-db")
    done = run_stack("up", OTEL_NOVU_CACHE=str(tmp_path), **given)
    assert done.stdout.splitlines() == [f"{name}={address}" for name, address in given.items()]
    assert list(tmp_path.iterdir()) == []


def test_a_reused_process_id_is_not_a_running_server(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    state = {"recipe": "", "folder": "", "processes": [[os.getpid(), 1]]}
    for name, addresses in stack.PROVIDES.items():
        text = json.dumps({**state, "addresses": dict.fromkeys(addresses, "http://old.example")})
        (tmp_path / "run" / f"{name}.json").write_text(text)
    done = run_stack("env", OTEL_NOVU_CACHE=str(tmp_path))
    assert done.stderr == "Not all servers run; start them with `stack.py up`.\n"


def test_the_stack_runs_natively_where_an_engine_can_pull_no_image(
    parts: stack.Binaries, tmp_path: Path
) -> None:
    assert parts
    fake = tmp_path / "docker"
    fake.write_text(
        textwrap.dedent("""\
        #!/bin/sh
        case "$*" in
          info|"compose version") ;;
          *" config --images "*) echo mongo:8.0.17 ;;
          *) echo "no such host" >&2; exit 1 ;;
        esac
        """)
    )
    fake.chmod(0o755)
    done = run_stack("up", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert "Docker can't pull mongo:8.0.17, so the servers run natively" in done.stdout
    addresses = dict(line.split("=", 1) for line in done.stdout.splitlines() if "://" in line)
    port = urlsplit(addresses["TEST_OTLP_HTTP"]).port
    socket.create_connection(("127.0.0.1", port or 0), timeout=60).close()
