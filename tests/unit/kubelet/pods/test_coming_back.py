"""A kubelet that ended in order, and its containers with it, comes back."""

from __future__ import annotations

import pytest

from tests.unit.kubelet.conftest import Node, container


async def restart(node: Node) -> None:
    """In order: its containers end with the kubelet."""
    await node.stop()
    node.runtime = type(node.runtime)(node.clock)
    await node.start()


async def test_after_a_restart_of_the_kubelet_pods_are_started_again(node: Node) -> None:
    await node.run()
    identity = node.container()["containerID"]
    await restart(node)
    assert node.runtime.running() == ["main"]
    assert node.container()["restartCount"] == 1
    ended = node.container()["lastState"]["terminated"]
    assert (ended["reason"], ended["exitCode"], ended["containerID"]) == ("Error", 143, identity)
    assert ended["startedAt"] <= ended["finishedAt"]


async def test_how_a_container_ended_with_a_kubelet_that_could_not_tell_is_unknown(node: Node) -> None:
    await node.run()
    await node.kill()
    node.runtime = type(node.runtime)(node.clock)
    await node.start()
    assert node.container()["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"


@pytest.mark.parametrize(("policy", "phase"), [("OnFailure", "Running"), ("Never", "Failed")])
async def test_a_container_that_ends_well_with_its_kubelet_has_not_completed(
    node: Node, policy: str, phase: str
) -> None:
    node.runtime.stopped_with = 0
    await node.run(restartPolicy=policy)
    await restart(node)
    assert node.status()["phase"] == phase
    shown = node.container()["lastState" if phase == "Running" else "state"]["terminated"]
    assert (shown["exitCode"], shown["reason"]) == (0, "Completed")


async def test_an_init_container_that_ended_with_its_kubelet_is_run_again(node: Node) -> None:
    node.runtime.stopped_with = 0
    await node.run(container(), initContainers=[container("first")])
    await restart(node)
    assert node.runtime.running() == ["first"]


async def test_a_container_that_ended_with_its_kubelet_is_not_held_back_for_it(node: Node) -> None:
    await node.run()
    for attempt in range(1, 4):
        await restart(node)
        assert (node.container()["restartCount"], node.container()["ready"]) == (attempt, True)


async def test_a_finished_pod_is_not_run_again_by_a_new_kubelet(node: Node) -> None:
    await node.run(restartPolicy="Never")
    node.runtime.end("main")
    await node.settle()
    await node.stop()
    node.runtime = type(node.runtime)(node.clock)
    await node.start()
    assert node.runtime.calls == []
    assert node.status()["phase"] == "Succeeded"


async def test_files_of_pods_that_went_meanwhile_are_removed(node: Node) -> None:
    await node.run()
    await node.stop()
    node.api.remove("pods", "pod")
    await node.start()
    assert list((node.root / "pods").iterdir()) == []
    assert list((node.root / "var/log/pods").iterdir()) == []
