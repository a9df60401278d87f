"""Refusals of requests whose body nobody reads: they arrive, and the connection goes on."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubecore import _native
from kubecore.apiserver.authentication.pki import CertificateAuthority
from kubecore.clock import RealClock

BODY = b"x" * (2 << 20)
MAPS = "/api/v1/namespaces/default/configmaps"
FORBIDDEN, UNAUTHORIZED, OK = (f"HTTP/1.1 {told}".encode() for told in ("403 Forbidden", "401 Unauthorized", "200 OK"))


class Listener:
    """A front over TLS on which anybody may ask, and nobody may do anything until `allow`."""

    def __init__(self, folder: Path) -> None:
        authority = CertificateAuthority(folder, RealClock())
        pair = authority.serving("front", ["127.0.0.1"])
        # However slow the machine: what is sent has to be read.
        self.front = _native.Front(_native.WatchCache(), unwanted_body_timeout=60.0)
        self.front.set_ready(True)
        self._port = self.front.listen_tls("127.0.0.1", 0, _native.ServingCertificate(pair.certificate, pair.key))
        self._trust = ssl.create_default_context(cadata=authority.certificate.decode())

    def allow(self) -> None:
        self.front.authorizer().set_modes(["AlwaysAllow"])

    async def answers(self, *requests: bytes) -> list[bytes]:
        """The status lines of the answers to requests that one connection of HTTP/1.1 writes as a whole, one after the
        other."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._trust)
        found = []
        try:
            async with asyncio.timeout(60):
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


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path)
    yield made
    made.front.shutdown(0)


def request(method: str, path: str, body: bytes, *more: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *more, "", ""]
    return "\r\n".join(lines).encode() + body


async def test_who_has_no_right_hears_so_whatever_else_it_sends(listener: Listener) -> None:
    found = await listener.answers(
        request("POST", MAPS, BODY),
        request("PUT", f"{MAPS}/a", BODY, "Authorization: Bearer bad"),
        request("DELETE", MAPS, b""),
    )
    assert found == [FORBIDDEN, UNAUTHORIZED, FORBIDDEN]


async def test_what_is_answered_without_its_body_is_answered_all_the_same(listener: Listener) -> None:
    listener.allow()
    assert await listener.answers(*[request("GET", "/version", BODY)] * 2) == [OK, OK]


async def test_who_asks_before_it_sends_need_not_send(listener: Listener) -> None:
    asked = request("POST", "/api/v1/namespaces", b"", "Expect: 100-continue")
    asked = asked.replace(b"Content-Length: 0", b"Content-Length: 3")
    assert await listener.answers(asked) == [FORBIDDEN]
