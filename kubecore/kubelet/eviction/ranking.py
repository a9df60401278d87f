"""Which pod has to go first when a node is short of something. Pure.

After upstream `pkg/kubelet/eviction/helpers.go`: those that use more than they asked for before those that do not, then
those of low priority, then those that use the most beyond it. Of processes nobody asks for any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubecore.api import amounts, meta, pod_resources, quantity
from kubecore.kubelet.pods.manifests import HASH

Object = dict[str, Any]

_SYSTEM_CRITICAL = 2_000_000_000
_ASKED_FOR = ("memory", "ephemeral-storage")
"""What a container's use of is told beside its request."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """`used`: by the resource's name; `of_containers`: by the container's."""

    pod: Object
    used: Mapping[str, int]
    of_containers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def is_critical(pod: Object) -> bool:
    """Never evicted: a static pod would not come back, and without the others the cluster may not work."""
    static = HASH in (pod["metadata"].get("annotations") or {})
    return static or priority(pod) >= _SYSTEM_CRITICAL


def priority(pod: Object) -> int:
    return int(pod["spec"].get("priority") or 0)


def ranked(candidates: Iterable[Candidate], resource: str) -> list[Candidate]:
    """The first one goes first."""

    def order(one: Candidate) -> tuple[bool, int, int]:
        beyond = one.used.get(resource, 0) - requested(one.pod, resource)
        within = resource in _ASKED_FOR and beyond <= 0
        return within, priority(one.pod), -beyond

    return sorted(candidates, key=order)


def requested(pod: Object, resource: str) -> int:
    if resource not in _ASKED_FOR:
        return 0
    asked = pod_resources.requests({**pod, "status": {}})
    return asked.get(resource, amounts.ZERO).nano // 10**9


def message(one: Candidate, resource: str, *, threshold: int, available: int) -> str:
    """Why it was this pod, in upstream's words."""
    text = f"The node was low on resource: {resource}. "
    text += f"Threshold quantity: {told(threshold, resource)}, available: {told(available, resource)}. "
    spec, used_by_pod = one.pod["spec"], one.used.get(resource)
    if resource == "memory" and used_by_pod is not None:
        whole = pod_resources.of_the_pod_itself(spec, pod_resources.REQUESTS).get(resource)
        if whole is not None:
            text += (
                f"Pod {meta.name(one.pod)} was using {told(used_by_pod, resource)}, "
                f"request is {whole}, has larger consumption of {resource}. "
            )
    containers = [*spec["containers"], *(spec.get("initContainers") or [])]
    for container in containers if resource in _ASKED_FOR else ():
        used = one.of_containers.get(container["name"], {}).get(resource)
        asked = ((container.get("resources") or {}).get("requests") or {}).get(resource, "0")
        if used is not None and used > quantity.nano(asked) // 10**9:
            text += (
                f"Container {container['name']} was using {told(used, resource)}, "
                f"request is {asked}, has larger consumption of {resource}. "
            )
    return text


def told(number: int, resource: str) -> str:
    """As quantities are: bytes in binary units, as long as those are whole."""
    family = "decimal" if resource in ("pids", "inodes") else "binary"
    return quantity.format_as(number * 10**9, family)
