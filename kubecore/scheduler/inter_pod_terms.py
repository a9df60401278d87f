"""The terms of a pod's inter-pod affinity and anti-affinity: which pods each one chooses.

What matchLabelKeys and mismatchLabelKeys say is in the label selectors already: the API server puts it there when the
pod is created. (kube-scheduler `framework/types.go`, AffinityTerm.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubecore.api.selectors import Selector


@dataclass(frozen=True, slots=True)
class InterPodTerm:
    key: str
    """The label whose value tells topology domains apart."""
    selector: Selector
    namespaces: frozenset[str]
    namespace_selector: Selector | None
    """Chooses namespaces besides `namespaces`, by their labels."""
    weight: int = 0
    """Of a preferred term."""

    def matches(self, namespace: str, namespace_labels: Mapping[str, str], labels: Mapping[str, str]) -> bool:
        """Whether the term chooses a pod of that namespace with those labels."""
        by_labels = self.namespace_selector
        if namespace in self.namespaces or (by_labels is not None and by_labels.matches(namespace_labels)):
            return self.selector.matches(labels)
        return False


@dataclass(frozen=True, slots=True)
class InterPodTerms:
    """Falsy when there are none."""

    required: tuple[InterPodTerm, ...] = ()
    required_anti: tuple[InterPodTerm, ...] = ()
    preferred: tuple[InterPodTerm, ...] = ()
    preferred_anti: tuple[InterPodTerm, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.required or self.required_anti or self.preferred or self.preferred_anti)


_NONE = InterPodTerms()


def terms_of(spec: Mapping[str, Any], namespace: str) -> InterPodTerms:
    """The terms in a pod's spec. ValueError when a selector cannot be read."""
    affinity = spec.get("affinity") or {}
    together, apart = affinity.get("podAffinity"), affinity.get("podAntiAffinity")
    if not together and not apart:
        return _NONE
    return InterPodTerms(
        required=_required(together, namespace),
        required_anti=_required(apart, namespace),
        preferred=_preferred(together, namespace),
        preferred_anti=_preferred(apart, namespace),
    )


def _required(given: Mapping[str, Any] | None, namespace: str) -> tuple[InterPodTerm, ...]:
    terms = (given or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(_term(term, namespace) for term in terms)


def _preferred(given: Mapping[str, Any] | None, namespace: str) -> tuple[InterPodTerm, ...]:
    terms = (given or {}).get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(_term(one["podAffinityTerm"], namespace, int(one["weight"])) for one in terms)


def _term(term: Mapping[str, Any], namespace: str, weight: int = 0) -> InterPodTerm:
    names, by_labels = term.get("namespaces") or (), term.get("namespaceSelector")
    return InterPodTerm(
        key=term["topologyKey"],
        selector=Selector.from_label_selector(term.get("labelSelector")),
        # the pod's own namespace, unless others are named in one way or the other
        namespaces=frozenset(names) if names or by_labels is not None else frozenset({namespace}),
        namespace_selector=None if by_labels is None else Selector.from_label_selector(by_labels),
        weight=weight,
    )
