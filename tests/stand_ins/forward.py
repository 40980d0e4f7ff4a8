"""Forwards TCP connections: `forward.py LISTEN_HOST:PORT TARGET_HOST:PORT`."""

import asyncio
import contextlib
import sys

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until one side ends."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main(listen: str, target: str) -> None:
    """Listen until the process ends."""
    host, _, port = target.rpartition(":")

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there: Streams = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(pipe(reader, there[1]), pipe(there[0], writer))

    own_host, _, own_port = listen.rpartition(":")
    async with await asyncio.start_server(connect, own_host, int(own_port)) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
