"""HorizontalPodAutoscalers, in their stored version, v2."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.generation import Unversioned
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation.autoscaling import validate_autoscaler
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.versions.autoscalers import CPU_PERCENT, cpu_share, drop_round_trip

JSON = dict[str, Any]


class HorizontalPodAutoscalerStrategy(Unversioned):
    resource_key = "horizontalpodautoscalers.autoscaling"

    def default(self, obj: JSON) -> None:
        drop_round_trip(obj)
        spec = obj.get("spec")
        if spec is None:
            return
        if spec.get("minReplicas") is None:
            spec["minReplicas"] = 1
        if not spec.get("metrics"):
            spec["metrics"] = [cpu_share(CPU_PERCENT)]
        behavior = spec.get("behavior")
        if behavior is not None:
            _default_rules(behavior, "scaleUp", 0, [("Pods", 4), ("Percent", 100)])
            _default_rules(behavior, "scaleDown", None, [("Percent", 100)])

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {"desiredReplicas": 0, "currentMetrics": None}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        # What was valid once may stay: an update is judged beside what it replaces.
        problems = Problems()
        if ctx.operation != "UPDATE":
            validate_autoscaler(problems, obj.get("spec") or {})
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_autoscaler(problems, obj.get("spec") or {}, old.get("spec") or {})
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, status = Problems(), obj.get("status") or {}
        for field in ("currentReplicas", "desiredReplicas"):
            problems.not_negative(f"status.{field}", status.get(field))
        return problems


def _default_rules(behavior: JSON, direction: str, window: int | None, policies: list[tuple[str, int]]) -> None:
    rules = behavior.get(direction)
    if rules is None:
        rules = behavior[direction] = {}
    rules.setdefault("selectPolicy", "Max")
    if window is not None and rules.get("stabilizationWindowSeconds") is None:
        rules["stabilizationWindowSeconds"] = window
    # A list that is empty is no wish for the default.
    if rules.get("policies") is None:
        rules["policies"] = [{"type": kind, "value": value, "periodSeconds": 15} for kind, value in policies]
