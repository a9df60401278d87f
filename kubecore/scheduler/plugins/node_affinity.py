"""nodeSelector and node affinity: required terms filter, preferred ones score."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind, NodeEvent
from kubecore.scheduler.framework import CycleState, Filter, PreFilter, PreFilterResult, Score, normalize_by_maximum
from kubecore.scheduler.pods import PodInfo

_REASON = ("node(s) didn't match Pod's node affinity/selector",)
_CONFLICT = "pod affinity terms conflict"
_INTEGER = re.compile(r"[+-]?[0-9]+")

Term = Mapping[str, Any]


class NodeAffinity(PreFilter, Filter, Score):
    name = "NodeAffinity"
    weight = 2
    wakes = frozenset({EventKind.NODE_ADDED, EventKind.NODE_LABELS})

    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> PreFilterResult | None:
        terms = required_terms(pod)
        if terms is None:
            if not pod.spec.get("nodeSelector"):
                state.skipped.add(self.name)
            return None
        names = _nodes_named(terms)
        if names is None:
            return None
        return PreFilterResult(nodes=names) if names else PreFilterResult(refusal=_CONFLICT)

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        return () if accepts(pod, node) else _REASON

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> bool:
        return bool(_affinity(pod).get("preferredDuringSchedulingIgnoredDuringExecution"))

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        preferred = _affinity(pod)["preferredDuringSchedulingIgnoredDuringExecution"]
        return sum(int(one["weight"]) for one in preferred if matches_term(one["preference"], node))

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> list[int]:
        return normalize_by_maximum(scores)

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        if not isinstance(event, NodeEvent) or event.new is None or not accepts(pod, event.new):
            return False
        return event.old is None or not accepts(pod, event.old)


def _affinity(pod: PodInfo) -> Mapping[str, Any]:
    return (pod.spec.get("affinity") or {}).get("nodeAffinity") or {}


def required_terms(pod: PodInfo) -> list[Term] | None:
    """The terms of the required node affinity, of which one must match; None without it."""
    required = _affinity(pod).get("requiredDuringSchedulingIgnoredDuringExecution")
    return None if required is None else required.get("nodeSelectorTerms") or []


def accepts(pod: PodInfo, node: NodeInfo) -> bool:
    """Whether the pod's selector and required affinity let it run on this node."""
    selector = pod.spec.get("nodeSelector")
    if selector and not selector.items() <= node.labels.items():
        return False
    terms = required_terms(pod)
    return terms is None or any(matches_term(term, node) for term in terms)


def matches_term(term: Term, node: NodeInfo) -> bool:
    """All expressions and fields of the term; a term without any matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_matches(one, node.labels) for one in expressions) and all(
        _matches(one, {"metadata.name": node.name}) for one in fields
    )


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


def _number(text: str | None) -> int | None:
    """As Go reads one of 64 bits."""
    if text is None or not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def _compares(value: str | None, values: Sequence[str], holds: Callable[[int, int], bool]) -> bool:
    left, right = _number(value), _number(values[0] if values else None)
    return left is not None and right is not None and holds(left, right)


def _matches(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(requirement["key"]), requirement.get("values") or ()
    operator = requirement["operator"]
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    if operator == "Gt":
        return _compares(value, values, lambda left, right: left > right)
    return operator == "Lt" and _compares(value, values, lambda left, right: left < right)
