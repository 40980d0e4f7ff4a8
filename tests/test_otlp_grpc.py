"""OTLP over gRPC, and TLS for both protocols, on real sockets."""

import base64
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from receivers import (
    FAULT_SECONDS,
    Authority,
    GrpcAnswer,
    GrpcSink,
    HttpSink,
    Listener,
    otlp,
    partial_success,
    reset,
)
from stack import free_port

from otel_novu.otlp import sender
from otel_novu.otlp.outcome import Delivered, Outcome, Rejected, Retryable, describe
from otel_novu.settings import Protocol, Secret, load
from otel_novu.version import __version__

BODY = b"\x0a\x03any bytes, as they are\x00\xff" * 20
BOUND = 30.0  # seconds for an attempt of one second, on a busy machine
LATE = "no complete answer in time"


def send(endpoint: str, protocol: Protocol = Protocol.GRPC, **changes: Any) -> Outcome:
    return sender(otlp(protocol, endpoint, **changes)).send(BODY, changes.get("timeout", 60.0))


def outcome_of(given: GrpcAnswer) -> Outcome:
    with GrpcSink(given) as sink:
        return send(sink.endpoint)


def failing(code: str, details: str = "", status: bytes | None = None) -> GrpcAnswer:
    trailers = () if status is None else (("grpc-status-details-bin", status),)
    return GrpcAnswer(code=grpc.StatusCode[code], details=details, trailers=trailers)


def reason(outcome: Outcome) -> str:
    assert isinstance(outcome, Retryable)
    return outcome.reason


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.mark.parametrize("gzip", [False, True])
def test_the_bytes_arrive_unchanged_and_compressed(gzip: bool) -> None:  # noqa: FBT001 - a row
    received = bytearray()

    def keep(connection: socket.socket, _: Event) -> None:
        connection.sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")  # HTTP/2 SETTINGS
        while not (BODY in received or b"\x1f\x8b\x08" in received):  # plain, or gzip
            received.extend(connection.recv(65536))

    with GrpcSink() as sink, Listener(keep) as listener:
        assert send(sink.endpoint, gzip=gzip) == Delivered()
        assert reason(send(f"http://127.0.0.1:{listener.port}", gzip=gzip))
    assert sink.requests[0].body == BODY
    assert (BODY in received) == (not gzip)


def test_headers_and_user_are_sent() -> None:
    with GrpcSink() as sink:
        headers = {"X-Scope-OrgID": Secret("1"), "Authorization": Secret("Bearer any")}
        assert send(sink.endpoint, headers=headers) == Delivered()
    metadata = sink.requests[0].metadata
    assert (metadata["x-scope-orgid"], metadata["authorization"]) == ("1", "Bearer any")
    assert str(metadata["user-agent"]).startswith(f"otel-novu/{__version__} ")


