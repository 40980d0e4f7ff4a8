"""Nothing of Novu's data, of a secret, or of other software is sent, written or logged.

A header that the operator sets, and user, password and query of the endpoint, are in the request;
they, and everything else that is marked, are nowhere else.
"""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from subprocess import CompletedProcess
from threading import Event
from typing import Any

import grpc
import novu_data
import otlp_reports
import psutil
import pytest
from canaries import files_in, sightings
from contract.case import HTTP, Case, each_protocol
from google.protobuf.json_format import MessageToDict
from pymongo import MongoClient
from pymongo.database import Database
from receivers import (
    GrpcAnswer,
    GrpcSink,
    HttpSink,
    Listener,
    answer,
    hang,
    partial_success,
    reset,
)
from stack import Servers

pytestmark = pytest.mark.contract

USER, PASSWORD = "DBUSERMARK000001", "DbPASSWORDMARK.0002"
HEADER, TENANT = "HEADERMARK00000003", "TENANTMARK00000004"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
ENDPOINT_USER, ENDPOINT_PASSWORD = "ENDUSERMARK00005", "ENDPASSWORDMARK6"
QUERY, FILED, ALIEN = "QUERYMARK0000007", "FILEDMARK0000008", "ALIENMARK0000009"
HEADERS, URL_PARTS = (HEADER, TENANT), (ENDPOINT_USER, ENDPOINT_PASSWORD, QUERY)
# The first is in every text and id of the documents.
EVERY = (novu_data.MARK, USER, PASSWORD, FILED, ALIEN, *HEADERS, *URL_PARTS)

COMMANDS = "once,show,show --otlp,show --last,show --queries,check,health,telemetry status --json,"
COMMANDS += "telemetry disable,telemetry enable,spool --json,spool --flush,reset-id,metrics --json"


@pytest.fixture
def marked(
    stack: Servers, database: Database[dict[str, Any]], mongo_url: str, case: Case
) -> Iterator[Case]:
    """An exporter whose database, environment and .env are full of marks."""
    novu_data.load(database, seed=17, size=50, now=datetime.now(UTC), marked=True)
    names = ("JWT_SECRET", "MONGO_INITDB_ROOT_PASSWORD", "API_KEY", "REDIS_PASSWORD")
    (case.exporter.home / ".env").write_text("".join(f"{name}={FILED}\n" for name in names))
    user = USER + database.name
    with MongoClient[dict[str, Any]](stack.mongo_url) as client:
        roles = [{"role": "read", "db": database.name}]
        client.admin.command({"createUser": user, "pwd": PASSWORD, "roles": roles})
        case.read(mongo_url.replace("root:secret", f"{user}:{PASSWORD}"))
        case.env |= {
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-token=Bearer%20{HEADER},x-tenant={TENANT}",
            "OTEL_LOG_LEVEL": "debug",
            "SOMEBODY_ELSES_TOKEN": ALIEN,
        }
        yield case
        client.admin.command({"dropUser": user})


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
    target = f"http://{ENDPOINT_USER}:{QUERY}@other/{HEADER}"
    answers = (
        answer(),
        answer(503, text.encode(), "text/plain"),
        answer(401, text.encode(), "text/plain"),
        answer(307, headers={"Location": target}),
        answer(200, partial_success(1, text)),
        reset(),
    )
    answers[len(sink.requests) % len(answers)](connection, ended)


GRPC_ECHO = f"you sent Bearer {HEADER} and {TENANT}"
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
        login = f"{ENDPOINT_USER}:{ENDPOINT_PASSWORD}@127.0.0.1"
        url = http.base.replace("127.0.0.1", login)
        marked.env[ENDPOINT] = f"{url}/v1?token={QUERY}"
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
        around = getattr(request, "metadata", None) or (request.path, request.headers)
        assert set(sightings(str(around), EVERY)) == {
            *HEADERS,
            *URL_PARTS[: 3 * (protocol == HTTP)],
        }
    providers = otlp_reports.values(marked.points(), "novu.integration.count", "novu.provider.id")
    assert {"sendgrid", "unknown", "other"} <= providers.keys()
    usage = [point for point in marked.points() if point.scope == otlp_reports.USAGE]
    host = socket.gethostname()
    assert all(host not in str((point.resource, point.attributes)) for point in usage)


