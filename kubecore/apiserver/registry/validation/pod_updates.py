"""What may change of a pod that exists: by update, by status, by ephemeral containers and by resize.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidatePodUpdate and its relatives.
"""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.validation.containers import validate_containers
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.volumes import validate_volumes

JSON = dict[str, Any]

_ALLOWED = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"


def validate_pod_update(spec: JSON, old: JSON) -> list[Cause]:
    """A change through the pod itself."""
    problems = Problems()
    if spec == old:
        return problems
    for field in ("containers", "initContainers"):
        if len(spec.get(field) or []) != len(old.get(field) or []):
            problems.forbidden(f"spec.{field}", "pod updates may not add or remove containers")
            return problems
    changed = dict(spec)
    for field in ("containers", "initContainers"):
        if spec.get(field):
            changed[field] = _with_old_images(spec[field], old[field])
    _deadline(problems, changed, old)
    _tolerations(problems, changed, old)
    if (old.get("terminationGracePeriodSeconds") or 0) < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        changed["terminationGracePeriodSeconds"] = old["terminationGracePeriodSeconds"]
    if old.get("schedulingGates"):
        _gates(problems, changed, old)
    different = sorted(name for name in changed.keys() | old.keys() if changed.get(name) != old.get(name))
    if different:
        listed = ", ".join(f"spec.{name}" for name in different)
        problems.forbidden("spec", f"{_ALLOWED}\nchanged: {listed}")
    return problems


def _with_old_images(containers: list[JSON], old: list[JSON]) -> list[JSON]:
    return [
        {**container, "image": before["image"]} if "image" in before else container
        for container, before in zip(containers, old, strict=True)
    ]


def _deadline(problems: Problems, changed: JSON, old: JSON) -> None:
    """A deadline may be set or shortened, not lifted."""
    new, before = changed.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    path = "spec.activeDeadlineSeconds"
    if before is not None:
        if new is None:
            problems.invalid(path, None, f"must not update from a positive integer ({before}) to nil value")
        elif new > before:
            problems.invalid(path, new, "must be less than or equal to previous value")
        changed["activeDeadlineSeconds"] = before
    elif new is not None:
        del changed["activeDeadlineSeconds"]


def _tolerations(problems: Problems, changed: JSON, old: JSON) -> None:
    """Tolerations may be added; of those there are only how long they hold may change."""
    new, before = changed.get("tolerations") or [], old.get("tolerations") or []
    kept = [_without_seconds(one) for one in new]
    if any(_without_seconds(one) not in kept for one in before):
        detail = "existing toleration can not be modified except its tolerationSeconds"
        problems.forbidden("spec.tolerations", detail)
    if before:
        changed["tolerations"] = before
    else:
        changed.pop("tolerations", None)


def _without_seconds(toleration: JSON) -> JSON:
    return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}


def _gates(problems: Problems, changed: JSON, old: JSON) -> None:
    """While a pod is gated, gates may be removed and its choice of nodes narrowed."""
    present = {gate.get("name") for gate in old["schedulingGates"]}
    for index, gate in enumerate(changed.get("schedulingGates") or []):
        if gate.get("name") not in present:
            detail = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            problems.forbidden(f"spec.schedulingGates[{index}].name", detail)
    changed["schedulingGates"] = old["schedulingGates"]
    selector, before = changed.get("nodeSelector") or {}, old.get("nodeSelector") or {}
    for key, value in before.items():
        if selector.get(key) != value:
            problems.invalid(f"spec.nodeSelector[{key}]", selector.get(key, ""), "only additions are allowed")
    affinity, affinity_before = changed.get("affinity") or {}, old.get("affinity") or {}
    others = {key: value for key, value in affinity.items() if key != "nodeAffinity"}
    if others == {key: value for key, value in affinity_before.items() if key != "nodeAffinity"}:
        _restore(changed, old, "affinity")
    _restore(changed, old, "nodeSelector")


def _restore(changed: JSON, old: JSON, field: str) -> None:
    if field in old:
        changed[field] = old[field]
    else:
        changed.pop(field, None)


def validate_status_update(pod: JSON, old: JSON) -> list[Cause]:
    """A change through pods/status: containers that have ended for good do not come back."""
    problems = Problems()
    policy = (old.get("spec") or {}).get("restartPolicy")
    status, before = pod.get("status") or {}, old.get("status") or {}
    if policy != "Always":
        for field in ("containerStatuses", "initContainerStatuses"):
            _transitions(problems, status.get(field) or [], before.get(field) or [], policy, f"status.{field}")
    old_class, new_class = before.get("qosClass"), status.get("qosClass")
    if old_class and new_class != old_class:
        problems.invalid("status.qosClass", new_class or "", "field is immutable")
    return problems


def _transitions(problems: Problems, new: list[JSON], old: list[JSON], policy: str | None, path: str) -> None:
    by_name = {status.get("name"): status for status in old}
    for index, status in enumerate(new):
        ended = ((by_name.get(status.get("name")) or {}).get("state") or {}).get("terminated")
        if ended is None or (status.get("state") or {}).get("terminated") is not None:
            continue
        if policy == "OnFailure" and ended.get("exitCode", 0) != 0:
            continue
        if path.endswith("initContainerStatuses") and ended.get("exitCode", 0) != 0 and policy != "Never":
            continue
        problems.forbidden(f"{path}[{index}].state", "may not be transitioned to non-terminated state")


def validate_ephemeral_containers_update(pod: JSON, before: JSON) -> list[Cause]:
    """A change through pods/ephemeralcontainers only adds."""
    problems, spec, old = Problems(), pod["spec"], before["spec"]
    if MIRROR_ANNOTATION in (before["metadata"].get("annotations") or {}):
        problems.forbidden("", "static pods do not support ephemeral containers")
        return problems
    volumes = validate_volumes(Problems(), spec.get("volumes") or [], "spec.volumes")
    validate_containers(problems, spec, volumes, "spec")
    by_name = {container.get("name"): container for container in spec.get("ephemeralContainers") or []}
    for container in old.get("ephemeralContainers") or []:
        name = container.get("name")
        if name not in by_name:
            detail = f'existing ephemeral containers "{name}" may not be removed\n'
            problems.forbidden("spec.ephemeralContainers", detail)
        elif by_name[name] != container:
            detail = f'existing ephemeral containers "{name}" may not be changed\n'
            problems.forbidden("spec.ephemeralContainers", detail)
    return problems
