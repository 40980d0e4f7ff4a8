"""A full day of reports over marked data, with marked secrets: no mark leaves, or is written down.

A header that the operator set, and a user name, password and query of the endpoint, are in the
request; they, and everything else that is marked, are nowhere else.
"""

import gzip
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import novu_data
import otlp_reports
import pytest
from bson import ObjectId
from canaries import files_in, sightings
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from pymongo import MongoClient
from pymongo.database import Database
from receivers import (
    GrpcAnswer,
    GrpcSink,
    HttpAnswer,
    HttpSink,
    Listener,
    answer,
    partial_success,
    reset,
)
from servers import ExporterRunner, eventually
from stack import Servers

from otel_novu.exporter import Exporter
from otel_novu.settings import Settings, load
from otel_novu.sources.host import read_host
from otel_novu.state.consent import decide, read_admin, store_admin
from otel_novu.state.directory import StateDirectory
from otel_novu.state.identity import instance_id as identity_of
from otel_novu.state.pseudonym import FILE as KEY_FILE

HOURS = 24
HOUR = 3600.0
GRPC, HTTP = "grpc", "http/protobuf"

# In every text and id of the documents.
DATA = (novu_data.MARK,)
USER, PASSWORD = "DBUSERMARK000001", "DbPASSWORDMARK.0002"
HEADER, TENANT = "HEADERMARK00000003", "TENANTMARK00000004"
ENDPOINT_USER, ENDPOINT_PASSWORD = "ENDUSERMARK00005", "ENDPASSWORDMARK6"
QUERY = "QUERYMARK0000007"
FILED, ALIEN = "FILEDMARK0000008", "ALIENMARK0000009"
DATABASE_SECRETS = (USER, PASSWORD)
HEADERS = (HEADER, TENANT)
ENDPOINT = (ENDPOINT_USER, ENDPOINT_PASSWORD, QUERY)
NOWHERE = (*DATA, *DATABASE_SECRETS, FILED, ALIEN)
EVERY = (*NOWHERE, *HEADERS, *ENDPOINT)


@pytest.fixture
def marked_url(stack: Servers, database: Database[dict[str, Any]], mongo_url: str) -> Iterator[str]:
    """Marked data, read with a marked login."""
    assert database.name
    with MongoClient[dict[str, Any]](stack.mongo_url) as client:
        client.admin.command(
            {
                "createUser": USER + database.name,
                "pwd": PASSWORD,
                "roles": [{"role": "read", "db": database.name}],
            }
        )
        yield mongo_url.replace("root:secret", f"{USER}{database.name}:{PASSWORD}")
        client.admin.command({"dropUser": USER + database.name})


@pytest.fixture
def expected(stack: Servers, database: Database[dict[str, Any]]) -> novu_data.Expected:
    counted = novu_data.load(database, seed=17, size="small", now=datetime.now(UTC), marked=True)
    stack.analyze(database.name)
    return counted


@pytest.fixture
def novu(
    marked_url: str, expected: novu_data.Expected, database: Database[dict[str, Any]]
) -> tuple[str, novu_data.Expected, Database[dict[str, Any]]]:
    return marked_url, expected, database


@dataclass
class Receiver:
    """A sink; over HTTP a test changes its next answers while it runs.

    Args:
        protocol: HTTP or gRPC.
        calls: how gRPC's calls end, one by one, the last one again and again.
        now: HTTP's next answers, or None where all is well.
    """

    protocol: str
    calls: Sequence[GrpcAnswer] = ()
    now: HttpAnswer | None = None
    sink: HttpSink | GrpcSink = field(init=False)

    def __post_init__(self) -> None:
        if self.protocol == GRPC:
            self.sink = GrpcSink(*self.calls)
        else:
            self.sink = HttpSink(self._answer)

    def _answer(self, connection: socket.socket, ended: Event) -> None:
        (self.now or answer())(connection, ended)

    def environment(self) -> dict[str, str]:
        """The collector's address with all the secrets that it can hold."""
        place = self.sink.base.partition("://")[2]
        if self.protocol == GRPC:
            endpoint = self.sink.base
        else:
            endpoint = f"http://{ENDPOINT_USER}:{ENDPOINT_PASSWORD}@{place}/v1?token={QUERY}"
        return {
            "OTEL_EXPORTER_OTLP_PROTOCOL": self.protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-token=Bearer%20{HEADER},x-tenant={TENANT}",
        }

    def bodies(self) -> list[bytes]:
        """What arrived, without compression."""
        return [unpacked(request.body) for request in self.sink.requests]

    def around(self) -> list[str]:
        """Headers and path of each request."""
        return [
            f"{getattr(request, 'path', '')} {getattr(request, 'headers', None)} "
            f"{getattr(request, 'metadata', None)}"
            for request in self.sink.requests
        ]


