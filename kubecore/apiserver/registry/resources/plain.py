"""Kinds whose particularities are a few yes-or-no answers: is a generation kept, what may a name be.

From the strategies under upstream pkg/registry.
"""

from __future__ import annotations

from kubecore.apiserver.registry.strategy import GENERIC, Strategy
from kubecore.apiserver.registry.validation import names

_WITH_GENERATION = frozenset({"resourceslices.resource.k8s.io"})

# Names that may hold anything a path segment may.
_NAMED_FREELY = frozenset({"ipaddresses.networking.k8s.io"})


def strategy(key: str) -> Strategy:
    """The strategy of a group resource that has no module of its own; it may be shared."""
    traits: dict[str, object] = {}
    if key in _BUILT_IN_WITHOUT_GENERATION:
        traits["tracks_generation"] = False
    if key in _NAMED_FREELY:
        traits["name_errors"] = names.path_segment
    if not traits:
        return GENERIC
    made = Strategy()
    made.resource_key = key
    for name, value in traits.items():
        setattr(made, name, value)
    return made


def _without_generation() -> frozenset[str]:
    from kubecore.api import scheme

    return frozenset(scheme.every().keys()) - _WITH_GENERATION


_BUILT_IN_WITHOUT_GENERATION = _without_generation()
