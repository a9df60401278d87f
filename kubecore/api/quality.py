"""The quality of service class of a pod, from what it requests (kubernetes `pkg/apis/core/helper/qos`)."""

from __future__ import annotations

from typing import Any

from kubecore.api import quantity
from kubecore.api.remembering import remembered

JSON = dict[str, Any]

_COUNTED = ("cpu", "memory")


def nano(amount: object) -> int:
    """The amount in billionths; 0 for what is no quantity."""
    if isinstance(amount, str):
        return _nano(amount)
    return quantity.nano(amount) if isinstance(amount, int | float) and quantity.is_valid(amount) else 0


@remembered(4096)
def _nano(amount: str) -> int:
    """The same few are asked for again and again."""
    return quantity.nano(amount) if quantity.is_valid(amount) else 0


def quality_of_service(spec: JSON) -> str:
    """Guaranteed: every container has limits, and they are requested; BestEffort: none asks for anything; else
    Burstable. A pod with resources of its own is judged by them alone."""
    if spec.get("resources") is not None:
        holders = [spec["resources"]]
    else:
        containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
        holders = [container.get("resources") or {} for container in containers]
    requests: dict[str, int] = {}
    limits: dict[str, int] = {}
    guaranteed = True
    for resources in holders:
        _add(requests, resources.get("requests"))
        guaranteed = _add(limits, resources.get("limits")) == len(_COUNTED) and guaranteed
    if not requests and not limits:
        return "BestEffort"
    return "Guaranteed" if guaranteed and requests == limits else "Burstable"


def _add(total: dict[str, int], resources: JSON | None) -> int:
    """Adds CPU and memory that are more than nothing, in nano units; says how many of the two there were."""
    found = 0
    for name in _COUNTED:
        amount = nano((resources or {}).get(name))
        if amount > 0:
            found += 1
            total[name] = total.get(name, 0) + amount
    return found
