"""Deployments."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.podspec import default_pod_template
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation.labels import validate_workload_selector
from kubecore.apiserver.registry.validation.podspec import validate_running_template
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.workloads import (
    is_nothing,
    validate_counts,
    validate_int_or_percent,
    validate_selector_unchanged,
)

JSON = dict[str, Any]

_REVISIONS, _DEADLINE_SECONDS, _SHARE = 10, 600, "25%"


class DeploymentStrategy(Strategy):
    resource_key = "deployments.apps"

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            return
        spec.setdefault("replicas", 1)
        strategy = spec.get("strategy")
        if strategy is None:
            strategy = spec["strategy"] = {}
        kind = strategy["type"] = strategy.get("type") or "RollingUpdate"
        if kind == "RollingUpdate":
            rolling = strategy.get("rollingUpdate")
            if rolling is None:
                rolling = strategy["rollingUpdate"] = {}
            rolling.setdefault("maxUnavailable", _SHARE)
            rolling.setdefault("maxSurge", _SHARE)
        spec.setdefault("revisionHistoryLimit", _REVISIONS)
        spec.setdefault("progressDeadlineSeconds", _DEADLINE_SECONDS)
        default_pod_template(spec.get("template"))

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        spec, problems = obj.get("spec") or {}, Problems()
        validate_counts(problems, spec, "spec", ("replicas", "minReadySeconds", "revisionHistoryLimit"))
        validate_workload_selector(problems, spec, kind="deployment")
        validate_running_template(problems, spec.get("template"), "spec.template", kind="ReplicaSet")
        _update_strategy(problems, spec.get("strategy") or {})
        deadline = spec.get("progressDeadlineSeconds")
        if deadline is not None:
            problems.not_negative("spec.progressDeadlineSeconds", deadline)
            if deadline <= (spec.get("minReadySeconds") or 0):
                problems.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_selector_unchanged(problems, obj["spec"], old["spec"])
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return validate_deployment_status(obj.get("status") or {}, old.get("status") or {})


def _update_strategy(problems: Problems, strategy: JSON) -> None:
    path, rolling = "spec.strategy", strategy.get("rollingUpdate")
    match strategy.get("type"):
        case "Recreate":
            if rolling is not None:
                detail = "may not be specified when strategy `type` is 'Recreate'"
                problems.forbidden(f"{path}.rollingUpdate", detail)
        case "RollingUpdate":
            if rolling is None:
                problems.required(f"{path}.rollingUpdate", "this should be defaulted and never be nil")
                return
            where = f"{path}.rollingUpdate"
            unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
            validate_int_or_percent(problems, unavailable, f"{where}.maxUnavailable", at_most_all=True)
            validate_int_or_percent(problems, surge, f"{where}.maxSurge")
            if is_nothing(unavailable) and is_nothing(surge):
                detail = "may not be 0 when `maxSurge` is 0"
                problems.invalid(f"{where}.maxUnavailable", unavailable, detail)
        case kind:
            problems.one_of(f"{path}.type", kind, ("Recreate", "RollingUpdate"), required=True)


_STATUS_COUNTS = (
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "collisionCount",
)


def validate_deployment_status(status: JSON, old: JSON) -> list[Cause]:
    """Counts that fit together, and a collision count that never falls."""
    problems = Problems()
    validate_counts(problems, status, "status", _STATUS_COUNTS)
    total, ready = status.get("replicas") or 0, status.get("readyReplicas") or 0
    available = status.get("availableReplicas") or 0
    for field in ("updatedReplicas", "readyReplicas", "availableReplicas"):
        if (status.get(field) or 0) > total:
            problems.invalid(f"status.{field}", status.get(field) or 0, "cannot be greater than status.replicas")
    if available > ready:
        problems.invalid("status.availableReplicas", available, "cannot be greater than readyReplicas")
    collisions, before = status.get("collisionCount"), old.get("collisionCount")
    if before is not None and (collisions or 0) < before:
        problems.invalid("status.collisionCount", collisions, "cannot be decremented")
    return problems
