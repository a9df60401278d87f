"""A control plane in virtual time whose parts can be killed and started again: the real API server and store,
controller manager, scheduler and simulated nodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.client.client import Client
from kubecore.clock import VirtualClock
from kubecore.controllers.manager import ControllerManager
from kubecore.kubelet.simulated.fleet import FleetConfig, SimulatedFleet
from kubecore.scheduler.scheduler import Scheduler

Object = dict[str, Any]
PARTS = ("controllers", "scheduler", "nodes")


class Part(Protocol):
    async def run(self) -> None: ...


class World:
    """`start` first; `stop` at the end. Time passes only by `advance`."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.clock = VirtualClock()
        self._folder = folder
        self._nodes = tuple(f"node-{number}" for number in range(nodes))
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        config = APIServerConfig(data_dir=self._folder, secure_port=0, storage=LMDBConfig(sync=False))
        self._server = APIServer(config, self.clock)
        await self.clock.drive(self._server.start())
        self.client = self._client("admin")
        for part in PARTS:
            self.launch(part)
        await self.advance(5)

    async def stop(self) -> None:
        for part in PARTS:
            await self.kill(part)
        await self.clock.drive(self._server.stop())

    async def advance(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        for part, task in self._tasks.items():
            if task.done():
                raise AssertionError(f"{part} ended") from task.exception()

    def launch(self, part: str) -> None:
        make: dict[str, Callable[[], Part]] = {
            "controllers": lambda: ControllerManager(self._client("kube-controller-manager"), self.clock),
            "scheduler": lambda: Scheduler(self._client("kube-scheduler"), self.clock),
            "nodes": lambda: SimulatedFleet(self._client("kubelet"), self.clock, FleetConfig(names=self._nodes)),
        }
        self._tasks[part] = asyncio.create_task(make[part]().run(), name=part)

    async def kill(self, part: str) -> None:
        """In the midst of whatever it does."""
        task = self._tasks.pop(part, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _client(self, manager: str) -> Client:
        return Client(self._server.transport(username=manager, groups=["system:masters"]), field_manager=manager)
