"""nodeSelector and node affinity."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.client.client import Object
from kubecore.scheduler.events import node_added, node_changes
from kubecore.scheduler.framework import CycleState, PreFilterResult
from kubecore.scheduler.plugins.node_affinity import NodeAffinity
from kubecore.scheduler.pods import PodInfo
from tests.unit.scheduler.builders import cache_of, info, node, node_info

REASON = "node(s) didn't match Pod's node affinity/selector"
plugin = NodeAffinity()


def expression(key: str, operator: str, *values: str) -> Object:
    return {"key": key, "operator": operator, "values": list(values)}


def term(*expressions: Object, fields: list[Object] | None = None) -> Object:
    made: Object = {}
    if expressions:
        made["matchExpressions"] = list(expressions)
    if fields:
        made["matchFields"] = fields
    return made


def requiring(*terms: Object, **spec: Any) -> PodInfo:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}
    return info(affinity={"nodeAffinity": required}, **spec)


def preferring(*weighted: tuple[int, Object]) -> PodInfo:
    preferred = [{"weight": weight, "preference": one} for weight, one in weighted]
    return info(affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}})


def fits(pod: PodInfo, name: str = "n", **labels: str) -> bool:
    found = list(plugin.filter(CycleState(), pod, node_info(name, labels=labels)))
    assert found in ([], [REASON])
    return not found


class TestNodeSelector:
    def test_all_its_labels_must_be_there(self) -> None:
        wants = info(nodeSelector={"disk": "ssd", "zone": "a"})
        assert fits(wants, disk="ssd", zone="a", more="x")
        assert not fits(wants, disk="ssd")
        assert not fits(wants, disk="ssd", zone="b")

    def test_it_holds_along_with_the_affinity(self) -> None:
        wants = requiring(term(expression("zone", "Exists")), nodeSelector={"disk": "ssd"})
        assert not fits(wants, disk="ssd")
        assert not fits(wants, zone="a")
        assert fits(wants, disk="ssd", zone="a")


class TestOperators:
    @pytest.mark.parametrize(
        ("requirement", "matching", "other"),
        [
            (expression("k", "In", "a", "b"), ["a", "b"], ["c", "", None]),
            (expression("k", "NotIn", "a", "b"), ["c", "", None], ["a", "b"]),
            (expression("k", "Exists"), ["a", ""], [None]),
            (expression("k", "DoesNotExist"), [None], ["a", ""]),
            (expression("k", "Gt", "5"), ["6", "10"], ["5", "-7", "x", "", None]),
            (expression("k", "Lt", "5"), ["4", "-7"], ["5", "10", "x", "", None]),
        ],
    )
    def test_each_says_which_values_match(
        self, requirement: Object, matching: list[str | None], other: list[str | None]
    ) -> None:
        def fits_value(value: str | None) -> bool:
            return fits(requiring(term(requirement)), **({} if value is None else {"k": value}))

        assert all(map(fits_value, matching))
        assert not any(map(fits_value, other))

    @pytest.mark.parametrize("value", ["1_000", "1.5", "99999999999999999999", "٣"])
    def test_what_is_no_integer_of_64_bits_is_neither_greater_nor_less(self, value: str) -> None:
        assert not fits(requiring(term(expression("k", "Gt", "0"))), k=value)
        assert not fits(requiring(term(expression("k", "Lt", "0"))), k=value)


class TestTerms:
    def test_one_of_the_terms_is_enough(self) -> None:
        either = requiring(term(expression("a", "Exists")), term(expression("b", "Exists")))
        assert fits(either, a="")
        assert fits(either, b="")
        assert not fits(either, c="")

    def test_all_expressions_of_a_term_must_match(self) -> None:
        both = requiring(term(expression("a", "Exists"), expression("b", "Exists")))
        assert fits(both, a="", b="")
        assert not fits(both, a="")

    def test_an_empty_term_and_an_empty_list_match_nothing(self) -> None:
        assert not fits(requiring(term()))
        assert not fits(requiring())
        assert fits(requiring(term(), term(expression("a", "Exists"))), a="")


class TestFields:
    def test_a_node_is_chosen_by_its_name(self) -> None:
        wants = requiring(term(fields=[expression("metadata.name", "In", "n1")]))
        assert fits(wants, "n1")
        assert not fits(wants, "n2")

    def test_or_shunned(self) -> None:
        wants = requiring(term(fields=[expression("metadata.name", "NotIn", "n1")]))
        assert not fits(wants, "n1")
        assert fits(wants, "n2")

    def test_they_hold_along_with_the_expressions(self) -> None:
        wants = requiring(term(expression("a", "Exists"), fields=[expression("metadata.name", "In", "n1")]))
        assert not fits(wants, "n1")
        assert not fits(wants, "n2", a="")
        assert fits(wants, "n1", a="")


class TestNarrowing:
    """When all terms name nodes, no others need be looked at."""

    def narrowed(self, pod: PodInfo) -> PreFilterResult | None:
        return plugin.pre_filter(CycleState(), pod, cache_of())

    def named(self, *names: str) -> Object:
        return term(fields=[expression("metadata.name", "In", name) for name in names])

    def test_to_the_nodes_that_the_terms_name(self) -> None:
        assert self.narrowed(requiring(self.named("a"))) == PreFilterResult(nodes=frozenset("a"))
        assert self.narrowed(requiring(self.named("a"), self.named("b"))) == PreFilterResult(nodes=frozenset("ab"))

    def test_not_if_one_of_them_names_none(self) -> None:
        assert self.narrowed(requiring(self.named("a"), term(expression("a", "Exists")))) is None
        assert self.narrowed(requiring(term(fields=[expression("metadata.name", "NotIn", "a")]))) is None

    def test_terms_that_contradict_themselves_are_a_conflict(self) -> None:
        assert self.narrowed(requiring(self.named("a", "b"))) == PreFilterResult("pod affinity terms conflict")

    def test_without_selector_and_required_affinity_there_is_nothing_to_filter(self) -> None:
        for pod in (info(), preferring((1, term()))):
            state = CycleState()
            assert plugin.pre_filter(state, pod, cache_of()) is None
            assert state.skipped == {"NodeAffinity"}
        state = CycleState()
        plugin.pre_filter(state, info(nodeSelector={"a": "b"}), cache_of())
        assert state.skipped == set()


class TestPreferences:
    def scores(self, pod: PodInfo, *labels_of_nodes: dict[str, str]) -> list[int]:
        nodes = [node_info(f"n{number}", labels=labels) for number, labels in enumerate(labels_of_nodes)]
        state = CycleState()
        assert plugin.pre_score(state, pod, nodes, cache_of())
        return plugin.normalize(state, pod, [plugin.score(state, pod, one) for one in nodes], nodes)

    def test_the_weights_of_those_that_match_are_summed_and_scaled(self) -> None:
        pod = preferring((30, term(expression("a", "Exists"))), (10, term(expression("b", "Exists"))))
        assert self.scores(pod, {"a": "", "b": ""}, {"a": ""}, {"b": ""}, {}) == [100, 75, 25, 0]

    def test_an_empty_preference_prefers_nothing(self) -> None:
        pod = preferring((10, term(expression("a", "Exists"))), (90, term()))
        assert self.scores(pod, {"a": ""}, {}) == [100, 0]

    def test_a_pod_without_any_leaves_nodes_alike(self) -> None:
        assert not plugin.pre_score(CycleState(), info(), [], cache_of())


class TestAddedAffinity:
    """What a profile asks of all its pods' nodes."""

    ssd = term(expression("disk", "In", "ssd"))
    added = NodeAffinity(
        {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [ssd]},
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 5, "preference": term(expression("zone", "Exists"))}
            ],
        }
    )

    def refuses(self, pod: PodInfo, **labels: str) -> str:
        state = CycleState()
        self.added.pre_filter(state, pod, cache_of())
        assert state.skipped == set()
        return ", ".join(self.added.filter(state, pod, node_info(labels=labels)))

    def test_holds_besides_the_pods_own(self) -> None:
        enforced = "node(s) didn't match scheduler-enforced node affinity"
        assert self.refuses(info()) == enforced
        assert self.refuses(info(), disk="ssd") == ""
        assert self.refuses(info(nodeSelector={"a": "b"}), disk="ssd") == REASON
        assert self.refuses(info(nodeSelector={"a": "b"}), a="b") == enforced

    def test_preferences_are_added(self) -> None:
        pod, nodes = preferring((5, term(expression("a", "Exists")))), [node_info("n", labels={"a": "", "zone": ""})]
        assert self.added.pre_score(CycleState(), info(), nodes, cache_of())
        assert self.added.score(CycleState(), pod, nodes[0]) == 10

    def test_waking(self) -> None:
        assert self.added.helps(node_added(node(labels={"disk": "ssd"})), info())
        assert not self.added.helps(node_added(node()), info())
        (now,) = node_changes(node(), node(labels={"disk": "ssd"}))
        assert self.added.helps(now, info())


class TestWaking:
    wants = info(nodeSelector={"disk": "ssd"})

    def test_a_node_helps_that_comes_and_matches(self) -> None:
        assert plugin.helps(node_added(node(labels={"disk": "ssd"})), self.wants)
        assert not plugin.helps(node_added(node()), self.wants)

    def test_or_that_matches_after_a_change_but_did_not_before(self) -> None:
        (now,) = node_changes(node(), node(labels={"disk": "ssd"}))
        (still,) = node_changes(node(labels={"disk": "ssd"}), node(labels={"disk": "ssd", "a": "b"}))
        assert plugin.helps(now, self.wants)
        assert not plugin.helps(still, self.wants)
