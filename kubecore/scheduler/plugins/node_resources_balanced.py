"""Prefers nodes whose cpu and memory would be used in equal measure, so that neither runs out alone."""

from __future__ import annotations

from collections.abc import Sequence

from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.framework import MAXIMUM_SCORE, CycleState, Score
from kubecore.scheduler.pods import PodInfo

_BALANCED = ("cpu", "memory")


class NodeResourcesBalancedAllocation(Score):
    name = "NodeResourcesBalancedAllocation"

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> bool:
        # A pod that requests neither changes the balance nowhere: all such pods would go to the best balanced node.
        return any(pod.requests.get(name, 0) for name in _BALANCED)

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        fractions = []
        for name in _BALANCED:
            allocatable = node.allocatable.get(name, 0)
            if allocatable > 0:
                used = node.requested.get(name, 0) + pod.requests.get(name, 0)
                fractions.append(min(1.0, used / allocatable))
        # the standard deviation of two numbers is half their distance
        deviation = abs(fractions[0] - fractions[1]) / 2 if len(fractions) == 2 else 0.0
        return int((1.0 - deviation) * MAXIMUM_SCORE)
