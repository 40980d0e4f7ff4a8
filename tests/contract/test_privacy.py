"""Nothing of Novu's data, of a secret, or of other software is sent, written or logged.

A header that the operator sets, and user, password and query of the endpoint, are in the request;
they, and everything else that is marked, are nowhere else.
"""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from subprocess import CompletedProcess
from threading import Event
from typing import Any

import grpc
import novu_data
import otlp_reports
import psutil
import pytest
from bson import ObjectId
from canaries import files_in, sightings
from contract.case import GRPC, HTTP, Case, each_protocol
from contract.clock import Clock
from delivery_writes import insert
from google.protobuf.json_format import MessageToDict
from pymongo import MongoClient
from pymongo.database import Database
from receivers import GrpcAnswer, GrpcSink, HttpSink, Listener, answer, hang, partial_success, reset
from stack import Servers

pytestmark = pytest.mark.contract

USER, PASSWORD = "DBUSERMARK000001", "DbPASSWORDMARK.0002"
HEADERS = ("HEADERMARK00000003", "TENANTMARK00000004")
URL_PARTS = ("ENDUSERMARK00005", "ENDPASSWORDMARK6", "QUERYMARK0000007")
FILED, ALIEN = "FILEDMARK0000008", "ALIENMARK0000009"
# The first is in every text and id of the documents.
EVERY = (novu_data.MARK, USER, PASSWORD, FILED, ALIEN, *HEADERS, *URL_PARTS)

# Of closed lists: they show that marked documents were in the windows.
WORDS = {"provider_error", "preference", "warning", "longer", "queued", "1h", "dev", "prod"}

COMMANDS = "once,show,show --otlp,show --last,show --queries,check,health,telemetry status --json,"
COMMANDS += "telemetry disable,telemetry enable,spool --json,spool --flush,reset-id,metrics --json"


def load(database: Database[dict[str, Any]], hour: int) -> None:
    """Insert documents full of marks; messages and jobs get ids of one hour."""
    items = [*novu_data.generate(17, 400, datetime.now(UTC), marked=True)]
    for n, (collection, document) in enumerate(items):
        if collection in {"messages", "jobs"}:
            second = hour + n % 3600
            document["_id"] = ObjectId(second.to_bytes(4, "big") + document["_id"].binary[4:])
    insert(database, items)


@pytest.fixture
def marked(
    stack: Servers,
    database: Database[dict[str, Any]],
    mongo_url: str,
    case: Case,
    tmp_path: Path,
) -> Iterator[Case]:
    """An exporter whose database, environment and .env are full of marks, in its windows too."""
    clock = Clock(tmp_path)
    load(database, int(clock.now()) - 3 * 3600)
    case.env |= clock.environment
    (case.exporter.home / ".env").write_text(f"JWT_SECRET={FILED}\nMONGO_PASSWORD={FILED}\n")
    user = USER + database.name
    with MongoClient[dict[str, Any]](stack.mongo_url) as client:
        roles = [{"role": "read", "db": database.name}]
        client.admin.command({"createUser": user, "pwd": PASSWORD, "roles": roles})
        case.read(mongo_url.replace("root:secret", f"{user}:{PASSWORD}"))
        headers = "x-token=Bearer%20{},x-tenant={}".format(*HEADERS)
        case.env |= {"OTEL_EXPORTER_OTLP_HEADERS": headers, "SOMEBODY_ELSES_TOKEN": ALIEN}
        clock.step(-4 * 3600)  # the windows begin
        assert case("once").returncode == 0
        clock.step(4 * 3600)
        yield case
        client.admin.command({"dropUser": user})


def send_secrets(case: Case, port: int) -> None:
    """Put user, password and query into the endpoint."""
    url = "http://{}:{}@127.0.0.1:{port}/v1?token={}".format(*URL_PARTS, port=port)
    case.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = url


def check_output(*texts: str) -> None:
    for text in texts:
        assert sightings(text, EVERY) == []
        assert "Traceback" not in text


def check_state(case: Case) -> None:
    for found in files_in(case.state):
        assert sightings(found.data, EVERY) == [], found.name


def echo(sink: HttpSink, connection: socket.socket, ended: Event) -> None:
    """Answer with faults in turn, whose texts repeat the secrets of the request."""
    request = sink.requests[-1]
    text = f"you sent {request.path} and {dict(request.headers)}"
    answers = (
        answer(),
        answer(503, text.encode(), "text/plain"),
        answer(401, text.encode(), "text/plain"),
        answer(307, headers={"Location": "http://{}:{}@other/{}".format(*URL_PARTS)}),
        answer(200, partial_success(1, text)),
        reset(),
    )
    answers[len(sink.requests) % len(answers)](connection, ended)


GRPC_ECHO = "you sent Bearer {} and {}".format(*HEADERS)
GRPC_ANSWERS = (
    GrpcAnswer(code=grpc.StatusCode.UNAVAILABLE, details=GRPC_ECHO),
    GrpcAnswer(code=grpc.StatusCode.UNAUTHENTICATED, details=GRPC_ECHO),
    GrpcAnswer(partial_success(1, GRPC_ECHO)),
    GrpcAnswer(),
)