@pytest.mark.parametrize("form", ["dns:///127.0.0.1:{port}", "unix://{path}"])
def test_the_endpoint_may_be_a_target_of_grpc(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with TemporaryDirectory() as folder:  # a socket's path is short
        path = f"{folder}/collector.sock" if form.startswith("unix") else ""
        with GrpcSink(path=path) as sink:
            target = form.format(port=sink.port, path=path)
            names = {"PROTOCOL": "grpc", "INSECURE": "true", "ENDPOINT": target}
            read = load({f"OTEL_EXPORTER_OTLP_{name}": text for name, text in names.items()}).otlp
            assert sender(read).send(BODY, 60) == Delivered()
    assert [request.body for request in sink.requests] == [BODY]


def test_each_report_has_its_own_connection() -> None:
    with GrpcSink() as sink:
        export = sender(otlp(Protocol.GRPC, sink.endpoint))
        assert [export.send(BODY, 60) for _ in range(3)] == [Delivered()] * 3
    assert len({request.peer for request in sink.requests}) == 3


def busy(seconds: int, nanos: int = 0) -> GrpcAnswer:
    info, detail = RetryInfo(), Packed()
    info.retry_delay.seconds, info.retry_delay.nanos = seconds, nanos
    detail.Pack(info)
    status = Status(code=14, message="busy", details=[detail]).SerializeToString()
    return failing("UNAVAILABLE", "busy", status)


BUSY, UPSTREAM = (f'gRPC UNAVAILABLE: "{text}"' for text in ("busy", "no: connection refused"))
LATE_HINT = "OTEL_EXPORTER_OTLP_TIMEOUT sets the limit"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (GrpcAnswer(), Delivered()),
        (GrpcAnswer(partial_success(3, "too\x1b[31m old\n")), Delivered(3, "too[31m old")),
        (GrpcAnswer(partial_success(-5)), Delivered()),
        (GrpcAnswer(b"\xff\xff\xff"), Delivered(message="the response is not OTLP")),
        (failing("UNAVAILABLE", "busy"), Retryable(BUSY)),
        (busy(90, 250_000_000), Retryable(BUSY, "", 90.25)),
        (busy(-5), Retryable(BUSY, "", 0.0)),
        (failing("UNAVAILABLE", "busy", b"\xff\xff"), Retryable(BUSY)),
        (failing("DEADLINE_EXCEEDED"), Retryable(LATE, LATE_HINT)),
        (failing("CANCELLED"), Retryable("gRPC CANCELLED")),
        (failing("RESOURCE_EXHAUSTED"), Retryable("gRPC RESOURCE_EXHAUSTED")),
        (failing("ABORTED"), Retryable("gRPC ABORTED")),
        (failing("OUT_OF_RANGE"), Retryable("gRPC OUT_OF_RANGE")),
        (failing("DATA_LOSS"), Retryable("gRPC DATA_LOSS")),
        (failing("UNAVAILABLE", "no: connection refused"), Retryable(UPSTREAM)),
    ],
)
def test_what_a_response_means(given: GrpcAnswer, expected: Outcome) -> None:
    assert outcome_of(given) == expected


