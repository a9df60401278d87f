"""Refusals of requests whose body nobody reads: they arrive, and the connection goes on."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from kubecore.apiserver.server import APIServer

from .serving import served

BODY = b"x" * (2 << 20)


class Refused:
    """A connection of HTTP/1.1 on which somebody without rights asks."""

    def __init__(self, server: APIServer) -> None:
        self._server = server

    async def answers(self, *requests: bytes) -> list[bytes]:
        """The status lines of the answers to requests that are written as a whole, one after the other."""
        context = ssl.create_default_context(cadata=self._server.authority.certificate.decode())
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.secure_port, ssl=context)
        found = []
        try:
            async with asyncio.timeout(30):
                for request in requests:
                    writer.write(request)
                    await writer.drain()
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
                    await reader.readexactly(int(length.partition(b":")[2]))
                    found.append(head.split(b"\r\n", 1)[0])
        finally:
            writer.close()
        return found


def request(method: str, path: str, body: bytes, *more: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *more, "", ""]
    return "\r\n".join(lines).encode() + body


async def test_who_has_no_right_hears_so_whatever_else_it_sends(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        maps = "/api/v1/namespaces/default/configmaps"
        forbidden, bad = b"HTTP/1.1 403 Forbidden", b"HTTP/1.1 401 Unauthorized"
        found = await Refused(server).answers(
            request("POST", maps, BODY),
            request("PUT", f"{maps}/a", BODY, "Authorization: Bearer bad"),
            request("GET", "/version", BODY),
            request("DELETE", maps, b""),
        )
    assert found == [forbidden, bad, b"HTTP/1.1 200 OK", forbidden]


async def test_who_asks_before_it_sends_need_not_send(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        asked = request("POST", "/api/v1/namespaces", b"", "Expect: 100-continue")
        asked = asked.replace(b"Content-Length: 0", b"Content-Length: 3")
        assert await Refused(server).answers(asked) == [b"HTTP/1.1 403 Forbidden"]
