"""Room on nodes, and which node has it best."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubecore.client.client import Object
from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.events import node_added, node_changes, pod_changes, pod_removed
from kubecore.scheduler.framework import CycleState
from kubecore.scheduler.plugins.node_resources_balanced import NodeResourcesBalancedAllocation
from kubecore.scheduler.plugins.node_resources_fit import NodeResourcesFit
from kubecore.scheduler.pods import PodInfo
from tests.unit.scheduler.builders import cache_of, info, node, node_info

fit = NodeResourcesFit()
balanced = NodeResourcesBalancedAllocation()


def lacks(pod: PodInfo, on: NodeInfo) -> set[str]:
    return set(fit.filter(CycleState(), pod, on))


def room(**allocatable: str) -> Object:
    return {"pods": "110", **{name.replace("_", "-"): amount for name, amount in allocatable.items()}}


class TestRoom:
    def test_what_is_left_must_be_enough(self) -> None:
        on = node_info(
            "n", info("other", requests={"cpu": "1", "memory": "1Gi"}), allocatable=room(cpu="2", memory="2Gi")
        )
        assert not lacks(info(requests={"cpu": "1", "memory": "1Gi"}), on)
        assert lacks(info(requests={"cpu": "1001m"}), on) == {"Insufficient cpu"}
        assert lacks(info(requests={"cpu": "2", "memory": "2Gi"}), on) == {"Insufficient cpu", "Insufficient memory"}

    def test_every_resource_has_its_own_reason(self) -> None:
        on = node_info(allocatable=room(cpu="1", memory="1Gi", ephemeral_storage="1Gi", **{"example.com/gpu": "1"}))
        wants = {"ephemeral-storage": "2Gi", "example.com/gpu": "2", "hugepages-2Mi": "2Mi"}
        assert lacks(info(requests=wants), on) == {
            "Insufficient ephemeral-storage",
            "Insufficient example.com/gpu",
            "Insufficient hugepages-2Mi",
        }

    def test_asking_for_none_of_what_a_node_has_not_is_fine(self) -> None:
        assert not lacks(info(requests={"example.com/gpu": "0"}), node_info())

    def test_what_is_not_asked_for_may_be_overcommitted(self) -> None:
        on = node_info("n", info("other", requests={"cpu": "3"}), allocatable=room(cpu="2", memory="2Gi"))
        assert not lacks(info(requests={"memory": "1Gi"}), on)
        assert lacks(info(requests={"cpu": "1m"}), on) == {"Insufficient cpu"}

    def test_only_so_many_pods_fit(self) -> None:
        on = node_info("n", info("other"), allocatable={"cpu": "4", "pods": "1"})
        assert lacks(info(), on) == {"Too many pods"}
        assert lacks(info(requests={"cpu": "9"}), on) == {"Too many pods", "Insufficient cpu"}
        assert lacks(info(), node_info(allocatable={})) == {"Too many pods"}


class TestLeastAllocated:
    def score(self, pod: PodInfo, on: NodeInfo) -> int:
        return fit.score(CycleState(), pod, on)

    def test_the_mean_of_what_stays_free_of_cpu_and_memory(self) -> None:
        on = node_info(allocatable=room(cpu="4", memory="10Gi"))
        assert self.score(info(requests={"cpu": "1", "memory": "5Gi"}), on) == (75 + 50) // 2

    def test_what_other_pods_request_counts(self) -> None:
        on = node_info(
            "n", info("other", requests={"cpu": "2", "memory": "5Gi"}), allocatable=room(cpu="4", memory="10Gi")
        )
        assert self.score(info(requests={"cpu": "1", "memory": "0"}), on) == (25 + 50) // 2

    def test_pods_that_ask_for_nothing_are_taken_to_use_something(self) -> None:
        empty, busy = node_info("a"), node_info("b", *(info(f"p{number}") for number in range(10)))
        assert self.score(info(), empty) > self.score(info(), busy)

    def test_a_full_node_scores_nothing_for_that_resource(self) -> None:
        on = node_info(
            "n", info("other", requests={"cpu": "8", "memory": "0"}), allocatable=room(cpu="4", memory="8Gi")
        )
        assert self.score(info(requests={"cpu": "0", "memory": "0"}), on) == 50

    def test_a_resource_that_a_node_has_not_is_left_out(self) -> None:
        assert self.score(info(requests={"cpu": "1"}), node_info(allocatable=room(cpu="4"))) == 75
        assert self.score(info(), node_info(allocatable={})) == 0


class TestBalance:
    def score(self, pod: PodInfo, on: NodeInfo) -> int:
        return balanced.score(CycleState(), pod, on)

    def test_equal_shares_are_best_and_the_distance_counts_half(self) -> None:
        on = node_info(allocatable=room(cpu="4", memory="4Gi"))
        assert self.score(info(requests={"cpu": "2", "memory": "2Gi"}), on) == 100
        assert self.score(info(requests={"cpu": "3", "memory": "1Gi"}), on) == 75

    def test_what_is_really_requested_counts_without_defaults(self) -> None:
        on = node_info("n", info("other"), allocatable=room(cpu="4", memory="4Gi"))
        assert self.score(info(requests={"cpu": "1"}), on) == 87

    def test_more_than_all_is_all(self) -> None:
        on = node_info(allocatable=room(cpu="1", memory="1Gi"))
        assert self.score(info(requests={"cpu": "9", "memory": "1Gi"}), on) == 100

    @pytest.mark.parametrize(
        ("requests", "scores"),
        [({}, False), ({"cpu": "0"}, False), ({"example.com/gpu": "1"}, False), ({"memory": "1"}, True)],
    )
    def test_a_pod_that_requests_neither_cpu_nor_memory_leaves_nodes_alike(
        self, requests: Object, scores: bool
    ) -> None:
        assert balanced.pre_score(CycleState(), info(requests=requests), [], cache_of()) is scores


class TestWaking:
    wants = info(requests={"cpu": "2"})

    def test_a_node_that_comes_helps_whom_it_has_room_for(self) -> None:
        assert fit.helps(node_added(node()), self.wants)
        assert not fit.helps(node_added(node(allocatable=room(cpu="1"))), self.wants)

    def test_a_node_that_grows_helps_who_needs_that_and_fits_now(self) -> None:
        def grows(before: Object, after: Object) -> bool:
            (event,) = node_changes(node(allocatable=before), node(allocatable=after))
            return fit.helps(event, self.wants)

        assert grows(room(cpu="2"), room(cpu="3"))
        assert not grows(room(cpu="1"), room(cpu="1500m"))
        assert not grows(room(cpu="3"), room(cpu="2"))
        assert not grows(room(cpu="3", memory="1Gi"), room(cpu="3", memory="2Gi"))
        assert grows({"cpu": "3", "pods": "1"}, {"cpu": "3", "pods": "2"})

    def test_a_pod_that_goes_helps(self) -> None:
        assert fit.helps(pod_removed(info("other", node="n")), self.wants)

    def test_a_pod_that_shrinks_helps_who_needs_what_it_gives_back(self) -> None:
        def shrinks(resource: str, node: str = "n") -> bool:
            before, after = (info("other", requests={resource: amount}, node=node) for amount in ("2", "1"))
            (event,) = pod_changes(before, after)
            return fit.helps(event, self.wants)

        assert shrinks("cpu")
        assert not shrinks("memory")
        assert not shrinks("cpu", node="")

    def test_a_pod_that_shrinks_itself_is_helped(self) -> None:
        (event,) = pod_changes(self.wants, info(requests={"cpu": "1"}))
        assert fit.helps(event, info(requests={"cpu": "1"}))


amounts = st.fixed_dictionaries(
    {}, optional={"cpu": st.integers(0, 9).map(str), "memory": st.integers(0, 9).map(lambda n: f"{n}Gi")}
)


@settings(max_examples=60, deadline=None)
@given(st.lists(amounts, max_size=4), amounts, amounts)
def test_scores_stay_between_0_and_100(others: list[Object], asked: Object, allocatable: Object) -> None:
    on = node_info("n", *(info(f"p{n}", requests=one) for n, one in enumerate(others)), allocatable=allocatable)
    pod = info(requests=asked)
    assert 0 <= fit.score(CycleState(), pod, on) <= 100
    assert 0 <= balanced.score(CycleState(), pod, on) <= 100
