"""Who containers run as, as their statuses tell it."""

from __future__ import annotations

from tests.unit.kubelet.conftest import Node


async def test_a_status_tells_who_the_container_was_started_as_be_it_by_the_next_kubelet(node: Node) -> None:
    await node.run(securityContext={"runAsUser": 1000, "supplementalGroups": [4000]})
    user = {"linux": {"uid": 1000, "gid": 7, "supplementalGroups": [7, 4000]}}
    assert node.container()["user"] == user
    await node.kill()
    await node.start()
    assert node.container()["user"] == user
    node.runtime.end("main")
    await node.settle()
    assert node.container()["user"] == user


async def test_one_that_was_never_made_has_no_user(node: Node) -> None:
    context = {"runAsNonRoot": True, "runAsUser": 0}
    await node.run(securityContext=context)
    assert "user" not in node.container()
