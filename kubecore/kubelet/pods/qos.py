"""Quality of service class of a pod (upstream `pkg/apis/core/v1/helper/qos/qos.go`)."""

from __future__ import annotations

from typing import Any

from kubecore.api import pod_resources, quantity

Object = dict[str, Any]

_COUNTED = ("cpu", "memory")


def qos_class(pod: Object) -> str:
    """Guaranteed, Burstable or BestEffort, by requests and limits of cpu and memory. A pod with resources of its own is
    judged by them alone."""
    spec = pod["spec"]
    guaranteed, anything = True, False
    holders = (
        [spec] if pod_resources.speaks_for_itself(spec) else [*spec.get("initContainers", []), *spec["containers"]]
    )
    for one in holders:
        resources = one.get("resources") or {}
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        for name in _COUNTED:
            request, limit = quantity.nano(requests.get(name, 0)), quantity.nano(limits.get(name, 0))
            anything = anything or bool(request or limit)
            # The API server defaults a request that is not given to the limit.
            if not limit or (request and request != limit):
                guaranteed = False
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def oom_score_adj(pod: Object, container: Object, memory_capacity: int) -> int:
    """-1000 to 1000 as upstream `pkg/kubelet/qos/policy.go`; `memory_capacity` in bytes."""
    quality = qos_class(pod)
    if quality == "Guaranteed":
        return -997
    if quality == "BestEffort":
        return 1000
    request = quantity.nano(((container.get("resources") or {}).get("requests") or {}).get("memory", 0)) // 10**9
    score = 1000 - 1000 * request // max(memory_capacity, 1)
    return max(3, min(score, 999))
