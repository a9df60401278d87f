"""Filtering and scoring in Rust: the facade of native/core/placement, and the evaluator that decides with it.

Rust decides what its plugins can: those of `_FILTERS` and `_SCORES`. Any other plugin is asked in Python, for the nodes
that Rust found, and only when it has something to say of the pod.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from kubecore import _native
from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.client.informer import SharedInformer
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.evaluator import PluginEvaluator, pre_filter
from kubecore.scheduler.framework import (
    CycleState,
    Decision,
    Diagnosis,
    Evaluator,
    Filter,
    LaterState,
    Plugin,
    PostFilter,
    PreFilter,
    PreScore,
    Rehearsed,
    Score,
)
from kubecore.scheduler.node_filter import NodeFilter
from kubecore.scheduler.plugins.image_locality import ImageLocality, images_of
from kubecore.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from kubecore.scheduler.plugins.node_affinity import NodeAffinity
from kubecore.scheduler.plugins.node_name import NodeName
from kubecore.scheduler.plugins.node_ports import NodePorts
from kubecore.scheduler.plugins.node_resources_balanced import NodeResourcesBalancedAllocation
from kubecore.scheduler.plugins.node_resources_fit import LEAST_ALLOCATED, MOST_ALLOCATED, NodeResourcesFit
from kubecore.scheduler.plugins.node_unschedulable import NodeUnschedulable
from kubecore.scheduler.plugins.pod_topology_spread import PodTopologySpread
from kubecore.scheduler.plugins.taint_toleration import TaintToleration
from kubecore.scheduler.pods import Likeness, PodInfo
from kubecore.scheduler.profile import EXTENSION_POINTS, Profile
from kubecore.scheduler.resource_scoring import CPU_AND_MEMORY

_FILTERS: frozenset[type[Plugin]] = frozenset(
    {
        NodeUnschedulable,
        NodeName,
        TaintToleration,
        NodeAffinity,
        NodePorts,
        NodeResourcesFit,
        PodTopologySpread,
        InterPodAffinity,
    }
)
_SCORES: frozenset[type[Plugin]] = frozenset(
    {
        NodeAffinity,
        TaintToleration,
        NodeResourcesFit,
        NodeResourcesBalancedAllocation,
        PodTopologySpread,
        InterPodAffinity,
        ImageLocality,
    }
)
_LARGEST = 2**63 - 1
_MOST_KNOWN = 4096
_KNOWN_FACTS: dict[Likeness, bytes] = {}
"""Most pods come from a few templates."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PlacementTable:
    """The cache's nodes and pods as Rust has them; kept by the cache, which tells it of every change."""

    def __init__(self) -> None:
        self.native = _native.PlacementTable()
        self._namespaces: SharedInformer | None = None
        self._budgets: list[Object] = []

    @classmethod
    def of(cls, cache: Cache) -> PlacementTable:
        """The table of this cache, which is filled when it is first asked for."""
        if cache.observer is None:
            cache.observe(cls())
        assert isinstance(cache.observer, cls)
        return cache.observer

    def node_set(self, node: NodeInfo) -> None:
        self.native.set_node(node.name, node_facts(node))

    def node_removed(self, name: str) -> None:
        self.native.remove_node(name)

    def pod_put(self, pod: PodInfo) -> None:
        self.native.put_pod(pod.key, pod.node, pod_facts(pod))
        if pod.started is not None:
            self.pod_started(pod)

    def pod_started(self, pod: PodInfo) -> None:
        self.native.set_started(pod.key, None if pod.started is None else microseconds(pod.started))

    def pod_dropped(self, key: str) -> None:
        self.native.drop_pod(key)

    def nominated(self, pod: PodInfo, node: str) -> None:
        self.native.nominate(pod.uid, node, pod.priority, pod_facts(pod))

    def withdrawn(self, uid: str) -> None:
        self.native.withdraw(uid)

    def protect(self, budgets: Sequence[Object]) -> None:
        """Know these PodDisruptionBudgets and no others."""
        known = self._budgets
        if len(known) != len(budgets) or any(one is not other for one, other in zip(known, budgets, strict=True)):
            self._budgets = list(budgets)
            self.native.set_budgets(orjson.dumps([_budget_facts(one) for one in budgets]))

    def follow(self, namespaces: SharedInformer) -> None:
        """Know the labels of namespaces, which terms may choose by."""
        if self._namespaces is not namespaces:
            self._namespaces = namespaces
            namespaces.add_handler(self._namespace_set, lambda old, new: self._namespace_set(new), self._namespace_gone)

    def _namespace_set(self, namespace: Object) -> None:
        self.native.set_namespace(meta.name(namespace), orjson.dumps(meta.labels(namespace)))

    def _namespace_gone(self, namespace: Object) -> None:
        self.native.set_namespace(meta.name(namespace), None)


