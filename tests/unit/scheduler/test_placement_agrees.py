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

HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
NAMES = [f"n{number}" for number in range(8)]
SPACES = ["default", "other"]
SHAPE = {"requestedToCapacityRatio": {"shape": [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]}}
KEYS = [f"{space}/p{number}" for space in SPACES for number in range(5)]

# ------------------------------------------------------------------ what clusters are made of
labels = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["a", "b"]), max_size=2)
amounts = st.sampled_from(["0", "100m", "1", "1500m", "3"])
bytes_ = st.sampled_from(["0", "64Mi", "1Gi", "5Gi"])
requests = st.fixed_dictionaries({}, optional={"cpu": amounts, "memory": bytes_, "example.com/gpu": st.just("1")})
effects = st.sampled_from(["NoSchedule", "PreferNoSchedule", "NoExecute"])
taints = st.builds(
    lambda key, value, effect: {"key": key, "value": value, "effect": effect},
    st.sampled_from(["dedicated", "gpu"]),
    st.sampled_from(["", "yes"]),
    effects,
)
tolerations = st.one_of(
    st.fixed_dictionaries({"operator": st.just("Exists")}),
    st.fixed_dictionaries(
        {"key": st.sampled_from(["dedicated", "gpu"]), "operator": st.sampled_from(["Exists", "Equal"])},
        optional={"value": st.sampled_from(["", "yes"]), "effect": effects},
    ),
)
node_labels = st.fixed_dictionaries(
    {}, optional={ZONE: st.sampled_from(["z1", "z2", "z3"]), "disk": st.sampled_from(["ssd", "1", "7", "x"])}
)
image_names = st.sampled_from(["app:1", "app:latest", "big:2"])


def with_images(made: Object, names: list[str]) -> Object:
    images = [{"names": [name], "sizeBytes": size << 20} for name, size in zip(names, (300, 2000), strict=False)]
    return made | {"status": made["status"] | {"images": images}}


nodes = st.builds(
    lambda name, labels, taints, cordoned, cpu, pods, images: with_images(
        node(
            name,
            labels=labels,
            taints=taints,
            unschedulable=cordoned,
            allocatable={"cpu": cpu, "memory": "8Gi", "pods": pods, "example.com/gpu": "1"},
        ),
        images,
    ),
    st.sampled_from(NAMES),
    node_labels,
    st.lists(taints, max_size=2),
    st.sampled_from([False, False, False, True]),
    st.sampled_from(["0", "2", "4"]),
    st.sampled_from(["1", "110", "110"]),
    st.lists(image_names, max_size=2, unique=True),
)
expressions = st.one_of(
    st.builds(
        lambda key, operator, values: {"key": key, "operator": operator, "values": values},
        st.sampled_from([ZONE, "disk"]),
        st.sampled_from(["In", "NotIn"]),
        st.lists(st.sampled_from(["z1", "z2", "ssd"]), min_size=1, max_size=2),
    ),
    st.builds(
        lambda operator: {"key": "disk", "operator": operator},
        st.sampled_from(["Exists", "DoesNotExist"]),
    ),
    st.builds(
        lambda operator, value: {"key": "disk", "operator": operator, "values": [value]},
        st.sampled_from(["Gt", "Lt"]),
        st.sampled_from(["3", "x"]),
    ),
)
fields = st.builds(
    lambda operator, name: {"key": "metadata.name", "operator": operator, "values": [name]},
    st.sampled_from(["In", "In", "NotIn"]),
    st.sampled_from([*NAMES, "gone"]),
)
terms = st.fixed_dictionaries(
    {},
    optional={
        "matchExpressions": st.lists(expressions, max_size=2),
        "matchFields": st.lists(fields, min_size=1, max_size=2),
    },
)
node_affinity = st.fixed_dictionaries(
    {},
    optional={
        "requiredDuringSchedulingIgnoredDuringExecution": st.builds(
            lambda terms: {"nodeSelectorTerms": terms}, st.lists(terms, min_size=1, max_size=2)
        ),
        "preferredDuringSchedulingIgnoredDuringExecution": st.lists(
            st.builds(lambda weight, term: {"weight": weight, "preference": term}, st.integers(1, 100), terms),
            max_size=2,
        ),
    },
)
selectors = st.one_of(
    st.none(),
    st.builds(lambda labels: {"matchLabels": labels}, labels),
    st.just({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}),
)
spreads = st.fixed_dictionaries(
    {
        "maxSkew": st.integers(1, 2),
        "topologyKey": st.sampled_from([ZONE, HOSTNAME]),
        "whenUnsatisfiable": st.sampled_from(["DoNotSchedule", "ScheduleAnyway"]),
        "labelSelector": selectors,
    },
    optional={
        "matchLabelKeys": st.just(["tier"]),
        "minDomains": st.integers(1, 4),
        "nodeAffinityPolicy": st.sampled_from(["Honor", "Ignore"]),
        "nodeTaintsPolicy": st.sampled_from(["Honor", "Ignore"]),
    },
)
ports = st.fixed_dictionaries(
    {"hostPort": st.sampled_from([80, 81]), "containerPort": st.just(80)},
    optional={"hostIP": st.sampled_from(["0.0.0.0", "10.0.0.1"]), "protocol": st.sampled_from(["TCP", "UDP"])},
)
pod_terms = st.fixed_dictionaries(
    {"topologyKey": st.sampled_from([ZONE, HOSTNAME]), "labelSelector": selectors},
    optional={
        "namespaces": st.lists(st.sampled_from(SPACES), max_size=2),
        "namespaceSelector": st.sampled_from([{}, {"matchLabels": {"team": "red"}}]),
    },
)
weighted_terms = st.builds(
    lambda weight, term: {"weight": weight, "podAffinityTerm": term}, st.integers(1, 100), pod_terms
)
pod_rules = st.fixed_dictionaries(
    {},
    optional={
        "requiredDuringSchedulingIgnoredDuringExecution": st.lists(pod_terms, max_size=2),
        "preferredDuringSchedulingIgnoredDuringExecution": st.lists(weighted_terms, max_size=2),
    },
)
inter_pod = st.fixed_dictionaries({}, optional={"podAffinity": pod_rules, "podAntiAffinity": pod_rules})


