"""A name server of the test's own that answers, or not, and a process that asks no other."""

import random
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from real_faults import need_root

_PORT = 53


@dataclass
class NameServer:
    """Answers every question for an address with 127.0.0.1.

    Args:
        address: where it listens.
        silent: it takes questions and answers none.
        questions: how many came.
    """

    address: str
    silent: bool = False
    questions: int = 0

    def program(self, folder: Path, command: Sequence[str]) -> tuple[str, ...]:
        """Word a command that runs another one in a world with this name server only."""
        file = folder / "resolv.conf"
        # Patient enough to hang for a minute.
        file.write_text(f"nameserver {self.address}\noptions timeout:30 attempts:2\n")
        script = f'mount --bind {file} /etc/resolv.conf && exec "$@"'
        return ("/usr/bin/unshare", "--mount", "/bin/sh", "-c", script, "sh", *command)


@contextmanager
def name_server(*, silent: bool) -> Iterator[NameServer]:
    """Serve until the block ends."""
    need_root()
    with _socket() as server:
        state = NameServer(server.getsockname()[0], silent)
        thread = Thread(target=_serve, args=(server, state), daemon=True)
        thread.start()
        try:
            yield state
        finally:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join(60)


def _socket() -> socket.socket:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while True:
        numbers = (random.randint(1, 254) for _ in range(3))  # noqa: S311 - any that is free
        try:
            server.bind((".".join(map(str, (127, *numbers))), _PORT))
        except OSError:
            continue
        return server


def _serve(server: socket.socket, state: NameServer) -> None:
    with suppress(OSError):
        while True:
            question, client = server.recvfrom(4096)
            if not question:
                return
            state.questions += 1
            if not state.silent:
                server.sendto(_answer(question), client)


def _answer(question: bytes) -> bytes:
    """Word an answer (RFC 1035): one address of four bytes, or none to another kind of question."""
    end = question.index(b"\0", 12) + 5
    asks_for_address = question[end - 4 : end - 2] == b"\0\1"
    head = question[:2] + struct.pack(">HHHHH", 0x8580, 1, int(asks_for_address), 0, 0)
    record = b"\xc0\x0c" + struct.pack(">HHIH4B", 1, 1, 0, 4, 127, 0, 0, 1)
    return head + question[12:end] + (record if asks_for_address else b"")
