"""A kubelet was killed and another one starts on the same node, where everything has gone on meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.kubelet.runtime.interface import ExecResult
from tests.unit.kubelet.conftest import Node, container

Object = dict[str, Any]


def made(node: Node) -> list[tuple[str, str]]:
    return [call for call in node.runtime.calls if call[0] in ("sandbox", "start")]


async def restart(node: Node) -> None:
    await node.kill()
    await node.start()


async def test_what_runs_is_taken_up_and_its_status_stays_word_for_word(node: Node) -> None:
    await node.run(container(), container("other"))
    before, events = node.status(), node.events()
    await restart(node)
    await node.settle(60)
    assert node.status() == before
    assert made(node) == [("sandbox", "pod"), ("start", "main"), ("start", "other")]
    assert [one for one in node.events() if "ontainer" in one] == [one for one in events if "ontainer" in one]


async def test_an_end_that_nobody_saw_is_reported_with_its_exit_code(node: Node) -> None:
    await node.run(container(), restartPolicy="Never")
    identity = node.container()["containerID"]
    await node.kill()
    node.runtime.end("main", 3)
    await node.start()
    ended = node.container()["state"]["terminated"]
    assert (ended["exitCode"], ended["containerID"], node.status()["phase"]) == (3, identity, "Failed")


async def test_a_container_that_ended_meanwhile_is_restarted_in_its_pods_sandbox(node: Node) -> None:
    await node.run()
    address = node.status()["podIP"]
    await node.kill()
    node.runtime.end("main", 1)
    await node.start()
    await node.settle(1)
    told = node.container()
    assert (told["restartCount"], told["lastState"]["terminated"]["exitCode"]) == (1, 1)
    assert node.status()["podIP"] == address
    assert made(node) == [("sandbox", "pod"), ("start", "main"), ("start", "main")]


async def test_an_attempt_that_was_not_reported_yet_counts(node: Node) -> None:
    await node.run()
    known = node.status()
    node.runtime.end("main", 1)
    await node.settle(1)
    identity = node.container()["containerID"]
    await node.kill()
    node.api.change("pods", "pod", status=known)
    await node.start()
    assert (node.container()["containerID"], node.container()["restartCount"]) == (identity, 1)
    assert node.runtime.attempts("main") == 2


async def test_what_was_started_and_ready_stays_so_until_its_probes_say_otherwise(node: Node) -> None:
    asked: list[str] = []
    healthy = True

    def execute(name: str, argv: Any) -> ExecResult:
        asked.append(argv[0])
        return ExecResult(b"", b"", 0 if healthy else 1)

    node.runtime.execute = execute
    probe = {"periodSeconds": 5, "failureThreshold": 1}
    await node.run(
        container(
            startupProbe={**probe, "exec": {"command": ["startup"]}},
            readinessProbe={**probe, "exec": {"command": ["readiness"]}},
        )
    )
    await node.settle(10)
    assert node.container()["ready"]
    await node.kill()
    asked.clear()
    await node.start()
    assert (node.container()["ready"], node.container()["started"]) == (True, True)
    healthy = False
    await node.settle(10)
    assert not node.container()["ready"]
    assert set(asked) == {"readiness"}


async def test_the_main_containers_of_a_pod_go_on_beside_a_sidecar_that_had_started(node: Node) -> None:
    """(kubernetes/kubernetes#136910)"""
    node.runtime.execute = lambda name, argv: ExecResult(b"", b"", 0)
    probe = {"exec": {"command": ["startup"]}, "periodSeconds": 5}
    await node.run(container(), initContainers=[container("side", restartPolicy="Always", startupProbe=probe)])
    await node.settle(10)
    await node.kill()
    node.runtime.execute = lambda name, argv: ExecResult(b"", b"", 1)
    await node.start()
    assert node.container("side")["started"]
    assert node.condition("Initialized")["status"] == "True"
    node.runtime.end("main", 1)
    await node.settle()
    assert node.runtime.attempts("main") == 2


async def test_a_pod_that_was_removed_meanwhile_ends(node: Node) -> None:
    await node.run()
    await node.kill()
    node.api.remove("pods", "pod")
    await node.start()
    assert node.runtime.running() == []
    assert node.runtime.sandboxes == {}


async def test_a_pod_that_was_being_deleted_is_ended_and_goes(node: Node) -> None:
    node.runtime.stubborn.add("main")
    await node.run()
    await node.delete(grace_seconds=30)
    await node.kill()
    await node.start()
    assert node.runtime.running() == ["main"]
    await node.settle(31)
    assert node.api.get("pods", "pod") is None
    assert node.runtime.sandboxes == {}


async def test_of_a_pod_that_has_completed_nothing_stays_in_the_runtime(node: Node) -> None:
    await node.run(restartPolicy="Never")
    node.runtime.end("main", 0)
    await node.settle()
    before = node.status()
    await restart(node)
    assert node.status() == before
    assert node.runtime.sandboxes == {}


async def test_logs_of_this_attempt_and_the_one_before_are_found_again(node: Node) -> None:
    await node.run()
    for _ in range(2):
        node.runtime.config("main").log_path.write_text("")
        node.runtime.end("main", 1)
        await node.settle(11)
    node.runtime.config("main").log_path.write_text("")
    await restart(node)
    worker = node.kubelet.workers.find("default", "pod")
    assert worker is not None
    record = worker.record("main")
    assert record is not None and record.log_path is not None and record.previous_log_path is not None
    assert (record.log_path.name, record.previous_log_path.name) == ("2.log", "1.log")


@pytest.mark.parametrize("policy", ["Always", "Never"])
async def test_a_sandbox_that_was_lost_is_made_anew_unless_the_pod_is_done(node: Node, policy: str) -> None:
    await node.run(restartPolicy=policy)
    node.runtime.lose()
    await node.settle()
    again = policy == "Always"
    assert node.status()["phase"] == ("Running" if again else "Failed")
    assert made(node) == [("sandbox", "pod"), ("start", "main")] * (2 if again else 1)
    told = ["Pod sandbox changed, it will be killed and re-created."] if again else []
    assert node.events("SandboxChanged") == told


async def test_init_containers_run_again_in_a_new_sandbox_before_the_others(node: Node) -> None:
    await node.run(container(), initContainers=[container("first"), container("second")], restartPolicy="OnFailure")
    for name in ("first", "second"):
        node.runtime.end(name, 0)
        await node.settle()
    node.runtime.lose()
    await node.settle(11)
    assert node.runtime.running() == ["first"]
    assert node.container("first")["restartCount"] == 1
    for name in ("first", "second"):
        assert node.runtime.running() == [name]
        node.runtime.end(name, 0)
        await node.settle()
    assert node.runtime.running() == ["main"]


async def test_after_a_reboot_a_pod_begins_with_its_init_containers(node: Node) -> None:
    await node.run(container(), initContainers=[container("first")])
    node.runtime.end("first", 0)
    await node.settle()
    await node.kill()
    node.runtime.reboot()
    await node.start()
    await node.settle(11)
    assert node.runtime.running() == ["first"]
    node.runtime.end("first", 0)
    await node.settle(11)
    assert node.runtime.running() == ["main"]


async def test_a_kubelet_that_comes_while_init_containers_run_again_goes_on_with_them(node: Node) -> None:
    await node.run(container(), initContainers=[container("first"), container("second")])
    for name in ("first", "second"):
        node.runtime.end(name, 0)
        await node.settle()
    node.runtime.lose()
    await node.settle(11)
    assert node.runtime.running() == ["first"]
    await restart(node)
    await node.settle(11)
    for name in ("first", "second"):
        assert node.runtime.running() == [name]
        node.runtime.end(name, 0)
        await node.settle(11)
    assert node.runtime.running() == ["main"]


async def test_after_a_reboot_nothing_of_a_pod_that_is_never_restarted_runs(node: Node) -> None:
    await node.run(container(), initContainers=[container("first")], restartPolicy="Never")
    node.runtime.end("first", 0)
    await node.settle()
    await node.kill()
    node.runtime.reboot()
    before = made(node)
    await node.start()
    await node.settle(11)
    assert made(node) == before
    assert node.status()["phase"] == "Failed"
