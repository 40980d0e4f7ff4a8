"""OTLP receivers for tests: real sockets, scripted answers, and a record of what arrives.

`HttpSink` and `GrpcSink` keep the reports; they give their answers one by one, the last one again
and again. `Listener` gives each connection to a function.
"""

import gzip
import socket
import ssl
import struct
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any, Generic, Self, TypeVar

import grpc
import trustme
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from otel_novu.settings import Otlp, Protocol, Secret

PROTOBUF = "application/x-protobuf"
# How long a fault lasts: much longer than what must not wait for it.
FAULT_SECONDS = 120.0


def partial_success(rejected: int, message: str = "") -> bytes:
    """Return a response that accepts all but `rejected` data points."""
    response = ExportMetricsServiceResponse()
    response.partial_success.rejected_data_points = rejected
    response.partial_success.error_message = message
    return response.SerializeToString()


def otlp(protocol: Protocol, endpoint: str, **changes: Any) -> Otlp:
    """Return settings for a receiver."""
    given: dict[str, Any] = {"headers": {}, "timeout": 10.0, "gzip": False}
    given |= dict.fromkeys(("ca_file", "client_certificate", "client_key")) | changes
    return Otlp(protocol, Secret(endpoint), **given)


class Listener:
    """Calls a function for each connection, in a thread; the event is set at the end."""

    def __init__(
        self,
        handle: Callable[[socket.socket, Event], None],
        *,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self._handle = handle
        self._tls = tls
        self._server = socket.create_server(("127.0.0.1", port))
        self._ended = Event()
        self._open: list[socket.socket] = []
        self._threads = [Thread(target=self._accept, daemon=True)]
        self.port: int = self._server.getsockname()[1]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and cut all connections."""
        self._ended.set()
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for connection in list(self._open):
            _cut(connection)
        for thread in self._threads:
            thread.join(FAULT_SECONDS)

    @property
    def connections(self) -> int:
        """How many were accepted."""
        return len(self._open)

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            # TLS takes over the original, which can't be cut then.
            copy = connection.dup()
            self._open.append(copy)
            if self._ended.is_set():
                _cut(copy)
            thread = Thread(target=self._serve, args=(connection, copy), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, copy: socket.socket) -> None:
        # The peer may go away: faults are what this is for.
        with copy, suppress(OSError, ValueError), connection:
            connection.settimeout(FAULT_SECONDS)
            if self._tls is None:
                self._handle(connection, self._ended)
                return
            with secured(connection, self._tls) as wrapped:
                self._handle(wrapped, self._ended)


def secured(connection: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Begin TLS as a server; raises OSError if the peer is gone or does not speak it."""
    # Python leaves the wrapper of a connection that was reset open, and warns of it later.
    connection.getpeername()
    return context.wrap_socket(connection, server_side=True)


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class HttpRequest:
    """A request as it arrived; the headers by lower-case name."""

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> bytes:
        """The body, decompressed."""
        compressed = self.headers.get("content-encoding") == "gzip"
        return gzip.decompress(self.raw) if compressed else self.raw


# Called with the connection when a request is read; returns when the event is set at the latest.
HttpAnswer = Callable[[socket.socket, Event], None]


def answer(
    status: int = 200,
    body: bytes = b"",
    kind: str | None = PROTOBUF,
    headers: Mapping[str, str] | None = None,
) -> HttpAnswer:
    """Answer with `status` and a `body` of media type `kind`."""
    lines = [f"HTTP/1.1 {status} Any", f"Content-Length: {len(body)}"]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return raw("\r\n".join([*lines, "", ""]).encode() + body)


def raw(data: bytes) -> HttpAnswer:
    """Answer with these bytes."""
    return lambda connection, _: connection.sendall(data)


def hang() -> HttpAnswer:
    """Answer nothing, and keep the connection open."""

    def give(_: socket.socket, ended: Event) -> None:
        ended.wait(FAULT_SECONDS)

    return give


def trickle(start: bytes, drop: bytes) -> HttpAnswer:
    """Answer with `start`, then with `drop` five times a second."""

    def give(connection: socket.socket, ended: Event) -> None:
        connection.sendall(start)
        while not ended.wait(0.2):
            connection.sendall(drop)

    return give


def reset() -> HttpAnswer:
    """Close so that the peer sees a reset."""

    def give(connection: socket.socket, _: Event) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return give


_Request = TypeVar("_Request", "HttpRequest", "GrpcRequest")


class _Record(Generic[_Request]):
    """The requests that arrived."""

    def __init__(self) -> None:
        self._arrived = Condition()
        self.requests: list[_Request] = []

    def keep(self, request: _Request) -> int:
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
            return len(self.requests) - 1

    def wait_for(self, count: int, seconds: float = FAULT_SECONDS) -> list[_Request]:
        """Return all requests as soon as there are `count`; fails after `seconds`."""
        with self._arrived:
            there = self._arrived.wait_for(lambda: len(self.requests) >= count, seconds)
            assert there, f"{len(self.requests)} of {count} requests came within {seconds} s"
            return list(self.requests)

    @property
    def reports(self) -> list[ExportMetricsServiceRequest]:
        """The requests, decoded."""
        return [ExportMetricsServiceRequest.FromString(each.body) for each in self.requests]


class HttpSink(_Record["HttpRequest"]):
    """An OTLP receiver over HTTP; `host` is its name in `base` and `endpoint`."""

    def __init__(
        self,
        *answers: HttpAnswer,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__()
        self._answers = answers or (answer(),)
        self._listener = Listener(self._serve, tls=tls, port=port)
        self.port = self._listener.port
        self.base = f"{'http' if tls is None else 'https'}://{host}:{self.port}"
        self.endpoint = f"{self.base}/v1/metrics"

    def __enter__(self) -> Self:
        self._listener.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._listener.close()

    @property
    def connections(self) -> int:
        """How many connections were accepted."""
        return self._listener.connections

    def _serve(self, connection: socket.socket, ended: Event) -> None:
        with connection.makefile("rb") as stream:
            first, *lines = iter(lambda: stream.readline().decode("latin-1").strip(), "")
            method, path, _ = first.split(" ", 2)
            pairs = (line.split(":", 1) for line in lines)
            headers = {name.lower(): value.strip() for name, value in pairs}
            body = stream.read(int(headers.get("content-length", "0")))
        index = self.keep(HttpRequest(method, path, headers, body))
        self._answers[min(index, len(self._answers) - 1)](connection, ended)


@dataclass(frozen=True)
class GrpcRequest:
    """A call as it arrived: the message, decompressed, the metadata by key, the client's port."""

    body: bytes
    metadata: Mapping[str, str | bytes]
    peer: str


@dataclass(frozen=True)
class GrpcAnswer:
    """How a call ends, after `delay` seconds; `body` counts with the code OK only."""

    body: bytes = b""
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    trailers: Sequence[tuple[str, str | bytes]] = ()
    delay: float = 0.0


class GrpcSink(_Record[GrpcRequest]):
    """An OTLP receiver over gRPC; `host` is its name in `base` and `endpoint`.

    With a `path`, it listens on a Unix socket.
    """

    def __init__(
        self,
        *answers: GrpcAnswer,
        credentials: grpc.ServerCredentials | None = None,
        options: Sequence[tuple[str, Any]] = (),
        port: int = 0,
        host: str = "127.0.0.1",
        path: str = "",
    ) -> None:
        super().__init__()
        self._answers = answers or (GrpcAnswer(),)
        self._ended = Event()
        self._pool = ThreadPoolExecutor(4)
        self._server = grpc.server(self._pool, options=(("grpc.so_reuseport", 0), *options))
        handlers = {"Export": grpc.unary_unary_rpc_method_handler(self._serve)}
        service = "opentelemetry.proto.collector.metrics.v1.MetricsService"
        handler = grpc.method_handlers_generic_handler(service, handlers)
        self._server.add_generic_rpc_handlers((handler,))
        place = f"unix:{path}" if path else f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(place)
        else:
            self.port = self._server.add_secure_port(place, credentials)
        self.base = f"{'http' if credentials is None else 'https'}://{host}:{self.port}"
        self.endpoint = self.base

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._server.stop(None).wait(FAULT_SECONDS)
        self._pool.shutdown()

    def _serve(self, body: bytes, call: grpc.ServicerContext) -> bytes:
        index = self.keep(GrpcRequest(body, dict(call.invocation_metadata()), call.peer()))
        chosen = self._answers[min(index, len(self._answers) - 1)]
        self._ended.wait(chosen.delay)
        call.set_trailing_metadata(tuple(chosen.trailers))
        if chosen.code is not grpc.StatusCode.OK:
            call.set_code(chosen.code)
            call.set_details(chosen.details)
        return chosen.body


class Authority:
    """A certificate authority; its own certificate is in `file`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def sink(
        self, protocol: Protocol, *names: str, mutual: bool = False, **issued: Any
    ) -> HttpSink | GrpcSink:
        """Return a receiver with a certificate; mutual: it requires one of the client."""
        made = self._ca.issue_cert(*(names or ("127.0.0.1",)), **issued)
        if protocol is Protocol.GRPC:
            pair = (made.private_key_pem.bytes(), made.cert_chain_pems[0].bytes())
            ca = self._ca.cert_pem.bytes() if mutual else None
            return GrpcSink(credentials=grpc.ssl_server_credentials([pair], ca, mutual))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE
        self._ca.configure_trust(context)
        made.configure_cert(context)
        return HttpSink(tls=context)

    def client(self) -> tuple[Path, Path, Path]:
        """Return a client's certificate, its key, and a file with both."""
        issued = self._ca.issue_cert("client.example")
        certificate, key, both = (self._folder / f"{name}.pem" for name in ("crt", "key", "both"))
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        issued.private_key_and_cert_chain_pem.write_to_path(both)
        return certificate, key, both
