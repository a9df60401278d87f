"""Spreading of pods over nodes, zones and other domains."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.scheduler.cache import Cache
from kubecore.scheduler.events import (
    ClusterEvent,
    node_added,
    node_changes,
    node_removed,
    pod_changes,
    pod_placed,
    pod_removed,
)
from kubecore.scheduler.framework import CycleState
from kubecore.scheduler.plugins.pod_topology_spread import PodTopologySpread
from kubecore.scheduler.pods import PodInfo
from tests.support.fake_api import FakeAPI
from tests.unit.scheduler.builders import cache_of, info, node, pod, taint

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
WEB = {"app": "web"}
SKEWED = "node(s) didn't match pod topology spread constraints"
NO_LABEL = SKEWED + " (missing required label)"


def constraint(key: str = ZONE, skew: int = 1, when: str = "DoNotSchedule", **more: Any) -> Object:
    selector = more.pop("labelSelector", {"matchLabels": WEB})
    return {"maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": selector, **more}


def spread(*constraints: Object, labels: dict[str, str] = WEB, **fields: Any) -> PodInfo:
    return info("new", labels=labels, topologySpreadConstraints=list(constraints), **fields)


def in_zone(name: str, zone: str, **fields: Any) -> Object:
    return node(name, labels={ZONE: zone, **fields.pop("labels", {})}, **fields)


def web(*nodes: str, labels: dict[str, str] = WEB, **fields: Any) -> list[Object]:
    """Pods on these nodes."""
    return [pod(f"{name}-{number}", labels=labels, node=name, **fields) for number, name in enumerate(nodes)]


@pytest.fixture
def plugin() -> PodTopologySpread:
    return PodTopologySpread(FakeAPI(VirtualClock()).informers())


def verdicts(plugin: PodTopologySpread, wanted: PodInfo, cache: Cache) -> dict[str, str]:
    """What each node is refused for."""
    state = CycleState()
    assert plugin.pre_filter(state, wanted, cache) is None
    return {one.name: ", ".join(plugin.filter(state, wanted, one)) for one in cache.nodes()}


def fitting(plugin: PodTopologySpread, wanted: PodInfo, cache: Cache) -> set[str]:
    return {name for name, refused in verdicts(plugin, wanted, cache).items() if not refused}


THREE_ZONES = [in_zone("a1", "a"), in_zone("a2", "a"), in_zone("b1", "b"), in_zone("c1", "c")]


class TestSkew:
    def test_a_domain_may_be_ahead_of_the_emptiest_by_max_skew(self, plugin: PodTopologySpread) -> None:
        cache = cache_of(*THREE_ZONES, pods=web("a1", "b1"))
        assert verdicts(plugin, spread(constraint()), cache) == {"a1": SKEWED, "a2": SKEWED, "b1": SKEWED, "c1": ""}
        assert fitting(plugin, spread(constraint(skew=2)), cache) == {"a1", "a2", "b1", "c1"}

    def test_pods_of_all_nodes_of_a_domain_count_together(self, plugin: PodTopologySpread) -> None:
        cache = cache_of(*THREE_ZONES, pods=web("a1", "a2", "b1", "c1"))
        assert fitting(plugin, spread(constraint()), cache) == {"b1", "c1"}

    def test_a_pod_that_its_own_selector_does_not_choose_adds_nothing(self, plugin: PodTopologySpread) -> None:
        cache = cache_of(*THREE_ZONES, pods=web("a1", "b1"))
        assert fitting(plugin, spread(constraint(), labels={"app": "other"}), cache) == {"a1", "a2", "b1", "c1"}

    def test_every_constraint_must_hold(self, plugin: PodTopologySpread) -> None:
        cache = cache_of(*THREE_ZONES, pods=web("a1", "b1", "c1"))
        assert fitting(plugin, spread(constraint(), constraint(HOST)), cache) == {"a2"}

    def test_pods_of_other_namespaces_and_those_being_deleted_do_not_count(self, plugin: PodTopologySpread) -> None:
        others = web("a1", namespace="other") + web("a1", deleting=True)
        assert fitting(plugin, spread(constraint()), cache_of(*THREE_ZONES, pods=others)) == {"a1", "a2", "b1", "c1"}

    def test_a_node_without_the_label_takes_none_and_its_pods_do_not_count(self, plugin: PodTopologySpread) -> None:
        cache = cache_of(in_zone("a1", "a"), node("bare"), pods=web("a1", "bare", "bare"))
        assert verdicts(plugin, spread(constraint()), cache) == {"a1": "", "bare": NO_LABEL}

    def test_a_node_must_have_the_labels_of_all_constraints_to_count_for_any(self, plugin: PodTopologySpread) -> None:
        cache = cache_of(in_zone("a1", "a", labels={"rack": "1"}), in_zone("b1", "b"), pods=web("a1"))
        # b1 has no rack, so that zone b is no domain and zone a is the emptiest there is
        assert fitting(plugin, spread(constraint(), constraint("rack")), cache) == {"a1"}

    def test_without_hard_constraints_there_is_nothing_to_filter(self, plugin: PodTopologySpread) -> None:
        for wanted in (info(), spread(constraint(when="ScheduleAnyway"))):
            state = CycleState()
            plugin.pre_filter(state, wanted, cache_of(*THREE_ZONES))
            assert state.skipped == {"PodTopologySpread"}


class TestSelectors:
    def test_none_chooses_nothing(self, plugin: PodTopologySpread) -> None:
        cache = cache_of(*THREE_ZONES, pods=web("a1", "a1", "a1"))
        assert fitting(plugin, spread(constraint(labelSelector=None)), cache) == {"a1", "a2", "b1", "c1"}

    def test_an_empty_one_counts_the_new_pod_alone(self, plugin: PodTopologySpread) -> None:
        # it chooses all pods, but kube-scheduler counts none of those that are there
        cache = cache_of(*THREE_ZONES, pods=web("a1", "a1", "a1"))
        assert fitting(plugin, spread(constraint(labelSelector={})), cache) == {"a1", "a2", "b1", "c1"}

    def test_match_label_keys_narrow_it_to_pods_with_the_same_values(self, plugin: PodTopologySpread) -> None:
        old = web("a1", "b1", labels={**WEB, "pod-template-hash": "old"})
        cache = cache_of(*THREE_ZONES, pods=old)
        by_revision = constraint(matchLabelKeys=["pod-template-hash"])
        assert fitting(plugin, spread(by_revision, labels={**WEB, "pod-template-hash": "new"}), cache) == {
            "a1",
            "a2",
            "b1",
            "c1",
        }
        assert fitting(plugin, spread(by_revision, labels={**WEB, "pod-template-hash": "old"}), cache) == {"c1"}

    def test_a_key_that_the_pod_has_not_narrows_nothing(self, plugin: PodTopologySpread) -> None:
        cache = cache_of(*THREE_ZONES, pods=web("a1", "b1"))
        assert fitting(plugin, spread(constraint(matchLabelKeys=["absent"])), cache) == {"c1"}


class TestMinimumOfDomains:
    def test_with_fewer_domains_the_emptiest_is_taken_to_hold_nothing(self, plugin: PodTopologySpread) -> None:
        cache = cache_of(*THREE_ZONES, pods=web("a1", "b1", "c1"))
        assert fitting(plugin, spread(constraint(minDomains=3)), cache) == {"a1", "a2", "b1", "c1"}
        assert fitting(plugin, spread(constraint(minDomains=4)), cache) == set()


class TestWhichNodesCount:
    def test_by_default_only_nodes_that_the_pod_may_run_on(self, plugin: PodTopologySpread) -> None:
        nodes = [in_zone("a1", "a", labels={"disk": "ssd"}), in_zone("b1", "b")]
        cache = cache_of(*nodes, pods=web("a1"))
        # zone b is out of reach and so no reason to wait for it
        assert "a1" in fitting(plugin, spread(constraint(), nodeSelector={"disk": "ssd"}), cache)
        ignoring = constraint(nodeAffinityPolicy="Ignore")
        assert "a1" not in fitting(plugin, spread(ignoring, nodeSelector={"disk": "ssd"}), cache)

    def test_taints_are_ignored_unless_they_are_to_be_honoured(self, plugin: PodTopologySpread) -> None:
        cache = cache_of(in_zone("a1", "a"), in_zone("b1", "b", taints=[taint("key")]), pods=web("a1"))
        honouring = constraint(nodeTaintsPolicy="Honor")
        assert fitting(plugin, spread(constraint()), cache) == {"b1"}
        assert "a1" in fitting(plugin, spread(honouring), cache)
        tolerant = spread(honouring, tolerations=[{"operator": "Exists"}])
        assert "a1" not in fitting(plugin, tolerant, cache)


def scores(plugin: PodTopologySpread, wanted: PodInfo, cache: Cache, *, feasible: str = "") -> dict[str, int] | None:
    nodes = [one for one in cache.nodes() if not feasible or one.name in feasible.split()]
    state = CycleState()
    if not plugin.pre_score(state, wanted, nodes, cache):
        return None
    raw = [plugin.score(state, wanted, one) for one in nodes]
    return dict(zip((one.name for one in nodes), plugin.normalize(state, wanted, raw, nodes), strict=True))


SOFT = constraint(when="ScheduleAnyway")


class TestSoftConstraints:
    def test_emptier_domains_score_higher(self, plugin: PodTopologySpread) -> None:
        cache = cache_of(*THREE_ZONES, pods=web("a1", "a1", "b1"))
        found = scores(plugin, spread(SOFT), cache)
        assert found is not None
        assert found["a1"] == found["a2"] < found["b1"] < found["c1"] == 100

    def test_counts_weigh_the_more_the_more_domains_there_are(self, plugin: PodTopologySpread) -> None:
        def raw(*nodes: Object) -> list[int]:
            cache, state = cache_of(*nodes, pods=web("a1", "a1", "b1")), CycleState()
            assert plugin.pre_score(state, spread(SOFT), cache.nodes(), cache)
            return [plugin.score(state, spread(SOFT), one) for one in cache.nodes()]

        two, three = (
            [in_zone("a1", "a"), in_zone("b1", "b")],
            [in_zone("a1", "a"), in_zone("b1", "b"), in_zone("c1", "c")],
        )
        assert raw(*two) == [3, 1], "2 and 1 times ln 4, rounded"
        assert raw(*three) == [3, 2, 0], "2 and 1 times ln 5, rounded"

    def test_a_node_is_its_own_domain_by_its_host_name(self, plugin: PodTopologySpread) -> None:
        found = scores(plugin, spread({**SOFT, "topologyKey": HOST}), cache_of(*THREE_ZONES, pods=web("a1")))
        assert found is not None
        assert found["a1"] < found["a2"] == found["b1"] == 100

    def test_pods_on_nodes_that_do_not_fit_count_in_their_domain(self, plugin: PodTopologySpread) -> None:
        found = scores(plugin, spread(SOFT), cache_of(*THREE_ZONES, pods=web("a1")), feasible="a2 b1")
        assert found is not None and found["a2"] < found["b1"]

    def test_a_node_that_lacks_a_label_scores_nothing(self, plugin: PodTopologySpread) -> None:
        cache = cache_of(*THREE_ZONES, node("bare"), pods=web("a1"))
        found = scores(plugin, spread(SOFT), cache)
        assert found is not None and found["bare"] == 0

    def test_nor_do_its_pods_count(self, plugin: PodTopologySpread) -> None:
        rack = {**SOFT, "topologyKey": "rack"}
        nodes = [in_zone("a1", "a", labels={"rack": "1"}), in_zone("b1", "b", labels={"rack": "1"}), in_zone("a2", "a")]
        found = scores(plugin, spread(SOFT, rack), cache_of(*nodes, pods=web("a2")))
        assert found is not None and found["a1"] == found["b1"]

    def test_a_larger_max_skew_makes_differences_smaller(self, plugin: PodTopologySpread) -> None:
        cache = cache_of(*THREE_ZONES, pods=web("a1", "b1", "b1"))
        strict, lax = scores(plugin, spread(SOFT), cache), scores(plugin, spread({**SOFT, "maxSkew": 5}), cache)
        assert strict is not None and lax is not None
        assert strict["a1"] - strict["b1"] > lax["a1"] - lax["b1"]

    def test_empty_domains_are_all_alike(self, plugin: PodTopologySpread) -> None:
        assert set((scores(plugin, spread(SOFT), cache_of(*THREE_ZONES)) or {}).values()) == {100}

    def test_hard_constraints_do_not_score(self, plugin: PodTopologySpread) -> None:
        assert scores(plugin, spread(constraint()), cache_of(*THREE_ZONES)) is None


class TestDefaultSpreading:
    """A pod without constraints is spread with those that its Services and its controller choose."""

    async def ready(self, *objects: tuple[str, Object]) -> PodTopologySpread:
        clock = VirtualClock()
        api = FakeAPI(clock)
        for resource, obj in objects:
            api.add(resource, obj)
        informers = api.informers()
        plugin = PodTopologySpread(informers)
        await informers.start()
        await informers.wait_synced()
        await informers.stop()
        return plugin

    SERVICE = ("services", {"metadata": {"name": "web"}, "spec": {"selector": WEB}})
    CACHE = cache_of(*THREE_ZONES, pods=web("a1", "a1", "b1"))

    def owned(self, kind: str, api_version: str = "apps/v1") -> PodInfo:
        return info("new", labels=WEB, owner={"kind": kind, "apiVersion": api_version, "name": "web"})

    async def test_over_nodes_and_zones_with_the_pods_of_its_service(self) -> None:
        found = scores(await self.ready(self.SERVICE), info("new", labels=WEB), self.CACHE)
        assert found is not None
        assert found["a1"] < found["a2"] < found["c1"] == 100

    async def test_nodes_without_a_zone_take_part(self) -> None:
        cache = cache_of(node("n1"), node("n2"), pods=web("n1"))
        found = scores(await self.ready(self.SERVICE), info("new", labels=WEB), cache)
        assert found is not None and found["n1"] < found["n2"]

    @pytest.mark.parametrize(
        ("resource", "kind", "api_version"),
        [
            ("replicasets.apps", "ReplicaSet", "apps/v1"),
            ("statefulsets.apps", "StatefulSet", "apps/v1"),
            ("replicationcontrollers", "ReplicationController", "v1"),
        ],
    )
    async def test_with_the_pods_of_its_controller(self, resource: str, kind: str, api_version: str) -> None:
        selector: Object = WEB if api_version == "v1" else {"matchLabels": WEB}
        plugin = await self.ready((resource, {"metadata": {"name": "web"}, "spec": {"selector": selector}}))
        found = scores(plugin, self.owned(kind, api_version), self.CACHE)
        assert found is not None and found["a1"] < found["c1"]

    async def test_a_controller_of_the_same_kind_in_another_group_is_another_controller(self) -> None:
        selector = {"matchLabels": WEB}
        plugin = await self.ready(("statefulsets.apps", {"metadata": {"name": "web"}, "spec": {"selector": selector}}))
        assert scores(plugin, self.owned("StatefulSet", "apps.kruise.io/v1beta1"), self.CACHE) is None

    async def test_a_pod_that_belongs_to_nothing_is_not_spread(self) -> None:
        assert scores(await self.ready(), info("new", labels=WEB), self.CACHE) is None
        assert scores(await self.ready(self.SERVICE), info("new", labels={"app": "x"}), self.CACHE) is None

    async def test_constraints_of_its_own_replace_the_defaults_even_hard_ones(self) -> None:
        assert scores(await self.ready(self.SERVICE), spread(constraint()), self.CACHE) is None


class TestWaking:
    wants = spread(constraint())

    def helps(self, plugin: PodTopologySpread, event: ClusterEvent) -> bool:
        return plugin.helps(event, self.wants)

    def test_a_pod_that_comes_or_goes_helps_if_it_is_counted(self, plugin: PodTopologySpread) -> None:
        for event in (pod_placed, pod_removed):
            assert self.helps(plugin, event(info("other", labels=WEB, node="a1")))
            assert not self.helps(plugin, event(info("other", node="a1")))
            assert not self.helps(plugin, event(info("other", labels=WEB, node="a1", namespace="other")))

    def test_so_does_one_that_begins_or_ceases_to_be_counted(self, plugin: PodTopologySpread) -> None:
        def changes(before: dict[str, str], after: dict[str, str]) -> bool:
            old, new = info("other", labels=before, node="a1"), info("other", labels=after, node="a1")
            (event,) = pod_changes(old, new)
            return self.helps(plugin, event)

        assert changes(WEB, {})
        assert changes({}, WEB)
        assert not changes(WEB, {**WEB, "more": "x"})

    def test_nodes_with_all_labels_help_when_they_come_or_go(self, plugin: PodTopologySpread) -> None:
        for event in (node_added, node_removed):
            assert self.helps(plugin, event(in_zone("z", "z")))
            assert not self.helps(plugin, event(node("z")))

    def test_or_when_they_move_to_another_domain_or_change_taints(self, plugin: PodTopologySpread) -> None:
        def changes(before: Object, after: Object) -> bool:
            (event,) = node_changes(before, after)
            return self.helps(plugin, event)

        assert changes(in_zone("n", "a"), in_zone("n", "b"))
        assert changes(in_zone("n", "a"), node("n"))
        assert changes(in_zone("n", "a"), in_zone("n", "a", taints=[taint("key")]))
        assert not changes(in_zone("n", "a"), in_zone("n", "a", labels={"more": "x"}))
        assert not changes(node("n"), node("n", labels={"more": "x"}))

    def test_a_toleration_helps_the_pod_itself_if_taints_are_honoured(self, plugin: PodTopologySpread) -> None:
        for policy, helped in (("Honor", True), ("Ignore", False)):
            wants = spread(constraint(nodeTaintsPolicy=policy))
            tolerant = spread(constraint(nodeTaintsPolicy=policy), tolerations=[{"operator": "Exists"}])
            (event,) = pod_changes(wants, tolerant)
            assert plugin.helps(event, tolerant) is helped


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["a1", "a2", "b1", "c1"]), max_size=8), st.integers(1, 3))
def test_placing_where_it_fits_never_exceeds_max_skew(there: list[str], skew: int) -> None:
    plugin = PodTopologySpread(FakeAPI(VirtualClock()).informers())
    cache = cache_of(*THREE_ZONES, pods=web(*there))
    counts = {zone: sum(name[0] == zone for name in there) for zone in "abc"}
    fits = fitting(plugin, spread(constraint(skew=skew)), cache)
    for name in ("a1", "a2", "b1", "c1"):
        after = counts[name[0]] + 1 - min(counts.values())
        assert (name in fits) is (after <= skew)
    assert fits, "the emptiest domain always takes one"
