"""The evaluator of each resource (upstream kubernetes pkg/quota/v1/evaluator/core/registry.go)."""

from __future__ import annotations

from collections.abc import Iterable

from kubecore.api.quota.claims import ClaimEvaluator
from kubecore.api.quota.devices import ResourceClaimEvaluator
from kubecore.api.quota.evaluator import Evaluator
from kubecore.api.quota.pods import PodEvaluator
from kubecore.api.quota.services import ServiceEvaluator
from kubecore.clock import Clock

IGNORED = frozenset({"events", "events.events.k8s.io"})
"""Not counted: they come too often."""

_ALIASES = ("configmaps", "resourcequotas", "replicationcontrollers", "secrets")
_COUNT = "count/"


class Evaluators:
    """Those with rules of their own, and a counting one for every other resource somebody asks for."""

    def __init__(self, clock: Clock) -> None:
        special = [PodEvaluator(clock), ServiceEvaluator(), ClaimEvaluator(), ResourceClaimEvaluator()]
        special += [Evaluator(name, name) for name in _ALIASES]
        self._known: dict[str, Evaluator] = {one.resource_key: one for one in special}
        self._special = tuple(special)

    def of(self, resource_key: str) -> Evaluator:
        found = self._known.get(resource_key)
        if found is None:
            found = self._known[resource_key] = Evaluator(resource_key)
        return found

    def for_names(self, names: Iterable[str]) -> list[Evaluator]:
        """All that count against one of a quota's names; that a resource of `count/<resource>` exists is not said."""
        names = list(names)
        found = [one for one in self._special if one.matching(names)]
        known = {one.resource_key for one in found}
        for name in names:
            key = name.removeprefix(_COUNT)
            if name.startswith(_COUNT) and key and key not in known and key not in IGNORED:
                known.add(key)
                found.append(self.of(key))
        return found
