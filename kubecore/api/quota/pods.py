"""Pods against quotas (upstream kubernetes pkg/quota/v1/evaluator/core/pods.go)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from kubecore.api import amounts, meta, pod_resources
from kubecore.api.amounts import Amount, Amounts
from kubecore.api.quota.evaluator import CREATE, JSON, UPDATE, Evaluator, Requirement, selects
from kubecore.clock import Clock

_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_MUST_SAY = frozenset(f"{prefix}{name}" for prefix in ("", "requests.", "limits.") for name in ("cpu", "memory"))
"""A pod that says nothing of these is refused where they are limited: a mistake upstream keeps for old users."""
_HUGE, _HUGE_REQUESTED = "hugepages-", "requests.hugepages-"
_DEVICE_CLASS = "deviceclass.resource.kubernetes.io/"


class PodEvaluator(Evaluator):
    def __init__(self, clock: Clock) -> None:
        super().__init__("pods", "pods")
        self._clock = clock
        self.names |= {f"{prefix}{name}" for prefix in ("", "requests.", "limits.") for name in _COMPUTE}

    def handles(self, operation: str, subresource: str) -> bool:
        return (operation, subresource) in ((CREATE, ""), (UPDATE, ""), (UPDATE, "resize"))

    def changes(self, obj: JSON, old: JSON | None, subresource: str) -> bool:
        return old is None or subresource == "resize" or is_terminating(obj) != is_terminating(old)

    def matching(self, names: Iterable[str]) -> list[str]:
        return [
            name
            for name in names
            if name in self.names or name.startswith((_HUGE, _HUGE_REQUESTED)) or _is_extended_request(name)
        ]

    def in_scope(self, requirement: Requirement, obj: JSON) -> bool:
        scope = requirement["scopeName"]
        if scope in ("Terminating", "NotTerminating"):
            return is_terminating(obj) is (scope == "Terminating")
        if scope in ("BestEffort", "NotBestEffort"):
            return _is_best_effort(obj) is (scope == "BestEffort")
        if scope == "PriorityClass":
            named = obj["spec"].get("priorityClassName")
            return selects(requirement, [named] if named else [])
        return scope == "CrossNamespacePodAffinity" and _looks_at_other_namespaces(obj["spec"].get("affinity") or {})

    def lacking(self, names: Iterable[str], obj: JSON) -> str:
        spec = obj["spec"]
        required = _MUST_SAY.intersection(names)
        if not required or pod_resources.speaks_for_itself(spec):
            return ""
        missing: dict[str, set[str]] = {}
        for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
            requests, limits = (pod_resources.of_container(kind)(container) for kind in ("requests", "limits"))
            for name in required - _compute_usage(requests, limits).keys():
                missing.setdefault(name, set()).add(container["name"])
        if not missing:
            return ""
        return "must specify " + "; ".join(f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing))

    def usage(self, obj: JSON) -> Amounts:
        counted = {self.count: amounts.ONE}
        if not self.is_charged(obj):
            return counted
        return {**counted, **_compute_usage(pod_resources.requests(obj), pod_resources.limits(obj))}

    def is_charged(self, pod: JSON) -> bool:
        """It has not finished, and its node, should it be lost, still has time to end it."""
        if (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
            return False
        ends = charged_until(pod)
        return ends is None or self._clock.now() <= ends


def charged_until(pod: JSON) -> datetime | None:
    """When a pod that is being deleted counts no more, whatever its node says."""
    metadata = pod["metadata"]
    deleted, grace = metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
    if not deleted or grace is None:
        return None
    return meta.parse_time(deleted) + timedelta(seconds=grace)


def is_terminating(pod: JSON) -> bool:
    """It has a deadline: the scope of this name means pods that end by themselves."""
    deadline: int | None = pod["spec"].get("activeDeadlineSeconds")
    return deadline is not None and deadline >= 0


def _compute_usage(requests: Mapping[str, Amount], limits: Mapping[str, Amount]) -> Amounts:
    found: Amounts = {"pods": amounts.ONE}
    for name in _COMPUTE:
        if name in requests:
            found[name] = found[f"requests.{name}"] = requests[name]
        if name in limits:
            found[f"limits.{name}"] = limits[name]
    for name, amount in requests.items():
        if name.startswith(_HUGE):
            found[name] = found[f"requests.{name}"] = amount
        elif _is_extended(name):
            found[f"requests.{name}"] = amount
    return found


def _is_extended(name: str) -> bool:
    if name.startswith(_DEVICE_CLASS):
        return True
    return "/" in name and "kubernetes.io/" not in name and not name.startswith("requests.")


def _is_extended_request(name: str) -> bool:
    if not name.startswith("requests."):
        return False
    return ("/" in name and "kubernetes.io/" not in name) or name.startswith(f"requests.{_DEVICE_CLASS}")


def _is_best_effort(pod: JSON) -> bool:
    told = (pod.get("status") or {}).get("qosClass")
    if told:
        return bool(told == "BestEffort")
    spec = pod["spec"]
    holders = [spec] if spec.get("resources") else [*spec["containers"], *(spec.get("initContainers") or ())]
    asked = (pod_resources.of_container(kind)(one) for one in holders for kind in ("requests", "limits"))
    return not any(name in ("cpu", "memory") and amount.nano for one in asked for name, amount in one.items())


def _looks_at_other_namespaces(affinity: JSON) -> bool:
    for kind in ("podAffinity", "podAntiAffinity"):
        given = affinity.get(kind) or {}
        terms = list(given.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        weighted = given.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms += [one.get("podAffinityTerm") or {} for one in weighted]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False
