"""Pods that name their node go past the scheduler: the node itself refuses what it cannot run."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.api.errors import internal_error
from kubecore.kubelet.pods import sysctls
from kubecore.kubelet.pods.admission import PodAdmission
from tests.unit.kubelet.conftest import Node, Object, container


def asking(**requests: str) -> Object:
    return container(resources={"requests": requests})


def set_node(node: Node, labels: dict[str, str] | None = None, **allocatable: str) -> None:
    """What the API says of the node; resources that are not named are plenty."""
    told = {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "10Gi", "pods": "3", **allocatable}
    status = {"allocatable": told, "capacity": told}
    node.api.change("nodes", "node", metadata={"labels": labels or {}}, status=status)


def refused(node: Node, name: str = "pod") -> tuple[str, str]:
    status = node.status(name)
    assert status["phase"] == "Failed"
    assert not status.get("containerStatuses")
    return status["reason"], status["message"]


@pytest.mark.parametrize(
    ("requests", "reason", "amounts"),
    [
        ({"cpu": "1500m"}, "OutOfcpu", "cpu, requested: 1500, used: 1000, capacity: 2000"),
        ({"memory": "5Gi"}, "OutOfmemory", "memory, requested: 5368709120, used: 0, capacity: 4294967296"),
        (
            {"example.com/a": "2"},
            "OutOfexample.com/a",
            "example.com/a, requested: 2, used: 0, capacity: 1",
        ),
    ],
)
async def test_a_pod_that_asks_for_more_than_is_left_is_refused(
    node: Node, requests: dict[str, str], reason: str, amounts: str
) -> None:
    set_node(node, **{"example.com/a": "1"})
    await node.run(asking(cpu="1"), name="first")
    await node.run(asking(**requests), name="second")
    told = f"Node didn't have enough resource: {amounts}"
    assert refused(node, "second") == (reason, f"Pod was rejected: {told}")
    assert node.events(reason) == [told]
    assert node.status("first")["phase"] == "Running"


async def test_resources_that_the_node_knows_nothing_of_are_not_its_business(node: Node) -> None:
    set_node(node)
    await node.run(asking(**{"example.com/cluster-wide": "2"}))
    assert node.status()["phase"] == "Running"


async def test_a_node_has_only_so_many_pods(node: Node) -> None:
    set_node(node, pods="1")
    await node.run(name="first")
    await node.run(name="second")
    assert refused(node, "second")[0] == "OutOfpods"


async def test_what_a_finished_or_deleted_pod_had_is_free_again(node: Node) -> None:
    set_node(node, pods="1")
    await node.run(name="first", restartPolicy="Never")
    node.runtime.end("main")
    await node.settle()
    await node.run(name="second")
    assert node.status("second")["phase"] == "Running"
    await node.delete("second", grace_seconds=0)
    await node.run(name="third")
    assert node.status("third")["phase"] == "Running"


async def test_a_pod_for_other_nodes_is_refused(node: Node) -> None:
    set_node(node, labels={"disk": "ssd"})
    await node.run(name="right", nodeSelector={"disk": "ssd"})
    assert node.status("right")["phase"] == "Running"
    await node.run(name="wrong", nodeSelector={"disk": "tape"})
    told = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    assert refused(node, "wrong") == ("NodeAffinity", f"Pod was rejected: {told}")


async def test_a_host_port_is_had_once(node: Node) -> None:
    ports: list[dict[str, Any]] = [{"containerPort": 80, "hostPort": 8080}]
    await node.run(container(ports=ports), name="first")
    await node.run(container(ports=ports), name="second")
    assert refused(node, "second")[0] == "NodePorts"


async def test_a_node_that_was_not_heard_of_yet_is_asked_for_before_a_pod_is_refused() -> None:
    plenty = {"metadata": {"name": "node"}, "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}}}

    async def ask() -> Object:
        return plenty

    admission = PodAdmission(lambda: {"metadata": {"name": "node"}}, ask, list)
    assert await admission.refusal({"metadata": {}, "spec": {"containers": [asking(cpu="1")]}}) is None
    refused = await admission.refusal({"metadata": {}, "spec": {"containers": [asking(cpu="3")]}})
    assert refused is not None and refused.reason == "OutOfcpu"


async def test_a_pod_of_another_system_is_refused(node: Node) -> None:
    await node.run(os={"name": "windows"})
    assert refused(node)[0] == "PodOSNotSupported"


async def test_a_refusal_that_the_api_did_not_take_is_told_again(node: Node) -> None:
    node.api.react("patch pods/status", internal_error("no"))
    await node.run(os={"name": "windows"})
    await node.settle(5)
    assert refused(node)[0] == "PodOSNotSupported"


async def test_strict_groups_are_for_nodes_that_can_leave_others_out(node: Node) -> None:
    context = {"supplementalGroupsPolicy": "Strict"}
    assert node.api.get("nodes", "node")["status"]["features"] == {"supplementalGroupsPolicy": True}
    await node.run(container(), securityContext=context)
    assert node.runtime.config("main").identity.no_other_groups
    node.api.change("nodes", "node", namespace="", status={"features": None})
    await node.run(container(), securityContext=context, name="refused")
    status = node.status("refused")
    assert (status["reason"], status["message"]) == (
        "SupplementalGroupsPolicyNotSupported",
        "Pod was rejected: SupplementalGroupsPolicy=Strict is not supported in this node",
    )


async def test_users_of_a_pod_that_are_to_be_its_own_are_refused_where_there_are_none(node: Node) -> None:
    await node.run(hostUsers=False)
    told = "can't set `spec.hostUsers: false`, runtime does not support user namespaces"
    assert node.events("FailedCreatePodSandBox") == [f"Failed to create pod sandbox: {told}"]
    node.api.add("runtimeclasses.node.k8s.io", {"metadata": {"name": "plain"}, "handler": "host"})
    await node.run(hostUsers=False, runtimeClassName="plain", name="of-a-class")
    told = 'can\'t set `spec.hostUsers: false`, RuntimeClass handler "host" does not support user namespaces'
    assert f"Failed to create pod sandbox: {told}" in node.events("FailedCreatePodSandBox")
    assert node.runtime.running() == []


async def test_cordoning_is_told_by_the_node(node: Node) -> None:
    for cordoned in (True, True, False):
        node.api.change("nodes", "node", spec={"unschedulable": cordoned})
        await node.settle()
        told = "Node node status is now: "
    assert node.events("NodeNotSchedulable") == [f"{told}NodeNotSchedulable"]
    assert node.events("NodeSchedulable") == [f"{told}NodeSchedulable"]


# --- kernel parameters


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        ("net.ipv4.tcp_syncookies", {}, ""),
        ("net/ipv4/tcp_syncookies", {}, ""),
        ("kernel.msgmax", {}, 'forbidden sysctl: "kernel.msgmax" not allowlisted'),
        ("net.core.somaxconn", {}, ""),
        (
            "net.ipv4.tcp_syncookies",
            {"hostNetwork": True},
            'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled',
        ),
        (
            "kernel.shm_rmid_forced",
            {"hostIPC": True},
            'forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host ipc enabled',
        ),
    ],
)
def test_a_pod_sets_kernel_parameters_that_are_safe_or_allowed_and_its_own(
    name: str, spec: Object, message: str
) -> None:
    pod = {"spec": {"securityContext": {"sysctls": [{"name": name, "value": "1"}]}, **spec}}
    assert sysctls.forbidden(pod, ["net.core.*"]) == message
