"""How a pod's quality of service counts on its node (upstream `pkg/kubelet/qos`)."""

from __future__ import annotations

from typing import Any

from kubecore.api import amounts, pod_resources, quantity
from kubecore.api.quality import quality_of_service

Object = dict[str, Any]

_LAST, _FIRST = -997, 1000
"""To be killed by the kernel."""
_NODE_CRITICAL = "system-node-critical"


def qos_class(pod: Object) -> str:
    """Guaranteed, Burstable or BestEffort."""
    return quality_of_service(pod["spec"])


def oom_score_adj(pod: Object, container: Object, memory_capacity: int) -> int:
    """-1000 to 1000; `memory_capacity` in bytes. Who asks for more memory is spared longer, and a sidecar at least as
    long as those that it is there for."""
    spec = pod["spec"]
    quality = qos_class(pod)
    if quality == "Guaranteed" or spec.get("priorityClassName") == _NODE_CRITICAL:
        return _LAST
    if quality == "BestEffort":
        return _FIRST
    share = _unclaimed_share(spec)
    request = _memory(container) + share
    if container.get("restartPolicy") == "Always" and container in (spec.get("initContainers") or []):
        request = max(request, min(map(_memory, spec["containers"])) + share)
    score = 1000 - 1000 * request // max(memory_capacity, 1)
    return max(1000 + _LAST, min(score, _FIRST - 1))


def _unclaimed_share(spec: Object) -> int:
    """Of the memory that a pod asks for as a whole, what its containers have not asked for, shared out among them."""
    whole = pod_resources.of_the_pod_itself(spec, pod_resources.REQUESTS).get("memory")
    if whole is None:
        return 0
    claimed = pod_resources.of_containers(spec, pod_resources.of_container(pod_resources.REQUESTS))
    rest = (whole.nano - claimed.get("memory", amounts.ZERO).nano) // 10**9
    return rest // len([*spec["containers"], *(spec.get("initContainers") or [])])


def _memory(holder: Object) -> int:
    """Requested, in bytes."""
    return quantity.nano(((holder.get("resources") or {}).get("requests") or {}).get("memory", 0)) // 10**9
