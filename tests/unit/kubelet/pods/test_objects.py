"""What pods refer to is watched while one of them needs it, by a right that the last of them takes along."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import pytest

from kubecore.api import errors
from kubecore.api.errors import StatusError
from kubecore.client.client import Client
from kubecore.client.transport import Event
from kubecore.clock import VirtualClock
from kubecore.kubelet.pods.objects import ReferencedObjects
from tests.support.fake_api import FakeAPI


def pod(uid: str) -> dict[str, Any]:
    container = {"name": "main", "envFrom": [{"secretRef": {"name": "password"}}]}
    return {"metadata": {"name": uid, "namespace": "default", "uid": uid}, "spec": {"containers": [container]}}


def secret(value: str) -> dict[str, Any]:
    return {"data": {"key": base64.b64encode(value.encode()).decode()}}


class Kubelet:
    """What a kubelet asks of an API server that it may lose its right with."""

    def __init__(self, api: FakeAPI) -> None:
        self._api = api
        self.has_right = True
        self.asked = 0

    def _judge(self) -> None:
        self.asked += 1
        if not self.has_right:
            raise errors.forbidden("", "secrets", "password", "no relationship found")

    async def request(self, *arguments: Any, **more: Any) -> tuple[int, bytes]:
        try:
            self._judge()
        except StatusError as refused:
            return refused.code, refused.to_json()
        return await self._api.request(*arguments, **more)

    async def watch(self, path: str, *, query: Mapping[str, str] | None = None) -> AsyncGenerator[list[Event], None]:
        self._judge()
        async for batch in self._api.watch(path, query=query):
            yield batch

    async def close(self) -> None:
        await self._api.close()


@pytest.fixture
def kubelet(api: FakeAPI) -> Kubelet:
    api.add("secrets", {"metadata": {"name": "password"}, **secret("old")})
    return Kubelet(api)


@pytest.fixture
async def objects(kubelet: Kubelet, clock: VirtualClock) -> AsyncIterator[ReferencedObjects]:
    made = ReferencedObjects(Client(kubelet, field_manager="test"), clock, lambda uid: None)
    yield made
    await made.close()


async def lose(kubelet: Kubelet, api: FakeAPI, clock: VirtualClock) -> None:
    """As a node does whose pod is deleted by force while its containers take their time."""
    await clock.settle()
    kubelet.has_right = False
    api.end_watches()
    await clock.advance(300)


async def test_a_pod_that_comes_after_the_right_was_lost_begins_with_what_is_there_now(
    api: FakeAPI, clock: VirtualClock, kubelet: Kubelet, objects: ReferencedObjects
) -> None:
    """It has the right anew; who was refused for the former one would try again half a minute later or so."""
    await objects.use(pod("ending"))
    await lose(kubelet, api, clock)
    api.change("secrets", "password", **secret("new"))
    kubelet.has_right = True
    began = clock.monotonic()
    await objects.use(pod("next"))
    found = objects.get("secrets", "default", "password")
    assert found is not None and found["data"] == secret("new")["data"]
    assert clock.monotonic() == began


async def test_a_kubelet_that_has_lost_the_right_asks_ever_less_and_tells_nobody(
    api: FakeAPI, clock: VirtualClock, kubelet: Kubelet, objects: ReferencedObjects, caplog: pytest.LogCaptureFixture
) -> None:
    """What it knows is there for the pod that ends, and with that one's end it asks no more."""
    caplog.set_level("INFO")
    await objects.use(pod("ending"))
    await lose(kubelet, api, clock)
    assert objects.get("secrets", "default", "password") is not None
    before = kubelet.asked
    await clock.advance(600)
    assert 10 <= kubelet.asked - before <= 20
    assert caplog.records == []
    await objects.release("ending")
    before = kubelet.asked
    await clock.advance(600)
    assert kubelet.asked == before
