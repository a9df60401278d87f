"""What is told of a pod while something hangs that is done for it."""

from __future__ import annotations

import pytest

from tests.unit.kubelet.conftest import Node, container


async def come(node: Node) -> None:
    """What hangs goes on."""
    node.runtime.answers.set()
    await node.settle()


@pytest.mark.parametrize("late", ["create", "start"])
async def test_a_container_whose_start_hangs_is_being_created(node: Node, late: str) -> None:
    node.runtime.hangs.add((late, "b"))
    await node.run(container("a"), container("b"))
    await node.settle(1)
    status = node.status()
    assert (status["phase"], status["hostIP"], status["podIP"]) == ("Pending", *node.kubelet.host_ips, "10.1.0.1")
    assert status["startTime"]
    assert "running" in node.container("a")["state"]
    assert node.container("b")["state"] == {"waiting": {"reason": "ContainerCreating"}}
    await come(node)
    await node.settle(1)
    assert "running" in node.container("b")["state"]
    assert node.status()["phase"] == "Running"


async def test_a_short_start_costs_no_status_of_its_own(node: Node) -> None:
    node.runtime.hangs.add(("start", "main"))
    await node.run()
    await come(node)
    assert "running" in node.container()["state"]
    assert len(node.api.writes("patch pods/status")) == 1


async def test_what_changes_while_another_start_hangs_is_told(node: Node) -> None:
    node.runtime.hangs.add(("start", "b"))
    await node.run(container("a"), container("b"))
    await node.settle(1)
    node.runtime.end("a", 3)
    await node.settle(1)
    assert node.container("a")["state"]["terminated"]["exitCode"] == 3


async def test_a_container_is_being_created_while_its_hook_runs_however_long(node: Node) -> None:
    node.runtime.exec_seconds["hello"] = 5
    await node.run(container(lifecycle={"postStart": {"exec": {"command": ["hello"]}}}))
    await node.settle(2)
    assert node.container()["state"] == {"waiting": {"reason": "ContainerCreating"}}
    await node.settle(4)
    assert "running" in node.container()["state"]


async def test_what_has_ended_is_told_while_others_are_waited_for(node: Node) -> None:
    node.runtime.stubborn.add("b")
    await node.run(container("a"), container("b"))
    await node.settle(1)
    assert node.container("a")["ready"]
    await node.delete()
    await node.settle(1)
    assert node.container("a")["state"]["terminated"]["exitCode"] == 143
    assert not node.container("a")["ready"]
    assert node.condition("Ready")["status"] == "False"
    assert "running" in node.container("b")["state"]


async def test_what_has_ended_is_told_while_a_start_is_waited_for(node: Node) -> None:
    node.runtime.hangs.add(("start", "b"))
    await node.run(container("a"), container("b"))
    await node.settle(1)
    await node.delete()
    await node.settle(1)
    assert node.container("a")["state"]["terminated"]["exitCode"] == 143
    assert not node.container("a")["ready"]
    await node.settle(4)
    assert node.api.get("pods", "pod") is None


async def test_a_kubelet_that_ends_meanwhile_tells_nothing_more(node: Node) -> None:
    node.runtime.hangs.add(("start", "main"))
    await node.run()
    await node.stop()
    await node.settle(1)
    assert node.api.writes("patch pods/status") == []
