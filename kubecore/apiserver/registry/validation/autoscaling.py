"""HorizontalPodAutoscalers: what is scaled, by which metrics, how fast.

After kubernetes `pkg/apis/autoscaling/validation/validation.go`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubecore.api import quantity
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.resources import validate_container_resource_name

JSON = dict[str, Any]

_MOST_STABILIZATION, _MOST_PERIOD = 3600, 1800
_TARGET_TYPES = ("Utilization", "Value", "AverageValue")
# The one kind of the group without a name that can be scaled.
_CORE_KIND = "ReplicationController"
_SELECT = ("Disabled", "Max", "Min")
_POLICIES = ("Percent", "Pods")


def validate_autoscaler(problems: Problems, spec: JSON, old: JSON | None = None) -> None:
    """`old` is the spec an update replaces: references that were wrong there may stay."""
    least, most, old = spec.get("minReplicas"), spec.get("maxReplicas") or 0, old or {}
    lowest = 0 if old.get("minReplicas") == 0 else 1
    if least is not None and least < lowest:
        problems.invalid("spec.minReplicas", least, f"must be greater than or equal to {lowest}")
    if most < 1:
        problems.invalid("spec.maxReplicas", most, "must be greater than 0")
    if least is not None and most < least:
        problems.invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
    target, path = spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef"
    _reference(problems, target, path)
    if not _same_kind(target, old.get("scaleTargetRef")):
        _version(problems, target, f"{path}.apiVersion", needs_group=target.get("kind") != _CORE_KIND)
    _metrics(problems, spec, "spec.metrics", any_version=_has_wrong_version(old))
    for direction, rules in (spec.get("behavior") or {}).items():
        _rules(problems, rules or {}, f"spec.behavior.{direction}")


def _same_kind(new: JSON, old: JSON | None) -> bool:
    return old is not None and all((new.get(one) or "") == (old.get(one) or "") for one in ("apiVersion", "kind"))


def _reference(problems: Problems, reference: JSON, path: str) -> None:
    for field in ("kind", "name"):
        problems.check_needed(f"{path}.{field}", reference.get(field), names.path_segment)


def _version(problems: Problems, reference: JSON, path: str, *, needs_group: bool) -> None:
    version = reference.get("apiVersion") or ""
    if version.count("/") > 1:
        problems.invalid(path, version, f"unexpected GroupVersion string: {version}")
    elif needs_group and "/" not in version.strip("/"):
        problems.invalid(path, version, "apiVersion must specify API group")


# --- metrics


def _metrics(problems: Problems, spec: JSON, path: str, *, any_version: bool) -> None:
    metrics = spec.get("metrics") or []
    for index, metric in enumerate(metrics):
        _metric(problems, metric, f"{path}[{index}]")
        where = f"{path}[{index}].object.describedObject.apiVersion"
        if metric.get("object") is not None and not any_version:
            _version(problems, metric["object"].get("describedObject") or {}, where, needs_group=False)
    if spec.get("minReplicas") == 0 and not any(one.get("type") in ("Object", "External") for one in metrics):
        detail = "must specify at least one Object or External metric to support scaling to zero replicas"
        problems.forbidden(path, detail)


def _has_wrong_version(spec: JSON) -> bool:
    """Whether an object metric already names a version that is none."""
    described = [
        (one.get("object") or {}).get("describedObject") or {}
        for one in spec.get("metrics") or []
        if one.get("type") == "Object"
    ]
    return any((one.get("apiVersion") or "").count("/") > 1 for one in described)


def _metric(problems: Problems, metric: JSON, path: str) -> None:
    kind = metric.get("type")
    if not kind:
        problems.required(f"{path}.type", "must specify a metric source type")
    if kind not in _FIELDS:
        problems.unsupported(f"{path}.type", kind or "", tuple(_FIELDS))
    given = [field for field in _SOURCES if metric.get(field) is not None]
    if given:
        _SOURCES[given[0]](problems, metric[given[0]], f"{path}.{given[0]}")
    expected = _FIELDS.get(kind or "")
    if expected and expected not in given:
        problems.required(f"{path}.{expected}", "must populate information for the given metric source")
    if len(given) != 1:
        for field in given:
            if field != expected:
                problems.forbidden(f"{path}.{field}", "must populate the given metric source only")


def _object(problems: Problems, source: JSON, path: str) -> None:
    _reference(problems, source.get("describedObject") or {}, f"{path}.describedObject")
    _identifier(problems, source, path)
    target = _target(problems, source, path)
    if target.get("value") is None and target.get("averageValue") is None:
        problems.required(f"{path}.target.averageValue", "must set either a target value or averageValue")


def _external(problems: Problems, source: JSON, path: str) -> None:
    _identifier(problems, source, path)
    target = _target(problems, source, path)
    given = [target.get(field) is not None for field in ("value", "averageValue")]
    if not any(given):
        detail = "must set either a target value for metric or a per-pod target"
        problems.required(f"{path}.target.averageValue", detail)
    elif all(given):
        detail = "may not set both a target value for metric and a per-pod target"
        problems.forbidden(f"{path}.target.value", detail)


def _pods(problems: Problems, source: JSON, path: str) -> None:
    _identifier(problems, source, path)
    average = _target(problems, source, path).get("averageValue")
    if average is None:
        problems.required(f"{path}.target.averageValue", "must specify a positive target averageValue")


def _container_resource(problems: Problems, source: JSON, path: str) -> None:
    if not source.get("container"):
        problems.required(f"{path}.container", "must specify a container")
    else:
        problems.check(f"{path}.container", source["container"], names.dns_label)
    if source.get("name"):
        validate_container_resource_name(problems, source["name"], f"{path}.name")
    _resource(problems, source, path)


def _resource(problems: Problems, source: JSON, path: str) -> None:
    if not source.get("name"):
        problems.required(f"{path}.name", "must specify a resource name")
    target = _target(problems, source, path)
    given = [target.get(field) is not None for field in ("averageUtilization", "averageValue")]
    if not any(given):
        detail = "must set either a target raw value or a target utilization"
        problems.required(f"{path}.target.averageUtilization", detail)
    elif all(given):
        detail = "may not set both a target raw value and a target utilization"
        problems.forbidden(f"{path}.target.averageValue", detail)


# In the order in which upstream looks at them: the first that is there is checked.
_SOURCES: dict[str, Callable[[Problems, JSON, str], None]] = {
    "object": _object,
    "external": _external,
    "pods": _pods,
    "resource": _resource,
    "containerResource": _container_resource,
}
_FIELDS = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}


def _identifier(problems: Problems, source: JSON, path: str) -> None:
    name = (source.get("metric") or {}).get("name")
    if not name:
        problems.required(f"{path}.metric.name", "must specify a metric name")
    else:
        problems.check(f"{path}.metric.name", name, names.path_segment)


def _target(problems: Problems, source: JSON, path: str) -> JSON:
    """Hands the target back."""
    target: JSON = source.get("target") or {}
    path, kind = f"{path}.target", target.get("type") or ""
    if not kind:
        problems.required(f"{path}.type", "must specify a metric target type")
    if kind not in _TARGET_TYPES:
        problems.invalid(f"{path}.type", kind, "must be either Utilization, Value, or AverageValue")
    for field in ("value", "averageValue"):
        amount = target.get(field)
        if amount is not None and quantity.nano(amount) <= 0:
            problems.invalid(f"{path}.{field}", amount, "must be positive")
    utilization = target.get("averageUtilization")
    if utilization is not None and utilization < 1:
        problems.invalid(f"{path}.averageUtilization", utilization, "must be greater than 0")
    return target


# --- behavior


def _rules(problems: Problems, rules: JSON, path: str) -> None:
    window = rules.get("stabilizationWindowSeconds")
    where = f"{path}.stabilizationWindowSeconds"
    if window is not None and window < 0:
        problems.invalid(where, window, "must be greater than or equal to zero")
    if window is not None and window > _MOST_STABILIZATION:
        problems.invalid(where, window, f"must be less than or equal to {_MOST_STABILIZATION}")
    tolerance = rules.get("tolerance")
    if tolerance is not None and quantity.nano(tolerance) < 0:
        problems.invalid(f"{path}.tolerance", tolerance, names.NOT_NEGATIVE)
    problems.one_of_if_given(f"{path}.selectPolicy", rules.get("selectPolicy"), _SELECT)
    if not rules.get("policies"):
        problems.required(f"{path}.policies", "must specify at least one Policy")
    for index, policy in enumerate(rules.get("policies") or []):
        _policy(problems, policy, f"{path}.policies[{index}]")


def _policy(problems: Problems, policy: JSON, path: str) -> None:
    kind, value, period = policy.get("type") or "", policy.get("value") or 0, policy.get("periodSeconds") or 0
    if kind not in _POLICIES:
        problems.unsupported(f"{path}.type", kind, _POLICIES)
    for field, amount in (("value", value), ("periodSeconds", period)):
        if amount <= 0:
            problems.invalid(f"{path}.{field}", amount, names.POSITIVE)
    if period > _MOST_PERIOD:
        problems.invalid(f"{path}.periodSeconds", period, f"must be less than or equal to {_MOST_PERIOD}")
