"""What NodeResourcesFit and NodeResourcesBalancedAllocation can be told to prefer."""

from __future__ import annotations

import pytest

from kubecore.client.client import Object
from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.framework import CycleState, Hopeless
from kubecore.scheduler.plugins.node_resources_balanced import NodeResourcesBalancedAllocation
from kubecore.scheduler.plugins.node_resources_fit import NodeResourcesFit
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.resource_scoring import Weighted
from tests.unit.scheduler.builders import cache_of, info, node_info

GPU = "example.com/gpu"


def asks(cpu: str = "0", memory: str = "0", **more: str) -> PodInfo:
    return info(requests={"cpu": cpu, "memory": memory, **more})


def offers(cpu: str = "4", memory: str = "10Gi", **more: str) -> NodeInfo:
    return node_info(allocatable={"pods": "110", "cpu": cpu, "memory": memory, **more})


def score(plugin: NodeResourcesFit | NodeResourcesBalancedAllocation, pod: PodInfo, on: NodeInfo) -> int:
    return plugin.score(CycleState(), pod, on)


class TestMostAllocated:
    plugin = NodeResourcesFit(strategy="MostAllocated")

    def test_the_fuller_a_node_the_better(self) -> None:
        assert score(self.plugin, asks("1", "5Gi"), offers()) == (25 + 50) // 2
        assert score(self.plugin, asks("4", "10Gi"), offers()) == 100

    def test_more_than_all_is_all(self) -> None:
        assert score(self.plugin, asks("9", "10Gi"), offers()) == 100


class TestRequestedToCapacityRatio:
    def plugin(self, *shape: tuple[int, int], resources: tuple[Weighted, ...] = ()) -> NodeResourcesFit:
        chosen = resources or (Weighted("cpu"), Weighted("memory"))
        return NodeResourcesFit(strategy="RequestedToCapacityRatio", shape=shape, resources=chosen)

    def test_a_rising_line_packs_and_a_falling_one_spreads(self) -> None:
        pod = asks("1", "5Gi")
        assert score(self.plugin((0, 0), (100, 10)), pod, offers()) == 38
        assert score(self.plugin((0, 10), (100, 0)), pod, offers()) == 63

    @pytest.mark.parametrize(("cpu", "expected"), [("0", 20), ("1", 20), ("2", 60), ("3", 100), ("4", 100)])
    def test_between_points_the_line_is_straight_and_outside_it_is_flat(self, cpu: str, expected: int) -> None:
        only_cpu = self.plugin((25, 2), (75, 10), resources=(Weighted("cpu"),))
        assert score(only_cpu, asks(cpu), offers()) == expected

    def test_resources_that_score_nothing_do_not_count(self) -> None:
        assert score(self.plugin((0, 0), (100, 10)), asks("2"), offers()) == 50

    def test_more_than_all_counts_as_full(self) -> None:
        only_cpu = self.plugin((0, 0), (100, 10), resources=(Weighted("cpu"),))
        assert score(only_cpu, asks("9"), offers()) == 100


class TestOtherResources:
    def test_each_counts_by_its_weight(self) -> None:
        plugin = NodeResourcesFit(resources=[Weighted("cpu", 3), Weighted("memory", 1)])
        assert score(plugin, asks("1", "5Gi"), offers()) == (3 * 75 + 50) // 4

    def test_an_extended_one_counts_for_pods_that_ask_for_it_on_nodes_that_have_it(self) -> None:
        plugin = NodeResourcesFit(resources=[Weighted(GPU), Weighted("cpu")])
        on = offers(**{GPU: "4"})
        assert score(plugin, asks("2", **{GPU: "1"}), on) == (75 + 50) // 2
        assert score(plugin, asks("2"), on) == 50
        assert score(plugin, asks("2", **{GPU: "1"}), offers()) == 50

    def test_storage_counts_for_all(self) -> None:
        plugin = NodeResourcesFit(resources=[Weighted("ephemeral-storage")])
        assert score(plugin, asks(), offers(**{"ephemeral-storage": "10Gi"})) == 100

    def test_balance_is_the_deviation_of_all_of_them(self) -> None:
        plugin = NodeResourcesBalancedAllocation(resources=[Weighted("cpu"), Weighted("memory"), Weighted(GPU)])
        on = offers(cpu="4", memory="4Gi", **{GPU: "4"})
        assert score(plugin, asks("2", "2Gi", **{GPU: "2"}), on) == 100
        assert score(plugin, asks("4", "1Gi", **{GPU: "1"}), on) == int((1 - 0.125**0.5) * 100)

    def test_balance_matters_to_pods_that_ask_for_any_of_them(self) -> None:
        plugin = NodeResourcesBalancedAllocation(resources=[Weighted(GPU)])
        assert plugin.pre_score(CycleState(), asks(**{GPU: "1"}), [], cache_of())
        assert not plugin.pre_score(CycleState(), asks("1"), [], cache_of())


class TestIgnoredResources:
    def lacks(self, plugin: NodeResourcesFit, requests: Object) -> bool:
        return bool(plugin.filter(CycleState(), info(requests=requests), offers()))

    def test_nodes_need_not_have_them(self) -> None:
        plugin = NodeResourcesFit(ignored=[GPU], ignored_groups=["example.org"])
        assert not self.lacks(plugin, {GPU: "1"})
        assert not self.lacks(plugin, {"example.org/anything": "1"})
        assert self.lacks(plugin, {"example.com/other": "1"})

    def test_kubernetes_own_ones_cannot_be_ignored(self) -> None:
        assert self.lacks(NodeResourcesFit(ignored=["cpu"], ignored_groups=["cpu"]), {"cpu": "9"})


def test_a_node_that_would_be_too_small_when_empty_is_hopeless() -> None:
    on = node_info("n", info("other", requests={"cpu": "3"}), allocatable={"pods": "9", "cpu": "4", "memory": "1Gi"})
    plugin, state = NodeResourcesFit(), CycleState()
    assert not isinstance(plugin.filter(state, asks("2"), on), Hopeless)
    assert isinstance(plugin.filter(state, asks("5"), on), Hopeless)
    assert isinstance(plugin.filter(state, asks("2", "2Gi"), on), Hopeless)
