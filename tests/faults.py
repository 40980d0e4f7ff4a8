"""Faults that tests switch on and off: of a receiver, and of the way to a database."""

import os
import random
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Any, Self
from urllib.parse import urlsplit

from receivers import FAULT_SECONDS, HttpAnswer, HttpSink, Listener, answer


class Switch:
    """An answer of an HTTP sink that a test changes, and which requests were accepted.

    Args:
        now: the answer; None accepts.
    """

    def __init__(self, now: HttpAnswer | None = None) -> None:
        self.now = now
        self.ends: Callable[[], bool] = lambda: False  # asked at each request
        self._accepted: list[bool] = []

    def __call__(self, connection: socket.socket, ended: Event) -> None:
        """Answer as it is now."""
        if self.ends():
            self.now = None
        self._accepted.append(self.now is None)
        (self.now or answer())(connection, ended)

    def accepted(self, sink: HttpSink) -> list[Any]:
        """Return the reports that were accepted, in the order of their arrival."""
        answered = zip(sink.reports, self._accepted, strict=False)
        return [report for report, accepted in answered if accepted]


class Gate:
    """Passes connections on to a database, and keeps back what a test names.

    Args:
        url: of the database: `mongodb://user:password@host:port/...`.
        port: where it listens; 0 for any.
    """

    def __init__(self, url: str, *, port: int = 0) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._listener = Listener(self._serve, port=port)
        place = f"127.0.0.1:{self._listener.port}"
        self.url = url.replace(f"{parts.hostname}:{parts.port}", place)
        self.blocked: bytes | None = None
        """A message that contains this hangs (all do, if it is empty)."""

    def __enter__(self) -> Self:
        self._listener.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._listener.close()

    @property
    def connections(self) -> int:
        """How many were made so far."""
        return self._listener.connections

    def _serve(self, client: socket.socket, ended: Event) -> None:
        with socket.create_connection(self._address) as server:
            back = Thread(target=_pass_back, args=(server, client), daemon=True)
            back.start()
            with suppress(OSError):
                while message := client.recv(1 << 16):
                    while self.blocked is not None and self.blocked in message:
                        if ended.wait(0.05):
                            return
                    server.sendall(message)
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            back.join(FAULT_SECONDS)


def _pass_back(server: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):
        while message := server.recv(1 << 16):
            client.sendall(message)
        client.shutdown(socket.SHUT_WR)


def dice() -> random.Random:
    """Make random choices; the seed, which is printed or taken from TEST_SEED, repeats them."""
    seed = os.environ.get("TEST_SEED") or str(secrets.randbelow(2**32))
    print(f"TEST_SEED={seed}")  # noqa: T201 - pytest shows it when a test fails
    return random.Random(seed)  # noqa: S311 - moments of a test
