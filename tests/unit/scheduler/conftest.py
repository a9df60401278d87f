"""A scheduler that runs against a fake API in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.clock import Clock, VirtualClock
from kubecore.scheduler.extender import Extender, ExtenderConfig, HTTPExtender
from kubecore.scheduler.framework import Plugin
from kubecore.scheduler.plugins import BUILT_IN, DEFAULT, Factory
from kubecore.scheduler.profiles import Enabled, ProfileConfig
from kubecore.scheduler.scheduler import Scheduler, SchedulerConfig
from tests.support.fake_api import FakeAPI
from tests.unit.scheduler.builders import node, pod


def with_plugins(*names: str) -> tuple[Enabled, ...]:
    """The default plugins and some more, at all their extension points."""
    return tuple(map(Enabled, (*DEFAULT, *names)))


class HeldAPI(FakeAPI):
    """An API whose bindings of some pods, or of all, hang until they are let go."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.begun: list[str] = []
        self._free = asyncio.Event()
        self._free.set()
        self._held: tuple[str, ...] = ()

    def hold(self, *pods: str) -> None:
        self._held = pods
        self._free.clear()

    def let_go(self) -> None:
        self._free.set()

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, bytes]:
        if path.endswith("/binding"):
            name = path.split("/")[-2]
            self.begun.append(name)
            if not self._held or name in self._held:
                await self._free.wait()
        return await super().request(method, path, **options)


class Running:
    """What the tests do to the cluster, and what they see of it."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.api = HeldAPI(self.clock)
        self._informers = self.api.informers()
        self._task: asyncio.Task[None] | None = None
        self.scheduler: Scheduler | None = None

    async def start(
        self,
        *extra: Plugin,
        config: SchedulerConfig | None = None,
        registry: Mapping[str, Factory] | None = None,
        make_extender: Callable[[ExtenderConfig, Clock], Extender] = HTTPExtender,
    ) -> None:
        """With `extra` plugins in the default profile, or as `config` says; `registry` makes plugins that it names."""
        self._informers = informers = self.api.informers()
        added: dict[str, Factory] = {plugin.name: lambda *_, made=plugin: made for plugin in extra}
        config = config or SchedulerConfig(profiles=(ProfileConfig(multi_point=with_plugins(*added)),))
        client = self.api.client("kube-scheduler")
        known = {**BUILT_IN, **added, **(registry or {})}
        self.scheduler = Scheduler(
            client, self.clock, config, informers=informers, registry=known, make_extender=make_extender
        )
        self._task = asyncio.create_task(self.scheduler.run())
        await self.settle()

    async def settle(self) -> None:
        """Let everything happen that needs no pause of a second."""
        await self.clock.advance(0.3)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._informers.stop()

    # ------------------------------------------------------------------ the cluster
    async def add_node(self, name: str = "n", **fields: Any) -> None:
        self.api.add("nodes", node(name, **fields))
        await self.settle()

    async def add_pod(self, name: str = "p", **fields: Any) -> None:
        made = pod(name, **fields)
        del made["metadata"]["uid"]
        self.api.add("pods", made)
        await self.settle()

    # ------------------------------------------------------------------ seeing
    def pod(self, name: str = "p") -> Object:
        found = self.api.get("pods", name)
        assert found is not None
        return found

    def node_of(self, name: str = "p") -> str:
        return str(self.pod(name)["spec"].get("nodeName", ""))

    def condition(self, name: str = "p") -> Object:
        return meta.condition(self.pod(name), "PodScheduled") or {}

    def events(self, reason: str) -> list[str]:
        """Messages in order, each as often as it was told."""
        found = sorted(self.api.all("events"), key=lambda event: event["eventTime"])
        return [
            one["message"]
            for one in found
            for _ in range((one.get("series") or {"count": 1})["count"])
            if one["reason"] == reason
        ]

    def bindings(self) -> list[str]:
        """Pod and node of each attempt."""
        tries = self.api.writes("create pods/binding")
        return [f"{one.name} {one.body['target']['name']}" for one in tries]


@pytest.fixture
async def cluster() -> AsyncIterator[Running]:
    running = Running()
    yield running
    await running.stop()
