"""Ends of HTTP conversations as raw as tests of a proxy need them: servers that misbehave, clients that do."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

PATIENCE = 30.0
"""Seconds after which something that must come is given up."""

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Head:
    """The first line of a message, and its headers by their names in lower case."""

    line: str
    headers: dict[str, str]

    @property
    def status(self) -> int:
        return int(self.line.split(" ")[1])


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Raises IncompleteReadError at the end of the stream."""
    raw = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
    first, *lines = raw.decode().rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Head(first, {name.strip().lower(): value.strip() for name, _, value in pairs})


async def read_body(reader: asyncio.StreamReader, head: Head) -> bytes:
    """By Content-Length, in chunks, or none. Raises IncompleteReadError where it breaks off."""
    if "content-length" in head.headers:
        return await asyncio.wait_for(reader.readexactly(int(head.headers["content-length"])), PATIENCE)
    body = b""
    if head.headers.get("transfer-encoding") == "chunked":
        while size := int(await asyncio.wait_for(reader.readline(), PATIENCE), 16):
            body += (await asyncio.wait_for(reader.readexactly(size + 2), PATIENCE))[:-2]
        await reader.readline()
    return body


@asynccontextmanager
async def serving(handler: Handler, *, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[int]:
    """The port (any one, or that) of a server on 127.0.0.1; what `handler` runs into when a connection ends is of no
    interest."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", port, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@dataclass
class Backend:
    """A server that answers each request with its own name, and keeps what it was asked."""

    name: str = "backend"
    heads: list[Head] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            head = await read_head(reader)
            self.heads.append(head)
            self.bodies.append(await read_body(reader, head))
            body = b"" if head.line.startswith("HEAD ") else self.name.encode()
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.name)}\r\n\r\n".encode() + body)
            await writer.drain()


class Connection:
    """A client's connection, kept alive between requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, raw: bytes | str) -> None:
        self.writer.write(raw if isinstance(raw, bytes) else raw.encode())
        await self.writer.drain()

    async def receive(self, *, body: bool = True) -> Answer:
        """`body`: False for the answer to a HEAD."""
        head = await read_head(self.reader)
        return Answer(head.status, head.headers, await read_body(self.reader, head) if body else b"")

    async def ask(self, path: str = "/", *, host: str = "foo.com", method: str = "GET", headers: str = "") -> Answer:
        await self.send(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n")
        return await self.receive(body=method != "HEAD")

    async def rest(self) -> bytes:
        """Whatever comes until the other side closes."""
        return await asyncio.wait_for(self.reader.read(), PATIENCE)


@asynccontextmanager
async def connected(port: int, **options: object) -> AsyncIterator[Connection]:
    """`options` as `asyncio.open_connection` takes them: ssl, server_hostname."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)  # type: ignore[arg-type]
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