@each_protocol
def test_no_mark_is_sent_written_or_logged(protocol: str, marked: Case) -> None:
    if protocol == HTTP:
        http = marked.send_to(HttpSink(lambda *arguments: echo(http, *arguments)))
        send_secrets(marked, http.port)
    else:
        marked.send_to(GrpcSink(*GRPC_ANSWERS))
    with marked.sink as sink:
        running = marked.start("run --verbose")
        sink.wait_for(14)
        marked.stop(running)
        check_output(*running.stdout, *running.stderr)
        for command in COMMANDS.split(","):
            done = marked(f"{command} --verbose")
            assert done.returncode in {0, 1}, f"{command}: {done.stderr}"
            check_output(done.stdout, done.stderr)
        check_state(marked)
    requests: list[Any] = list(sink.requests)
    for request in requests:
        assert sightings(request.body, EVERY) == []
        around = request.metadata if protocol == GRPC else (request.path, request.headers)
        wanted = HEADERS if protocol == GRPC else (*HEADERS, *URL_PARTS)
        assert set(sightings(str(around), EVERY)) == set(wanted)
    providers = otlp_reports.values(marked.points(), "novu.integration.count", "novu.provider.id")
    assert {"sendgrid", "unknown", "other"} <= providers.keys()
    usage = [point for point in marked.points() if point.scope == otlp_reports.USAGE]
    words = {word for point in usage for word in point.attributes.values() if point.value}
    assert words >= WORDS
    host = socket.gethostname()
    assert all(host not in str((point.resource, point.attributes)) for point in usage)


BAD_URLS = {
    "hangs": "mongodb://{login}@{hanging}/novu",
    "no host": "mongodb://{login}@no-such-host.invalid/novu",
    "no SRV": "mongodb+srv://{login}@no-such-host.invalid/novu",
    "odd options": "mongodb://{login}@{hanging}/novu?fancy={alien}&w={alien}",
    "bad escape": "mongodb://{login}%zz@{hanging}/novu",
}


@pytest.mark.parametrize("name", BAD_URLS)
def test_no_failure_shows_a_mark(name: str, marked: Case) -> None:
    with Listener(hang()) as listener:
        place, login = f"127.0.0.1:{listener.port}", f"{USER}:{PASSWORD}"
        marked.read(BAD_URLS[name].format(hanging=place, login=login, alien=ALIEN))
        send_secrets(marked, listener.port)
        marked.env |= {"OTEL_NOVU_QUERY_TIMEOUT": "0.5", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.5"}
        for command in ("once", "show", "check"):
            done = marked(f"{command} --verbose")
            assert done.returncode in {1, 2}, command
            check_output(done.stdout, done.stderr)
    check_state(marked)


@each_protocol
def test_an_anonymized_host_is_named_nowhere_and_is_the_same_each_time(
    protocol: str, case: Case
) -> None:
    found = chain.from_iterable(psutil.net_if_addrs().values())
    addresses = {each.address for each in found if each.family is socket.AF_INET} - {"127.0.0.1"}
    case.env["OTEL_NOVU_ANONYMIZE"] = "true"
    with case.receive(protocol) as sink:
        commands = ("once", "once", "show", "show --otlp", "show --last", "check", "spool")
        printed: list[CompletedProcess[str]] = [case(command) for command in commands]
    assert {done.returncode for done in printed} == {0}
    places: list[bytes | str] = [report.SerializeToString() for report in sink.reports]
    places += [done.stdout + done.stderr for done in printed]
    places += [file.data for file in files_in(case.state)]
    for place in places:
        assert sightings(place, addresses) == []
        # A name may be too short to look for it in any other form.
        assert f'"{socket.gethostname()}"' not in str(place)
    [name] = {p.attributes["host.name"] for p in case.points() if p.name == "novu.host.info"}
    assert f'"{name}"' in printed[2].stdout


TIMES = {"timeUnixNano", "startTimeUnixNano"}
VARYING = "novu.host.memory.free novu.beacon.timestamp novu.usage.timestamp"
VARYING += " novu.usage.read.duration novu.usage.lag novu.collection.oldest.age"


def without_times(request: Any) -> Any:
    """Leave out times, and the values of the metrics that differ from reading to reading."""
    for metric in request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]:
        for point in metric.get("gauge", metric.get("sum"))["dataPoints"]:
            for key in TIMES | ({"asInt", "asDouble"} if metric["name"] in VARYING else set()):
                point.pop(key, None)
    return request


@each_protocol
def test_the_preview_is_what_once_sends_but_for_times(protocol: str, novu: Case) -> None:
    # Detectors of the SDK would add what is no business of ours.
    novu.env["OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"] = "host,os,process,service_instance,*"
    attributes = "service.namespace=shop,team=the%20blue%20one,ö=ü"
    novu.env |= {"OTEL_NOVU_ANONYMIZE": "on", "OTEL_RESOURCE_ATTRIBUTES": attributes}
    with novu.receive(protocol) as sink:
        assert novu("once").returncode == 0  # makes the identity, and its key
        shown = novu("show --otlp")
        assert (shown.returncode, len(sink.requests)) == (0, 2)
        assert novu("once").returncode == 0
        last = novu("show --last --otlp")
    sdk = {"telemetry.sdk.language", "telemetry.sdk.name", "telemetry.sdk.version"}
    sdk |= {"telemetry.distro.name", "telemetry.distro.version"}
    ours = {"service.name", "service.instance.id", "service.namespace", "team", "ö"}
    assert {frozenset(point.resource) for point in novu.points()} == {frozenset(sdk | ours)}
    sent = [MessageToDict(report, use_integers_for_enums=True) for report in sink.reports[2:]]
    sent.sort(key=lambda each: "otel_novu.usage" in str(each))
    assert [json.loads(line) for line in last.stdout.splitlines()] == sent
    previewed = [json.loads(line) for line in shown.stdout.splitlines()]
    assert list(map(without_times, previewed)) == list(map(without_times, sent))
