"""Prefers nodes whose resources would be used in equal measure, so that none runs out alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.framework import MAXIMUM_SCORE, CycleState, Score
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.resource_scoring import CPU_AND_MEMORY, Weighted, use_after


class NodeResourcesBalancedAllocation(Score):
    name = "NodeResourcesBalancedAllocation"

    def __init__(self, *, resources: Sequence[Weighted] = CPU_AND_MEMORY) -> None:
        self.resources = tuple(resources)

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> bool:
        # A pod that requests none changes the balance nowhere: all such pods would go to the best balanced node.
        return any(pod.requests.get(one.name, 0) for one in self.resources)

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        found = (use_after(pod, node, one.name, as_requested=True) for one in self.resources)
        fractions = [min(1.0, one[0] / one[1]) for one in found if one is not None]
        return int((1.0 - _deviation(fractions)) * MAXIMUM_SCORE)


def _deviation(fractions: Sequence[float]) -> float:
    """The standard deviation; of two numbers it is half their distance."""
    if len(fractions) < 2:
        return 0.0
    if len(fractions) == 2:
        return abs((fractions[0] - fractions[1]) / 2)
    mean = sum(fractions) / len(fractions)
    return math.sqrt(sum((one - mean) * (one - mean) for one in fractions) / len(fractions))
