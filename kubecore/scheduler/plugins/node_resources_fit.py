"""A node must have room for what a pod requests; of those that have, the least allocated is best."""

from __future__ import annotations

from collections.abc import Sequence

from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind, NodeEvent, PodEvent
from kubecore.scheduler.framework import MAXIMUM_SCORE, CycleState, Filter, Score
from kubecore.scheduler.pods import PodInfo, Resources

_TOO_MANY_PODS = "Too many pods"


class NodeResourcesFit(Filter, Score):
    name = "NodeResourcesFit"
    wakes = frozenset(
        {EventKind.NODE_ADDED, EventKind.NODE_ALLOCATABLE, EventKind.POD_REMOVED, EventKind.POD_SCALED_DOWN}
    )

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

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        if isinstance(event, NodeEvent):
            return event.new is not None and self._node_helps(event.old, event.new, pod)
        if not isinstance(event, PodEvent) or event.old is None or event.new is None or event.is_about(pod):
            return True
        if not event.new.node:
            return False
        return _any_wanted_grows(pod, event.new.requests, event.old.requests)

    def _node_helps(self, old: NodeInfo | None, new: NodeInfo, pod: PodInfo) -> bool:
        """Were the node empty, would the pod fit now, and is there more of what it needs than before?"""
        if self.filter(CycleState(), pod, new):
            return False
        if old is None:
            return True
        more_pods = new.allocatable.get("pods", 0) > old.allocatable.get("pods", 0)
        return more_pods or _any_wanted_grows(pod, old.allocatable, new.allocatable)


def _any_wanted_grows(pod: PodInfo, before: Resources, after: Resources) -> bool:
    """Whether anything that the pod requests grew from `before` to `after`."""
    return any(after.get(name, 0) > before.get(name, 0) for name, wanted in pod.requests.items() if wanted > 0)


def _free_share(used: int, allocatable: int) -> int | None:
    if allocatable <= 0:
        return None
    return max(0, allocatable - used) * MAXIMUM_SCORE // allocatable
