"""Who learns of resolvers that do not answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kubecore.dns.resolvers import ResolverTroubles
from kubecore.dns.responder import DnsResponder
from tests.support.ports import free_port
from tests.unit.dns.conftest import Dns

KUBE_DNS = {"metadata": {"namespace": "kube-system", "name": "kube-dns", "uid": "1"}}
DOWN, SILENT = "192.0.2.1:53", "192.0.2.2:53"


class Native:
    def __init__(self) -> None:
        self.told: dict[str, str] = {}

    def troubles(self) -> dict[str, str]:
        return dict(self.told)


class Recorder:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, str, str]] = []

    def event(self, obj: dict[str, Any], kind: str, reason: str, message: str) -> None:
        self.events.append((obj["metadata"]["name"], kind, reason, message))


class Services:
    def __init__(self, *services: dict[str, Any]) -> None:
        self.services = services

    def get(self, key: str) -> dict[str, Any] | None:
        return next((one for one in self.services if key == "kube-system/kube-dns"), None)


def troubles(*services: dict[str, Any]) -> tuple[Native, Recorder, ResolverTroubles]:
    native, recorder = Native(), Recorder()
    return native, recorder, ResolverTroubles(native, Services(*services), recorder)  # type: ignore[arg-type]


def test_each_is_an_event_once_for_as_long_as_it_lasts_and_another_when_it_is_over() -> None:
    native, recorder, told = troubles(KUBE_DNS)
    native.told = {DOWN: "Connection refused"}
    told.tell()
    native.told = {DOWN: "Connection refused", SILENT: "no answer within 2 s"}
    told.tell()
    native.told = {SILENT: "no answer within 2 s"}
    told.tell()
    assert recorder.events == [
        ("kube-dns", "Warning", "ResolverUnreachable", f"resolver {DOWN} does not answer: Connection refused"),
        ("kube-dns", "Warning", "ResolverUnreachable", f"resolver {SILENT} does not answer: no answer within 2 s"),
        ("kube-dns", "Normal", "ResolverReachable", f"resolver {DOWN} answers again, or is asked no more"),
    ]


def test_without_the_service_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    native, recorder, told = troubles()
    native.told = {DOWN: "Connection refused"}
    told.tell()
    assert recorder.events == []
    assert f"resolver {DOWN} does not answer: Connection refused" in caplog.text


@pytest.fixture
async def down() -> AsyncIterator[str]:
    yield f"127.0.0.1:{free_port()}"


async def test_a_responder_tells_as_soon_as_a_client_has_been_denied(
    dns: Dns, down: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = asyncio.Event()
    tell = ResolverTroubles.tell

    def listen(self: ResolverTroubles) -> None:
        tell(self)
        heard.set()

    monkeypatch.setattr(ResolverTroubles, "tell", listen)
    dns.responder = dns.make(upstreams=(down,))
    dns.api.add("services", KUBE_DNS)
    await dns.start()
    await ask(dns.responder)
    async with asyncio.timeout(60):
        await heard.wait()
    await dns.clock.settle()
    (event,) = dns.api.all("events")
    assert (event["reason"], event["involvedObject"]["name"]) == ("ResolverUnreachable", "kube-dns")
    assert event["message"].startswith(f"resolver {down} does not answer: Connection refused")


async def ask(responder: DnsResponder) -> None:
    """For a name outside the cluster; the answer may be lost."""
    port = responder.listen(["127.0.0.1"], 0)
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(("127.0.0.1", port))
        await loop.sock_sendall(client, b"\0\7\1\0\0\1\0\0\0\0\0\0\7example\3org\0\0\1\0\1")
        async with asyncio.timeout(60):
            assert (await loop.sock_recv(client, 512))[3] & 15 == 2