@st.composite
def pods(draw: Any, name: str = "p", *, placed: bool = False) -> Object:
    containers = [
        {
            "name": "c",
            "image": draw(st.sampled_from(["app:1", "app", "big:2", "other"])),
            "resources": {"requests": draw(requests)},
            "ports": draw(st.lists(ports, max_size=1)),
        }
    ]
    extra: Object = {"containers": containers, "priority": draw(st.sampled_from([0, 5]))}
    if draw(st.booleans()):
        extra["affinity"] = draw(inter_pod)
    if placed:
        extra["node"] = draw(st.sampled_from(NAMES))
        extra["deleting"] = draw(st.sampled_from([False, False, True]))
    else:
        extra["tolerations"] = draw(st.lists(tolerations, max_size=2))
        if draw(st.booleans()):
            extra["affinity"] = extra.get("affinity", {}) | {"nodeAffinity": draw(node_affinity)}
        if draw(st.integers(0, 3)) == 0:
            extra["nodeSelector"] = {"disk": "ssd"}
        extra["topologySpreadConstraints"] = draw(st.lists(spreads, max_size=3))
    return pod(name, labels=draw(labels), namespace=draw(st.sampled_from(SPACES)), **extra)


@st.composite
def histories(draw: Any) -> list[tuple[str, Any]]:
    """Nodes and pods that come, change and go."""
    several = st.lists(nodes, min_size=2, max_size=6, unique_by=lambda made: made["metadata"]["name"])
    steps: list[tuple[str, Any]] = [("node", one) for one in draw(several)]
    steps += [("pod", draw(pods(f"p{number % 5}", placed=True))) for number in range(draw(st.integers(0, 8)))]
    more = st.one_of(
        st.tuples(st.just("node"), nodes),
        st.tuples(st.just("no node"), st.sampled_from(NAMES)),
        st.tuples(st.just("no pod"), st.sampled_from(KEYS)),
        st.tuples(st.just("nominated"), st.tuples(pods("coming"), st.sampled_from(["", *NAMES]))),
    )
    return steps + draw(st.lists(more, max_size=4))


def live(cache: Cache, history: list[tuple[str, Any]]) -> None:
    for what, one in history:
        if what == "node":
            cache.set_node(one)
        elif what == "pod":
            cache.add_pod(PodInfo(one))
        elif what == "no node":
            cache.remove_node(one)
        elif what == "nominated":
            cache.nominations.put(PodInfo(one[0]), one[1])
        else:
            cache.remove_pod(one)


# ------------------------------------------------------------------ the judges
@pytest.fixture(scope="module")
def plugins() -> list[Plugin]:
    """What there is in Rust, and what looks at volumes in Python."""
    informers = FakeAPI(VirtualClock()).informers()
    names = informers.informer("namespaces")
    names.apply("ADDED", {"metadata": {"name": "default", "uid": "1"}})
    names.apply("ADDED", {"metadata": {"name": "other", "uid": "2", "labels": {"team": "red"}}})
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

    def test_nodes_on_which_preemption_may_help_are_told(self) -> None:
        cache = cache_of(node("a", unschedulable=True), node("b"), pods=[pod("p", requests={"cpu": "3"}, node="b")])
        decision = PlacementEvaluator(self.default()).evaluate(PodInfo(pod(requests={"cpu": "3"})), cache)
        assert decision.diagnosis is not None and decision.diagnosis.crowded == ["b"]
