"""Which pods have to go so that one of higher priority fits: candidates, victims, and the least harmful choice.

(kubernetes `framework/preemption` and `plugins/defaultpreemption`.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from kubecore.api import meta
from kubecore.api.selectors import Selector
from kubecore.client.client import Object
from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.framework import CycleState
from kubecore.scheduler.node_filter import NodeFilter
from kubecore.scheduler.nominations import Nominations
from kubecore.scheduler.pods import PodInfo

Reasons = Sequence[str]

NO_VICTIMS = "No preemption victims found for incoming pod"
BY_SCHEDULER = "PreemptionByScheduler"
"""Reason of the condition DisruptionTarget of a pod that was preempted."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that would do if its `victims` were gone; most important first, at least one."""

    node: str
    victims: tuple[PodInfo, ...]
    violations: int = 0
    """How many of them their disruption budgets would not let go."""


def select_victims(
    node_filter: NodeFilter,
    state: CycleState,
    pod: PodInfo,
    node: NodeInfo,
    *,
    budgets: Sequence[Object],
    nominations: Nominations,
    now: datetime,
) -> Candidate | Reasons:
    """The smallest set of pods of lower priority that have to go, or why it would not help if all of them did.

    All are taken away in thought and, if the pod fits then, put back one by one as long as it still does: first those
    that budgets protect, and among them the important ones.
    """
    lower = [one for one in node.pods.values() if one.priority < pod.priority]
    if not lower:
        return (NO_VICTIMS,)
    state, node = state.clone(), node.clone()
    for one in lower:
        node_filter.remove(state, pod, one, node)
    if refused := node_filter.refusal(state, pod, node, nominations):
        return refused.reasons
    protected, others = split_by_budgets(by_importance(lower, now), budgets)
    victims: list[PodInfo] = []

    def must_go(one: PodInfo) -> bool:
        node_filter.add(state, pod, one, node)
        if node_filter.refusal(state, pod, node, nominations) is None:
            return False
        node_filter.remove(state, pod, one, node)
        victims.append(one)
        return True

    violations = sum([must_go(one) for one in protected])
    for one in others:
        must_go(one)
    if not victims:
        return (f'expected at least one victim pod on node "{node.name}"',)
    return Candidate(node.name, tuple(by_importance(victims, now)), violations)


def by_importance(pods: Iterable[PodInfo], now: datetime) -> list[PodInfo]:
    """Higher priority first, then who started earlier; a pod that has not started counts as starting now. Of equals
    the one whose key comes first.
    """
    return sorted(pods, key=lambda pod: (-pod.priority, pod.started or now, pod.key))


def split_by_budgets(pods: Sequence[PodInfo], budgets: Sequence[Object]) -> tuple[list[PodInfo], list[PodInfo]]:
    """Those whose going would violate a PodDisruptionBudget if all before them went too, and the others, in order."""
    allowed = [int((one.get("status") or {}).get("disruptionsAllowed") or 0) for one in budgets]
    selectors = [_selector(one) for one in budgets]
    protected: list[PodInfo] = []
    others: list[PodInfo] = []
    for pod in pods:
        violated = False
        for index, (budget, selector) in enumerate(zip(budgets, selectors, strict=True)):
            if selector is None or meta.namespace(budget) != pod.namespace or not pod.labels:
                continue
            # what the API server counted already, when it let the pod be evicted, is not counted twice
            known = (budget.get("status") or {}).get("disruptedPods") or {}
            if selector.matches(pod.labels) and meta.name(pod.obj) not in known:
                allowed[index] -= 1
                violated |= allowed[index] < 0
        (protected if violated else others).append(pod)
    return protected, others


def _selector(budget: Object) -> Selector | None:
    """None for one that chooses nothing: without a selector, with an empty one, or with one that cannot be read."""
    try:
        selector = Selector.from_label_selector((budget.get("spec") or {}).get("selector"))
    except ValueError:
        return None
    return None if selector.empty else selector


def least_harmful(candidates: Sequence[Candidate], now: datetime) -> Candidate:
    """By fewest violated budgets, then the lowest priority of the most important victim, the smallest sum of
    priorities, the fewest victims, and the latest start of the most important ones. The first of several equals.
    """

    def harm(one: Candidate) -> tuple[int, int, int, int]:
        # shifted so that more pods of a negative priority are not better than fewer
        total = sum(victim.priority + 2**31 for victim in one.victims)
        return (one.violations, one.victims[0].priority, total, len(one.victims))

    def started(one: Candidate) -> datetime:
        most = one.victims[0].priority
        return min(victim.started or now for victim in one.victims if victim.priority == most)

    if len(candidates) == 1:
        return candidates[0]
    least = min(map(harm, candidates))
    return max((one for one in candidates if harm(one) == least), key=started)


def dry_run(
    nodes: Sequence[NodeInfo],
    attempt: Callable[[NodeInfo], Candidate | Reasons],
    *,
    start: int,
    enough: int,
) -> tuple[list[Candidate], dict[str, Reasons]]:
    """Candidates, those that violate no budget first, and by node why others would not do. Looks at one node after the
    other from `start` on and ends when there are `enough` candidates of which one violates no budget.
    """
    peaceful: list[Candidate] = []
    violating: list[Candidate] = []
    reasons: dict[str, Reasons] = {}
    for index in range(len(nodes)):
        node = nodes[(start + index) % len(nodes)]
        found = attempt(node)
        if not isinstance(found, Candidate):
            reasons[node.name] = found
            continue
        (violating if found.violations else peaceful).append(found)
        if peaceful and len(peaceful) + len(violating) >= enough:
            break
    return [*peaceful, *violating[:enough]], reasons
