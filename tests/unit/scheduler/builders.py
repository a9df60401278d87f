"""Pods and nodes as the API shows them, with what a test is about and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubecore.client.client import Object
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.framework import CycleState, Filter
from kubecore.scheduler.pods import PodInfo


def container(name: str = "c", *, requests: Object | None = None, **fields: Any) -> Object:
    return {"name": name, "image": "app:1", "resources": {"requests": requests or {}}, **fields}


def pod(
    name: str = "p",
    *,
    namespace: str = "default",
    uid: str = "",
    labels: dict[str, str] | None = None,
    requests: Object | None = None,
    node: str = "",
    owner: Object | None = None,
    deleting: bool = False,
    status: Object | None = None,
    **spec: Any,
) -> Object:
    """One container asking for `requests`, unless `containers` are among the further fields of the spec."""
    metadata: Object = {"name": name, "namespace": namespace, "uid": uid or f"uid-of-{name}", "labels": labels or {}}
    if owner is not None:
        metadata["ownerReferences"] = [{"controller": True, "uid": "o", **owner}]
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    spec = {"containers": [container(requests=requests)], **spec}
    if node:
        spec["nodeName"] = node
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec,
        "status": status or {"phase": "Pending"},
    }


def info(name: str = "p", **fields: Any) -> PodInfo:
    return PodInfo(pod(name, **fields))


def node(
    name: str = "n",
    *,
    labels: dict[str, str] | None = None,
    taints: list[Object] | None = None,
    unschedulable: bool = False,
    allocatable: Object | None = None,
) -> Object:
    """A node that has room for 110 small pods."""
    spec: Object = {}
    if taints:
        spec["taints"] = taints
    if unschedulable:
        spec["unschedulable"] = True
    room = {"cpu": "4", "memory": "8Gi", "pods": "110"} if allocatable is None else allocatable
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "uid": f"uid-of-{name}",
            "labels": {"kubernetes.io/hostname": name, **(labels or {})},
        },
        "spec": spec,
        "status": {"allocatable": room},
    }


def node_info(name: str = "n", *pods: PodInfo, **fields: Any) -> NodeInfo:
    """A node with pods on it."""
    made = NodeInfo.of(node(name, **fields))
    for one in pods:
        made.add(one)
    return made


class RefusesNothing(Filter):
    """For tests of the queue, which asks of plugins only by what pods that they refused are helped."""

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        return ()


def taint(key: str, value: str = "", effect: str = "NoSchedule") -> Object:
    return {"key": key, "value": value, "effect": effect}


NO_CLAIMS = "no new claims to deallocate, "
"""What is told first of a pod that finds no node."""


def no_preemption(nodes: int = 1) -> str:
    """What is told of preemption where no pod's leaving would help."""
    helpless = f"0/{nodes} nodes are available: {nodes} Preemption is not helpful for scheduling."
    return f"{NO_CLAIMS}preemption: {helpless}"


def cache_of(*nodes: Object, pods: list[Object] | None = None) -> Cache:
    cache = Cache()
    for one in nodes:
        cache.set_node(one)
    for placed in pods or []:
        cache.add_pod(PodInfo(placed))
    return cache
