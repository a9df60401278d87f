"""ReplicaSets."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.defaulting.podspec import default_pod_template
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import pod_advice
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.workloads import (
    validate_at_most_all,
    validate_counts,
    validate_selected_template,
    validate_selector,
    validate_selector_unchanged,
)

JSON = dict[str, Any]


class ReplicaSetStrategy(Strategy):
    resource_key = "replicasets.apps"
    defaults_status = False

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
        selector = spec.get("selector")
        # Upstream speaks of deployments here too.
        if validate_selector(problems, selector, kind="deployment"):
            validate_selected_template(problems, selector, spec.get("template"), kind="ReplicaSet")
        else:
            problems.invalid("spec.selector", selector, "invalid label selector")
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_selector_unchanged(problems, obj["spec"], old["spec"])
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        return [] if ctx.subresource == "status" else pod_advice.of_workload(obj, old)

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return validate_replica_status(obj.get("status") or {})


_PARTS = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")
_COUNTS = ("replicas", *_PARTS, "observedGeneration", "terminatingReplicas")


def validate_replica_status(status: JSON) -> list[Cause]:
    """The status of a ReplicaSet or ReplicationController."""
    problems = Problems()
    validate_counts(problems, status, "status", _COUNTS)
    validate_at_most_all(problems, status, _PARTS, ready="readyReplicas")
    return problems
