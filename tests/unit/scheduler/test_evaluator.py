"""How plugins are run over the nodes, and how kube-scheduler words what they say."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.evaluator import PluginEvaluator, nodes_to_find
from kubecore.scheduler.framework import (
    CycleState,
    Decision,
    Diagnosis,
    Filter,
    Plugin,
    PluginError,
    PreFilter,
    PreFilterResult,
    Score,
    normalize_by_maximum,
)
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.profile import Profile
from tests.unit.scheduler.builders import cache_of, info, node


class Only(PreFilter):
    """Says beforehand which nodes can do."""

    def __init__(self, name: str, *nodes: str, refusal: str = "") -> None:
        self.name = name  # type: ignore[misc]
        self.result = PreFilterResult(refusal) if refusal else PreFilterResult(nodes=frozenset(nodes))

    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> PreFilterResult:
        return self.result


class Refuses(Filter):
    def __init__(self, name: str, *reasons: str, nodes: str = "") -> None:
        self.name = name  # type: ignore[misc]
        self.reasons = reasons
        self.nodes = nodes.split()
        self.asked: list[str] = []

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        self.asked.append(node.name)
        return self.reasons if not self.nodes or node.name in self.nodes else ()


class Skips(Refuses, PreFilter):
    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> None:
        state.skipped.add(self.name)


class Scores(Score):
    def __init__(self, name: str, weight: int = 1, **scores: int) -> None:
        self.name = name  # type: ignore[misc]
        self.weight = weight  # type: ignore[misc]
        self.scores = scores
        self.differs = True

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> bool:
        return self.differs

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        return self.scores.get(node.name, 0)


def decide(*plugins: Plugin, nodes: str = "a b c", seed: int = 0) -> Decision:
    cache = cache_of(*map(node, nodes.split()))
    return PluginEvaluator(Profile.of(plugins), random.Random(seed)).evaluate(info(), cache)


def diagnosis(*plugins: Plugin, nodes: str = "a b c") -> Diagnosis:
    decision = decide(*plugins, nodes=nodes)
    assert not decision.node and decision.diagnosis is not None
    return decision.diagnosis


class TestWords:
    def test_nodes_are_counted_by_reason(self) -> None:
        taints = Refuses("Taints", "node(s) had untolerated taint(s)", nodes="a b")
        found = diagnosis(taints, Refuses("Fit", "Insufficient cpu"))
        assert found.message() == ("0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s).")
        assert found.plugins == {"Taints", "Fit"}

    def test_a_node_that_gives_two_reasons_counts_for_both(self) -> None:
        found = diagnosis(Refuses("Fit", "Insufficient memory", "Insufficient cpu"))
        assert found.message() == "0/3 nodes are available: 3 Insufficient cpu, 3 Insufficient memory."

    def test_reasons_are_sorted_as_text_their_numbers_included(self) -> None:
        names = " ".join(f"n{number}" for number in range(12))
        few = Refuses("B", "b", nodes="n1 n2")
        assert diagnosis(few, Refuses("A", "a"), nodes=names).message() == "0/12 nodes are available: 10 a, 2 b."

    def test_only_the_first_plugin_that_refuses_a_node_is_heard(self) -> None:
        later = Refuses("Later", "never said")
        assert diagnosis(Refuses("First", "no"), later).message() == "0/3 nodes are available: 3 no."
        assert later.asked == []

    def test_without_any_node(self) -> None:
        found = diagnosis(Only("P", refusal="not asked"), nodes="")
        assert found.message() == "no nodes available to schedule pods"
        assert found.plugins == set()

    def test_a_reason_that_holds_for_all_nodes_stands_alone(self) -> None:
        asked = Refuses("Fit", "no")
        found = diagnosis(Only("Affinity", refusal="pod affinity terms conflict"), asked)
        assert found.message() == "0/3 nodes are available: pod affinity terms conflict."
        assert (found.plugins, asked.asked) == ({"Affinity"}, [])

    def test_what_post_filter_says_comes_last(self) -> None:
        found = diagnosis(Refuses("Fit", "no"))
        found.added = "preemption: not helpful."
        assert found.message() == "0/3 nodes are available: 3 no. preemption: not helpful."


class TestNarrowing:
    """A PreFilter plugin may name the only nodes that can do."""

    def test_no_other_node_is_looked_at(self) -> None:
        asked = Refuses("Fit", "no", nodes="none")
        assert decide(Only("Affinity", "b"), asked).node == "b"
        assert asked.asked == ["b"]

    def test_the_others_are_counted_against_the_plugin(self) -> None:
        found = diagnosis(Only("NodeAffinity", "b"), Refuses("Fit", "Insufficient cpu"))
        assert found.message() == (
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
        )
        assert found.plugins == {"NodeAffinity", "Fit"}

    def test_a_node_that_does_not_exist_is_none(self) -> None:
        found = diagnosis(Only("NodeAffinity", "gone"))
        assert found.message() == "0/3 nodes are available: 3 node(s) didn't satisfy plugin(s) [NodeAffinity]."

    def test_two_plugins_must_agree(self) -> None:
        assert decide(Only("A", "a", "b"), Only("B", "b", "c")).node == "b"
        found = diagnosis(Only("B", "a"), Only("A", "c"))
        assert found.message() == "0/3 nodes are available: node(s) didn't satisfy plugin(s) [A B] simultaneously."
        assert found.plugins == {"A", "B"}

    def test_one_plugin_may_leave_nothing(self) -> None:
        assert diagnosis(Only("A")).message() == "0/3 nodes are available: node(s) didn't satisfy plugin A."


class TestSkipping:
    def test_a_plugin_with_nothing_to_filter_is_not_asked(self) -> None:
        skips = Skips("Skips", "never said")
        assert decide(skips).node
        assert skips.asked == []


class TestChoosing:
    def test_the_highest_sum_of_weighted_scores_wins(self) -> None:
        assert decide(Scores("A", a=60, b=50), Scores("B", 2, b=8, c=29)).node == "b"

    def test_a_plugin_to_which_all_nodes_are_alike_is_left_out(self) -> None:
        indifferent = Scores("A", 100, a=100)
        indifferent.differs = False
        assert decide(indifferent, Scores("B", c=1)).node == "c"

    def test_among_equals_chance_decides(self) -> None:
        chosen = {decide(Scores("A", a=5, b=5), seed=seed).node for seed in range(30)}
        assert chosen == {"a", "b"}

    def test_a_single_node_that_fits_needs_no_scores(self) -> None:
        class Fails(Scores):
            def score(self, *_: Any) -> int:
                raise AssertionError("not to be asked")

        assert decide(Refuses("Fit", "no", nodes="a c"), Fails("A")).node == "b"


class TestFailing:
    """A plugin's failure is the scheduler's error and says nothing about nodes."""

    def broken(self, base: type, method: str) -> Any:
        def fail(*_: Any) -> None:
            raise ValueError("boom")

        return type("Broken", (base,), {"name": "Broken", "score": fail, method: fail})()

    def test_it_is_named_with_its_extension_point(self) -> None:
        for base, method, message in (
            (PreFilter, "pre_filter", 'running PreFilter plugin "Broken": boom'),
            (Filter, "filter", 'running "Broken" filter plugin: boom'),
            (Score, "pre_score", 'running PreScore plugin "Broken": boom'),
            (Score, "score", 'running Score plugins: plugin "Broken" failed with: boom'),
        ):
            with pytest.raises(PluginError) as caught:
                decide(self.broken(base, method))
            assert str(caught.value) == message


class TestHowManyNodes:
    @pytest.mark.parametrize(
        ("nodes", "enough"),
        [(5, 5), (99, 99), (100, 100), (200, 100), (250, 120), (1000, 420), (5000, 500), (6000, 300)],
    )
    def test_the_share_that_is_looked_for_shrinks_with_the_cluster(self, nodes: int, enough: int) -> None:
        assert nodes_to_find(nodes) == enough

    def test_the_next_search_begins_where_the_last_one_ended(self) -> None:
        asked = Refuses("Fit", "no", nodes="none")
        cache = cache_of(*(node(f"n{number}") for number in range(150)))
        evaluator = PluginEvaluator(Profile.of([asked, Scores("Best")]))
        evaluator.evaluate(info(), cache)
        evaluator.evaluate(info(), cache)
        names = [one.name for one in cache.nodes()]
        assert asked.asked == (names * 2)[:200]


class TestNormalizing:
    def test_the_largest_becomes_100_and_the_rest_in_proportion(self) -> None:
        assert normalize_by_maximum([0, 1, 3]) == [0, 33, 100]

    def test_reversed_the_smallest_is_best(self) -> None:
        assert normalize_by_maximum([0, 1, 3], reverse=True) == [100, 67, 0]

    def test_nothing_but_zeros(self) -> None:
        assert normalize_by_maximum([0, 0]) == [0, 0]
        assert normalize_by_maximum([0, 0], reverse=True) == [100, 100]
