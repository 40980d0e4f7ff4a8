import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import stack as stack_module
from handed_run import Hand
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pymongo import MongoClient
from pymongo.database import Database
from receivers import HttpSink
from servers import ExporterRunner, PrometheusClient, eventually

Document = dict[str, Any]

# How long an example takes is the machine's matter.
hypothesis_settings.register_profile(
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("patient")


# A shell that starts us in the background lets us, and all that we start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def no_process_outlives_the_tests() -> Iterator[None]:
    yield
    eventually(
        lambda: psutil.Process().children(recursive=True),
        lambda left: not left,
    )


@pytest.fixture(scope="session", name="stack")
def shared_servers() -> stack_module.Servers:
    """The shared servers: given by the environment, else Docker's, else the native ones.

    They are brought up by a process of its own, so that they stay for the next run.
    """
    command = [sys.executable, stack_module.__file__, "up"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = stack_module.running()
    if done.returncode or found is None:
        pytest.fail(f"the servers are not up:\n{done.stdout}{done.stderr}", pytrace=False)
    return found


@pytest.fixture
def mongo_url(stack: stack_module.Servers) -> Iterator[str]:
    """The address of an empty database of the test's own, which goes away with it."""
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
    """A receiver of OTLP over HTTP that takes everything."""
    with HttpSink() as sink:
        yield sink


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    """What moves the clocks and holds the disk of `handed`."""
    folder = tmp_path / "hand"
    folder.mkdir()
    return Hand(folder)


@pytest.fixture
def handed(tmp_path: Path, hand: Hand) -> Iterator[ExporterRunner]:
    """Runs `otel-novu run` on clocks and a disk that the test holds in its hand."""
    runner = ExporterRunner(tmp_path, hand.program)
    yield runner
    hand.go_on()
    runner.close()
