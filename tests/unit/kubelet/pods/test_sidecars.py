"""Pods whose sidecars outlive their main containers for a while."""

from __future__ import annotations

import pytest

from tests.unit.kubelet.conftest import Node, container


@pytest.mark.parametrize(("seconds", "phase"), [(0, "Pending"), (3, "Running")])
async def test_a_pod_whose_sidecar_is_being_stopped_says_how_its_main_container_ended(
    node: Node, seconds: int, phase: str
) -> None:
    node.runtime.stubborn.add("proxy")
    sidecar = container("proxy", restartPolicy="Always")
    spec = {"nodeName": "node", "initContainers": [sidecar], "containers": [container()], "restartPolicy": "Never"}
    node.api.add("pods", {"metadata": {"name": "pod"}, "spec": spec, "status": {"phase": "Pending"}})
    for _ in range(20):
        await node.clock.settle()
    if seconds:
        await node.settle(seconds)
    node.runtime.end("main")
    await node.settle(1)
    assert node.runtime.running() == ["proxy"]
    assert node.status()["phase"] == phase
    assert node.container()["state"]["terminated"]["reason"] == "Completed"
    assert (node.container()["ready"], node.container("proxy")["ready"]) == (False, True)
    ready = node.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "PodCompleted")
    assert node.condition("PodReadyToStartContainers")["status"] == "True"
    await node.settle(30)
    assert (node.status()["phase"], node.runtime.running()) == ("Succeeded", [])
    assert node.condition("PodReadyToStartContainers")["status"] == "False"
