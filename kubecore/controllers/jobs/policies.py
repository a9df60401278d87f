"""What a Job's podFailurePolicy and successPolicy say: pure functions.

(kubernetes `pkg/controller/job/pod_failure_policy.go` and `success_policy.go`.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers.jobs.indexes import Indexes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failed pod means for its Job."""

    counts: bool = True
    """Whether it counts towards backoffLimit."""
    action: str = ""
    """Of the rule that matched, if one did."""
    message: str = ""
    """Why the Job fails with it, where the action is FailJob."""


def judge_failure(policy: Object | None, pod: Object) -> Verdict:
    """The first rule that matches decides."""
    for index, rule in enumerate((policy or {}).get("rules") or ()):
        what = _matches(rule, pod)
        if what is None:
            continue
        action = rule["action"]
        if action == "FailJob":
            return Verdict(action=action, message=f"{what} matching FailJob rule at index {index}")
        return Verdict(counts=action != "Ignore", action=action)
    return Verdict()


def _matches(rule: Object, pod: Object) -> str | None:
    """The matching fact in words."""
    status = pod.get("status") or {}
    if rule.get("onExitCodes") is not None:
        requirement = rule["onExitCodes"]
        for field in ("containerStatuses", "initContainerStatuses"):
            for container in status.get(field) or ():
                code = _matching_code(requirement, container)
                if code is not None:
                    return f"Container {container['name']} for pod {meta.key(pod)} failed with exit code {code}"
        return None
    for condition in status.get("conditions") or ():
        for pattern in rule.get("onPodConditions") or ():
            if condition["type"] == pattern["type"] and condition["status"] == pattern.get("status", "True"):
                return f"Pod {meta.key(pod)} has condition {condition['type']}"
    return None


def _matching_code(requirement: Object, container: Object) -> int | None:
    terminated: dict[str, Any] | None = (container.get("state") or {}).get("terminated")
    wanted = requirement.get("containerName")
    if terminated is None or (wanted is not None and wanted != container["name"]):
        return None
    code: int = terminated.get("exitCode") or 0
    if code == 0:
        return None
    listed = code in (requirement.get("values") or ())
    return code if listed == (requirement["operator"] == "In") else None


def success(policy: Object | None, completions: int, succeeded: Indexes) -> str | None:
    """Which rule of the success policy is met, in words."""
    if not len(succeeded):
        return None
    for index, rule in enumerate((policy or {}).get("rules") or ()):
        if _succeeds(rule, completions, succeeded):
            return f"Matched rules at index {index}"
    return None


def _succeeds(rule: Object, completions: int, succeeded: Indexes) -> bool:
    wanted: int | None = rule.get("succeededCount")
    if rule.get("succeededIndexes") is None:
        return wanted is not None and len(succeeded) >= wanted
    required = Indexes.parse(rule["succeededIndexes"], completions)
    if not len(required):
        return False
    found = required.overlap(succeeded)
    return found == len(required) or (wanted is not None and found >= wanted)
