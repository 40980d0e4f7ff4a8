"""A proxy in front of a real MongoDB server that records connections, commands and answers."""

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Any, Self

import bson
from receivers import FAULT_SECONDS, Listener

Document = dict[str, Any]

# All commands that docs/database-user.md allows, in lower case.
ALLOWED = frozenset(
    {
        "hello",
        "ismaster",
        "saslstart",
        "saslcontinue",
        "ping",
        "count",
        "aggregate",
        "getmore",
        "killcursors",
        "listcollections",
        "endsessions",
    }
)

_HEADER = struct.Struct("<iiii")
_OP_REPLY, _OP_QUERY, _OP_MSG = 1, 2004, 2013
_CHECKSUM = 1


class MongoProxy:
    """Passes whole messages on; a command that is not in `allowed` breaks the connection.

    Args:
        url: of the real server, `mongodb://user:password@host:port/...`.
        allowed: names in lower case; None: all.
    """

    def __init__(self, url: str, allowed: frozenset[str] | None = None) -> None:
        self._place = url.rpartition("@")[2].partition("/")[0]
        self._allowed = allowed
        self._lock = Lock()
        self._listener = Listener(self._serve)
        self.url = url.replace(self._place, f"127.0.0.1:{self._listener.port}")
        self.commands: list[Document] = []
        self.answers: list[Document] = []
        self.answered = bytearray()
        self.opened: list[float] = []
        self.open = 0
        self.broken: list[str] = []

    def __enter__(self) -> Self:
        self._listener.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._listener.close()

    def names(self) -> list[str]:
        """Return the names of the commands so far."""
        with self._lock:
            return [next(iter(command)) for command in self.commands]

    def _serve(self, client: socket.socket, _ended: Event) -> None:
        host, _, port = self._place.rpartition(":")
        with self._lock:
            self.opened.append(time.time())
            self.open += 1
        try:
            with socket.create_connection((host, int(port))) as server:
                back = Thread(target=self._pass_back, args=(server, client), daemon=True)
                back.start()
                with suppress(OSError):
                    self._pass_on(client, server)
                for side in (server, client):
                    with suppress(OSError):
                        side.shutdown(socket.SHUT_RDWR)
                back.join(FAULT_SECONDS)
        finally:
            with self._lock:
                self.open -= 1

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with client.makefile("rb") as stream:
            for message in _messages(stream):
                command = _document(message)
                name = next(iter(command))
                with self._lock:
                    self.commands.append(command)
                    if self._allowed is not None and name.lower() not in self._allowed:
                        self.broken.append(name)
                        return
                server.sendall(message)

    def _pass_back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError, ValueError), server.makefile("rb") as stream:
            for message in _messages(stream):
                with self._lock:
                    self.answers.append(_document(message))
                    self.answered += message
                client.sendall(message)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def _messages(stream: Any) -> Iterator[bytes]:
    while len(header := stream.read(_HEADER.size)) == _HEADER.size:
        (length, *_) = _HEADER.unpack(header)
        body = stream.read(length - _HEADER.size)
        if len(body) < length - _HEADER.size:
            return  # cut in its midst, as when a round ends
        yield header + body


def _document(message: bytes) -> Document:
    """Decode a message's document; other forms of a message are returned as they are."""
    (_, _, _, operation) = _HEADER.unpack_from(message)
    body = message[_HEADER.size :]
    if operation == _OP_MSG:
        (flags,) = struct.unpack_from("<I", body)
        end = len(body) - (4 if flags & _CHECKSUM else 0)
        (size,) = struct.unpack_from("<i", body, 5)
        if body[4] != 0 or 5 + size != end:
            return {"sections": body.hex()}
        return bson.decode(body[5 : 5 + size])
    if operation == _OP_QUERY:
        return bson.decode(body[body.index(b"\0", 4) + 1 + 8 :])
    if operation == _OP_REPLY:
        return bson.decode(body[20:])
    return {f"operation {operation}": body.hex()}
