"""ResourceQuotas: what is counted, and of which objects.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidateResourceQuotaSpec, and `pkg/apis/core/helper`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.resources import (
    is_standard_for_quota,
    validate_resource_amount,
    validate_resource_name,
)

JSON = dict[str, Any]

_COMPUTE = frozenset(f"{kind}{name}" for kind in ("", "requests.", "limits.") for name in ("cpu", "memory"))
_PODS = frozenset({"pods"})
_OF_PODS = _PODS | _COMPUTE
# What can be counted of the objects a scope selects.
_SCOPES: Mapping[str, frozenset[str]] = {
    "Terminating": _OF_PODS,
    "NotTerminating": _OF_PODS,
    "BestEffort": _PODS,
    "NotBestEffort": _OF_PODS,
    "PriorityClass": _OF_PODS,
    "CrossNamespacePodAffinity": _OF_PODS,
    "VolumeAttributesClass": frozenset({"persistentvolumeclaims", "requests.storage"}),
}
_OPPOSITES = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
# Scopes that select by what a pod is, and not by a value.
_WITHOUT_VALUE = ("BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity")
_MUST_EXIST = (
    "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
    "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)


def validate_quota_spec(problems: Problems, spec: JSON) -> None:
    hard = spec.get("hard") or {}
    validate_quota_amounts(problems, hard, "spec.hard")
    scopes = spec.get("scopes") or []
    for scope in scopes:
        if scope not in _SCOPES:
            problems.invalid("spec.scopes", scopes, "unsupported scope")
        _counted(problems, scope, hard, "spec.scopes", scopes)
    _opposites(problems, scopes, "spec.scopes", scopes)
    selector = spec.get("scopeSelector")
    if selector is not None:
        _selector(problems, selector, spec, "spec.scopeSelector.matchExpressions")


def validate_quota_amounts(problems: Problems, amounts: JSON, path: str) -> None:
    for name, amount in amounts.items():
        where = f"{path}[{name}]"
        validate_resource_name(problems, name, where)
        if "/" not in name and not is_standard_for_quota(name):
            problems.invalid(where, name, "must be a standard resource for quota")
        validate_resource_amount(problems, name, amount, where)


def _selector(problems: Problems, selector: JSON, spec: JSON, path: str) -> None:
    requirements = selector.get("matchExpressions") or []
    for requirement in requirements:
        scope, operator = requirement.get("scopeName") or "", requirement.get("operator") or ""
        if scope not in _SCOPES:
            problems.invalid(f"{path}.scopeName", scope, "unsupported scope")
        _counted(problems, scope, spec.get("hard") or {}, path, selector)
        if scope in _WITHOUT_VALUE and operator != "Exists":
            problems.invalid(f"{path}.operator", operator, _MUST_EXIST)
        _values(problems, operator, requirement.get("values") or [], path)
    scopes = [requirement.get("scopeName") for requirement in requirements]
    _opposites(problems, scopes, path, spec.get("scopes"))


def _values(problems: Problems, operator: str, values: list[str], path: str) -> None:
    if operator in ("In", "NotIn"):
        if not values:
            detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            problems.required(f"{path}.values", detail)
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            problems.invalid(f"{path}.values", values, detail)
    else:
        problems.invalid(f"{path}.operator", operator, "not a valid selector operator")


def _counted(problems: Problems, scope: str, hard: JSON, path: str, shown: object) -> None:
    allowed = _SCOPES.get(scope)
    for name in sorted(hard):
        if allowed is not None and name not in allowed and is_standard_for_quota(name):
            problems.invalid(path, shown, "unsupported scope applied to resource")


def _opposites(problems: Problems, scopes: list[Any], path: str, shown: object) -> None:
    for one, other in _OPPOSITES:
        if one in scopes and other in scopes:
            problems.invalid(path, shown, "conflicting scopes")
