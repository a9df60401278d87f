"""Pods near to each other, and pods kept apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.scheduler.cache import Cache
from kubecore.scheduler.events import node_added, node_changes, pod_changes, pod_placed, pod_removed
from kubecore.scheduler.framework import CycleState, Hopeless
from kubecore.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from kubecore.scheduler.pods import PodInfo
from tests.support.fake_api import FakeAPI
from tests.unit.scheduler.builders import cache_of, info, node, pod

WEB, DB = {"app": "web"}, {"app": "db"}
HOST, ZONE = "kubernetes.io/hostname", "zone"

NOT_NEAR = "node(s) didn't match pod affinity rules"
TOO_NEAR = "node(s) didn't match pod anti-affinity rules"
NOT_WANTED = "node(s) didn't satisfy existing pods anti-affinity rules"


def term(labels: dict[str, str] | None, key: str = HOST, **fields: Any) -> Object:
    selector = {} if labels is None else {"labelSelector": {"matchLabels": labels}}
    return {"topologyKey": key, **selector, **fields}


def near(*terms: Object) -> Object:
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": list(terms)}}


def away(*terms: Object) -> Object:
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": list(terms)}}


def rather(kind: str, weight: int, given: Object) -> Object:
    weighted = {"weight": weight, "podAffinityTerm": given}
    return {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [weighted]}}


def in_zone(name: str, zone: str) -> Object:
    return node(name, labels={ZONE: zone})


NODES = (in_zone("a1", "a"), in_zone("a2", "a"), in_zone("b1", "b"), node("none"))


class Namespaces:
    """A plugin that knows the namespaces `default` and `prod`, the latter with the label env=prod."""

    def __init__(self) -> None:
        self.api = FakeAPI(VirtualClock())
        self.informers = self.api.informers()
        names = self.informers.informer("namespaces")
        for name, labels in (("default", {}), ("prod", {"env": "prod"})):
            names.apply("ADDED", {"metadata": {"name": name, "uid": name, "labels": labels}})

    def plugin(self, **arguments: Any) -> InterPodAffinity:
        return InterPodAffinity(self.informers, **arguments)


@pytest.fixture
def plugin() -> InterPodAffinity:
    return Namespaces().plugin()


def verdicts(plugin: InterPodAffinity, wanted: PodInfo, cache: Cache) -> dict[str, str]:
    """By node, why it is refused."""
    state = CycleState()
    plugin.pre_filter(state, wanted, cache)
    if plugin.name in state.skipped:
        return {}
    found = {one.name: ", ".join(plugin.filter(state, wanted, one)) for one in cache.nodes()}
    return {name: reason for name, reason in found.items() if reason}


class TestAffinity:
    def test_a_pod_runs_in_a_domain_of_one_that_it_wants_to_be_near_to(self, plugin: InterPodAffinity) -> None:
        cache = cache_of(*NODES, pods=[pod("db", labels=DB, node="a1")])
        found = verdicts(plugin, info(affinity=near(term(DB, ZONE))), cache)
        assert found == {"b1": NOT_NEAR, "none": NOT_NEAR}
        assert verdicts(plugin, info(affinity=near(term(DB))), cache).keys() == {"a2", "b1", "none"}

    def test_one_pod_must_be_what_all_terms_ask_for(self, plugin: InterPodAffinity) -> None:
        both = info(affinity=near(term(DB, ZONE), term(WEB, ZONE)))
        cache = cache_of(*NODES, pods=[pod("db", labels=DB, node="a1"), pod("web", labels=WEB, node="a2")])
        assert verdicts(plugin, both, cache).keys() == {"a1", "a2", "b1", "none"}
        cache.add_pod(info("x", labels={"app": "db", "tier": "1"}, node="b1"))
        together = info(affinity=near(term(DB, ZONE), term({"tier": "1"}, ZONE)))
        assert verdicts(plugin, together, cache).keys() == {"a1", "a2", "none"}

    def test_the_first_of_a_series_may_go_to_any_node_with_the_label(self, plugin: InterPodAffinity) -> None:
        first = info(labels=WEB, affinity=near(term(WEB, ZONE)))
        assert verdicts(plugin, first, cache_of(*NODES)) == {"none": NOT_NEAR}
        with_one = cache_of(*NODES, pods=[pod("web", labels=WEB, node="a1")])
        assert verdicts(plugin, first, with_one).keys() == {"b1", "none"}

    def test_no_pod_that_leaves_would_bring_it_nearer(self, plugin: InterPodAffinity) -> None:
        state, wanted, cache = CycleState(), info(affinity=near(term(DB))), cache_of(*NODES)
        plugin.pre_filter(state, wanted, cache)
        assert isinstance(plugin.filter(state, wanted, cache.nodes()[0]), Hopeless)

    def test_a_pod_on_a_node_that_is_gone_does_not_count(self, plugin: InterPodAffinity) -> None:
        cache = cache_of(*NODES, pods=[pod("db", labels=DB, node="gone")])
        assert len(verdicts(plugin, info(affinity=near(term(DB))), cache)) == 4


class TestAntiAffinity:
    def test_a_pod_keeps_away_from_the_domains_of_those_it_names(self, plugin: InterPodAffinity) -> None:
        cache = cache_of(*NODES, pods=[pod("db", labels=DB, node="a1")])
        found = verdicts(plugin, info(affinity=away(term(DB, ZONE))), cache)
        assert found == {"a1": TOO_NEAR, "a2": TOO_NEAR}

    def test_each_term_keeps_away_for_itself(self, plugin: InterPodAffinity) -> None:
        cache = cache_of(*NODES, pods=[pod("db", labels=DB, node="a1"), pod("web", labels=WEB, node="b1")])
        found = verdicts(plugin, info(affinity=away(term(DB), term(WEB))), cache)
        assert found == {"a1": TOO_NEAR, "b1": TOO_NEAR}

    def test_pods_that_run_keep_others_away_from_them(self, plugin: InterPodAffinity) -> None:
        lonely = pod("db", labels=DB, node="a1", affinity=away(term(WEB, ZONE)))
        cache = cache_of(*NODES, pods=[lonely])
        assert verdicts(plugin, info(labels=WEB), cache) == {"a1": NOT_WANTED, "a2": NOT_WANTED}
        assert verdicts(plugin, info(labels=DB), cache) == {}

    def test_a_node_is_free_again_when_those_pods_are_gone(self, plugin: InterPodAffinity) -> None:
        cache = cache_of(*NODES, pods=[pod("db", labels=DB, node="a1", affinity=away(term(WEB)))])
        cache.remove_pod("default/db")
        assert verdicts(plugin, info(labels=WEB), cache) == {}


class TestNamespaces:
    def near_db(self, **fields: Any) -> PodInfo:
        return info(affinity=near(term(DB, **fields)))

    def nodes_near(self, plugin: InterPodAffinity, wanted: PodInfo, namespace: str) -> set[str]:
        cache = cache_of(*NODES, pods=[pod("db", namespace=namespace, labels=DB, node="a1")])
        return {"a1", "a2", "b1", "none"} - verdicts(plugin, wanted, cache).keys()

    def test_a_term_looks_at_the_pods_own_namespace(self, plugin: InterPodAffinity) -> None:
        assert self.nodes_near(plugin, self.near_db(), "default") == {"a1"}
        assert self.nodes_near(plugin, self.near_db(), "prod") == set()

    def test_or_at_those_it_names_and_then_not_at_the_own_one(self, plugin: InterPodAffinity) -> None:
        assert self.nodes_near(plugin, self.near_db(namespaces=["prod"]), "prod") == {"a1"}
        assert self.nodes_near(plugin, self.near_db(namespaces=["prod"]), "default") == set()

    def test_or_at_those_with_certain_labels(self, plugin: InterPodAffinity) -> None:
        by_label = self.near_db(namespaceSelector={"matchLabels": {"env": "prod"}})
        assert self.nodes_near(plugin, by_label, "prod") == {"a1"}
        assert self.nodes_near(plugin, by_label, "default") == set()

    def test_an_empty_selector_of_namespaces_takes_all(self, plugin: InterPodAffinity) -> None:
        for namespace in ("default", "prod", "never-seen"):
            assert self.nodes_near(plugin, self.near_db(namespaceSelector={}), namespace) == {"a1"}

    def test_the_anti_affinity_of_a_running_pod_looks_at_the_new_pods_namespace(self, plugin: InterPodAffinity) -> None:
        from_prod = away(term(WEB, namespaceSelector={"matchLabels": {"env": "prod"}}))
        cache = cache_of(*NODES, pods=[pod("db", node="a1", affinity=from_prod)])
        assert verdicts(plugin, info(labels=WEB, namespace="prod"), cache) == {"a1": NOT_WANTED}
        assert verdicts(plugin, info(labels=WEB), cache) == {}

    def test_without_a_label_selector_no_pod_is_chosen(self, plugin: InterPodAffinity) -> None:
        cache = cache_of(*NODES, pods=[pod("db", node="a1")])
        assert verdicts(plugin, info(affinity=away(term(None))), cache) == {}


class TestTrying:
    """What preemption and nominated pods ask: what would be if a pod were there, or not."""

    def after(self, plugin: InterPodAffinity, wanted: PodInfo, *, come: Iterable[PodInfo] = ()) -> set[str]:
        cache, state = cache_of(*NODES, pods=[pod("db", labels=DB, node="a1")]), CycleState()
        plugin.pre_filter(state, wanted, cache)
        trial = state.clone()
        on_a1 = cache.node("a1")
        assert on_a1 is not None
        for one in come:
            plugin.add_pod(trial, wanted, one, on_a1)
        if not come:
            plugin.remove_pod(trial, wanted, on_a1.pods["default/db"], on_a1)
        before = {one.name for one in cache.nodes() if plugin.filter(state, wanted, one)}
        assert before == verdicts(plugin, wanted, cache).keys()
        return {one.name for one in cache.nodes() if plugin.filter(trial, wanted, one)}

    def test_a_pod_that_leaves_makes_its_domain_free(self, plugin: InterPodAffinity) -> None:
        assert self.after(plugin, info(affinity=away(term(DB, ZONE)))) == set()

    def test_a_pod_that_comes_brings_its_own_wishes(self, plugin: InterPodAffinity) -> None:
        wanted = info(labels=WEB, affinity=away(term(DB)))
        lonely = info("lonely", affinity=away(term(WEB, ZONE)))
        assert self.after(plugin, wanted, come=[lonely]) == {"a1", "a2"}

    def test_a_pod_that_comes_may_be_the_one_to_be_near_to(self, plugin: InterPodAffinity) -> None:
        wanted = info(affinity=near(term(WEB, ZONE)))
        assert self.after(plugin, wanted, come=[info("web", labels=WEB)]) == {"b1", "none"}


class TestPreferences:
    def scores(self, plugin: InterPodAffinity, wanted: PodInfo, cache: Cache) -> dict[str, int]:
        state, nodes = CycleState(), cache.nodes()
        if not plugin.pre_score(state, wanted, nodes, cache):
            return {}
        raw = [plugin.score(state, wanted, one) for one in nodes]
        found = plugin.normalize(state, wanted, raw, nodes)
        return {one.name: score for one, score in zip(nodes, found, strict=True)}

    def test_nodes_near_to_wanted_pods_are_better_by_weight(self, plugin: InterPodAffinity) -> None:
        cache = cache_of(*NODES, pods=[pod("db", labels=DB, node="a1")])
        wanted = info(affinity=rather("podAffinity", 10, term(DB, ZONE)))
        assert self.scores(plugin, wanted, cache) == {"a1": 100, "a2": 100, "b1": 0, "none": 0}

    def test_nodes_near_to_shunned_pods_are_worse(self, plugin: InterPodAffinity) -> None:
        cache = cache_of(*NODES, pods=[pod("db", labels=DB, node="a1")])
        wanted = info(affinity=rather("podAntiAffinity", 10, term(DB)))
        assert self.scores(plugin, wanted, cache) == {"a1": 0, "a2": 100, "b1": 100, "none": 100}

    def test_more_pods_count_more(self, plugin: InterPodAffinity) -> None:
        runs = [pod("d1", labels=DB, node="a1"), pod("d2", labels=DB, node="a1"), pod("d3", labels=DB, node="b1")]
        wanted = info(affinity=rather("podAffinity", 1, term(DB)))
        assert self.scores(plugin, wanted, cache_of(*NODES, pods=runs)) == {"a1": 100, "a2": 0, "b1": 50, "none": 0}

    def test_what_running_pods_prefer_counts_too(self, plugin: InterPodAffinity) -> None:
        likes = pod("likes", node="a1", affinity=rather("podAffinity", 5, term(WEB)))
        shuns = pod("shuns", node="b1", affinity=rather("podAntiAffinity", 5, term(WEB)))
        cache = cache_of(*NODES, pods=[likes, shuns])
        assert self.scores(plugin, info(labels=WEB), cache) == {"a1": 100, "a2": 50, "b1": 0, "none": 50}
        assert self.scores(plugin, info(labels=DB), cache) == {}

    def test_the_required_affinity_of_running_pods_counts_by_the_hard_weight(self) -> None:
        needs = pod("needs", node="a1", affinity=near(term(WEB)))
        likes = pod("likes", node="b1", affinity=rather("podAffinity", 50, term(WEB)))
        cache, wanted = cache_of(*NODES, pods=[needs, likes]), info(labels=WEB)
        cases = {1: (2, 100), 100: (100, 50), 0: (0, 100)}
        for weight, (on_a1, on_b1) in cases.items():
            found = self.scores(Namespaces().plugin(hard_weight=weight), wanted, cache)
            assert (found["a1"], found["b1"]) == (on_a1, on_b1)

    def test_preferences_of_running_pods_can_be_left_out_for_pods_without_own_ones(self) -> None:
        plugin = Namespaces().plugin(ignore_preferred_of_others=True)
        cache = cache_of(*NODES, pods=[pod("likes", node="a1", affinity=rather("podAffinity", 5, term(WEB)))])
        assert self.scores(plugin, info(labels=WEB), cache) == {}
        own = info(labels=WEB, affinity=rather("podAffinity", 1, term(DB)))
        assert self.scores(plugin, own, cache)["a1"] == 100


class TestWaking:
    def test_a_pod_to_be_near_to_helps_when_it_is_placed_or_gets_its_labels(self, plugin: InterPodAffinity) -> None:
        wanted = info(affinity=near(term(DB)))
        assert plugin.helps(pod_placed(info("db", labels=DB, node="a1")), wanted)
        assert not plugin.helps(pod_placed(info("web", labels=WEB, node="a1")), wanted)
        (relabelled,) = pod_changes(info("x", node="a1", labels=WEB), info("x", node="a1", labels=DB))
        assert plugin.helps(relabelled, wanted)
        (waits,) = pod_changes(info("x", labels=WEB), info("x", labels=DB))
        assert not plugin.helps(waits, wanted)

    def test_a_pod_to_keep_away_from_helps_when_it_goes_or_loses_its_labels(self, plugin: InterPodAffinity) -> None:
        wanted = info(affinity=away(term(DB), term({"tier": "1"})))
        assert plugin.helps(pod_removed(info("db", labels=DB, node="a1")), wanted)
        assert not plugin.helps(pod_removed(info("web", labels=WEB, node="a1")), wanted)
        assert not plugin.helps(pod_placed(info("db", labels=DB, node="a1")), wanted)
        (relabelled,) = pod_changes(info("x", node="a1", labels=DB), info("x", node="a1", labels=WEB))
        assert plugin.helps(relabelled, wanted)

    def test_so_does_one_that_wanted_no_such_pod_near_it(self, plugin: InterPodAffinity) -> None:
        lonely = info("db", node="a1", affinity=away(term(WEB)))
        assert plugin.helps(pod_removed(lonely), info(labels=WEB))
        assert not plugin.helps(pod_removed(lonely), info(labels=DB))

    def test_the_namespaces_of_terms_are_looked_up(self, plugin: InterPodAffinity) -> None:
        wanted = info(affinity=near(term(DB, namespaceSelector={"matchLabels": {"env": "prod"}})))
        assert plugin.helps(pod_placed(info("db", namespace="prod", labels=DB, node="a1")), wanted)

    def test_a_node_helps_that_joins_or_changes_a_domain(self, plugin: InterPodAffinity) -> None:
        wanted = info(affinity=near(term(DB, ZONE)))
        assert plugin.helps(node_added(in_zone("n", "a")), wanted)
        assert not plugin.helps(node_added(node("n")), wanted)
        (joins,) = node_changes(node("n"), in_zone("n", "a"))
        (moves,) = node_changes(in_zone("n", "a"), in_zone("n", "b"))
        assert plugin.helps(joins, wanted) and plugin.helps(moves, wanted)

    def test_for_anti_affinity_any_new_node_does_and_one_that_leaves_a_domain(self, plugin: InterPodAffinity) -> None:
        self.is_helped_by_nodes(plugin, info(affinity=away(term(DB, ZONE))))

    def test_and_for_pods_that_others_want_away_from_them(self, plugin: InterPodAffinity) -> None:
        self.is_helped_by_nodes(plugin, info(labels=WEB))

    def is_helped_by_nodes(self, plugin: InterPodAffinity, wanted: PodInfo) -> None:
        assert plugin.helps(node_added(node("n")), wanted)
        (joins,) = node_changes(node("n"), in_zone("n", "a"))
        (leaves,) = node_changes(in_zone("n", "a"), node("n"))
        (moves,) = node_changes(in_zone("n", "a"), in_zone("n", "b"))
        assert [plugin.helps(one, wanted) for one in (joins, moves, leaves)] == [False, True, True]
