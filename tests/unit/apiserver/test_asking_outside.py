"""Whoever asks another server in virtual time waits for it in real time, and virtual time waits too."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
import trustme

from kubecore.apiserver.aggregation.asking import Asker
from kubecore.apiserver.aggregation.availability import AGGREGATOR
from kubecore.apiserver.aggregation.remotes import Backend
from kubecore.apiserver.authentication.issuer_metrics import IssuerMetrics
from kubecore.apiserver.authentication.oidc import Issuer, Unreachable
from kubecore.apiserver.webhooks.calling import Target, WebhookCaller
from kubecore.apiserver.webhooks.reviewing import Reviewer
from kubecore.client.kubeconfig import Kubeconfig
from kubecore.clock import VirtualClock
from tests.support.http_peers import read_body, read_head, serving


class Server(NamedTuple):
    port: int
    authority: bytes

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/"


async def by_webhook(server: Server, clock: VirtualClock) -> None:
    caller = WebhookCaller(None, clock)  # type: ignore[arg-type]
    bundle = base64.b64encode(server.authority).decode()
    await caller.post(Target(url=server.url, ca_bundle=bundle), b"{}", timeout_seconds=30)
    await caller.close()


async def by_review(server: Server, clock: VirtualClock) -> None:
    reviewer = Reviewer(Kubeconfig(server=server.url, certificate_authority=server.authority), clock)
    await reviewer.send(b"{}")
    await reviewer.close()


async def by_issuer(server: Server, clock: VirtualClock) -> None:
    issuer = Issuer(server.url, clock, IssuerMetrics(clock), ca=server.authority.decode())
    try:
        await issuer.fetch()
    finally:
        await issuer.close()


async def by_aggregator(server: Server, clock: VirtualClock) -> None:
    class Identity:
        def context(self, backend: Backend) -> ssl.SSLContext:
            return ssl.create_default_context(cadata=server.authority.decode())

    asker = Asker(Identity(), lambda _: f"127.0.0.1:{server.port}", clock)  # type: ignore[arg-type, return-value]
    await asker.ask(Backend("ns", "api", 443), "/apis", AGGREGATOR, seconds=5)
    await asker.close()


@pytest.mark.parametrize("ask", [by_webhook, by_review, by_issuer, by_aggregator])
async def test_an_answer_comes_in_time_however_much_virtual_time_is_to_pass(
    ask: Callable[[Server, VirtualClock], Awaitable[None]],
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_body(reader, await read_head(reader))
            asked.set()
            await go_on.wait()
            body = b'{"issuer": "", "keys": []}'
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()

    authority, clock = trustme.CA(), VirtualClock()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "api.ns.svc").configure_cert(context)
    async with serving(handle, tls=context) as port:
        call: asyncio.Future[Any] = asyncio.ensure_future(ask(Server(port, authority.cert_pem.bytes()), clock))
        passing = asyncio.create_task(clock.advance(3600))
        await asked.wait()
        for _ in range(300):
            await asyncio.sleep(0)
        assert clock.monotonic() == 0
        go_on.set()
        await passing
        [told] = await asyncio.gather(call, return_exceptions=True)
    # The issuer is not content with the answer, but it has it.
    assert told is None or "issuer did not match" in str(told)


async def review(server: Server, clock: VirtualClock) -> None:
    reviewer = Reviewer(Kubeconfig(server=server.url, certificate_authority=server.authority), clock)
    try:
        assert (await reviewer.review({"apiVersion": "v1", "kind": "Review"}))["keys"] == []
    finally:
        await reviewer.close()


async def call(server: Server, clock: VirtualClock) -> None:
    caller = WebhookCaller(None, clock)  # type: ignore[arg-type]
    bundle = base64.b64encode(server.authority).decode()
    try:
        assert await caller.post(Target(url=server.url, ca_bundle=bundle), b"{}", timeout_seconds=30) == BODY
    finally:
        await caller.close()


async def look(server: Server, clock: VirtualClock) -> None:
    # It has read in the document whose it is.
    with pytest.raises(Unreachable, match="issuer did not match"):
        await by_issuer(server, clock)


# More than comes with one read of a socket.
BODY = b'{"apiVersion": "v1", "kind": "Review", "issuer": "", "keys": [], "more": "%b"}' % (b"x" * (768 << 10))


@pytest.mark.parametrize("ask", [review, call, look])
async def test_an_answer_that_comes_in_several_pieces_is_read_to_its_end(
    ask: Callable[[Server, VirtualClock], Awaitable[None]],
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(reader, await read_head(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        writer.write(BODY)
        await writer.drain()

    authority, clock = trustme.CA(), VirtualClock()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with serving(handle, tls=context) as port:
        await ask(Server(port, authority.cert_pem.bytes()), clock)
