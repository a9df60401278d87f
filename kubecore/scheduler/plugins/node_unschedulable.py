"""Nodes that are cordoned take pods only that tolerate it."""

from __future__ import annotations

from collections.abc import Sequence

from kubecore.api.taints import is_tolerated
from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind, NodeEvent, PodEvent
from kubecore.scheduler.framework import CycleState, Filter, Hopeless
from kubecore.scheduler.pods import PodInfo

_REASON = Hopeless(("node(s) were unschedulable",))
_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


class NodeUnschedulable(Filter):
    name = "NodeUnschedulable"
    wakes = frozenset({EventKind.NODE_ADDED, EventKind.NODE_TAINTS, EventKind.POD_TOLERATIONS})

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        if not node.unschedulable or is_tolerated(_TAINT, pod.tolerations):
            return ()
        return _REASON

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        if isinstance(event, PodEvent):
            return event.is_about(pod) and event.new is not None and is_tolerated(_TAINT, event.new.tolerations)
        if not isinstance(event, NodeEvent):
            return True
        if event.new is None or event.new.unschedulable:
            return False
        return event.old is None or event.old.unschedulable
