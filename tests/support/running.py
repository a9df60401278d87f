"""A component of the cluster under test: it follows an API server in memory, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from tests.support.fake_api import FakeAPI


class RunningComponent:
    """`resources` are those of the kinds that `add` is given."""

    resources: dict[str, str]

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.api = FakeAPI(self.clock)
        self._task: asyncio.Task[None] | None = None

    async def run(self, component: Coroutine[Any, Any, None]) -> None:
        """Start it, and let it become ready."""
        self._task = asyncio.create_task(component)
        await self.settle()

    async def settle(self) -> None:
        await self.clock.advance(0.1)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def add(self, *objects: Object) -> None:
        for obj in objects:
            self.api.add(self.resources[obj["kind"]], obj)
        await self.settle()
