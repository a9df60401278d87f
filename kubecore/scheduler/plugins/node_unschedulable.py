"""Nodes that are cordoned take pods only that tolerate it."""

from __future__ import annotations

from collections.abc import Sequence

from kubecore.api.taints import is_tolerated
from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.framework import ClusterEvent, CycleState, Filter
from kubecore.scheduler.pods import PodInfo

_REASON = ("node(s) were unschedulable",)
_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


class NodeUnschedulable(Filter):
    name = "NodeUnschedulable"
    wakes = frozenset({ClusterEvent.NODE_ADDED, ClusterEvent.NODE_TAINTS})

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        if not node.unschedulable or is_tolerated(_TAINT, pod.spec.get("tolerations")):
            return ()
        return _REASON
