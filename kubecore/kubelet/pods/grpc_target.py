"""How gRPC reaches a pod: it makes its sockets itself, so where those would not lead to the pod it is met half-way."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from kubecore import node_network

_BYTES = 64 << 10


@asynccontextmanager
async def grpc_target(host: str, port: int, address: str) -> AsyncIterator[str]:
    """What a channel to the `address` (host and port as one) is made for."""
    if not node_network.is_elsewhere(host):
        yield address
        return
    with tempfile.TemporaryDirectory(prefix="kubecore-probe-") as folder:
        path, relays = f"{folder}/grpc", set[asyncio.Task[None]]()
        server = await asyncio.start_unix_server(partial(_relay, host, port, relays), path)
        try:
            yield f"unix:{path}"
        finally:
            server.close()
            for relay in relays:
                relay.cancel()
            await asyncio.gather(*relays, return_exceptions=True)


async def _relay(
    host: str,
    port: int,
    relays: set[asyncio.Task[None]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    task = asyncio.current_task()
    assert task is not None
    relays.add(task)
    try:
        with suppress(OSError):  # who is refused sees his connection end, and tries again
            far_reader, far_writer = await node_network.open_connection(host, port)
            try:
                await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))
            finally:
                far_writer.close()
    finally:
        relays.discard(task)
        writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
