"""What may be taken only where a quota covers it: the configuration of ResourceQuota.

After upstream k8s.io/apiserver pkg/admission/plugin/resourcequota (apis/resourcequota, controller.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubecore.api import configuration_file
from kubecore.api.amounts import Amounts
from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.api.quota.evaluator import Evaluator, Requirement

JSON = dict[str, Any]

_SCOPE = {"scopeName": str, "operator": str, "values": [str]}
_LIMITED = {"apiGroup": str, "resource": str, "matchContains": [str], "matchScopes": [_SCOPE]}
_FIELDS = {"limitedResources": [_LIMITED]}
# Each by the kind it had in that group.
_KINDS: Mapping[str, Mapping[str, Any]] = {
    "ResourceQuotaConfiguration": {"apiserver.config.k8s.io/v1": _FIELDS},
    "Configuration": {f"resourcequota.admission.k8s.io/{one}": _FIELDS for one in ("v1beta1", "v1alpha1")},
}


@dataclass(frozen=True, slots=True)
class Limited:
    """Of one resource: amounts whose names contain one of `names`, and objects in one of `scopes`."""

    names: tuple[str, ...] = ()
    scopes: tuple[Requirement, ...] = ()

    def of_amounts(self, usage: Amounts) -> set[str]:
        """Those that a quota has to cover."""
        return {name for name in usage if any(part in name for part in self.names)}

    def of_scopes(self, evaluator: Evaluator, obj: JSON) -> list[Requirement]:
        return [one for one in self.scopes if evaluator.in_scope(one, obj)]


NOTHING = Limited()


@dataclass(frozen=True, slots=True)
class LimitedResources:
    by_resource: Mapping[str, Limited] = field(default_factory=dict)
    """By key ("pods", "widgets.example.com")."""

    def of(self, resource_key: str) -> Limited:
        return self.by_resource.get(resource_key, NOTHING)


def load(text: str) -> LimitedResources:
    """From YAML or JSON. Raises InvalidConfiguration."""
    if not text.strip():
        return LimitedResources()
    entries = configuration_file.read_any(text, _KINDS).get("limitedResources") or []
    for index, entry in enumerate(entries):
        if not entry.get("resource"):
            raise InvalidConfiguration(f"limitedResources[{index}].resource: Required value")
    found: dict[str, Limited] = {}
    for entry in entries:
        key = ".".join(part for part in (entry["resource"], entry.get("apiGroup")) if part)
        before = found.get(key, NOTHING)
        found[key] = Limited(
            (*before.names, *(entry.get("matchContains") or ())), (*before.scopes, *(entry.get("matchScopes") or ()))
        )
    return LimitedResources(found)


def uncovered(limited: Iterable[Requirement], covering: Iterable[Requirement]) -> str:
    """The scopes that no quota speaks of, as Go tells them; "" for none."""
    spoken_of = {one["scopeName"] for one in covering}
    left = [one for one in limited if one["scopeName"] not in spoken_of]
    return f"[{' '.join(map(_told, left))}]" if left else ""


def _told(requirement: Requirement) -> str:
    values = " ".join(requirement.get("values") or ())
    return f"{{{requirement['scopeName']} {requirement.get('operator') or ''} [{values}]}}"
