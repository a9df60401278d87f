"""The scheduler's picture of the cluster: nodes, what runs on them, and what was just decided to run there.

A pod that was given a node is assumed to be there until its binding shows in the watch (`add_pod`) or fails (`forget`).
(kubernetes `pkg/scheduler/backend/cache`.)
"""

from __future__ import annotations

from collections import Counter

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.scheduler.pods import PodInfo, Resources, amounts


class NodeInfo:
    """A node, and the sums over its pods. A node may be known by its pods only: then `obj` is None."""

    __slots__ = (
        "allocatable",
        "labels",
        "name",
        "obj",
        "pods",
        "ports",
        "requested",
        "taints",
        "used_cpu",
        "used_memory",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.obj: Object | None = None
        self.labels: dict[str, str] = {}
        self.taints: list[Object] = []
        self.allocatable: Resources = {}
        self.pods: dict[str, PodInfo] = {}
        self.requested: Resources = {}
        self.used_cpu = 0
        self.used_memory = 0
        self.ports: Counter[tuple[str, str, int]] = Counter()

    @property
    def unschedulable(self) -> bool:
        return bool(self.obj is not None and self.obj["spec"].get("unschedulable"))

    def set_object(self, obj: Object) -> None:
        self.obj = obj
        self.labels = meta.labels(obj)
        self.taints = (obj.get("spec") or {}).get("taints") or []
        self.allocatable = amounts((obj.get("status") or {}).get("allocatable"))

    def add(self, pod: PodInfo) -> None:
        self.pods[pod.key] = pod
        self._count(pod, 1)

    def remove(self, pod: PodInfo) -> None:
        del self.pods[pod.key]
        self._count(pod, -1)

    def _count(self, pod: PodInfo, sign: int) -> None:
        requested = self.requested
        for name, value in pod.requests.items():
            requested[name] = requested.get(name, 0) + sign * value
        cpu, memory = pod.used
        self.used_cpu += sign * cpu
        self.used_memory += sign * memory
        for port in pod.ports:
            self.ports[port] += sign
            if not self.ports[port]:
                del self.ports[port]


class Cache:
    """Invariants: each pod in `_pods` is in exactly the NodeInfo its `node` names, and in `by_namespace`;
    `_assumed` is a subset of the keys of `_pods`.
    """

    def __init__(self) -> None:
        self._infos: dict[str, NodeInfo] = {}
        self._pods: dict[str, PodInfo] = {}
        self._assumed: set[str] = set()
        self.by_namespace: dict[str, dict[str, PodInfo]] = {}
        self._listed: list[NodeInfo] | None = None

    # ------------------------------------------------------------------ reading
    def nodes(self) -> list[NodeInfo]:
        """Nodes that exist, in a stable order."""
        if self._listed is None:
            self._listed = [info for info in self._infos.values() if info.obj is not None]
        return self._listed

    def node(self, name: str) -> NodeInfo | None:
        info = self._infos.get(name)
        return info if info is not None and info.obj is not None else None

    def pods_in(self, namespace: str) -> list[PodInfo]:
        """Pods of a namespace that have a node."""
        return list(self.by_namespace.get(namespace, {}).values())

    def is_assumed(self, key: str) -> bool:
        return key in self._assumed

    def has_pod(self, key: str) -> bool:
        return key in self._pods

    # ------------------------------------------------------------------ nodes
    def set_node(self, obj: Object) -> None:
        name = meta.name(obj)
        info = self._info(name)
        if info.obj is None:
            self._listed = None
        info.set_object(obj)

    def remove_node(self, name: str) -> None:
        info = self._infos.get(name)
        if info is None:
            return
        self._listed = None
        info.obj = None
        if not info.pods:
            del self._infos[name]

    # ------------------------------------------------------------------ pods
    def assume(self, pod: PodInfo, node: str) -> None:
        """The pod was given this node; its binding is under way."""
        pod.node = node
        self._put(pod)
        self._assumed.add(pod.key)

    def forget(self, pod: PodInfo) -> None:
        """The assumed pod was not bound after all."""
        if pod.key in self._assumed:
            self._drop(pod.key)
        pod.node = ""

    def add_pod(self, pod: PodInfo) -> None:
        """A bound pod was seen: new, changed, or the one assumed."""
        self._put(pod)
        self._assumed.discard(pod.key)

    def remove_pod(self, key: str) -> None:
        """A bound pod is gone or has finished."""
        self._drop(key)

    def _put(self, pod: PodInfo) -> None:
        if pod.key in self._pods:
            self._drop(pod.key)
        self._pods[pod.key] = pod
        self.by_namespace.setdefault(pod.namespace, {})[pod.key] = pod
        self._info(pod.node).add(pod)

    def _drop(self, key: str) -> None:
        pod = self._pods.pop(key, None)
        if pod is None:
            return
        self._assumed.discard(key)
        space = self.by_namespace[pod.namespace]
        del space[key]
        if not space:
            del self.by_namespace[pod.namespace]
        info = self._infos[pod.node]
        info.remove(pod)
        if info.obj is None and not info.pods:
            del self._infos[pod.node]

    def _info(self, name: str) -> NodeInfo:
        info = self._infos.get(name)
        if info is None:
            info = self._infos[name] = NodeInfo(name)
        return info
