"""OTLP over HTTP, on real sockets."""

import base64
import html
import json
import logging
import os
import random
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import quote

import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from receivers import (
    FAULT_SECONDS,
    PROTOBUF,
    HttpAnswer,
    HttpSink,
    Listener,
    answer,
    hang,
    otlp,
    partial_success,
    raw,
    reset,
    trickle,
)
from stack import free_port

from otel_novu.log import LOG
from otel_novu.otlp import sender
from otel_novu.otlp.outcome import Delivered, Outcome, Rejected, Retryable, describe
from otel_novu.settings import Protocol, Secret, load
from otel_novu.version import __version__

BODY = b"\x0a\x03any bytes, as they are\x00\xff" * 20
BOUND = 30.0  # seconds for an attempt of one second, on a busy machine
LATE = "no complete answer in time"


def send(endpoint: str, timeout: float = 60.0, **changes: Any) -> Outcome:
    return sender(otlp(Protocol.HTTP, endpoint, **changes)).send(BODY, timeout)


def outcome_of(given: HttpAnswer) -> Outcome:
    with HttpSink(given) as sink:
        return send(sink.endpoint)


def reason(outcome: Outcome) -> str:
    assert isinstance(outcome, Retryable)
    return outcome.reason


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("gzip", [False, True])
def test_the_bytes_arrive_unchanged(gzip: bool) -> None:  # noqa: FBT001 - a row of the table
    with HttpSink() as sink:
        assert send(sink.endpoint, gzip=gzip) == Delivered()
    [request] = sink.requests
    assert (request.method, request.path, request.body) == ("POST", "/v1/metrics", BODY)
    assert request.headers["content-type"] == PROTOBUF
    assert request.headers["user-agent"] == f"otel-novu/{__version__}"
    assert request.headers.get("content-encoding", "none") == ("gzip" if gzip else "none")
    assert (len(request.raw) < len(BODY)) == gzip


def test_headers_user_and_query_are_sent() -> None:
    headers = {"X-Scope": Secret("tenant-ü"), "content-type": Secret("text/plain")}
    with HttpSink() as sink:
        url = sink.endpoint.replace("://", "://me:p%40ss%C3%BC@") + "?tenant=1&key=a%20b"
        assert send(url, headers=headers) == Delivered()
        assert send(url, headers={"authorization": Secret("Bearer any")}) == Delivered()
    first, second = sink.requests
    assert first.path == "/v1/metrics?tenant=1&key=a%20b"
    assert first.headers["x-scope"].encode("latin-1").decode() == "tenant-ü"
    assert first.headers["content-type"] == PROTOBUF
    assert base64.b64decode(first.headers["authorization"][6:]).decode() == "me:p@ssü"
    assert second.headers["authorization"] == "Bearer any"


def test_each_report_has_its_own_connection() -> None:
    with HttpSink() as sink:
        http = sender(otlp(Protocol.HTTP, sink.endpoint))
        assert [http.send(BODY, 60) for _ in range(3)] == [Delivered()] * 3
        assert sink.connections == 3
    assert {request.headers["connection"] for request in sink.requests} == {"close"}


