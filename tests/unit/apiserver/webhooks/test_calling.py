"""Calls of webhooks: whom they reach, whom they trust, and how long they wait."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from kubecore.apiserver.webhooks import calling
from kubecore.apiserver.webhooks.calling import ServiceTarget, Target, WebhookCaller, WebhookError
from kubecore.apiserver.webhooks.resolving import endpoint as endpoint_of
from kubecore.clock import RealClock, VirtualClock
from tests.support.conversion_webhook import ConversionWebhook, serving

JSON = dict[str, Any]


class Objects:
    """A Service `converter` in `tools`, and what slices say of its endpoints."""

    def __init__(self, *endpoints: JSON, port: int = 8443, **spec: Any) -> None:
        self.service = {"spec": {"type": "ClusterIP", "ports": [{"name": "https", "port": 443}], **spec}}
        self.slice = {"ports": [{"name": "https", "port": port}], "endpoints": list(endpoints)}

    def get(self, resource_key: str, namespace: str, name: str) -> JSON | None:
        assert resource_key == "services"
        return self.service if (namespace, name) == ("tools", "converter") else None

    def list(self, resource_key: str, namespace: str = "", label_selector: str = "") -> list[JSON]:
        assert (namespace, label_selector) == ("tools", "kubernetes.io/service-name=converter")
        return [self.slice]


def endpoint(address: str, ready: bool = True) -> JSON:
    return {"addresses": [address], "conditions": {"ready": ready}}


def echo(review: JSON) -> JSON:
    return review


@pytest.mark.parametrize(
    ("target", "address"),
    [
        (Target(url="https://127.0.0.1:8443"), "https://127.0.0.1:8443/"),
        (Target(url="https://127.0.0.1:8443//mutate-pods"), "https://127.0.0.1:8443/mutate-pods"),
        (Target(url="https://[::1]:8443/a/./b/../c/"), "https://[::1]:8443/a/c"),
        (Target(service=ServiceTarget("tools", "converter")), "https://converter.tools.svc:443/"),
        (Target(service=ServiceTarget("tools", "converter", path="/a//b/")), "https://converter.tools.svc:443/a/b"),
    ],
)
def test_paths_are_put_together_as_gos_clients_do(target: Target, address: str) -> None:
    assert target.address(9.5) == f"{address}?timeout=10s"


async def test_a_service_is_called_at_a_ready_endpoint_under_its_own_name() -> None:
    webhook = ConversionWebhook(answer=echo, names=("converter.tools.svc",))
    async with serving(webhook):
        objects = Objects(endpoint("192.0.2.1", ready=False), endpoint("127.0.0.1"), port=webhook.port)
        caller = WebhookCaller(objects, RealClock())
        target = Target(service=ServiceTarget("tools", "converter", path="/convert"), ca_bundle=webhook.ca_bundle)
        assert await caller.post(target, b'{"a":1}', timeout_seconds=5) == b'{"a": 1}'
        await caller.close()


async def test_calls_one_after_the_other_share_a_connection() -> None:
    connections: list[object] = []

    class Watched(ConversionWebhook):
        async def handle(self, request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            connections.append(request.transport.get_extra_info("peername"))
            return await super().handle(request)

    webhook = Watched(answer=echo)
    async with serving(webhook):
        caller = WebhookCaller(Objects(), RealClock())
        target = Target(url=webhook.url, ca_bundle=webhook.ca_bundle)
        for _ in range(3):
            await caller.post(target, b"{}", timeout_seconds=5)
        await caller.close()
    assert len(connections) == 3
    assert len(set(connections)) == 1


async def test_a_certificate_for_another_name_is_not_trusted() -> None:
    webhook = ConversionWebhook(answer=echo, names=("other.tools.svc",))
    async with serving(webhook):
        caller = WebhookCaller(Objects(endpoint("127.0.0.1"), port=webhook.port), RealClock())
        target = Target(service=ServiceTarget("tools", "converter", path="/convert"), ca_bundle=webhook.ca_bundle)
        with pytest.raises(WebhookError, match="failed to verify certificate"):
            await caller.post(target, b"{}", timeout_seconds=5)
        await caller.close()
    assert webhook.reviews == []


@pytest.mark.parametrize(
    ("objects", "port", "message"),
    [
        (Objects(endpoint("192.0.2.1", ready=False)), 443, 'no endpoints available for service "converter"'),
        (Objects(endpoint("192.0.2.1")), 80, 'no service port 80 found for service "converter"'),
    ],
)
def test_a_service_that_cannot_be_reached_says_why(objects: Objects, port: int, message: str) -> None:
    with pytest.raises(OSError, match=message):
        endpoint_of(objects, "converter.tools.svc", port)


def test_an_unknown_service_is_not_found() -> None:
    with pytest.raises(OSError, match='service "nobody" not found'):
        endpoint_of(Objects(), "nobody.tools.svc", 443)


async def test_a_webhook_that_does_not_answer_is_given_up_in_time() -> None:
    given_up = asyncio.Event()

    async def handle(_: web.Request) -> web.StreamResponse:
        await given_up.wait()
        return web.Response()

    webhook = ConversionWebhook()
    webhook.handle = handle  # type: ignore[method-assign]
    async with serving(webhook):
        clock = VirtualClock()
        caller = WebhookCaller(Objects(), clock)
        call = asyncio.get_running_loop().create_task(
            caller.post(Target(url=webhook.url, ca_bundle=webhook.ca_bundle), b"{}", timeout_seconds=0.2)
        )
        # The limit is real time: what is outside takes that, however fast the cluster's passes. On a slow machine it is
        # over before the webhook has been asked.
        await clock.advance(3600)
        assert call.done()
        with pytest.raises(WebhookError, match=r'Post "https://.*/convert\?timeout=1s": context deadline exceeded'):
            await call
        given_up.set()
        await caller.close()


async def test_an_answer_without_end_is_cut() -> None:
    webhook = ConversionWebhook(answer=lambda _: web.Response(body=b"x" * (17 << 20)))
    async with serving(webhook):
        caller = WebhookCaller(Objects(), RealClock())
        with pytest.raises(WebhookError, match="larger than"):
            await caller.post(Target(url=webhook.url, ca_bundle=webhook.ca_bundle), b"{}", timeout_seconds=30)
        await caller.close()


STATUS = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": "not today", "code": 403}
ON_THE_SERVER = "an error on the server ({}) has prevented the request from succeeding"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda: web.Response(status=500, text='no "idea"'), ON_THE_SERVER.format(r'"no \"idea\""')),
        (lambda: web.json_response({"a": "b"}, status=502), ON_THE_SERVER.format('"unknown"')),
        (lambda: web.json_response(STATUS, status=500), "not today"),
        (lambda: web.Response(status=403, text="who are you?"), "who are you?"),
        (lambda: web.Response(status=418), "the server responded with the status code 418 but did not return more "),
    ],
)
async def test_a_webhook_that_fails_is_told_as_clients_in_go_tell_it(
    answer: Callable[[], web.Response], told: str
) -> None:
    webhook = ConversionWebhook(answer=lambda _: answer())
    async with serving(webhook):
        caller = WebhookCaller(Objects(), RealClock())
        with pytest.raises(WebhookError, match=f"^{re.escape(told)}"):
            await caller.post(Target(url=webhook.url, ca_bundle=webhook.ca_bundle), b"{}", timeout_seconds=30)
        await caller.close()


async def test_a_webhooks_cookies_are_not_kept() -> None:
    sent = []

    async def handle(request: web.Request) -> web.Response:
        sent.append(request.headers.get("Cookie"))
        return web.json_response({}, headers={"Set-Cookie": "a=b"})

    webhook = ConversionWebhook(names=("converter.tools.svc",))
    webhook.handle = handle  # type: ignore[method-assign]
    async with serving(webhook):
        caller = WebhookCaller(Objects(endpoint("127.0.0.1"), port=webhook.port), RealClock())
        target = Target(service=ServiceTarget("tools", "converter", path="/convert"), ca_bundle=webhook.ca_bundle)
        for _ in range(2):
            await caller.post(target, b"{}", timeout_seconds=30)
        await caller.close()
    assert sent == [None, None]


async def test_connections_that_are_used_stay_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "_CLIENTS", 2)
    ports = []

    async def handle(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername")[1])
        return web.json_response({})

    webhook = ConversionWebhook()
    webhook.handle = handle  # type: ignore[method-assign]
    async with serving(webhook):
        caller = WebhookCaller(Objects(), RealClock())
        pem = base64.b64decode(webhook.ca_bundle)
        one, two, three = (base64.b64encode(pem + b"\n" * blanks).decode() for blanks in range(3))
        for bundle in (one, two, one, three, one):
            await caller.post(Target(url=webhook.url, ca_bundle=bundle), b"{}", timeout_seconds=30)
        await caller.close()
    assert ports[0] == ports[2] == ports[4]
    assert len(set(ports)) == 3
