"""Pods: what they start with, what may change of them, and how long they may take to go."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.api.meta import deepcopy
from kubecore.api.quality import quality_of_service
from kubecore.apiserver.registry.defaulting.annotated_profiles import adopt_profiles
from kubecore.apiserver.registry.defaulting.disabled import drop_disabled_status
from kubecore.apiserver.registry.defaulting.labelkeys import select_by_own_labels
from kubecore.apiserver.registry.defaulting.podspec import (
    TERMINATION_GRACE_SECONDS,
    default_addresses,
    default_pod,
)
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.subresources import keep_metadata
from kubecore.apiserver.registry.validation import pod_advice
from kubecore.apiserver.registry.validation.pod_annotations import MIRROR
from kubecore.apiserver.registry.validation.pod_resize import (
    resized_containers,
    validate_resize,
    whom_no_resize_fits,
)
from kubecore.apiserver.registry.validation.pod_status import validate_pod_status
from kubecore.apiserver.registry.validation.pod_updates import (
    validate_ephemeral_containers_update,
    validate_pod_update,
)
from kubecore.apiserver.registry.validation.podspec import validate_new_pod, validate_pod
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_GATED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "SchedulingGated",
    "message": "Scheduling is blocked due to non-empty scheduling gates",
}


class PodStrategy(Strategy):
    resource_key = "pods"
    returns_deleted = True

    def default(self, obj: JSON) -> None:
        default_pod(obj)

    def default_status(self, obj: JSON) -> None:
        if obj.get("status"):
            default_addresses(obj["status"])

    def prepare_for_create(self, ctx: RequestContext, obj: JSON) -> None:
        status: JSON = {"phase": "Pending", "qosClass": quality_of_service(obj.get("spec") or {})}
        if (obj.get("spec") or {}).get("schedulingGates"):
            status["conditions"] = [{**_GATED, "lastProbeTime": None, "lastTransitionTime": ctx.now}]
        obj["status"] = status
        select_by_own_labels(obj)
        if obj["metadata"].get("annotations"):
            for text in adopt_profiles(obj):
                ctx.warn(text)

    def prepare_for_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> None:
        status, before = obj.setdefault("status", {}), old.get("status") or {}
        if not status.get("qosClass") and before.get("qosClass"):
            status["qosClass"] = before["qosClass"]
        _keep_owners(obj["metadata"], old["metadata"])
        _keep_observed_generations(status, before)
        drop_disabled_status(status)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        validate_pod(problems, obj)
        if ctx.operation == "CREATE":
            validate_new_pod(problems, obj)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_pod_update(problems, obj, old)
        return problems

    def validate_status_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_pod_status(problems, obj, old)
        return problems

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        if old is None:
            return pod_advice.of_pod(obj)
        return pod_advice.of_addresses(obj.get("status") or {}) if ctx.subresource == "status" else []

    def delete_grace(self, obj: JSON, requested: int | None) -> int | None:
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


def _keep_owners(metadata: JSON, old: JSON) -> None:
    """Old kubelets garble them."""
    metadata.pop("ownerReferences", None)
    if old.get("ownerReferences"):
        metadata["ownerReferences"] = old["ownerReferences"]


def _keep_observed_generations(status: JSON, old: JSON) -> None:
    """A client that knows nothing of observed generations does not clear them."""
    if not status.get("observedGeneration") and old.get("observedGeneration"):
        status["observedGeneration"] = old["observedGeneration"]
    if not any(condition.get("observedGeneration") for condition in old.get("conditions") or ()):
        return
    seen: dict[str, list[int]] = {}
    for condition in old.get("conditions") or []:
        seen.setdefault(condition.get("type") or "", []).append(condition.get("observedGeneration") or 0)
    for condition in status.get("conditions") or []:
        before = seen.get(condition.get("type") or "") or [0]
        generation = before.pop(0)
        if not condition.get("observedGeneration") and generation:
            condition["observedGeneration"] = generation


class EphemeralContainersStrategy(PodStrategy):
    """Updates through pods/ephemeralcontainers: containers are added, nothing else changes."""

    def restrict(self, obj: JSON, old: JSON) -> None:
        containers = (obj.get("spec") or {}).get("ephemeralContainers")
        _keep_all(obj, old)
        if containers:
            obj["spec"]["ephemeralContainers"] = containers
        else:
            obj["spec"].pop("ephemeralContainers", None)

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        # A static pod is refused for that alone.
        return []

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        validate_ephemeral_containers_update(problems, obj, old)
        static = MIRROR in (old["metadata"].get("annotations") or {})
        return problems if static else [*super().validate(ctx, obj), *problems]


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

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        # A pod that cannot be resized at all is refused for that alone.
        return []

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return whom_no_resize_fits(old) or [*super().validate(ctx, obj), *validate_resize(obj, old)]


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
