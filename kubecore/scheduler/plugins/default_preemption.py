"""Makes room for a pod that fits nowhere, by deleting pods of lower priority.

The victims are deleted beside the scheduling (KEP-4832); until that is done the pod is not tried again, and their room
is kept for it. (kubernetes `pkg/scheduler/framework/plugins/defaultpreemption`.)
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Object
from kubecore.scheduler import preemption
from kubecore.scheduler.cache import NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind
from kubecore.scheduler.extender import ExtenderError
from kubecore.scheduler.extenders import Extenders
from kubecore.scheduler.framework import (
    CycleState,
    Diagnosis,
    PluginError,
    PostFilter,
    PostFilterResult,
    PreEnqueue,
)
from kubecore.scheduler.handle import Handle
from kubecore.scheduler.node_filter import NodeFilter
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.preemption import Candidate

log = logging.getLogger(__name__)

_Found = tuple[list[Candidate], int, Sequence[tuple[str, int]]]
"""Candidates, the number of nodes that are none, and for how many of those each reason holds."""

_NOT_HELPFUL = "Preemption is not helpful for scheduling"


@dataclass(frozen=True, slots=True)
class _Leaving:
    pod: PodInfo
    victims: set[str]
    """The keys of those that the pod waits for."""


class DefaultPreemption(PostFilter, PreEnqueue):
    """At least `percentage` of the nodes that might do, and at least `absolute` of them, are tried as candidates
    (minCandidateNodesPercentage, minCandidateNodesAbsolute).
    """

    name = "DefaultPreemption"
    tells = True
    # What woke the pod but for this plugin decides again once its preemption has ended.
    wakes = frozenset({EventKind.POD_REMOVED})

    def __init__(
        self, handle: Handle, *, percentage: int = 10, absolute: int = 100, chance: random.Random | None = None
    ) -> None:
        self._handle = handle
        self._percentage = percentage
        self._absolute = absolute
        self._chance = chance or random.Random()
        self._budgets = handle.informers.informer("poddisruptionbudgets.policy")
        self._pods = handle.informers.informer("pods")
        # before the scheduler's own handlers, so that the news that opens a gate may wake the pod, too
        self._pods.add_handler(None, self._pod_updated, self._pod_deleted)
        self._preempting: set[str] = set()
        """The uids of the pods for which victims are being deleted, or not all of those seen to go."""
        self._awaited: dict[str, list[_Leaving]] = {}
        """By the key of a victim that was deleted and not yet seen to go."""

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        return False

    def pre_enqueue(self, pod: PodInfo) -> str | None:
        return "waiting for the preemption for this pod to be finished" if pod.uid in self._preempting else None

    def _seen(self, victim: PodInfo) -> Object | None:
        """None once it is gone; another pod of its name is news of that, too."""
        pod = self._pods.get(victim.key)
        return pod if pod is not None and meta.uid(pod) == victim.uid else None

    def _pod_updated(self, old: Object, new: Object) -> None:
        if self._awaited and (meta.is_deleting(new) or meta.uid(old) != meta.uid(new)):
            self._pod_deleted(new)

    def _pod_deleted(self, pod: Object) -> None:
        if not self._awaited:
            return
        key = meta.key(pod)
        for leaving in self._awaited.pop(key, ()):
            leaving.victims.remove(key)
            if not leaving.victims:
                self._preempting.discard(leaving.pod.uid)
                self._handle.reopen(leaving.pod.key)

    # ------------------------------------------------------------------ deciding
    def post_filter(
        self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis
    ) -> PostFilterResult | Awaitable[PostFilterResult]:
        self._handle.metrics.preemptions.add()
        if reason := self._not_eligible(pod, diagnosis):
            return PostFilterResult(f"preemption: {reason}")
        extenders = self._handle.extenders.for_pod(pod)
        asks = extenders is not None and extenders.preempt
        try:
            candidates, fit_error = self._candidates(state, pod, diagnosis, everyone=asks)
        except PluginError as error:
            return PostFilterResult(f"preemption: {error}")
        if not candidates:
            return PostFilterResult(f"preemption: {fit_error.message()}", node="")
        if extenders is not None and asks:
            return self._ask(extenders, pod, candidates)
        return self._preempt(pod, candidates)

    async def _ask(self, extenders: Extenders, pod: PodInfo, candidates: list[Candidate]) -> PostFilterResult:
        try:
            candidates = await extenders.candidates(pod, candidates, self._handle.cache)
        except ExtenderError as error:
            return PostFilterResult(f"preemption: {error}")
        if not candidates:
            return PostFilterResult("preemption: no candidate node for preemption")
        return self._preempt(pod, candidates)

    def _preempt(self, pod: PodInfo, candidates: list[Candidate]) -> PostFilterResult:
        chosen = preemption.least_harmful(candidates, self._handle.clock.now())
        log.info("%s preempts %s on %s", pod.key, ", ".join(one.key for one in chosen.victims), chosen.node)
        self._prepare(pod, chosen)
        return PostFilterResult(node=chosen.node)

    def _not_eligible(self, pod: PodInfo, diagnosis: Diagnosis) -> str:
        """Why the pod may not preempt others, which includes that it did already."""
        if pod.spec.get("preemptionPolicy") == "Never":
            return "not eligible due to preemptionPolicy=Never."
        cache = self._handle.cache
        node = cache.node(cache.nominations.node_of(pod.uid))
        # a nominated node that will not do whoever leaves it is as good as none
        if node is None or not diagnosis.is_crowded(node.name):
            return ""
        if any(one.priority < pod.priority and _is_being_preempted(one) for one in node.pods.values()):
            return "not eligible due to a terminating pod on the nominated node."
        return ""

    def _candidates(
        self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis, *, everyone: bool
    ) -> tuple[list[Candidate], Diagnosis]:
        """Nodes on which victims were found, `everyone` or the least harmful ones, or else why there are none. Raises
        PluginError.
        """
        found = self._in_bulk(diagnosis, everyone=everyone)
        if found is None:
            found = self._node_by_node(state, pod, diagnosis)
        candidates, refused, reasons = found
        why = Diagnosis(diagnosis.nodes)
        for reason, nodes in reasons:
            why.refused(self.name, (reason,), nodes=nodes)
        if unlooked := diagnosis.nodes - refused:
            why.refused(self.name, (_NOT_HELPFUL,), nodes=unlooked)
        return candidates, why

    def _in_bulk(self, diagnosis: Diagnosis, *, everyone: bool) -> _Found | None:
        """Tried by whoever refused the nodes, if it can; of the candidates only the least harmful one or `everyone`."""
        crowd = diagnosis.crowd
        if crowd is None or diagnosis.named:
            return None
        start, enough = self._where(len(crowd))
        now = self._handle.clock.now()
        found = crowd.rehearse(budgets=self._budgets.list(), start=start, enough=enough, now=now, everyone=everyone)
        if found is None:
            return None
        candidates, refused, reasons = found
        return [self._candidate(*one) for one in candidates], refused, reasons

    def _candidate(self, node: str, victims: Sequence[str], violations: int) -> Candidate:
        known = [pod for pod in map(self._handle.cache.pod, victims) if pod is not None]
        return Candidate(node, tuple(known), violations)

    def _node_by_node(self, state: CycleState, pod: PodInfo, diagnosis: Diagnosis) -> _Found:
        nodes = [node for node in map(self._handle.cache.node, diagnosis.crowded) if node is not None]
        budgets, now = self._budgets.list(), self._handle.clock.now()
        nominations = self._handle.cache.nominations
        node_filter = NodeFilter(self._handle.profile)

        def attempt(node: NodeInfo) -> Candidate | preemption.Reasons:
            return preemption.select_victims(
                node_filter, state, pod, node, budgets=budgets, nominations=nominations, now=now
            )

        start, enough = self._where(len(nodes))
        candidates, refused = preemption.dry_run(nodes, attempt, start=start, enough=enough)
        reasons = Counter(reason for one in refused.values() for reason in one)
        return candidates, len(refused), list(reasons.items())

    def _where(self, nodes: int) -> tuple[int, int]:
        """At which of so many nodes to begin, and how many candidates are enough."""
        enough = min(max(nodes * self._percentage // 100, self._absolute), nodes)
        return (self._chance.randrange(nodes) if nodes else 0), enough

    # ------------------------------------------------------------------ making room
    def _prepare(self, pod: PodInfo, chosen: Candidate) -> None:
        self._handle.metrics.victims.observe(len(chosen.victims))
        victims = [one for one in chosen.victims if not meta.is_deleting(one.obj)]
        if victims:
            self._preempting.add(pod.uid)
            self._handle.spawn(self._make_room(pod, chosen.node, victims), f"scheduler preempts for {pod.key}")

    async def _make_room(self, pod: PodInfo, node: str, victims: list[PodInfo]) -> None:
        """All victims go together: the pod is not tried before the last of them is seen to go."""
        waiting = {one.uid for one in victims if self._handle.waiting.get(one.uid) is not None}
        deleted = [one for one in victims if one.uid not in waiting]
        succeeded = False
        try:
            await self._clear_lower_nominations(pod, node)
            succeeded = await self._evict(pod, victims, node)
        finally:
            self._ended(pod, deleted, succeeded=succeeded)

    def _ended(self, pod: PodInfo, deleted: Sequence[PodInfo], *, succeeded: bool) -> None:
        """The gate opens now, unless news of a victim is still to come."""
        seen = [pod for pod in map(self._seen, deleted) if pod is not None]
        left = {meta.key(pod) for pod in seen if not meta.is_deleting(pod)} if succeeded else set()
        if left:
            leaving = _Leaving(pod, left)
            for key in left:
                self._awaited.setdefault(key, []).append(leaving)
            return
        self._preempting.discard(pod.uid)
        self._handle.reopen(pod.key)
        if not succeeded or (deleted and not seen):
            # the news that would have woken the pod has been, or does not come
            self._handle.activate(pod.key)

    async def _clear_lower_nominations(self, pod: PodInfo, node: str) -> None:
        """Pods of lower priority that were to get the node may not fit any more, and had better look elsewhere."""
        for other in self._handle.cache.nominations.on(node):
            if other.priority < pod.priority:
                self._handle.take_back_nomination(other)
                await self._handle.reporter.nominate(other.obj, "")

    async def _evict(self, pod: PodInfo, victims: Sequence[PodInfo], node: str) -> bool:
        """Delete the victims and tell why; False when that failed for one of them."""
        to_delete = []
        for victim in victims:
            waiting = self._handle.waiting.get(victim.uid)
            if waiting is None:
                to_delete.append(victim)
            else:
                waiting.reject(self.name, "preempted")
                self._handle.reporter.preempted(victim, pod, node)
        why = f"{pod.scheduler_name}: preempting to accommodate a higher priority pod"
        objects = [victim.obj for victim in to_delete]
        failures = await self._handle.reporter.take_away(objects, preemption.BY_SCHEDULER, why)
        succeeded = True
        for victim, failure in zip(to_delete, failures, strict=True):
            if failure is None:
                self._handle.reporter.preempted(victim, pod, node)
            elif not (errors.is_not_found(failure) or errors.is_conflict(failure)):
                succeeded = False
                if isinstance(failure, StatusError | OSError):
                    log.warning("preempting %s for %s: %s", victim.key, pod.key, failure)
                else:
                    log.error("preempting %s for %s", victim.key, pod.key, exc_info=failure)
        return succeeded


def _is_being_preempted(pod: PodInfo) -> bool:
    condition = meta.condition(pod.obj, "DisruptionTarget") or {}
    is_target = condition.get("status") == "True" and condition.get("reason") == preemption.BY_SCHEDULER
    return is_target and meta.is_deleting(pod.obj)
