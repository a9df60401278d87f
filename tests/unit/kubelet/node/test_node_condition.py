"""What a node says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from kubecore.clock import VirtualClock
from kubecore.kubelet.node.node import Machine, NodeIdentity, NodeKeeper
from tests.support.fake_api import FakeAPI
from tests.unit.kubelet.conftest import Node

IDENTITY = NodeIdentity("node", ("10.0.0.1",), 10250, ("10.0.0.0/24",), "loopback", "host", ("host",))


def ready(api: FakeAPI) -> tuple[str, str, str]:
    node: Any = api.get("nodes", "node")
    told = next(one for one in node["status"]["conditions"] if one["type"] == "Ready")
    return told["status"], told["reason"], told["message"]


async def test_a_node_that_can_start_no_container_is_not_ready_until_it_can(tmp_path: Path) -> None:
    clock = VirtualClock()
    api = FakeAPI(clock)
    trouble = ""
    told: list[str] = []

    async def asked() -> str:
        return trouble

    machine = Machine.read(tmp_path)
    keeper = NodeKeeper(api.client("kubelet"), clock, IDENTITY, machine, tuple, asked, told.append)
    await keeper.register()
    assert ready(api)[0] == "True"
    trouble = "container runtime is down: no such program"
    for _ in range(2):
        await keeper.report()
    assert ready(api) == ("False", "KubeletNotReady", trouble)
    trouble = ""
    await keeper.report()
    assert ready(api)[:2] == ("True", "KubeletReady")
    assert told == [
        "NodeHasSufficientMemory",
        "NodeHasNoDiskPressure",
        "NodeHasSufficientPID",
        "NodeNotReady",
        "NodeReady",
    ]


# ---- resources that others say it has


async def test_what_somebody_says_that_the_node_has_can_be_asked_for_by_pods_until_it_is_gone(node: Node) -> None:
    def status() -> Any:
        return cast(Any, node.api.get("nodes", "node"))["status"]

    async def say(amount: str | None) -> None:
        capacity = {"example.com/dongle": amount}
        change = {"status": {"capacity": capacity}}
        await node.api.client().patch("nodes", "node", change, patch_type="merge", subresource="status")
        await node.settle()

    own = status()["allocatable"]
    await say("4")
    assert status()["allocatable"] == {**own, "example.com/dongle": "4"}
    await say("2")
    assert status()["allocatable"]["example.com/dongle"] == "2"
    await node.kill()
    await node.start()
    assert status()["allocatable"]["example.com/dongle"] == "2"
    await say(None)
    assert status()["allocatable"] == own
    assert status()["capacity"].keys() == own.keys()


async def test_who_undoes_what_a_node_says_of_its_resources_is_not_fought_with(node: Node) -> None:
    undone = {"example.com/dongle": "4"}
    versions = []
    for _ in range(3):
        status = cast(Any, node.api.get("nodes", "node"))["status"]
        node.api.change("nodes", "node", status={**status, "allocatable": {**status["allocatable"], **undone}})
        written = cast(Any, node.api.get("nodes", "node"))["metadata"]["resourceVersion"]
        await node.settle()
        versions.append(cast(Any, node.api.get("nodes", "node"))["metadata"]["resourceVersion"] == written)
    assert versions == [False, True, True]


async def test_that_the_machine_was_booted_again_is_told_by_the_next_kubelet_once(node: Node) -> None:
    known = cast(dict[str, Any], node.api.get("nodes", "node", namespace=""))["status"]
    boot = known["nodeInfo"]["bootID"]
    node.api.change("nodes", "node", namespace="", status={**known, "nodeInfo": {**known["nodeInfo"], "bootID": "x"}})
    for _ in range(2):
        await node.stop()
        await node.start()
    assert node.events("Rebooted") == [f"Node node has been rebooted, boot id: {boot}"]


async def test_a_node_that_is_seen_for_the_first_time_was_not_rebooted(node: Node) -> None:
    await node.stop()
    await node.start()
    assert node.events("Rebooted") == []
