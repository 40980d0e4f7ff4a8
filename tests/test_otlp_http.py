"""OTLP over HTTP, each case on a real socket."""

import base64
import json
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from faults import BOUND
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from receivers import (
    FAULT_SECONDS,
    PROTOBUF,
    HttpAnswer,
    HttpSink,
    Listener,
    answer,
    hang,
    partial_success,
    raw,
    reset,
    trickle,
)
from stack import free_port

from otel_novu.delivery.otlp.http import HttpSender
from otel_novu.outcome import Delivered, Later, Outcome, Refused
from otel_novu.settings import Compression, Otlp, Protocol, Secret
from otel_novu.version import __version__

BODY = b"\x0a\x03any bytes, they are not read\x00\xff" * 20
TOKEN = "S3CRET-TOKEN-0123456789"
PASSWORD = "S3CRET-PASSWORD-0123"
QUERY = "S3CRET-QUERY-01234567"


def settings(endpoint: str, **changes: Any) -> Otlp:
    given: dict[str, Any] = {
        "protocol": Protocol.HTTP,
        "endpoint": Secret(endpoint),
        "headers": {},
        "timeout": 10.0,
        "compression": Compression.NONE,
        "ca": None,
        "client_certificate": None,
        "client_key": None,
    }
    return Otlp(**(given | changes))


def send(endpoint: str, timeout: float = 10.0, **changes: Any) -> Outcome:
    return HttpSender(settings(endpoint, **changes)).send(BODY, timeout)


def told(*answers: HttpAnswer) -> Outcome:
    with HttpSink(*answers) as sink:
        return send(sink.endpoint)


