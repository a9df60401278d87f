"""HorizontalPodAutoscalers, in their stored version, v2."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_CPU_PERCENT = 80
_SOURCES = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_MOST_STABILIZATION, _MOST_PERIOD = 3600, 1800


class HorizontalPodAutoscalerStrategy(Unversioned):
    resource_key = "horizontalpodautoscalers.autoscaling"

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            return
        if spec.get("minReplicas") is None:
            spec["minReplicas"] = 1
        if not spec.get("metrics"):
            target = {"type": "Utilization", "averageUtilization": _CPU_PERCENT}
            spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
        behavior = spec.get("behavior")
        if behavior is not None:
            _default_rules(behavior, "scaleUp", 0, [("Pods", 4), ("Percent", 100)])
            _default_rules(behavior, "scaleDown", None, [("Percent", 100)])

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {"desiredReplicas": 0, "currentMetrics": None}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
        if least is not None and least < 1:
            problems.invalid("spec.minReplicas", least, "must be greater than or equal to 1")
        if most < 1:
            problems.invalid("spec.maxReplicas", most, names.POSITIVE)
        if least is not None and most < least:
            problems.invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
        target = spec.get("scaleTargetRef") or {}
        for field in ("kind", "name"):
            value = target.get(field)
            if not value:
                problems.required(f"spec.scaleTargetRef.{field}")
            else:
                problems.check(f"spec.scaleTargetRef.{field}", value, names.path_segment)
        for index, metric in enumerate(spec.get("metrics") or []):
            _metric(problems, metric, f"spec.metrics[{index}]")
        for direction, rules in (spec.get("behavior") or {}).items():
            _rules(problems, rules or {}, f"spec.behavior.{direction}")
        return problems


def _default_rules(behavior: JSON, direction: str, window: int | None, policies: list[tuple[str, int]]) -> None:
    rules = behavior.get(direction)
    if rules is None:
        rules = behavior[direction] = {}
    rules["selectPolicy"] = rules.get("selectPolicy") or "Max"
    if window is not None and rules.get("stabilizationWindowSeconds") is None:
        rules["stabilizationWindowSeconds"] = window
    if not rules.get("policies"):
        rules["policies"] = [{"type": kind, "value": value, "periodSeconds": 15} for kind, value in policies]


def _metric(problems: Problems, metric: JSON, path: str) -> None:
    kind = metric.get("type")
    if not kind:
        problems.required(f"{path}.type", "must specify a metric source type")
        return
    if kind not in _SOURCES:
        problems.unsupported(f"{path}.type", kind, tuple(_SOURCES))
        return
    field = _SOURCES[kind]
    source = metric.get(field)
    if source is None:
        detail = f"must populate information for the given metric source type {kind}"
        problems.required(f"{path}.{field}", detail)
        return
    target = source.get("target") or {}
    where = f"{path}.{field}.target"
    problems.one_of(f"{where}.type", target.get("type"), ("AverageValue", "Utilization", "Value"), required=True)
    values = [target.get(name) for name in ("value", "averageValue", "averageUtilization")]
    if all(value is None for value in values):
        problems.required(where, "must set either a value, averageValue or averageUtilization")
    utilization = target.get("averageUtilization")
    if utilization is not None and utilization < 1:
        problems.invalid(f"{where}.averageUtilization", utilization, "must be greater than 0")


def _rules(problems: Problems, rules: JSON, path: str) -> None:
    window = rules.get("stabilizationWindowSeconds")
    if window is not None:
        problems.not_negative(f"{path}.stabilizationWindowSeconds", window)
        if window > _MOST_STABILIZATION:
            detail = f"must be less than or equal to {_MOST_STABILIZATION}"
            problems.invalid(f"{path}.stabilizationWindowSeconds", window, detail)
    problems.one_of(f"{path}.selectPolicy", rules.get("selectPolicy"), ("Disabled", "Max", "Min"))
    for index, policy in enumerate(rules.get("policies") or []):
        where = f"{path}.policies[{index}]"
        problems.one_of(f"{where}.type", policy.get("type"), ("Percent", "Pods"), required=True)
        problems.positive(f"{where}.value", policy.get("value", 0))
        period = policy.get("periodSeconds", 0)
        problems.positive(f"{where}.periodSeconds", period)
        if period > _MOST_PERIOD:
            problems.invalid(f"{where}.periodSeconds", period, f"must be less than or equal to {_MOST_PERIOD}")
