"""The quality of service class of a pod, from what its containers request (kubernetes `pkg/apis/core/helper/qos`)."""

from __future__ import annotations

from typing import Any

from kubecore.api import quantity

JSON = dict[str, Any]

_COUNTED = ("cpu", "memory")


def _amounts(resources: JSON | None) -> dict[str, int]:
    """CPU and memory that are more than nothing, in nano units."""
    found = {}
    for name in _COUNTED:
        amount = (resources or {}).get(name)
        if amount is not None and quantity.is_valid(amount):
            nano = quantity.nano(amount)
            if nano > 0:
                found[name] = nano
    return found


def quality_of_service(spec: JSON) -> str:
    """Guaranteed: every container's limits are its requests; BestEffort: none asks for anything; else Burstable."""
    whole = spec.get("resources")
    if whole and (whole.get("limits") or whole.get("requests")):
        holders = [whole]
    else:
        containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
        holders = [container.get("resources") or {} for container in containers]
    anything, guaranteed = False, True
    for resources in holders:
        requests, limits = _amounts(resources.get("requests")), _amounts(resources.get("limits"))
        anything = anything or bool(requests or limits)
        guaranteed = guaranteed and len(limits) == len(_COUNTED) and requests == limits
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
