"""Connections to the API server's secure port, byte by byte."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kubecore.apiserver.server import APIServer


@dataclass
class Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> str:
        return (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 60)).decode()

    async def ended(self) -> bytes:
        """What comes until the other side closes."""
        return await asyncio.wait_for(self.reader.read(), 60)


@asynccontextmanager
async def client(server: APIServer) -> AsyncIterator[Connection]:
    """A connection to the API server as an administrator."""
    context = ssl.create_default_context(cadata=server.authority.certificate.decode())
    context.check_hostname = False
    folder = server.config.data_dir
    pair = server.issue_client_certificate("admin", ["system:masters"])
    (folder / "streams.pem").write_bytes(pair.certificate + pair.key)
    context.load_cert_chain(folder / "streams.pem")
    reader, writer = await asyncio.open_connection("127.0.0.1", server.secure_port, ssl=context)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
