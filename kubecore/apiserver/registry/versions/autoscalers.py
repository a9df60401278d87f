"""HorizontalPodAutoscalers: autoscaling/v1 knows a target of CPU alone, and keeps what else v2 says in annotations.

After upstream pkg/apis/autoscaling/v1/conversion.go. The annotations hold what Go would write of the version's types:
metrics and conditions of v1, the behavior as upstream's internal type, whose fields have Go's names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from kubecore.api import quantity, schemas

JSON = dict[str, Any]
# Of one kind of metric: between what a target (or a current value) is in v1 and what it is in v2.
_Pair = tuple[Callable[[JSON], JSON], Callable[[JSON], JSON]]

_PREFIX = "autoscaling.alpha.kubernetes.io/"
METRICS = f"{_PREFIX}metrics"
BEHAVIOR = f"{_PREFIX}behavior"
CURRENT_METRICS = f"{_PREFIX}current-metrics"
CONDITIONS = f"{_PREFIX}conditions"
# No object keeps these: they come and go with the version.
ROUND_TRIP = (
    METRICS,
    BEHAVIOR,
    f"{_PREFIX}scale-down-tolerance",
    f"{_PREFIX}scale-up-tolerance",
    CURRENT_METRICS,
    CONDITIONS,
)

# The target where no metric is wanted.
CPU_PERCENT = 80

_V2 = "autoscaling/v2/HorizontalPodAutoscaler"
# Where v2 has what the annotations hold.
_PLACES = {
    METRICS: ("spec", "metrics"),
    BEHAVIOR: ("spec", "behavior"),
    CURRENT_METRICS: ("status", "currentMetrics"),
    CONDITIONS: ("status", "conditions"),
}
_SPEC = ("scaleTargetRef", "minReplicas", "maxReplicas")
_STATUS = ("observedGeneration", "lastScaleTime")
_CONDITION = ("type", "status", "lastTransitionTime", "reason", "message")


def drop_round_trip(obj: JSON) -> None:
    """Takes away the annotations that only v1 has, in place."""
    annotations = obj["metadata"].get("annotations")
    if annotations and any(name in annotations for name in ROUND_TRIP):
        kept = {name: value for name, value in annotations.items() if name not in ROUND_TRIP}
        if kept:
            obj["metadata"]["annotations"] = kept
        else:
            del obj["metadata"]["annotations"]


def cpu_share(percent: int) -> JSON:
    """The metric that autoscaling/v1 knows."""
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def served(autoscaler: JSON) -> JSON:
    """A v2 object as autoscaling/v1 has it."""
    spec, status = autoscaler.get("spec") or {}, autoscaler.get("status") or {}
    shown = {**autoscaler, "metadata": dict(autoscaler["metadata"])}
    drop_round_trip(shown)
    shown["spec"] = {name: spec[name] for name in _SPEC if name in spec}
    metrics = spec.get("metrics") or []
    targets = [metric for metric in metrics if _is_cpu_share(metric)]
    if targets:
        shown["spec"]["targetCPUUtilizationPercentage"] = targets[0]["resource"]["target"]["averageUtilization"]
    shown["status"] = _shown_status(status)
    notes = {
        METRICS: [_metric_v1(one, _TARGETS) for one in metrics if not _is_cpu_share(one)],
        CURRENT_METRICS: [_metric_v1(one, _VALUES) for one in status.get("currentMetrics") or []],
        BEHAVIOR: _go_behavior(spec["behavior"]) if spec.get("behavior") is not None else None,
        CONDITIONS: [_ordered(one, _CONDITION) for one in status.get("conditions") or []],
    }
    annotations = {name: _go_json(value) for name, value in notes.items() if value}
    if annotations:
        shown["metadata"]["annotations"] = {**(shown["metadata"].get("annotations") or {}), **annotations}
    return shown


def _shown_status(status: JSON) -> JSON:
    shown: JSON = {name: status[name] for name in _STATUS if name in status}
    for name in ("currentReplicas", "desiredReplicas"):
        shown[name] = status.get(name) or 0
    for metric in status.get("currentMetrics") or []:
        share = ((metric.get("resource") or {}).get("current") or {}).get("averageUtilization")
        if metric.get("type") == "Resource" and metric["resource"].get("name") == "cpu" and share is not None:
            shown["currentCPUUtilizationPercentage"] = share
    return shown


def stored(autoscaler: JSON) -> JSON:
    """An object of autoscaling/v1 as v2 has it. An annotation that cannot be read counts as none."""
    spec, status = autoscaler.get("spec") or {}, autoscaler.get("status") or {}
    found = {**autoscaler, "metadata": dict(autoscaler.get("metadata") or {})}
    notes = found["metadata"].get("annotations") or {}
    drop_round_trip(found)
    found["spec"] = {name: spec[name] for name in _SPEC if name in spec}
    metrics = _read(notes, METRICS, lambda held: [_metric_v2(one, _TARGETS) for one in held]) or []
    share = spec.get("targetCPUUtilizationPercentage")
    if share is not None:
        metrics = [*metrics, cpu_share(share)]
    # Here upstream has the default of v1, which cannot say that there are others.
    found["spec"]["metrics"] = metrics or [cpu_share(CPU_PERCENT)]
    if behavior := _read(notes, BEHAVIOR, _plain_behavior):
        found["spec"]["behavior"] = behavior
    if "status" in autoscaler:
        found["status"] = _stored_status(status, notes)
    return found


def _stored_status(status: JSON, notes: JSON) -> JSON:
    found: JSON = {name: status[name] for name in _STATUS if name in status}
    if status.get("currentReplicas"):
        found["currentReplicas"] = status["currentReplicas"]
    found["desiredReplicas"] = status.get("desiredReplicas") or 0
    share, metrics = status.get("currentCPUUtilizationPercentage"), None
    if share is not None:
        metrics = [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": share}}}]
    held = _read(notes, CURRENT_METRICS, lambda held: [_metric_v2(one, _VALUES) for one in held])
    found["currentMetrics"] = metrics if held is None else held
    if conditions := _read(notes, CONDITIONS, lambda held: [_ordered(one, _CONDITION) for one in held]):
        found["conditions"] = conditions
    return found


def _read(notes: JSON, name: str, make: Callable[[Any], Any]) -> Any:
    """What an annotation holds, as v2 has it; None without it, and for what v2 could not have there."""
    if name not in notes:
        return None
    try:
        made = make(orjson.loads(notes[name]) or [])
        if not made:
            return made
        section, field = _PLACES[name]
        decoded = schemas.default().decode(_V2, orjson.dumps({section: {field: made}}))
    except (
        orjson.JSONDecodeError,
        schemas.SchemaError,
        quantity.InvalidQuantity,
        TypeError,
        KeyError,
        AttributeError,
    ):
        return None
    return orjson.loads(decoded.body).get(section, {}).get(field)


def _is_cpu_share(metric: JSON) -> bool:
    source = metric.get("resource") or {}
    share = (source.get("target") or {}).get("averageUtilization")
    return metric.get("type") == "Resource" and source.get("name") == "cpu" and share is not None


# --- metrics


def _given(**fields: Any) -> JSON:
    return {name: value for name, value in fields.items() if value is not None}


def _named(source: JSON, selector: str) -> JSON:
    """The name and selector of a v1 metric as v2 has them."""
    return {"metric": _given(name=source.get("metricName") or "", selector=source.get(selector))}


def _amount(value: Any) -> str:
    """A quantity that v1 always has. Raises InvalidQuantity."""
    return quantity.canonical("0" if value is None else value)


def _optional(value: Any) -> str | None:
    return None if value is None else _amount(value)


def _selector(selector: JSON | None) -> JSON | None:
    if selector is None:
        return None
    labels = selector.get("matchLabels")
    expressions = [_ordered(one, ("key", "operator", "values")) for one in selector.get("matchExpressions") or []]
    return _given(matchLabels=dict(sorted(labels.items())) if labels else None, matchExpressions=expressions or None)


def _described(target: JSON) -> JSON:
    shown = _ordered(target, ("kind", "name", "apiVersion"))
    return {"kind": "", "name": "", **shown}


def _metric_v1(metric: JSON, kinds: dict[str, _Pair]) -> JSON:
    """A metric of v2 in v1's words, its fields in Go's order."""
    shown: JSON = {"type": metric.get("type") or ""}
    for kind, (to_v1, _) in kinds.items():
        if metric.get(kind) is not None:
            shown[kind] = to_v1(metric[kind])
    return shown


def _metric_v2(metric: JSON, kinds: dict[str, _Pair]) -> JSON:
    found: JSON = {"type": metric.get("type") or ""}
    for kind, (_, to_v2) in kinds.items():
        if metric.get(kind) is not None:
            found[kind] = to_v2(metric[kind])
    return found


def _object_v1(source: JSON) -> JSON:
    metric, value = source.get("metric") or {}, source.get("target") or source.get("current") or {}
    amount = "targetValue" if "target" in source else "currentValue"
    return _given(
        target=_described(source.get("describedObject") or {}),
        metricName=metric.get("name") or "",
        **{amount: _amount(value.get("value"))},
        selector=_selector(metric.get("selector")),
        averageValue=value.get("averageValue"),
    )


def _object_v2(source: JSON, *, target: bool) -> JSON:
    average = _optional(source.get("averageValue"))
    amount = _amount(source.get("targetValue" if target else "currentValue"))
    value = _given(value=amount, averageValue=average)
    if target:
        value = {"type": "Value" if average is None else "AverageValue", **value}
    described = _ordered(source.get("target") or {}, ("kind", "name", "apiVersion"))
    return {"describedObject": described, "target" if target else "current": value, **_named(source, "selector")}


def _pods_v1(source: JSON) -> JSON:
    metric, value = source.get("metric") or {}, source.get("target") or source.get("current") or {}
    amount = "targetAverageValue" if "target" in source else "currentAverageValue"
    return _given(
        metricName=metric.get("name") or "",
        **{amount: _amount(value.get("averageValue"))},
        selector=_selector(metric.get("selector")),
    )


def _pods_v2(source: JSON, *, target: bool) -> JSON:
    amount = _amount(source.get("targetAverageValue" if target else "currentAverageValue"))
    value = {"type": "AverageValue", "averageValue": amount} if target else {"averageValue": amount}
    return {**_named(source, "selector"), "target" if target else "current": value}


def _resource_v1(source: JSON) -> JSON:
    if "target" in source:
        target = source["target"] or {}
        share, amount = target.get("averageUtilization"), target.get("averageValue")
        values = _given(targetAverageUtilization=share, targetAverageValue=amount)
    else:
        current = source.get("current") or {}
        values = _given(
            currentAverageUtilization=current.get("averageUtilization"),
            currentAverageValue=_amount(current.get("averageValue")),
        )
    return _given(name=source.get("name") or "", **values, container=source.get("container"))


def _resource_v2(source: JSON, *, target: bool) -> JSON:
    prefix = "target" if target else "current"
    share, amount = source.get(f"{prefix}AverageUtilization"), source.get(f"{prefix}AverageValue")
    if target:
        kind = "AverageValue" if share is None else "Utilization"
        value = _given(type=kind, averageValue=_optional(amount), averageUtilization=share)
    else:
        value = _given(averageValue=_amount(amount), averageUtilization=share)
    return _given(name=source.get("name") or "", **{prefix: value}, container=source.get("container"))


def _external_v1(source: JSON) -> JSON:
    metric, selector = source.get("metric") or {}, _selector((source.get("metric") or {}).get("selector"))
    named = _given(metricName=metric.get("name") or "", metricSelector=selector)
    if "target" in source:
        target = source["target"] or {}
        return {**named, **_given(targetValue=target.get("value"), targetAverageValue=target.get("averageValue"))}
    current = source.get("current") or {}
    average = current.get("averageValue")
    return {**named, **_given(currentValue=_amount(current.get("value")), currentAverageValue=average)}


def _external_v2(source: JSON, *, target: bool) -> JSON:
    if target:
        amount, average = _optional(source.get("targetValue")), _optional(source.get("targetAverageValue"))
        kind = "AverageValue" if amount is None else "Value"
        value = _given(type=kind, value=amount, averageValue=average)
    else:
        average = _optional(source.get("currentAverageValue"))
        value = _given(value=_amount(source.get("currentValue")), averageValue=average)
    return {**_named(source, "metricSelector"), "target" if target else "current": value}


def _pairs(*, target: bool) -> dict[str, _Pair]:
    return {
        "object": (_object_v1, lambda source: _object_v2(source, target=target)),
        "pods": (_pods_v1, lambda source: _pods_v2(source, target=target)),
        "resource": (_resource_v1, lambda source: _resource_v2(source, target=target)),
        "containerResource": (_resource_v1, lambda source: _resource_v2(source, target=target)),
        "external": (_external_v1, lambda source: _external_v2(source, target=target)),
    }


_TARGETS, _VALUES = _pairs(target=True), _pairs(target=False)


# --- behavior


_RULES = ("stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance")
_POLICY = ("type", "value", "periodSeconds")


def _go_name(name: str) -> str:
    return name[:1].upper() + name[1:]


def _go_behavior(behavior: JSON) -> JSON:
    return {_go_name(name): _go_rules(behavior.get(name)) for name in ("scaleUp", "scaleDown")}


def _go_rules(rules: JSON | None) -> JSON | None:
    if rules is None:
        return None
    shown = {_go_name(name): rules.get(name) for name in _RULES}
    if rules.get("policies") is not None:
        shown["Policies"] = [{_go_name(name): policy.get(name) for name in _POLICY} for policy in rules["policies"]]
    return shown


def _plain_behavior(held: JSON) -> JSON:
    found = {}
    for name in ("scaleUp", "scaleDown"):
        rules = _member(held, name)
        if rules is not None:
            found[name] = _plain_rules(rules)
    return found


def _plain_rules(rules: JSON) -> JSON:
    found = _given(**{name: _member(rules, name) for name in _RULES})
    if found.get("tolerance") is not None:
        found["tolerance"] = _amount(found["tolerance"])
    if "policies" in found:
        zero = {"type": "", "value": 0, "periodSeconds": 0}
        found["policies"] = [
            {**zero, **_given(**{name: _member(policy, name) for name in _POLICY})} for policy in found["policies"]
        ]
    return found


def _member(holder: JSON, name: str) -> Any:
    """Go's decoder does not mind the case of names."""
    return next((value for key, value in holder.items() if key.lower() == name.lower()), None)


# --- JSON as Go writes it


def _ordered(holder: JSON, names: tuple[str, ...]) -> JSON:
    return {name: holder[name] for name in names if name in holder}


_ESCAPED = ((b"&", b"\\u0026"), (b"<", b"\\u003c"), (b">", b"\\u003e"))


def _go_json(value: Any) -> str:
    text = orjson.dumps(value)
    for char, escape in _ESCAPED:
        text = text.replace(char, escape)
    return text.decode()