@pytest.mark.parametrize(
    ("given", "expected", "hint"),
    [
        (GrpcAnswer(b"<html>"), "a web page, not an OTLP response", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (failing("UNAUTHENTICATED"), "gRPC UNAUTHENTICATED", "OTEL_EXPORTER_OTLP_HEADERS"),
        (failing("PERMISSION_DENIED"), "gRPC PERMISSION_DENIED", "OTEL_EXPORTER_OTLP_HEADERS"),
        (failing("UNIMPLEMENTED"), "gRPC UNIMPLEMENTED", "OTLP receiver"),
        (failing("UNKNOWN"), "gRPC UNKNOWN", "4317"),
        (failing("INVALID_ARGUMENT", "no\x00"), 'gRPC INVALID_ARGUMENT: "no"', "receiver's log"),
        (failing("FAILED_PRECONDITION"), "gRPC FAILED_PRECONDITION", "receiver's log"),
        (failing("INTERNAL"), "gRPC INTERNAL", "receiver's log"),
    ],
)
def test_a_rejection_comes_with_a_hint(given: GrpcAnswer, expected: str, hint: str) -> None:
    outcome = outcome_of(given)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == expected
    assert hint in outcome.hint


def test_a_receiver_without_metrics_or_with_a_limit_rejects() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    unknown = send(f"http://127.0.0.1:{port}")
    server.stop(None).wait(FAULT_SECONDS)
    with GrpcSink(options=[("grpc.max_receive_message_length", 100)]) as sink:
        too_large = send(sink.endpoint)
    assert isinstance(unknown, Rejected)
    assert isinstance(too_large, Rejected)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in unknown.hint
    assert "max_recv_msg_size_mib" in too_large.hint


def test_a_receiver_that_is_not_there_is_retryable() -> None:
    port = free_port()
    export = sender(otlp(Protocol.GRPC, f"http://127.0.0.1:{port}"))
    assert reason(export.send(BODY, 60)) == "connection refused"
    assert reason(send(f"http://[::1]:{port}")) == "connection refused"
    assert reason(send("http://collector.invalid:1")) == "the host name can't be resolved"
    with GrpcSink(port=port) as sink:
        assert export.send(BODY, 60) == Delivered()
        assert sink.requests[0].body == BODY


def test_what_does_not_speak_grpc_is_retryable() -> None:
    def reset_it(connection: socket.socket, ended: Event) -> None:
        connection.recv(1000)
        reset()(connection, ended)

    with Listener(reset_it) as listener:
        assert isinstance(send(f"http://127.0.0.1:{listener.port}"), Retryable)
    with HttpSink() as sink:
        assert reason(send(sink.base)) == "the receiver speaks another protocol"


def silent(_: socket.socket, ended: Event) -> None:
    ended.wait(FAULT_SECONDS)


def endless_settings(connection: socket.socket, ended: Event) -> None:
    connection.sendall(b"\x00\x3f\xfc\x04\x00\x00\x00\x00\x00")
    while not ended.wait(0.2):
        connection.sendall(b"\x00\x03\x00\x00\x00\x64")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("handle", [silent, endless_settings])
def test_a_slow_connection_is_left_in_time(scheme: str, handle: Any) -> None:
    with Listener(handle) as listener:
        began = time.monotonic()
        outcome = send(f"{scheme}://127.0.0.1:{listener.port}", timeout=1.0)
        assert isinstance(outcome, Retryable)
        assert time.monotonic() - began < BOUND


def test_a_slow_call_is_left_in_time() -> None:
    with GrpcSink(GrpcAnswer(delay=FAULT_SECONDS)) as sink:
        began = time.monotonic()
        assert reason(send(sink.endpoint, timeout=1.0)) == LATE
        assert time.monotonic() - began < BOUND
        assert reason(send(sink.endpoint, timeout=0.0)) == LATE


both_protocols = pytest.mark.parametrize("protocol", Protocol)
DAY = timedelta(days=1)
EXPIRED = {"not_before": datetime.now(UTC) - 2 * DAY, "not_after": datetime.now(UTC) - DAY}


@both_protocols
@pytest.mark.parametrize(
    ("names", "issued", "expected"),
    [
        (("other.example",), {}, "the certificate is for another host"),
        (("10.0.0.1",), {}, "the certificate is for another host"),
        ((), EXPIRED, "the certificate is expired or not yet valid"),
    ],
)
def test_a_bad_certificate_is_retryable(
    protocol: Protocol,
    names: tuple[str, ...],
    issued: dict[str, Any],
    expected: str,
    authority: Authority,
) -> None:
    with authority.sink(protocol, *names, **issued) as sink:
        assert reason(send(sink.endpoint, protocol, ca_file=authority.file)) == expected
        assert sink.requests == []


@both_protocols
def test_only_the_authority_of_the_settings_is_trusted(
    protocol: Protocol, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"))
    with authority.sink(protocol) as sink:
        assert send(sink.endpoint, protocol, ca_file=authority.file) == Delivered()
        untrusted = [send(sink.endpoint, protocol, ca_file=file) for file in (other.file, None)]
        assert {reason(each) for each in untrusted} == {"the certificate is not trusted"}
        assert len(sink.requests) == 1


@both_protocols
def test_a_client_certificate_is_presented(
    protocol: Protocol, authority: Authority, tmp_path: Path
) -> None:
    def present(**files: Path) -> Outcome:
        return send(sink.endpoint, protocol, ca_file=authority.file, **files)

    certificate, key, both = authority.client()
    with authority.sink(protocol, mutual=True) as sink:
        assert present(client_certificate=certificate, client_key=key) == Delivered()
        assert present(client_certificate=both) == Delivered()
        assert "CLIENT_CERTIFICATE" in describe(present())
        gone = present(client_certificate=tmp_path / "gone.pem")
        assert reason(gone) == "a certificate file can't be read"
        assert len(sink.requests) == 2


def proxy_with_login(requests: list[bytes]) -> Callable[[socket.socket, Event], None]:
    """Connect a client that has the right login to the host that it asks for."""

    def tunnel(client: socket.socket, _: Event) -> None:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += client.recv(1)
        requests.append(request)
        if base64.b64encode(b"me:pw") not in request:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        host, port = request.split()[1].decode().rsplit(":", 1)
        with socket.create_connection((host, int(port))) as server, ThreadPoolExecutor() as pool:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = pool.submit(pump, server, client)
            pump(client, server)
            back.result()

    return tunnel


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@both_protocols
def test_mutual_tls_passes_through_a_proxy_with_a_login(
    protocol: Protocol, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key, _ = authority.client()
    files = {"ca_file": authority.file, "client_certificate": certificate, "client_key": key}
    tunnels: list[bytes] = []
    with (
        authority.sink(protocol, mutual=True) as sink,
        Listener(proxy_with_login(tunnels)) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:pw@127.0.0.1:{proxy.port}")
        assert send(sink.endpoint, protocol, **files) == Delivered()
    assert len(sink.requests) == len(tunnels) == 1


@both_protocols
def test_tls_and_plain_text_do_not_mix(protocol: Protocol, authority: Authority) -> None:
    def plain(connection: socket.socket, _: Event) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with Listener(plain) as listener:
        outcome = send(f"https://127.0.0.1:{listener.port}", protocol)
        assert reason(outcome) == "the receiver does not speak TLS"
    with authority.sink(protocol) as sink:
        assert reason(send(sink.endpoint.replace("https", "http"), protocol))


PROGRAM = """
import sys
from pathlib import Path
from otel_novu.otlp import sender
from otel_novu.settings import Otlp, Protocol, Secret
assert not {"grpc", "urllib3"} & sys.modules.keys()
protocol, endpoint, *files = sys.argv[1:]
otlp = Otlp(Protocol(protocol), Secret(endpoint), {}, 60.0, False,
            *(Path(file) if file else None for file in files))
print(sender(otlp).send(b"body", 60.0))
print(*sorted({"grpc", "urllib3"} & sys.modules.keys()))
"""


def run(*arguments: str, **environment: str) -> tuple[list[str], str]:
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=True)
    return done.stdout.decode().splitlines(), done.stderr.decode()


@both_protocols
def test_only_the_library_of_the_protocol_is_loaded(protocol: Protocol) -> None:
    library = "grpc" if protocol is Protocol.GRPC else "urllib3"
    shown, error = run(protocol.value, f"http://127.0.0.1:{free_port()}", "", "", "")
    assert shown[1] == library
    assert error == ""


@both_protocols
def test_the_systems_authorities_are_trusted_by_default(
    protocol: Protocol, authority: Authority
) -> None:
    certificate, key, _ = authority.client()
    names = ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "SSL_CERT_FILE")  # of gRPC, of OpenSSL
    roots = dict.fromkeys(names, str(authority.file))
    with authority.sink(protocol, mutual=True) as sink:
        shown, _ = run(protocol.value, sink.endpoint, "", str(certificate), str(key), **roots)
    assert shown[0] == repr(Delivered())


def test_grpc_logs_nothing_unless_asked_to(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Authority(tmp_path_factory.mktemp("other"))
    with authority.sink(Protocol.GRPC) as sink:
        arguments = ("grpc", sink.endpoint, str(other.file), "", "")
        _, error = run(*arguments)
        _, asked = run(*arguments, GRPC_VERBOSITY="INFO")
    assert error == ""
    assert "CERTIFICATE_VERIFY_FAILED" in asked


TOKEN, PASSWORD = "S3CRET-TOKEN-0123456789", "S3CRET-PASSWORD-0123"
BASIC = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
ECHO = f"{TOKEN} and Bearer {TOKEN.lower()} and {PASSWORD} and Basic {BASIC}"


def test_no_secret_is_shown_or_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    echoes = [failing(code.name, ECHO) for code in grpc.StatusCode if code.name != "OK"]
    echoes.append(GrpcAnswer(partial_success(1, ECHO)))
    with GrpcSink(*echoes) as sink:
        texts = {"x-token": f"Bearer {TOKEN}", "x-key": PASSWORD, "authorization": f"Basic {BASIC}"}
        headers = {name: Secret(text) for name, text in texts.items()}
        export = sender(otlp(Protocol.GRPC, sink.endpoint, headers=headers))
        outcomes = [export.send(BODY, 60) for _ in echoes]
    shown = f"{outcomes} {export!r} {export.endpoint} {caplog.text} {capfd.readouterr()}".lower()
    assert "***" in shown
    assert "s3cret" not in shown
    assert BASIC.lower()[:-4] not in shown
