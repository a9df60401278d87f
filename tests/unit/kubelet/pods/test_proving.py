"""When a container without probes is called running and ready: one that ends at once never is."""

from __future__ import annotations

from tests.unit.kubelet.conftest import Node, container


def told_ready(node: Node) -> list[bool]:
    """What each status written so far said of the container."""
    written = [one.body["status"].get("containerStatuses") or [] for one in node.api.writes("patch pods/status")]
    return [statuses[0]["ready"] for statuses in written if statuses]


async def test_a_container_that_ends_at_once_is_never_called_ready(node: Node) -> None:
    node.api.add("pods", {"metadata": {"name": "pod"}, "spec": {"nodeName": "node", "containers": [container()]}})
    for _ in range(20):
        await node.clock.settle()
    node.runtime.end("main", 1)
    await node.settle()
    assert node.runtime.attempts("main") == 2
    await node.settle(1)
    assert told_ready(node) == [False, True]
    assert node.container()["restartCount"] == 1


async def test_a_restarted_container_has_to_run_a_second_if_it_ended_soon_before(node: Node) -> None:
    await node.run()
    node.runtime.end("main", 1)
    await node.settle(0.9)
    assert node.runtime.attempts("main") == 2
    node.runtime.end("main", 1)
    await node.settle()
    assert told_ready(node) == [True, False, False]
    assert node.container()["state"]["waiting"]["reason"] == "CrashLoopBackOff"


async def test_the_end_of_one_container_is_dealt_with_while_another_has_yet_to_prove_itself(node: Node) -> None:
    await node.run(container("a"), container("b"))
    node.runtime.end("a", 1)
    await node.settle()
    node.runtime.end("b", 1)
    await node.settle()
    assert node.runtime.attempts("b") == 2
    await node.settle(1)
    assert [node.container(name)["restartCount"] for name in ("a", "b")] == [1, 1]
    assert node.condition("Ready")["status"] == "True"


async def test_a_restart_is_told_once_it_is_ready_and_the_end_until_then(node: Node) -> None:
    await node.run(container("a"), container("b"))
    node.runtime.end("a", 1)
    await node.settle(0.1)
    told = {name: node.container(name) for name in ("a", "b")}
    assert (told["a"]["restartCount"], told["a"]["state"]["terminated"]["exitCode"]) == (0, 1)
    assert (told["a"]["ready"], told["b"]["ready"]) == (False, True)
    assert node.condition("Ready")["status"] == "False"
    await node.settle(1)
    assert node.container("a")["ready"] and node.condition("Ready")["status"] == "True"
    assert (node.container("a")["restartCount"], node.container("a")["state"].keys()) == (1, {"running"})
    written = [one.body["status"].get("containerStatuses") or [] for one in node.api.writes("patch pods/status")]
    assert not [one for told in written for one in told if "running" in one["state"] and not one["ready"]]


async def test_a_container_that_ends_again_at_once_is_never_told_as_running(node: Node) -> None:
    await node.run()
    node.runtime.end("main", 1)
    await node.settle(0.5)
    node.runtime.end("main", 1)
    await node.settle(10.5)
    assert node.container()["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert (node.runtime.attempts("main"), node.runtime.running()) == (3, ["main"])
    await node.settle(1)
    assert (node.container()["restartCount"], node.container()["ready"]) == (2, True)


async def test_what_changes_meanwhile_is_told_though_a_restarted_container_has_yet_to_go_on(node: Node) -> None:
    await node.run(container("a"), container("b"))
    await node.settle(11)
    node.runtime.end("a", 1)
    await node.settle(1)
    node.runtime.end("a", 1)
    await node.settle(10)
    assert node.runtime.attempts("a") == 3
    node.runtime.end("b", 4)
    await node.settle(0.1)
    assert node.container("a")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert node.container("b")["lastState"]["terminated"]["exitCode"] == 4
