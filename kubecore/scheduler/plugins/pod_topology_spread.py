"""Spreads pods that belong together over zones, nodes or whatever label tells domains apart (KEP-895).

A pod without constraints of its own is spread softly with those its Services and controller choose, over nodes and
zones. (kubernetes `pkg/scheduler/framework/plugins/podtopologyspread`.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubecore.api import meta
from kubecore.api.selectors import Selector
from kubecore.api.taints import is_tolerated
from kubecore.client.informer import InformerFactory
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.framework import MAXIMUM_SCORE, NODE_EVENTS, ClusterEvent, CycleState, Filter, PreFilter, Score
from kubecore.scheduler.plugins.node_affinity import accepts
from kubecore.scheduler.pods import PodInfo

HOSTNAME = "kubernetes.io/hostname"
_ZONE = "topology.kubernetes.io/zone"
_REASON = ("node(s) didn't match pod topology spread constraints",)
_NO_LABEL = ("node(s) didn't match pod topology spread constraints (missing required label)",)
_SYSTEM_DEFAULTS = ((HOSTNAME, 3), (_ZONE, 5))
_CONTROLLERS = {
    "ReplicaSet": "replicasets.apps",
    "StatefulSet": "statefulsets.apps",
    "ReplicationController": "replicationcontrollers",
}

Matcher = Callable[[Mapping[str, str]], bool]


@dataclass(slots=True)
class Constraint:
    max_skew: int
    key: str
    matches: Matcher
    min_domains: int = 1
    honor_affinity: bool = True
    honor_taints: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    """Matching pods per value of the label, for the values that count."""

    def counts_node(self, pod: PodInfo, node: NodeInfo) -> bool:
        """Whether pods on this node count, by the constraint's node inclusion policies."""
        if self.honor_affinity and not accepts(pod, node):
            return False
        if not self.honor_taints:
            return True
        tolerations = pod.spec.get("tolerations")
        return all(
            is_tolerated(taint, tolerations) for taint in node.taints if taint["effect"] in ("NoSchedule", "NoExecute")
        )

    @property
    def minimum(self) -> int:
        """The global minimum, 0 while there are fewer domains than asked for."""
        if len(self.counts) < self.min_domains:
            return 0
        return min(self.counts.values(), default=0)


@dataclass(slots=True)
class _Spreading:
    """What is noted for scoring."""

    constraints: list[Constraint]
    weights: list[float]
    ignored: set[str]
    on_node: list[dict[str, int]]