HINT = "is OTEL_EXPORTER_OTLP_ENDPOINT the collector's address?"
PAGE = Rejected("a web page, not an OTLP response", HINT)
NOT_OTLP = Delivered(message="the response is not OTLP")
JSON = "application/json"
PARTIAL_JSON = b'{"partialSuccess": {"rejectedDataPoints": "2", "errorMessage": "old"}}'
STATUS = Status(code=3, message="bad\x00 point").SerializeToString()
PERMANENT = Status(code=13, message="400").SerializeToString()  # a collector's 500


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer(200), Delivered()),
        (answer(204, kind=None), Delivered()),
        (answer(200, partial_success(3, "too\x1b[31m old\n")), Delivered(3, "too[31m old")),
        (answer(200, partial_success(1, "x" * 500)), Delivered(1, "x" * 200)),
        (answer(200, partial_success(-5)), Delivered()),
        (answer(200, PARTIAL_JSON, f"{JSON}; charset=utf-8"), Delivered(2, "old")),
        (answer(200, b"{}", JSON), Delivered()),
        (answer(200, b"<!doctype html><title>Sign in</title>", "text/html"), PAGE),
        (answer(200, b"", "application/xhtml+xml"), PAGE),
        (answer(200, b"\n <html>", PROTOBUF), PAGE),
        (answer(202, b"<?xml version='1.0'?>", "text/xml"), PAGE),
        (answer(200, b"OK", "text/plain"), NOT_OTLP),
        (answer(202, b'{"status":"ok"}', JSON), NOT_OTLP),
        (answer(200, partial_success(0, "slow down")), Delivered(0, "slow down")),
        (answer(200, b"\xff\xff\xff"), NOT_OTLP),
        (answer(200, b'{"status": "ok"}', JSON), NOT_OTLP),
        (answer(200, b"[" * 60_000, JSON), NOT_OTLP),
        (answer(200, partial_success(1, "x" * 70_000)), NOT_OTLP),
        (answer(408), Retryable("HTTP 408")),
        (answer(429), Retryable("HTTP 429")),
        (answer(500, b"at work\r\n", "text/plain"), Retryable('HTTP 500: "at work"')),
        (answer(503, STATUS), Retryable('HTTP 503: "bad point"')),
        (answer(500, PERMANENT), Rejected('HTTP 500: "400"', "see the receiver's log")),
        (answer(503, b"<html>", "text/html"), Retryable("HTTP 503")),
    ],
)
def test_what_a_response_means(given: HttpAnswer, expected: Outcome) -> None:
    assert outcome_of(given) == expected


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (301, "redirect"),
        (307, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (400, "the receiver's log"),
        (401, "OTEL_EXPORTER_OTLP_HEADERS"),
        (403, "OTEL_EXPORTER_OTLP_HEADERS"),
        (404, "/v1/metrics"),
        (405, "/api/v1/otlp"),
        (407, "HTTP_PROXY"),
        (409, "see the receiver's log"),
        (413, "max_request_body_size"),
        (415, "OTEL_EXPORTER_OTLP_COMPRESSION"),
        (422, "see the receiver's log"),
        (999, "the receiver's log"),
    ],
)
def test_a_rejection_comes_with_a_hint(status: int, hint: str) -> None:
    with HttpSink(answer(status, STATUS, headers={"Location": "/elsewhere"})) as sink:
        outcome = send(sink.endpoint)
        assert len(sink.requests) == 1
    assert isinstance(outcome, Rejected)
    assert outcome.reason == f'HTTP {status}: "bad point"'
    assert hint in outcome.hint


def test_the_address_of_prometheus_remote_write_is_recognized() -> None:
    with HttpSink(answer(400, b"snappy: corrupt input", "text/plain")) as sink:
        outcome = send(f"{sink.base}/api/v1/write")
    assert "a Prometheus has /api/v1/otlp" in describe(outcome)


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "check the token in OTEL_EXPORTER_OTLP_METRICS_HEADERS"),
        (302, "check OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
        (404, "ENDPOINT; it is used as it is; a Prometheus has /api/v1/otlp/v1/metrics"),
    ],
)
def test_a_hint_names_the_variables_that_are_set(status: int, hint: str, tmp_path: Path) -> None:
    names = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_HEADERS")
    with HttpSink(answer(status)) as sink:
        values = f"{sink.base}/api/v1/otlp", "a=b"
        settings = load(dict(zip(names, values, strict=True)), cwd=tmp_path)
        assert hint in describe(sender(settings.otlp).send(BODY, 60))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "expected"),
    [("120", 120), ("0", 0), ("{soon}", 7200), ("{past}", 0), ("any", None), ("-7", None)],
)
def test_retry_after_is_passed_on(status: int, header: str, expected: float | None) -> None:
    soon, past = (datetime.now(UTC) + timedelta(hours=hours) for hours in (2, -2))
    text = header.format(
        soon=format_datetime(soon, usegmt=True), past=format_datetime(past, usegmt=True)
    )
    outcome = outcome_of(answer(status, headers={"Retry-After": text}))
    assert isinstance(outcome, Retryable)
    assert outcome.retry_after == pytest.approx(expected, abs=60)


