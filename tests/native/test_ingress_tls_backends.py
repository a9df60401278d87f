"""The Ingress proxy and destinations that speak TLS, with real sockets; answers that stall."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme

from tests.native.test_ingress_routing import Plane
from tests.support.http_peers import PATIENCE, Backend, Connection, connected, read_head, serving

AUTHORITY, STRANGER = trustme.CA(), trustme.CA()
ROOTS = AUTHORITY.cert_pem.bytes()


def server(name: str = "web.default.svc", *, authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    plane = Plane(connect_timeout=20.0)
    plane.route((False, "/", "web"))
    yield plane
    await asyncio.to_thread(plane.proxy.shutdown)


@pytest.fixture(params=["plain", "unusual"])
async def client(plane: Plane, request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    """Once a request was not plain, its connection is served by the full server instead of the relay."""
    async with connected(plane.port) as connection:
        if request.param == "unusual":
            assert (await connection.ask(host="nowhere", headers="TE: trailers\r\n")).status == 404
        yield connection


async def test_a_destination_is_spoken_to_in_tls_over_one_connection(plane: Plane, client: Connection) -> None:
    backend = Backend("x" * 50_000)
    async with serving(backend, tls=server()) as port:
        plane.lead("web", port, protocol="https", tls_name="web.default.svc", tls_roots=ROOTS)
        for _ in range(3):
            assert len((await client.ask()).body) == 50_000
    assert backend.connections == 1


async def test_the_name_is_asked_for(plane: Plane, client: Connection) -> None:
    asked: list[str | None] = []
    context = server()
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    async with serving(Backend(), tls=context) as port:
        plane.lead("web", port, protocol="https", tls_name="web.default.svc")
        assert (await client.ask()).status == 200
    assert asked == ["web.default.svc"]


@pytest.mark.parametrize(
    ("context", "verified"),
    [(server(authority=STRANGER), 502), (server("other.default.svc"), 502), (server(), 200)],
)
async def test_a_certificate_counts_only_where_it_is_verified(
    plane: Plane, client: Connection, context: ssl.SSLContext, verified: int
) -> None:
    async with serving(Backend(), tls=context) as port:
        plane.lead("web", port, protocol="https", tls_name="web.default.svc", tls_roots=ROOTS)
        assert (await client.ask()).status == verified
        plane.lead("web", port, protocol="https", tls_name="web.default.svc")
        assert (await client.ask()).status == 200


async def test_a_connection_that_was_not_verified_is_not_used_where_it_must_be(
    plane: Plane, client: Connection
) -> None:
    async with serving(Backend(), tls=server(authority=STRANGER)) as port:
        plane.lead("web", port, protocol="https", tls_name="web.default.svc")
        assert (await client.ask()).status == 200
        plane.lead("web", port, protocol="https", tls_name="web.default.svc", tls_roots=ROOTS)
        assert (await client.ask()).status == 502


async def test_a_certificate_of_our_own_is_shown_to_who_asks(plane: Plane, client: Connection) -> None:
    context = server()
    context.verify_mode = ssl.CERT_REQUIRED
    STRANGER.configure_trust(context)
    made = STRANGER.issue_cert("ingress")
    identity = (made.cert_chain_pems[0].bytes(), made.private_key_pem.bytes())
    async with serving(Backend(), tls=context) as port:
        plane.lead("web", port, protocol="https", tls_name="web.default.svc", tls_identity=identity)
        assert (await client.ask()).status == 200


@pytest.mark.parametrize("wrong", [{"tls_name": "not a name"}, {"tls_name": "a", "tls_roots": b"nonsense"}])
def test_terms_that_cannot_be_kept_are_refused(wrong: dict[str, object]) -> None:
    plane = Plane()
    with pytest.raises(ValueError, match=r"name|certificate"):
        plane.lead("web", 1, protocol="https", **wrong)
    plane.proxy.shutdown()


# ---------------------------------------------------------------- stalls
async def test_an_answer_that_never_begins_times_out_by_its_backend_s_own_limit(
    plane: Plane, client: Connection
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as port:
        plane.lead("web", port, read_timeout=0.2)
        assert (await client.ask()).status == 504


@pytest.mark.parametrize("framing", ["Content-Length: 100\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n64\r\n"])
async def test_an_answer_that_stalls_is_cut(plane: Plane, client: Connection, framing: str) -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(f"HTTP/1.1 200 OK\r\n{framing}half".encode())
        await reader.read()

    async with serving(stall) as port:
        plane.lead("web", port, read_timeout=5.0)  # in which the first half comes, on a slow machine too
        await client.send("GET / HTTP/1.1\r\nHost: foo.com\r\n\r\n")
        await asyncio.wait_for(client.reader.readuntil(b"half"), PATIENCE)
        assert (await client.rest()).strip() == b""
