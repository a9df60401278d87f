"""Deployments."""

from __future__ import annotations

from typing import Any

from kubecore.api import meta
from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.podspec import default_pod_template
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import pod_advice
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.workloads import (
    is_nothing,
    validate_at_most_all,
    validate_collisions,
    validate_counts,
    validate_int_or_percent,
    validate_selected_template,
    validate_selector,
    validate_selector_unchanged,
)

JSON = dict[str, Any]

_REVISIONS, _DEADLINE_SECONDS, _SHARE = 10, 600, "25%"


class DeploymentStrategy(Strategy):
    resource_key = "deployments.apps"
    defaults_status = False

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

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        # Annotations are copied to the ReplicaSets, so that a change of them is one to be carried out.
        if meta.annotations(obj) != meta.annotations(old):
            obj["metadata"]["generation"] = meta.generation(old) + 1

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        spec, problems = obj.get("spec") or {}, Problems()
        validate_counts(problems, spec, "spec", ("replicas", "minReadySeconds", "revisionHistoryLimit"))
        selector = spec.get("selector")
        if validate_selector(problems, selector, kind="deployment"):
            validate_selected_template(problems, selector, spec.get("template"), kind="ReplicaSet")
        else:
            problems.invalid("spec.selector", selector, "invalid label selector")
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

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        return [] if ctx.subresource == "status" else pod_advice.of_workload(obj, old)

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
        case _:
            problems.unsupported(path, strategy, ("Recreate", "RollingUpdate"))


_STATUS_COUNTS = (
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "terminatingReplicas",
    "collisionCount",
)


def validate_deployment_status(status: JSON, old: JSON) -> list[Cause]:
    """Counts that fit together, and a collision count that never falls."""
    problems = Problems()
    validate_counts(problems, status, "status", _STATUS_COUNTS)
    counted = ("updatedReplicas", "readyReplicas", "availableReplicas")
    validate_at_most_all(problems, status, counted, ready="readyReplicas")
    validate_collisions(problems, status, old)
    return problems
