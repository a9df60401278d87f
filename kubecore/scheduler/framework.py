"""The extension points plugins hang on, and what a decision consists of.

A small form of kubernetes `pkg/scheduler/framework`. A plugin implements the points it needs: QueueSort, PreEnqueue,
PreFilter, Filter, PostFilter, PreScore and Score, Reserve, Permit, PreBind, Bind, PostBind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol

from kubecore.client.client import Object
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

    def clone(self) -> CycleState:
        """A copy to try `add_pod` and `remove_pod` on. A note that those change brings a `clone` method."""
        copy = CycleState()
        copy.skipped = set(self.skipped)
        for name, note in self.notes.items():
            clone = getattr(note, "clone", None)
            copy.notes[name] = note if clone is None else clone()
        return copy


class LaterState(CycleState):
    """What `prepare` makes of it as soon as somebody looks."""

    __slots__ = ("_prepare",)

    def __init__(self, prepare: Callable[[], CycleState]) -> None:
        self._prepare = prepare

    def __getattr__(self, name: str) -> Any:
        # asked for slots that are not set only
        prepared = self._prepare()
        self.notes, self.skipped = prepared.notes, prepared.skipped
        return getattr(prepared, name)


class Plugin(ABC):
    name: ClassVar[str]
    wakes: ClassVar[frozenset[EventKind]] = frozenset(EventKind)
    """Kinds of events upon which a pod that this plugin refused may be worth trying again."""

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        """Whether an event of those kinds may change what was refused to this pod. When in doubt, True."""
        return True


class QueueSort(Plugin):
    @abstractmethod
    def order(self, pod: PodInfo, since: float) -> Any:
        """What pods that wait are sorted by, least first; `since` says when the pod came to the queue."""


class PreEnqueue(Plugin):
    tells: ClassVar[bool] = False
    """It says itself when its gate opens (`Handle.reopen`): until then no event is worth a look at the pod."""

    @abstractmethod
    def pre_enqueue(self, pod: PodInfo) -> str | None:
        """Why the pod may not even be tried, or None."""


@dataclass(frozen=True, slots=True)
class PreFilterResult:
    """A `refusal` holds for all nodes; else `nodes`, unless None, names the only ones that can do."""

    refusal: str = ""
    nodes: frozenset[str] | None = None


class PreFilter(Plugin):
    of_volumes: ClassVar[bool] = False
    """It is not asked of a pod whose volumes are plain (`PodInfo.plain_volumes`), but skipped."""

    @abstractmethod
    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> PreFilterResult | None:
        """Work out what does not depend on the node. May add itself to `state.skipped`."""

    def add_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        """Amend what was worked out for `pod` as if `other` were on the node too. Not called when skipped."""

    def remove_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        """Amend what was worked out for `pod` as if `other` had left the node. Not called when skipped."""


class Hopeless(tuple[str, ...]):
    """Reasons to refuse a node that hold whatever pods leave it, so that preemption cannot help there."""

    __slots__ = ()


class Filter(Plugin):
    @abstractmethod
    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        """Why the node cannot take the pod; empty when it can. A `Hopeless` rules out preemption there."""


@dataclass(frozen=True, slots=True)
class PostFilterResult:
    """`message` says why no room could be made; `node` is where the pod is to go when room was made, "" to take back
    where it was to go, None to leave that as it is.
    """

    message: str = ""
    node: str | None = None


class PostFilter(Plugin):
    @abstractmethod
    def post_filter(
        self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis
    ) -> PostFilterResult | Awaitable[PostFilterResult]:
        """Try to make room after no node would do; no other pod is tried until that is decided."""


class PreScore(Plugin):
    def pre_score(self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], cache: Cache) -> bool:
        """Prepare; False when all nodes would score the same."""
        return True


class Score(PreScore):
    """One that a profile has at preScore no more is not prepared, and had better not need it."""

    weight: int = 1
    """Unless the profile gives another."""

    def concerns(self, pod: PodInfo, cache: Cache) -> bool:
        """Whether nodes may score differently for this pod; told from little, before nodes are chosen. When in doubt,
        True.
        """
        return True

    @abstractmethod
    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int: ...

    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int], nodes: Sequence[NodeInfo]) -> list[int]:
        """Bring raw scores into 0 to MAXIMUM_SCORE."""
        return scores


class Reserve(Plugin):
    @abstractmethod
    def reserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        """Called as soon as the pod is given the node, before another pod is decided; raises when it cannot be done,
        `Refused` when the pod does not fit after all.
        """

    @abstractmethod
    def unreserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        """Undo `reserve`; also called of a plugin that did not reserve, since another one could not."""


@dataclass(frozen=True, slots=True)
class Permission:
    """Either a `refusal`, or the seconds for which the pod waits to be allowed."""

    refusal: str = ""
    wait: float = 0.0


class Permit(Plugin):
    @abstractmethod
    def permit(self, state: CycleState, pod: PodInfo, node: str) -> Permission | None:
        """Whether the pod may be bound; None when it may at once. Who says wait calls `WaitingPod.allow` later."""


class PreBind(Plugin):
    def has_work(self, state: CycleState, pod: PodInfo, node: str) -> bool:
        """Whether `pre_bind` does anything for this pod, so that its node is shown as nominated meanwhile."""
        return True

    @abstractmethod
    async def pre_bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
        """Prepare what the pod needs on the node; raises when it cannot be done, `Refused` when it does not fit."""


class Bind(Plugin):
    def handles(self, state: CycleState, pod: PodInfo, node: str) -> bool:
        """Whether to bind this pod; else the next Bind plugin is asked."""
        return True

    @abstractmethod
    async def bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
        """Make it so; raises when it cannot be done."""


class PostBind(Plugin):
    @abstractmethod
    def post_bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
        """The pod was bound."""


class Refused(Exception):
    """A plugin decided, after the choice of a node, that the pod does not fit there after all."""

    def __init__(self, message: str, plugin: str) -> None:
        super().__init__(message)
        self.plugin = plugin


class PluginError(Exception):
    """A plugin failed, which says nothing about whether the pod fits; worded as kube-scheduler words it."""


Rehearsed = tuple[list[tuple[str, list[str], int]], int, list[tuple[str, int]]]
"""Candidates (node, keys of the victims, how many of them budgets protect), how many nodes are none, and for how many
of those each reason holds."""


class Crowd(Protocol):
    """Nodes, thousands of them maybe, that were refused for reasons which pods that leave may take away."""

    def __len__(self) -> int: ...

    def names(self) -> list[str]: ...

    def holds(self, name: str) -> bool: ...

    def rehearse(
        self, *, budgets: Sequence[Object], start: int, enough: int, now: datetime, everyone: bool
    ) -> Rehearsed | None:
        """What preemption there would do, looking from the node at place `start` on until there are `enough`
        candidates: the least harmful one, or `everyone`. None if it has to be tried node by node.
        """


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
    crowd: Crowd | None = None
    """Those that were refused in bulk for reasons which pods that leave may take away."""
    named: list[str] = field(default_factory=list)
    """Names of the others that were."""

    @property
    def crowded(self) -> list[str]:
        """Names of all nodes that were refused for reasons which pods that leave may take away."""
        return [*self.named, *(self.crowd.names() if self.crowd is not None else ())]

    def is_crowded(self, node: str) -> bool:
        return node in self.named or (self.crowd is not None and self.crowd.holds(node))

    def refused(self, plugin: str, reasons: Sequence[str], nodes: int = 1) -> None:
        self.plugins.add(plugin)
        for reason in reasons:
            self.reasons[reason] = self.reasons.get(reason, 0) + nodes

    def refused_node(self, node: str, plugin: str, reasons: Sequence[str]) -> None:
        self.refused(plugin, reasons)
        if not isinstance(reasons, Hopeless):
            self.named.append(node)

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
