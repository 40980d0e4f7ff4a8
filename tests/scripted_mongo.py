"""A server of MongoDB's wire protocol that answers, or does not, as a test says."""

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
Answers = Callable[[Document], Document]

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


class Hang(Exception):  # noqa: N818 - it is what the server does
    """Raised by a script: the command is never answered."""


class Drop(Exception):  # noqa: N818 - as above
    """Raised by a script: the connection is closed without an answer."""


def answering(**changes: Document | Exception) -> Answers:
    """Answer the named commands as given, all others well; an exception is raised."""

    def script(command: Document) -> Document:
        known = {"hello": HELLO, "ismaster": HELLO, **changes}
        answer = known.get(next(iter(command)), {"ok": 1.0, "n": 1})
        if isinstance(answer, Exception):
            raise answer
        return answer

    return script


def serving(**changes: Document | Exception) -> Answers:
    """Answer all queries of a round: each count is 1, each sum 3; there are three collections.

    A change is for a command, or for a command on one collection: `count_users=...`.
    """
    listed = rows(*({"name": name} for name in ("users", "notifications", "topics")))
    all_changes: dict[str, Document | Exception] = {"listCollections": listed, **changes}

    def script(command: Document) -> Document:
        name = next(iter(command))
        answer = all_changes.get(f"{name}_{command[name]}", all_changes.get(name))
        if answer is None and name == "aggregate":
            return _aggregated(command["pipeline"][-1])
        return answering(**({} if answer is None else {name: answer}))(command)

    return script


def _aggregated(last: Document) -> Document:
    if "$facet" in last:
        return rows({"largest": [{"_id": {"l0": "novu"}, "n": 3}], "rest": []})
    if "$project" in last:
        return rows({"t": datetime(2025, 12, 1, tzinfo=UTC)})
    return rows({"_id": None, "n": 3})


def rows(*documents: Document) -> Document:
    """Return a cursor's only batch."""
    return {"ok": 1.0, "cursor": {"id": 0, "ns": "novu-db.any", "firstBatch": list(documents)}}


def failing(code: int | None, text: str = "no") -> Document:
    """Return the answer to a command that failed."""
    answer: Document = {"ok": 0.0, "errmsg": text}
    return answer if code is None else {**answer, "code": code}


def silent(_command: Document) -> Document:
    """Never answer anything."""
    raise Hang


def closing(_command: Document) -> Document:
    """Close every connection at its first command."""
    raise Drop


@dataclass
class Script:
    """A running server on 127.0.0.1, the commands it got, and its open connections."""

    port: int
    commands: list[Document] = field(default_factory=list)
    open: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def names(self) -> list[str]:
        """Return the names of the commands so far."""
        with self.lock:
            return [next(iter(command)) for command in self.commands]


@contextlib.contextmanager
def scripted_mongo(script: Answers, context: ssl.SSLContext | None = None) -> Iterator[Script]:
    """Serve a script on a free port until the block ends."""
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with state.lock:
                state.open += 1
            try:
                with contextlib.suppress(OSError, Drop), _secured(self.request, context) as sock:
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


def _secured(sock: socket.socket, context: ssl.SSLContext | None) -> socket.socket:
    return sock if context is None else secured(sock, context)


def _serve(sock: socket.socket, script: Answers, state: Script, over: threading.Event) -> None:
    with sock.makefile("rb") as stream:
        while header := stream.read(_HEADER.size):
            length, request, _, operation = _HEADER.unpack(header)
            if operation not in {_OP_QUERY, _OP_MSG}:
                return
            body = stream.read(length - _HEADER.size)
            if len(body) < length - _HEADER.size:
                return  # cut in its midst
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
