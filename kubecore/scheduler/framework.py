"""The extension points plugins hang on, and the evaluator that runs them over the nodes.

A small form of kubernetes `pkg/scheduler/framework`. A plugin implements the points it needs: PreEnqueue, PreFilter,
Filter, PostFilter, PreScore and Score, Reserve, Bind.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.pods import PodInfo

MAXIMUM_SCORE = 100


class ClusterEvent(enum.Enum):
    """What may make a pod schedulable that was not."""

    NODE_ADDED = "node added"
    NODE_RESOURCES = "a node's allocatable resources changed"
    NODE_LABELS = "a node's labels changed"
    NODE_TAINTS = "a node's taints changed, or whether it is schedulable"
    POD_REMOVED = "a pod with a node is gone, has finished or needs less"
    POD_PLACED = "a pod was bound, or a bound one changed its labels"


NODE_EVENTS = frozenset(
    {ClusterEvent.NODE_ADDED, ClusterEvent.NODE_RESOURCES, ClusterEvent.NODE_LABELS, ClusterEvent.NODE_TAINTS}
)


class CycleState:
    """What plugins note for themselves while one pod is scheduled; `skipped` names those with nothing to filter."""

    __slots__ = ("notes", "skipped")

    def __init__(self) -> None:
        self.notes: dict[str, Any] = {}
        self.skipped: set[str] = set()


class Plugin:
    name: ClassVar[str]
    wakes: ClassVar[frozenset[ClusterEvent]] = frozenset()
    """Events upon which a pod that this plugin refused is worth trying again."""


class PreEnqueue(Plugin):
    def pre_enqueue(self, pod: PodInfo) -> str | None:
        """Why the pod may not even be tried, or None."""
        raise NotImplementedError


class PreFilter(Plugin):
    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> str | None:
        """Work out what does not depend on the node; why no node can do, or None. May add itself to `state.skipped`."""
        raise NotImplementedError


class Filter(Plugin):
    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        """Why the node cannot take the pod; empty when it can."""
        raise NotImplementedError


class PostFilter(Plugin):
    def post_filter(self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis) -> str | None:
        """Try to make room after no node would do; what to add to the message, or None."""
        raise NotImplementedError


class Score(Plugin):
    weight: ClassVar[int] = 1

    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> bool:
        """Prepare; False when all nodes would score the same."""
        return True

    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int:
        raise NotImplementedError

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> list[int]:
        """Bring raw scores into 0 to MAXIMUM_SCORE."""
        return scores


class Reserve(Plugin):
    def reserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        raise NotImplementedError

    def unreserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        raise NotImplementedError


class Bind(Plugin):
    async def bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
        """Make it so; raises when it cannot be done."""
        raise NotImplementedError


@dataclass(slots=True)
class Diagnosis:
    """Why no node would do."""

    nodes: int
    reasons: dict[str, int] = field(default_factory=dict)
    """How many nodes gave each reason."""
    plugins: set[str] = field(default_factory=set)
    """Who refused."""
    everywhere: str = ""
    """A reason that holds for all nodes together."""
    added: str = ""
    """What a PostFilter says."""

    def message(self) -> str:
        """As kube-scheduler words it (FitError)."""
        if not self.nodes:
            return "no nodes available to schedule pods"
        text = f"0/{self.nodes} nodes are available:"
        if self.everywhere:
            text += f" {self.everywhere}."
        elif self.reasons:
            text += f" {', '.join(sorted(f'{count} {reason}' for reason, count in self.reasons.items()))}."
        return f"{text} {self.added}" if self.added else text


@dataclass(slots=True)
class Decision:
    """Where the pod goes: a node, or a diagnosis."""

    state: CycleState
    node: str = ""
    diagnosis: Diagnosis | None = None


class Evaluator(Protocol):
    """Chooses among all nodes. Another implementation may take this over for the common plugins, in bulk."""

    def evaluate(self, pod: PodInfo, cache: Cache) -> Decision: ...


def nodes_to_find(count: int) -> int:
    """How many feasible nodes are enough among `count`: all up to 100, then a share that shrinks to 5 %."""
    if count < 100:
        return count
    percentage = max(50 - count // 125, 5)
    return max(count * percentage // 100, 100)


class PluginEvaluator:
    """Runs the plugins over the nodes in Python. Searches on each time from where the last search ended."""

    def __init__(self, plugins: Sequence[Plugin], chance: random.Random | None = None) -> None:
        self._pre_filters = [one for one in plugins if isinstance(one, PreFilter)]
        self._filters = [one for one in plugins if isinstance(one, Filter)]
        self._scores = [one for one in plugins if isinstance(one, Score)]
        self._chance = chance or random.Random()
        self._start = 0

    def evaluate(self, pod: PodInfo, cache: Cache) -> Decision:
        state = CycleState()
        nodes = cache.nodes()
        diagnosis = Diagnosis(len(nodes))
        for plugin in self._pre_filters:
            refusal = plugin.pre_filter(state, pod, cache)
            if refusal is not None:
                diagnosis.everywhere = refusal
                diagnosis.plugins.add(plugin.name)
                return Decision(state, diagnosis=diagnosis)
        feasible = self._filter(state, pod, nodes, diagnosis)
        if not feasible:
            return Decision(state, diagnosis=diagnosis)
        return Decision(state, node=self._choose(state, pod, feasible, cache))

    def _filter(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], diagnosis: Diagnosis
    ) -> list[NodeInfo]:
        filters = [one for one in self._filters if one.name not in state.skipped]
        enough = nodes_to_find(len(nodes))
        feasible: list[NodeInfo] = []
        start = self._start % len(nodes) if nodes else 0
        seen = 0
        for index in range(len(nodes)):
            node = nodes[(start + index) % len(nodes)]
            seen += 1
            for plugin in filters:
                reasons = plugin.filter(state, pod, node)
                if reasons:
                    diagnosis.plugins.add(plugin.name)
                    for reason in reasons:
                        diagnosis.reasons[reason] = diagnosis.reasons.get(reason, 0) + 1
                    break
            else:
                feasible.append(node)
                if len(feasible) >= enough:
                    break
        self._start = start + seen
        return feasible

    def _choose(self, state: CycleState, pod: PodInfo, nodes: list[NodeInfo], cache: Cache) -> str:
        if len(nodes) == 1:
            return nodes[0].name
        totals = [0] * len(nodes)
        for plugin in self._scores:
            if not plugin.pre_score(state, pod, nodes, cache):
                continue
            scores = [plugin.score(state, pod, node) for node in nodes]
            for index, score in enumerate(plugin.normalize(state, pod, scores, nodes)):
                totals[index] += score * plugin.weight
        best = max(totals)
        return self._chance.choice([node.name for node, total in zip(nodes, totals, strict=True) if total == best])


def normalize_by_maximum(scores: list[int], *, reverse: bool = False) -> list[int]:
    """Scale so that the largest becomes MAXIMUM_SCORE; `reverse` turns them round (the smallest is best)."""
    highest = max(scores, default=0)
    if highest == 0:
        return [MAXIMUM_SCORE] * len(scores) if reverse else scores
    scaled = [score * MAXIMUM_SCORE // highest for score in scores]
    return [MAXIMUM_SCORE - score for score in scaled] if reverse else scaled
