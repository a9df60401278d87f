"""ResourceQuotas."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.quantities import canonical_list
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.resources import validate_amount

JSON = dict[str, Any]

_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_STANDARD = frozenset(
    {
        *_COMPUTE,
        *(f"{kind}.{name}" for kind in ("requests", "limits") for name in _COMPUTE),
        "requests.storage",
        "pods",
        "services",
        "services.loadbalancers",
        "services.nodeports",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
    }
)
_SCOPES = (
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
)
_OPPOSITES = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))


class ResourceQuotaStrategy(Unversioned):
    resource_key = "resourcequotas"
    returns_deleted = True

    def default(self, obj: JSON) -> None:
        canonical_list((obj.get("spec") or {}).get("hard"))
        status = obj.get("status") or {}
        canonical_list(status.get("hard"))
        canonical_list(status.get("used"))

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        for name, amount in (spec.get("hard") or {}).items():
            _resource(problems, name, f"spec.hard[{name}]")
            validate_amount(problems, amount, f"spec.hard[{name}]")
        scopes = spec.get("scopes") or []
        for scope in scopes:
            if scope not in _SCOPES:
                problems.invalid("spec.scopes", scopes, "unsupported scope")
        if any(one in scopes and other in scopes for one, other in _OPPOSITES):
            problems.invalid("spec.scopes", scopes, "conflicting scopes")
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        new, before = (sorted((one.get("spec") or {}).get("scopes") or []) for one in (obj, old))
        if new != before:
            problems.invalid("spec.scopes", new, names.IMMUTABLE)
        return problems


def _resource(problems: Problems, name: str, path: str) -> None:
    problems.check(path, name, names.qualified_name)
    if "/" not in name and name not in _STANDARD and "hugepages-" not in name:
        problems.invalid(path, name, "must be a standard resource type or fully qualified")
        problems.invalid(path, name, "must be a standard resource for quota")
