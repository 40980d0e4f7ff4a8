"""A server of MongoDB's wire protocol that answers, or not, as a test says."""

import contextlib
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import bson
from receivers import secured

Document = dict[str, Any]

_HEADER = struct.Struct("<iiii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013

HELLO: Document = {
    "ok": 1.0,
    "helloOk": True,
    "ismaster": True,
    "isWritablePrimary": True,
    "maxBsonObjectSize": 16_777_216,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "readOnly": False,
    "localTime": datetime(2026, 1, 1, tzinfo=UTC),
}


class Hang(Exception):  # noqa: N818 it is what the server does
    """Raised by a script: the command is never answered."""


class Drop(Exception):  # noqa: N818 as above
    """Raised by a script: the connection is closed without an answer."""


def answering(**changes: Document | Exception) -> Callable[[Document], Document]:
    """Answer `hello` and, by name, what the test says; an exception is raised, else all is well."""

    def script(command: Document) -> Document:
        name = next(iter(command))
        known = {"hello": HELLO, "ismaster": HELLO, **changes}
        answer = known.get(name, {"ok": 1.0, "n": 1})
        if isinstance(answer, Exception):
            raise answer
        return answer

    return script


def failing(code: int | None, text: str = "no") -> Document:
    """Word the answer of a command that failed."""
    answer: Document = {"ok": 0.0, "errmsg": text}
    return answer if code is None else {**answer, "code": code}


@dataclass
class Script:
    """A running server.

    Args:
        port: of 127.0.0.1.
        commands: what it was asked so far.
        open: how many connections there are now.
    """

    port: int
    commands: list[Document] = field(default_factory=list)
    open: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def names(self) -> list[str]:
        """Tell the names of the commands so far."""
        with self.lock:
            return [next(iter(command)) for command in self.commands]


@contextlib.contextmanager
def scripted_mongo(
    script: Callable[[Document], Document], context: ssl.SSLContext | None = None
) -> Iterator[Script]:
    """Serve a script on a free port until the block ends."""
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with state.lock:
                state.open += 1
            try:
                with (
                    contextlib.suppress(OSError, Drop),
                    _secured(self.request, context) as sock,
                ):
                    _serve(sock, script, state, over)
            finally:
                with state.lock:
                    state.open -= 1

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128  # beyond it the kernel drops a connection for a second

    with Server(("127.0.0.1", 0), Handler) as server:
        state = Script(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield state
        finally:
            over.set()
            server.shutdown()
            thread.join()


def silent(_command: Document) -> Document:
    """Never answer anything."""
    raise Hang


def closing(_command: Document) -> Document:
    """Close every connection at its first command."""
    raise Drop


def _secured(sock: socket.socket, context: ssl.SSLContext | None) -> socket.socket:
    return sock if context is None else secured(sock, context)


def _serve(
    sock: socket.socket,
    script: Callable[[Document], Document],
    state: Script,
    over: threading.Event,
) -> None:
    with sock.makefile("rb") as stream:
        while header := stream.read(_HEADER.size):
            length, request, _, operation = _HEADER.unpack(header)
            if operation not in {_OP_QUERY, _OP_MSG}:
                return
            body = stream.read(length - _HEADER.size)
            if len(body) < length - _HEADER.size:
                return  # it was cut in its midst
            command = _command(operation, body)
            with state.lock:
                state.commands.append(command)
            try:
                answer = script(command)
            except Hang:
                over.wait()
                return
            sock.sendall(_reply(operation, request, answer))


def _command(operation: int, body: bytes) -> Document:
    start = 5 if operation == _OP_MSG else body.index(b"\0", 4) + 1 + 8
    (size,) = struct.unpack_from("<i", body, start)
    return bson.decode(body[start : start + size])


def _reply(operation: int, request: int, answer: Document) -> bytes:
    document = bson.encode(answer)
    if operation == _OP_QUERY:
        code, body = _OP_REPLY, struct.pack("<iqii", 8, 0, 0, 1) + document
    else:
        code, body = _OP_MSG, struct.pack("<iB", 0, 0) + document
    return _HEADER.pack(_HEADER.size + len(body), 1, request, code) + body
