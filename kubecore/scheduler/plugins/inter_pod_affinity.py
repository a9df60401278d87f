"""Inter-pod affinity and anti-affinity: runs pods near to, or away from, pods that run already.

Required terms filter, preferred ones score. Both look two ways: a pod is also kept away by the required anti-affinity
of pods that run, and drawn or repelled by their preferred terms. (kubernetes
`pkg/scheduler/framework/plugins/interpodaffinity`.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kubecore.api import meta
from kubecore.api.selectors import Selector
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
from kubecore.scheduler.inter_pod_terms import InterPodTerm
from kubecore.scheduler.pods import PodInfo

_NOT_NEAR = Hopeless(("node(s) didn't match pod affinity rules",))
_TOO_NEAR = ("node(s) didn't match pod anti-affinity rules",)
_NOT_WANTED = ("node(s) didn't satisfy existing pods anti-affinity rules",)

Domain = tuple[str, str]
"""A label's key and value."""


@dataclass(frozen=True, slots=True)
class _Own:
    """A term of the pod to schedule, with its namespaces found out."""

    key: str
    selector: Selector
    namespaces: frozenset[str] | None
    """None: all of them."""
    weight: int

    def chooses(self, other: PodInfo) -> bool:
        if self.namespaces is not None and other.namespace not in self.namespaces:
            return False
        return self.selector.matches(other.labels)


class _Counts(dict[Domain, int]):
    """How many pods match, by domain; domains without any are not in it."""

    def count(self, node: NodeInfo, key: str, change: int) -> None:
        value = node.labels.get(key)
        if value is not None:
            domain = (key, value)
            total = self.get(domain, 0) + change
            if total:
                self[domain] = total
            else:
                del self[domain]


@dataclass(frozen=True, slots=True)
class _Rules:
    """What is noted for filtering."""

    near: list[_Own]
    away: list[_Own]
    namespace_labels: Mapping[str, str]
    """Of the namespace of the pod to schedule."""
    near_counts: _Counts
    """Pods that all of `near` choose."""
    away_counts: _Counts
    """Pods that a term of `away` chooses."""
    unwanted: _Counts
    """Pods that do not want the one to schedule near them."""

    def clone(self) -> _Rules:
        counts = (_Counts(one) for one in (self.near_counts, self.away_counts, self.unwanted))
        return _Rules(self.near, self.away, self.namespace_labels, *counts)

    def count(self, pod: PodInfo, other: PodInfo, node: NodeInfo, change: int = 1) -> None:
        """Count `other`, which runs on `node`, or take it out again (`change` -1)."""
        self.count_chosen(other, node, change)
        self.count_unwanted(pod, other, node, change)

    def count_chosen(self, other: PodInfo, node: NodeInfo, change: int = 1) -> None:
        if _all_choose(self.near, other):
            for term in self.near:
                self.near_counts.count(node, term.key, change)
        for term in self.away:
            if term.chooses(other):
                self.away_counts.count(node, term.key, change)

    def count_unwanted(self, pod: PodInfo, other: PodInfo, node: NodeInfo, change: int = 1) -> None:
        for term in other.affinity.required_anti:
            if term.matches(pod.namespace, self.namespace_labels, pod.labels):
                self.unwanted.count(node, term.key, change)


class _Scores(dict[str, dict[str, int]]):
    """By label and value, what a node with that label gains or loses."""

    def add(self, node: NodeInfo, key: str, weight: int) -> None:
        value = node.labels.get(key)
        if value is not None:
            values = self.setdefault(key, {})
            values[value] = values.get(value, 0) + weight


