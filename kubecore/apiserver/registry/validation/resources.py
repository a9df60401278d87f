"""Resource names and amounts: of containers, pods, quotas and claims.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidateContainerResourceRequirements.
"""

from __future__ import annotations

from typing import Any

from kubecore.api import quantity
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_CONTAINER_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
_STANDARD_RESOURCES = _CONTAINER_RESOURCES | {"storage", "pods", "services", "replicationcontrollers"}
_HUGE_PAGES = "hugepages-"
_NATIVE_DOMAIN = "kubernetes.io/"


def is_extended(name: str) -> bool:
    """A resource of a vendor's device plugin: counted in whole pieces and never overcommitted."""
    return "/" in name and _NATIVE_DOMAIN not in name and not name.startswith("requests.")


def _overcommits(name: str) -> bool:
    return name in _CONTAINER_RESOURCES


def validate_quantity(problems: Problems, amount: object, path: str) -> bool:
    """A quantity that is not negative. Returns whether it can be compared."""
    try:
        nano = quantity.nano(amount) if isinstance(amount, str | int | float) else None
    except quantity.InvalidQuantity as error:
        problems.invalid(path, amount, str(error))
        return False
    if nano is None:
        problems.invalid(path, amount, str(quantity.InvalidQuantity()))
        return False
    if nano < 0:
        problems.invalid(path, str(amount), names.NOT_NEGATIVE)
    return True


def _container_resource_name(problems: Problems, name: str, path: str) -> None:
    if name in _CONTAINER_RESOURCES or name.startswith(_HUGE_PAGES):
        return
    errors = names.qualified_name(name)
    for error in errors:
        problems.invalid(path, name, error)
    if not errors and "/" not in name:
        problems.invalid(path, name, "must be a standard resource type or fully qualified")
        problems.invalid(path, name, "must be a standard resource for containers")


def _resource_list(problems: Problems, resources: JSON, path: str) -> dict[str, int]:
    """Checks one list; returns what can be compared, in nano units."""
    comparable = {}
    for name, amount in resources.items():
        where = f"{path}[{name}]"
        _container_resource_name(problems, name, path)
        if validate_quantity(problems, amount, where):
            nano = comparable[name] = quantity.nano(amount)
            if is_extended(name) and nano % 10**9:
                problems.invalid(where, str(amount), "must be an integer")
    return comparable


def validate_requirements(problems: Problems, requirements: JSON | None, path: str) -> None:
    """Limits and requests: known names, sane amounts, no request above its limit."""
    if not requirements:
        return
    limits, requests = requirements.get("limits") or {}, requirements.get("requests") or {}
    limited = _resource_list(problems, limits, f"{path}.limits")
    requested = _resource_list(problems, requests, f"{path}.requests")
    for name, amount in requested.items():
        limit = limited.get(name)
        if limit is None:
            if not _overcommits(name) and name not in limits:
                problems.required(f"{path}.limits", "Limit must be set for non overcommitable resources")
        elif not _overcommits(name) and amount != limit:
            detail = f"must be equal to {name} limit of {limits[name]}"
            problems.invalid(f"{path}.requests", str(requests[name]), detail)
        elif amount > limit:
            detail = f"must be less than or equal to {name} limit of {limits[name]}"
            problems.invalid(f"{path}.requests", str(requests[name]), detail)


def validate_resource_name(problems: Problems, name: str, path: str) -> None:
    """A name in a quota's or a node's list: standard, or with a domain."""
    errors = names.qualified_name(name)
    for error in errors:
        problems.invalid(path, name, error)
    if not errors and "/" not in name and name not in _STANDARD_RESOURCES and not name.startswith(_HUGE_PAGES):
        problems.invalid(path, name, "must be a standard resource type or fully qualified")


def validate_amounts(problems: Problems, resources: JSON | None, path: str) -> None:
    """A ResourceList of a node, a volume or a quota's status."""
    for name, amount in (resources or {}).items():
        validate_resource_name(problems, name, f"{path}[{name}]")
        validate_quantity(problems, amount, f"{path}[{name}]")
