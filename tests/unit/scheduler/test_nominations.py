"""Pods for which room is being made on a node: others leave it to them."""

from __future__ import annotations

import random

import pytest

from kubecore.scheduler.cache import Cache
from kubecore.scheduler.evaluator import PluginEvaluator
from kubecore.scheduler.framework import Decision, Score
from kubecore.scheduler.nominations import Nominations
from kubecore.scheduler.plugins.node_resources_fit import NodeResourcesFit
from kubecore.scheduler.plugins.node_unschedulable import NodeUnschedulable
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.profile import Profile
from tests.unit.scheduler.builders import cache_of, info, node
from tests.unit.scheduler.conftest import Running

BIG = {"cpu": "3"}


def decide(wanted: PodInfo, cache: Cache) -> Decision:
    plugins = [NodeUnschedulable(), NodeResourcesFit()]
    return PluginEvaluator(Profile.of(plugins), random.Random(0)).evaluate(wanted, cache)


class TestRoomForOthers:
    @pytest.mark.parametrize(("priority", "fits"), [(4, False), (5, False), (6, True)])
    def test_is_left_to_nominated_pods_of_the_same_or_a_higher_priority(self, priority: int, fits: bool) -> None:
        cache = cache_of(node("n"))
        cache.nominations.put(info("other", requests=BIG, priority=5), "n")
        decision = decide(info(requests=BIG, priority=priority), cache)
        assert bool(decision.node) is fits
        if decision.diagnosis is not None:
            assert decision.diagnosis.message() == "0/1 nodes are available: 1 Insufficient cpu."
            assert decision.diagnosis.crowded == ["n"]

    def test_a_pod_does_not_stand_in_its_own_way(self) -> None:
        cache, wanted = cache_of(node("n")), info(requests=BIG)
        cache.nominations.put(wanted, "n")
        assert decide(wanted, cache).node == "n"

    def test_nothing_remains_counted_after_the_try(self) -> None:
        cache = cache_of(node("n"))
        cache.nominations.put(info("other", requests=BIG), "n")
        decide(info(requests=BIG), cache)
        cache.nominations.remove("uid-of-other")
        assert decide(info(requests=BIG), cache).node == "n"


class TestTheNominatedNode:
    class Prefers(Score):
        name = "Prefers"

        def score(self, state: object, pod: object, node: object) -> int:
            return 100 if getattr(node, "name", "") == "better" else 0

    def test_is_taken_when_it_fits_even_where_another_is_better(self) -> None:
        evaluator = PluginEvaluator(Profile.of([NodeUnschedulable(), self.Prefers()]))
        cache, wanted = cache_of(node("better"), node("n")), info()
        assert evaluator.evaluate(wanted, cache).node == "better"
        cache.nominations.put(wanted, "n")
        assert evaluator.evaluate(wanted, cache).node == "n"

    def test_else_the_others_are_tried_and_it_counts_once(self) -> None:
        cache, wanted = cache_of(node("n", unschedulable=True), node("m", unschedulable=True)), info()
        cache.nominations.put(wanted, "n")
        diagnosis = decide(wanted, cache).diagnosis
        assert diagnosis is not None
        assert diagnosis.message() == "0/2 nodes are available: 2 node(s) were unschedulable."
        assert diagnosis.crowded == []


class TestBooks:
    def test_the_last_nomination_counts(self) -> None:
        books = Nominations()
        books.put(info("p"), "a")
        books.put(info("p"), "b")
        assert (books.on("a"), [one.key for one in books.on("b")]) == ([], ["default/p"])
        books.put(info("p"), "")
        assert not books

    def test_an_update_that_knows_nothing_of_it_yet_keeps_it(self) -> None:
        books = Nominations()
        books.put(info("p"), "a")
        books.updated(info("p"), info("p"))
        assert books.node_of("uid-of-p") == "a"

    def test_one_that_takes_it_out_of_the_status_takes_it_back(self) -> None:
        books = Nominations()
        nominated = info("p", status={"nominatedNodeName": "a"})
        books.updated(None, nominated)
        assert books.node_of("uid-of-p") == "a"
        books.updated(nominated, info("p"))
        assert books.node_of("uid-of-p") == ""


class TestInTheCluster:
    async def nominate(self, cluster: Running) -> None:
        """A pod that waits, with all of node n kept free for it by its status."""
        await cluster.start()
        await cluster.add_node("n")
        gates = [{"name": "wait"}]
        status = {"phase": "Pending", "nominatedNodeName": "n"}
        await cluster.add_pod("first", requests=BIG, priority=5, schedulingGates=gates, status=status)
        await cluster.add_pod("second", requests=BIG)
        assert cluster.condition("second")["reason"] == "Unschedulable"

    async def test_a_nomination_in_a_pods_status_keeps_others_away(self, cluster: Running) -> None:
        await self.nominate(cluster)
        assert not cluster.node_of("second")

    async def test_they_are_woken_when_it_is_taken_back(self, cluster: Running) -> None:
        await self.nominate(cluster)
        cluster.api.change("pods", "first", status={"nominatedNodeName": None})
        await cluster.clock.advance(2)
        assert cluster.node_of("second") == "n"

    async def test_and_when_the_pod_is_gone(self, cluster: Running) -> None:
        await self.nominate(cluster)
        cluster.api.remove("pods", "first")
        await cluster.clock.advance(2)
        assert cluster.node_of("second") == "n"