class PodTopologySpread(PreFilter, Filter, Score):
    name = "PodTopologySpread"
    weight = 2
    wakes = NODE_EVENTS | {ClusterEvent.POD_REMOVED, ClusterEvent.POD_PLACED}

    def __init__(self, informers: InformerFactory) -> None:
        self._services = informers.informer("services")
        self._controllers = {kind: informers.informer(resource) for kind, resource in _CONTROLLERS.items()}

    # ------------------------------------------------------------------ filtering
    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> str | None:
        hard = own_constraints(pod, "DoNotSchedule")
        if not hard:
            state.skipped.add(self.name)
            return None
        keys = {constraint.key for constraint in hard}
        nodes = [node for node in cache.nodes() if keys <= node.labels.keys()]
        for constraint in hard:
            on_node = _matching_per_node(constraint, pod, cache)
            for node in nodes:
                if constraint.counts_node(pod, node):
                    value = node.labels[constraint.key]
                    constraint.counts[value] = constraint.counts.get(value, 0) + on_node.get(node.name, 0)
        state.notes[self.name] = hard
        return None

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        constraints: list[Constraint] = state.notes[self.name]
        for constraint in constraints:
            value = node.labels.get(constraint.key)
            if value is None:
                return _NO_LABEL
            own = 1 if constraint.matches(pod.labels) else 0
            if constraint.counts.get(value, 0) + own - constraint.minimum > constraint.max_skew:
                return _REASON
        return ()

    # ------------------------------------------------------------------ scoring
    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> bool:
        soft = own_constraints(pod, "ScheduleAnyway")
        strict = bool(pod.spec.get("topologySpreadConstraints"))
        if not strict:
            soft = self._default_constraints(pod)
        if not soft:
            return False
        keys = {constraint.key for constraint in soft}
        ignored = {node.name for node in nodes if strict and not keys <= node.labels.keys()}
        on_node = [_matching_per_node(constraint, pod, cache) for constraint in soft]
        weights = []
        for constraint, counts in zip(soft, on_node, strict=True):
            size = len(nodes) - len(ignored)
            if constraint.key != HOSTNAME:
                _count_domains(constraint, pod, [n for n in nodes if n.name not in ignored], cache, counts)
                size = len(constraint.counts)
            weights.append(math.log(size + 2))
        state.notes[self.name + "/score"] = _Spreading(soft, weights, ignored, on_node)
        return True

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        """How crowded the node's domains are: less is better, `normalize` turns it round."""
        noted: _Spreading = state.notes[self.name + "/score"]
        if node.name in noted.ignored:
            return 0
        total = 0.0
        for constraint, weight, on_node in zip(noted.constraints, noted.weights, noted.on_node, strict=True):
            value = node.labels.get(constraint.key)
            if value is None:
                continue
            count = on_node.get(node.name, 0) if constraint.key == HOSTNAME else constraint.counts.get(value, 0)
            total += count * weight + constraint.max_skew - 1
        return round(total)

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> list[int]:
        noted: _Spreading = state.notes[self.name + "/score"]
        real = [score for score, node in zip(scores, nodes, strict=True) if node.name not in noted.ignored]
        lowest, highest = min(real, default=0), max(real, default=0)

        def turn(score: int, node: NodeInfo) -> int:
            if node.name in noted.ignored:
                return 0
            return MAXIMUM_SCORE * (highest + lowest - score) // highest if highest else MAXIMUM_SCORE

        return [turn(score, node) for score, node in zip(scores, nodes, strict=True)]

    def _default_constraints(self, pod: PodInfo) -> list[Constraint]:
        """Over nodes and zones, with the pods that the same Services and controller choose."""
        matches = self._default_matcher(pod)
        if matches is None:
            return []
        return [Constraint(skew, key, matches) for key, skew in _SYSTEM_DEFAULTS]

    def _default_matcher(self, pod: PodInfo) -> Matcher | None:
        wanted: dict[str, str] = {}
        for service in self._services.list(pod.namespace):
            chosen = service["spec"].get("selector")
            if chosen and chosen.items() <= pod.labels.items():
                wanted |= chosen
        owner = meta.controller_of(pod.obj)
        informer = self._controllers.get(owner["kind"]) if owner is not None else None
        found = informer.get(f"{pod.namespace}/{owner['name']}") if informer is not None and owner is not None else None
        selector = None
        if found is not None:
            given: Any = found["spec"].get("selector") or {}
            if found["kind"] == "ReplicationController":
                given = {"matchLabels": given}
            selector = Selector.from_label_selector(given)
        if selector is None and not wanted:
            return None
        return lambda labels: wanted.items() <= labels.items() and (selector is None or selector.matches(labels))


def own_constraints(pod: PodInfo, when: str) -> list[Constraint]:
    """The pod's constraints of one kind, "DoNotSchedule" or "ScheduleAnyway"."""
    found = []
    for given in pod.spec.get("topologySpreadConstraints") or ():
        if given["whenUnsatisfiable"] != when:
            continue
        selector = Selector.from_label_selector(given.get("labelSelector"))
        same = {key: pod.labels[key] for key in given.get("matchLabelKeys") or () if key in pod.labels}
        found.append(
            Constraint(
                max_skew=given["maxSkew"],
                key=given["topologyKey"],
                matches=_matcher(selector, same),
                min_domains=given.get("minDomains") or 1,
                honor_affinity=given.get("nodeAffinityPolicy", "Honor") == "Honor",
                honor_taints=given.get("nodeTaintsPolicy", "Ignore") == "Honor",
            )
        )
    return found


def _matcher(selector: Selector, same: dict[str, str]) -> Matcher:
    if not same:
        return selector.matches
    return lambda labels: same.items() <= labels.items() and selector.matches(labels)


def _matching_per_node(constraint: Constraint, pod: PodInfo, cache: Cache) -> dict[str, int]:
    """How many pods of the pod's namespace the constraint chooses, by node."""
    counts: dict[str, int] = {}
    for other in cache.pods_in(pod.namespace):
        if constraint.matches(other.labels) and not meta.is_deleting(other.obj):
            counts[other.node] = counts.get(other.node, 0) + 1
    return counts


def _count_domains(
    constraint: Constraint, pod: PodInfo, candidates: Sequence[NodeInfo], cache: Cache, on_node: dict[str, int]
) -> None:
    """Pods in the domains of the candidates, also those on nodes that are no candidates themselves."""
    constraint.counts = {node.labels[constraint.key]: 0 for node in candidates if constraint.key in node.labels}
    for name, count in on_node.items():
        node = cache.node(name)
        value = node.labels.get(constraint.key) if node is not None else None
        if node is not None and value in constraint.counts and constraint.counts_node(pod, node):
            constraint.counts[value] += count
