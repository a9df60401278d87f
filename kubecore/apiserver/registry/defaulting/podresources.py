"""Resources of a whole pod, and what its containers take together.

After kubernetes `pkg/apis/core/v1/defaults.go` (defaultPodRequests, defaultHugePagePodLimits) and
k8s.io/component-helpers `resource/helpers.go`.
"""

from __future__ import annotations

from typing import Any

from kubecore.api import quantity
from kubecore.api.quality import nano

JSON = dict[str, Any]

_HUGE_PAGES = "hugepages-"


def aggregate(spec: JSON, kind: str) -> dict[str, int]:
    """What the containers take together, in nano units: sidecars add up, other init containers run one by one."""
    total: dict[str, int] = {}
    for container in spec.get("containers") or []:
        _add(total, container, kind)
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or []:
        if container.get("restartPolicy") == "Always":
            _add(sidecars, container, kind)
            _add(total, container, kind)
            now = dict(sidecars)
        else:
            now = dict(sidecars)
            _add(now, container, kind)
        for name, amount in now.items():
            peak[name] = max(peak.get(name, 0), amount)
    return {name: max(total.get(name, 0), peak.get(name, 0)) for name in total.keys() | peak.keys()}


def _add(total: dict[str, int], container: JSON, kind: str) -> None:
    for name, amount in ((container.get("resources") or {}).get(kind) or {}).items():
        total[name] = total.get(name, 0) + nano(amount)


def shown(name: str, amount: int) -> str:
    """A sum of amounts as text; only CPU is not counted in bytes."""
    return quantity.format_nano(amount, binary=name != "cpu")


def default_pod_resources(spec: JSON) -> None:
    """Fills in what a pod with resources of its own asks for as a whole, in place."""
    whole = spec["resources"]
    limits, requests = whole.get("limits") or {}, whole.get("requests") or {}
    if not limits and not requests:
        return
    for name, amount in aggregate(spec, "limits").items():
        if name.startswith(_HUGE_PAGES) and name not in requests and name not in limits:
            limits[name] = shown(name, amount)
    if limits:
        whole["limits"] = limits
        for name, amount in aggregate(spec, "requests").items():
            if name not in requests and name in ("cpu", "memory"):
                requests[name] = shown(name, amount)
        for name, limit in limits.items():
            if name not in requests and (name in ("cpu", "memory") or name.startswith(_HUGE_PAGES)):
                requests[name] = limit
    if requests:
        whole["requests"] = requests
