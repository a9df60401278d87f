"""Rust and Python preempt alike: on random clusters the plugins in Python are the judges of native/core/placement."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.evaluator import PluginEvaluator
from kubecore.scheduler.framework import CycleState, Diagnosis, Filter, Plugin, PostFilter, PostFilterResult
from kubecore.scheduler.node_filter import NodeFilter
from kubecore.scheduler.placement import Crowd, PlacementEvaluator, microseconds
from kubecore.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from kubecore.scheduler.plugins.node_affinity import NodeAffinity
from kubecore.scheduler.plugins.node_name import NodeName
from kubecore.scheduler.plugins.node_ports import NodePorts
from kubecore.scheduler.plugins.node_resources_fit import NodeResourcesFit
from kubecore.scheduler.plugins.node_unschedulable import NodeUnschedulable
from kubecore.scheduler.plugins.pod_topology_spread import PodTopologySpread
from kubecore.scheduler.plugins.taint_toleration import TaintToleration
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.preemption import Candidate, dry_run, least_harmful, select_victims
from kubecore.scheduler.profile import Profile
from tests.unit.scheduler.builders import cache_of, node, pod
from tests.unit.scheduler.random_clusters import (
    NAMES,
    SPACES,
    histories,
    informers_of_spaces,
    labels,
    live,
    pods,
    selectors,
)

NOW = datetime(2026, 1, 1, 2, 30, tzinfo=UTC)
"""Some pods started later, by clocks that differ."""

budgets = st.builds(
    lambda space, selector, allowed, gone: {
        "metadata": {"name": "b", "namespace": space},
        "spec": {"selector": selector, "minAvailable": 1},
        "status": {"disruptionsAllowed": allowed, "disruptedPods": dict.fromkeys(gone, "2026-01-01T00:00:00Z")},
    },
    st.sampled_from(SPACES),
    st.one_of(selectors, st.builds(lambda given: {"matchLabels": given}, labels)),
    st.integers(0, 2),
    st.lists(st.sampled_from(["p0", "p1"]), max_size=1),
)


class Preempts(PostFilter):
    """Makes evaluators care for preemption."""

    name = "Preempts"

    def post_filter(self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis) -> PostFilterResult:
        return PostFilterResult()


@pytest.fixture(scope="module")
def plugins() -> list[Plugin]:
    informers = informers_of_spaces()
    return [
        NodeUnschedulable(),
        NodeName(),
        TaintToleration(),
        NodeAffinity(),
        NodePorts(),
        NodeResourcesFit(),
        PodTopologySpread(informers),
        InterPodAffinity(informers),
        Preempts(),
    ]


Told = tuple[list[tuple[str, list[str], int]], int, dict[str, int]]


def in_python(
    plugins: list[Plugin], wanted: PodInfo, nodes: list[NodeInfo], cache: Cache, given: list[Object], **plan: int
) -> tuple[list[Candidate], Told]:
    profile = Profile.of(plugins)
    state, judge = PluginEvaluator(profile).prepared(wanted, cache), NodeFilter(profile)

    def attempt(on: NodeInfo) -> Candidate | Any:
        return select_victims(judge, state, wanted, on, budgets=given, nominations=cache.nominations, now=NOW)

    candidates, refused = dry_run(nodes, attempt, **plan)
    told = [(one.node, [victim.key for victim in one.victims], one.violations) for one in candidates]
    return candidates, (told, len(refused), dict(Counter(reason for one in refused.values() for reason in one)))


@pytest.mark.timeout(1200)  # ten seconds of work, which take minutes where a dozen others want the same processor
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    history=histories(),
    more=histories(),
    wanted=pods(),
    priority=st.sampled_from([5, 9]),
    cpu=st.sampled_from(["0", "1500m", "2", "2"]),
    protected=st.lists(budgets, max_size=2),
    start=st.integers(0, 7),
    enough=st.integers(1, 8),
)
def test_the_same_pods_have_to_go_from_the_same_nodes_and_the_same_node_is_harmed_least(
    plugins: list[Plugin],
    history: list[tuple[str, Any]],
    more: list[tuple[str, Any]],
    wanted: Object,
    priority: int,
    cpu: str,
    protected: list[Object],
    start: int,
    enough: int,
) -> None:
    wanted["spec"]["priority"] = priority
    wanted["spec"]["containers"][0]["resources"]["requests"]["cpu"] = cpu
    one, cache = PodInfo(wanted), Cache()
    rust = PlacementEvaluator(Profile.of(plugins), random.Random(0))
    live(cache, history)
    rust.evaluate(one, cache)
    live(cache, more)
    decision = rust.evaluate(one, cache)
    assume(decision.diagnosis is not None and decision.diagnosis.crowded)
    assert decision.diagnosis is not None and decision.diagnosis.crowd is not None
    crowd = decision.diagnosis.crowd
    nodes = [found for found in map(cache.node, crowd.names()) if found is not None]
    start %= len(nodes)
    expected, told = in_python(plugins, one, nodes, cache, protected, start=start, enough=enough)

    found = crowd.rehearse(budgets=protected, start=start, enough=enough, now=NOW, everyone=True)
    assert found is not None
    assert (found[0], found[1], dict(found[2])) == told
    best = crowd.rehearse(budgets=protected, start=start, enough=enough, now=NOW, everyone=False)
    assert best is not None
    assert [node for node, _, _ in best[0]] == ([least_harmful(expected, NOW).node] if expected else [])
    # nothing has changed by it
    again = rust.evaluate(one, cache).diagnosis
    assert again is not None and again.message() == decision.diagnosis.message()


@pytest.mark.timeout(1200)  # as above
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    parts=st.lists(histories(), min_size=2, max_size=5),
    wanted=pods(),
    priority=st.sampled_from([5, 9]),
    cpu=st.sampled_from(["1500m", "2", "3"]),
    nominated=st.lists(st.sampled_from(["", *NAMES]), min_size=5, max_size=5),
    protected=st.lists(st.lists(budgets, max_size=1), min_size=5, max_size=5),
    start=st.integers(0, 7),
    enough=st.integers(1, 8),
)
def test_what_is_remembered_of_nodes_is_what_who_sees_them_for_the_first_time_finds(
    plugins: list[Plugin],
    parts: list[list[tuple[str, Any]]],
    wanted: Object,
    priority: int,
    cpu: str,
    nominated: list[str],
    protected: list[list[Object]],
    start: int,
    enough: int,
) -> None:
    wanted["spec"]["priority"] = priority
    wanted["spec"]["containers"][0]["resources"]["requests"]["cpu"] = cpu
    one, other, cache = PodInfo(wanted), PodInfo(pod("coming", requests={"cpu": "1"}, priority=9)), Cache()
    rust = PlacementEvaluator(Profile.of(plugins), random.Random(0))
    for part, node_of_other, budgeted in zip(parts, nominated, protected, strict=False):
        live(cache, part)
        cache.nominations.put(other, node_of_other)
        for _ in range(3):
            first_look = PlacementEvaluator(Profile.of(plugins), random.Random(0))
            why, expected = rust.evaluate(one, cache).diagnosis, first_look.evaluate(one, cache).diagnosis
            assert (why is None) == (expected is None)
            if why is None or expected is None:
                continue
            assert why.message() == expected.message()
            assert why.plugins == expected.plugins
            assert sorted(why.crowded) == sorted(expected.crowded)
            crowd = why.crowd
            assert isinstance(crowd, Crowd)
            rust.table(cache).protect(budgeted)
            for now, everyone in itertools.product((NOW, NOW + timedelta(hours=1)), (True, False)):
                plan = (start, enough, microseconds(now), everyone)
                assert crowd.tried(rust.placer, plan) == crowd.tried(first_look.placer, plan)


class Refuses(Filter):
    name = "Refuses"

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> list[str]:
        return ["is not liked"] if node.name == "a" else []


def rehearsed(evaluator: PlacementEvaluator, cache: Cache) -> Any:
    diagnosis = evaluator.evaluate(PodInfo(pod(requests={"cpu": "3"}, priority=9)), cache).diagnosis
    assert diagnosis is not None and diagnosis.crowd is not None
    return diagnosis.crowd.rehearse(budgets=[], start=0, enough=9, now=NOW, everyone=True)


class TestWhoTries:
    def test_nodes_that_plugins_in_python_have_a_say_on_are_left_to_them(self, plugins: list[Plugin]) -> None:
        cache = cache_of(node("a"), node("b"), pods=[pod("p", requests={"cpu": "3"}, node="b")])
        assert rehearsed(PlacementEvaluator(Profile.of([*plugins, Refuses()])), cache) is None

    def test_a_start_that_becomes_known_later_counts(self, plugins: list[Plugin]) -> None:
        def runs(name: str, **status: str) -> Object:
            return pod(name, requests={"cpu": "2"}, node="a", status={"phase": "Running", **status})

        cache = cache_of(node("a"), pods=[runs("first"), runs("second")])
        evaluator = PlacementEvaluator(Profile.of(plugins))
        small = PodInfo(pod(requests={"cpu": "2"}, priority=9))

        def victim() -> str:
            diagnosis = evaluator.evaluate(small, cache).diagnosis
            assert diagnosis is not None and diagnosis.crowd is not None
            found = diagnosis.crowd.rehearse(budgets=[], start=0, enough=1, now=NOW, everyone=True)
            assert found is not None
            ((_, (key,), _),) = found[0]
            return meta.split_key(key)[1]

        assert victim() == "second"
        cache.started(runs("second", startTime="2026-01-01T01:00:00Z"))
        assert victim() == "first"
