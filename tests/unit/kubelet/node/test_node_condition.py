"""What a node says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubecore.clock import VirtualClock
from kubecore.kubelet.node.node import Machine, NodeIdentity, NodeKeeper
from tests.support.fake_api import FakeAPI

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
    assert told == ["NodeNotReady", "NodeReady"]
