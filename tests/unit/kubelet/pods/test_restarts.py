"""Containers with rules of their own for being started again, what they say at their end, and sandboxes that fail."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from kubecore.api import meta
from kubecore.kubelet.logs.writing import LogWriter
from kubecore.kubelet.runtime.interface import ExecResult, RuntimeFailure
from tests.unit.kubelet.conftest import Node, container

Object = dict[str, Any]


def rule(operator: str, *values: int) -> Object:
    return {"action": "Restart", "exitCodes": {"operator": operator, "values": list(values)}}


@pytest.mark.parametrize(
    ("fields", "exit_code", "restarted"),
    [
        ({"restartPolicyRules": [rule("In", 42)], "restartPolicy": "Never"}, 42, True),
        ({"restartPolicyRules": [rule("In", 42)], "restartPolicy": "Never"}, 41, False),
        ({"restartPolicyRules": [rule("NotIn", 1, 2)], "restartPolicy": "Never"}, 3, True),
        ({"restartPolicyRules": [rule("NotIn", 1, 2)], "restartPolicy": "Never"}, 2, False),
        ({"restartPolicy": "OnFailure"}, 1, True),
        ({"restartPolicy": "OnFailure"}, 0, False),
    ],
)
async def test_a_containers_own_rules_come_before_the_pods(
    node: Node, fields: Object, exit_code: int, restarted: bool
) -> None:
    await node.run(container(**fields), container("other"), restartPolicy="Never")
    node.runtime.end("main", exit_code)
    await node.settle(60)
    assert node.container()["restartCount"] == int(restarted)
    assert node.status()["phase"] == "Running"


@pytest.mark.parametrize(
    ("said", "exit_code", "message"),
    [(b"last words\n", 1, "last words\n"), (b"last\nwords", 1, "last\nwords"), (b"last words\n", 0, "")],
)
async def test_the_end_of_the_log_stands_in_for_a_message_after_a_failure(
    node: Node, said: bytes, exit_code: int, message: str
) -> None:
    await node.run(container(terminationMessagePolicy="FallbackToLogsOnError"), restartPolicy="Never")
    writer = LogWriter(node.runtime.config("main").log_path, node.clock, node.kubelet.book)
    writer.write("stdout", said)
    writer.close()
    node.runtime.end("main", exit_code)
    await node.settle()
    assert node.container()["state"]["terminated"].get("message", "") == message


async def test_a_sandbox_that_fails_is_tried_again(node: Node) -> None:
    node.runtime.fail_sandbox.append(RuntimeFailure("FailedCreatePodSandBox", "no address left"))
    await node.run()
    assert node.status()["phase"] == "Pending"
    await node.settle(1.5)
    assert node.status()["phase"] == "Running"


async def test_and_again_every_fifteen_seconds_at_least_however_often_it_has_failed(node: Node) -> None:
    failures = [RuntimeFailure("FailedCreatePodSandBox", "no address left") for _ in range(100)]
    node.runtime.fail_sandbox.extend(failures)
    await node.run()
    left = len(node.runtime.fail_sandbox)
    for _ in range(20):
        await node.settle(15)
        assert len(node.runtime.fail_sandbox) < left
        left = len(node.runtime.fail_sandbox)
    assert left > 60  # and not all the time
    node.runtime.fail_sandbox.clear()
    await node.settle(15)
    assert node.status()["phase"] == "Running"


async def test_of_a_containers_former_attempts_the_runtime_keeps_the_last(node: Node) -> None:
    await node.run()
    for _ in range(4):
        node.runtime.end("main", 1)
        await node.settle(400)
    kept = [(one.attempt, one.state.name) for one in node.runtime.list_containers()]
    assert kept == [(3, "EXITED"), (4, "RUNNING")]


async def test_those_that_a_killed_kubelet_left_go_too(node: Node) -> None:
    await node.run()
    node.runtime.end("main", 1)
    await node.settle(400)
    await node.kill()
    await node.start()
    node.runtime.end("main", 1)
    await node.settle(400)
    assert [one.attempt for one in node.runtime.list_containers()] == [1, 2]


async def test_a_former_attempt_that_cannot_be_removed_costs_no_second_copy(node: Node) -> None:
    """It is removed when the next one has been started."""
    await node.run()
    for attempt in (1, 2):
        node.runtime.fail_remove = [RuntimeFailure("KillContainerError", "busy")]
        node.runtime.end("main", 1)
        await node.settle(400)
        assert node.runtime.running() == ["main"]
        assert node.container()["restartCount"] == attempt
        assert node.container()["containerID"].endswith(node.runtime.list_containers()[-1].id)
    assert node.runtime.attempts("main") == 3
    assert len(node.runtime.list_containers()) == 3
    first = node.runtime.list_containers()[0].id
    assert node.events("ContainerGCFailed") == [f"failed to remove container {first}: busy"]
    node.runtime.end("main", 1)
    await node.settle(400)
    assert [one.attempt for one in node.runtime.list_containers()] == [2, 3]


async def test_nor_is_it_taken_for_why_the_next_one_did_not_start(node: Node) -> None:
    await node.run()
    node.runtime.end("main", 1)
    await node.settle(400)
    node.runtime.fail_remove = [RuntimeFailure("KillContainerError", "busy")]
    node.runtime.fail_start["main"] = RuntimeFailure("RunContainerError", "no such program")
    node.runtime.end("main", 1)
    await node.settle(25)  # longer than it is held back, and too short for yet another one
    assert node.runtime.fail_remove == []
    assert node.events("Failed")[-1] == "Error: no such program"
    failures = 'kubelet_started_containers_errors_total{code="RunContainerError",container_type="container"} 1'
    assert failures in node.kubelet.metrics.render(node.kubelet.counts()).decode()


async def test_a_container_was_started_when_its_runtime_says_as_the_next_kubelet_hears_it(node: Node) -> None:
    node.runtime.started_before = timedelta(seconds=2)
    now = node.clock.now()
    await node.run()
    assert node.container()["state"]["running"]["startedAt"] == meta.format_time(now - timedelta(seconds=2))


# ---- a probe that fails


def dying(node: Node, name: str = "main", **fields: Any) -> Object:
    """A container that fails its liveness probe, and ends well when it is told to end."""
    node.runtime.stopped_with = 0
    node.runtime.execute = lambda probed, argv: ExecResult(b"", b"", int(probed == name))
    probe = {"exec": {"command": ["check"]}, "periodSeconds": 20, "failureThreshold": 1, "initialDelaySeconds": 20}
    return container(name, livenessProbe=probe, **fields)


@pytest.mark.parametrize(
    ("policy", "fields", "restarted"),
    [
        ("OnFailure", {}, True),
        ("Never", {}, False),
        ("Never", {"restartPolicy": "OnFailure"}, True),
        ("OnFailure", {"restartPolicy": "Never", "restartPolicyRules": [rule("In", 1)]}, False),
    ],
)
async def test_who_fails_its_liveness_is_started_again_unless_never_however_it_ends(
    node: Node, policy: str, fields: Object, restarted: bool
) -> None:
    await node.run(dying(node, **fields), restartPolicy=policy)
    await node.settle(21)
    told = "Container main failed liveness probe" + (", will be restarted" if restarted else "")
    assert node.events("Killing") == [told]
    assert node.runtime.attempts("main") == 1 + restarted
    assert node.status()["phase"] == ("Running" if restarted else "Succeeded")


async def test_who_fails_its_liveness_waits_only_where_the_attempt_before_ended_too_short_ago(node: Node) -> None:
    """(`kuberuntime_manager.go`: doBackOff sees the pod as it was before the container was killed.)"""
    await node.run(dying(node))
    await node.settle(1)
    for attempts in (2, 3, 4, 5):  # the waits are 0, 0, 10 and 20 seconds since the end before
        await node.settle(20)
        assert node.runtime.attempts("main") == attempts
    assert node.events("BackOff") == []
    await node.settle(20)
    assert (node.runtime.attempts("main"), len(node.events("BackOff"))) == (5, 1)
    assert node.container()["state"]["waiting"]["message"].startswith("back-off 40s restarting failed container=main")
    await node.settle(37)  # from its own end on
    assert node.runtime.attempts("main") == 5
    await node.settle(3)
    assert node.runtime.attempts("main") == 6


async def test_of_a_sidecar_that_fails_its_liveness_is_said_what_it_is(node: Node) -> None:
    await node.run(container(), initContainers=[dying(node, "side", restartPolicy="Always")])
    await node.settle(21)
    assert node.events("Killing") == ["Init container side failed liveness probe"]
    assert node.runtime.attempts("side") == 2


# ---- last words


def write_last_words(node: Node, words: str, name: str = "main") -> None:
    mounts = node.runtime.config(name).mounts
    next(one.source for one in mounts if one.target == "/dev/termination-log").write_text(words)


async def test_of_a_long_message_the_end_is_told(node: Node) -> None:
    await node.run(restartPolicy="Never")
    write_last_words(node, "x" * 5000 + "at last")
    node.runtime.end("main", 1)
    await node.settle()
    message = node.container()["state"]["terminated"]["message"]
    assert (len(message), message[-8:]) == (4096, "xat last")


async def test_the_containers_of_a_pod_share_what_their_messages_may_take(node: Node) -> None:
    names = [f"c{number}" for number in range(12)]
    await node.run(*map(container, names), restartPolicy="Never")
    for name in names:
        write_last_words(node, "é" * 2000, name)
        node.runtime.end(name, 1)
    await node.settle()
    assert {node.container(name)["state"]["terminated"]["message"] for name in names} == {"é" * 512}
