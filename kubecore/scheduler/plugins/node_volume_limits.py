"""A CSI driver attaches so many volumes to a node and no more; the node's CSINode says how many.

(kubernetes `plugins/nodevolumelimits/csi.go`; in-tree volumes that a driver took over are not counted.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from kubecore.api import meta
from kubecore.api.persistent_volumes import claims_of_pod, class_of
from kubecore.client.client import Object
from kubecore.client.informer import InformerFactory
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind, PodEvent, StorageEvent
from kubecore.scheduler.framework import CycleState, Filter, Hopeless, PreFilter, PreFilterResult
from kubecore.scheduler.pods import PodInfo

_BY_NODE = "scheduler-attachments-by-node"
_REASON = ("node(s) exceed max volume count",)

_Volume = tuple[str, str]
"""The driver, and its handle of the volume."""


class NodeVolumeLimits(PreFilter, Filter):
    name = "NodeVolumeLimits"
    of_volumes = True
    wakes = frozenset({EventKind.CSI_NODE, EventKind.POD_REMOVED, EventKind.CLAIM, EventKind.ATTACHMENT_REMOVED})

    def __init__(self, informers: InformerFactory) -> None:
        self._claims = informers.informer("persistentvolumeclaims")
        self._volumes = informers.informer("persistentvolumes")
        self._classes = informers.informer("storageclasses.storage.k8s.io")
        self._csi_nodes = informers.informer("csinodes.storage.k8s.io")
        self._attachments = informers.informer("volumeattachments.storage.k8s.io")
        self._attachments.add_index(_BY_NODE, _node_of)

    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> PreFilterResult | None:
        if not any(claims_of_pod(pod.obj)):
            state.skipped.add(self.name)
        return None

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        for name, _ in claims_of_pod(pod.obj):
            if self._claims.get(f"{pod.namespace}/{name}") is None:
                return Hopeless((f'looking up PVC {pod.namespace}/{name}: persistentvolumeclaim "{name}" not found',))
        limits = _limits(self._csi_nodes.get(node.name))
        wanted = self._used_by(pod) if limits else ()
        if not wanted:
            return ()
        attached = set[_Volume]().union(*map(self._used_by, node.pods.values()))
        # a volume of several pods is attached once, and so is one that is still attached with no pod any more
        taken = Counter(driver for driver, _ in attached | self._attached_to(node.name))
        new = Counter(driver for driver, _ in wanted - attached)
        exceeded = any(taken[driver] + count > limits[driver] for driver, count in new.items() if driver in limits)
        return _REASON if exceeded else ()

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        if isinstance(event, PodEvent):
            return event.old is not None and any(claims_of_pod(event.old.obj))
        if not isinstance(event, StorageEvent):
            return True
        if event.kind is EventKind.CLAIM:
            mine = {f"{pod.namespace}/{name}" for name, _ in claims_of_pod(pod.obj)}
            return event.old is None and meta.key(event.obj) in mine
        if event.kind is EventKind.CSI_NODE and event.old is not None:
            before, now = _limits(event.old), _limits(event.obj)
            return any(count > before.get(driver, 0) for driver, count in now.items())
        return True

    # ------------------------------------------------------------------ volumes
    def _used_by(self, pod: PodInfo) -> set[_Volume]:
        """The CSI volumes of the pod's claims; of an unbound claim, the one that is to be made."""
        found = set()
        for name, _ in claims_of_pod(pod.obj):
            claim = self._claims.get(f"{pod.namespace}/{name}")
            volume = self._of(claim) if claim is not None else None
            if volume is not None:
                found.add(volume)
        return found

    def _of(self, claim: Object) -> _Volume | None:
        volume = self._volumes.get(claim["spec"].get("volumeName") or "")
        if volume is not None:
            return _csi_volume(volume)
        storage_class = self._classes.get(class_of(claim))
        return (storage_class["provisioner"], f"claim {meta.key(claim)}") if storage_class is not None else None

    def _attached_to(self, node: str) -> set[_Volume]:
        found = set()
        for attachment in self._attachments.by_index(_BY_NODE, node):
            spec = attachment["spec"]
            volume = self._volumes.get((spec.get("source") or {}).get("persistentVolumeName") or "")
            csi = _csi_volume(volume) if volume is not None else None
            if csi is not None:
                found.add((spec["attacher"], csi[1]))
        return found


def _node_of(attachment: Object) -> list[str]:
    """Index."""
    return [attachment["spec"]["nodeName"]]


def _csi_volume(volume: Object) -> _Volume | None:
    source = volume["spec"].get("csi")
    return (source["driver"], source["volumeHandle"]) if source else None


def _limits(csi_node: Object | None) -> Mapping[str, int]:
    """By driver, how many volumes it attaches to the node; drivers that are not in it have no limit."""
    drivers = (csi_node["spec"].get("drivers") or ()) if csi_node is not None else ()
    counts = {one["name"]: (one.get("allocatable") or {}).get("count") for one in drivers}
    return {driver: count for driver, count in counts.items() if count is not None}
