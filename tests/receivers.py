"""OTLP receivers for tests: real sockets, scripted answers, and a record of what arrived.

`HttpSink` and `GrpcSink` take reports and keep them; scripted, they answer as told, answer by
answer, the last one again and again. `Listener` hands each connection to a function.
"""

import gzip
import socket
import ssl
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Condition, Event, Thread
from typing import Any, Generic, Self, TypeVar

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

PROTOBUF = "application/x-protobuf"
# A fault lasts four times as long as a test gives what must not wait for it (`faults.BOUND`).
FAULT_SECONDS = 120.0


def partial_success(rejected: int, message: str = "") -> bytes:
    """Return the body of an answer that takes all but `rejected` data points."""
    response = ExportMetricsServiceResponse()
    response.partial_success.rejected_data_points = rejected
    response.partial_success.error_message = message
    return response.SerializeToString()


class Listener:
    """Hands each connection, on a thread of its own, to a function.

    Args:
        handle: given the connection and an event that is set when the listener ends.
        tls: wraps each connection, or None.
        port: to listen at; 0 for any.
    """

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
        """Stop listening and cut what is open."""
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
        """How many were accepted so far."""
        return len(self._open)

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            # TLS takes the original over, and leaves nothing to cut.
            kept = connection.dup()
            self._open.append(kept)
            if self._ended.is_set():  # too late to be cut by `close`
                _cut(kept)
            thread = Thread(target=self._serve, args=(connection, kept), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, kept: socket.socket) -> None:
        try:
            # Faults are what this is for: a peer that goes away is none of the test's.
            with suppress(OSError, ValueError), connection:
                connection.settimeout(FAULT_SECONDS)
                if self._tls is None:
                    self._handle(connection, self._ended)
                    return
                with secured(connection, self._tls) as wrapped:
                    self._handle(wrapped, self._ended)
        finally:
            kept.close()


