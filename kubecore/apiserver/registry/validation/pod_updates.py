"""What may change of a pod that exists: by update and by ephemeral containers.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidatePodUpdate and its relatives.
"""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.validation.pod_annotations import MIRROR, validate_pod_annotations_update
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_ALLOWED = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_REQUIRED_TERMS = "requiredDuringSchedulingIgnoredDuringExecution"
_LISTS = ("containers", "initContainers")


def _annotations(pod: JSON) -> JSON:
    return pod["metadata"].get("annotations") or {}


def validate_pod_update(problems: Problems, pod: JSON, old: JSON) -> None:
    """A change through the pod itself."""
    spec, before = pod["spec"], old["spec"]
    validate_pod_annotations_update(problems, _annotations(pod), _annotations(old))
    for field in _LISTS:
        if len(spec.get(field) or []) != len(before.get(field) or []):
            problems.forbidden(f"spec.{field}", "pod updates may not add or remove containers")
            return
    if not _deadline(problems, spec, before):
        return
    _tolerations(problems, spec.get("tolerations") or [], before.get("tolerations") or [])
    _gates(problems, spec.get("schedulingGates") or [], before.get("schedulingGates") or [])
    if same(spec, before):
        return
    changed = dict(spec)
    for field in _LISTS:
        if spec.get(field):
            changed[field] = _with_old_images(spec[field], before[field])
    for field in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        changed[field] = before.get(field)
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        changed["terminationGracePeriodSeconds"] = before["terminationGracePeriodSeconds"]
    if before.get("schedulingGates"):
        _while_gated(problems, changed, before)
    different = sorted(name for name in changed.keys() | before.keys() if not same(changed.get(name), before.get(name)))
    if different:
        listed = ", ".join(f"spec.{name}" for name in different)
        problems.forbidden("spec", f"{_ALLOWED}\nchanged: {listed}")


def _with_old_images(containers: list[JSON], old: list[JSON]) -> list[JSON]:
    return [{**container, "image": before.get("image")} for container, before in zip(containers, old, strict=True)]


def _deadline(problems: Problems, spec: JSON, old: JSON) -> bool:
    """A deadline may be set or shortened, not lifted. Says whether the rest is worth looking at."""
    new, before = spec.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    path = "spec.activeDeadlineSeconds"
    if new is None:
        if before is not None:
            problems.invalid(path, None, "must not update from a positive integer to nil value")
        return True
    if not 0 <= new < 2**31:
        problems.between(path, new, 0, 2**31 - 1)
        return False
    if before is not None and new > before:
        problems.invalid(path, new, "must be less than or equal to previous value")
        return False
    return True


def _tolerations(problems: Problems, new: list[JSON], old: list[JSON]) -> None:
    """Tolerations may be added; of those there are only how long they hold may change."""
    if not {_without_seconds(one) for one in old} <= {_without_seconds(one) for one in new}:
        detail = "existing toleration can not be modified except its tolerationSeconds"
        problems.forbidden("spec.tolerations", detail)


def _without_seconds(toleration: JSON) -> frozenset[tuple[str, str]]:
    return frozenset((key, value) for key, value in toleration.items() if key != "tolerationSeconds" and value)


def _gates(problems: Problems, new: list[JSON], old: list[JSON]) -> None:
    present = {gate.get("name") for gate in old}
    for index, gate in enumerate(new):
        if gate.get("name") not in present:
            detail = f"only deletion is allowed, but found new scheduling gate '{gate.get('name') or ''}'"
            problems.forbidden(f"spec.schedulingGates[{index}].name", detail)


def _while_gated(problems: Problems, changed: JSON, old: JSON) -> None:
    """Until a pod may be scheduled its choice of nodes can be narrowed."""
    selector, before = changed.get("nodeSelector") or {}, old.get("nodeSelector") or {}
    if any(selector.get(key) != value for key, value in before.items()):
        detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        problems.invalid("spec.nodeSelector", selector, detail)
    changed["nodeSelector"] = old.get("nodeSelector")
    affinity, affinity_before = changed.get("affinity") or {}, old.get("affinity") or {}
    nodes, nodes_before = affinity.get("nodeAffinity"), affinity_before.get("nodeAffinity")
    if not same(nodes, nodes_before):
        _node_affinity(problems, nodes or {}, nodes_before or {})
        changed["affinity"] = {**affinity, "nodeAffinity": nodes_before}


def _node_affinity(problems: Problems, new: JSON, old: JSON) -> None:
    path = f"spec.affinity.nodeAffinity.{_REQUIRED_TERMS}.nodeSelectorTerms"
    terms = (new.get(_REQUIRED_TERMS) or {}).get("nodeSelectorTerms") or []
    before = (old.get(_REQUIRED_TERMS) or {}).get("nodeSelectorTerms") or []
    if before and len(terms) != len(before):
        shown = (new.get(_REQUIRED_TERMS) or {}).get("nodeSelectorTerms")
        problems.invalid(path, shown, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")
        return
    for index, was in enumerate(before):
        if not _only_adds(terms[index], was):
            detail = "only additions are allowed (no mutations or deletions)"
            problems.invalid(f"{path}[{index}]", terms[index], detail)


def _only_adds(term: JSON, old: JSON) -> bool:
    fields = ("matchExpressions", "matchFields")
    if not any(old.get(field) for field in fields):
        return not any(term.get(field) for field in fields)
    return all(same((term.get(field) or [])[: len(old.get(field) or [])], old.get(field) or []) for field in fields)


def validate_ephemeral_containers_update(problems: Problems, pod: JSON, old: JSON) -> None:
    """A change through pods/ephemeralcontainers only adds."""
    if MIRROR in _annotations(old):
        problems.forbidden("[]", "static pods do not support ephemeral containers")
        return
    by_name = {container.get("name"): container for container in pod["spec"].get("ephemeralContainers") or []}
    for before in old["spec"].get("ephemeralContainers") or []:
        name = before.get("name")
        if name not in by_name:
            detail = f'existing ephemeral containers "{name}" may not be removed\n'
            problems.forbidden("spec.ephemeralContainers", detail)
        elif not same(by_name[name], before):
            detail = f'existing ephemeral containers "{name}" may not be changed\n'
            problems.forbidden("spec.ephemeralContainers", detail)