def why(outcome: Outcome, kind: type[Refused | Later]) -> str:
    assert type(outcome) is kind
    assert isinstance(outcome, Refused | Later)
    return outcome.why


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class Authority:
    """A private authority, and what it issues, as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def server(self, name: str = "127.0.0.1", **issued: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(name, **issued).configure_cert(context)
        return context

    def demanding_server(self) -> ssl.SSLContext:
        context = self.server()
        context.verify_mode = ssl.CERT_REQUIRED
        self._ca.configure_trust(context)
        return context

    def client(self) -> tuple[Path, Path, Path]:
        issued = self._ca.issue_cert("client.example")
        certificate, key, both = (self._folder / f"{name}.pem" for name in ("crt", "key", "both"))
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        issued.private_key_and_cert_chain_pem.write_to_path(both)
        return certificate, key, both


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


# What is sent.


def test_the_very_bytes_are_posted_with_their_type_and_our_name() -> None:
    with HttpSink() as sink:
        assert send(sink.endpoint) == Delivered()
    [request] = sink.requests
    assert (request.method, request.path, request.raw) == ("POST", "/v1/metrics", BODY)
    assert request.headers["content-type"] == PROTOBUF
    assert request.headers["user-agent"] == f"otel-novu/{__version__}"
    assert "content-encoding" not in request.headers


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.DEFLATE])
def test_a_compressed_body_is_the_same_once_decoded(compression: Compression) -> None:
    with HttpSink() as sink:
        assert send(sink.endpoint, compression=compression) == Delivered()
    [request] = sink.requests
    assert request.headers["content-encoding"] == compression.value
    assert len(request.raw) < len(BODY)
    assert request.body == BODY


def test_the_settings_headers_arrive_but_for_those_that_say_what_the_body_is() -> None:
    headers = {"X-Scope": Secret("tenant-ü"), "content-type": Secret("text/plain")}
    with HttpSink() as sink:
        send(sink.endpoint, headers=headers)
    [request] = sink.requests
    assert request.headers["x-scope"].encode("latin-1").decode() == "tenant-ü"
    assert request.headers["content-type"] == PROTOBUF


def test_bytes_of_the_environment_that_are_no_utf_8_leave_as_they_came() -> None:
    with HttpSink() as sink:
        url = sink.endpoint.replace("://", "://m\udce9:pw@") + "?k=\udce9"
        assert send(url, headers={"x": Secret("caf\udce9")}) == Delivered()
    [request] = sink.requests
    assert request.headers["x"] == "caf\xe9"
    assert request.path == "/v1/metrics?k=%E9"
    assert base64.b64decode(request.headers["authorization"][6:]) == b"m\xe9:pw"


def test_user_name_and_password_of_the_endpoint_become_basic_authentication() -> None:
    with HttpSink() as sink:
        send(sink.endpoint.replace("://", "://me:p%40ss%C3%BC@"))
    [request] = sink.requests
    scheme, _, token = request.headers["authorization"].partition(" ")
    assert (scheme, base64.b64decode(token).decode()) == ("Basic", "me:p@ssü")


def test_an_authorization_header_beats_the_endpoints_user_name() -> None:
    with HttpSink() as sink:
        send(
            sink.endpoint.replace("://", "://me:pw@"),
            headers={"authorization": Secret(f"Bearer {TOKEN}")},
        )
    assert sink.requests[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_the_endpoints_query_is_sent() -> None:
    with HttpSink() as sink:
        send(f"{sink.endpoint}?tenant=1&key=a%20b")
    assert sink.requests[0].path == "/v1/metrics?tenant=1&key=a%20b"


def test_each_report_has_a_connection_of_its_own_and_says_so() -> None:
    with HttpSink() as sink:
        sender = HttpSender(settings(sink.endpoint))
        assert [sender.send(BODY, 10) for _ in range(3)] == [Delivered()] * 3
        assert sink.connections == 3
    assert {request.headers["connection"] for request in sink.requests} == {"close"}


def test_no_thread_and_no_descriptor_remains_after_reports() -> None:
    with HttpSink(answer(), answer(503), reset()) as sink:
        sender = HttpSender(settings(sink.endpoint))
        for _ in range(3):
            sender.send(BODY, 10)
        assert not [each for each in threading.enumerate() if each.name.startswith("otel-novu")]
    before = len(list(Path("/proc/self/fd").iterdir()))
    refused = HttpSender(settings(f"http://127.0.0.1:{free_port()}/"))
    for _ in range(20):
        refused.send(BODY, 10)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# What counts as delivered.


@pytest.mark.parametrize("status", [200, 202, 204])
@pytest.mark.parametrize("kind", [PROTOBUF, None, "text/plain"])
def test_success_with_an_empty_body_is_delivered(status: int, kind: str | None) -> None:
    assert told(answer(status, kind=kind)) == Delivered()


def test_a_partial_success_is_delivered_with_its_number_and_words() -> None:
    body = partial_success(3, "too\x1b[31m old\n")
    assert told(answer(200, body)) == Delivered(3, "too [31m old")


def test_the_words_of_a_partial_success_are_cut_to_200_characters() -> None:
    outcome = told(answer(200, partial_success(1, "long " * 500)))
    assert isinstance(outcome, Delivered)
    assert len(outcome.message) == 200


def test_a_negative_number_of_rejected_points_counts_as_none() -> None:
    assert told(answer(200, partial_success(-5))) == Delivered()


def test_an_otlp_answer_in_json_is_read() -> None:
    body = json.dumps({"partialSuccess": {"rejectedDataPoints": "2", "errorMessage": "old"}})
    assert told(answer(200, body.encode(), "application/json; charset=utf-8")) == Delivered(
        2, "old"
    )
    assert told(answer(200, b"{}", "application/json")) == Delivered()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<!doctype html><title>Sign in</title>", "text/html; charset=utf-8"),
        (b"<html>", None),
        (b"\n <html>", PROTOBUF),
    ],
)
def test_a_web_page_is_refused_whatever_its_status_says(body: bytes, kind: str | None) -> None:
    text = why(told(answer(200, body, kind)), Refused)
    assert "web page" in text
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in text


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"OK", "text/plain"),
        (b"\xff\xff\xff", PROTOBUF),
        (b'{"status": "ok"}', "application/json"),
        (b"[]", "application/json"),
        (b"[" * 60_000, "application/json"),
        (b'{"partialSuccess": 1}', "application/json"),
        (partial_success(1, "x" * 70_000), PROTOBUF),
    ],
)
def test_what_is_no_otlp_answer_is_refused(body: bytes, kind: str) -> None:
    assert "no OTLP answer" in why(told(answer(200, body, kind)), Refused)


# What has to be mended.


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused_with_where_it_points_to(status: int) -> None:
    location = f"https://me:{PASSWORD}@other.example:8443/login?next={QUERY}#top"
    with HttpSink(answer(status, b"<html>", "text/html", {"Location": location})) as sink:
        text = why(send(sink.endpoint), Refused)
        assert len(sink.requests) == 1
    assert f"answered {status}" in text
    assert "https://other.example:8443/login," in text
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in text
    assert PASSWORD not in text
    assert QUERY not in text


@pytest.mark.parametrize("location", [None, "http://[::1", "/v2"])
def test_a_redirect_to_nowhere_in_particular_is_refused(location: str | None) -> None:
    headers = {} if location is None else {"Location": location}
    text = why(told(answer(302, headers=headers)), Refused)
    assert ("/v2" in text) == (location == "/v2")


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (400, "see the receiver's log"),
        (401, "OTEL_EXPORTER_OTLP_HEADERS"),
        (403, "OTEL_EXPORTER_OTLP_HEADERS"),
        (404, "/v1/metrics"),
        (405, "/v1/metrics"),
        (407, "HTTP_PROXY"),
        (413, "max_request_body_size"),
        (415, "OTEL_EXPORTER_OTLP_COMPRESSION"),
        (418, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (499, "answered 499"),
        (999, "answered 999"),
    ],
)
def test_a_client_error_is_refused_with_what_to_do(status: int, advice: str) -> None:
    text = why(told(answer(status)), Refused)
    assert f"answered {status}" in text
    assert advice in text


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (Status(code=3, message="out of\x00 bounds").SerializeToString(), PROTOBUF),
        (b"out of\r\n bounds\n", "text/plain; charset=utf-8"),
        (b'{"code": 3, "message": "out of bounds"}', "application/json"),
    ],
)
def test_a_receivers_word_on_a_bad_request_is_shown(body: bytes, kind: str) -> None:
    assert '"out of bounds"' in why(told(answer(400, body, kind)), Refused)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xff\xff", PROTOBUF),
        (b"[" * 60_000, "application/json"),
        (b'{"message": 7}', "application/json"),
        (b"<html>", "text/html"),
    ],
)
def test_unreadable_words_are_left_out(body: bytes, kind: str) -> None:
    assert why(told(answer(400, body, kind)), Refused).startswith("answered 400: ")


# What passes by itself.


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_what_passes_by_itself_is_for_later(status: int) -> None:
    assert told(answer(status)) == Later(f"answered {status}")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("asked", "after"),
    [("120", 120.0), ("1.5", 1.5), ("0", 0.0), ("-7", 0.0), ("soon", None), ("9" * 400, None)],
)
def test_retry_after_in_seconds_is_passed_on(status: int, asked: str, after: float | None) -> None:
    outcome = told(answer(status, headers={"Retry-After": asked}))
    assert outcome == Later(f"answered {status}", after)


@pytest.mark.parametrize(("ahead", "after"), [(90, 90.0), (-90, 0.0)])
def test_retry_after_as_a_date_is_measured_by_our_clock(ahead: int, after: float) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    date = format_datetime(now + timedelta(seconds=ahead), usegmt=True)
    with HttpSink(answer(503, headers={"Retry-After": date})) as sink:
        sender = HttpSender(settings(sink.endpoint), clock=now.timestamp)
        assert sender.send(BODY, 10) == Later("answered 503", after)


def test_nothing_listening_is_for_later() -> None:
    port = free_port()
    assert send(f"http://127.0.0.1:{port}/") == Later(f"nothing listens at 127.0.0.1:{port}")


def test_a_name_that_does_not_exist_is_for_later() -> None:
    outcome = send("http://collector.invalid:4318/v1/metrics")
    assert outcome == Later("the name of collector.invalid:4318 can't be resolved")


def test_a_reset_is_for_later() -> None:
    assert "cut the connection" in why(told(reset()), Later)


def test_an_end_without_an_answer_is_for_later() -> None:
    assert "cut the connection" in why(told(raw(b"")), Later)


def test_an_answer_that_breaks_off_is_for_later() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\n"
    assert "cut the connection" in why(told(raw(head + b"\x0a")), Later)


def test_what_speaks_no_http_is_for_later_with_a_hint() -> None:
    settings_frame = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    text = why(told(raw(settings_frame + b"\r\n\r\n")), Later)
    assert "does not answer in HTTP" in text
    assert "gRPC" in text


# One deadline for all.

HEAD = b"HTTP/1.1 200 OK\r\n"
FAULTS = {
    "hung": hang(),
    "trickling status line": trickle(b"", b"H"),
    "trickling headers": trickle(HEAD, b"X-Drop: drop\r\n"),
    "trickling body": trickle(HEAD + b"Content-Length: 60000\r\n\r\n", b"\x0a"),
    "trickling chunks": trickle(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "endless continues": trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


def ends_with_its_thread(outcome: Callable[[], Outcome]) -> None:
    began = time.monotonic()
    assert "within 1 seconds" in why(outcome(), Later)
    while any(each.name.startswith("otel-novu") for each in threading.enumerate()):
        assert time.monotonic() - began < BOUND
        time.sleep(0.05)
    assert time.monotonic() - began < BOUND


@pytest.mark.parametrize("fault", FAULTS)
def test_a_receiver_that_does_not_come_to_an_end_is_left_at_the_deadline(fault: str) -> None:
    with HttpSink(FAULTS[fault]) as sink:
        ends_with_its_thread(lambda: send(sink.endpoint, 1.0))


def deaf(_: socket.socket, ended: threading.Event) -> None:
    ended.wait(FAULT_SECONDS)


def test_a_receiver_that_does_not_read_is_left_at_the_deadline() -> None:
    with Listener(deaf) as listener:
        sender = HttpSender(settings(f"http://127.0.0.1:{listener.port}/"))
        ends_with_its_thread(lambda: sender.send(bytes(64 * 1024 * 1024), 1.0))


def test_a_tls_handshake_that_hangs_is_left_at_the_deadline(authority: Authority) -> None:
    with Listener(deaf) as listener:
        url = f"https://127.0.0.1:{listener.port}/"
        ends_with_its_thread(lambda: send(url, 1.0, ca=authority.file))


def test_an_endless_body_is_read_to_64_kib_only() -> None:
    head = HEAD + b"Content-Type: application/x-protobuf\r\n\r\n"
    assert "no OTLP answer" in why(told(trickle(head + b"\xff" * 70_000, b"\xff")), Refused)


def test_no_time_left_is_for_later() -> None:
    with HttpSink() as sink:
        assert isinstance(send(sink.endpoint, 0.0), Later)
        assert isinstance(send(sink.endpoint, -1.0), Later)


STUCK_RESOLVER = """
import socket, sys, time
socket.getaddrinfo = lambda *given, **named: time.sleep(240)
from otel_novu.delivery.otlp.http import HttpSender
from otel_novu.settings import Compression, Otlp, Protocol, Secret
endpoint = Secret("http://collector.example:4318/v1/metrics")
none = Compression.NONE
settings = Otlp(Protocol.HTTP, endpoint, {}, 10.0, none, None, None, None)
print(HttpSender(settings).send(b"body", 1.0))
"""


def test_a_stuck_resolver_is_left_at_the_deadline_and_lets_the_process_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK_RESOLVER],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.startswith("Later(why='no complete answer from collector.example:4318")
    assert done.stderr == ""


# TLS.


def test_a_private_authority_is_trusted(authority: Authority) -> None:
    with HttpSink(tls=authority.server()) as sink:
        assert send(sink.endpoint, ca=authority.file) == Delivered()
    assert sink.requests[0].body == BODY


def test_a_certificate_of_another_authority_is_for_later_with_what_to_do(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"))
    with HttpSink(tls=other.server()) as sink:
        for ca in (authority.file, None):
            text = why(send(sink.endpoint, ca=ca), Later)
            assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in text
        assert sink.requests == []


def test_a_certificate_for_another_name_is_for_later_with_what_to_do(authority: Authority) -> None:
    with HttpSink(tls=authority.server("other.example")) as sink:
        assert "another host name" in why(send(sink.endpoint, ca=authority.file), Later)
    with HttpSink(tls=authority.server("other.example"), host="localhost") as sink:
        assert "another host name" in why(send(sink.endpoint, ca=authority.file), Later)


def test_an_expired_certificate_is_for_later_with_what_to_do(authority: Authority) -> None:
    past = datetime.now(UTC) - timedelta(days=2)
    expired = authority.server(not_before=past - timedelta(days=1), not_after=past)
    with HttpSink(tls=expired) as sink:
        assert "expired" in why(send(sink.endpoint, ca=authority.file), Later)


def test_https_to_a_plaintext_port_is_for_later_with_what_to_do(authority: Authority) -> None:
    def plain(connection: socket.socket, _: threading.Event) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with Listener(plain) as listener:
        url = f"https://127.0.0.1:{listener.port}/"
        text = why(send(url, ca=authority.file), Later)
    assert "does not answer in TLS" in text
    assert "http://" in text


def test_http_to_a_tls_port_is_for_later(authority: Authority) -> None:
    with HttpSink(tls=authority.server()) as sink:
        assert isinstance(send(sink.endpoint.replace("https", "http")), Later)


def test_a_client_certificate_is_presented_from_two_files_or_one(authority: Authority) -> None:
    certificate, key, both = authority.client()
    with HttpSink(tls=authority.demanding_server()) as sink:
        url, ca = sink.endpoint, authority.file
        assert send(url, ca=ca, client_certificate=certificate, client_key=key) == Delivered()
        assert send(url, ca=ca, client_certificate=both) == Delivered()
        assert isinstance(send(url, ca=ca), Later)
        assert len(sink.requests) == 2


@pytest.mark.parametrize("content", [None, "no certificate", ""])
def test_a_bad_ca_file_is_refused_by_the_name_of_its_variable(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "bad.pem"
    if content is not None:
        file.write_text(content)
    text = why(send("https://127.0.0.1:1/", ca=file), Refused)
    assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in text
    assert str(tmp_path) not in text


def test_bad_client_files_are_refused_by_the_names_of_their_variables(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, key, _ = authority.client()
    (tmp_path / "junk.pem").write_text("junk")
    missing, junk = tmp_path / "missing.pem", tmp_path / "junk.pem"
    url, ca = "https://127.0.0.1:1/", authority.file
    cases = [
        (missing, key, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
        (certificate, missing, "OTEL_EXPORTER_OTLP_CLIENT_KEY"),
        (certificate, junk, "OTEL_EXPORTER_OTLP_CLIENT_KEY"),
        (certificate, None, "OTEL_EXPORTER_OTLP_CLIENT_KEY"),
        (junk, key, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
    ]
    for first, second, variable in cases:
        outcome = send(url, ca=ca, client_certificate=first, client_key=second)
        assert variable in why(outcome, Refused)


# The environment, in a process of its own.

FROM_ENVIRONMENT = """
import sys
from pathlib import Path
from otel_novu.delivery.otlp.http import HttpSender
from otel_novu.settings import Compression, Otlp, Protocol, Secret
ca = Path(sys.argv[2]) if len(sys.argv) > 2 else None
settings = Otlp(Protocol.HTTP, Secret(sys.argv[1]), {}, 10.0, Compression.NONE, ca, None, None)
print(HttpSender(settings).send(b"body", 10.0))
"""


def outcome_under(environment: dict[str, str], *arguments: str) -> str:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith(("_proxy", "_ca_bundle"))
    }
    done = subprocess.run(
        [sys.executable, "-c", FROM_ENVIRONMENT, *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.strip()


DELIVERED = "Delivered(rejected=0, message='')"


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_of_the_environment_never_beats_the_settings_authority(
    name: str, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"))
    with HttpSink(tls=authority.server()) as sink:
        bundle = {name: str(other.file)}
        assert outcome_under(bundle, sink.endpoint, str(authority.file)) == DELIVERED
        trusting = {name: str(authority.file)}
        assert "not trusted" in outcome_under(trusting, sink.endpoint, str(other.file))
        assert outcome_under(trusting, sink.endpoint) == DELIVERED
        assert "not trusted" in outcome_under({}, sink.endpoint)
        assert name in outcome_under({name: "/nowhere/ca.pem"}, sink.endpoint)


def test_netrc_is_not_read(tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password pw\n")
    netrc.chmod(0o600)
    with HttpSink() as sink:
        environment = {"HOME": str(tmp_path), "NETRC": str(netrc)}
        assert outcome_under(environment, sink.endpoint) == DELIVERED
    assert "authorization" not in sink.requests[0].headers


def test_the_http_proxy_of_the_environment_is_used() -> None:
    with HttpSink() as proxy:
        environment = {"http_proxy": f"http://me:pw@127.0.0.1:{proxy.port}"}
        url = "http://collector.invalid:4318/v1/metrics?tenant=1"
        assert outcome_under(environment, url) == DELIVERED
        assert outcome_under(environment | {"no_proxy": "*"}, url) != DELIVERED
    [request] = proxy.requests
    assert request.path == url
    assert request.headers["proxy-authorization"].startswith("Basic ")
    assert request.raw == b"body"


def test_an_https_proxy_that_refuses_is_named_by_its_variable() -> None:
    with HttpSink(answer(407)) as proxy:
        environment = {"https_proxy": f"http://me:{PASSWORD}@127.0.0.1:{proxy.port}"}
        text = outcome_under(environment, "https://collector.invalid/v1/metrics")
    assert text.startswith("Later(")
    assert "HTTPS_PROXY" in text
    assert "407" in text
    assert PASSWORD not in text


def test_a_proxy_that_is_away_or_of_an_unknown_kind_is_named_by_its_variable() -> None:
    url = "http://collector.invalid/v1/metrics"
    away = outcome_under({"http_proxy": f"http://127.0.0.1:{free_port()}"}, url)
    assert away.startswith("Later(")
    assert "HTTP_PROXY" in away
    socks = outcome_under({"http_proxy": "socks5://127.0.0.1:1"}, url)
    assert socks.startswith("Refused(")
    assert "HTTP_PROXY" in socks


# Bad settings that only the driver can see.


@pytest.mark.parametrize(("name", "value"), [("x", "a\nb"), ("a b\r\n", "x"), ("x", " a")])
def test_a_header_that_http_does_not_allow_is_refused_without_its_value(
    name: str, value: str
) -> None:
    with HttpSink() as sink:
        outcome = send(sink.endpoint, headers={name: Secret(f"{value}{TOKEN}")})
    text = why(outcome, Refused)
    assert "OTEL_EXPORTER_OTLP_HEADERS" in text
    assert TOKEN not in text


def test_a_url_that_nobody_can_post_to_is_refused() -> None:
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in why(send("http://*.example/v1/metrics"), Refused)


# Secrets.

ECHOES = [TOKEN, f"Bearer {TOKEN}", PASSWORD, QUERY, TOKEN.lower()]
ECHOES += [base64.b64encode(each.encode()).decode() for each in (TOKEN, f"me:{PASSWORD}")]
ECHO = " and ".join(ECHOES)


def hostile_answers() -> Iterator[HttpAnswer]:
    status = Status(code=3, message=ECHO).SerializeToString()
    page = ECHO.encode()
    yield answer(200, partial_success(1, ECHO))
    yield answer(200, page, "text/html")
    yield answer(400, status)
    yield answer(401, page, "text/plain", {"WWW-Authenticate": ECHO, "X-Echo": ECHO})
    yield answer(400, json.dumps({"message": ECHO}).encode(), "application/json")
    yield answer(503, status, headers={"Retry-After": ECHO})
    yield answer(302, headers={"Location": f"http://{TOKEN}.example/{PASSWORD}?{QUERY}"})
    yield answer(400, TOKEN.replace("-", "-\x00", 1).encode(), "text/plain")
    yield raw(f"{ECHO}\r\n\r\n".encode())
    yield raw(f"HTTP/1.1 {ECHO}\r\n\r\n".encode())
    yield raw(b"HTTP/1.1 200 OK\r\nContent-Length: " + page + b"\r\n\r\n")
    yield raw(b"HTTP/1.1 200 OK\r\nno header\r\n" + page + b"\r\nX: y\r\n\r\n")
    yield raw(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x; boundary=" + page + b"\r\n\r\n")
    yield reset()


def test_no_secret_is_in_an_outcome_a_repr_or_a_log_line_whatever_is_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with HttpSink(*hostile_answers()) as sink:
        place = f"127.0.0.1:{sink.port}"
        sender = HttpSender(
            settings(
                f"http://me:{PASSWORD}@{place}/v1/metrics?key={QUERY}",
                headers={"Authorization": Secret(f"Bearer {TOKEN}")},
            )
        )
        outcomes = [sender.send(BODY, 10) for _ in hostile_answers()]
    unreachable = HttpSender(settings(f"http://me:{PASSWORD}@127.0.0.1:{free_port()}/?{QUERY}"))
    outcomes.append(unreachable.send(BODY, 10))
    seen = f"{outcomes!r} {sender!r} {sender.destination} {unreachable.destination} {caplog.text}"
    assert sender.destination == f"http://{place}/v1/metrics"
    assert sink.requests[0].path == f"/v1/metrics?key={QUERY}"
    for secret in ("S3CRET", "s3cret", *(each[:-4] for each in ECHOES)):
        assert secret not in seen