def secured(connection: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Begin TLS as a server.

    Raises:
        OSError: the peer has gone, or does not speak it.
    """
    # Python's own wrapper of a connection that was reset is left open, and warned of when it goes.
    connection.getpeername()
    return context.wrap_socket(connection, server_side=True)


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class HttpRequest:
    """A request as it arrived.

    Args:
        method: as sent.
        path: with the query, as sent.
        headers: by lower-case name.
        raw: the body, as sent.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> bytes:
        """The body without its compression."""
        encoding = self.headers.get("content-encoding", "identity")
        if encoding == "gzip":
            return gzip.decompress(self.raw)
        return zlib.decompress(self.raw) if encoding == "deflate" else self.raw


# What is done to a connection once a request has been read, until the event is set at the latest.
HttpAnswer = Callable[[socket.socket, Event], None]


def answer(
    status: int = 200,
    body: bytes = b"",
    kind: str | None = PROTOBUF,
    headers: Mapping[str, str] | None = None,
) -> HttpAnswer:
    """Answer with `status` and `body` of content type `kind`, then close."""

    def give(connection: socket.socket, _: Event) -> None:
        lines = [f"HTTP/1.1 {status} As Told", f"Content-Length: {len(body)}"]
        lines += [f"Content-Type: {kind}"] if kind else []
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    return give


def hang() -> HttpAnswer:
    """Answer nothing."""
    return lambda _, ended: _wait(ended)


def trickle(start: bytes, drop: bytes) -> HttpAnswer:
    """Answer `start`, then `drop` five times a second."""

    def give(connection: socket.socket, ended: Event) -> None:
        connection.sendall(start)
        for _ in range(int(FAULT_SECONDS * 5)):
            connection.sendall(drop)
            if ended.wait(0.2):
                return

    return give


def reset() -> HttpAnswer:
    """Reset the connection."""
    return lambda connection, _: reset_connection(connection)


def reset_connection(connection: socket.socket) -> None:
    """Close so that the peer sees a reset, not an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def raw(text: bytes) -> HttpAnswer:
    """Answer these very bytes, then close."""
    return lambda connection, _: connection.sendall(text)


def _wait(ended: Event) -> None:
    ended.wait(FAULT_SECONDS)


_Request = TypeVar("_Request")


class _Record(Generic[_Request]):
    """What arrived, and the answers still to give."""

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


class HttpSink(_Record[HttpRequest]):
    """An OTLP receiver over HTTP.

    Args:
        answers: one for each request, the last one for all that follow.
        tls: its TLS, or None.
        port: to listen at; 0 for any.
        host: its name in `base` and `endpoint`.
    """

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
    def reports(self) -> list[ExportMetricsServiceRequest]:
        """The requests, decoded."""
        return [ExportMetricsServiceRequest.FromString(each.body) for each in self.requests]

    @property
    def connections(self) -> int:
        """How many connections were made so far."""
        return self._listener.connections

    def _serve(self, connection: socket.socket, ended: Event) -> None:
        with connection.makefile("rb") as stream:
            while (line := stream.readline()).strip():
                method, path, _ = line.decode("latin-1").split(" ", 2)
                headers = dict(_header_lines(stream))
                body = stream.read(int(headers.get("content-length", "0")))
                index = self.keep(HttpRequest(method, path, headers, body))
                self._answers[min(index, len(self._answers) - 1)](connection, ended)
                return


def _header_lines(stream: Any) -> list[tuple[str, str]]:
    found = []
    while line := stream.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        found.append((name.lower(), value.strip()))
    return found


@dataclass(frozen=True)
class GrpcRequest:
    """A call as it arrived.

    Args:
        body: the message, serialized, without its compression.
        metadata: by key.
    """

    body: bytes
    metadata: Mapping[str, str | bytes]


@dataclass(frozen=True)
class GrpcAnswer:
    """How to end a call.

    Args:
        body: the serialized answer, where the code is OK.
        code: the status.
        details: its text.
        trailers: trailing metadata.
        delay: seconds to wait first.
    """

    body: bytes = b""
    code: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""
    trailers: Sequence[tuple[str, str | bytes]] = ()
    delay: float = 0.0


class GrpcSink(_Record[GrpcRequest]):
    """An OTLP receiver over gRPC.

    Args:
        answers: one for each call, the last one for all that follow.
        credentials: its TLS, or None.
        options: of the server.
        port: to listen at; 0 for any.
        host: its name in `endpoint`.
    """

    def __init__(
        self,
        *answers: GrpcAnswer,
        credentials: grpc.ServerCredentials | None = None,
        options: Sequence[tuple[str, Any]] = (),
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__()
        self._answers = answers or (GrpcAnswer(),)
        self._ended = Event()
        self._pool = ThreadPoolExecutor(4)
        self._server = grpc.server(self._pool, options=(("grpc.so_reuseport", 0), *options))
        self._server.add_generic_rpc_handlers((_Export(self._serve),))
        place = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(place)
        else:
            self.port = self._server.add_secure_port(place, credentials)
        self.endpoint = f"{'http' if credentials is None else 'https'}://{host}:{self.port}"
        self.base = self.endpoint

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ended.set()
        self._server.stop(None).wait(FAULT_SECONDS)
        self._pool.shutdown()

    @property
    def reports(self) -> list[ExportMetricsServiceRequest]:
        """The requests, decoded."""
        return [ExportMetricsServiceRequest.FromString(each.body) for each in self.requests]

    def _serve(self, body: bytes, call: grpc.ServicerContext) -> bytes:
        metadata = dict(call.invocation_metadata())
        index = self.keep(GrpcRequest(body, metadata))
        told = self._answers[min(index, len(self._answers) - 1)]
        self._ended.wait(told.delay)
        call.set_trailing_metadata(tuple(told.trailers))
        if told.code is not grpc.StatusCode.OK:
            call.set_code(told.code)
            call.set_details(told.details)
        return told.body


class _Export(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    def __init__(self, serve: Callable[[bytes, grpc.ServicerContext], bytes]) -> None:
        self._serve = serve

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method != "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export":
            return None
        return grpc.unary_unary_rpc_method_handler(self._serve)


class Relay:
    """Passes connections on to `port` of this machine and keeps what the clients sent.

    Args:
        port: where to.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = Listener(self._serve)
        self.port = self._listener.port
        self.sent = bytearray()

    def __enter__(self) -> Self:
        self._listener.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._listener.close()

    def _serve(self, client: socket.socket, _: Event) -> None:
        with socket.create_connection(("127.0.0.1", self._to)) as server:
            back = Thread(target=_pump, args=(server, client, bytearray()), daemon=True)
            back.start()
            _pump(client, server, self.sent)
            back.join(FAULT_SECONDS)


def _pump(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    with suppress(OSError):
        while block := source.recv(65536):
            kept += block
            sink.sendall(block)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
