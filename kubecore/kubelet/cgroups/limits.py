"""What groups of containers and pods are limited to, from what pods ask for. Pure.

After upstream `pkg/kubelet/cm/helpers_linux.go` and `pkg/kubelet/kuberuntime/kuberuntime_container_linux.go`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubecore.api import amounts, pod_resources
from kubecore.api.amounts import Amounts
from kubecore.kubelet.cgroups.interface import CPU_PERIOD_MICROSECONDS, Limits
from kubecore.kubelet.pods.qos import qos_class

Object = dict[str, Any]

LEAST_SHARES, _MOST_SHARES = 2, 262_144
_LEAST_QUOTA = 1000


def shares(milli_cpu: int) -> int:
    return max(LEAST_SHARES, min(milli_cpu * 1024 // 1000, _MOST_SHARES))


def quota(milli_cpu: int) -> int | None:
    """None for no CPU, which is no limit."""
    return max(milli_cpu * CPU_PERIOD_MICROSECONDS // 1000, _LEAST_QUOTA) if milli_cpu else None


def of_container(container: Object, spec: Object) -> Limits:
    """`spec`: its pod's, whose own limits hold for a container that has none."""
    resources = container.get("resources") or {}
    asked, limited = amounts.parse(resources.get("requests")), amounts.parse(resources.get("limits"))
    for name, limit in pod_resources.of_the_pod_itself(spec, pod_resources.LIMITS).items():
        if not limited.get(name, amounts.ZERO).nano:
            limited[name] = limit
    wanted = asked if "cpu" in asked else limited
    return Limits(shares(_milli(wanted)), quota(_milli(limited)), _bytes(limited) or None)


def of_pod(pod: Object, *, most_pids: int | None = None) -> Limits:
    """A limit holds for a pod as a whole where all its containers have one, or it says so itself."""
    spec, quality = pod["spec"], qos_class(pod)
    if quality == "BestEffort":
        return Limits(LEAST_SHARES, pids=most_pids)
    asked, limited = _of_spec(spec, pod_resources.REQUESTS), _of_spec(spec, pod_resources.LIMITS)
    own = pod_resources.of_the_pod_itself(spec, pod_resources.LIMITS)
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    everywhere = [amounts.parse((one.get("resources") or {}).get("limits")) for one in containers]

    def declared(name: str) -> bool:
        return name in own or all(name in one for one in everywhere)

    return Limits(
        shares(_milli(asked)),
        quota(_milli(limited)) if declared("cpu") else None,
        (_bytes(limited) or None) if declared("memory") else None,
        most_pids,
    )


def of_class(pods: Iterable[Object], quality: str) -> Limits:
    """Of all Burstable or BestEffort pods together."""
    if quality == "BestEffort":
        return Limits(LEAST_SHARES)
    return Limits(shares(sum(_milli(_of_spec(pod["spec"], pod_resources.REQUESTS)) for pod in pods)))


def covering(one: Limits, other: Limits) -> Limits:
    """The least that is no less than either."""

    def most(first: int | None, second: int | None) -> int | None:
        return None if first is None or second is None else max(first, second)

    return Limits(
        most(one.cpu_shares, other.cpu_shares),
        most(one.cpu_quota, other.cpu_quota),
        most(one.memory, other.memory),
        most(one.pids, other.pids),
    )


def limited(pod: Object) -> set[str]:
    """On what there is any limit to be enforced: cpu, memory."""
    spec = pod["spec"]
    holders = [spec, *spec.get("initContainers", []), *spec["containers"]]
    return {"cpu", "memory"} & {name for one in holders for name in (one.get("resources") or {}).get("limits") or {}}


def _of_spec(spec: Object, kind: str) -> Amounts:
    found = pod_resources.of_containers(spec, pod_resources.of_container(kind))
    found.update(pod_resources.of_the_pod_itself(spec, kind))
    overhead = amounts.parse(spec.get("overhead"))
    amounts.accumulate(found, {name: more for name, more in overhead.items() if name in found})
    return found


def _milli(given: Amounts) -> int:
    return -(-given.get("cpu", amounts.ZERO).nano // 10**6)


def _bytes(given: Amounts) -> int:
    return given.get("memory", amounts.ZERO).nano // 10**9
