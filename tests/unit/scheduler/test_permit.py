"""Pods that have their node but may not be bound yet, and what is done before and after the binding."""

from __future__ import annotations

import asyncio

import pytest

from kubecore.scheduler.framework import CycleState, Permission, Permit, PostBind, PreBind, Refused
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.waiting_pods import WaitingPods
from tests.unit.scheduler.conftest import Running

BIG = {"cpu": "3"}


class Asks(Permit):
    """Answers each pod as the test wants it."""

    wakes = frozenset()

    def __init__(self, answer: Permission | None, name: str = "Asks") -> None:
        self.name = name  # type: ignore[misc]
        self.answer = answer

    def permit(self, state: CycleState, pod: PodInfo, node: str) -> Permission | None:
        return self.answer


class Prepares(PreBind, PostBind):
    name = "Prepares"

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.free = asyncio.Event()
        self.said: list[str] = []

    async def pre_bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
        self.said.append(f"before {node}")
        await self.free.wait()
        if self.error is not None:
            raise self.error

    def post_bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
        self.said.append(f"after {node}")


def waiting(cluster: Running) -> WaitingPods:
    assert cluster.scheduler is not None
    return cluster.scheduler.waiting


class TestPermit:
    async def test_a_pod_waits_until_it_is_allowed_and_shows_its_node_meanwhile(self, cluster: Running) -> None:
        await cluster.start(Asks(Permission(wait=60)))
        await cluster.add_node()
        await cluster.add_pod(requests=BIG)
        assert not cluster.bindings()
        assert cluster.pod()["status"]["nominatedNodeName"] == "n"
        (held,) = waiting(cluster)
        assert held.pending == ["Asks"]
        held.allow("Asks")
        await cluster.settle()
        assert cluster.node_of() == "n"

    async def test_its_room_is_taken_meanwhile(self, cluster: Running) -> None:
        await cluster.start(Asks(Permission(wait=60)))
        await cluster.add_node()
        await cluster.add_pod("a", requests=BIG)
        await cluster.add_pod("b", requests=BIG)
        assert [one.pod.key for one in waiting(cluster)] == ["default/a"]
        assert cluster.condition("b")["reason"] == "Unschedulable"

    async def test_all_that_hold_it_must_allow_it(self, cluster: Running) -> None:
        await cluster.start(Asks(Permission(wait=60), "A"), Asks(Permission(wait=60), "B"))
        await cluster.add_node()
        await cluster.add_pod()
        (held,) = waiting(cluster)
        held.allow("B")
        await cluster.settle()
        assert held.pending == ["A"] and not cluster.bindings()

    async def test_a_refusal_sends_it_back(self, cluster: Running) -> None:
        await cluster.start(Asks(Permission(refusal="not today")))
        await cluster.add_node()
        await cluster.add_pod()
        assert cluster.events("FailedScheduling") == ["0/1 nodes are available: 1 not today."]
        assert cluster.condition()["reason"] == "Unschedulable"

    async def test_so_does_a_wait_that_is_too_long_and_the_room_is_free_again(self, cluster: Running) -> None:
        asks = Asks(Permission(wait=10))
        await cluster.start(asks)
        await cluster.add_node()
        await cluster.add_pod("a", requests=BIG)
        await cluster.add_pod("b", requests=BIG)
        asks.answer = None
        await cluster.clock.advance(10)
        assert "rejected due to timeout after waiting 10s at plugin Asks" in cluster.condition("a")["message"]
        assert "nominatedNodeName" not in cluster.pod("a")["status"]
        await cluster.clock.advance(10)
        assert cluster.node_of("b") == "n"

    async def test_a_pod_that_is_deleted_waits_no_more(self, cluster: Running) -> None:
        await cluster.start(Asks(Permission(wait=600)))
        await cluster.add_node()
        await cluster.add_pod("a", requests=BIG)
        cluster.api.remove("pods", "a")
        await cluster.settle()
        assert not list(waiting(cluster))
        await cluster.add_pod("b", requests=BIG)
        assert [one.pod.key for one in waiting(cluster)] == ["default/b"]


class TestAroundBinding:
    async def test_what_is_to_be_prepared_is_waited_for(self, cluster: Running) -> None:
        prepares = Prepares()
        await cluster.start(prepares)
        await cluster.add_node()
        await cluster.add_pod()
        assert prepares.said == ["before n"] and not cluster.bindings()
        assert cluster.pod()["status"]["nominatedNodeName"] == "n"
        prepares.free.set()
        await cluster.settle()
        assert cluster.node_of() == "n" and prepares.said == ["before n", "after n"]

    @pytest.mark.parametrize(
        ("error", "reason", "message"),
        [
            (RuntimeError("no disk"), "SchedulerError", 'running PreBind plugin "Prepares": no disk'),
            (Refused("moved away", "Prepares"), "Unschedulable", "moved away"),
        ],
    )
    async def test_when_that_fails_the_pod_is_tried_again(
        self, cluster: Running, error: Exception, reason: str, message: str
    ) -> None:
        prepares = Prepares(error)
        prepares.free.set()
        await cluster.start(prepares)
        await cluster.add_node()
        await cluster.add_pod()
        assert (cluster.condition()["reason"], cluster.condition()["message"]) == (reason, message)
        assert "nominatedNodeName" not in cluster.pod()["status"]
        prepares.error = None
        await cluster.clock.advance(2)
        assert cluster.node_of() == "n"
