"""A name server that never answers, and a process that asks no other; it needs root."""

import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

_PORT = 53


@dataclass
class NameServer:
    """Takes questions and answers none.

    Args:
        address: where it listens.
        questions: how many came.
    """

    address: str
    questions: int = 0

    def program(self, folder: Path, command: Sequence[str]) -> tuple[str, ...]:
        """Return a command that runs another one with this name server only."""
        file = folder / "resolv.conf"
        # It waits for an answer for a minute.
        file.write_text(f"nameserver {self.address}\noptions timeout:30 attempts:2\n")
        script = f'mount --bind {file} /etc/resolv.conf && exec "$@"'
        return ("/usr/bin/unshare", "--mount", "/bin/sh", "-c", script, "sh", *command)


@contextmanager
def name_server() -> Iterator[NameServer]:
    """Listen until the block ends."""
    with _socket() as server:
        names = NameServer(server.getsockname()[0])
        thread = Thread(target=_count, args=(server, names), daemon=True)
        thread.start()
        try:
            yield names
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join(60)


def _socket() -> socket.socket:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while True:
        numbers = (1 + secrets.randbelow(254) for _ in range(3))
        with suppress(OSError):  # another test's
            server.bind((".".join(map(str, (127, *numbers))), _PORT))
            return server


def _count(server: socket.socket, names: NameServer) -> None:
    with suppress(OSError):
        while server.recv(4096):
            names.questions += 1
