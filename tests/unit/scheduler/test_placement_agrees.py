"""Rust and Python decide alike: on random clusters the plugins in Python are the judges of native/core/placement."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.evaluator import PluginEvaluator
from kubecore.scheduler.framework import CycleState, Diagnosis, Filter, Plugin, PreFilter, Score
from kubecore.scheduler.handle import Handle
from kubecore.scheduler.node_filter import NodeFilter
from kubecore.scheduler.placement import PlacementEvaluator, PlacementTable, evaluator_for
from kubecore.scheduler.plugins import BUILT_IN
from kubecore.scheduler.plugins.image_locality import ImageLocality
from kubecore.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from kubecore.scheduler.plugins.node_affinity import NodeAffinity
from kubecore.scheduler.plugins.node_name import NodeName
from kubecore.scheduler.plugins.node_ports import NodePorts
from kubecore.scheduler.plugins.node_resources_balanced import NodeResourcesBalancedAllocation
from kubecore.scheduler.plugins.node_resources_fit import NodeResourcesFit
from kubecore.scheduler.plugins.node_unschedulable import NodeUnschedulable
from kubecore.scheduler.plugins.pod_topology_spread import PodTopologySpread
from kubecore.scheduler.plugins.taint_toleration import TaintToleration
from kubecore.scheduler.plugins.volume_binding import VolumeBinding
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.profile import Profile
from kubecore.scheduler.profiles import Enabled, PluginSet, ProfileConfig, make_profile
from tests.support.fake_api import FakeAPI
from tests.unit.scheduler.builders import cache_of, node, pod
from tests.unit.scheduler.random_clusters import NAMES, ZONE, histories, informers_of_spaces, live, pods

SHAPE = {"requestedToCapacityRatio": {"shape": [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]}}


# ------------------------------------------------------------------ the judges
@pytest.fixture(scope="module")
def plugins() -> list[Plugin]:
    """What there is in Rust, and what looks at volumes in Python."""
    informers = informers_of_spaces()
    return [
        NodeUnschedulable(),
        NodeName(),
        TaintToleration(),
        NodeAffinity(),
        NodePorts(),
        NodeResourcesFit(),
        VolumeBinding(informers),
        PodTopologySpread(informers),
        InterPodAffinity(informers),
        NodeResourcesBalancedAllocation(),
        ImageLocality(),
    ]


def feasible(plugins: list[Plugin], given: PodInfo, cache: Cache) -> list[NodeInfo]:
    state, profile = CycleState(), Profile.of(plugins)
    for one in profile.at(PreFilter):
        result = one.pre_filter(state, given, cache)
        if result is not None and result.refusal:
            return []
    node_filter, coming = NodeFilter(profile), cache.nominations
    fits = [found for found in cache.nodes() if node_filter.refusal(state, given, found, coming) is None]
    kept_free = coming.node_of(given.uid)
    return [one for one in fits if one.name == kept_free] or fits


def scores(plugin: Score, given: PodInfo, found: list[NodeInfo], cache: Cache) -> list[int] | None:
    state = CycleState()
    if not plugin.pre_score(state, given, found, cache):
        return None
    raw = [plugin.score(state, given, one) for one in found]
    return plugin.normalize(state, given, raw, found)


def agreed_totals(
    rust: PlacementEvaluator, plugins: list[Plugin], given: PodInfo, nodes: list[NodeInfo], cache: Cache
) -> list[int]:
    """Weighted scores of the nodes, once both have found the same ones."""
    table, facts, names = rust.table(cache).native, rust.facts(given), [node.name for node in nodes]
    totals = [0] * len(names)
    for plugin in plugins:
        if isinstance(plugin, Score) and nodes:
            expected = scores(plugin, given, nodes, cache)
            assert rust.placer.scores(table, facts, plugin.name, names) == expected, plugin.name
            totals = [
                total + plugin.weight * score for total, score in zip(totals, expected or [0] * len(names), strict=True)
            ]
    assert rust.placer.totals(table, facts, names) == totals
    return totals


def facts(diagnosis: Diagnosis | None) -> Any:
    assert diagnosis is not None
    return diagnosis.message(), diagnosis.plugins, sorted(diagnosis.crowded)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    history=histories(),
    more=histories(),
    given=pods(),
    kept_free=st.one_of(st.none(), st.sampled_from(NAMES)),
    strategy=st.sampled_from(["LeastAllocated", "MostAllocated"]),
)
def test_the_same_nodes_fit_score_the_same_and_are_refused_for_the_same_reasons(
    plugins: list[Plugin],
    history: list[tuple[str, Any]],
    more: list[tuple[str, Any]],
    given: Object,
    kept_free: str | None,
    strategy: str,
) -> None:
    fit = NodeResourcesFit(strategy=strategy)
    plugins = [fit if isinstance(one, NodeResourcesFit) else one for one in plugins]
    cache = Cache()
    live(cache, history)
    rust = PlacementEvaluator(Profile.of(plugins), random.Random(0))
    one = PodInfo(given)
    if kept_free is not None:
        cache.nominations.put(one, kept_free)
    rust.evaluate(one, cache)
    # all that is counted for the pod must follow what happens from here on
    live(cache, more)

    found = feasible(plugins, one, cache)
    decision = rust.evaluate(one, cache)
    # of nodes that would not do, too: those that do are few, and often one
    for some in (cache.nodes(), cache.nodes()[::2]):
        agreed_totals(rust, plugins, one, some, cache)
    if not found:
        judged = PluginEvaluator(Profile.of(plugins)).evaluate(one, cache)
        assert facts(decision.diagnosis) == facts(judged.diagnosis)
        return
    assert decision.node in [node.name for node in found]
    table = PlacementTable.of(cache).native
    wish = (one.uid, one.priority, cache.nominations.node_of(one.uid) or None)
    names, _ = rust.placer.search(table, rust.facts(one), wish)
    assert sorted(names) == sorted(node.name for node in found)
    totals = agreed_totals(rust, plugins, one, [node for node in map(cache.node, names) if node is not None], cache)
    if len(names) > 1:
        assert decision.node in [name for name, total in zip(names, totals, strict=True) if total == max(totals)]


# ------------------------------------------------------------------ plugins of both languages together
class Refuses(Filter):
    name = "Refuses"

    def __init__(self, *nodes: str) -> None:
        self.nodes = nodes
        self.asked: list[str] = []

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> list[str]:
        self.asked.append(node.name)
        return ["is not liked"] if node.name in self.nodes else []


class Likes(Score):
    name = "Likes"

    def __init__(self, node: str) -> None:
        self.node = node

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        return 100 * (node.name == self.node)


class TestPluginsInPython:
    def test_are_asked_of_the_nodes_that_rust_found(self, plugins: list[Plugin]) -> None:
        asked = Refuses("b")
        cache = cache_of(node("a", unschedulable=True), node("b"), node("c"))
        assert PlacementEvaluator(Profile.of([*plugins, asked])).evaluate(PodInfo(pod()), cache).node == "c"
        assert asked.asked == ["b", "c"]

    def test_their_refusals_are_counted_with_those_of_rust(self, plugins: list[Plugin]) -> None:
        cache = cache_of(node("a", unschedulable=True), node("b"), node("c"))
        decision = PlacementEvaluator(Profile.of([*plugins, Refuses("b", "c")])).evaluate(PodInfo(pod()), cache)
        assert decision.diagnosis is not None
        assert decision.diagnosis.message() == (
            "0/3 nodes are available: 1 node(s) were unschedulable, 2 is not liked."
        )
        assert decision.diagnosis.plugins == {"NodeUnschedulable", "Refuses"}

    def test_their_scores_add_to_those_of_rust(self, plugins: list[Plugin]) -> None:
        cache = cache_of(*map(node, "abc"))
        chosen = {
            PlacementEvaluator(Profile.of([*plugins, Likes("b")])).evaluate(PodInfo(pod()), cache).node
            for _ in range(5)
        }
        assert chosen == {"b"}

    def test_may_not_change_the_cluster_while_they_are_asked(self, plugins: list[Plugin]) -> None:
        cache = cache_of(node("a"))

        class Meddles(Refuses):
            def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> list[str]:
                cache.remove_node("a")
                return []

        with pytest.raises(Exception, match="the placement table is in use"):
            PlacementEvaluator(Profile.of([*plugins, Meddles()])).evaluate(PodInfo(pod()), cache)


def test_enough_nodes_are_found_and_the_next_search_goes_on_behind_them(plugins: list[Plugin]) -> None:
    cache = cache_of(*(node(f"n{number}", labels={ZONE: f"z{number % 7}"}) for number in range(150)))
    rust, given = PlacementEvaluator(Profile.of(plugins)), PodInfo(pod())
    table, facts = PlacementTable.of(cache).native, rust.facts(given)
    names = [one.name for one in cache.nodes()]
    assert rust.placer.search(table, facts)[0] + rust.placer.search(table, facts)[0] == (names * 2)[:200]


def test_among_equals_the_seed_decides(plugins: list[Plugin]) -> None:
    def chosen(seed: int) -> str:
        cache = cache_of(*map(node, "abcd"))
        return PlacementEvaluator(Profile.of(plugins), random.Random(seed)).evaluate(PodInfo(pod()), cache).node

    assert {chosen(seed) for seed in range(30)} == set("abcd")
    assert chosen(7) == chosen(7)


class TestWhoDecides:
    def default(self, **fields: Any) -> Profile:
        unused: Any = None
        informers = FakeAPI(VirtualClock()).informers()
        names = Handle.__dataclass_fields__.keys() - {"profile"}
        handle = Handle(**{**dict.fromkeys(names, unused), "informers": informers})
        return make_profile(ProfileConfig(**fields), handle, BUILT_IN)

    def test_rust_for_profiles_that_use_its_plugins_as_they_are(self) -> None:
        assert isinstance(evaluator_for(self.default()), PlacementEvaluator)
        assert isinstance(evaluator_for(self.default(percentage=30)), PlacementEvaluator)
        without = {"filter": PluginSet(disabled=frozenset({"NodeAffinity"}))}
        assert isinstance(evaluator_for(self.default(points=without)), PluginEvaluator)

    @pytest.mark.parametrize(
        ("plugin", "given"),
        [
            ("NodeAffinity", {"addedAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{}]}}),
            ("NodeResourcesFit", {"scoringStrategy": {"type": "RequestedToCapacityRatio", **SHAPE}}),
            ("NodeResourcesFit", {"scoringStrategy": {"type": "MostAllocated", "resources": [{"name": "memory"}]}}),
            ("NodeResourcesFit", {"ignoredResources": ["example.com/gpu"]}),
            ("PodTopologySpread", {"defaultingType": "List"}),
            ("NodeResourcesBalancedAllocation", {"resources": [{"name": "example.com/gpu"}]}),
        ],
    )
    def test_a_plugin_with_arguments_is_asked_in_python(self, plugin: str, given: Object) -> None:
        profile = self.default(arguments={plugin: given})
        evaluator = PlacementEvaluator(profile)
        assert plugin in {one.name for one in (*evaluator.filters_in_python, *evaluator.scores_in_python)}

    def test_the_fullest_node_is_found_in_rust(self) -> None:
        evaluator = PlacementEvaluator(
            self.default(
                arguments={"NodeResourcesFit": {"scoringStrategy": {"type": "MostAllocated"}}},
                points={"score": PluginSet((Enabled("NodeResourcesFit"),), frozenset("*"))},
            )
        )
        assert not evaluator.scores_in_python
        assert "NodeResourcesFit" not in {one.name for one in evaluator.filters_in_python}
        cache = cache_of(*map(node, "abc"), pods=[pod("p", requests={"cpu": "1"}, node="b")])
        assert evaluator.evaluate(PodInfo(pod(requests={"cpu": "1"})), cache).node == "b"

    def test_a_node_that_is_kept_free_for_another_pod_is_not_given_away(self, plugins: list[Plugin]) -> None:
        cache = cache_of(node("a"))
        evaluator = PlacementEvaluator(Profile.of(plugins))
        wanted = PodInfo(pod(requests={"cpu": "3"}))
        assert evaluator.evaluate(wanted, cache).node == "a"
        cache.nominations.put(PodInfo(pod("other", requests={"cpu": "3"})), "a")
        assert evaluator.evaluate(wanted, cache).node == ""

    def test_a_node_is_kept_free_by_its_name_while_others_come_and_go(self, plugins: list[Plugin]) -> None:
        cache = cache_of(node("a"))
        evaluator = PlacementEvaluator(Profile.of(plugins))
        wanted, other = PodInfo(pod(requests={"cpu": "3"})), PodInfo(pod("other", requests={"cpu": "3"}))
        assert evaluator.evaluate(wanted, cache).node == "a"
        cache.nominations.put(other, "a")
        cache.remove_node("a")
        cache.set_node(node("b"))
        assert evaluator.evaluate(wanted, cache).node == "b", "though it is where the other one was"
        cache.remove_node("b")
        cache.set_node(node("a"))
        assert evaluator.evaluate(wanted, cache).node == ""
        assert evaluator.evaluate(other, cache).node == "a", "it need not yield to itself"
        cache.nominations.remove(other.uid)
        assert evaluator.evaluate(wanted, cache).node == "a"

    def test_nodes_on_which_preemption_may_help_are_told(self) -> None:
        cache = cache_of(node("a", unschedulable=True), node("b"), pods=[pod("p", requests={"cpu": "3"}, node="b")])
        decision = PlacementEvaluator(self.default()).evaluate(PodInfo(pod(requests={"cpu": "3"})), cache)
        assert decision.diagnosis is not None and decision.diagnosis.crowded == ["b"]
