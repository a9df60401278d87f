"""A small HTTP/1.1 server for what a proxy tells of itself: one request a connection, of whichever method, as
kube-proxy does it, answered from memory.

aiohttp would do, but takes longer to load than the proxy to start, and there may be one of these for each Service.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from kubecore import node_network

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 10.0
_MOST_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


NOT_FOUND = Answer(b"404 page not found\n", status=404)
Respond = Callable[[str, str], Answer]
"""From a path, without its query, and the address where it is asked for ("" for a Unix socket) to the answer."""


class HttpAnswers:
    """Listens from `listen` or `listen_at` on until `close`."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self._servers: list[asyncio.Server] = []
        self._paths: list[Path] = []

    async def listen(self, address: str, port: int) -> int:
        """Returns the port, for 0 picks one. Raises OSError."""
        # bound here, since asyncio would look the address up in another thread
        listener = _listener(address, port)
        # It is ours to close before anything is waited for: whoever waits may be cancelled.
        server = await asyncio.start_server(self._serve, sock=listener, limit=_MOST_BYTES, start_serving=False)
        self._servers.append(server)
        await server.start_serving()
        return int(listener.getsockname()[1])

    async def listen_at(self, path: Path) -> None:
        """On a Unix socket, which takes the place of one that a dead run left. Raises OSError."""
        listener = _unix_listener(path)
        self._paths.append(path)
        server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_MOST_BYTES, start_serving=False)
        self._servers.append(server)
        await server.start_serving()

    def close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for path in self._paths:
            path.unlink(missing_ok=True)
        self._paths.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    name = writer.get_extra_info("sockname")
                    at = str(name[0]) if isinstance(name, tuple) else ""
                    writer.write(_encode(head, at, self._respond))
                    await writer.drain()
        finally:
            writer.close()


def _unix_listener(path: Path) -> socket.socket:
    with suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
    except BaseException:
        listener.close()
        raise
    return listener


def _encode(head: bytes, at: str, respond: Respond) -> bytes:
    method, _, rest = head.split(b"\r\n", 1)[0].partition(b" ")
    target = rest.rsplit(b" ", 1)[0].decode("ascii", "replace")
    answer = _answer(target.partition("?")[0], at, respond)
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if method == b"HEAD" else answer.body)


def _answer(path: str, at: str, respond: Respond) -> Answer:
    try:
        return respond(path, at)
    except Exception:
        log.exception("%s could not be answered", path)
        return Answer(b"Internal Server Error\n", status=500)


def _listener(address: str, port: int) -> socket.socket:
    if node_network.is_elsewhere(address):
        listener = node_network.socket_for(address)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        return listener
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, port), family=family)
    listener.setblocking(False)
    return listener
