"""Containers whose start is under way when their pod is to end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kubecore.kubelet.runtime.interface import RuntimeFailure
from tests.unit.kubelet.conftest import Node, container

HOOK = {"preStop": {"exec": {"command": ["bye"]}}}


def evict(node: Node, grace_seconds: float) -> None:
    node.kubelet.workers.all()[0].evict("no room", grace_seconds, disrupted=True)


async def come(node: Node) -> None:
    """What hangs goes on."""
    node.runtime.answers.set()
    await node.settle()


def stops(node: Node) -> list[str]:
    return [name for call, name in node.runtime.calls if call == "stop"]


# ---- those that run


@pytest.mark.parametrize("late", ["start", "started"])
async def test_those_that_run_are_stopped_at_once(node: Node, late: str) -> None:
    node.runtime.hangs.add((late, "b"))
    node.runtime.stubborn.add("a")
    await node.run(container("a", lifecycle=HOOK), container("b"), terminationGracePeriodSeconds=5)
    await node.delete()
    assert ("bye", "a") in node.runtime.calls
    assert node.events("Killing") == ["Stopping container a"]
    assert stops(node) == ["a"]
    await node.settle(4)
    assert "a" in node.runtime.running()
    await node.settle(1)
    assert "a" not in node.runtime.running()


async def test_an_eviction_without_grace_waits_for_no_start(node: Node) -> None:
    node.runtime.hangs.add(("start", "b"))
    node.runtime.stubborn.add("a")
    await node.run(container("a"), container("b"))
    evict(node, 0)
    await node.settle()
    assert node.runtime.running() == []
    assert (node.status()["phase"], node.status()["reason"]) == ("Failed", "Evicted")


@pytest.mark.parametrize("after", [1, 3])
async def test_an_eviction_without_grace_ends_the_waiting_for_a_start(node: Node, after: int) -> None:
    node.runtime.hangs.add(("start", "main"))
    await node.run(terminationGracePeriodSeconds=2)
    await node.delete()
    await node.settle(after)
    assert node.api.get("pods", "pod") is not None
    evict(node, 0)
    await node.settle()
    assert node.api.get("pods", "pod") is None


async def test_an_ephemeral_container_that_is_being_started_keeps_no_other_from_its_end(node: Node) -> None:
    node.runtime.hangs.add(("start", "debugger"))
    await node.run()
    spec = {**node.pod()["spec"], "ephemeralContainers": [container("debugger")]}
    node.api.change("pods", "pod", spec=spec)
    await node.settle()
    await node.delete()
    assert stops(node) == ["main"]
    await come(node)
    assert stops(node) == ["main", "debugger"]
    assert node.api.get("pods", "pod") is None


# ---- the one that is late


async def test_its_hook_is_called_once_it_has_come(node: Node) -> None:
    node.runtime.hangs.add(("start", "main"))
    await node.run(container(lifecycle=HOOK))
    await node.delete()
    await node.settle(3)
    assert node.events("Killing") == []
    await come(node)
    assert node.runtime.calls[-3:] == [("start", "main"), ("bye", "main"), ("stop", "main")]
    assert node.events("Started") == ["Container started"]
    assert node.events("Killing") == ["Stopping container main"]


async def test_it_gets_no_post_start_hook_any_more(node: Node) -> None:
    node.runtime.hangs.add(("start", "main"))
    await node.run(container(lifecycle={"postStart": {"exec": {"command": ["hello"]}}}))
    await node.delete()
    await come(node)
    assert node.runtime.calls[-2:] == [("start", "main"), ("stop", "main")]


@pytest.mark.parametrize(("grace_seconds", "left"), [(30, 27), (2, 2)])
async def test_it_has_what_is_left_of_the_grace_and_two_seconds_at_least(
    node: Node, grace_seconds: int, left: int
) -> None:
    node.runtime.hangs.add(("start", "main"))
    node.runtime.stubborn.add("main")
    await node.run(terminationGracePeriodSeconds=grace_seconds)
    await node.delete()
    await node.settle(3)
    await come(node)
    assert stops(node) == ["main"]
    await node.settle(left - 0.25)
    assert node.runtime.running() == ["main"]
    await node.settle(0.25)
    assert node.api.get("pods", "pod") is None


async def test_it_is_stopped_within_the_grace_though_nobody_was_told_that_it_has_come(node: Node) -> None:
    node.runtime.hangs.add(("started", "main"))
    node.runtime.stubborn.add("main")
    await node.run(terminationGracePeriodSeconds=30)
    await node.delete()
    await node.settle(29)
    assert node.runtime.running() == ["main"]
    await node.settle(2)
    assert node.api.get("pods", "pod") is None


async def test_how_it_ended_is_told_though_it_has_ended_before_its_start_returned(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = node.runtime.start_container

    async def start_and_end(container_id: str) -> None:
        await start(container_id)
        node.runtime.end("main", 3)

    monkeypatch.setattr(node.runtime, "start_container", start_and_end)
    node.runtime.hangs.add(("start", "main"))
    await node.run()
    evict(node, 30)
    await node.settle()
    await come(node)
    assert node.status()["reason"] == "Evicted"
    assert node.container()["state"]["terminated"]["exitCode"] == 3


async def test_that_it_could_not_be_started_is_told(node: Node) -> None:
    node.runtime.hangs.add(("start", "main"))
    await node.run()
    evict(node, 30)
    await node.settle()
    node.runtime.fail_start["main"] = RuntimeFailure("RunContainerError", "no such program")
    await come(node)
    assert node.status()["reason"] == "Evicted"
    ended = node.container()["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"], ended["message"]) == ("StartError", 128, "no such program")
    assert node.events("Failed") == ["Error: no such program"]


async def test_a_restart_that_comes_late_is_ended_as_a_first_start_is(node: Node) -> None:
    await node.run()
    node.runtime.hangs.add(("start", "main"))
    node.runtime.end("main", 1)
    await node.settle(1)
    await node.delete()
    assert stops(node) == []
    await come(node)
    assert (node.runtime.attempts("main"), stops(node)) == (2, ["main"])
    assert node.api.get("pods", "pod") is None


async def test_an_error_of_a_late_start_is_logged_and_the_pod_ends(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(container_id: str) -> None:
        await node.runtime.answers.wait()
        raise OSError("no pipe")

    monkeypatch.setattr(node.runtime, "start_container", fail)
    await node.run()
    await node.delete()
    await come(node)
    assert node.api.get("pods", "pod") is None
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == ["kubelet starting main failed"]


# ---- the one that never comes


@pytest.mark.parametrize(("call", "seconds"), [("create", 0), ("start", 5)])
async def test_a_pod_goes_though_its_container_never_comes(node: Node, call: str, seconds: int) -> None:
    node.runtime.hangs.add((call, "main"))
    await node.run()
    await node.delete()
    await node.settle(seconds)
    assert node.api.get("pods", "pod") is None
    assert node.runtime.sandboxes == {}


async def test_a_pod_that_is_evicted_ends_though_its_container_never_comes(node: Node) -> None:
    node.runtime.hangs.add(("create", "main"))
    await node.run(activeDeadlineSeconds=3600)
    evict(node, 0)
    await node.settle()
    assert (node.status()["phase"], node.status()["reason"]) == ("Failed", "Evicted")


# ---- in their order


@pytest.mark.parametrize("kind", ["containers", "initContainers"])
async def test_sidecars_run_until_it_has_ended(node: Node, kind: str) -> None:
    node.runtime.hangs.add(("start", "late"))
    spec: dict[str, Any] = {"initContainers": [container("proxy", restartPolicy="Always")]}
    if kind == "initContainers":
        spec["initContainers"].append(container("late"))
        await node.run(container(), **spec)
    else:
        await node.run(container("late"), **spec)
    await node.delete()
    await node.settle(3)
    assert stops(node) == []
    await come(node)
    assert stops(node) == ["late", "proxy"]
    assert node.api.get("pods", "pod") is None


async def test_sidecars_before_one_that_is_late_run_until_it_has_ended(node: Node) -> None:
    node.runtime.hangs.add(("start", "second"))
    sidecars = [container(name, restartPolicy="Always") for name in ("first", "second")]
    await node.run(initContainers=sidecars)
    await node.delete()
    await node.settle(3)
    assert stops(node) == []
    await come(node)
    assert stops(node) == ["second", "first"]


async def test_sidecars_are_stopped_once_it_is_given_up(node: Node) -> None:
    node.runtime.hangs.add(("start", "main"))
    await node.run(initContainers=[container("proxy", restartPolicy="Always")])
    await node.delete()
    await node.settle(4.5)
    assert stops(node) == []
    await node.settle(0.5)
    assert stops(node) == ["proxy"]
    assert node.api.get("pods", "pod") is None


# ---- when the kubelet ends


async def test_a_kubelet_that_ends_meanwhile_leaves_no_start_behind(node: Node) -> None:
    node.runtime.hangs.add(("start", "main"))
    await node.run()
    await node.delete()
    assert node._task is not None
    node._task.cancel()
    await node.settle(1)
    assert node._task.done()
    await come(node)
    assert ("start", "main") not in node.runtime.calls


async def test_a_kubelet_that_ends_leaves_no_start_behind(node: Node) -> None:
    node.runtime.hangs.add(("start", "main"))
    await node.run()
    await node.stop()
    await come(node)
    assert ("start", "main") not in node.runtime.calls


async def test_a_kubelet_whose_runtime_does_not_end_leaves_no_network_behind(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    monkeypatch.setattr(node.kubelet._network, "close", lambda: closed.append("network"))
    monkeypatch.setattr(node.runtime, "close", node.runtime.answers.wait)
    monkeypatch.setattr(node.kubelet._own_runtimes.monitor, "close", _told(closed, "monitor"))
    assert node._task is not None
    node._task.cancel()
    await node.settle(1)
    assert closed == []
    node._task.cancel()
    await node.settle()
    assert (node._task.done(), closed) == (True, ["monitor", "network"])


def _told(calls: list[str], name: str) -> Callable[[], Coroutine[Any, Any, None]]:
    async def call() -> None:
        calls.append(name)

    return call


async def test_the_next_kubelet_ends_the_pod_though_the_last_was_killed_meanwhile(node: Node) -> None:
    node.runtime.hangs.add(("start", "b"))
    node.runtime.stubborn.add("a")
    await node.run(container("a"), container("b"))
    await node.delete()
    await node.kill()
    assert node.runtime.running() == ["a"]
    await node.start()
    await node.settle(29)
    assert node.runtime.running() == ["a"]
    await node.settle(1)
    assert node.api.get("pods", "pod") is None
    assert (node.runtime.attempts("b"), node.runtime.sandboxes) == (0, {})
