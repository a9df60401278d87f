"""Room is made for pods that fit nowhere, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.api import meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.scheduler.framework import CycleState, Permission, Permit
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.reporting import Reporter
from tests.unit.scheduler.builders import NO_CLAIMS, no_preemption, pod
from tests.unit.scheduler.conftest import Running

BIG = {"cpu": "3"}
"""More than half of a node."""


async def with_victim(cluster: Running, **fields: Any) -> None:
    """Node n1, on which `low` runs."""
    await cluster.start()
    await cluster.add_node("n1")
    await cluster.add_pod("low", requests=BIG, **fields)


async def add_high(cluster: Running, name: str = "high", priority: int = 100, **fields: Any) -> None:
    await cluster.add_pod(name, requests=BIG, priority=priority, **fields)


async def gone(cluster: Running) -> None:
    """The victim, whose containers took their time to end, is no more."""
    cluster.api.remove("pods", "low")
    await cluster.clock.advance(12)


class TestPreempting:
    async def test_a_pod_of_lower_priority_is_deleted_and_its_room_given(self, cluster: Running) -> None:
        await with_victim(cluster)
        await add_high(cluster)
        assert meta.is_deleting(cluster.pod("low")) and not cluster.node_of("high")
        await gone(cluster)
        assert cluster.node_of("high") == "n1"

    async def test_the_victim_is_told_why(self, cluster: Running) -> None:
        await with_victim(cluster)
        await add_high(cluster)
        condition = meta.condition(cluster.pod("low"), "DisruptionTarget") or {}
        assert (condition["status"], condition["reason"], condition["message"]) == (
            "True",
            "PreemptionByScheduler",
            "default-scheduler: preempting to accommodate a higher priority pod",
        )
        (event,) = [one for one in cluster.api.all("events") if one["reason"] == "Preempted"]
        uid = meta.uid(cluster.pod("high"))
        assert event["message"] == f"Preempted by pod {uid} on node n1"
        assert (event["type"], event["action"], event["related"]["name"]) == ("Normal", "Preempting", "high")
        assert event["involvedObject"]["name"] == "low"

    async def test_the_pod_waits_for_its_node_which_its_status_names(self, cluster: Running) -> None:
        await with_victim(cluster)
        await add_high(cluster)
        await cluster.clock.advance(60)
        assert not cluster.node_of("high")
        assert cluster.pod("high")["status"]["nominatedNodeName"] == "n1"
        assert cluster.condition("high")["message"] == "0/1 nodes are available: 1 Insufficient cpu."
        await gone(cluster)
        assert cluster.node_of("high") == "n1"

    async def test_it_deletes_no_more_pods_while_those_are_still_leaving(self, cluster: Running) -> None:
        await with_victim(cluster)
        await add_high(cluster)
        await cluster.add_pod("low2", requests=BIG, node="n2")
        await cluster.add_node("n2")
        await cluster.clock.advance(12)
        assert cluster.events("FailedScheduling")[-1].endswith(
            "preemption: not eligible due to a terminating pod on the nominated node."
        )
        assert cluster.api.get("pods", "low2") is not None
        assert cluster.pod("high")["status"]["nominatedNodeName"] == "n1"

    async def test_it_is_not_tried_before_all_of_its_victims_go(
        self, cluster: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def disrupted(_: Reporter, victim: Object, *__: object) -> None:
            if meta.name(victim) == "slow":
                await cluster.clock.sleep(30)

        monkeypatch.setattr(Reporter, "disrupted", disrupted)
        await cluster.start()
        await cluster.add_node("n1")
        for name in ("slow", "quick"):
            await cluster.add_pod(name, requests={"cpu": "2"}, terminationGracePeriodSeconds=0)
        await add_high(cluster)
        await cluster.clock.advance(20)
        assert cluster.api.get("pods", "quick") is None and not meta.is_deleting(cluster.pod("slow"))
        await cluster.clock.advance(20)
        assert cluster.node_of("high") == "n1"
        assert len(cluster.events("FailedScheduling")) == 1

    async def test_its_room_is_not_given_to_others_of_lower_priority(self, cluster: Running) -> None:
        await with_victim(cluster)
        await add_high(cluster)
        await cluster.add_pod("later", requests=BIG, priority=50)
        await gone(cluster)
        assert (cluster.node_of("high"), cluster.node_of("later")) == ("n1", "")

    async def test_a_pod_of_still_higher_priority_takes_it_and_the_first_looks_elsewhere(
        self, cluster: Running
    ) -> None:
        await with_victim(cluster)
        await add_high(cluster, "first")
        await add_high(cluster, "second", priority=200)
        await gone(cluster)
        assert (cluster.node_of("first"), cluster.node_of("second")) == ("", "n1")
        assert "nominatedNodeName" not in cluster.pod("first")["status"]
        await cluster.add_node("n2")
        await cluster.clock.advance(12)
        assert cluster.node_of("first") == "n2"

    async def test_a_pod_that_waits_to_be_bound_is_sent_back_rather_than_deleted(self, cluster: Running) -> None:
        class HoldsLow(Permit):
            name = "HoldsLow"
            wakes = frozenset()

            def permit(self, state: CycleState, pod: PodInfo, node: str) -> Permission | None:
                return None if pod.priority else Permission(wait=600)

        await cluster.start(HoldsLow())
        await cluster.add_node("n1")
        await cluster.add_pod("low", requests=BIG)
        await add_high(cluster)
        await cluster.clock.advance(12)
        assert cluster.node_of("high") == "n1"
        assert cluster.condition("low")["message"].startswith("0/1 nodes are available: 1 preempted.")


class TestNotPreempting:
    async def message(self, cluster: Running, **fields: Any) -> str:
        await with_victim(cluster, priority=10)
        await add_high(cluster, **fields)
        await cluster.clock.advance(2)
        assert cluster.api.get("pods", "low") is not None
        return str(cluster.condition("high")["message"]).removeprefix("0/1 nodes are available: ")

    async def test_pods_of_the_same_priority_stay(self, cluster: Running) -> None:
        assert await self.message(cluster, priority=10) == (
            f"1 Insufficient cpu. {NO_CLAIMS}preemption: 0/1 nodes are available: 1 No preemption victims found for "
            "incoming pod."
        )

    async def test_a_pod_may_say_that_it_never_preempts(self, cluster: Running) -> None:
        assert await self.message(cluster, preemptionPolicy="Never") == (
            f"1 Insufficient cpu. {NO_CLAIMS}preemption: not eligible due to preemptionPolicy=Never."
        )

    async def test_nobody_goes_where_that_would_not_help(self, cluster: Running) -> None:
        text = await self.message(cluster, nodeSelector={"disk": "fast"})
        assert text == f"1 node(s) didn't match Pod's node affinity/selector. {no_preemption()}"

    async def test_nor_where_the_node_is_too_small_when_empty(self, cluster: Running) -> None:
        await with_victim(cluster)
        await cluster.add_pod("huge", requests={"cpu": "9"}, priority=100)
        assert cluster.condition("huge")["message"].endswith(no_preemption())

    async def test_nodes_are_told_apart(self, cluster: Running) -> None:
        await with_victim(cluster, priority=200)
        await cluster.add_node("n2", unschedulable=True)
        await add_high(cluster)
        assert cluster.condition("high")["message"] == (
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. "
            f"{NO_CLAIMS}preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, "
            "1 Preemption is not helpful for scheduling."
        )


class TestFailing:
    async def test_a_victim_that_cannot_be_deleted_is_tried_again(self, cluster: Running) -> None:
        await with_victim(cluster)
        cluster.api.react("delete pods", StatusError(500, "InternalError", "no"))
        await add_high(cluster)
        assert len(cluster.api.writes("delete pods")) == 2 and meta.is_deleting(cluster.pod("low"))
        await gone(cluster)
        assert cluster.node_of("high") == "n1"

    async def test_a_victim_that_is_gone_meanwhile_is_as_good_as_deleted(self, cluster: Running) -> None:
        await with_victim(cluster)
        cluster.api.react("delete pods", StatusError(404, "NotFound", 'pods "low" not found'))
        await add_high(cluster)
        await gone(cluster)
        assert cluster.node_of("high") == "n1"
        assert not cluster.events("Preempted")

    async def test_a_pod_of_the_victims_name_that_is_another_stays(self, cluster: Running) -> None:
        await with_victim(cluster)
        await add_high(cluster)
        (request,) = cluster.api.writes("delete pods")
        assert request.body["preconditions"]["uid"]

    async def test_no_fault_of_ours_ends_the_scheduler(self, cluster: Running, monkeypatch: pytest.MonkeyPatch) -> None:
        await with_victim(cluster)
        faults = iter([RuntimeError("a bug")])

        async def disrupted(*_: object) -> None:
            if fault := next(faults, None):
                raise fault

        monkeypatch.setattr(Reporter, "disrupted", disrupted)
        await add_high(cluster)
        await gone(cluster)
        assert cluster.node_of("high") == "n1"

    async def test_a_victim_that_another_took_the_name_of_meanwhile_is_not_waited_for(
        self, cluster: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replaced = False

        async def disrupted(*_: object) -> None:
            nonlocal replaced
            if not replaced:
                replaced = True
                cluster.api.remove("pods", "last")
                cluster.api.add("pods", pod("last", uid="another", schedulerName="another"))
                # until the scheduler has seen it
                await cluster.clock.sleep(0.1)

        await cluster.start()
        await cluster.add_node("n1")
        await cluster.add_pod("first", requests={"cpu": "2"}, priority=20)
        await cluster.add_pod("last", requests={"cpu": "2"}, priority=10)
        monkeypatch.setattr(Reporter, "disrupted", disrupted)
        await add_high(cluster)
        assert meta.is_deleting(cluster.pod("first")) and not meta.is_deleting(cluster.pod("last"))
        cluster.api.remove("pods", "first")
        await cluster.clock.advance(12)
        assert cluster.node_of("high") == "n1"
