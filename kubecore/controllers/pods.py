"""What controllers ask about pods: readiness, availability, activity, ports."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers import conditions


def phase(pod: Object) -> str:
    found: str = (pod.get("status") or {}).get("phase") or ""
    return found


def is_finished(pod: Object) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Neither finished nor being deleted."""
    if "deletionTimestamp" in pod["metadata"] and meta.is_deleting(pod):
        return False
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def is_ready(pod: Object) -> bool:
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition["type"] == "Ready":
            return bool(condition["status"] == "True")
    return False


def ready_since(pod: Object) -> datetime | None:
    condition = conditions.find(pod, "Ready")
    if condition is None or condition["status"] != "True" or not condition.get("lastTransitionTime"):
        return None
    return meta.parse_time(condition["lastTransitionTime"])


def available_in(pod: Object, min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until the pod, if it stays ready, counts as available: 0 when it does, None when it is not ready."""
    if not is_ready(pod):
        return None
    if min_ready_seconds <= 0:
        return 0.0
    since = ready_since(pod)
    if since is None:
        return None
    return max(0.0, min_ready_seconds - (now - since).total_seconds())


def next_available_in(owner: Object, mine: Iterable[Object], now: datetime) -> float | None:
    """Seconds until the next ready pod will have been ready for the owner's minReadySeconds, which no event tells."""
    min_ready = owner["spec"].get("minReadySeconds") or 0
    if min_ready <= 0:
        return None
    waits = [available_in(pod, min_ready, now) for pod in mine]
    return min((wait for wait in waits if wait), default=None)


def containers(pod: Object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pod["spec"].get("containers") or []
    return found


def restarts(pod: Object) -> tuple[int, int]:
    """The restart count of the container that restarted most, and that of the sidecar."""
    status = pod.get("status") or {}
    sidecars = {one["name"] for one in pod["spec"].get("initContainers") or () if one.get("restartPolicy") == "Always"}
    of_sidecars = (one for one in status.get("initContainerStatuses") or () if one["name"] in sidecars)
    return _most_restarts(status.get("containerStatuses") or ()), _most_restarts(of_sidecars)


def _most_restarts(statuses: Iterable[dict[str, Any]]) -> int:
    return max((status.get("restartCount") or 0 for status in statuses), default=0)


def node_name(pod: Object) -> str:
    name: str = pod["spec"].get("nodeName") or ""
    return name
