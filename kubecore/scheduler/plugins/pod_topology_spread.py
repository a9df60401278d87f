"""Spreads pods that belong together over zones, nodes or whatever label tells domains apart (KEP-895).

A pod without constraints of its own is spread softly with those its Services and controller choose, over nodes and
zones. (kubernetes `pkg/scheduler/framework/plugins/podtopologyspread`.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from kubecore.api import meta
from kubecore.api.selectors import Selector
from kubecore.client.client import Object
from kubecore.client.informer import InformerFactory
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind, NodeEvent, PodEvent
from kubecore.scheduler.framework import (
    MAXIMUM_SCORE,
    CycleState,
    Filter,
    Hopeless,
    PreFilter,
    PreFilterResult,
    Score,
)
from kubecore.scheduler.plugins.topology_constraints import (
    HOSTNAME,
    Constraint,
    Matcher,
    count_by_node,
    own_constraints,
)
from kubecore.scheduler.pods import PodInfo

_ZONE = "topology.kubernetes.io/zone"
_REASON = ("node(s) didn't match pod topology spread constraints",)
_NO_LABEL = Hopeless(("node(s) didn't match pod topology spread constraints (missing required label)",))
_SYSTEM_DEFAULTS: Sequence[Mapping[str, Any]] = (
    {"maxSkew": 3, "topologyKey": HOSTNAME, "whenUnsatisfiable": "ScheduleAnyway"},
    {"maxSkew": 5, "topologyKey": _ZONE, "whenUnsatisfiable": "ScheduleAnyway"},
)
_CONTROLLERS = {
    ("apps/v1", "ReplicaSet"): "replicasets.apps",
    ("apps/v1", "StatefulSet"): "statefulsets.apps",
    ("v1", "ReplicationController"): "replicationcontrollers",
}


class DefaultChoice(TypedDict):
    """Pods with these labels that a metav1.LabelSelector chooses, where there is one."""

    labels: dict[str, str]
    selector: Object | None


@dataclass(slots=True)
class _Hard:
    """What is noted of a constraint for filtering."""

    constraint: Constraint
    counts: dict[str, int]
    """Matching pods per value of the label, for the values that count."""
    own: int
    """1 when the constraint chooses the pod itself."""
    allowed: int = 0
    """The most matching pods that may be in the pod's domain already; kept by `level`."""

    def level(self) -> None:
        # the global minimum is taken as 0 while there are fewer domains than asked for
        least = min(self.counts.values()) if self.counts and len(self.counts) >= self.constraint.min_domains else 0
        self.allowed = self.constraint.max_skew + least - self.own


class _HardOnes(list[_Hard]):
    def clone(self) -> _HardOnes:
        return _HardOnes(replace(one, counts=dict(one.counts)) for one in self)


@dataclass(slots=True)
class _Soft:
    """What is noted of a constraint for scoring."""

    constraint: Constraint
    counts: dict[str, int]
    """Matching pods per value of the label; per node where that is what the label tells apart."""
    weight: float


@dataclass(slots=True)
class _Spreading:
    soft: list[_Soft]
    ignored: set[str]
    """Nodes that lack a label."""


