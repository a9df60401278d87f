"""How pods are told about, where the way to the API server takes conditions of many pods at once, and where not."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from kubecore.api import errors, meta
from kubecore.api.amendment import Amendment
from kubecore.client.client import Client, Object
from kubecore.clock import VirtualClock
from kubecore.scheduler.reporting import Reporter
from tests.support.fake_api import FakeAPI
from tests.unit.scheduler.builders import pod

WHY = ("PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod")


class AmendingAPI(FakeAPI):
    """Answers amendments as it is told to, in their order, and does nothing; None: it takes none."""

    def __init__(self, clock: VirtualClock, *answers: int | None) -> None:
        super().__init__(clock)
        self.given: list[Amendment] = []
        self.calls = 0
        self._answers = answers

    async def amend_pods(
        self, amendments: Sequence[Amendment], *, query: Mapping[str, str]
    ) -> list[tuple[int, bytes]] | None:
        assert query == {"fieldManager": "kube-scheduler"}
        self.given += amendments
        self.calls += 1
        codes = [code for code in self._answers if code is not None]
        refusals = [errors.StatusError(code, "", "no").to_json() if code >= 400 else b"" for code in codes]
        return list(zip(codes, refusals, strict=True)) or None


class Reporting:
    def __init__(self, *answers: int | None) -> None:
        self.clock = VirtualClock()
        self.api = AmendingAPI(self.clock, *answers)
        client = Client(self.api, field_manager="kube-scheduler")
        self.spawned: set[asyncio.Task[None]] = set()
        self.reporter = Reporter(client, self.clock, "default-scheduler", spawn=self._spawn)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self.spawned.add(asyncio.create_task(work, name=name))

    def add(self, name: str) -> Object:
        self.api.add("pods", pod(name))
        found = self.api.get("pods", name)
        assert found is not None
        return found

    async def tell(self, *pods: Object) -> None:
        for one in pods:
            self.reporter.set_unscheduled(one, "Unschedulable", "none fits", nominated="n1")
        await self.clock.advance(1)

    async def take_away(self, *pods: Object) -> list[Exception | None]:
        work = asyncio.create_task(self.reporter.take_away(pods, *WHY))
        await self.clock.advance(1)
        return await work

    def asked(self) -> list[str]:
        return [f"{one.method.lower()} {one.name}" for one in self.api.writes()]


async def test_pods_are_told_why_they_go_and_deleted_at_once() -> None:
    cluster = Reporting(200, 200)
    pods = [cluster.add("a"), cluster.add("b")]
    assert await cluster.take_away(*pods) == [None, None]
    assert [(one.name, one.uid, one.goes) for one in cluster.api.given] == [
        (meta.name(one), meta.uid(one), True) for one in pods
    ]
    condition = cluster.api.given[0].condition
    assert (condition["type"], condition["status"], condition["reason"], condition["message"]) == (
        "DisruptionTarget",
        "True",
        *WHY,
    )
    assert not cluster.asked()


async def test_where_that_is_not_possible_each_is_patched_and_deleted() -> None:
    cluster = Reporting(None)
    pods = [cluster.add("a"), cluster.add("b")]
    assert await cluster.take_away(*pods) == [None, None]
    assert sorted(cluster.asked()) == ["delete a", "delete b", "patch a", "patch b"]


async def test_what_fails_in_passing_is_tried_again_and_what_is_refused_is_told() -> None:
    cluster = Reporting(503, 200, 403)
    failures = await cluster.take_away(*map(cluster.add, "abc"))
    assert failures[:2] == [None, None] and str(failures[2]) == "no"
    assert cluster.asked() == ["patch a", "delete a"]


async def test_a_pod_that_was_told_is_deleted_alone() -> None:
    cluster = Reporting(200)
    known = cluster.add("a")
    condition = {"type": "DisruptionTarget", "status": "True", "reason": WHY[0], "message": WHY[1]}
    known["status"] = {"conditions": [condition]}
    assert await cluster.take_away(known) == [None]
    assert cluster.asked() == ["delete a"] and not cluster.api.given


async def test_the_node_that_a_pod_is_to_get_goes_with_its_condition() -> None:
    cluster = Reporting(200)
    await cluster.tell(cluster.add("a"))
    (given,) = cluster.api.given
    assert given.status == {"nominatedNodeName": "n1"} and not given.goes
    assert (given.condition["type"], given.condition["message"]) == ("PodScheduled", "none fits")
    assert not cluster.asked()


async def test_a_status_that_fails_in_passing_is_written_again() -> None:
    cluster = Reporting(503)
    await cluster.tell(cluster.add("a"))
    found = cluster.api.get("pods", "a") or {}
    assert found["status"]["nominatedNodeName"] == "n1"
    assert (meta.condition(found, "PodScheduled") or {})["message"] == "none fits"


async def test_a_pod_that_was_told_so_already_is_not_told_again() -> None:
    cluster = Reporting(200)
    known = cluster.add("a")
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "none fits"}
    known["status"] = {"conditions": [condition], "nominatedNodeName": "n1"}
    await cluster.tell(known)
    assert not cluster.api.given and not cluster.asked()


async def test_what_is_said_of_pods_in_one_turn_goes_together_and_each_hears_how_it_ended() -> None:
    cluster = Reporting(200, 403, 200, 503)
    pods = [cluster.add(name) for name in "abcd"]
    going = [asyncio.create_task(cluster.reporter.take_away([one], *WHY)) for one in pods[:2]]
    await asyncio.sleep(0)
    await cluster.tell(*pods[2:])
    first, second = [await one for one in going]
    assert (first, list(map(str, second))) == ([None], ["no"])
    assert cluster.api.calls == 1
    assert cluster.asked() == ["patch d"]
