"""PodDisruptionBudgets."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.conditions import validate_conditions
from kubecore.apiserver.registry.validation.labels import validate_label_selector
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.workloads import validate_counts, validate_int_or_percent

JSON = dict[str, Any]

_STATUS_COUNTS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")


class PodDisruptionBudgetStrategy(Strategy):
    resource_key = "poddisruptionbudgets.policy"
    allow_unconditional_update = False
    any_finalizer = True
    name_errors = staticmethod(names.path_segment)

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = dict.fromkeys(_STATUS_COUNTS, 0)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, spec = Problems(), obj.get("spec") or {}
        least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
        if least is not None and most is not None:
            problems.invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set")
        for field, value in (("minAvailable", least), ("maxUnavailable", most)):
            if value is not None:
                validate_int_or_percent(problems, value, f"spec.{field}", at_most_all=True)
        policy, policies = spec.get("unhealthyPodEvictionPolicy"), ("AlwaysAllow", "IfHealthyBudget")
        problems.one_of_if_given("spec.unhealthyPodEvictionPolicy", policy, policies)
        validate_label_selector(problems, spec.get("selector"), "spec.selector")
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems, status = Problems(), obj.get("status") or {}
        validate_conditions(problems, status.get("conditions") or [], "status.conditions")
        validate_counts(problems, status, "status", _STATUS_COUNTS)
        return problems