class PodTopologySpread(PreFilter, Filter, Score):
    name = "PodTopologySpread"
    weight = 2
    wakes = frozenset(
        {
            EventKind.NODE_ADDED,
            EventKind.NODE_REMOVED,
            EventKind.NODE_LABELS,
            EventKind.NODE_TAINTS,
            EventKind.POD_PLACED,
            EventKind.POD_REMOVED,
            EventKind.POD_LABELS,
            EventKind.POD_TOLERATIONS,
        }
    )

    def __init__(
        self, informers: InformerFactory, *, default_constraints: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        """`default_constraints` are those of pods without any; None for kube-scheduler's own, which are soft."""
        self.default_constraints = default_constraints
        self._services = informers.informer("services")
        self._controllers = {kind: informers.informer(resource) for kind, resource in _CONTROLLERS.items()}

    # ------------------------------------------------------------------ filtering
    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> PreFilterResult | None:
        constraints = self._constraints(pod, "DoNotSchedule")
        if not constraints:
            state.skipped.add(self.name)
            return None
        nodes = [node for node in cache.nodes() if _has_labels(node, constraints)]
        hard = _HardOnes()
        for constraint in constraints:
            on_node = count_by_node(constraint, pod, cache)
            counts: dict[str, int] = {}
            for node in nodes:
                if constraint.counts_node(pod, node):
                    value = node.labels[constraint.key]
                    counts[value] = counts.get(value, 0) + on_node.get(node.name, 0)
            one = _Hard(constraint, counts, own=int(constraint.matches(pod.labels)))
            one.level()
            hard.append(one)
        state.notes[self.name] = hard
        return None

    def add_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        self._recount(state, pod, other, node, 1)

    def remove_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        self._recount(state, pod, other, node, -1)

    def _recount(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo, change: int) -> None:
        hard: _HardOnes = state.notes[self.name]
        if other.namespace != pod.namespace or not _has_labels(node, [one.constraint for one in hard]):
            return
        for one in hard:
            constraint = one.constraint
            if constraint.chooses(other) and constraint.counts_node(pod, node):
                value = node.labels[constraint.key]
                one.counts[value] = one.counts.get(value, 0) + change
                one.level()

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        hard: list[_Hard] = state.notes[self.name]
        for one in hard:
            value = node.labels.get(one.constraint.key)
            if value is None:
                return _NO_LABEL
            if one.counts.get(value, 0) > one.allowed:
                return _REASON
        return ()

    # ------------------------------------------------------------------ scoring
    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> bool:
        strict = bool(pod.spec.get("topologySpreadConstraints")) or self.default_constraints is not None
        constraints = self._constraints(pod, "ScheduleAnyway")
        if not constraints:
            return False
        # nodes without zones can still be spread over by the defaults
        ignored = {node.name for node in nodes if strict and not _has_labels(node, constraints)}
        candidates = [node for node in nodes if node.name not in ignored]
        counted: dict[Matcher, dict[str, int]] = {}
        soft = []
        for constraint in constraints:
            on_node = counted.get(constraint.matches)
            if on_node is None:
                on_node = counted[constraint.matches] = count_by_node(constraint, pod, cache)
            if constraint.key == HOSTNAME:
                soft.append(_Soft(constraint, on_node, _weight(len(candidates))))
                continue
            counts = {node.labels.get(constraint.key, ""): 0 for node in candidates}
            for name, count in on_node.items():
                node = cache.node(name)
                if node is None or (strict and not _has_labels(node, constraints)):
                    continue
                value = node.labels.get(constraint.key, "")
                if value in counts and constraint.counts_node(pod, node):
                    counts[value] += count
            soft.append(_Soft(constraint, counts, _weight(len(counts))))
        state.notes[self.name + "/score"] = _Spreading(soft, ignored)
        return True

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        """How crowded the node's domains are: less is better, `normalize` turns it round."""
        noted: _Spreading = state.notes[self.name + "/score"]
        if node.name in noted.ignored:
            return 0
        total = 0.0
        for one in noted.soft:
            value = node.labels.get(one.constraint.key)
            if value is not None:
                count = one.counts.get(node.name if one.constraint.key == HOSTNAME else value, 0)
                total += count * one.weight + one.constraint.max_skew - 1
        return math.floor(total + 0.5)

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> list[int]:
        noted: _Spreading = state.notes[self.name + "/score"]
        real = [score for score, node in zip(scores, nodes, strict=True) if node.name not in noted.ignored]
        lowest, highest = min(real, default=0), max(real, default=0)

        def turn(score: int, node: NodeInfo) -> int:
            if node.name in noted.ignored:
                return 0
            return MAXIMUM_SCORE * (highest + lowest - score) // highest if highest else MAXIMUM_SCORE

        return [turn(score, node) for score, node in zip(scores, nodes, strict=True)]

    # ------------------------------------------------------------------ defaults
    def _constraints(self, pod: PodInfo, when: str) -> list[Constraint]:
        """The pod's own, or the default ones, with the pods that the same Services and controller choose."""
        if pod.spec.get("topologySpreadConstraints"):
            return own_constraints(pod, when)
        defaults = _SYSTEM_DEFAULTS if self.default_constraints is None else self.default_constraints
        wanted = [one for one in defaults if one["whenUnsatisfiable"] == when]
        matches = self._default_matcher(pod) if wanted else None
        if matches is None:
            return []
        return [Constraint(one["maxSkew"], one["topologyKey"], matches) for one in wanted]

    def default_choice(self, pod: PodInfo) -> DefaultChoice | None:
        """What the pods have in common that one without constraints is spread with; None when nothing is known."""
        if pod.spec.get("topologySpreadConstraints"):
            return None
        wanted: dict[str, str] = {}
        for service in self._services.list(pod.namespace):
            chosen = service["spec"].get("selector")
            if chosen and chosen.items() <= pod.labels.items():
                wanted |= chosen
        selector = self._selector_of_controller(pod)
        chooses = selector is not None and (selector.get("matchLabels") or selector.get("matchExpressions"))
        return {"labels": wanted, "selector": selector} if chooses or wanted else None

    def _default_matcher(self, pod: PodInfo) -> Matcher | None:
        choice = self.default_choice(pod)
        if choice is None:
            return None
        wanted, given = choice["labels"], choice["selector"]
        selector = Selector.from_label_selector(given) if given is not None else Selector.everything()
        return lambda labels: wanted.items() <= labels.items() and selector.matches(labels)

    def _selector_of_controller(self, pod: PodInfo) -> Object | None:
        """As a metav1.LabelSelector."""
        owner = meta.controller_of(pod.obj)
        informer = self._controllers.get((owner["apiVersion"], owner["kind"])) if owner is not None else None
        if owner is None or informer is None:
            return None
        found = informer.get(meta.make_key(pod.namespace, owner["name"]))
        if found is None:
            return None
        given: Object = found["spec"].get("selector") or {}
        return {"matchLabels": given} if owner["kind"] == "ReplicationController" else given

    # ------------------------------------------------------------------ waking
    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        constraints = self._constraints(pod, "DoNotSchedule")
        if isinstance(event, NodeEvent):
            return _node_helps(event, constraints)
        return not isinstance(event, PodEvent) or _pod_helps(event, pod, constraints)


def _node_helps(event: NodeEvent, constraints: Sequence[Constraint]) -> bool:
    """Domains come and go with nodes that have all labels; such a node's change may move it to another domain."""
    had = event.old is not None and _has_labels(event.old, constraints)
    has = event.new is not None and _has_labels(event.new, constraints)
    if event.old is None or event.new is None or had != has:
        return had or has
    moved = any(event.old.labels.get(one.key) != event.new.labels.get(one.key) for one in constraints)
    return has and (moved or event.old.taints != event.new.taints)


def _pod_helps(event: PodEvent, pod: PodInfo, constraints: Sequence[Constraint]) -> bool:
    for one in (event.old, event.new):
        if one is not None and one.uid != pod.uid and not (one.node and one.namespace == pod.namespace):
            return False

    if event.kind is EventKind.POD_TOLERATIONS:
        return event.is_about(pod) and any(one.honor_taints for one in constraints)
    return any(_chooses(one, event.old) != _chooses(one, event.new) for one in constraints)


def _chooses(constraint: Constraint, pod: PodInfo | None) -> bool:
    return pod is not None and constraint.matches(pod.labels)


def _has_labels(node: NodeInfo, constraints: Sequence[Constraint]) -> bool:
    return all(constraint.key in node.labels for constraint in constraints)


def _weight(domains: int) -> float:
    """So that the counts of few domains are not drowned by those of many."""
    return math.log(domains + 2)
