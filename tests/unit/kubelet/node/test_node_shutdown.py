"""The machine goes down: pods end in order of their priority, and the API hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubecore.kubelet.node.shutdown import ShutdownConfig
from tests.unit.kubelet.conftest import Node, container


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """30 s for pods, the last 10 s of them for critical ones; both of its pods do not care for SIGTERM."""
    one = Node(tmp_path)
    await one.start(shutdown=ShutdownConfig(30.0, 10.0))
    one.runtime.stubborn.update(("app", "dns"))
    await one.run(container("app"), name="app", terminationGracePeriodSeconds=60)
    await one.run(container("dns"), name="dns", priority=2_000_001_000, terminationGracePeriodSeconds=5)
    yield one
    await one.stop()


async def test_critical_pods_end_last_each_group_within_its_time(node: Node) -> None:
    leaving = asyncio.create_task(node.kubelet.shut_down())
    await node.settle(19)
    assert node.runtime.running() == ["app", "dns"]
    await node.settle(2)
    assert node.runtime.running() == ["dns"]
    await node.settle(5)
    assert node.runtime.running() == []
    assert leaving.done()


async def test_a_pod_with_less_grace_of_its_own_has_no_more_than_that(node: Node) -> None:
    node.runtime.end("app", 0)
    await node.delete("app", grace_seconds=0)
    leaving = asyncio.create_task(node.kubelet.shut_down())
    await node.settle(6)
    assert leaving.done()


async def test_what_has_ended_by_it_says_so(node: Node) -> None:
    leaving = asyncio.create_task(node.kubelet.shut_down())
    await node.settle(40)
    await leaving
    status = node.status("app")
    text = "Pod was terminated in response to imminent node shutdown."
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "Terminated", text)
    disruption = node.condition("DisruptionTarget", "app")
    assert (disruption["status"], disruption["reason"]) == ("True", "TerminationByKubelet")


async def test_meanwhile_the_node_is_not_ready_and_takes_no_pods(node: Node) -> None:
    leaving = asyncio.create_task(node.kubelet.shut_down())
    await node.settle()
    await node.run(name="late")
    told = node.api.get("nodes", "node")
    assert told is not None
    ready = next(one for one in told["status"]["conditions"] if one["type"] == "Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "KubeletNotReady", "node is shutting down")
    assert (node.status("late")["phase"], node.status("late")["reason"]) == ("Failed", "NodeShutdown")
    assert node.events("Shutdown") == ["Shutdown manager detected shutdown event"]
    await node.settle(40)
    await leaving


async def test_without_a_time_for_it_nothing_happens_before_the_kubelets_end(tmp_path: Path) -> None:
    node = Node(tmp_path)
    await node.start()
    await node.run()
    await node.kubelet.shut_down()
    assert node.runtime.running() == ["main"]
    assert node.events("Shutdown") == []
    await node.stop()
