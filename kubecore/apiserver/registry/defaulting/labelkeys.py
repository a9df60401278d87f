"""Label keys whose value is the new pod's own, in affinity terms and spread constraints, become part of the selector.

After kubernetes `pkg/registry/core/pod/strategy.go`, mutatePodAffinity and mutateTopologySpreadConstraints.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

JSON = dict[str, Any]

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def select_by_own_labels(pod: JSON) -> None:
    """Changes the selectors of a new pod in place."""
    spec, labels = pod.get("spec") or {}, pod["metadata"].get("labels") or {}
    for term in _terms(spec):
        _extend(term, term.get("matchLabelKeys"), "In", labels)
        _extend(term, term.get("mismatchLabelKeys"), "NotIn", labels)
    for constraint in spec.get("topologySpreadConstraints") or []:
        _extend(constraint, constraint.get("matchLabelKeys"), "In", labels)


def _terms(spec: JSON) -> Iterator[JSON]:
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(kind) or {}
        for weighted in terms.get(_PREFERRED) or []:
            if weighted.get("podAffinityTerm"):
                yield weighted["podAffinityTerm"]
        yield from terms.get(_REQUIRED) or []


def _extend(holder: JSON, keys: list[str] | None, operator: str, labels: JSON) -> None:
    selector = holder.get("labelSelector")
    if not keys or selector is None:
        # No selector selects nothing, whatever the keys.
        return
    added = [{"key": key, "operator": operator, "values": [labels[key]]} for key in keys if key in labels]
    if added:
        selector["matchExpressions"] = [*(selector.get("matchExpressions") or []), *added]
