"""Keeps pods off nodes whose taints they do not tolerate, and prefers nodes with fewer PreferNoSchedule taints."""

from __future__ import annotations

from collections.abc import Sequence

from kubecore.api.taints import is_tolerated
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.framework import ClusterEvent, CycleState, Filter, Score, normalize_by_maximum
from kubecore.scheduler.pods import PodInfo

_REASON = ("node(s) had untolerated taint(s)",)


class TaintToleration(Filter, Score):
    name = "TaintToleration"
    weight = 3
    wakes = frozenset({ClusterEvent.NODE_ADDED, ClusterEvent.NODE_TAINTS})

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        if not node.taints:
            return ()
        tolerations = pod.spec.get("tolerations")
        for taint in node.taints:
            if taint["effect"] in ("NoSchedule", "NoExecute") and not is_tolerated(taint, tolerations):
                return _REASON
        return ()

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> bool:
        return any(taint["effect"] == "PreferNoSchedule" for node in nodes for taint in node.taints)

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        tolerations = [
            one for one in pod.spec.get("tolerations") or () if one.get("effect") in (None, "", "PreferNoSchedule")
        ]
        return sum(
            1 for taint in node.taints if taint["effect"] == "PreferNoSchedule" and not is_tolerated(taint, tolerations)
        )

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> list[int]:
        return normalize_by_maximum(scores, reverse=True)