def unpacked(body: bytes) -> bytes:
    return gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body


def check_requests(receiver: Receiver) -> None:
    """No mark in a body, raw or decoded; the operator's own around it, as he wants it."""
    for body in receiver.bodies():
        assert sightings(body, EVERY) == []
        decoded = MessageToJson(ExportMetricsServiceRequest.FromString(body))
        assert sightings(decoded, EVERY) == []
    wanted = {*HEADERS} if receiver.protocol == GRPC else {*HEADERS, *ENDPOINT}
    for around in receiver.around():
        assert set(sightings(around, EVERY)) == wanted


def check_nothing_is_written(state_dir: Path) -> None:
    for found in files_in(state_dir):
        assert sightings(found.data, EVERY) == [], found.name
        assert found.mode == (0o700 if found.is_folder else 0o600), found.name
    assert state_dir.stat().st_mode & 0o777 == 0o700


# A day, hour by hour


@dataclass
class Day:
    """An exporter on the test's clock."""

    settings: Settings
    state: StateDirectory
    clock: float
    exporter: Exporter = field(init=False)

    def __post_init__(self) -> None:
        identity = identity_of(self.settings.instance_id, self.state)
        decision = decide(self.settings.telemetry, read_admin(self.state))
        self.exporter = Exporter(self.settings, self.state, identity, decision, lambda: self.clock)

    def report(self) -> None:
        """Report both tables, and wait until each had its attempt."""
        self.exporter.outcomes.clear()
        self.exporter.report()
        wanted = set(self.exporter.meters)
        eventually(lambda: set(self.exporter.outcomes), lambda found: found == wanted)

    def switch_usage(self, *, on: bool) -> None:
        """Set the admin setting, and follow it."""
        store_admin(self.state, enabled=on)
        self.exporter.set_usage(decide(None, read_admin(self.state)))


@contextmanager
def a_day(environ: Mapping[str, str], begin: float) -> Iterator[Day]:
    settings = load(environ, env_file=None, cwd=Path("/"), home=Path("/"))
    with StateDirectory.open(settings.state_dir) as state, state.lock("run"):
        day = Day(settings, state, begin)
        yield day
        day.exporter.report_and_close(60.0, 60.0)


@contextmanager
def everything_said(capfd: pytest.CaptureFixture[str]) -> Iterator[list[str]]:
    """Gather all that the exporter logs, down to the last debug line, and all that is printed."""
    said: list[str] = []

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(f"{record.getMessage()} {record.__dict__}")

    log, handler = logging.getLogger("otel_novu"), Note()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield said
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        said += capfd.readouterr()


