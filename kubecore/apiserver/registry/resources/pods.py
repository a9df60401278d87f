"""Pods: what they start with, what may change of them, and how long they may take to go."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.api.meta import deepcopy
from kubecore.apiserver.registry.defaulting.podspec import TERMINATION_GRACE_SECONDS, default_pod
from kubecore.apiserver.registry.defaulting.quality import quality_of_service
from kubecore.apiserver.registry.resources import zero_times
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.subresources import keep_metadata
from kubecore.apiserver.registry.validation.pod_resize import resized_containers, validate_resize
from kubecore.apiserver.registry.validation.pod_updates import (
    validate_ephemeral_containers_update,
    validate_pod_update,
    validate_status_update,
)
from kubecore.apiserver.registry.validation.podspec import validate_pod_spec
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_GATED = "Scheduling is blocked due to non-empty scheduling gates"


class PodStrategy(Strategy):
    resource_key = "pods"
    returns_deleted = True

    def default(self, obj: JSON) -> None:
        default_pod(obj)

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        status: JSON = {"phase": "Pending", "qosClass": quality_of_service(obj.get("spec") or {})}
        if (obj.get("spec") or {}).get("schedulingGates"):
            gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": _GATED}
            status["conditions"] = [gated]
        obj["status"] = status

    def prepare_for_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        status = obj.get("status")
        if status and (old["spec"].get("schedulingGates") and not obj["spec"].get("schedulingGates")):
            # The last gate is gone: the scheduler says from now on how the pod stands.
            conditions = [one for one in status.get("conditions") or [] if one.get("reason") != "SchedulingGated"]
            status["conditions"] = conditions

    def prepare_for_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        status, before = obj.setdefault("status", {}), old.get("status") or {}
        if before.get("qosClass"):
            status["qosClass"] = before["qosClass"]
        if not status.get("phase") and before.get("phase"):
            status["phase"] = before["phase"]

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        spec = obj.get("spec") or {}
        if ctx.operation == "CREATE" and spec.get("ephemeralContainers"):
            problems.forbidden("spec.ephemeralContainers", "cannot be set on create")
        if ctx.operation == "CREATE" and spec.get("schedulingGates") and spec.get("nodeName"):
            problems.forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared")
        validate_pod_spec(problems, spec)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return validate_pod_update(obj["spec"], old["spec"])

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return validate_status_update(obj, old)

    def delete_grace(self, ctx: RequestContext, obj: JSON, requested: int | None) -> int | None:
        spec = obj.get("spec") or {}
        if not spec.get("nodeName") or (obj.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
            # Nobody runs it, so nobody has to end it.
            return 0
        seconds = spec.get("terminationGracePeriodSeconds") if requested is None else requested
        if seconds is None:
            seconds = TERMINATION_GRACE_SECONDS
        return 1 if seconds < 0 else int(seconds)

    def subresource_strategy(self, subresource: str) -> Strategy | None:
        return _SUBRESOURCES.get(subresource)

    def canonicalize(self, obj: JSON) -> None:
        zero_times.fill_conditions(obj, zero_times.PROBED)


class EphemeralContainersStrategy(PodStrategy):
    """Updates through pods/ephemeralcontainers: containers are added, nothing else changes."""

    def restrict(self, obj: JSON, old: JSON) -> None:
        containers = (obj.get("spec") or {}).get("ephemeralContainers")
        _keep_all(obj, old)
        if containers:
            obj["spec"]["ephemeralContainers"] = containers
        else:
            obj["spec"].pop("ephemeralContainers", None)

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return validate_ephemeral_containers_update(obj, old)


class ResizeStrategy(PodStrategy):
    """Updates through pods/resize: containers' CPU and memory change, nothing else."""

    def restrict(self, obj: JSON, old: JSON) -> None:
        spec, before = obj.get("spec") or {}, old["spec"]
        resized = {field: resized_containers(spec.get(field) or [], before.get(field) or []) for field in _CONTAINERS}
        if any(len(spec.get(field) or []) != len(before.get(field) or []) for field in _CONTAINERS):
            # Left as it is, for validation to refuse.
            return
        _keep_all(obj, old)
        for field, containers in resized.items():
            if containers:
                obj["spec"][field] = containers

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return validate_resize(obj, old)


_CONTAINERS = ("containers", "initContainers")


def _keep_all(obj: JSON, old: JSON) -> None:
    obj["spec"] = deepcopy(old["spec"])
    if "status" in old:
        obj["status"] = deepcopy(old["status"])
    keep_metadata(obj, old)


_SUBRESOURCES: dict[str, Strategy] = {
    "ephemeralcontainers": EphemeralContainersStrategy(),
    "resize": ResizeStrategy(),
}
