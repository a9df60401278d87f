"""Pods make room for others of higher priority, on the real API server: what of it is seen there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from kubecore.api import meta, quantity
from tests.integration.controllers.world import World

Object = dict[str, Any]


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, 1)
    await made.start()
    await made.client.create("priorityclasses.scheduling.k8s.io", {"metadata": {"name": "high"}, "value": 10})
    yield made
    await made.stop()


async def add_pod(world: World, name: str, share: float, **spec: Any) -> Object:
    """A pod that wants so much of the node's CPUs."""
    (node,) = (await world.client.list("nodes")).items
    cpus = float(quantity.parse(node["status"]["allocatable"]["cpu"]))
    container = {"name": "main", "image": "none", "resources": {"requests": {"cpu": f"{int(cpus * share * 1000)}m"}}}
    pod = {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}
    return await world.client.create("pods", pod, "default")


async def history(world: World, since: str, name: str) -> list[tuple[str, Object]]:
    """What a client that watches has seen of the pod until it was gone."""
    seen: list[tuple[str, Object]] = []
    watch = world.client.watch("pods", "default", resource_version=since, field_selector=f"metadata.name={name}")
    async for batch in watch:
        seen += [(event.type, orjson.loads(event.object)) for event in batch if event.type != "BOOKMARK"]
        if seen and seen[-1][0] == "DELETED":
            break
    return seen


@pytest.mark.parametrize("grace", [0, 30])
async def test_victims_are_told_why_as_they_begin_to_go(world: World, grace: int) -> None:
    for name in ("low-1", "low-2"):
        await add_pod(world, name, 0.45, terminationGracePeriodSeconds=grace)
    await world.advance(10)
    before = await world.client.list("pods", "default")
    assert [one["status"]["phase"] for one in before.items] == ["Running", "Running"]
    high = await add_pod(world, "high", 0.9, priorityClassName="high")
    await world.advance(60)
    bound = await world.client.get("pods", "high", "default")
    assert bound["spec"]["nodeName"] == "node-0" and "nominatedNodeName" not in bound["status"]
    events = (await world.client.list("events", "default")).items
    for name in ("low-1", "low-2"):
        seen = await history(world, before.resource_version, name)
        told = seen[0][1]
        condition = meta.condition(told, "DisruptionTarget") or {}
        assert (condition["status"], condition["reason"], condition["message"]) == (
            "True",
            "PreemptionByScheduler",
            "default-scheduler: preempting to accommodate a higher priority pod",
        )
        assert all(meta.is_deleting(one) for _, one in seen)
        owners = {one["manager"]: one for one in told["metadata"]["managedFields"]}
        assert 'k:{"type":"DisruptionTarget"}' in orjson.dumps(owners["kube-scheduler"]).decode().replace("\\", "")
        (event,) = [one for one in events if one["reason"] == "Preempted" and one["involvedObject"]["name"] == name]
        assert event["message"] == f"Preempted by pod {meta.uid(high)} on node node-0"


async def test_the_pod_that_waits_is_told_where_it_is_to_run(world: World) -> None:
    await add_pod(world, "low", 0.9, terminationGracePeriodSeconds=30)
    await world.advance(10)
    since = (await world.client.list("pods", "default")).resource_version
    await add_pod(world, "high", 0.9, priorityClassName="high")
    await world.advance(60)
    seen: list[Object] = []
    watch = world.client.watch("pods", "default", resource_version=since, field_selector="metadata.name=high")
    async for batch in watch:
        seen += [orjson.loads(event.object) for event in batch if event.type != "BOOKMARK"]
        if seen and seen[-1]["spec"].get("nodeName"):
            break
    _, told, *_ = seen
    condition = meta.condition(told, "PodScheduled") or {}
    assert told["status"]["nominatedNodeName"] == "node-0"
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    assert condition["message"].startswith("0/1 nodes are available: 1 Insufficient cpu.")
    assert "nominatedNodeName" not in seen[-1]["status"]
