"""LimitRanges."""

from __future__ import annotations

from typing import Any

from kubecore.api import quantity
from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.quantities import canonical_list
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.resources import (
    validate_container_resource_name,
    validate_resource_name,
)

JSON = dict[str, Any]

_TYPES = ("Container", "PersistentVolumeClaim", "Pod")
_LISTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
# Each pair must be in this order, with these words for when it is not.
_ORDERED = (
    ("min", "max", "min", "min value {} is greater than max value {}"),
    ("min", "defaultRequest", "defaultRequest", "min value {} is greater than default request value {}"),
    ("defaultRequest", "max", "defaultRequest", "default request value {} is greater than max value {}"),
    ("defaultRequest", "default", "defaultRequest", "default request value {} is greater than default limit value {}"),
    ("min", "default", "default", "min value {} is greater than default value {}"),
    ("default", "max", "default", "default value {} is greater than max value {}"),
)


class LimitRangeStrategy(Unversioned):
    resource_key = "limitranges"
    allow_create_on_update = True

    def default(self, obj: JSON) -> None:
        for item in (obj.get("spec") or {}).get("limits") or []:
            for kind in _LISTS:
                canonical_list(item.get(kind))
            if item.get("type") == "Container":
                _container_defaults(item)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        taken: set[str] = set()
        for index, item in enumerate((obj.get("spec") or {}).get("limits") or []):
            path, kind = f"spec.limits[{index}]", item.get("type") or ""
            problems.check(f"{path}.type", kind, names.qualified_name)
            if not names.qualified_name(kind) and "/" not in kind and kind not in _TYPES:
                problems.invalid(f"{path}.type", kind, "must be a standard limit type or fully qualified")
            if kind in taken:
                problems.duplicate(f"{path}.type", kind)
            taken.add(kind)
            _item(problems, item, kind, path)
        return problems


def _container_defaults(item: JSON) -> None:
    """A limit is the maximum, and a request the limit, or else the minimum, unless something else is said."""
    default = item.setdefault("default", {})
    for name, amount in (item.get("max") or {}).items():
        default.setdefault(name, amount)
    request = item.setdefault("defaultRequest", {})
    for name, amount in [*default.items(), *(item.get("min") or {}).items()]:
        request.setdefault(name, amount)
    for kind in ("default", "defaultRequest"):
        if not item[kind]:
            del item[kind]


def _item(problems: Problems, item: JSON, kind: str, path: str) -> None:
    for field in _LISTS:
        for name in item.get(field) or {}:
            if kind == "Container":
                validate_container_resource_name(problems, name, f"{path}.{field}[{name}]")
            else:
                validate_resource_name(problems, name, f"{path}.{field}[{name}]")
    if kind == "Pod":
        for field in ("default", "defaultRequest"):
            if item.get(field):
                problems.forbidden(f"{path}.{field}", "may not be specified when `type` is 'Pod'")
    if kind == "PersistentVolumeClaim" and not any("storage" in (item.get(one) or {}) for one in ("min", "max")):
        detail = "either minimum or maximum storage value is required, but neither was provided"
        problems.required(f"{path}.limits", detail)
    for low, high, where, words in _ORDERED:
        for name, amount in (item.get(low) or {}).items():
            other = (item.get(high) or {}).get(name)
            if other is not None and quantity.nano(amount) > quantity.nano(other):
                problems.invalid(f"{path}.{where}[{name}]", str(item[where][name]), words.format(amount, other))
    for name, ratio in (item.get("maxLimitRequestRatio") or {}).items():
        if quantity.nano(ratio) < quantity.nano("1"):
            problems.invalid(f"{path}.maxLimitRequestRatio[{name}]", str(ratio), f"ratio {ratio} is less than 1")
