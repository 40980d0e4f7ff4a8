"""OTLP over gRPC, each case on a real socket."""

import base64
import logging
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from faults import BOUND
from google.protobuf.any_pb2 import Any as Packed
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from receivers import (
    FAULT_SECONDS,
    GrpcAnswer,
    GrpcSink,
    HttpSink,
    Listener,
    Relay,
    partial_success,
    reset_connection,
)
from servers import eventually
from stack import free_port

from otel_novu.delivery.otlp.grpc import GrpcSender
from otel_novu.outcome import Delivered, Later, Outcome, Refused
from otel_novu.settings import Compression, Otlp, Protocol, Secret
from otel_novu.version import __version__

BODY = b"\x0a\x03any bytes, they are not read\x00\xff" * 20
TOKEN = "S3CRET-TOKEN-0123456789"
PASSWORD = "S3CRET-PASSWORD-0123"

LATER = (
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNAVAILABLE",
    "DATA_LOSS",
)
REFUSED = (
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAUTHENTICATED",
)


def settings(endpoint: str, **changes: Any) -> Otlp:
    given: dict[str, Any] = {
        "protocol": Protocol.GRPC,
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
    return GrpcSender(settings(endpoint, **changes)).send(BODY, timeout)


def told(*answers: GrpcAnswer) -> Outcome:
    with GrpcSink(*answers) as sink:
        return send(sink.endpoint)


def failing(code: str, details: str = "", status: bytes | None = None) -> GrpcAnswer:
    trailers = () if status is None else (("grpc-status-details-bin", status),)
    return GrpcAnswer(code=grpc.StatusCode[code], details=details, trailers=trailers)


def why(outcome: Outcome, kind: type[Refused | Later]) -> str:
    assert type(outcome) is kind
    assert isinstance(outcome, Refused | Later)
    return outcome.why


def retry_info(seconds: int, nanos: int = 0) -> bytes:
    info = RetryInfo()
    info.retry_delay.seconds, info.retry_delay.nanos = seconds, nanos
    detail = Packed()
    detail.Pack(info)
    status: bytes = Status(code=14, message="busy", details=[detail]).SerializeToString()
    return status


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRPC_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class Authority:
    """A private authority, and what it issues, as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def server(self, name: str = "localhost", **issued: Any) -> grpc.ServerCredentials:
        return grpc.ssl_server_credentials([self._pair(name, **issued)])

    def demanding_server(self) -> grpc.ServerCredentials:
        ca = self._ca.cert_pem.bytes()
        return grpc.ssl_server_credentials([self._pair("localhost")], ca, require_client_auth=True)

    def client(self) -> tuple[Path, Path, Path]:
        issued = self._ca.issue_cert("client.example")
        certificate, key, both = (self._folder / f"{name}.pem" for name in ("crt", "key", "both"))
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        issued.private_key_and_cert_chain_pem.write_to_path(both)
        return certificate, key, both

    def _pair(self, name: str, **issued: Any) -> tuple[bytes, bytes]:
        made = self._ca.issue_cert(name, **issued)
        return made.private_key_pem.bytes(), made.cert_chain_pems[0].bytes()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def secured(credentials: grpc.ServerCredentials) -> GrpcSink:
    return GrpcSink(credentials=credentials, host="localhost")


# What is sent.


def test_the_very_bytes_are_sent_with_our_name() -> None:
    with GrpcSink() as sink:
        assert send(sink.endpoint) == Delivered()
    [request] = sink.requests
    assert request.body == BODY
    assert str(request.metadata["user-agent"]).startswith(f"otel-novu/{__version__} ")


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.GZIP])
def test_a_message_is_compressed_on_the_wire_where_asked_for(compression: Compression) -> None:
    with GrpcSink() as sink, Relay(sink.port) as relay:
        outcome = send(f"http://127.0.0.1:{relay.port}", compression=compression)
        assert outcome == Delivered()
    assert sink.requests[0].body == BODY
    assert (BODY in relay.sent) == (compression is Compression.NONE)
    assert (b"\x1f\x8b\x08" in relay.sent) == (compression is Compression.GZIP)


def test_the_settings_headers_arrive_with_lower_case_keys() -> None:
    headers = {"X-Scope-OrgID": Secret("1"), "Trace-Bin": Secret("any")}
    with GrpcSink() as sink:
        assert send(sink.endpoint, headers=headers) == Delivered()
    assert sink.requests[0].metadata["x-scope-orgid"] == "1"
    assert sink.requests[0].metadata["trace-bin"] == b"any"


def test_user_name_and_password_of_the_endpoint_become_basic_authentication() -> None:
    with GrpcSink() as sink:
        assert send(sink.endpoint.replace("://", "://me:p%40ss@")) == Delivered()
        bearer = {"Authorization": Secret(f"Bearer {TOKEN}")}
        assert send(sink.endpoint.replace("://", "://me:pw@"), headers=bearer) == Delivered()
    expected = "Basic " + base64.b64encode(b"me:p@ss").decode()
    assert [each.metadata["authorization"] for each in sink.requests] == [
        expected,
        f"Bearer {TOKEN}",
    ]


def test_each_report_has_a_connection_of_its_own() -> None:
    with GrpcSink() as sink, Relay(sink.port) as relay:
        sender = GrpcSender(settings(f"http://127.0.0.1:{relay.port}"))
        assert [sender.send(BODY, 10) for _ in range(3)] == [Delivered()] * 3
    assert relay.sent.count(b"PRI * HTTP/2.0") == 3


def threads_of_the_sender() -> set[threading.Thread]:
    """All threads but those of the server in the test, which come with its requests."""
    pool = "ThreadPoolExecutor"
    return {thread for thread in threading.enumerate() if not thread.name.startswith(pool)}


def test_no_thread_remains_after_reports() -> None:
    with GrpcSink(GrpcAnswer(), failing("UNAVAILABLE")) as sink:
        sender = GrpcSender(settings(sink.endpoint))
        sender.send(BODY, 10)
        before = threads_of_the_sender()
        for _ in range(3):
            sender.send(BODY, 10)
        eventually(lambda: threads_of_the_sender() - before, lambda left: not left)


def test_the_destination_holds_neither_secrets_nor_a_path() -> None:
    sender = GrpcSender(settings("https://me:pw@Collector.example:4317/path?key=value"))
    assert sender.destination == "https://collector.example:4317"
    assert GrpcSender(settings("http://[::1]:4317")).destination == "http://[::1]:4317"


# What counts as delivered.


def test_a_partial_success_is_delivered_with_its_number_and_words() -> None:
    outcome = told(GrpcAnswer(partial_success(3, "too\x1b[31m old\n")))
    assert outcome == Delivered(3, "too [31m old")


def test_what_is_no_otlp_answer_is_refused() -> None:
    assert "no OTLP answer" in why(told(GrpcAnswer(b"\xff\xff\xff")), Refused)


# What the codes mean.


@pytest.mark.parametrize("code", LATER)
def test_a_code_that_passes_by_itself_is_for_later(code: str) -> None:
    outcome = told(failing(code, "the queue is full"))
    assert isinstance(outcome, Later)
    assert outcome.after is None


@pytest.mark.parametrize("code", LATER)
@pytest.mark.parametrize(
    ("status", "after"),
    [
        (retry_info(90), 90.0),
        (retry_info(0, 250_000_000), 0.25),
        (retry_info(-5), 0.0),
        (Status(code=14, message="busy").SerializeToString(), None),
        (b"\xff\xff", None),
    ],
)
def test_the_delay_of_a_retry_info_is_passed_on(
    code: str, status: bytes, after: float | None
) -> None:
    outcome = told(failing(code, "busy", status))
    assert isinstance(outcome, Later)
    assert outcome.after == after


@pytest.mark.parametrize("code", REFUSED)
def test_any_other_code_is_refused_with_what_to_do(code: str) -> None:
    text = why(told(failing(code, "not\x00 like this")), Refused)
    assert text.startswith(f'answered {code} ("not like this"): ')


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_a_missing_right_points_to_the_headers(code: str) -> None:
    assert "OTEL_EXPORTER_OTLP_HEADERS" in why(told(failing(code)), Refused)


def test_a_receiver_that_takes_no_metrics_points_to_the_endpoint() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    text = why(send(f"http://127.0.0.1:{port}"), Refused)
    server.stop(None).wait(60)
    assert "answered UNIMPLEMENTED" in text
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in text


def test_a_message_beyond_the_receivers_limit_is_refused_with_the_name_of_the_limit() -> None:
    with GrpcSink(options=[("grpc.max_receive_message_length", 100)]) as sink:
        text = why(send(sink.endpoint), Refused)
    assert "max_recv_msg_size_mib" in text


def test_words_of_a_receiver_about_its_own_connections_are_not_taken_for_ours() -> None:
    text = why(told(failing("UNAVAILABLE", "upstream: connection refused")), Later)
    assert text == 'answered UNAVAILABLE ("upstream: connection refused")'


# No connection.


def test_nothing_listening_is_for_later() -> None:
    port = free_port()
    assert send(f"http://127.0.0.1:{port}") == Later(f"nothing listens at 127.0.0.1:{port}")
    assert send(f"http://[::1]:{port}") == Later(f"nothing listens at [::1]:{port}")


def test_a_name_that_does_not_exist_is_for_later() -> None:
    outcome = send("http://collector.invalid:4317")
    assert outcome == Later("the name of collector.invalid:4317 can't be resolved")


def test_a_collector_that_comes_up_later_gets_the_next_report() -> None:
    port = free_port()
    sender = GrpcSender(settings(f"http://127.0.0.1:{port}"))
    assert isinstance(sender.send(BODY, 10), Later)
    with GrpcSink(port=port) as sink:
        assert sender.send(BODY, 10) == Delivered()
        assert sink.requests[0].body == BODY
    assert isinstance(sender.send(BODY, 10), Later)


def test_a_reset_is_for_later() -> None:
    def reset(connection: socket.socket, _: threading.Event) -> None:
        connection.recv(1000)
        reset_connection(connection)

    with Listener(reset) as listener:
        assert isinstance(send(f"http://127.0.0.1:{listener.port}"), Later)


def test_a_reset_in_the_midst_of_a_call_is_for_later() -> None:
    with Listener(http2(b"")) as listener:
        assert isinstance(send(f"http://127.0.0.1:{listener.port}"), Later)


def test_the_http_port_is_for_later_with_what_to_do() -> None:
    with HttpSink() as sink:
        text = why(send(sink.base), Later)
    assert "does not answer in gRPC" in text
    assert "4318" in text


def http2(headers: bytes) -> Any:
    """Speak enough of HTTP/2 to answer the first request with a header block and an end."""

    def serve(connection: socket.socket, _: threading.Event) -> None:
        connection.sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        received = bytearray()
        while b"any bytes" not in received:
            received += connection.recv(65536)
        if headers:
            # HEADERS with END_STREAM and END_HEADERS on stream 1.
            head = len(headers).to_bytes(3, "big") + b"\x01\x05\x00\x00\x00\x01"
            connection.sendall(b"\x00\x00\x00\x04\x01\x00\x00\x00\x00" + head + headers)
            while connection.recv(65536):
                pass
        else:
            reset_connection(connection)

    return serve


@pytest.mark.parametrize(
    ("status", "kind"), [(302, Refused), (200, Refused), (401, Refused), (503, Later)]
)
def test_a_web_server_that_speaks_http_2_is_no_collector(
    status: int, kind: type[Refused | Later]
) -> None:
    # RFC 7541: a literal without indexing, its name the static table's `:status` (8), and
    # `content-type` (31).
    block = b"\x08\x03" + str(status).encode() + b"\x0f\x10\x09text/html"
    with Listener(http2(block)) as listener:
        why(send(f"http://127.0.0.1:{listener.port}"), kind)


# One deadline for all.


def test_a_call_that_hangs_is_left_at_the_deadline() -> None:
    with GrpcSink(GrpcAnswer(delay=FAULT_SECONDS)) as sink:
        began = time.monotonic()
        text = why(send(sink.endpoint, 1.0), Later)
        assert time.monotonic() - began < BOUND
    assert "in time" in text


def test_a_receiver_that_never_says_a_word_is_left_at_the_deadline(authority: Authority) -> None:
    def silent(_: socket.socket, ended: threading.Event) -> None:
        ended.wait(FAULT_SECONDS)

    with Listener(silent) as listener:
        for scheme in ("http", "https"):
            began = time.monotonic()
            outcome = send(f"{scheme}://127.0.0.1:{listener.port}", 1.0, ca=authority.file)
            assert isinstance(outcome, Later)
            assert time.monotonic() - began < BOUND


def test_a_receiver_that_trickles_is_left_at_the_deadline() -> None:
    def trickle(connection: socket.socket, ended: threading.Event) -> None:
        # SETTINGS without end: its length is the longest, and a setting comes each time.
        connection.sendall(b"\x00\x3f\xfc\x04\x00\x00\x00\x00\x00")
        while not ended.wait(0.2):
            connection.sendall(b"\x00\x03\x00\x00\x00\x64")

    with Listener(trickle) as listener:
        began = time.monotonic()
        assert isinstance(send(f"http://127.0.0.1:{listener.port}", 1.0), Later)
        assert time.monotonic() - began < BOUND


def test_no_time_left_is_for_later() -> None:
    with GrpcSink() as sink:
        assert isinstance(send(sink.endpoint, 0.0), Later)
        assert isinstance(send(sink.endpoint, -1.0), Later)


# TLS.


def test_a_private_authority_is_trusted(authority: Authority) -> None:
    with secured(authority.server()) as sink:
        assert send(sink.endpoint, ca=authority.file) == Delivered()
    assert sink.requests[0].body == BODY


def test_a_certificate_of_another_authority_is_for_later_with_what_to_do(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"))
    with secured(other.server()) as sink:
        for ca in (authority.file, None):
            assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in why(send(sink.endpoint, ca=ca), Later)
        assert sink.requests == []


def test_a_certificate_for_another_name_is_for_later_with_what_to_do(authority: Authority) -> None:
    with secured(authority.server("other.example")) as sink:
        assert "another host name" in why(send(sink.endpoint, ca=authority.file), Later)


def test_an_expired_certificate_is_for_later_with_what_to_do(authority: Authority) -> None:
    past = datetime.now(UTC) - timedelta(days=2)
    expired = authority.server(not_before=past - timedelta(days=1), not_after=past)
    with secured(expired) as sink:
        assert "expired" in why(send(sink.endpoint, ca=authority.file), Later)


def test_https_to_a_plaintext_port_is_for_later_with_what_to_do(authority: Authority) -> None:
    def plain(connection: socket.socket, _: threading.Event) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with Listener(plain) as listener:
        url = f"https://127.0.0.1:{listener.port}"
        assert "does not answer in TLS" in why(send(url, ca=authority.file), Later)
    with GrpcSink() as sink:
        url = sink.endpoint.replace("http", "https")
        assert "does not answer in TLS" in why(send(url, ca=authority.file), Later)


def test_http_to_a_tls_port_is_for_later_with_what_to_do(authority: Authority) -> None:
    with secured(authority.server()) as sink:
        assert "https://" in why(send(sink.endpoint.replace("https", "http")), Later)


def test_a_client_certificate_is_presented_from_two_files_or_one(authority: Authority) -> None:
    certificate, key, both = authority.client()
    with secured(authority.demanding_server()) as sink:
        url, ca = sink.endpoint, authority.file
        assert send(url, ca=ca, client_certificate=certificate, client_key=key) == Delivered()
        assert send(url, ca=ca, client_certificate=both) == Delivered()
        assert "CLIENT_CERTIFICATE" in why(send(url, ca=ca), Later)
        assert len(sink.requests) == 2


WITHOUT_CA = """
import sys
from pathlib import Path
from otel_novu.delivery.otlp.grpc import GrpcSender
from otel_novu.settings import Compression, Otlp, Protocol, Secret
url, certificate, key = Secret(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
settings = Otlp(Protocol.GRPC, url, {}, 10.0, Compression.NONE, None, certificate, key)
print(GrpcSender(settings).send(b"body", 10.0))
"""


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )


def test_a_client_certificate_is_presented_to_a_publicly_trusted_receiver_too(
    authority: Authority,
) -> None:
    certificate, key, _ = authority.client()
    with secured(authority.demanding_server()) as sink:
        done = run(
            WITHOUT_CA,
            sink.endpoint,
            str(certificate),
            str(key),
            GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=str(authority.file),
        )
    assert done.stdout.startswith("Delivered(")


@pytest.mark.parametrize("content", [None, "no certificate", ""])
def test_a_bad_ca_file_is_refused_by_the_name_of_its_variable(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "bad.pem"
    if content is not None:
        file.write_text(content)
    text = why(send("https://127.0.0.1:1", ca=file), Refused)
    assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in text
    assert str(tmp_path) not in text


def test_bad_client_files_are_refused_by_the_names_of_their_variables(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, key, _ = authority.client()
    missing = tmp_path / "missing.pem"
    for first, second, variable in [
        (missing, key, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"),
        (certificate, missing, "OTEL_EXPORTER_OTLP_CLIENT_KEY"),
        (certificate, None, "OTEL_EXPORTER_OTLP_CLIENT_KEY"),
    ]:
        outcome = send("https://127.0.0.1:1", client_certificate=first, client_key=second)
        assert variable in why(outcome, Refused)


# Bad settings that only the driver can see, and what it would write.


@pytest.mark.parametrize(
    ("name", "value"), [("x", "a\nb"), ("x", "ü"), ("a b", "x"), ("ü", "x"), ("", "x")]
)
def test_a_header_that_grpc_does_not_allow_is_refused_without_its_value(
    name: str, value: str
) -> None:
    with GrpcSink() as sink:
        outcome = send(sink.endpoint, headers={name: Secret(f"{value}{TOKEN}")})
    text = why(outcome, Refused)
    assert "OTEL_EXPORTER_OTLP_HEADERS" in text
    assert TOKEN not in text


QUIET = """
import os, sys
from pathlib import Path
from otel_novu.delivery.otlp import sender
from otel_novu.settings import Compression, Otlp, Protocol, Secret
url, ca = Secret(sys.argv[1]), Path(sys.argv[2])
settings = Otlp(Protocol.GRPC, url, {}, 10.0, Compression.NONE, ca, None, None)
print(sender(settings).send(b"body", 10.0), "GRPC_VERBOSITY" in os.environ)
"""


def test_grpcs_core_writes_nothing_beside_our_words_and_the_environment_stays(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"))
    with secured(authority.server()) as sink:
        done = run(QUIET, sink.endpoint, str(other.file))
        assert done.stdout.startswith("Later(")
        assert done.stdout.endswith("False\n")
        assert done.stderr == ""
        asked = run(QUIET, sink.endpoint, str(other.file), GRPC_VERBOSITY="INFO")
        assert "CERTIFICATE_VERIFY_FAILED" in asked.stderr


# Secrets.


def test_no_secret_is_in_an_outcome_a_repr_or_a_log_line_whatever_is_answered(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    encoded = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    echo = f"{TOKEN} and Bearer {TOKEN} and {PASSWORD} and {encoded} and {TOKEN.lower()}"
    answers = [failing(code, echo) for code in (*LATER, *REFUSED)]
    answers.append(GrpcAnswer(partial_success(1, echo)))
    with GrpcSink(*answers) as sink:
        sender = GrpcSender(
            settings(
                f"http://me:{PASSWORD}@127.0.0.1:{sink.port}?key={TOKEN}",
                headers={"x-token": Secret(f"Bearer {TOKEN}")},
            )
        )
        outcomes = [sender.send(BODY, 10) for _ in answers]
    away = GrpcSender(settings(f"http://me:{PASSWORD}@127.0.0.1:{free_port()}"))
    outcomes.append(away.send(BODY, 10))
    seen = f"{outcomes!r} {sender!r} {sender.destination} {away.destination} {caplog.text}"
    seen += "".join(capfd.readouterr())
    for secret in ("S3CRET", "s3cret", encoded[:-4]):
        assert secret not in seen
