"""What is told of a pod that the kubelet ends for good, while its containers are being stopped and afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kubecore.kubelet.runtime.interface import RuntimeFailure
from tests.unit.kubelet.conftest import Node, container

CAUSES = ["Evicted", "DeadlineExceeded"]


@pytest.fixture(params=CAUSES)
def reason(request: pytest.FixtureRequest) -> str:
    cause: str = request.param
    return cause


@pytest.fixture
async def ending(node: Node, reason: str) -> Callable[[], None]:
    """A pod with a container that does not want to end and one that does, whose end has begun."""
    node.runtime.stubborn.add("main")
    await node.run(container(), container("other"), activeDeadlineSeconds=60, terminationGracePeriodSeconds=30)
    await node.settle(1)
    if reason == "DeadlineExceeded":
        await node.settle(60)
    else:
        evict(node)
        await node.settle()
    return lambda: node.runtime.end("main", 1)


def evict(node: Node) -> None:
    worker = node.kubelet.workers.find("default", "pod")
    assert worker is not None
    worker.evict("The node was low on resource: memory.", 30.0, disrupted=True)


async def test_it_is_not_ready_from_the_beginning_of_its_end(node: Node, ending: Callable[[], None]) -> None:
    for kind in ("Ready", "ContainersReady"):
        assert (node.condition(kind)["status"], node.condition(kind)["reason"]) == ("False", "PodFailed")
    assert node.condition("PodReadyToStartContainers")["status"] == "True"


async def test_its_phase_is_the_former_one_while_something_of_it_runs(node: Node, ending: Callable[[], None]) -> None:
    status = node.status()
    assert status["phase"] == "Running"
    assert "reason" not in status and "message" not in status
    assert "DisruptionTarget" not in {one["type"] for one in status["conditions"]}


async def test_what_has_ended_of_it_is_told_at_once(node: Node, ending: Callable[[], None]) -> None:
    await node.settle(1)
    assert node.container("other")["state"]["terminated"]["exitCode"] == 143
    assert "running" in node.container()["state"]


async def test_it_has_failed_once_nothing_of_it_runs(node: Node, reason: str, ending: Callable[[], None]) -> None:
    ending()
    await node.settle()
    assert (node.status()["phase"], node.status()["reason"]) == ("Failed", reason)
    conditions = {one["type"]: one["status"] for one in node.status()["conditions"]}
    assert conditions["PodReadyToStartContainers"] == "False"
    assert conditions.get("DisruptionTarget") == ("True" if reason == "Evicted" else None)


async def test_a_runtime_that_fails_to_stop_it_is_asked_again(node: Node) -> None:
    await node.run()
    node.runtime.fail_stop["main"] = [RuntimeFailure("KillContainerError", "connection refused")]
    evict(node)
    await node.settle()
    assert (node.runtime.running(), node.status()["phase"]) == (["main"], "Running")
    assert "running" in node.container()["state"]
    assert node.events("FailedKillPod") == ["error killing pod: connection refused"]
    await node.settle(3)
    assert (node.runtime.running(), node.status()["phase"]) == ([], "Failed")


LATE = "Container runtime did not kill the pod within specified grace period."


@pytest.mark.parametrize(("grace_seconds", "late_after"), [(30.0, 45), (1.0, 10)])
async def test_a_pod_that_does_not_end_in_good_time_is_told(node: Node, grace_seconds: float, late_after: int) -> None:
    await node.run()
    node.runtime.fail_stop["main"] = [RuntimeFailure("KillContainerError", "it hangs")] * 100
    worker = node.kubelet.workers.find("default", "pod")
    assert worker is not None
    worker.evict("The node was low on resource: memory.", grace_seconds, disrupted=True)
    await node.settle(late_after - 1)
    assert node.events("ExceededGracePeriod") == []
    await node.settle(1)
    assert node.events("ExceededGracePeriod") == [LATE]


async def test_a_pod_that_ends_in_time_is_not_told_to_be_late(node: Node) -> None:
    await node.run()
    evict(node)
    await node.settle(60)
    assert (node.status()["phase"], node.events("ExceededGracePeriod")) == ("Failed", [])
