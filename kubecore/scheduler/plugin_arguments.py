"""The arguments of plugins in a KubeSchedulerConfiguration: their fields, defaults and what is wrong with them.

(kubernetes `pkg/scheduler/apis/config`: v1/defaults.go, validation/validation_pluginargs.go.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kubecore.api import label_names
from kubecore.api.configuration_file import Duration
from kubecore.api.durations import seconds
from kubecore.api.errors import Cause, FieldError
from kubecore.api.selectors import Selector

JSON = dict[str, Any]
Causes = list[Cause]

_STRATEGIES = ("LeastAllocated", "MostAllocated", "RequestedToCapacityRatio")
_DEFAULTING = ("List", "System")
_ACTIONS = ("DoNotSchedule", "ScheduleAnyway")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

FIELDS: Mapping[str, Mapping[str, Any]] = {
    "DefaultPreemption": {"minCandidateNodesPercentage": int, "minCandidateNodesAbsolute": int},
    "DynamicResources": {"filterTimeout": Duration, "bindingTimeout": Duration},
    "InterPodAffinity": {"hardPodAffinityWeight": int, "ignorePreferredTermsOfExistingPods": bool},
    "NodeAffinity": {"addedAffinity": dict},
    "NodeResourcesBalancedAllocation": {"resources": [{"name": str, "weight": int}]},
    "NodeResourcesFit": {
        "ignoredResources": [str],
        "ignoredResourceGroups": [str],
        "scoringStrategy": {
            "type": str,
            "resources": [{"name": str, "weight": int}],
            "requestedToCapacityRatio": {"shape": [{"utilization": int, "score": int}]},
        },
    },
    "PodTopologySpread": {"defaultConstraints": [dict], "defaultingType": str},
    "VolumeBinding": {"bindTimeoutSeconds": int, "shape": [{"utilization": int, "score": int}]},
}
"""By plugin, its fields with their types; what has no arguments is not in it."""


def with_defaults(plugin: str, given: JSON) -> JSON:
    """The arguments with what kube-scheduler sets where nothing is said."""
    if plugin == "DefaultPreemption":
        return {"minCandidateNodesPercentage": 10, "minCandidateNodesAbsolute": 100} | given
    if plugin == "InterPodAffinity":
        return {"hardPodAffinityWeight": 1} | given
    if plugin == "NodeResourcesBalancedAllocation":
        return given | {"resources": _weighted(given.get("resources"))}
    if plugin == "PodTopologySpread":
        return given | {"defaultingType": given.get("defaultingType") or "System"}
    if plugin == "VolumeBinding":
        return {"bindTimeoutSeconds": 600} | given
    if plugin == "NodeResourcesFit":
        strategy = given.get("scoringStrategy")
        strategy = {"type": "LeastAllocated"} if strategy is None else strategy
        return given | {"scoringStrategy": strategy | {"resources": _weighted(strategy.get("resources"))}}
    return given


def _weighted(resources: Sequence[JSON] | None) -> list[JSON]:
    given = resources or [{"name": "cpu"}, {"name": "memory"}]
    return [one | {"weight": one.get("weight") or 1} for one in given]


def problems(plugin: str, args: JSON, path: str) -> Causes:
    """What is wrong with the arguments, after their defaults were set."""
    check = _CHECKS.get(plugin)
    return check(args, path) if check is not None else []


def _preemption(args: JSON, path: str) -> Causes:
    percentage, absolute = args["minCandidateNodesPercentage"], args["minCandidateNodesAbsolute"]
    at_percentage, at_absolute = f"{path}.minCandidateNodesPercentage", f"{path}.minCandidateNodesAbsolute"
    found = []
    if not 0 <= percentage <= 100:
        found.append(FieldError.invalid(at_percentage, percentage, "not in valid range [0, 100]"))
    if absolute < 0:
        found.append(FieldError.invalid(at_absolute, absolute, "not in valid range [0, inf)"))
    if not percentage and not absolute:
        detail = "cannot be zero at the same time as"
        found.append(FieldError.invalid(at_percentage, 0, f"{detail} minCandidateNodesAbsolute"))
        found.append(FieldError.invalid(at_absolute, 0, f"{detail} minCandidateNodesPercentage"))
    return found


def _dynamic_resources(args: JSON, path: str) -> Causes:
    """With the feature gates of v1.35 as they are by default. What they bound is not done here."""
    found: Causes = []
    if seconds(args.get("filterTimeout") or "0s") < 0:
        found.append(FieldError.invalid(f"{path}.filterTimeout", args["filterTimeout"], "must be zero or positive"))
    if args.get("bindingTimeout") is not None:
        detail = "DRADeviceBindingConditions or DRAResourceClaimDeviceStatus feature gate is disabled"
        found.append(FieldError.forbidden(f"{path}.bindingTimeout", detail))
    return found


def _inter_pod_affinity(args: JSON, path: str) -> Causes:
    weight = args["hardPodAffinityWeight"]
    if 0 <= weight <= 100:
        return []
    return [FieldError.invalid(f"{path}.hardPodAffinityWeight", weight, "not in valid range [0, 100]")]


def _balanced(args: JSON, path: str) -> Causes:
    found: Causes = []
    seen = set()
    for index, one in enumerate(args["resources"]):
        where = f"{path}.resources[{index}]"
        if one.get("name", "") in seen:
            found.append(FieldError.duplicate(f"{where}.name", one.get("name", "")))
        seen.add(one.get("name", ""))
        if one["weight"] != 1:
            found.append(FieldError.invalid(f"{where}.weight", one["weight"], "must be 1"))
    return found


def _fit(args: JSON, path: str) -> Causes:
    found: Causes = []
    for index, name in enumerate(args.get("ignoredResources") or ()):
        found += label_name(name, f"{path}.ignoredResources[{index}]")
    for index, group in enumerate(args.get("ignoredResourceGroups") or ()):
        where = f"{path}.ignoredResourceGroups[{index}]"
        if "/" in group:
            found.append(FieldError.invalid(where, group, "resource group name can't contain '/'"))
        found += label_name(group, where)
    strategy, where = args["scoringStrategy"], f"{path}.scoringStrategy"
    if strategy.get("type") not in _STRATEGIES:
        found.append(FieldError.not_supported(f"{where}.type", strategy.get("type", ""), _STRATEGIES))
    for index, one in enumerate(strategy["resources"]):
        if not 0 < one["weight"] <= 100:
            detail = f"resource weight of {one.get('name', '')} not in valid range (0, 100]"
            found.append(FieldError.invalid(f"{where}.resources[{index}].weight", one["weight"], detail))
    ratio = strategy.get("requestedToCapacityRatio")
    if ratio is not None:
        found += _shape(ratio.get("shape") or [], f"{where}.shape")
    elif strategy.get("type") == "RequestedToCapacityRatio":
        # kube-scheduler fails later, and without a word
        found.append(FieldError.required(f"{where}.requestedToCapacityRatio"))
    return found


def _shape(points: Sequence[JSON], path: str) -> Causes:
    if not points:
        return [FieldError.required(path, "at least one point must be specified")]
    found: Causes = []
    used = [point.get("utilization", 0) for point in points]
    for index in range(1, len(points)):
        if used[index - 1] >= used[index]:
            detail = "values must be sorted in increasing order"
            found.append(FieldError.invalid(f"{path}[{index}].utilization", used[index], detail))
            break
    for index, point in enumerate(points):
        for field, most in (("utilization", 100), ("score", 10)):
            value = point.get(field, 0)
            if not 0 <= value <= most:
                detail = f"not in valid range [0, {most}]"
                found.append(FieldError.invalid(f"{path}[{index}].{field}", value, detail))
    return found


def _spread(args: JSON, path: str) -> Causes:
    kind, constraints = args["defaultingType"], args.get("defaultConstraints") or []
    found: Causes = []
    if kind not in _DEFAULTING:
        found.append(FieldError.not_supported(f"{path}.defaultingType", kind, reversed(_DEFAULTING)))
    elif kind == "System" and constraints:
        detail = "when .defaultConstraints are not empty"
        found.append(FieldError.invalid(f"{path}.defaultingType", kind, detail))
    for index, one in enumerate(constraints):
        found += _constraint(one, constraints[:index], f"{path}.defaultConstraints[{index}]")
    return found


def _constraint(one: JSON, before: Sequence[JSON], path: str) -> Causes:
    found: Causes = []
    skew, key, action = one.get("maxSkew", 0), one.get("topologyKey", ""), one.get("whenUnsatisfiable", "")
    if skew <= 0:
        found.append(FieldError.invalid(f"{path}.maxSkew", skew, "not in valid range (0, inf)"))
    if not key:
        found.append(FieldError.required(f"{path}.topologyKey", "can not be empty"))
    else:
        found += label_name(key, f"{path}.topologyKey")
    if not action:
        found.append(FieldError.required(f"{path}.whenUnsatisfiable", "can not be empty"))
    elif action not in _ACTIONS:
        found.append(FieldError.not_supported(f"{path}.whenUnsatisfiable", action, _ACTIONS))
    if one.get("labelSelector") is not None:
        detail = "constraint must not define a selector, as they deduced for each pod"
        found.append(FieldError.forbidden(f"{path}.labelSelector", detail))
    if any((other.get("topologyKey", ""), other.get("whenUnsatisfiable", "")) == (key, action) for other in before):
        found.append(FieldError.duplicate(path, f"{{{key}, {action}}}"))
    return found


def _node_affinity(args: JSON, path: str) -> Causes:
    added, path = args.get("addedAffinity") or {}, f"{path}.addedAffinity"
    found: Causes = []
    for index, term in enumerate((added.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ()):
        found += _term(term, f"{path}.{_REQUIRED}.nodeSelectorTerms[{index}]")
    for index, one in enumerate(added.get(_PREFERRED) or ()):
        if one.get("weight"):
            found += _term(one.get("preference") or {}, f"{path}.{_PREFERRED}[{index}]")
    return found


def _term(term: JSON, path: str) -> Causes:
    found: Causes = []
    for index, one in enumerate(term.get("matchExpressions") or ()):
        found += _expression(one, f"{path}.matchExpressions[{index}]")
    for index, one in enumerate(term.get("matchFields") or ()):
        where = f"{path}.matchFields[{index}]"
        if one.get("operator") not in ("In", "NotIn"):
            found.append(FieldError.not_supported(f"{where}.operator", one.get("operator", ""), ("In", "NotIn")))
        elif len(one.get("values") or ()) != 1:
            found.append(FieldError.invalid(f"{where}.values", one.get("values"), "must have one element"))
    return found


def _expression(one: JSON, path: str) -> Causes:
    operator, key, values = one.get("operator", ""), one.get("key", ""), one.get("values")
    if operator not in _NODE_OPERATORS:
        return [FieldError.not_supported(f"{path}.operator", operator, _NODE_OPERATORS)]
    found, where = label_name(key, f"{path}.key"), f"{path}.values"
    if operator in ("In", "NotIn") and not values:
        detail = "for 'in', 'notin' operators, values set can't be empty"
        found.append(FieldError.invalid(where, values, detail))
    elif operator in ("Exists", "DoesNotExist") and values:
        detail = "values set must be empty for exists and does not exist"
        found.append(FieldError.invalid(where, values, detail))
    elif operator in ("Gt", "Lt"):
        if len(values or ()) != 1:
            detail = "for 'Gt', 'Lt' operators, exactly one value is required"
            found.append(FieldError.invalid(where, values, detail))
        for index, value in enumerate(values or ()):
            if _INTEGER.fullmatch(value) is None:
                detail = "for 'Gt', 'Lt' operators, the value must be an integer"
                found.append(FieldError.invalid(f"{where}[{index}]", value, detail))
    for index, value in enumerate(values or ()):
        if wrong := label_names.label_value(value):
            found.append(FieldError.invalid(f"{where}[{index}][{key}]", value, "; ".join(wrong)))
    return found


_INTEGER = re.compile(r"[-+]?[0-9]+")
_NODE_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")


def _volume_binding(args: JSON, path: str) -> Causes:
    found: Causes = []
    seconds = args["bindTimeoutSeconds"]
    if seconds < 0:
        detail = "invalid BindTimeoutSeconds, should not be a negative value"
        found.append(FieldError.invalid(f"{path}.bindTimeoutSeconds", seconds, detail))
    if args.get("shape") is not None:
        detail = "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring"
        found.append(FieldError.invalid(f"{path}.shape", args["shape"], detail))
    return found


def label_name(name: str, path: str) -> Causes:
    """Whether a text can be a label's key."""
    try:
        Selector.from_label_selector({"matchExpressions": [{"key": name, "operator": "Exists"}]})
    except ValueError as error:
        shown = FieldError.invalid("key", name, "")
        return [FieldError.invalid(path, name, str(error).removeprefix(f"{shown}: "))]
    return []


_CHECKS: Mapping[str, Callable[[JSON, str], Causes]] = {
    "DefaultPreemption": _preemption,
    "DynamicResources": _dynamic_resources,
    "InterPodAffinity": _inter_pod_affinity,
    "NodeAffinity": _node_affinity,
    "NodeResourcesBalancedAllocation": _balanced,
    "NodeResourcesFit": _fit,
    "PodTopologySpread": _spread,
    "VolumeBinding": _volume_binding,
}