# What was sent is repeated, as a receiver may do, in the words of its refusal.
ECHO = f"you sent {HEADER}, {TENANT}, {ENDPOINT_USER}:{ENDPOINT_PASSWORD} and {QUERY}"
GRPC_ECHO = f"you sent {HEADER} and {TENANT}"
REFUSALS: Sequence[HttpAnswer] = (
    answer(503, body=ECHO.encode(), kind="text/plain"),
    answer(307, headers={"Location": f"http://{ENDPOINT_USER}:{QUERY}@other/{HEADER}"}),
    answer(200, body=partial_success(1, ECHO)),
    reset(),
)
BAD_CALLS = tuple(
    GrpcAnswer(code=code, details=GRPC_ECHO)
    for code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE) * 3
)
CALLS = (*(GrpcAnswer(),) * 7, *BAD_CALLS, GrpcAnswer(partial_success(1, GRPC_ECHO)), GrpcAnswer())


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_a_full_day_of_reports_holds_no_mark(
    protocol: str,
    compression: str,
    novu: tuple[str, novu_data.Expected, Database[dict[str, Any]]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    marked_url, expected, database = novu
    begin = time.time() - (HOURS + 2) * HOUR
    receiver = Receiver(protocol, CALLS)
    state_dir = tmp_path / "new" / "state"
    environ = {
        "MONGO_URL": marked_url,
        "OTEL_NOVU_STATE_DIR": str(state_dir),
        "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
        "SOMEBODY_ELSES_TOKEN": ALIEN,
        **receiver.environment(),
    }
    with everything_said(capfd) as said, receiver.sink, a_day(environ, begin) as day:
        for hour in range(HOURS):
            day.clock = begin + hour * HOUR
            write_marked(database, day.clock - HOUR / 2)
            trouble(receiver, day, hour)
            day.report()
            check_nothing_is_written(state_dir)
    check_requests(receiver)
    for line in said:
        assert sightings(line, EVERY) == []
    check_figures(receiver, expected)


def trouble(receiver: Receiver, day: Day, hour: int) -> None:
    """Let some hours of the day be bad ones."""
    if receiver.protocol == HTTP:
        receiver.now = REFUSALS[hour - 4] if 4 <= hour < 8 else None
    if hour in {12, 15}:
        day.switch_usage(on=hour == 15)


def write_marked(database: Database[dict[str, Any]], second: float) -> None:
    """One event and one topic of that hour, marked all over."""
    for collection in ("notifications", "topics"):
        made = ObjectId(int(second).to_bytes(4, "big") + b"CANARY" + b"\xff\xff")
        database[collection].insert_one({"_id": made, "CANARYFIELD00001": "CANARYVALUE00001"})


def check_figures(receiver: Receiver, expected: novu_data.Expected) -> None:
    """The day was no idle one: lawful ids came as they are, unlawful ones as `other`."""
    found = otlp_reports.points(
        *(ExportMetricsServiceRequest.FromString(body) for body in receiver.bodies())
    )
    providers = otlp_reports.values(found, "novu.integration.count", "novu.provider.id")
    assert providers == expected.providers
    assert {"sendgrid", "unknown", "other"} <= set(providers)
    assert otlp_reports.value(found, "novu.topic.created") > HOURS / 2
    host = read_host()
    for point in found:
        if point.scope == otlp_reports.USAGE:
            assert host.name not in str((point.resource, point.attributes))
            assert host.ip is None or host.ip not in str((point.resource, point.attributes))


# Every command as a process, and every failure


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with Novu's own .env, full of secrets that are none of ours."""
    folder = tmp_path / "novu"
    folder.mkdir()
    (folder / ".env").write_text(
        f"JWT_SECRET={FILED}\nMONGO_INITDB_ROOT_PASSWORD={FILED}\nAPI_KEY='{FILED}'\n"
        f"REDIS_PASSWORD={FILED}\n"
    )
    return folder


SHOWS = ("show", "show --otlp", "show --last", "telemetry status", "spool")
COMMANDS = (
    "once",
    "show",
    "show --json",
    "show --otlp",
    "show --last",
    "show --queries",
    "check",
    "check --json",
    "health",
    "telemetry status",
    "telemetry status --json",
    "telemetry disable",
    "telemetry enable",
    "spool",
    "spool --json",
    "spool --flush",
    "reset-id",
    "metrics",
    "metrics --json",
)


def check_said(*texts: str) -> None:
    for text in texts:
        assert sightings(text, EVERY) == []


@pytest.mark.long
@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_no_command_says_or_writes_a_mark(
    protocol: str,
    marked_url: str,
    expected: novu_data.Expected,
    state_dir: Path,
    folder: Path,
    exporter: ExporterRunner,
) -> None:
    secret = folder / "url"
    secret.write_text(f"{marked_url}\n")
    receiver = Receiver(protocol)
    with receiver.sink:
        env = {
            "MONGO_URL_FILE": str(secret),
            "OTEL_NOVU_STATE_DIR": str(state_dir),
            "OTEL_METRIC_EXPORT_INTERVAL": "400",
            "OTEL_LOG_LEVEL": "debug",
            "SOMEBODY_ELSES_TOKEN": ALIEN,
            **receiver.environment(),
        }
        running = exporter.start("run", "--verbose", env=env, cwd=folder)
        receiver.sink.wait_for(6)
        assert running.terminate() == 0
        check_said(*running.stdout, *running.stderr)
        for command in COMMANDS:
            done = exporter(*command.split(), "--verbose", env=env, cwd=folder)
            assert done.returncode == (1 if command == "health" else 0), done.stderr
            check_said(done.stdout, done.stderr)
        console = exporter("once", env={**env, "OTEL_METRICS_EXPORTER": "console"}, cwd=folder)
        assert console.returncode == 0
        check_said(console.stdout, console.stderr)
    assert expected.providers
    check_requests(receiver)
    check_nothing_is_written(state_dir)


@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_an_anonymised_host_is_named_nowhere_and_the_key_is_in_its_file_alone(
    protocol: str, state_dir: Path, folder: Path, exporter: ExporterRunner
) -> None:
    receiver = Receiver(protocol)
    host = read_host()
    with receiver.sink:
        env = {
            "OTEL_NOVU_ANONYMIZE": "true",
            "NOVU_TELEMETRY": "off",
            "OTEL_NOVU_STATE_DIR": str(state_dir),
            **receiver.environment(),
        }
        said = [exporter(*command.split(), env=env, cwd=folder) for command in ("once",) * 2]
        said += [exporter(*command.split(), env=env, cwd=folder) for command in SHOWS]
    assert {done.returncode for done in said} == {0}
    key = (state_dir / KEY_FILE).read_text().strip()
    places: list[bytes | str] = [*receiver.bodies()]
    places += [text for done in said for text in (done.stdout, done.stderr)]
    places += [found.data for found in files_in(state_dir) if found.name != KEY_FILE]
    for place in places:
        assert sightings(place, [key, host.ip or key]) == []
        # A name may be too short to be sought in any form but this.
        assert f'"{host.name}"' not in str(place)
    # The same host is recognised all the same.
    names = {
        str(point.attributes["host.name"])
        for body in receiver.bodies()
        for point in otlp_reports.points(ExportMetricsServiceRequest.FromString(body))
        if point.name == "novu.host.info"
    }
    assert len(names) == 1
    assert names != {host.name}
    assert names.pop() in said[2].stdout


def hangs(_: socket.socket, ended: Event) -> None:
    ended.wait(60)


def closes(_: socket.socket, __: Event) -> None:
    """Close every connection at once."""


def web_server(connection: socket.socket, _: Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")


BAD_PEERS: dict[str, Callable[[socket.socket, Event], None]] = {
    "hangs": hangs,
    "closes": closes,
    "web server": web_server,
}


def trace_of_a_crash(text: str) -> bool:
    return "Traceback" in text


@pytest.mark.long
@pytest.mark.parametrize("peer", BAD_PEERS)
@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_no_failure_of_database_or_collector_says_or_writes_a_mark(
    protocol: str,
    peer: str,
    state_dir: Path,
    folder: Path,
    exporter: ExporterRunner,
) -> None:
    collector: AbstractContextManager[Listener] = Listener(BAD_PEERS[peer])
    with collector as at, Listener(BAD_PEERS[peer]) as database:
        place = f"127.0.0.1:{at.port}"
        login = "" if protocol == GRPC else f"{ENDPOINT_USER}:{ENDPOINT_PASSWORD}@"
        env = {
            "MONGO_URL": f"mongodb://{USER}:{PASSWORD}@127.0.0.1:{database.port}/?authSource=admin",
            "OTEL_NOVU_STATE_DIR": str(state_dir),
            "OTEL_NOVU_QUERY_TIMEOUT": "1",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{login}{place}",
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-token=Bearer%20{HEADER},x-tenant={TENANT}",
        }
        check_failing_commands(exporter, env, folder)
    check_nothing_is_written(state_dir)


def check_failing_commands(exporter: ExporterRunner, env: Mapping[str, str], folder: Path) -> None:
    for command in ("once", "show", "check", "show --last", "spool", "spool --flush"):
        done = exporter(*command.split(), "--verbose", env=env, cwd=folder)
        assert done.returncode in {0, 1}
        check_said(done.stdout, done.stderr)
        assert not trace_of_a_crash(done.stderr)
    running = exporter.start("run", "--verbose", env=env, cwd=folder)
    running.wait_for("was not delivered")
    assert running.terminate() == 0
    check_said(*running.stdout, *running.stderr)
    assert not trace_of_a_crash("\n".join(running.stderr))


@pytest.mark.parametrize(
    "changes",
    [
        {"MONGO_URL": f"mongodb://{USER}:{PASSWORD}@{{place}}/novu?authSource=admin"},
        {"MONGO_URL": f"mongodb://{USER}:{PASSWORD}@no-such-host.invalid/novu"},
        {"MONGO_URL": f"mongodb+srv://{USER}:{PASSWORD}@no-such-host.invalid/novu"},
        {"MONGO_URL": f"mongodb://{USER}:{PASSWORD}@{{place}}/novu?tls=true&tlsCAFile=/none"},
        {"MONGO_URL": f"mongodb://{USER}:{PASSWORD}@{{place}}/novu?fancy={ALIEN}&w={ALIEN}"},
        {"MONGO_URL": f"mongodb://{USER}:{PASSWORD}@{{place}}/novu?authMechanism={ALIEN}"},
    ],
    ids=["wrong password", "no host", "no SRV", "no CA file", "odd options", "odd mechanism"],
)
def test_no_login_that_fails_says_or_writes_a_mark(
    changes: Mapping[str, str],
    stack: Servers,
    state_dir: Path,
    folder: Path,
    exporter: ExporterRunner,
) -> None:
    place = stack.mongo_url.rpartition("@")[2].partition("/")[0]
    with HttpSink() as sink:
        env = {
            "OTEL_NOVU_STATE_DIR": str(state_dir),
            "OTEL_NOVU_QUERY_TIMEOUT": "2",
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.base,
            **{name: value.format(place=place) for name, value in changes.items()},
        }
        for command in ("once", "show", "check"):
            done = exporter(command, "--verbose", env=env, cwd=folder)
            assert done.returncode in {1, 2}, f"{command}: {done.stdout}{done.stderr}"
            check_said(done.stdout, done.stderr)
            assert not trace_of_a_crash(done.stderr)
        assert otlp_reports.scopes(*sink.reports) <= {otlp_reports.BEACON, otlp_reports.USAGE}
        for request in sink.requests:
            assert sightings(request.body, EVERY) == []
    check_nothing_is_written(state_dir)
