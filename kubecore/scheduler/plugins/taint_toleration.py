"""Keeps pods off nodes whose taints they do not tolerate, and prefers nodes with fewer PreferNoSchedule taints."""

from __future__ import annotations

from collections.abc import Sequence

from kubecore.api.taints import is_tolerated
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind, NodeEvent, PodEvent
from kubecore.scheduler.framework import CycleState, Filter, Hopeless, Score, normalize_by_maximum
from kubecore.scheduler.pods import PodInfo

_REASON = Hopeless(("node(s) had untolerated taint(s)",))


class TaintToleration(Filter, Score):
    name = "TaintToleration"
    weight = 3
    wakes = frozenset({EventKind.NODE_ADDED, EventKind.NODE_TAINTS, EventKind.POD_TOLERATIONS})

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        return () if tolerates_node(pod, node) else _REASON

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> bool:
        return any(taint["effect"] == "PreferNoSchedule" for node in nodes for taint in node.taints)

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        return sum(
            taint["effect"] == "PreferNoSchedule" and not is_tolerated(taint, pod.tolerations) for taint in node.taints
        )

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> list[int]:
        return normalize_by_maximum(scores, reverse=True)

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        if isinstance(event, PodEvent):
            return event.is_about(pod)
        if not isinstance(event, NodeEvent):
            return True
        if event.new is None or not tolerates_node(pod, event.new):
            return False
        return event.old is None or not tolerates_node(pod, event.old)


def tolerates_node(pod: PodInfo, node: NodeInfo) -> bool:
    """Whether the pod tolerates all taints that would keep it off the node."""
    return not node.taints or all(
        is_tolerated(taint, pod.tolerations) for taint in node.taints if taint["effect"] in ("NoSchedule", "NoExecute")
    )
