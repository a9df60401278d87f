"""A node must have room for what a pod requests; how much room is best, the scoring strategy says."""

from __future__ import annotations

from collections.abc import Sequence

from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind, NodeEvent, PodEvent
from kubecore.scheduler.framework import CycleState, Filter, Hopeless, Score
from kubecore.scheduler.pods import PodInfo, Resources
from kubecore.scheduler.resource_scoring import (
    CPU_AND_MEMORY,
    Weighted,
    by_shape,
    least_allocated,
    most_allocated,
    use_after,
)

_TOO_MANY_PODS = "Too many pods"

LEAST_ALLOCATED = "LeastAllocated"
MOST_ALLOCATED = "MostAllocated"
REQUESTED_TO_CAPACITY_RATIO = "RequestedToCapacityRatio"


class NodeResourcesFit(Filter, Score):
    """`shape` is that of RequestedToCapacityRatio: (percentage in use, score of 0 to 10) in rising order. `ignored` are
    extended resources that nodes need not have, `ignored_groups` the parts of such names before the slash.
    """

    name = "NodeResourcesFit"
    wakes = frozenset(
        {EventKind.NODE_ADDED, EventKind.NODE_ALLOCATABLE, EventKind.POD_REMOVED, EventKind.POD_SCALED_DOWN}
    )

    def __init__(
        self,
        *,
        strategy: str = LEAST_ALLOCATED,
        resources: Sequence[Weighted] = CPU_AND_MEMORY,
        shape: Sequence[tuple[int, int]] = (),
        ignored: Sequence[str] = (),
        ignored_groups: Sequence[str] = (),
    ) -> None:
        scores = {LEAST_ALLOCATED: least_allocated, MOST_ALLOCATED: most_allocated}
        self.strategy = strategy
        self.resources = tuple(resources)
        self.ignored = frozenset(ignored)
        self.ignored_groups = frozenset(ignored_groups)
        self._score = by_shape(shape) if strategy == REQUESTED_TO_CAPACITY_RATIO else scores[strategy]

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        reasons: list[str] = []
        hopeless = False
        allocatable, requested = node.allocatable, node.requested
        if len(node.pods) + 1 > allocatable.get("pods", 0):
            reasons.append(_TOO_MANY_PODS)
        for name, wanted in pod.requests.items():
            if wanted > 0 and wanted > allocatable.get(name, 0) - requested.get(name, 0) and not self._ignores(name):
                reasons.append(f"Insufficient {name}")
                hopeless |= wanted > allocatable.get(name, 0)
        return Hopeless(reasons) if hopeless else reasons

    def _ignores(self, name: str) -> bool:
        if not self.ignored and not self.ignored_groups:
            return False
        group, slash, _ = name.partition("/")
        is_extended = bool(slash) and "kubernetes.io/" not in name and not name.startswith("requests.")
        return is_extended and (name in self.ignored or group in self.ignored_groups)

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        """The mean over the resources that the node has, by their weights."""
        total = weights = 0
        for resource in self.resources:
            found = use_after(pod, node, resource.name)
            if found is None:
                continue
            score = self._score(*found)
            # with a shape, only what scores at all is counted
            if score or self.strategy != REQUESTED_TO_CAPACITY_RATIO:
                total += score * resource.weight
                weights += resource.weight
        if not weights:
            return 0
        if self.strategy == REQUESTED_TO_CAPACITY_RATIO:
            # halves are rounded up, as Go rounds them
            return (2 * total + weights) // (2 * weights)
        return total // weights

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
