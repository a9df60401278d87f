"""What the scheduler believes of nodes and of the pods on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kubecore.client.client import Object
from kubecore.scheduler.cache import Cache, NodeInfo, Observer
from kubecore.scheduler.pods import PodInfo
from tests.unit.scheduler.builders import cache_of, container, info, node, pod

ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"


@pytest.fixture
def cache() -> Cache:
    cache = Cache()
    cache.set_node(node("n1"))
    cache.set_node(node("n2"))
    return cache


def requested(cache: Cache, name: str) -> dict[str, int]:
    found = cache.node(name)
    assert found is not None
    return found.requested


class TestAssuming:
    def test_an_assumed_pod_takes_its_room_at_once(self, cache: Cache) -> None:
        cache.assume(info(requests={"cpu": "1"}), "n1")
        assert requested(cache, "n1") == {"cpu": 1000}
        assert cache.is_assumed("default/p")

    def test_the_watch_confirms_it_and_it_is_counted_once(self, cache: Cache) -> None:
        cache.assume(info(requests={"cpu": "1"}), "n1")
        cache.add_pod(info(requests={"cpu": "1"}, node="n1"))
        assert requested(cache, "n1") == {"cpu": 1000}
        assert not cache.is_assumed("default/p")

    def test_one_that_was_bound_elsewhere_moves_there(self, cache: Cache) -> None:
        cache.assume(info(requests={"cpu": "1"}), "n1")
        cache.add_pod(info(requests={"cpu": "1"}, node="n2"))
        assert (requested(cache, "n1"), requested(cache, "n2")) == ({}, {"cpu": 1000})

    def test_seeing_it_bound_as_it_was_given_is_all_it_takes(self, cache: Cache) -> None:
        assumed = info(requests={"cpu": "1"})
        cache.assume(assumed, "n1")
        bound = pod(requests={"cpu": "1"}, node="n1")
        assert cache.confirm(bound) is assumed
        assert not cache.is_assumed("default/p")
        assert (assumed.obj, requested(cache, "n1")) == (bound, {"cpu": 1000})

    def test_labels_that_came_with_the_binding_are_taken_over_and_told(self, cache: Cache) -> None:
        told: list[dict[str, str]] = []

        class Listening(Observer):
            def node_set(self, node: NodeInfo) -> None: ...
            def node_removed(self, name: str) -> None: ...
            def pod_put(self, pod: PodInfo) -> None:
                told.append(pod.labels)

            def pod_started(self, pod: PodInfo) -> None: ...
            def pod_dropped(self, key: str) -> None: ...
            def nominated(self, pod: PodInfo, node: str) -> None: ...
            def withdrawn(self, uid: str) -> None: ...

        cache.assume(info(requests={"cpu": "1"}), "n1")
        cache.observe(Listening())
        confirmed = cache.confirm(pod(requests={"cpu": "1"}, node="n1", labels={ZONE: "a"}))
        assert confirmed is not None
        assert confirmed.labels == {ZONE: "a"}
        assert told == [{}, {ZONE: "a"}]
        assert (requested(cache, "n1"), cache.is_assumed("default/p")) == ({"cpu": 1000}, False)

    @pytest.mark.parametrize(
        "seen",
        [
            pod(node="n2"),
            pod(node="n1", requests={"cpu": "2"}),
            pod(node="n1", uid="another"),
            pod(node="n1", deleting=True),
            pod("other", node="n1"),
        ],
    )
    def test_what_differs_from_what_was_assumed_confirms_nothing(self, cache: Cache, seen: Object) -> None:
        cache.assume(info(), "n1")
        assert cache.confirm(seen) is None
        assert cache.is_assumed("default/p")

    def test_forgetting_gives_the_room_back(self, cache: Cache) -> None:
        assumed = info(requests={"cpu": "1"})
        cache.assume(assumed, "n1")
        assert cache.forget(assumed)
        assert requested(cache, "n1") == {}
        assert cache.pod("default/p") is None

    def test_a_confirmed_pod_cannot_be_forgotten(self, cache: Cache) -> None:
        assumed = info(requests={"cpu": "1"})
        cache.assume(assumed, "n1")
        cache.add_pod(info(requests={"cpu": "1"}, node="n1"))
        assert not cache.forget(assumed)
        assert requested(cache, "n1") == {"cpu": 1000}

    def test_forgetting_a_pod_leaves_its_namesake_of_later_alone(self, cache: Cache) -> None:
        first, second = info(uid="1", requests={"cpu": "1"}), info(uid="2", requests={"cpu": "2"})
        cache.assume(first, "n1")
        cache.remove_pod(first.key)
        cache.assume(second, "n1")
        assert not cache.forget(first)
        assert requested(cache, "n1") == {"cpu": 2000}
        assert cache.is_assumed("default/p")

    def test_a_pod_that_has_a_node_cannot_be_given_another(self, cache: Cache) -> None:
        cache.add_pod(info(node="n1"))
        with pytest.raises(ValueError, match="has a node already: n1"):
            cache.assume(info(), "n2")


class TestPods:
    def test_a_changed_pod_is_counted_as_it_is_now(self, cache: Cache) -> None:
        cache.add_pod(info(requests={"cpu": "1"}, node="n1"))
        cache.add_pod(info(requests={"cpu": "3"}, node="n1"))
        assert requested(cache, "n1") == {"cpu": 3000}

    def test_a_removed_pod_gives_back_requests_ports_and_the_defaults_of_scoring(self, cache: Cache) -> None:
        ports = [{"containerPort": 80, "hostPort": 80}]
        cache.add_pod(info(containers=[container(ports=ports, requests={"memory": "1Gi"})], node="n1"))
        removed = cache.remove_pod("default/p")
        found = cache.node("n1")
        assert removed is not None and removed.node == "n1"
        assert found is not None
        assert (found.pods, found.requested, found.used_cpu, found.used_memory, found.ports) == (
            {},
            {},
            0,
            0,
            Counter(),
        )

    def test_one_port_of_two_pods_stays_taken_until_both_are_gone(self, cache: Cache) -> None:
        # the kubelet refuses the second one, but until then both are there
        for name in ("a", "b"):
            cache.add_pod(info(name, containers=[container(ports=[{"containerPort": 1, "hostPort": 80}])], node="n1"))
        cache.remove_pod("default/a")
        found = cache.node("n1")
        assert found is not None and ("0.0.0.0", "TCP", 80) in found.ports

    def test_removing_an_unknown_pod_is_harmless(self, cache: Cache) -> None:
        assert cache.remove_pod("default/unknown") is None

    def test_pods_are_found_by_namespace(self, cache: Cache) -> None:
        cache.add_pod(info("a", node="n1"))
        cache.add_pod(info("b", node="n2", namespace="other"))
        assert [one.key for one in cache.pods_in("other")] == ["other/b"]
        assert cache.pods_in("third") == []


class TestNodes:
    def test_pods_may_be_seen_before_their_node(self) -> None:
        cache = Cache()
        cache.add_pod(info(requests={"cpu": "1"}, node="late"))
        assert cache.nodes() == []
        assert cache.node("late") is None
        cache.set_node(node("late"))
        assert requested(cache, "late") == {"cpu": 1000}

    def test_pods_of_a_removed_node_count_again_when_it_comes_back(self, cache: Cache) -> None:
        cache.add_pod(info(requests={"cpu": "1"}, node="n1"))
        cache.remove_node("n1")
        assert [one.name for one in cache.nodes()] == ["n2"]
        cache.set_node(node("n1"))
        assert requested(cache, "n1") == {"cpu": 1000}

    def test_a_removed_node_without_pods_leaves_nothing_behind(self, cache: Cache) -> None:
        cache.add_pod(info(node="n1"))
        cache.remove_node("n1")
        cache.remove_pod("default/p")
        cache.remove_node("n1")
        cache.set_node(node("n1"))
        found = cache.node("n1")
        assert found is not None and not found.pods

    def test_an_update_changes_what_the_node_has_and_keeps_what_is_on_it(self, cache: Cache) -> None:
        cache.add_pod(info(requests={"cpu": "1"}, node="n1"))
        cache.set_node(node("n1", allocatable={"cpu": "64", "pods": "9"}, unschedulable=True))
        found = cache.node("n1")
        assert found is not None
        assert (found.allocatable, found.requested, found.unschedulable) == (
            {"cpu": 64000, "pods": 9},
            {"cpu": 1000},
            True,
        )

    def test_a_node_without_spec_and_status_is_a_node(self) -> None:
        bare = NodeInfo.of({"metadata": {"name": "bare"}})
        assert (bare.taints, bare.unschedulable, bare.allocatable) == ([], False, {})


class TestOrder:
    def names(self, *nodes: Object) -> list[str]:
        return [one.name for one in cache_of(*nodes).nodes()]

    def test_nodes_of_all_zones_take_turns(self) -> None:
        a, b = {ZONE: "a"}, {ZONE: "b"}
        order = self.names(node("a1", labels=a), node("a2", labels=a), node("a3", labels=a), node("b1", labels=b))
        assert order == ["a1", "b1", "a2", "a3"]

    def test_zones_of_one_name_in_two_regions_are_two_zones(self) -> None:
        west, east = {REGION: "west", ZONE: "1"}, {REGION: "east", ZONE: "1"}
        order = self.names(node("w1", labels=west), node("w2", labels=west), node("e1", labels=east))
        assert order == ["w1", "e1", "w2"]

    def test_a_node_that_changes_its_zone_changes_its_place(self) -> None:
        a, b = {ZONE: "a"}, {ZONE: "b"}
        cache = cache_of(node("1", labels=a), node("2", labels=a), node("3", labels=b))
        assert [one.name for one in cache.nodes()] == ["1", "3", "2"]
        cache.set_node(node("3", labels=a))
        assert [one.name for one in cache.nodes()] == ["1", "2", "3"]


NODES = ["n1", "n2", "n3"]
NAMES = [f"p{number}" for number in range(6)]


class CacheLaws(RuleBasedStateMachine):
    """Whatever comes in whatever order, the sums are those of the pods that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache()
        self.placed: dict[str, PodInfo] = {}
        self.assumed: dict[str, PodInfo] = {}
        self.nodes: set[str] = set()
        self.uid = 0

    def make(self, name: str, cpu: int, port: int, node: str = "") -> PodInfo:
        ports = [{"containerPort": 1, "hostPort": port}] if port else []
        requests = {"cpu": f"{cpu}m"} if cpu else {}
        known = self.placed.get(name)
        self.uid += 1
        uid = known.uid if known is not None else str(self.uid)
        return PodInfo(pod(name, uid=uid, node=node, containers=[container(requests=requests, ports=ports)]))

    @rule(name=st.sampled_from(NODES))
    def node_comes(self, name: str) -> None:
        self.cache.set_node(node(name))
        self.nodes.add(name)

    @rule(name=st.sampled_from(NODES))
    def node_goes(self, name: str) -> None:
        self.cache.remove_node(name)
        self.nodes.discard(name)

    @rule(name=st.sampled_from(NAMES), where=st.sampled_from(NODES), cpu=st.integers(0, 3), port=st.integers(0, 2))
    def assume(self, name: str, where: str, cpu: int, port: int) -> None:
        if name in self.placed:
            return
        one = self.make(name, cpu, port)
        self.cache.assume(one, where)
        self.placed[name] = self.assumed[name] = one

    @precondition(lambda self: self.assumed)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.assumed)))
        assert self.cache.forget(self.assumed.pop(name))
        del self.placed[name]

    @rule(name=st.sampled_from(NAMES), where=st.sampled_from(NODES), cpu=st.integers(0, 3), port=st.integers(0, 2))
    def seen_bound(self, name: str, where: str, cpu: int, port: int) -> None:
        one = self.make(name, cpu, port, where)
        self.cache.add_pod(one)
        self.placed[name] = one
        self.assumed.pop(name, None)

    @rule(name=st.sampled_from(NAMES))
    def gone(self, name: str) -> None:
        self.cache.remove_pod(f"default/{name}")
        self.placed.pop(name, None)
        self.assumed.pop(name, None)

    @invariant()
    def nodes_are_those_that_came(self) -> None:
        assert {one.name for one in self.cache.nodes()} == self.nodes

    @invariant()
    def sums_are_those_of_the_pods(self) -> None:
        for found in self.cache.nodes():
            self.compare(found, [one for one in self.placed.values() if one.node == found.name])

    def compare(self, found: NodeInfo, pods: Iterable[PodInfo]) -> None:
        fresh = NodeInfo(found.name)
        for one in pods:
            fresh.add(one)
        assert found.pods == fresh.pods
        assert found.requested == fresh.requested
        assert (found.used_cpu, found.used_memory) == (fresh.used_cpu, fresh.used_memory)
        assert found.ports == fresh.ports

    @invariant()
    def assumed_pods_are_known(self) -> None:
        keys = {f"default/{name}" for name in NAMES if self.cache.is_assumed(f"default/{name}")}
        assert keys == {one.key for one in self.assumed.values()}
        assert {one.key for one in self.cache.pods_in("default")} == {one.key for one in self.placed.values()}


TestCacheLaws = CacheLaws.TestCase
TestCacheLaws.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


class TestHeartbeats:
    class Counts:
        """Of nodes that were told of."""

        def __init__(self) -> None:
            self.nodes = 0

        def node_set(self, node: NodeInfo) -> None:
            self.nodes += 1

    def told(self, first: Object, second: Object) -> int:
        cache, counts = cache_of(first), self.Counts()
        cache.observer = cast(Observer, counts)
        cache.set_node(second)
        found = cache.node("n")
        assert found is not None and found.obj is second
        return counts.nodes

    def test_a_node_that_is_as_it_was_is_not_told_of_again(self) -> None:
        beat = [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:10Z"}]
        first, second = node(), node()
        second["status"]["conditions"] = beat
        assert self.told(first, second) == 0

    def test_one_that_is_not_is(self) -> None:
        assert self.told(node(), node(unschedulable=True)) == 1
        assert self.told(node(), node(labels={"a": "b"})) == 1
        assert self.told(node(), node(allocatable={"cpu": "1"})) == 1
