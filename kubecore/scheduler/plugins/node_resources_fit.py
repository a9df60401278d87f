"""A node must have room for what a pod requests; of those that have, the least allocated is best."""

from __future__ import annotations

from collections.abc import Sequence

from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.framework import MAXIMUM_SCORE, ClusterEvent, CycleState, Filter, Score
from kubecore.scheduler.pods import PodInfo

_TOO_MANY_PODS = "Too many pods"


class NodeResourcesFit(Filter, Score):
    name = "NodeResourcesFit"
    wakes = frozenset({ClusterEvent.NODE_ADDED, ClusterEvent.NODE_RESOURCES, ClusterEvent.POD_REMOVED})

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        reasons = []
        allocatable, requested = node.allocatable, node.requested
        if len(node.pods) + 1 > allocatable.get("pods", 0):
            reasons.append(_TOO_MANY_PODS)
        for name, wanted in pod.requests.items():
            if wanted > 0 and wanted > allocatable.get(name, 0) - requested.get(name, 0):
                reasons.append(f"Insufficient {name}")
        return reasons

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        """LeastAllocated: the share of cpu and memory that stays free, both counting the same."""
        cpu, memory = pod.used
        shares = [
            _free_share(node.used_cpu + cpu, node.allocatable.get("cpu", 0)),
            _free_share(node.used_memory + memory, node.allocatable.get("memory", 0)),
        ]
        known = [share for share in shares if share is not None]
        return sum(known) // len(known) if known else 0


def _free_share(used: int, allocatable: int) -> int | None:
    if allocatable <= 0:
        return None
    return max(0, allocatable - used) * MAXIMUM_SCORE // allocatable
