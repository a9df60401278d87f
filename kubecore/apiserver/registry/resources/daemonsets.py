"""DaemonSets."""

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

_REVISIONS = 10
_STATUS_COUNTS = (
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
)


class DaemonSetStrategy(Strategy):
    resource_key = "daemonsets.apps"

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is None:
            return
        strategy = spec.get("updateStrategy")
        if strategy is None:
            strategy = spec["updateStrategy"] = {}
        kind = strategy["type"] = strategy.get("type") or "RollingUpdate"
        if kind == "RollingUpdate":
            rolling = strategy.get("rollingUpdate")
            if rolling is None:
                rolling = strategy["rollingUpdate"] = {}
            rolling.setdefault("maxUnavailable", 1)
            rolling.setdefault("maxSurge", 0)
        spec.setdefault("revisionHistoryLimit", _REVISIONS)
        default_pod_template(spec.get("template"))

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        names = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
        obj["status"] = dict.fromkeys(names, 0)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        spec, problems = obj.get("spec") or {}, Problems()
        validate_workload_selector(problems, spec, kind="daemonset")
        validate_running_template(problems, spec.get("template"), "spec.template", kind="DaemonSet")
        validate_counts(problems, spec, "spec", ("minReadySeconds", "revisionHistoryLimit"))
        _update_strategy(problems, spec.get("updateStrategy") or {})
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_selector_unchanged(problems, obj["spec"], old["spec"])
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_counts(problems, obj.get("status") or {}, "status", _STATUS_COUNTS)
        return problems


def _update_strategy(problems: Problems, strategy: JSON) -> None:
    path = "spec.updateStrategy"
    problems.one_of(f"{path}.type", strategy.get("type"), ("OnDelete", "RollingUpdate"), required=True)
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type") != "RollingUpdate" or rolling is None:
        return
    where, unavailable, surge = f"{path}.rollingUpdate", rolling.get("maxUnavailable"), rolling.get("maxSurge")
    validate_int_or_percent(problems, unavailable, f"{where}.maxUnavailable", at_most_all=True)
    validate_int_or_percent(problems, surge, f"{where}.maxSurge", at_most_all=True)
    if not is_nothing(unavailable) and not is_nothing(surge):
        problems.invalid(f"{where}.maxSurge", surge, "may not be set when maxUnavailable is non-zero")
    elif is_nothing(unavailable) and is_nothing(surge):
        problems.required(f"{where}.maxUnavailable", "cannot be 0 when maxSurge is 0")
