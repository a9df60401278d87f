"""Finds objects by labels without going through all of their namespace."""

from __future__ import annotations

from collections.abc import Mapping

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.client.informer import Objects, Of, SharedInformer

_INDEX = "namespace/label=value"


def by_labels(informer: SharedInformer) -> None:
    """Let `having` find this informer's objects."""
    informer.add_index(_INDEX, _labels_of, of=Of.METADATA)


def having(informer: SharedInformer, namespace: str, wanted: Mapping[str, str]) -> Objects:
    """Objects of the namespace that have all of these labels, of which there must be some."""
    found: Objects | None = None
    for name, value in wanted.items():
        candidates = informer.by_index(_INDEX, f"{namespace}/{name}={value}")
        if found is None or len(candidates) < len(found):
            found = candidates
    assert found is not None, "by no label"
    if len(wanted) == 1:
        return found
    pairs = wanted.items()
    return [one for one in found if pairs <= meta.labels(one).items()]


def _labels_of(obj: Object) -> list[str]:
    labels = meta.labels(obj)
    if not labels:
        return []
    namespace = meta.namespace(obj)
    return [f"{namespace}/{name}={value}" for name, value in labels.items()]
