"""nodeSelector and node affinity: required terms filter, preferred ones score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubecore.api import node_selection
from kubecore.api.node_selection import Term
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind, NodeEvent
from kubecore.scheduler.framework import (
    CycleState,
    Filter,
    Hopeless,
    PreFilter,
    PreFilterResult,
    Score,
    normalize_by_maximum,
)
from kubecore.scheduler.pods import PodInfo

_REASON = Hopeless(("node(s) didn't match Pod's node affinity/selector",))
_ENFORCED = Hopeless(("node(s) didn't match scheduler-enforced node affinity",))
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_CONFLICT = "pod affinity terms conflict"


class NodeAffinity(PreFilter, Filter, Score):
    name = "NodeAffinity"
    weight = 2
    wakes = frozenset({EventKind.NODE_ADDED, EventKind.NODE_LABELS})

    def __init__(self, added: Mapping[str, Any] | None = None) -> None:
        """`added` is a node affinity that all pods of the profile have besides their own."""
        self.added = added or {}
        required = self.added.get(_REQUIRED)
        self._added_terms: list[Term] | None = None if required is None else required.get("nodeSelectorTerms") or []
        self._added_preferences: list[Mapping[str, Any]] = self.added.get(_PREFERRED) or []

    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> PreFilterResult | None:
        terms = required_terms(pod)
        if terms is None:
            if not pod.spec.get("nodeSelector") and self._added_terms is None:
                state.skipped.add(self.name)
            return None
        names = _nodes_named(terms)
        if names is None:
            return None
        return PreFilterResult(nodes=names) if names else PreFilterResult(refusal=_CONFLICT)

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        if not self._is_allowed(node):
            return _ENFORCED
        return () if accepts(pod, node) else _REASON

    def _is_allowed(self, node: NodeInfo) -> bool:
        return self._added_terms is None or any(matches_term(term, node) for term in self._added_terms)

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> bool:
        return bool(self._added_preferences or _affinity(pod).get(_PREFERRED))

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        preferred = [*self._added_preferences, *(_affinity(pod).get(_PREFERRED) or ())]
        return sum(int(one["weight"]) for one in preferred if matches_term(one["preference"], node))

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> list[int]:
        return normalize_by_maximum(scores)

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        if not isinstance(event, NodeEvent) or event.new is None:
            return False
        if not self._is_allowed(event.new) or not accepts(pod, event.new):
            return False
        if event.old is not None and not self._is_allowed(event.old):
            return True
        return event.old is None or not accepts(pod, event.old)


def _affinity(pod: PodInfo) -> Mapping[str, Any]:
    return (pod.spec.get("affinity") or {}).get("nodeAffinity") or {}


def required_terms(pod: PodInfo) -> list[Term] | None:
    """The terms of the required node affinity, of which one must match; None without it."""
    return node_selection.required_terms(pod.spec)


def accepts(pod: PodInfo, node: NodeInfo) -> bool:
    """Whether the pod's selector and required affinity let it run on this node."""
    return node_selection.accepts_node(pod.spec, name=node.name, labels=node.labels)


def matches_term(term: Term, node: NodeInfo) -> bool:
    """All expressions and fields of the term; a term without any matches nothing."""
    return node_selection.matches_term(term, name=node.name, labels=node.labels)


def _nodes_named(terms: Sequence[Term]) -> frozenset[str] | None:
    """The only nodes that can match, when each term names some (as those of a DaemonSet's pods do); else None."""
    names: set[str] = set()
    for term in terms:
        named = [
            set(one.get("values") or ())
            for one in term.get("matchFields") or ()
            if one["key"] == "metadata.name" and one["operator"] == "In"
        ]
        if not named:
            return None
        names |= set.intersection(*named)
    return frozenset(names) if terms else None
