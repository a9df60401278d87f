"""Pods' status: containers that have ended for good, addresses, what refers to the spec.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidatePodStatusUpdate.
"""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation import addresses, names
from kubecore.apiserver.registry.validation.pod_annotations import (
    validate_pod_annotations,
    validate_pod_annotations_update,
)
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.security import validate_ids

JSON = dict[str, Any]

_SYSTEM_CONDITIONS = frozenset({"PodScheduled", "Ready", "Initialized"})
_NOT_NEGATIVE = "must be a non-negative integer"
_STATUSES = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
_SPECIFIED = tuple(zip(("containers", "initContainers", ""), _STATUSES, strict=True))


def validate_pod_status(problems: Problems, pod: JSON, old: JSON) -> None:
    """A change through pods/status."""
    annotations, annotations_before = (one["metadata"].get("annotations") or {} for one in (pod, old))
    spec, status, before = old.get("spec") or {}, pod.get("status") or {}, old.get("status") or {}
    if annotations or annotations_before:
        validate_pod_annotations_update(problems, annotations, annotations_before)
        validate_pod_annotations(problems, annotations, spec, "metadata.annotations")
    _conditions(problems, status.get("conditions") or [])
    nominated = status.get("nominatedNodeName")
    if nominated and nominated != before.get("nominatedNodeName"):
        problems.check("status.nominatedNodeName", nominated, names.dns_subdomain)
        if spec.get("nodeName"):
            detail = "may not be set on pods that are already bound to a node"
            problems.forbidden("status.nominatedNodeName", detail)
    if (status.get("observedGeneration") or 0) < 0:
        problems.invalid("status.observedGeneration", status["observedGeneration"], _NOT_NEGATIVE)
    if (status.get("qosClass") or "") != (before.get("qosClass") or ""):
        problems.invalid("status.qosClass", status.get("qosClass") or "", names.IMMUTABLE)
    _ended_containers(problems, spec, status, before)
    if claims := status.get("resourceClaimStatuses"):
        _claims(problems, spec, claims)
    _addresses(problems, status, before)
    _users(problems, spec, status)


def _conditions(problems: Problems, conditions: list[JSON]) -> None:
    for index, condition in enumerate(conditions):
        kind, generation = condition.get("type") or "", condition.get("observedGeneration") or 0
        if generation < 0:
            problems.invalid(f"status.conditions[{index}].observedGeneration", generation, _NOT_NEGATIVE)
        if kind not in _SYSTEM_CONDITIONS:
            problems.check(f"status.conditions[{index}].Type", kind, names.qualified_name)


def _ended_containers(problems: Problems, spec: JSON, status: JSON, old: JSON) -> None:
    """Containers that have ended and will not be started again do not come back."""
    for kind, field in _SPECIFIED:
        if not old.get(field):
            continue
        now = {one.get("name"): one for one in status.get(field) or []}
        by_name = {one.get("name"): one for one in spec.get(kind) or []}
        for index, was in enumerate(old[field]):
            ended, new = (was.get("state") or {}).get("terminated"), now.get(was.get("name"))
            if ended is None or new is None or (new.get("state") or {}).get("terminated") is not None:
                continue
            container = by_name.get(was.get("name"))
            if container is None or not _restarts(container, spec, ended.get("exitCode") or 0):
                detail = "may not be transitioned to non-terminated state"
                problems.forbidden(f"status.{field}[{index}].state", detail)


def _restarts(container: JSON, spec: JSON, exit_code: int) -> bool:
    """Whether the kubelet starts a container again after this exit code."""
    for rule in container.get("restartPolicyRules") or []:
        codes = rule.get("exitCodes")
        if rule.get("action") == "Restart" and codes is not None:
            listed = exit_code in (codes.get("values") or [])
            if listed == (codes.get("operator") == "In"):
                return True
    policy = container.get("restartPolicy") or spec.get("restartPolicy")
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def _claims(problems: Problems, spec: JSON, statuses: list[JSON]) -> None:
    known = {claim.get("name") for claim in spec.get("resourceClaims") or []}
    taken: set[str] = set()
    for index, one in enumerate(statuses):
        where, name = f"status.resourceClaimStatuses[{index}].name", one.get("name") or ""
        if name not in known:
            problems.invalid(where, name, "must match the name of an entry in `spec.resourceClaims`")
        if name in taken:
            problems.duplicate(where, name)
        taken.add(name)
        if one.get("resourceClaimName") is not None:
            problems.check(where, one["resourceClaimName"], names.dns_subdomain)


def _addresses(problems: Problems, status: JSON, old: JSON) -> None:
    for field in ("podIPs", "hostIPs"):
        given = [one.get("ip") or "" for one in status.get(field) or []]
        if field == "hostIPs" and given and given[0] != (status.get("hostIP") or ""):
            problems.invalid("status.hostIPs[0].ip", given[0], "must be equal to `hostIP`")
        before = [one.get("ip") for one in old.get(field) or []]
        for index, ip in enumerate(given):
            if ip not in before and not addresses.PLAIN_IPV4.fullmatch(ip):
                problems.check(f"status.{field}[{index}]", ip, addresses.ip)
        if len(given) > 1:
            parsed = [addresses.parse_old_ip(ip) for ip in given]
            if None in parsed:
                wrong = parsed.index(None)
                told = f"failed to check for dual stack with error:invalid IP[{wrong}]: {given[wrong]}"
                problems.internal(f"status.{field}", told)
            if {one and one.version for one in parsed} != {4, 6} or len(given) > 2:
                detail = "may specify no more than one IP for each IP family"
                problems.invalid(f"status.{field}", status[field], detail)


def _users(problems: Problems, spec: JSON, status: JSON) -> None:
    windows = (spec.get("os") or {}).get("name") == "windows"
    for field in _STATUSES:
        for index, one in enumerate(status.get(field) or ()):
            linux = (one.get("user") or {}).get("linux")
            if linux is None:
                continue
            where = f"status.{field}[{index}].user.linux"
            if windows:
                problems.forbidden(where, "cannot be set for a windows pod")
            else:
                validate_ids(problems, linux, where, ("uid", "gid"))
                for number, group in enumerate(linux.get("supplementalGroups") or []):
                    problems.between(f"{where}.supplementalGroups[{number}]", group, 0, 2**31 - 1)
