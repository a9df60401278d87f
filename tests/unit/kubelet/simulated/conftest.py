"""Simulated nodes in virtual time, on a fake API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kubecore.clock import VirtualClock
from kubecore.kubelet.simulated.fleet import FleetConfig, SimulatedFleet
from tests.support.fake_api import FakeAPI

Object = dict[str, Any]


class Fleet:
    """`start` may be called again after `stop`, as when a process is started again."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.api = FakeAPI(self.clock, namespaces=("default", "kube-node-lease"))
        self._task: asyncio.Task[None] | None = None

    async def start(self, *names: str, **settings: Any) -> None:
        """`settings` are of a FleetConfig."""
        config = FleetConfig(names=names or ("sim-0", "sim-1"), **settings)
        fleet = SimulatedFleet(self.api.client("kubelet"), self.clock, config)
        self._task = asyncio.create_task(fleet.run())
        await self.settle()
        assert fleet.ready.is_set()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def settle(self, seconds: float = 0.0) -> None:
        await self.clock.advance(seconds)
        for _ in range(20):
            await self.clock.settle()

    async def run(
        self, *containers: Object, name: str = "pod", rules: dict[str, str] | None = None, **spec: Any
    ) -> None:
        """Bind a pod to `sim-0` and let it settle."""
        annotations = {f"simulation.kubecore.dev/{key}": value for key, value in (rules or {}).items()}
        body = {"containers": list(containers) or [{"name": "main", "image": "app:1"}], "nodeName": "sim-0", **spec}
        metadata = {"name": name, "annotations": annotations}
        self.api.add("pods", {"metadata": metadata, "spec": body, "status": {"phase": "Pending"}})
        await self.settle()

    async def annotate(self, resource: str, name: str, **rules: str | None) -> None:
        said = {f"simulation.kubecore.dev/{key.replace('_', '-')}": value for key, value in rules.items()}
        self.api.change(resource, name, metadata={"annotations": said})
        await self.settle()

    def pod(self, name: str = "pod") -> Object:
        found = self.api.get("pods", name)
        assert found is not None, f"pod {name} is gone"
        return found

    def phase(self, name: str = "pod") -> str:
        phase: str = self.pod(name)["status"]["phase"]
        return phase

    def container(self, name: str = "main", pod: str = "pod") -> Object:
        status = self.pod(pod)["status"]
        everything = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        return next(one for one in everything if one["name"] == name)

    def state(self, name: str = "main", pod: str = "pod") -> str:
        """running, terminated, or the reason for which it waits."""
        [(kind, state)] = self.container(name, pod)["state"].items()
        return state["reason"] if kind == "waiting" else kind

    def node(self, name: str) -> Object:
        found = self.api.get("nodes", name)
        assert found is not None, f"node {name} is gone"
        return found

    def conditions(self, name: str) -> dict[str, str]:
        return {one["type"]: one["status"] for one in self.node(name)["status"]["conditions"]}

    def lease(self, name: str) -> Object:
        """What the node's lease says, nothing where there is none."""
        lease = self.api.get("leases.coordination.k8s.io", name, "kube-node-lease")
        return lease["spec"] if lease is not None else {}

    def renewed(self, name: str) -> str | None:
        return self.lease(name).get("renewTime")

    def events(self, reason: str) -> list[str]:
        return [one["message"] for one in self.api.all("events") if one["reason"] == reason]


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    one = Fleet()
    await one.start()
    yield one
    await one.stop()
