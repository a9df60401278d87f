"""LimitRanges."""

from __future__ import annotations

import math
from typing import Any

from kubecore.api import quantity
from kubecore.api.errors import Cause
from kubecore.apiserver.registry import lifecycle
from kubecore.apiserver.registry.defaulting.quantities import canonical_list
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.resources import (
    overcommits,
    validate_container_resource_name,
    validate_resource_name,
)

JSON = dict[str, Any]

_TYPES = ("Container", "PersistentVolumeClaim", "Pod")
_LISTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
# What a pod as a whole has none of.
_DEFAULTS = ("default", "defaultRequest")
# Each pair must be in this order: where it is told when it is not, whose value is shown, and in which words.
_ORDERED = (
    ("min", "max", "min", "min", "min value {} is greater than max value {}"),
    (
        "min",
        "defaultRequest",
        "defaultRequest",
        "defaultRequest",
        "min value {} is greater than default request value {}",
    ),
    (
        "defaultRequest",
        "max",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than max value {}",
    ),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than default limit value {}",
    ),
    ("min", "default", "default", "min", "min value {} is greater than default value {}"),
    ("default", "max", "default", "max", "default value {} is greater than max value {}"),
)
# Amounts above are compared in whole units, since thousandths of them do not fit Go's int64.
_MOST_MILLI = ((1 << 63) - 1) // 1000


class LimitRangeStrategy(Unversioned):
    resource_key = "limitranges"
    allow_create_on_update = True

    def default(self, obj: JSON) -> None:
        for item in (obj.get("spec") or {}).get("limits") or []:
            for kind in _LISTS:
                canonical_list(item.get(kind))
            if item.get("type") == "Container":
                _container_defaults(item)

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        # Alone of all kinds it needs no name.
        if not obj["metadata"].get("name"):
            obj["metadata"]["name"] = ctx.name = lifecycle.new_uid()

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
    lists = {field: item.get(field) or {} for field in _LISTS}
    rule = validate_container_resource_name if kind in ("Container", "Pod") else validate_resource_name
    if kind == "Pod":
        for field in _DEFAULTS:
            if lists[field]:
                problems.forbidden(f"{path}.{field}", "may not be specified when `type` is 'Pod'")
            lists[field] = {}
    for field, amounts in lists.items():
        for name in amounts:
            rule(problems, name, f"{path}.{field}[{name}]")
    if kind == "PersistentVolumeClaim" and not any("storage" in lists[one] for one in ("min", "max")):
        detail = "either minimum or maximum storage value is required, but neither was provided"
        problems.required(f"{path}.limits", detail)
    for low, high, where, shown, words in _ORDERED:
        for name, amount in lists[low].items():
            other = lists[high].get(name)
            if other is not None and quantity.nano(amount) > quantity.nano(other):
                value = str(lists[shown][name])
                problems.invalid(f"{path}.{where}[{name}]", value, words.format(amount, other))
    for name, ratio in lists["maxLimitRequestRatio"].items():
        _ratio(problems, ratio, lists["min"].get(name), lists["max"].get(name), f"{path}.maxLimitRequestRatio[{name}]")
    for name, amount in lists["default"].items():
        request = lists["defaultRequest"].get(name)
        if request is not None and not overcommits(name) and quantity.nano(amount) != quantity.nano(request):
            detail = f"default value {amount} must equal to defaultRequest value {request} in {name}"
            problems.invalid(f"{path}.defaultRequest[{name}]", str(request), detail)


def _ratio(problems: Problems, ratio: Any, least: Any, most: Any, path: str) -> None:
    """How much a limit may exceed its request: less than the widest that minimum and maximum leave."""
    if quantity.nano(ratio) < quantity.nano("1"):
        problems.invalid(path, str(ratio), f"ratio {ratio} is less than 1")
    if least is None or most is None:
        return
    whole = [quantity.value(one) for one in (ratio, least, most)]
    wanted, low, high = whole
    shown = float(wanted)
    if all(one < _MOST_MILLI for one in whole):
        shown, low, high = quantity.milli(ratio) / 1000, quantity.milli(least), quantity.milli(most)
    widest = _divided(high, low)
    if shown > widest:
        problems.invalid(path, str(ratio), f"ratio {ratio} is greater than max/min = {_go_float(widest)}")


def _divided(high: int, low: int) -> float:
    """As Go's floats are divided."""
    if low:
        return high / low
    return math.copysign(math.inf, high) if high else math.nan


def _go_float(value: float) -> str:
    """Go's %f."""
    return f"{value:.6f}" if math.isfinite(value) else "-Inf"
