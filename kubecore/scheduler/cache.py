"""The scheduler's picture of the cluster: nodes, what runs on them, and what was just decided to run there.

A pod that was given a node is assumed to be there until its binding shows in the watch (`add_pod`) or fails (`forget`).
(kubernetes `pkg/scheduler/backend/cache`.)
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from kubecore.api import meta
from kubecore.api.zones import region_and_zone
from kubecore.client.client import Object
from kubecore.scheduler.nominations import NominationObserver, Nominations
from kubecore.scheduler.pods import PodInfo, Resources, amounts, is_placed_as_it_was


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
        "unschedulable",
        "used_cpu",
        "used_memory",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.obj: Object | None = None
        self.labels: dict[str, str] = {}
        self.taints: list[Object] = []
        self.unschedulable = False
        self.allocatable: Resources = {}
        self.pods: dict[str, PodInfo] = {}
        self.requested: Resources = {}
        self.used_cpu = 0
        self.used_memory = 0
        self.ports: Counter[tuple[str, str, int]] = Counter()

    @classmethod
    def of(cls, obj: Object) -> NodeInfo:
        """The node without any pods."""
        info = cls(meta.name(obj))
        info.set_object(obj)
        return info

    def set_object(self, obj: Object) -> None:
        spec = obj.get("spec") or {}
        self.obj = obj
        self.labels = meta.labels(obj)
        self.taints = spec.get("taints") or []
        self.unschedulable = bool(spec.get("unschedulable"))
        self.allocatable = amounts((obj.get("status") or {}).get("allocatable"))

    @property
    def zone(self) -> tuple[str, str]:
        """Region and zone, for the order in which nodes are tried."""
        return region_and_zone(self.labels)

    def clone(self) -> NodeInfo:
        """A copy to add pods to and remove them from."""
        copy = NodeInfo(self.name)
        for name in ("obj", "labels", "taints", "unschedulable", "allocatable", "used_cpu", "used_memory"):
            setattr(copy, name, getattr(self, name))
        copy.pods = dict(self.pods)
        copy.requested = dict(self.requested)
        copy.ports = Counter(self.ports)
        return copy

    def add(self, pod: PodInfo) -> None:
        self.pods[pod.key] = pod
        self._count(pod, 1)

    def remove(self, pod: PodInfo) -> None:
        del self.pods[pod.key]
        self._count(pod, -1)

    def _count(self, pod: PodInfo, sign: int) -> None:
        requested = self.requested
        for name, value in pod.requests.items():
            total = requested.get(name, 0) + sign * value
            if total:
                requested[name] = total
            else:
                requested.pop(name, None)
        cpu, memory = pod.used
        self.used_cpu += sign * cpu
        self.used_memory += sign * memory
        for port in pod.ports:
            self.ports[port] += sign
            if not self.ports[port]:
                del self.ports[port]


class Observer(NominationObserver, Protocol):
    """Is told of all that a cache knows, and keeps books of its own. Must not raise."""

    def node_set(self, node: NodeInfo) -> None: ...

    def node_removed(self, name: str) -> None: ...

    def pod_put(self, pod: PodInfo) -> None:
        """The pod has a node, another one than before maybe, or has changed."""

    def pod_started(self, pod: PodInfo) -> None: ...

    def pod_dropped(self, key: str) -> None: ...


class Cache:
    """Invariants: each pod in `_pods` is in exactly the NodeInfo its `node` names, and in `_by_namespace`;
    `_assumed` is a subset of the keys of `_pods`; so are those of `_with_affinity` and `_with_anti_affinity`; an info
    without object has pods.

    `nominations` are of pods without a node, for which room is being made.
    """

    def __init__(self) -> None:
        self.nominations = Nominations()
        self._images: dict[str, dict[str, int]] = {}
        self._with_affinity: dict[str, PodInfo] = {}
        self._with_anti_affinity: dict[str, PodInfo] = {}
        self._infos: dict[str, NodeInfo] = {}
        self._pods: dict[str, PodInfo] = {}
        self._assumed: set[str] = set()
        self._by_namespace: dict[str, dict[str, PodInfo]] = {}
        self._listed: list[NodeInfo] | None = None
        self.observer: Observer | None = None

    def observe(self, observer: Observer) -> None:
        """Tell `observer` of everything there is, and of every change from now on."""
        self.observer = observer
        for info in self._infos.values():
            if info.obj is not None:
                observer.node_set(info)
            for pod in info.pods.values():
                observer.pod_put(pod)
        self.nominations.observe(observer)

    # ------------------------------------------------------------------ reading
    def nodes(self) -> list[NodeInfo]:
        """Nodes that exist, in a stable order that takes one of each zone in turn, so that the first few hundred of
        many thousands are not all of one zone.
        """
        if self._listed is None:
            zones: dict[tuple[str, str], list[NodeInfo]] = {}
            for info in self._infos.values():
                if info.obj is not None:
                    zones.setdefault(info.zone, []).append(info)
            rounds = itertools.zip_longest(*zones.values())
            self._listed = [info for one_of_each in rounds for info in one_of_each if info is not None]
        return self._listed

    def node(self, name: str) -> NodeInfo | None:
        info = self._infos.get(name)
        return info if info is not None and info.obj is not None else None

    def pod(self, key: str) -> PodInfo | None:
        """A pod that has a node, or is assumed to have one."""
        return self._pods.get(key)

    def pods_in(self, namespace: str) -> list[PodInfo]:
        """Pods of a namespace that have a node."""
        return list(self._by_namespace.get(namespace, {}).values())

    @property
    def has_images(self) -> bool:
        """Whether any node says that it has an image."""
        return bool(self._images)

    def image_sizes(self, name: str) -> Mapping[str, int]:
        """The nodes that have an image of that name, and its size there in bytes."""
        return self._images.get(name, {})

    def pods(self) -> list[PodInfo]:
        """All pods that have a node."""
        return list(self._pods.values())

    @staticmethod
    def images_of(node: NodeInfo) -> dict[str, int]:
        """The names of the images that a node says it has, and their sizes in bytes."""
        return _image_sizes(_images(node.obj))

    @property
    def has_affinity(self) -> bool:
        """Whether any pod that has a node has a term of inter-pod affinity or anti-affinity."""
        return bool(self._with_affinity)

    def pods_with_affinity(self) -> list[PodInfo]:
        """Pods with any term of inter-pod affinity or anti-affinity that have a node."""
        return list(self._with_affinity.values())

    def pods_with_anti_affinity(self) -> list[PodInfo]:
        """Pods with required terms of anti-affinity that have a node."""
        return list(self._with_anti_affinity.values())

    def sizes(self) -> dict[str, int]:
        """Of what there is how much, in kube-scheduler's words. On any thread."""
        return {"nodes": len(self._infos), "pods": len(self._pods), "assumed_pods": len(self._assumed)}

    def is_assumed(self, key: str) -> bool:
        return key in self._assumed

    # ------------------------------------------------------------------ nodes
    def set_node(self, obj: Object) -> None:
        info = self._info(meta.name(obj))
        if info.obj is not None and _facts(info.obj) == _facts(obj):
            # a heartbeat, as most updates of nodes are
            info.obj = obj
            return
        is_new, zone = info.obj is None, info.zone
        self._set_images(info.name, info.obj, obj)
        info.set_object(obj)
        if is_new or info.zone != zone:
            self._listed = None
        if self.observer is not None:
            self.observer.node_set(info)

    def remove_node(self, name: str) -> None:
        """Its pods stay known until they are gone themselves."""
        info = self._infos.get(name)
        if info is None:
            return
        self._listed = None
        self._set_images(name, info.obj, None)
        info.obj = None
        if not info.pods:
            del self._infos[name]
        if self.observer is not None:
            self.observer.node_removed(name)

    def _set_images(self, node: str, old: Object | None, new: Object | None) -> None:
        before, now = _images(old), _images(new)
        if before == now:
            return
        for name in _image_sizes(before):
            nodes = self._images.get(name, {})
            nodes.pop(node, None)
            if not nodes:
                self._images.pop(name, None)
        for name, size in _image_sizes(now).items():
            self._images.setdefault(name, {})[node] = size

    # ------------------------------------------------------------------ pods
    def assume(self, pod: PodInfo, node: str) -> None:
        """The pod was given this node; its binding is under way."""
        known = self._pods.get(pod.key)
        if known is not None and known.uid == pod.uid:
            raise ValueError(f"pod {pod.key} has a node already: {known.node}")
        pod.node = node
        self._put(pod)
        self._assumed.add(pod.key)

    def forget(self, pod: PodInfo) -> bool:
        """The pod that was given to `assume` was not bound after all; whether it was still assumed. A pod of the same
        name that took its place meanwhile is left alone.
        """
        if pod.key not in self._assumed or self._pods[pod.key] is not pod:
            return False
        self._drop(pod.key)
        return True

    def add_pod(self, pod: PodInfo) -> None:
        """A bound pod was seen: new, changed, or the one assumed."""
        self._put(pod)
        self._assumed.discard(pod.key)

    def confirm(self, obj: Object) -> PodInfo | None:
        """A bound pod was seen. When it is the one assumed, on the node it was given and but for its labels as it was,
        that is all, and what was assumed is returned; else None, and nothing is done.
        """
        key = meta.key(obj)
        pod = self._pods.get(key)
        if pod is None or key not in self._assumed or not is_placed_as_it_was(pod.obj, obj, pod.node):
            return None
        pod.obj = obj
        self._assumed.discard(key)
        if (labels := meta.labels(obj)) != pod.labels:
            pod.labels, pod.facts = labels, None
            if self.observer is not None:
                self.observer.pod_put(pod)
        return pod

    def started(self, obj: Object) -> None:
        """A bound pod started, or is said to have started at another time; nothing else of it has changed."""
        pod = self._pods.get(meta.key(obj))
        if pod is not None and pod.uid == meta.uid(obj):
            pod.obj = obj
            if self.observer is not None:
                self.observer.pod_started(pod)

    def remove_pod(self, key: str) -> PodInfo | None:
        """A bound pod is gone or has finished; what was known of it."""
        pod = self._pods.get(key)
        self._drop(key)
        return pod

    def _put(self, pod: PodInfo) -> None:
        self._take_out(pod.key)
        self._pods[pod.key] = pod
        self._by_namespace.setdefault(pod.namespace, {})[pod.key] = pod
        if pod.affinity:
            self._with_affinity[pod.key] = pod
            if pod.affinity.required_anti:
                self._with_anti_affinity[pod.key] = pod
        self._info(pod.node).add(pod)
        if self.observer is not None:
            self.observer.pod_put(pod)

    def _drop(self, key: str) -> None:
        self._take_out(key)
        if self.observer is not None:
            self.observer.pod_dropped(key)

    def _take_out(self, key: str) -> None:
        pod = self._pods.pop(key, None)
        if pod is None:
            return
        self._assumed.discard(key)
        self._with_affinity.pop(key, None)
        self._with_anti_affinity.pop(key, None)
        space = self._by_namespace[pod.namespace]
        del space[key]
        if not space:
            del self._by_namespace[pod.namespace]
        info = self._infos[pod.node]
        info.remove(pod)
        if info.obj is None and not info.pods:
            del self._infos[pod.node]

    def _info(self, name: str) -> NodeInfo:
        info = self._infos.get(name)
        if info is None:
            info = self._infos[name] = NodeInfo(name)
        return info


def _facts(node: Object) -> tuple[object, ...]:
    """All of a node that is worked out beforehand, here or by whoever observes."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    return (
        node["metadata"].get("labels"),
        spec.get("taints"),
        spec.get("unschedulable"),
        status.get("allocatable"),
        status.get("images"),
    )


def _images(node: Object | None) -> list[Object]:
    return ((node or {}).get("status") or {}).get("images") or []


def _image_sizes(images: list[Object]) -> dict[str, int]:
    return {name: image.get("sizeBytes") or 0 for image in images for name in image.get("names") or ()}
