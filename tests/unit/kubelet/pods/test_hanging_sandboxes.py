"""A pod's sandbox that does not come: it is told of, tried again, and holds up no end."""

from __future__ import annotations

import pytest

from tests.unit.kubelet.conftest import Node


@pytest.fixture
def hung(node: Node) -> None:
    node.runtime.hangs.add(("sandbox", "pod"))


async def test_its_pod_is_being_created(node: Node, hung: None) -> None:
    await node.run()
    await node.settle(1)
    assert (node.status()["phase"], node.status()["hostIP"]) == ("Pending", *node.kubelet.host_ips)
    assert node.condition("PodReadyToStartContainers")["status"] == "False"
    assert node.condition("Initialized")["status"] == "True"
    assert node.container()["state"] == {"waiting": {"reason": "ContainerCreating"}}


async def test_it_is_given_up_after_four_minutes_which_an_event_tells(node: Node, hung: None) -> None:
    await node.run()
    await node.settle(239)
    assert node.events("FailedCreatePodSandBox") == []
    await node.settle(2)
    [told] = node.events("FailedCreatePodSandBox")
    assert told == "Failed to create pod sandbox: rpc error: code = DeadlineExceeded desc = context deadline exceeded"


async def test_it_is_asked_for_again(node: Node, hung: None) -> None:
    await node.run()
    await node.settle(240)
    node.runtime.hangs.clear()
    await node.settle(2)
    assert node.status()["phase"] == "Running"
    assert node.condition("PodReadyToStartContainers")["status"] == "True"


async def test_its_pod_can_be_deleted(node: Node, hung: None) -> None:
    await node.run()
    await node.delete()
    await node.settle(6)
    assert node.api.get("pods", "pod") is None
    assert list((node.root / "pods").iterdir()) == []


async def test_one_that_comes_soon_after_the_end_has_begun_goes_with_its_pod(node: Node, hung: None) -> None:
    await node.run()
    await node.delete()
    assert node.api.get("pods", "pod") is not None
    node.runtime.answers.set()
    await node.settle(1)
    assert node.api.get("pods", "pod") is None
    assert (node.runtime.attempts("main"), node.runtime.sandboxes) == (0, {})


async def test_its_pod_can_be_evicted(node: Node, hung: None) -> None:
    await node.run()
    worker = node.kubelet.workers.find("default", "pod")
    assert worker is not None
    worker.evict("The node was low on resource: memory.", 0.0, disrupted=True)
    await node.settle(6)
    assert (node.status()["phase"], node.status()["reason"]) == ("Failed", "Evicted")


async def test_a_kubelet_that_ends_meanwhile_waits_for_none(node: Node, hung: None) -> None:
    await node.run()
    before = len(node.api.writes("patch pods/status"))
    await node.stop()
    await node.settle(300)
    assert len(node.api.writes("patch pods/status")) == before
    assert node.events("FailedCreatePodSandBox") == []


async def test_the_deadline_of_its_pod_is_kept_once_it_is_given_up(node: Node, hung: None) -> None:
    await node.run(activeDeadlineSeconds=60)
    await node.settle(242)
    assert (node.status()["phase"], node.status()["reason"]) == ("Failed", "DeadlineExceeded")
