"""A kubelet in virtual time, with a fake runtime and a fake API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubecore.clock import VirtualClock
from kubecore.kubelet.eviction.manager import EvictionConfig
from kubecore.kubelet.kubelet import Kubelet
from kubecore.kubelet.settings.kubelet_config import KubeletConfig
from tests.support.fake_api import FakeAPI
from tests.unit.kubelet.fake_runtime import FakeRuntime

Object = dict[str, Any]

PROVING = 0.05
"""Seconds after which a container that has not ended at once is called running."""


class Node:
    """One kubelet under test; `settle` lets it work off everything that is due now."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = VirtualClock()
        self.api = FakeAPI(self.clock, namespaces=("default", "kube-node-lease"))
        self.runtime = FakeRuntime(self.clock)
        self._task: asyncio.Task[None] | None = None

    async def start(self, **fields: Any) -> None:
        values: dict[str, Any] = {
            "node_name": "node",
            "root_dir": self.root,
            "default_runtime": "host",
            "runtimes": (self.runtime,),
            "cluster_dns": ("10.96.0.10",),
            "cgroups": False,
            "eviction": EvictionConfig(()),
        }
        config = KubeletConfig(**{**values, **fields})
        self.kubelet = Kubelet(self.api.client("kubelet"), self.clock, config)
        self._task = asyncio.create_task(self.kubelet.run())
        await self.settle()
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await self.clock.advance(5)
            await asyncio.gather(self._task, return_exceptions=True)

    async def kill(self) -> None:
        """As by SIGKILL: what runs does not notice."""
        self.runtime.abandoned = True
        await self.stop()
        self.runtime.abandoned = False
        self.runtime.forget_listeners()

    async def settle(self, seconds: float = 0.0) -> None:
        for step in (seconds, PROVING):  # what has started after the one is believed to run after the other
            await self.clock.advance(step)
            for _ in range(20):
                await self.clock.settle()

    # ---- pods

    async def run(self, *containers: Object, name: str = "pod", **spec: Any) -> None:
        """Bind a pod to the node and let it settle."""
        metadata = {"name": name, "labels": {"app": name}}
        body = {"containers": list(containers) or [container()], "nodeName": "node", **spec}
        self.api.add("pods", {"metadata": metadata, "spec": body, "status": {"phase": "Pending"}})
        await self.settle()

    async def delete(self, name: str = "pod", grace_seconds: int | None = None) -> None:
        await self.api.client().delete("pods", name, "default", grace_period_seconds=grace_seconds)
        await self.settle()

    def pod(self, name: str = "pod") -> Object:
        found = self.api.get("pods", name)
        assert found is not None, f"pod {name} is gone"
        return found

    def status(self, name: str = "pod") -> Object:
        status: Object = self.pod(name)["status"]
        return status

    def container(self, name: str = "main", pod: str = "pod") -> Object:
        status = self.status(pod)
        everything = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        return next(one for one in everything if one["name"] == name)

    def condition(self, kind: str, pod: str = "pod") -> Object:
        return next(one for one in self.status(pod)["conditions"] if one["type"] == kind)

    def events(self, reason: str = "") -> list[str]:
        """Messages of events, oldest first."""
        return [one["message"] for one in self.api.all("events") if reason in ("", one["reason"])]


def container(name: str = "main", **fields: Any) -> Object:
    return {"name": name, "image": "app:1", "command": ["run"], **fields}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    one = Node(tmp_path)
    await one.start()
    yield one
    await one.stop()