class InterPodAffinity(PreFilter, Filter, Score):
    """`hard_weight` is what the required affinity of pods that run counts in scoring (hardPodAffinityWeight, 0 to 100);
    `ignore_preferred_of_others` leaves their preferred terms out for pods without preferred terms of their own.
    """

    name = "InterPodAffinity"
    weight = 2
    wakes = frozenset(
        {
            EventKind.NODE_ADDED,
            EventKind.NODE_LABELS,
            EventKind.POD_PLACED,
            EventKind.POD_REMOVED,
            EventKind.POD_LABELS,
        }
    )

    def __init__(
        self, informers: InformerFactory, *, hard_weight: int = 1, ignore_preferred_of_others: bool = False
    ) -> None:
        self.namespaces = informers.informer("namespaces")
        self.hard_weight = hard_weight
        self.ignore_preferred_of_others = ignore_preferred_of_others

    # ------------------------------------------------------------------ filtering
    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> PreFilterResult | None:
        rules = _Rules(
            near=self._own(pod.affinity.required),
            away=self._own(pod.affinity.required_anti),
            namespace_labels=self._namespace_labels(pod.namespace),
            near_counts=_Counts(),
            away_counts=_Counts(),
            unwanted=_Counts(),
        )
        for other in cache.pods_with_anti_affinity():
            if node := cache.node(other.node):
                rules.count_unwanted(pod, other, node)
        if not rules.near and not rules.away and not rules.unwanted:
            state.skipped.add(self.name)
            return None
        for other in _pods_of([*rules.near, *rules.away], cache):
            if node := cache.node(other.node):
                rules.count_chosen(other, node)
        state.notes[self.name] = rules
        return None

    def add_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        rules: _Rules = state.notes[self.name]
        rules.count(pod, other, node)

    def remove_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        rules: _Rules = state.notes[self.name]
        rules.count(pod, other, node, -1)

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        rules: _Rules = state.notes[self.name]
        if not _is_near(rules, pod, node):
            return _NOT_NEAR
        if any((term.key, node.labels.get(term.key)) in rules.away_counts for term in rules.away):
            return _TOO_NEAR
        if any(node.labels.get(key) == value for key, value in rules.unwanted):
            return _NOT_WANTED
        return ()

    # ------------------------------------------------------------------ scoring
    def concerns(self, pod: PodInfo, cache: Cache) -> bool:
        return bool(pod.affinity.preferred or pod.affinity.preferred_anti) or cache.has_affinity

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> bool:
        near, away = self._own(pod.affinity.preferred), self._own(pod.affinity.preferred_anti)
        has_own = bool(near or away)
        if self.ignore_preferred_of_others and not has_own:
            return False
        scores = _Scores()
        for other in _pods_of([*near, *away], cache):
            if node := cache.node(other.node):
                for term in near:
                    if term.chooses(other):
                        scores.add(node, term.key, term.weight)
                for term in away:
                    if term.chooses(other):
                        scores.add(node, term.key, -term.weight)
        namespace_labels = self._namespace_labels(pod.namespace)
        for other in cache.pods_with_affinity():
            if node := cache.node(other.node):
                self._add_wishes_of(other, pod, namespace_labels, node, scores)
        state.notes[self.name + "/score"] = scores
        return bool(scores)

    def _add_wishes_of(
        self, other: PodInfo, pod: PodInfo, namespace_labels: Mapping[str, str], node: NodeInfo, scores: _Scores
    ) -> None:
        for terms, sign, weight in (
            (other.affinity.required if self.hard_weight else (), 1, self.hard_weight),
            (other.affinity.preferred, 1, None),
            (other.affinity.preferred_anti, -1, None),
        ):
            for term in terms:
                if term.matches(pod.namespace, namespace_labels, pod.labels):
                    scores.add(node, term.key, sign * (term.weight if weight is None else weight))

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        scores: _Scores = state.notes[self.name + "/score"]
        return sum(values.get(node.labels[key], 0) for key, values in scores.items() if key in node.labels)

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> list[int]:
        least, most = min(scores), max(scores)
        if least == most:
            return [0] * len(scores)
        return [int(MAXIMUM_SCORE * ((score - least) / (most - least))) for score in scores]

    # ------------------------------------------------------------------ namespaces
    def _own(self, terms: Iterable[InterPodTerm]) -> list[_Own]:
        return [_Own(term.key, term.selector, self._namespaces_of(term), term.weight) for term in terms]

    def _namespaces_of(self, term: InterPodTerm) -> frozenset[str] | None:
        selector = term.namespace_selector
        if selector is None:
            return term.namespaces
        if selector.empty:
            return None
        chosen = (meta.name(one) for one in self.namespaces.list() if selector.matches(meta.labels(one)))
        return term.namespaces.union(chosen)

    def _namespace_labels(self, name: str) -> Mapping[str, str]:
        found = self.namespaces.get(name)
        return meta.labels(found) if found is not None else {}

    # ------------------------------------------------------------------ waking
    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        if isinstance(event, NodeEvent):
            return _node_helps(event, pod)
        return not isinstance(event, PodEvent) or self._pod_helps(event, pod)

    def _pod_helps(self, event: PodEvent, pod: PodInfo) -> bool:
        """A pod that is near now, or one that was too near no more; it may also be that one which wants the distance.

        (kube-scheduler overlooks that last case, and anti-affinity terms of which only one chose the pod that goes:
        there the pod waits until it is tried again for other reasons.)
        """
        if any(one is not None and not (one.node or one.nominated_node) for one in (event.old, event.new)):
            return False
        near, away = self._own(pod.affinity.required), self._own(pod.affinity.required_anti)
        labels = self._namespace_labels(pod.namespace)

        def is_apart(other: PodInfo) -> bool:
            wishes = other.affinity.required_anti
            return not any(term.chooses(other) for term in away) and not any(
                term.matches(pod.namespace, labels, pod.labels) for term in wishes
            )

        old, new = event.old, event.new
        comes_near = new is not None and _all_choose(near, new) and not (old is not None and _all_choose(near, old))
        goes_away = old is not None and not is_apart(old) and (new is None or is_apart(new))
        return comes_near or goes_away


def _all_choose(terms: Sequence[_Own], other: PodInfo) -> bool:
    """Affinity looks for one pod that all terms choose; without terms for none."""
    return bool(terms) and all(term.chooses(other) for term in terms)


def _pods_of(terms: Sequence[_Own], cache: Cache) -> Iterable[PodInfo]:
    """The pods in the namespaces that any of the terms looks at."""
    if any(term.namespaces is None for term in terms):
        return cache.pods()
    names = frozenset[str]().union(*(term.namespaces or () for term in terms))
    return [pod for name in sorted(names) for pod in cache.pods_in(name)]


def _is_near(rules: _Rules, pod: PodInfo, node: NodeInfo) -> bool:
    """The node must have all labels, and pods of its domains must be chosen. The first of a series of pods that want
    to be near each other finds none: it may go anywhere.
    """
    if any(term.key not in node.labels for term in rules.near):
        return False
    if all((term.key, node.labels[term.key]) in rules.near_counts for term in rules.near):
        return True
    return not rules.near_counts and _all_choose(rules.near, pod)


def _node_helps(event: NodeEvent, pod: PodInfo) -> bool:
    """A new node with the labels that affinity needs; one that joins a domain with what the pod wants to be near to, or
    leaves one with what keeps it away: pods that it keeps away from, or that want it away from them.

    (kube-scheduler overlooks the last ones: there a pod without terms of its own is woken by no node.)
    """
    if event.new is None:
        return False
    new, near = event.new.labels, pod.affinity.required
    if event.old is None:
        return all(term.key in new for term in near)
    old = event.old.labels
    joins = any(term.key in new and old.get(term.key) != new[term.key] for term in near)
    return joins or any(new.get(key) != value for key, value in old.items())
