"""What may change of a pod through pods/resize: CPU and memory of its containers and sidecars, within limits.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidatePodResize, and the resize strategy of
`pkg/registry/core/pod`.
"""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.api.quality import quality_of_service
from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.validation.pod_annotations import MIRROR
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_RESIZABLE = ("cpu", "memory")
_FIELDS = ("containers", "initContainers")
_ONLY = "only cpu and memory resources are mutable"


def resized_containers(new: list[JSON], old: list[JSON]) -> list[JSON]:
    """The old containers with the new ones' resources and resize policies; the new ones where they are others."""
    if [one.get("name") for one in new] != [one.get("name") for one in old]:
        return new
    return [_resized(container, before) for container, before in zip(new, old, strict=True)]


def _resized(container: JSON, old: JSON) -> JSON:
    merged = dict(old)
    for field in ("resources", "resizePolicy"):
        if field in container:
            merged[field] = container[field]
        else:
            merged.pop(field, None)
    return merged


def whom_no_resize_fits(before: JSON) -> list[Cause]:
    """Why this pod cannot be resized, whatever is asked of it."""
    problems = Problems()
    if MIRROR in (before["metadata"].get("annotations") or {}):
        problems.forbidden("[]", "static pods cannot be resized")
    elif (before["spec"].get("os") or {}).get("name") == "windows":
        problems.forbidden("[]", "windows pods cannot be resized")
    return problems


def validate_resize(pod: JSON, before: JSON) -> list[Cause]:
    """All that is wrong with a resize of a pod that can be resized."""
    problems, spec, old = Problems(), pod["spec"], before["spec"]
    status = before.get("status") or {}
    if quality_of_service(spec) != (status.get("qosClass") or quality_of_service(old)):
        shown = (pod.get("status") or {}).get("qosClass") or ""
        problems.invalid("spec", shown, "Pod QOS Class may not change as a result of resizing")
    if not _node_resizes(status):
        problems.forbidden("spec", "Pod running on node without support for resize")
    if _has_own_resources(spec) or _has_own_resources(old):
        gate = "InPlacePodLevelResourcesVerticalScalingEnabled feature gate is disabled"
        problems.forbidden("[]", f"resize of pods with pod-level resources is forbidden when {gate}")
        return problems
    if not _same_containers(problems, spec, old):
        return problems
    for field in _FIELDS:
        for index, was in enumerate(old.get(field) or []):
            if field == "containers" or _is_sidecar(was):
                _nothing_removed(problems, spec[field][index], was, f"spec.{field}[{index}].resources")
    found = len(problems)
    changed = {**spec, **{field: _checked(problems, spec, old, field) for field in _FIELDS if spec.get(field)}}
    if len(problems) == found == 0 and not same(changed, old):
        problems.forbidden("spec", _ONLY)
    return problems


def _node_resizes(status: JSON) -> bool:
    """A kubelet that can resize reports the resources of what runs."""
    for container in status.get("containerStatuses") or []:
        if (container.get("state") or {}).get("running") is not None:
            return container.get("resources") is not None
    return True


def _has_own_resources(spec: JSON) -> bool:
    own = spec.get("resources") or {}
    return bool(own.get("requests") or own.get("limits"))


def _same_containers(problems: Problems, spec: JSON, old: JSON) -> bool:
    found = len(problems)
    for field in _FIELDS:
        new, before = spec.get(field) or [], old.get(field) or []
        if len(new) != len(before):
            problems.forbidden(f"spec.{field}", f"{field} may not be added or removed on resize")
            continue
        for index, (container, was) in enumerate(zip(new, before, strict=True)):
            if container.get("name") != was.get("name"):
                where = f"spec.{field}[{index}].name"
                problems.forbidden(where, f"{field} may not be renamed or reordered on resize")
    return len(problems) == found


def _is_sidecar(container: JSON) -> bool:
    return container.get("restartPolicy") == "Always"


def _nothing_removed(problems: Problems, container: JSON, old: JSON, path: str) -> None:
    for kind in ("requests", "limits"):
        new, before = ((one.get("resources") or {}).get(kind) or {} for one in (container, old))
        if before.keys() - new.keys():
            problems.forbidden(f"{path}.{kind}", f"resource {kind} cannot be removed")


def _checked(problems: Problems, spec: JSON, old: JSON, field: str) -> list[JSON]:
    """The containers with the old CPU and memory, so that only what may not change is different."""
    checked = []
    for container, was in zip(spec[field], old[field], strict=True):
        if field == "containers":
            container, refusal = _with_old_amounts(container, was), _ONLY
        elif _is_sidecar(container):
            container = _with_old_amounts(container, was)
            refusal = "only cpu and memory resources for sidecar containers are mutable"
        else:
            refusal = "resources for non-sidecar init containers are immutable"
        if not same(container, was):
            problems.forbidden("spec", refusal)
        checked.append(container)
    return checked


def _with_old_amounts(container: JSON, old: JSON) -> JSON:
    # As upstream has it, claims are left out of this.
    resources: JSON = {}
    for kind in ("limits", "requests"):
        new, before = ((one.get("resources") or {}).get(kind) or {} for one in (container, old))
        merged = {name: amount for name, amount in new.items() if name not in _RESIZABLE}
        merged |= {name: amount for name, amount in before.items() if name in _RESIZABLE}
        if merged:
            resources[kind] = merged
    return {**container, "resources": resources}