HEAD = b"HTTP/1.1 200 OK\r\n"
CLOSED = "the connection was closed"
OTHER_PROTOCOL = raw(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\r\n\r\n")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (reset(), CLOSED),
        (raw(b""), CLOSED),
        (raw(HEAD + b"Content-Length: 100\r\n\r\n\x0a"), CLOSED),
        (OTHER_PROTOCOL, "the receiver speaks another protocol"),
    ],
)
def test_a_broken_exchange_is_retryable(given: HttpAnswer, expected: str) -> None:
    assert reason(outcome_of(given)) == expected


def test_a_receiver_that_is_not_there_is_retryable() -> None:
    assert reason(send(f"http://127.0.0.1:{free_port()}/")) == "connection refused"
    assert reason(send("http://collector.invalid/")) == "the host name can't be resolved"
    assert reason(send(f"http://{'x' * 64}.example/")) == "the host name can't be resolved"


@pytest.mark.parametrize(
    "fault",
    [
        hang(),
        trickle(b"", b"H"),
        trickle(HEAD, b"X-Drop: drop\r\n"),
        trickle(HEAD + b"Content-Length: 60000\r\n\r\n", b"\x0a"),
        trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_a_slow_receiver_is_left_in_time(fault: HttpAnswer) -> None:
    with HttpSink(fault) as sink:
        began = time.monotonic()
        assert reason(send(sink.endpoint, 1.0)) == LATE
        assert time.monotonic() - began < BOUND


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_receiver_that_reads_nothing_is_left_in_time(scheme: str) -> None:
    def silent(_: socket.socket, ended: Event) -> None:
        ended.wait(FAULT_SECONDS)

    with Listener(silent) as listener:
        http = sender(otlp(Protocol.HTTP, f"{scheme}://127.0.0.1:{listener.port}/"))
        began = time.monotonic()
        assert {reason(http.send(bytes(2**24), 0.5)) for _ in range(6)} == {LATE}
        assert time.monotonic() - began < BOUND


def test_a_resolver_that_hangs_is_left_in_time(tmp_path: Path) -> None:
    code = "import test_otlp_http as test; print(test.send('http://collector.example/', 1.0))"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as name_server:
        address = ".".join(["127", *(str(random.randint(1, 254)) for _ in range(3))])  # noqa: S311
        name_server.bind((address, 53))
        file = tmp_path / "resolv.conf"
        file.write_text(f"nameserver {address}\noptions timeout:60 attempts:2\n")
        script = f'mount --bind {file} /etc/resolv.conf && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", code]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.check_output(command, env=environment, text=True, timeout=2 * BOUND)
    assert LATE in done


def test_nothing_is_sent_without_time() -> None:
    with HttpSink() as sink:
        assert [reason(send(sink.endpoint, timeout)) for timeout in (0.0, -1.0)] == [LATE] * 2
        assert sink.connections == 0


def test_the_proxy_gets_the_whole_url_and_its_login(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://collector.invalid:4318/v1/metrics?tenant=1"
    with HttpSink() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"me:pw@127.0.0.1:{proxy.port}")
        assert send(url) == Delivered()
    [request] = proxy.requests
    assert (request.path, request.raw) == (url, BODY)
    assert base64.b64decode(request.headers["proxy-authorization"][6:]) == b"me:pw"


both_protocols = pytest.mark.parametrize("protocol", Protocol)


@both_protocols
@pytest.mark.parametrize(
    ("variables", "used"),
    [
        ({"HTTPS_PROXY": "PROXY"}, True),
        ({"https_proxy": "PROXY"}, True),
        ({"ALL_PROXY": "PROXY"}, True),
        ({"all_proxy": "PROXY", "NO_PROXY": "other.invalid"}, True),
        ({"HTTP_PROXY": "PROXY"}, False),
        ({"grpc_proxy": "PROXY"}, False),
        ({"HTTPS_PROXY": "PROXY", "NO_PROXY": "*"}, False),
        ({"https_proxy": "PROXY", "no_proxy": ".invalid"}, False),
        ({"ALL_PROXY": "PROXY", "no_proxy": "collector.invalid:4318"}, False),
    ],
)
def test_both_protocols_obey_the_same_variables(
    variables: dict[str, str], *, used: bool, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HttpSink(answer(403)) as proxy:
        for name, value in variables.items():
            url = f"http://me:pw@127.0.0.1:{proxy.port}"
            monkeypatch.setenv(name, value.replace("PROXY", url))
        outcome = sender(otlp(protocol, "https://collector.invalid:4318")).send(BODY, 60)
    refused = "the proxy does not connect to collector.invalid:4318: HTTP 403"
    assert reason(outcome) == (refused if used else "the host name can't be resolved")
    assert [request.method for request in proxy.requests] == ["CONNECT"] * used
    for request in proxy.requests:
        assert base64.b64decode(request.headers["proxy-authorization"][6:]) == b"me:pw"


@both_protocols
@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        (
            "http://127.0.0.1:CLOSED",
            "no connection through the proxy (check HTTP_PROXY, HTTPS_PROXY",
        ),
        ("socks5://127.0.0.1:1", "HTTPS_PROXY is not valid (http://host:port is expected)"),
        ("http://127.0.0.1:port", "HTTPS_PROXY is not valid (http://host:port is expected)"),
        ("http://", "HTTPS_PROXY is not valid (http://host:port is expected)"),
        ("http://[::1", "HTTPS_PROXY is not valid (http://host:port is expected)"),
        ("http://127.0.0.1:407", "collector.invalid:4318: HTTP 407 (add user name and password"),
        ("http://127.0.0.1:503", "collector.invalid:4318: HTTP 503 (check HTTP_PROXY"),
    ],
)
def test_a_proxy_that_does_not_help_is_retryable(
    proxy: str, expected: str, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = int(proxy[-3:]) if proxy[-3:].isdecimal() else 403
    with HttpSink(answer(status)) as sink:
        proxy = proxy.replace("CLOSED", str(free_port())).replace(f":{status}", f":{sink.port}")
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        outcome = sender(otlp(protocol, "https://collector.invalid:4318")).send(BODY, 60)
    assert isinstance(outcome, Retryable)
    assert expected in describe(outcome)


@pytest.mark.parametrize(
    ("status", "hint"), [(403, "check the token in OTEL_EXPORTER_OTLP_HEADERS; "), (502, "")]
)
def test_an_answer_may_be_the_proxys(
    status: int, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HttpSink(answer(status)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.base)
        outcome = sender(otlp(Protocol.HTTP, "http://collector.invalid:4318/")).send(BODY, 60)
    assert f"HTTP {status} ({hint}if the proxy answers, check HTTP_PROXY, " in describe(outcome)


@pytest.mark.parametrize("message", ["out of order sample", "too old sample", "out of bounds"])
def test_a_late_sample_names_the_window_of_prometheus(message: str) -> None:
    with HttpSink(answer(400, message.encode(), "text/plain")) as sink:
        outcome = send(sink.endpoint)
    assert "out_of_order_time_window" in describe(outcome)


def test_grpc_goes_around_no_proxy_that_it_can_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "https://127.0.0.1:1")
    outcome = sender(otlp(Protocol.GRPC, "http://127.0.0.1:1")).send(BODY, 60)
    assert reason(outcome) == "HTTP_PROXY is not valid"


def test_a_header_that_is_not_valid_is_not_sent() -> None:
    with HttpSink() as sink:
        outcome = send(sink.endpoint, headers={"x": Secret("a\nb")})
        assert sink.requests == []
    assert reason(outcome) == "a header is not valid"


TOKEN, PASSWORD, QUERY, PROXY = (f"S3CRET-{name}-0123" for name in ("TOKEN", "WORD", "Q", "PROXY"))
BASIC = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
ECHO = f"{TOKEN} Bearer {TOKEN.lower()}, {PASSWORD}, Basic {BASIC}, key%3D{QUERY}, {PROXY}"
ECHO_STATUS = Status(code=3, message=ECHO).SerializeToString()
ECHOES = [
    answer(200, partial_success(1, ECHO)),
    answer(400, ECHO_STATUS),
    answer(401, ECHO.encode(), "text/plain", {"WWW-Authenticate": ECHO}),
    answer(503, ECHO_STATUS, headers={"Retry-After": ECHO}),
    answer(302, headers={"Location": f"http://{TOKEN}.example/{PASSWORD}?{QUERY}"}),
    answer(400, TOKEN.replace("-", "-\x00").encode(), "text/plain"),
    raw(f"HTTP/1.1 {ECHO}\r\n\r\n".encode()),
    raw(HEAD + f"Content-Length: {ECHO}\r\n\r\n".encode()),
    raw(HEAD + f"no header\r\n{ECHO}\r\nX: y\r\n\r\n".encode()),
    reset(),
]


def test_no_secret_is_shown_or_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{PROXY}@127.0.0.1:1")
    headers = {"Authorization": Secret(f"Bearer {TOKEN}")}
    with HttpSink(*ECHOES) as sink:
        place = f"127.0.0.1:{sink.port}/v1/metrics"
        url = f"http://me:{PASSWORD}@{place}?key={QUERY}"
        http = sender(otlp(Protocol.HTTP, url, headers=headers))
        outcomes = [http.send(BODY, 60) for _ in ECHOES]
    assert http.endpoint == f"http://{place}"
    # The command line shows this logger only: urllib3 logs what receivers say.
    logged = [record.getMessage() for record in caplog.records if record.name == LOG.name]
    shown = f"{outcomes} {http!r} {logged} {' '.join(map(describe, outcomes))}".lower()
    assert "***" in shown
    assert "s3cret" not in shown
    assert BASIC.lower()[:-4] not in shown


ODD_TOKEN = 'MARKtok+abc/def&ghi<jkl"mno='


@pytest.mark.parametrize(
    "echo",
    [
        json.dumps(ODD_TOKEN),
        json.dumps(ODD_TOKEN).replace("/", r"\/"),  # PHP
        json.dumps(ODD_TOKEN).replace("+", r"\u002B").replace("&", r"\u0026"),  # .NET, Go
        html.escape(ODD_TOKEN).replace("+", "&#43;"),
        quote(ODD_TOKEN),
        base64.b64encode(ODD_TOKEN.encode()).decode(),
        ODD_TOKEN[:-5],
        f"{ODD_TOKEN[5:]}{ODD_TOKEN[:20]}",
        ODD_TOKEN * 50,
    ],
)
@pytest.mark.parametrize("scheme", ["Bearer ", ""])
def test_a_token_that_is_echoed_escaped_or_cut_off_is_not_shown(scheme: str, echo: str) -> None:
    headers = {"Authorization": Secret(f"{scheme}{ODD_TOKEN}")}
    with HttpSink(answer(401, f"invalid token {echo}; log in".encode(), "text/plain")) as sink:
        shown = describe(send(sink.endpoint, headers=headers))
    assert shown.startswith('rejected: HTTP 401: "invalid token')
    parts = [text[i : i + 5] for text in (ODD_TOKEN, echo[:500]) for i in range(len(text) - 4)]
    assert [part for part in parts if part in shown] == []


def test_an_outcome_is_a_clause() -> None:
    rejected = Rejected("HTTP 401", "check the token")
    delivered = Delivered(), Delivered(5, "too old"), Delivered(message="slow down")
    outcomes = *delivered, rejected, Retryable("HTTP 503")
    assert [describe(outcome) for outcome in outcomes] == [
        "delivered",
        "delivered, 5 data points rejected (too old)",
        "delivered (slow down)",
        "rejected: HTTP 401 (check the token)",
        "not delivered: HTTP 503",
    ]
