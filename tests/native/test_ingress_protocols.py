"""TLS, HTTP/2, gRPC and WebSockets through the Ingress proxy, with real clients."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator
from concurrent import futures
from dataclasses import dataclass

import grpc
import httpx
import pytest
import trustme

from kubecore._native import IngressCertificate
from tests.native.test_ingress_routing import Plane
from tests.support.http_peers import PATIENCE, Backend, Connection, connected, read_head, serving
from tests.support.ports import free_port


@dataclass
class Secure:
    plane: Plane
    authority: trustme.CA
    port: int

    def certificate(self, *names: str) -> IngressCertificate:
        made = self.authority.issue_cert(*names)
        return IngressCertificate(made.cert_chain_pems[0].bytes(), made.private_key_pem.bytes())

    def context(self, *protocols: str) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if protocols:
            context.set_alpn_protocols(protocols)
        return context

    async def shown(self, name: str) -> list[str]:
        """The names in the certificate that is shown to who asks for `name`."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        context.check_hostname = False
        async with connected(self.port, ssl=context, server_hostname=name) as client:
            found = client.writer.get_extra_info("peercert")
        return [value for _, value in found["subjectAltName"]]


@pytest.fixture
async def secure() -> AsyncIterator[Secure]:
    plane = Plane()
    plane.route((False, "/", "web"))
    made = Secure(plane, trustme.CA(), plane.proxy.listen("127.0.0.1", 0, tls=True))
    yield made
    await asyncio.to_thread(plane.proxy.shutdown)


async def test_the_certificate_is_chosen_by_the_name_asked_for(secure: Secure) -> None:
    hosts = [("foo.com", secure.certificate("foo.com")), ("*.foo.com", secure.certificate("*.foo.com"))]
    secure.plane.proxy.set_certificates(hosts, secure.certificate("default.local"))
    assert await secure.shown("foo.com") == ["foo.com"]
    assert await secure.shown("www.foo.com") == ["*.foo.com"]
    assert await secure.shown("a.b.foo.com") == ["default.local"]
    assert await secure.shown("bar.com") == ["default.local"]


async def test_a_new_certificate_is_shown_from_the_next_connection_on(secure: Secure) -> None:
    secure.plane.proxy.set_certificates([("foo.com", secure.certificate("foo.com", "old.com"))])
    async with (
        serving(Backend("hello")) as port,
        connected(secure.port, ssl=secure.context(), server_hostname="foo.com") as client,
    ):
        secure.plane.lead("web", port)
        assert (await client.ask()).text == "hello"
        secure.plane.proxy.set_certificates([("foo.com", secure.certificate("foo.com", "new.com"))])
        assert (await client.ask()).text == "hello"
    assert "new.com" in await secure.shown("foo.com")


def test_a_certificate_must_be_whole_and_its_keys_own() -> None:
    authority = trustme.CA()
    one, other = authority.issue_cert("a"), authority.issue_cert("b")
    chain, key = one.cert_chain_pems[0].bytes(), one.private_key_pem.bytes()
    for broken in ((b"", key), (chain, b""), (b"nonsense", key), (chain, other.private_key_pem.bytes())):
        with pytest.raises(ValueError):
            IngressCertificate(*broken)


async def test_plain_http_at_the_port_for_https_is_told_so(secure: Secure) -> None:
    secure.plane.proxy.set_certificates([], secure.certificate("default.local"))
    async with connected(secure.port) as client:
        await client.send("GET / HTTP/1.1\r\nHost: foo.com\r\n\r\n")
        told = await client.rest()
    assert told == b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


async def test_destinations_learn_that_it_was_https(secure: Secure) -> None:
    backend = Backend()
    secure.plane.proxy.set_certificates([("foo.com", secure.certificate("foo.com"))])
    async with (
        serving(backend) as port,
        connected(secure.port, ssl=secure.context(), server_hostname="foo.com") as client,
    ):
        secure.plane.lead("web", port)
        await client.ask()
    told = backend.heads[0].headers
    assert (told["x-forwarded-proto"], told["x-forwarded-port"]) == ("https", str(secure.port))


async def test_http2_to_clients_is_http1_to_destinations(secure: Secure) -> None:
    backend = Backend("hello")
    secure.plane.proxy.set_certificates([("localhost", secure.certificate("localhost"))])
    secure.plane.route((False, "/", "web"), host="localhost")
    async with serving(backend) as port, httpx.AsyncClient(http1=False, http2=True, verify=secure.context()) as client:
        secure.plane.lead("web", port)
        url = f"https://localhost:{secure.port}/x"
        # This client may not send to a stream that is answered already: alone, it does not notice.
        answers = [
            await client.post(url, content=b"body"),
            *await asyncio.gather(*(client.get(url) for _ in range(20))),
        ]
    assert {(one.status_code, one.http_version, one.text) for one in answers} == {(200, "HTTP/2", "hello")}
    assert backend.heads[0].line == "POST /x HTTP/1.1"
    assert backend.heads[0].headers["host"] == f"localhost:{secure.port}"
    assert backend.bodies == [b"body"] + [b""] * 20


