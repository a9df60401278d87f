"""Node selector terms (core/v1 NodeSelectorTerm): which nodes match one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_INTEGER = re.compile(r"[+-]?[0-9]+")

Term = Mapping[str, Any]


def matches_term(term: Term, *, name: str, labels: Mapping[str, str]) -> bool:
    """Whether the node fulfils all expressions and fields of the term; a term without any matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_matches(one, labels) for one in expressions) and all(
        _matches(one, {"metadata.name": name}) for one in fields
    )


def accepts_node(pod_spec: Mapping[str, Any], *, name: str, labels: Mapping[str, str]) -> bool:
    """Whether the nodeSelector and the required node affinity of a pod let it run on the node."""
    selector = pod_spec.get("nodeSelector")
    if selector and not selector.items() <= labels.items():
        return False
    terms = required_terms(pod_spec)
    return terms is None or any(matches_term(term, name=name, labels=labels) for term in terms)


def matches_topology(terms: Sequence[Term] | None, labels: Mapping[str, str]) -> bool:
    """Whether a node is in the `allowedTopologies` of a storage class; without any, every node is."""
    return not terms or any(
        bool(term.get("matchLabelExpressions"))
        and all(labels.get(one["key"]) in one["values"] for one in term["matchLabelExpressions"])
        for term in terms
    )


def required_terms(pod_spec: Mapping[str, Any]) -> list[Term] | None:
    """The terms of the required node affinity, of which one must match; None without it."""
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return None if required is None else required.get("nodeSelectorTerms") or []


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