def node_facts(node: NodeInfo) -> bytes:
    """NodeFacts of native/core/placement as JSON."""
    return orjson.dumps(
        {
            "labels": node.labels,
            "taints": node.taints,
            "unschedulable": node.unschedulable,
            "allocatable": _bounded(node.allocatable),
            "zone": node.zone,
            "images": _bounded(Cache.images_of(node)),
        }
    )


def _budget_facts(budget: Object) -> dict[str, Any]:
    status = budget.get("status") or {}
    return {
        "namespace": meta.namespace(budget),
        "selector": (budget.get("spec") or {}).get("selector"),
        "allowed": status.get("disruptionsAllowed") or 0,
        "disrupted": list(status.get("disruptedPods") or ()),
    }


def microseconds(moment: datetime) -> int:
    """Since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def pod_facts(pod: PodInfo, *, more: Mapping[str, Any] | None = None) -> bytes:
    """PodFacts of native/core/placement as JSON; `more` is what holds for one decision only."""
    if pod.facts is None:
        likeness = pod.likeness()
        facts = _KNOWN_FACTS.get(likeness) if likeness is not None else None
        if facts is None:
            facts = orjson.dumps(_facts(pod))
            if likeness is not None:
                if len(_KNOWN_FACTS) >= _MOST_KNOWN:
                    _KNOWN_FACTS.clear()
                _KNOWN_FACTS[likeness] = facts
        pod.facts = facts
    if not more:
        return pod.facts
    return pod.facts[:-1] + b"," + orjson.dumps(more)[1:]


def _facts(pod: PodInfo) -> dict[str, Any]:
    spec = pod.spec
    facts: dict[str, Any] = {
        "namespace": pod.namespace,
        "labels": pod.labels,
        "requests": _bounded(pod.requests),
        "used": [min(amount, _LARGEST) for amount in pod.used],
    }
    if meta.is_deleting(pod.obj):
        facts["deleting"] = True
    if pod.priority:
        facts["priority"] = pod.priority
    if pod.ports:
        facts["ports"] = [
            {"address": address, "protocol": protocol, "port": port} for address, protocol, port in sorted(pod.ports)
        ]
    wanted = {
        "images": images_of(pod),
        "nodeSelector": spec.get("nodeSelector"),
        "affinity": spec.get("affinity"),
        "tolerations": spec.get("tolerations"),
        "spread": spec.get("topologySpreadConstraints"),
    }
    return facts | {fact: given for fact, given in wanted.items() if given}


def _bounded(amounts: Mapping[str, int]) -> dict[str, int]:
    """Rust counts in 64 bits, as kube-scheduler does."""
    return {name: min(amount, _LARGEST) for name, amount in amounts.items()}


def evaluator_for(profile: Profile) -> Evaluator:
    """Rust where it decides as the profile says: its plugins at all their extension points."""
    known = [plugin for plugin in profile.plugins() if type(plugin) in _FILTERS | _SCORES]
    is_whole = all(
        plugin in profile.at(point)
        for plugin in known
        for point in EXTENSION_POINTS.values()
        if isinstance(plugin, point)
    )
    return PlacementEvaluator(profile) if is_whole else PluginEvaluator(profile)


def _is_known_in_rust(plugin: Plugin) -> bool:
    """Rust knows the plugins with their defaults only, and NodeResourcesFit with MostAllocated, too."""
    if isinstance(plugin, NodeAffinity):
        return not plugin.added
    if isinstance(plugin, PodTopologySpread):
        return plugin.default_constraints is None
    if isinstance(plugin, NodeResourcesFit):
        is_plain = not plugin.ignored and not plugin.ignored_groups and plugin.resources == CPU_AND_MEMORY
        return is_plain and plugin.strategy in (LEAST_ALLOCATED, MOST_ALLOCATED)
    return not isinstance(plugin, NodeResourcesBalancedAllocation) or plugin.resources == CPU_AND_MEMORY


@dataclass(frozen=True, slots=True)
class Question:
    """What Rust was asked of a pod; `whole` unless plugins in Python had a say, too."""

    placer: _native.Placer
    table: PlacementTable
    facts: bytes
    wish: tuple[str, int, str | None]
    whole: bool = True


class Crowd:
    """Nodes that Rust refused, none of which is named unless somebody wants to know."""

    def __init__(self, nodes: _native.Crowd, question: Question) -> None:
        self._nodes = nodes
        self._question = question

    def __len__(self) -> int:
        return len(self._nodes)

    def names(self) -> list[str]:
        return self._nodes.names(self._question.table.native)

    def holds(self, name: str) -> bool:
        return self._nodes.holds(self._question.table.native, name)

    def rehearse(
        self, *, budgets: Sequence[Object], start: int, enough: int, now: datetime, everyone: bool
    ) -> Rehearsed | None:
        asked = self._question
        if not asked.whole:
            return None
        asked.table.protect(budgets)
        return self.tried(asked.placer, (start, enough, microseconds(now), everyone))

    def tried(self, placer: _native.Placer, plan: tuple[int, int, int, bool]) -> Rehearsed:
        asked = self._question
        return placer.rehearse(asked.table.native, asked.facts, asked.wish, self._nodes, plan)


class PlacementEvaluator:
    """Decides as PluginEvaluator would for the same profile, whose plugins' order is taken to be the default one.

    Where nodes are kept free for other pods, and plugins in Python have something to say, Python decides alone: they
    see nominated pods in the state and nodes of NodeFilter only.
    """

    def __init__(self, profile: Profile, chance: random.Random | None = None) -> None:
        chance = chance or random.Random()
        self._in_python = PluginEvaluator(profile, chance)
        self._makes_room = bool(profile.at(PostFilter))
        filters, scores = profile.at(Filter), profile.at(Score)
        known = {one.name for one in filters if type(one) in _FILTERS and _is_known_in_rust(one)}
        scored = {one.name for one in scores if type(one) in _SCORES and _is_known_in_rust(one)}
        spread = (one for one in filters if isinstance(one, PodTopologySpread) and one.name in known)
        self._spread = next(spread, None)
        self._pre_filters = [one for one in profile.at(PreFilter) if one.name not in known]
        self._of_volumes = {one.name for one in self._pre_filters if one.of_volumes}
        self._of_all = [one for one in self._pre_filters if not one.of_volumes]
        self.filters_in_python = [one for one in filters if one.name not in known]
        self._node_filter = NodeFilter(profile, self.filters_in_python)
        self.scores_in_python = [one for one in scores if one.name not in scored]
        self._prepares_only = any(one not in scores for one in profile.at(PreScore))
        options: dict[str, Any] = {}
        fit = next((one for one in scores if isinstance(one, NodeResourcesFit) and one.name in scored), None)
        if fit is not None:
            options["strategy"] = fit.strategy
        self._inter_pod = next((one for one in profile.plugins() if isinstance(one, InterPodAffinity)), None)
        if self._inter_pod is not None:
            options["hardPodAffinityWeight"] = self._inter_pod.hard_weight
            options["ignorePreferredTermsOfExistingPods"] = self._inter_pod.ignore_preferred_of_others
        in_rust: dict[str, Any] = {
            "percentageOfNodesToScore": profile.percentage,
            "chooses": bool(scores),
            "filters": [one.name for one in filters if one.name in known],
            "scores": [(one.name, profile.weight(one)) for one in scores if one.name in scored],
            "options": options,
        }
        self.placer = _native.Placer(orjson.dumps(in_rust), chance.getrandbits(64))

    def evaluate(self, pod: PodInfo, cache: Cache) -> Decision:
        """Raises PluginError."""
        state = CycleState()
        if cache.nodes() and self._narrows(state, pod, cache):
            return self._in_python.evaluate(pod, cache)
        table = self.table(cache)
        filters = [one for one in self.filters_in_python if one.name not in state.skipped]
        if filters and cache.nominations:
            return self._in_python.evaluate(pod, cache)
        scores = [one for one in self.scores_in_python if one.concerns(pod, cache)]
        try:
            facts = self.facts(pod)
            if filters or scores or self._prepares_only:
                decision = self._evaluate_together(state, pod, cache, table, filters, scores, facts)
            else:
                question = Question(self.placer, table, facts, _wish(pod, cache))
                node, why = self.placer.decide(table.native, facts, question.wish)
                decision = Decision(state, node=node or "", diagnosis=why and _diagnosis(why, question))
        except ValueError:
            # facts that cannot be read: let the plugin that stumbles over them say so
            return self._in_python.evaluate(pod, cache)
        if decision.diagnosis is not None and self._makes_room:
            # whoever makes room may ask the plugins in Python, which have noted nothing yet
            decision.state = LaterState(lambda: self._in_python.prepared(pod, cache))
        return decision

    def table(self, cache: Cache) -> PlacementTable:
        table = PlacementTable.of(cache)
        if self._inter_pod is not None:
            table.follow(self._inter_pod.namespaces)
        return table

    def facts(self, pod: PodInfo) -> bytes:
        more: dict[str, Any] = {}
        if node := pod.spec.get("nodeName"):
            more["nodeName"] = node
        if self._spread is not None and (defaults := self._spread.default_choice(pod)):
            more["defaults"] = defaults
        return pod_facts(pod, more=more)

    def _narrows(self, state: CycleState, pod: PodInfo, cache: Cache) -> bool:
        """Whether a plugin in Python refuses all nodes, or names some."""
        plugins = self._pre_filters
        if pod.plain_volumes:
            state.skipped |= self._of_volumes
            plugins = self._of_all
        return any([pre_filter(plugin, state, pod, cache) is not None for plugin in plugins])

    def _evaluate_together(
        self,
        state: CycleState,
        pod: PodInfo,
        cache: Cache,
        table: PlacementTable,
        filters: Sequence[Filter],
        scores: Sequence[Score],
        facts: bytes,
    ) -> Decision:
        diagnosis = Diagnosis(0)
        question = Question(self.placer, table, facts, _wish(pod, cache), whole=not filters)

        def agree(name: str) -> bool:
            node = cache.node(name)
            assert node is not None
            refused = self._node_filter.refusal(state, pod, node)
            if refused is not None:
                diagnosis.refused_node(name, refused.plugin, refused.reasons)
            return refused is None

        names, why = self.placer.search(table.native, facts, question.wish, agree if filters else None)
        if not names:
            return Decision(state, diagnosis=_diagnosis(why, question, diagnosis))
        if len(names) == 1:
            return Decision(state, node=names[0])
        totals = self.placer.totals(table.native, facts, names)
        nodes = [node for node in map(cache.node, names) if node is not None]
        for index, more in enumerate(self._in_python.totals(scores, state, pod, nodes, cache)):
            totals[index] += more
        chosen = self.placer.choose(totals)
        assert chosen is not None
        return Decision(state, node=names[chosen])


def _wish(pod: PodInfo, cache: Cache) -> tuple[str, int, str | None]:
    return pod.uid, pod.priority, cache.nominations.node_of(pod.uid) or None


def _diagnosis(
    why: tuple[int, int | None, bool, list[tuple[str, str, int]], _native.Crowd],
    question: Question,
    also: Diagnosis | None = None,
) -> Diagnosis:
    """`also` says which nodes plugins in Python refused."""
    diagnosis = also or Diagnosis(0)
    nodes, not_named, conflict, refused, crowd = why
    diagnosis.nodes = nodes
    diagnosis.crowd = Crowd(crowd, question)
    if not nodes:
        return diagnosis
    if conflict:
        diagnosis.everywhere, diagnosis.plugins = "pod affinity terms conflict", {NodeAffinity.name}
        return diagnosis
    if not_named is not None:
        diagnosis.plugins.add(NodeAffinity.name)
        if not_named:
            diagnosis.reasons[f"node(s) didn't satisfy plugin(s) [{NodeAffinity.name}]"] = not_named
    for plugin, reason, count in refused:
        diagnosis.refused(plugin, [reason], count)
    return diagnosis
