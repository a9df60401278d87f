"""What happens in the cluster that may make a pod schedulable that was not.

(kubernetes `pkg/scheduler/framework/events.go`; KEP-4247 for why a pod is woken only by what can help it.)
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.pods import PodInfo


class EventKind(enum.Enum):
    NODE_ADDED = "a node was added"
    NODE_REMOVED = "a node is gone"
    NODE_ALLOCATABLE = "a node's allocatable resources changed"
    NODE_LABELS = "a node's labels changed"
    NODE_TAINTS = "a node's taints changed, or it is schedulable again"
    POD_PLACED = "a pod with a node was seen for the first time"
    POD_REMOVED = "a pod with a node is gone, has finished, or was not bound after all"
    POD_LABELS = "a pod's labels changed"
    POD_SCALED_DOWN = "a pod needs less than before"
    POD_TOLERATIONS = "a pod got a toleration"
    POD_GATES_GONE = "a pod's last scheduling gate was taken away"
    CLAIM = "a PersistentVolumeClaim was added or changed"
    VOLUME = "a PersistentVolume was added or changed"
    STORAGE_CLASS = "a StorageClass was added or changed"
    CSI_NODE = "a CSINode was added or changed"
    CSI_DRIVER = "a CSIDriver was added or changed"
    STORAGE_CAPACITY = "a CSIStorageCapacity was added or changed"
    ATTACHMENT_REMOVED = "a VolumeAttachment is gone"


class NodeEvent(NamedTuple):
    """`old` is None for a node that was added, `new` for one that is gone. Neither carries pods."""

    kind: EventKind
    old: NodeInfo | None
    new: NodeInfo | None


class PodEvent(NamedTuple):
    """About a pod with a node, or about a waiting pod itself. `old` or `new` is None as with nodes."""

    kind: EventKind
    old: PodInfo | None
    new: PodInfo | None

    def is_about(self, pod: PodInfo) -> bool:
        return self.new is not None and self.new.uid == pod.uid


class StorageEvent(NamedTuple):
    """`obj` is the claim, volume, class and so on as it is now, or was before it was removed; `old` is None for one
    that was added.
    """

    kind: EventKind
    obj: Object
    old: Object | None = None


ClusterEvent = NodeEvent | PodEvent | StorageEvent


_ACTIONS = {
    EventKind.NODE_ADDED: "Add",
    EventKind.NODE_REMOVED: "Delete",
    EventKind.NODE_ALLOCATABLE: "UpdateNodeAllocatable",
    EventKind.NODE_LABELS: "UpdateNodeLabel",
    EventKind.NODE_TAINTS: "UpdateNodeTaint",
    EventKind.POD_PLACED: "Add",
    EventKind.POD_REMOVED: "Delete",
    EventKind.POD_LABELS: "UpdatePodLabel",
    EventKind.POD_SCALED_DOWN: "UpdatePodScaleDown",
    EventKind.POD_TOLERATIONS: "UpdatePodToleration",
    EventKind.POD_GATES_GONE: "UpdatePodSchedulingGatesEliminated",
    EventKind.ATTACHMENT_REMOVED: "Delete",
}
_STORED = {
    EventKind.CLAIM: "PersistentVolumeClaim",
    EventKind.VOLUME: "PersistentVolume",
    EventKind.STORAGE_CLASS: "storage.k8s.io/StorageClass",
    EventKind.CSI_NODE: "storage.k8s.io/CSINode",
    EventKind.CSI_DRIVER: "storage.k8s.io/CSIDriver",
    EventKind.STORAGE_CAPACITY: "storage.k8s.io/CSIStorageCapacity",
    EventKind.ATTACHMENT_REMOVED: "storage.k8s.io/VolumeAttachment",
}


def label_of(event: ClusterEvent) -> str:
    """Resource and action, as kube-scheduler's metrics name the event."""
    if isinstance(event, StorageEvent):
        action = "Add" if event.old is None else "Update"
        return _STORED[event.kind] + _ACTIONS.get(event.kind, action)
    if isinstance(event, NodeEvent):
        return "Node" + _ACTIONS[event.kind]
    pod = event.new or event.old
    return ("AssignedPod" if pod is not None and pod.node else "UnschedulablePod") + _ACTIONS[event.kind]


def node_added(node: Object) -> NodeEvent:
    return NodeEvent(EventKind.NODE_ADDED, None, NodeInfo.of(node))


def node_removed(node: Object) -> NodeEvent:
    return NodeEvent(EventKind.NODE_REMOVED, NodeInfo.of(node), None)


def node_changes(before: Object, after: Object) -> Iterator[NodeEvent]:
    """What changed of a node that matters to scheduling."""
    # most updates are heartbeats
    if _node_facts(before) == _node_facts(after):
        return
    old, new = NodeInfo.of(before), NodeInfo.of(after)
    if old.allocatable != new.allocatable:
        yield NodeEvent(EventKind.NODE_ALLOCATABLE, old, new)
    if old.labels != new.labels:
        yield NodeEvent(EventKind.NODE_LABELS, old, new)
    if old.taints != new.taints or (old.unschedulable and not new.unschedulable):
        yield NodeEvent(EventKind.NODE_TAINTS, old, new)


def _node_facts(node: Object) -> tuple[object, ...]:
    return (node.get("spec"), meta.labels(node), (node.get("status") or {}).get("allocatable"))


def pod_placed(pod: PodInfo) -> PodEvent:
    return PodEvent(EventKind.POD_PLACED, None, pod)


def pod_removed(pod: PodInfo) -> PodEvent:
    return PodEvent(EventKind.POD_REMOVED, pod, None)


def pod_changes(old: PodInfo, new: PodInfo) -> Iterator[PodEvent]:
    """What changed of a pod that matters to scheduling: that of a waiting pod itself, or that of others."""
    if old.labels != new.labels:
        yield PodEvent(EventKind.POD_LABELS, old, new)
    if any(new.requests.get(name, -1) < value for name, value in old.requests.items()):
        yield PodEvent(EventKind.POD_SCALED_DOWN, old, new)
    if old.spec.get("schedulingGates") and not new.spec.get("schedulingGates"):
        yield PodEvent(EventKind.POD_GATES_GONE, old, new)
    # tolerations can only be added
    if len(old.tolerations) != len(new.tolerations):
        yield PodEvent(EventKind.POD_TOLERATIONS, old, new)