BAD_URLS = {
    "wrong password": f"mongodb://{USER}:{PASSWORD}@{{place}}/novu?authSource=admin",
    "hangs": f"mongodb://{USER}:{PASSWORD}@{{hanging}}/novu",
    "no host": f"mongodb://{USER}:{PASSWORD}@no-such-host.invalid/novu",
    "no SRV": f"mongodb+srv://{USER}:{PASSWORD}@no-such-host.invalid/novu",
    "no CA file": f"mongodb://{USER}:{PASSWORD}@{{place}}/novu?tls=true&tlsCAFile=/none",
    "odd options": f"mongodb://{USER}:{PASSWORD}@{{place}}/novu?fancy={ALIEN}&w={ALIEN}",
    "odd mechanism": f"mongodb://{USER}:{PASSWORD}@{{place}}/novu?authMechanism={ALIEN}",
    "bad escape": f"mongodb://{USER}:{PASSWORD}%zz@{{place}}/novu",
    "slash": f"mongodb://{USER}:{PASSWORD}/x@{{place}}/novu",
}


@pytest.mark.parametrize("name", BAD_URLS)
def test_no_failure_of_database_or_collector_shows_a_mark(
    name: str, stack: Servers, marked: Case
) -> None:
    with Listener(hang()) as hanging:
        place = stack.mongo_url.rpartition("@")[2].partition("/")[0]
        marked.read(BAD_URLS[name].format(place=place, hanging=f"127.0.0.1:{hanging.port}"))
        marked.env[ENDPOINT] = (
            f"http://{ENDPOINT_USER}:{ENDPOINT_PASSWORD}@127.0.0.1:{hanging.port}"
        )
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
    name = socket.gethostname()
    found = chain.from_iterable(psutil.net_if_addrs().values())
    addresses = {each.address for each in found if each.family is socket.AF_INET} - {"127.0.0.1"}
    case.env["OTEL_NOVU_ANONYMIZE"] = "true"
    with case.receive(protocol) as sink:
        commands = ("once", "once", "show", "show --otlp", "show --last", "check", "spool")
        printed: list[CompletedProcess[str]] = [case(command) for command in commands]
    assert {done.returncode for done in printed} == {0}
    places: list[bytes | str] = [report.SerializeToString() for report in sink.reports]
    places += [text for done in printed for text in (done.stdout, done.stderr)]
    places += [found.data for found in files_in(case.state)]
    for place in places:
        assert sightings(place, addresses) == []
        # A name may be too short to look for it in any other form.
        assert f'"{name}"' not in str(place)
    names = {str(p.attributes["host.name"]) for p in case.points() if p.name == "novu.host.info"}
    assert len(names) == 1
    assert f'"{names.pop()}"' in printed[2].stdout


def test_what_resource_detectors_know_is_not_sent(case: Case) -> None:
    detectors = "host,os,process,service_instance,*"
    case.env["OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"] = detectors
    assert case("once", OTEL_RESOURCE_ATTRIBUTES="team=blue").returncode == 0
    sdk = {"telemetry.sdk.language", "telemetry.sdk.name", "telemetry.sdk.version"}
    for point in case.points():
        assert set(point.resource) == {"service.name", "service.instance.id", "team", *sdk}


READINGS = {"asInt", "asDouble", "timeUnixNano", "startTimeUnixNano"}
VARYING = {"novu.host.memory.free", "novu.beacon.timestamp", "novu.usage.timestamp"}
VARYING |= {"novu.usage.read.duration"}


def without_times(request: Any) -> Any:
    """Leave out times, and the values of the metrics that differ from reading to reading."""
    for metric in request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]:
        for point in metric.get("gauge", metric.get("sum"))["dataPoints"]:
            for key in READINGS if metric["name"] in VARYING else READINGS - {"asInt", "asDouble"}:
                point.pop(key, None)
    return request


@each_protocol
def test_the_preview_is_what_once_sends_but_for_times(protocol: str, novu: Case) -> None:
    attributes = "service.namespace=shop,team=the%20blue%20one,ö=ü"
    novu.env |= {"OTEL_NOVU_ANONYMIZE": "on", "OTEL_RESOURCE_ATTRIBUTES": attributes}
    with novu.receive(protocol) as sink:
        assert novu("once").returncode == 0  # makes the identity, and its key
        shown = novu("show --otlp")
        assert (shown.returncode, len(sink.requests)) == (0, 2)
        assert novu("once").returncode == 0
        last = novu("show --last")
    sent = [MessageToDict(report, use_integers_for_enums=True) for report in sink.reports[2:]]
    sent.sort(key=lambda each: "otel_novu.usage" in str(each))
    assert [json.loads(line) for line in last.stdout.splitlines()] == sent
    previewed = [json.loads(line) for line in shown.stdout.splitlines()]
    assert list(map(without_times, previewed)) == list(map(without_times, sent))
