"""A relay for TCP that counts what passes, between the exporter and a real server."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_PIECE = 64 * 1024
_KEPT = 64 * 1024


@dataclass
class Exchange:
    """One connection.

    Args:
        sent: bytes to the server.
        received: bytes from the server.
        head: the first 64 KiB to the server.
        answered: `time.monotonic` of the first answer, None before.
    """

    sent: int = 0
    received: int = 0
    head: bytes = b""
    answered: float | None = None


@dataclass
class Relay:
    """Listens on a port of its own and passes everything on.

    Args:
        host: of the server.
        port: of the server.
        exchanges: the connections so far.
    """

    host: str
    port: int
    exchanges: list[Exchange] = field(default_factory=list)
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def own_port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return int(self.listener.getsockname()[1])

    def total(self) -> int:
        """Bytes in both directions so far."""
        return sum(exchange.sent + exchange.received for exchange in self.exchanges)

    def answered(self) -> int:
        """Connections that had an answer."""
        return sum(exchange.answered is not None for exchange in list(self.exchanges))

    def serve(self) -> None:
        """Accept until the listener is closed."""
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                exchange = Exchange()
                self.exchanges.append(exchange)
                threading.Thread(target=self._pass, args=(client, exchange), daemon=True).start()

    def _pass(self, client: socket.socket, exchange: Exchange) -> None:
        with client, suppress(OSError), socket.create_connection((self.host, self.port)) as server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=_back, args=(server, client, exchange), daemon=True)
            back.start()
            _forth(client, server, exchange)
            back.join()


@contextmanager
def relay(address: str) -> Iterator[Relay]:
    """Relay to `host:port` for a while."""
    host, _, port = address.rpartition(":")
    made = Relay(host, int(port))
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        # Closing alone would leave the thread in `accept`.
        with suppress(OSError):
            made.listener.shutdown(socket.SHUT_RDWR)
        made.listener.close()
        thread.join(5)


def _forth(client: socket.socket, server: socket.socket, exchange: Exchange) -> None:
    with suppress(OSError):
        while piece := client.recv(_PIECE):
            exchange.sent += len(piece)
            exchange.head += piece[: max(0, _KEPT - len(exchange.head))]
            server.sendall(piece)
        server.shutdown(socket.SHUT_WR)


def _back(server: socket.socket, client: socket.socket, exchange: Exchange) -> None:
    with suppress(OSError):
        while piece := server.recv(_PIECE):
            exchange.received += len(piece)
            client.sendall(piece)
            if exchange.answered is None:
                exchange.answered = time.monotonic()
        client.shutdown(socket.SHUT_WR)
