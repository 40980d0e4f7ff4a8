"""Fixtures of all tests: the real servers, and the exporter as a process."""

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import stack as stack_module
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pymongo import MongoClient
from pymongo.database import Database
from receivers import HttpSink
from servers import ExporterRunner, PrometheusClient, eventually

Document = dict[str, Any]

# How long an example takes depends on the machine.
hypothesis_settings.register_profile(
    "no deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("no deadline")

# A shell that starts us in the background makes us, and all that we start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# .ci/test-versions installs what it imports.
collect_ignore = [] if find_spec("opentelemetry.instrumentation") else ["test_tracing.py"]


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of tests/contract."""
    config.addinivalue_line("markers", "contract: the process, the wire and real servers only")


@pytest.fixture(autouse=True, scope="session")
def no_process_outlives_the_tests() -> Iterator[None]:
    yield
    eventually(lambda: psutil.Process().children(recursive=True), lambda left: not left)


@pytest.fixture(scope="session", name="stack")
def shared_servers() -> stack_module.Servers:
    """The shared servers: from the environment, else Docker's, else the native ones.

    Another process starts them, so that they stay for the next run.
    """
    command = [sys.executable, stack_module.__file__, "up"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = stack_module.running()
    if done.returncode or found is None:
        pytest.fail(f"the servers are not up:\n{done.stdout}{done.stderr}", pytrace=False)
    return found


@pytest.fixture
def mongo_url(stack: stack_module.Servers) -> Iterator[str]:
    """The URL of an empty database of the test's own, which is dropped at the end."""
    name = f"novu-test-{uuid.uuid4().hex[:12]}"
    yield stack_module.with_database(stack.mongo_url, name)
    with MongoClient[Document](stack.mongo_url) as client:
        client.drop_database(name)


@pytest.fixture
def database(mongo_url: str) -> Iterator[Database[Document]]:
    """That database, connected; dates come back with their time zone."""
    with MongoClient[Document](mongo_url, tz_aware=True) as client:
        yield client.get_default_database()


@pytest.fixture
def prometheus(stack: stack_module.Servers) -> PrometheusClient:
    return PrometheusClient(stack.prometheus)


@pytest.fixture
def instance_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """An empty state directory that is ours alone."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[ExporterRunner]:
    """Runs `otel-novu` with an environment that holds what the test gives, and ends it."""
    home = tmp_path / "home"
    home.mkdir()
    runner = ExporterRunner(home)
    yield runner
    runner.close()


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    """A receiver of OTLP over HTTP that accepts everything."""
    with HttpSink() as sink:
        yield sink