# ---------------------------------------------------------------- gRPC
ECHO, STREAM = "/test.Echo/Say", "/test.Echo/Repeat"


class EchoService(grpc.GenericRpcHandler):
    """Says what it was told; repeats it; refuses what is bad. Trailers tell how often it was asked."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method == ECHO:
            return grpc.unary_unary_rpc_method_handler(self.say)
        return grpc.stream_stream_rpc_method_handler(self.repeat) if details.method == STREAM else None

    def say(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("x-said", "1"),))
        if request == b"bad":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "that is bad")
        return request

    def repeat(self, requests: object, context: grpc.ServicerContext) -> object:
        yield from requests  # type: ignore[misc]


@pytest.fixture
def echo_port() -> object:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((EchoService(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.mark.parametrize("tls", [False, True])
async def test_grpc_goes_through_with_its_trailers(secure: Secure, echo_port: int, tls: bool) -> None:
    secure.plane.lead("web", echo_port, protocol="h2c")
    secure.plane.route((False, "/test.Echo", "web"), host="localhost")
    secure.plane.proxy.set_certificates([("localhost", secure.certificate("localhost"))])
    roots = grpc.ssl_channel_credentials(secure.authority.cert_pem.bytes())
    port = secure.port if tls else secure.plane.port
    target = f"localhost:{port}"
    async with grpc.aio.secure_channel(target, roots) if tls else grpc.aio.insecure_channel(target) as channel:
        call = channel.unary_unary(ECHO)(b"hello", timeout=PATIENCE)
        assert await call == b"hello"
        assert ("x-said", "1") in tuple(await call.trailing_metadata())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(ECHO)(b"bad", timeout=PATIENCE)
        assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "that is bad")
        talk = channel.stream_stream(STREAM)(timeout=PATIENCE)
        for word in (b"one", b"two"):
            await talk.write(word)
            assert await talk.read() == word
        await talk.done_writing()
        assert await talk.read() is grpc.aio.EOF


async def test_grpc_finds_another_destination_when_one_refuses(secure: Secure, echo_port: int) -> None:
    secure.plane.lead("web", free_port(), echo_port, free_port(), protocol="h2c")
    secure.plane.route((False, "/", "web"), host="localhost")
    async with grpc.aio.insecure_channel(f"localhost:{secure.plane.port}") as channel:
        for _ in range(6):
            assert await channel.unary_unary(ECHO)(b"hello", timeout=PATIENCE) == b"hello"


# ---------------------------------------------------------------- WebSockets
def accept_key(key: str) -> str:
    guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return base64.b64encode(hashlib.sha1((key + guid).encode()).digest()).decode()


async def websocket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept an upgrade, and echo raw bytes."""
    head = await read_head(reader)
    assert (head.headers["upgrade"], head.headers["connection"].lower()) == ("websocket", "upgrade")
    key = accept_key(head.headers["sec-websocket-key"])
    switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(f"{switch}Sec-WebSocket-Accept: {key}\r\n\r\n".encode())
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


UPGRADE = (
    "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: abc\r\nSec-WebSocket-Version: 13\r\n"
)


async def upgraded(client: Connection) -> None:
    await client.send(f"GET /ws HTTP/1.1\r\nHost: foo.com\r\n{UPGRADE}\r\n")
    answer = await client.receive(body=False)
    assert answer.status == 101
    assert answer.headers["sec-websocket-accept"] == accept_key("abc")


async def test_websockets_go_through(secure: Secure) -> None:
    async with serving(websocket) as port:
        secure.plane.lead("web", free_port(), port)
        async with connected(secure.plane.port) as client:
            await upgraded(client)
            for word in (b"hello", b"x" * 200_000):
                await client.send(word)
                assert await asyncio.wait_for(client.reader.readexactly(len(word)), PATIENCE) == word
            client.writer.write_eof()
            assert await client.rest() == b""
    assert secure.plane.proxy.statistics()["upgraded"] == 1


async def test_websockets_live_on_when_their_route_goes_and_end_with_the_proxy(secure: Secure) -> None:
    async with serving(websocket) as port, connected(secure.plane.port) as client:
        secure.plane.lead("web", port)
        await upgraded(client)
        secure.plane.proxy.set_hosts([("foo.com", None)])
        secure.plane.proxy.remove_backend("web")
        await client.send(b"still here")
        assert await asyncio.wait_for(client.reader.readexactly(10), PATIENCE) == b"still here"
        await asyncio.to_thread(secure.plane.proxy.shutdown)
        assert await client.rest() == b""


async def test_a_refused_upgrade_is_an_ordinary_answer(secure: Secure) -> None:
    async with serving(Backend("not here")) as port, connected(secure.plane.port) as client:
        secure.plane.lead("web", port)
        answer = await client.ask("/ws", headers=UPGRADE)
        assert (answer.status, answer.text) == (200, "not here")
        assert (await client.ask("/")).status == 200
