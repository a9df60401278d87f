"""A fake API with some objects in it, and controllers that run against it in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.base import Controller, ControllerContext
from tests.support.fake_api import FakeAPI

Start = Callable[..., None]


class Running:
    """Controllers under test; `settle` lets them work off everything that is due now."""

    def __init__(self, api: FakeAPI, clock: VirtualClock) -> None:
        self.api = api
        self.clock = clock
        self.context = ControllerContext(api.client("kube-controller-manager"), clock, api.informers())
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, *controllers: Controller) -> None:
        await self.context.informers.start()
        self._tasks += [asyncio.create_task(one.run(), name=one.name) for one in controllers]
        await self.settle()

    async def settle(self) -> None:
        # a write, its event and its consequence take some turns, and a retry a few milliseconds
        await self.clock.advance(0.5)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.context.informers.stop()


@pytest.fixture
async def running(api: FakeAPI, clock: VirtualClock) -> AsyncIterator[Running]:
    one = Running(api, clock)
    yield one
    await one.stop()


def template(image: str = "app:1", **labels: str) -> Object:
    return {"metadata": {"labels": labels or {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}


def make_ready(api: FakeAPI, name: str, namespace: str = "default", *, ip: str = "10.0.0.1", at: str = "") -> None:
    """What the kubelet reports of a pod that runs and is ready."""
    since = at or api.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": since}]
    api.change(
        "pods",
        name,
        namespace,
        status={"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions},
    )


def names(objects: list[Object]) -> list[str]:
    return sorted(obj["metadata"]["name"] for obj in objects)


def events(api: FakeAPI, reason: str = "") -> list[str]:
    """Messages of the events recorded, in order."""
    found = sorted(api.all("events"), key=lambda event: int(event["metadata"]["resourceVersion"]))
    return [event["message"] for event in found if not reason or event["reason"] == reason]
