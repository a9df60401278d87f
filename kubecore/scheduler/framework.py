"""The extension points plugins hang on, and what a decision consists of.

A small form of kubernetes `pkg/scheduler/framework`. A plugin implements the points it needs: PreEnqueue, PreFilter,
Filter, PostFilter, PreScore and Score, Reserve, PreBind, Bind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind
from kubecore.scheduler.pods import PodInfo

MAXIMUM_SCORE = 100


class CycleState:
    """What plugins note for themselves while one pod is scheduled; `skipped` names those with nothing to filter."""

    __slots__ = ("notes", "skipped")

    def __init__(self) -> None:
        self.notes: dict[str, Any] = {}
        self.skipped: set[str] = set()


class Plugin:
    name: ClassVar[str]
    wakes: ClassVar[frozenset[EventKind]] = frozenset()
    """Kinds of events upon which a pod that this plugin refused may be worth trying again."""

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        """Whether an event of those kinds may change what was refused to this pod. When in doubt, True."""
        return True


class PreEnqueue(Plugin):
    def pre_enqueue(self, pod: PodInfo) -> str | None:
        """Why the pod may not even be tried, or None."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class PreFilterResult:
    """A `refusal` holds for all nodes; else `nodes`, unless None, names the only ones that can do."""

    refusal: str = ""
    nodes: frozenset[str] | None = None


class PreFilter(Plugin):
    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> PreFilterResult | None:
        """Work out what does not depend on the node. May add itself to `state.skipped`."""
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
        """Called as soon as the pod is given the node, before another pod is decided; raises when it cannot be done."""
        raise NotImplementedError

    def unreserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        """Undo `reserve`; also called of a plugin that did not reserve, since another one could not."""
        raise NotImplementedError


class PreBind(Plugin):
    def has_work(self, state: CycleState, pod: PodInfo, node: str) -> bool:
        """Whether `pre_bind` does anything for this pod."""
        return True

    async def pre_bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
        """Prepare what the pod needs on the node; raises when it cannot be done."""
        raise NotImplementedError


class Bind(Plugin):
    async def bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
        """Make it so; raises when it cannot be done."""
        raise NotImplementedError


class PluginError(Exception):
    """A plugin failed, which says nothing about whether the pod fits; worded as kube-scheduler words it."""


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
    """What PostFilter plugins say."""

    def refused(self, plugin: str, reasons: Sequence[str], nodes: int = 1) -> None:
        self.plugins.add(plugin)
        for reason in reasons:
            self.reasons[reason] = self.reasons.get(reason, 0) + nodes

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

    def evaluate(self, pod: PodInfo, cache: Cache) -> Decision:
        """Raises PluginError."""


def normalize_by_maximum(scores: list[int], *, reverse: bool = False) -> list[int]:
    """Scale so that the largest becomes MAXIMUM_SCORE; `reverse` turns them round (the smallest is best)."""
    highest = max(scores, default=0)
    if highest == 0:
        return [MAXIMUM_SCORE] * len(scores) if reverse else scores
    scaled = [score * MAXIMUM_SCORE // highest for score in scores]
    return [MAXIMUM_SCORE - score for score in scaled] if reverse else scaled
