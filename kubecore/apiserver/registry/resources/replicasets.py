"""ReplicaSets."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.podspec import default_pod_template
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation.labels import validate_workload_selector
from kubecore.apiserver.registry.validation.podspec import validate_running_template
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.workloads import validate_counts, validate_selector_unchanged

JSON = dict[str, Any]


class ReplicaSetStrategy(Strategy):
    resource_key = "replicasets.apps"

    def default(self, obj: JSON) -> None:
        spec = obj.get("spec")
        if spec is not None:
            spec.setdefault("replicas", 1)
            default_pod_template(spec.get("template"))

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        obj["status"] = {"replicas": 0}

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        spec, problems = obj.get("spec") or {}, Problems()
        validate_counts(problems, spec, "spec", ("replicas", "minReadySeconds"))
        validate_workload_selector(problems, spec, kind="replicaset")
        validate_running_template(problems, spec.get("template"), "spec.template", kind="ReplicaSet")
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_selector_unchanged(problems, obj["spec"], old["spec"])
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return validate_replica_status(obj.get("status") or {})


_COUNTS = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration")


def validate_replica_status(status: JSON) -> list[Cause]:
    """The status of a ReplicaSet or ReplicationController."""
    problems = Problems()
    validate_counts(problems, status, "status", _COUNTS)
    total = status.get("replicas") or 0
    for field in ("fullyLabeledReplicas", "readyReplicas", "availableReplicas"):
        if (status.get(field) or 0) > total:
            problems.invalid(f"status.{field}", status[field], "cannot be greater than status.replicas")
    if (status.get("availableReplicas") or 0) > (status.get("readyReplicas") or 0):
        detail = "cannot be greater than readyReplicas"
        problems.invalid("status.availableReplicas", status["availableReplicas"], detail)
    return problems
