"""Keeps as many pods as a ReplicaSet asks for. (kubernetes `pkg/controller/replicaset/replica_set.go`.)"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.api.selectors import Selector
from kubecore.client.client import Object, Outcomes
from kubecore.client.informer import Of
from kubecore.controllers import conditions, pods
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.expectations import Expectations
from kubecore.controllers.ownership import Ownership
from kubecore.controllers.pod_control import PodControl, slow_start_of_many
from kubecore.controllers.workloads import pod_ranking
from kubecore.controllers.workloads.pod_census import Census, State, Tally
from kubecore.controllers.workloads.status_writing import write_status
from kubecore.metrics import Histogram, Named, exponential

REPLICA_SETS = "replicasets.apps"
_BURST = 500
# 0.2 s for 10,000 pods; sets of less than 250 never rest.
_REST_SECONDS_A_POD = 20e-6
_SHORTEST_REST_SECONDS = 0.005
_LONGEST_REST_SECONDS = 2.0
OWNER_INDEX = "controller-uid"
_AGES = Named(
    "replicaset_controller_sorting_deletion_age_ratio",
    "[ALPHA] The ratio of chosen deleted pod's ages to the current youngest pod's age (at the time). Should be <2. The "
    "intent of this metric is to measure the rough efficacy of the LogarithmicScaleDown feature gate's effect on the "
    "sorting (and deletion) of pods when a replicaset scales down. This only considers Ready pods when calculating and "
    "reporting.",
)


def controller_uid(obj: Object) -> Sequence[str]:
    """Index function: the uid of the controller, "" for an orphan."""
    reference = meta.controller_of(obj)
    return (reference["uid"] if reference is not None else f"orphan/{meta.namespace(obj)}",)


class ReplicaSetController(Controller):
    """Keys are ReplicaSets, or what a subclass names here that is like them."""

    name = "replicaset-controller"
    workers = 5
    resource: ClassVar[str] = REPLICA_SETS
    api_version: ClassVar[str] = "apps/v1"
    kind: ClassVar[str] = "ReplicaSet"
    tells_terminating: ClassVar[bool] = True

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder(self.name)
        self._ages = Histogram(_AGES, exponential(0.25, 2, 6))
        if self.kind == "ReplicaSet":
            # a subclass would tell it a second time
            self.metrics = (self._ages,)
        self._pod_control = PodControl(self.client, self._recorder)
        self._expectations = Expectations(self.clock)
        self._leaving: set[str] = set()
        """Uids of pods that are being deleted, as far as we were told before they were gone."""
        self._rests: dict[str, float] = {}
        """Key → until when a large set, which was as it should be, is not looked at again."""
        self._resting = 0.0
        """Until when the last of them rests."""
        self._sets = self.informer(self.resource)
        self._pods = self.informer("pods")
        self._sets.add_index(OWNER_INDEX, controller_uid, of=Of.METADATA)
        self._pods.add_index(OWNER_INDEX, controller_uid, of=Of.METADATA)
        # before our own handlers: what these ask for looks at it
        self._census = Census(self._pods, self.kind)
        self._sets.add_handler(self.enqueue, self._set_updated, self._set_deleted)
        self._pods.add_handler(self._pod_added, self._pod_updated, self._pod_deleted)

    def selector(self, replica_set: Object) -> Selector:
        return Selector.from_label_selector(replica_set["spec"]["selector"])

    # ------------------------------------------------------------------ books
    def _enqueue_soon(self, replica_set: Object) -> None:
        """A sync looks at all pods of a set. When many of them change one after another, what comes within the time
        that goes by while it rests makes one sync."""
        key = meta.key(replica_set)
        rests = self._rests.get(key)
        self.queue.add_after(key, rests - self.clock.monotonic() if rests is not None else 0.0)

    def _rest(self, key: str, replica_set: Object, active: int) -> None:
        """All large sets rest one after another, so that together they take a small share of the time."""
        seconds = active * _REST_SECONDS_A_POD
        if seconds >= _SHORTEST_REST_SECONDS and active == replica_set["spec"].get("replicas", 1):
            now = self.clock.monotonic()
            self._resting = self._rests[key] = min(max(self._resting, now) + seconds, now + _LONGEST_REST_SECONDS)
        else:
            self._rests.pop(key, None)

    def _set_updated(self, old: Object, new: Object) -> None:
        if meta.generation(old) == meta.generation(new) and meta.is_deleting(old) == meta.is_deleting(new):
            # its status most often, which we wrote
            self._enqueue_soon(new)
        else:
            self.enqueue(new)

    def _set_deleted(self, replica_set: Object) -> None:
        self._expectations.forget(meta.key(replica_set))
        self._rests.pop(meta.key(replica_set), None)
        self.enqueue(replica_set)

    def _pod_added(self, pod: Object) -> None:
        if meta.is_deleting(pod):
            # seen for the first time and already on its way out, after a restart of ours
            self._pod_leaves(pod)
            return
        owner = self._owner(pod)
        if owner is not None:
            self._expectations.creation_observed(meta.key(owner))
            self._enqueue_soon(owner)
        elif meta.controller_of(pod) is None:
            self._enqueue_matching(pod)

    def _pod_updated(self, old: Object, new: Object) -> None:
        if meta.is_deleting(new):
            # a pod with grace goes from here; waiting for its end would keep its replacement waiting too
            self._pod_leaves(new)
            return
        before = self._owner(old)
        after = before if meta.same_owners(old, new) else self._owner(new)
        if before is not None and (after is None or meta.uid(before) != meta.uid(after)):
            self.enqueue(before)
        if after is not None:
            self._pod_changed(after, lost=pods.is_active(old) and not pods.is_active(new))
        elif meta.controller_of(new) is None and (before is not None or meta.labels(old) != meta.labels(new)):
            self._enqueue_matching(new)

    def _pod_deleted(self, pod: Object) -> None:
        self._pod_leaves(pod)
        self._leaving.discard(meta.uid(pod))

    def _pod_leaves(self, pod: Object) -> None:
        owner, uid = self._owner(pod), meta.uid(pod)
        if owner is not None:
            self._expectations.deletion_observed(meta.key(owner), uid)
            # one deleted by force is gone without having been seen to leave
            lost = uid not in self._leaving and not pods.is_finished(pod)
            self._leaving.add(uid)
            self._pod_changed(owner, lost=lost)

    def _pod_changed(self, replica_set: Object, *, lost: bool) -> None:
        """What is `lost` is replaced at once, however many pods the set has."""
        if lost:
            self.enqueue(replica_set)
        else:
            self._enqueue_soon(replica_set)

    def _owner(self, pod: Object) -> Object | None:
        reference = meta.controller_of(pod)
        if reference is None or reference["kind"] != self.kind:
            return None
        found = self._sets.get(f"{meta.namespace(pod)}/{reference['name']}")
        return found if found is not None and meta.uid(found) == reference["uid"] else None

    def _enqueue_matching(self, pod: Object) -> None:
        labels = meta.labels(pod)
        if not labels:
            return
        for candidate in self._sets.list(meta.namespace(pod)):
            if self.selector(candidate).matches(labels):
                self.enqueue(candidate)

    # ------------------------------------------------------------------ sync
    async def sync(self, key: str) -> float | None:
        replica_set = self._sets.get(key)
        if replica_set is None:
            self._expectations.forget(key)
            self._rests.pop(key, None)
            return None
        may_manage = self._expectations.satisfied(key)
        selector = self.selector(replica_set)
        tally, mine = self._counted(replica_set, selector), None
        if tally is None or (may_manage and tally.active > replica_set["spec"].get("replicas", 1)):
            mine = await self._claimed(replica_set, selector)
            tally = _tally(replica_set, mine)
        self._rest(key, replica_set, tally.active)
        failure: BaseException | None = None
        if may_manage and not meta.is_deleting(replica_set):
            failure = await self._manage(key, replica_set, tally.active, mine or [])
        now = self.clock.now()
        active = [pod for pod in mine or () if pods.is_active(pod)]
        status = self._status(replica_set, tally, active, failure, now)
        await write_status(self.client, self.resource, replica_set, lambda _: status)
        if failure is not None:
            raise failure
        return pods.next_available_in(replica_set, active, now)

    def _counted(self, replica_set: Object, selector: Selector) -> Tally | None:
        """What it has, by the books; None where its pods have to be looked at one by one: some may be adopted or are to
        be let go, or have to be ready for some time first."""
        orphans = self._pods.by_index(OWNER_INDEX, f"orphan/{meta.namespace(replica_set)}")
        if any(pods.is_active(pod) and selector.matches(meta.labels(pod)) for pod in orphans):
            return None
        if replica_set["spec"].get("minReadySeconds"):
            return None
        wanted = _template_labels(replica_set).items()
        active = ready = labelled = leaving = 0
        for labels, state, count in self._census.of(meta.uid(replica_set)):
            if not selector.matches(labels):
                return None
            if state is State.LEAVING:
                leaving += count
            elif state is not State.OVER:
                active += count
                ready += count if state is State.READY else 0
                labelled += count if wanted <= labels.items() else 0
        return Tally(active, ready, labelled, leaving)

    async def _claimed(self, replica_set: Object, selector: Selector) -> list[Object]:
        orphans = self._pods.by_index(OWNER_INDEX, f"orphan/{meta.namespace(replica_set)}")
        candidates = [
            *self._pods.by_index(OWNER_INDEX, meta.uid(replica_set)),
            *(pod for pod in orphans if pods.is_active(pod)),
        ]
        return await Ownership(self.client, self.resource, "pods", replica_set, selector).claim(candidates)

    async def _manage(self, key: str, replica_set: Object, number: int, mine: list[Object]) -> BaseException | None:
        """`number` of its pods are active. Where those are too many, `mine` are its pods."""
        missing = (replica_set["spec"].get("replicas", 1)) - number
        if missing > 0:
            return await self._create(key, replica_set, min(missing, _BURST))
        if missing < 0:
            active = [pod for pod in mine if pods.is_active(pod)]
            return await self._delete(key, replica_set, active, min(-missing, _BURST))
        return None

    async def _create(self, key: str, replica_set: Object, count: int) -> BaseException | None:
        reference = meta.controller_reference(replica_set, self.api_version, self.kind)
        template = replica_set["spec"]["template"]
        self._expectations.expect_creations(key, count)

        async def create(number: int) -> Outcomes:
            return await self._pod_control.create_all(replica_set, template, reference, number)

        done, error = await slow_start_of_many(count, create)
        # those that failed, and those a failure kept from being tried, will never be seen
        self._expectations.creation_observed(key, count - done)
        if isinstance(error, StatusError) and error.has_cause("NamespaceTerminating"):
            return None
        return error

    async def _delete(self, key: str, replica_set: Object, active: list[Object], count: int) -> BaseException | None:
        now = self.clock.now()
        chosen = pod_ranking.choose(active, self._related(replica_set), count, now)
        if len(chosen) < len(active):
            for ratio in pod_ranking.age_ratios(active, chosen, now):
                self._ages.observe(ratio)
        self._expectations.expect_deletions(key, [meta.uid(pod) for pod in chosen])
        results = await asyncio.gather(
            *(self._pod_control.delete(replica_set, pod) for pod in chosen), return_exceptions=True
        )
        failure: BaseException | None = None
        for pod, result in zip(chosen, results, strict=True):
            if isinstance(result, BaseException):
                self._expectations.deletion_observed(key, meta.uid(pod))
                if not errors.is_not_found(result):
                    failure = result
        return failure

    def _related(self, replica_set: Object) -> list[Object]:
        """Pods of all ReplicaSets of the same owner: where those crowd a node, a pod may best be spared."""
        reference = meta.controller_of(replica_set)
        siblings = [replica_set]
        if reference is not None:
            siblings = self._sets.by_index(OWNER_INDEX, reference["uid"])
        return [pod for sibling in siblings for pod in self._pods.by_index(OWNER_INDEX, meta.uid(sibling))]

    # ------------------------------------------------------------------ status
    def _status(
        self, replica_set: Object, tally: Tally, active: list[Object], failure: BaseException | None, now: datetime
    ) -> dict[str, Any]:
        """`active` are the pods of a set that wants them to be ready for some time first."""
        spec, old = replica_set["spec"], replica_set.get("status") or {}
        min_ready = spec.get("minReadySeconds") or 0
        counts = {
            "replicas": tally.active,
            "fullyLabeledReplicas": tally.labelled,
            "readyReplicas": tally.ready,
            "availableReplicas": sum(1 for pod in active if pods.available_in(pod, min_ready, now) == 0)
            if min_ready > 0
            else tally.ready,
        }
        status: dict[str, Any] = {name: count for name, count in counts.items() if count or name == "replicas"}
        if self.tells_terminating:
            status["terminatingReplicas"] = tally.leaving
        status["observedGeneration"] = meta.generation(replica_set)
        found = [c for c in old.get("conditions") or () if c["type"] != "ReplicaFailure"]
        if failure is not None:
            reason = "FailedCreate" if tally.active < spec.get("replicas", 1) else "FailedDelete"
            known = conditions.find(replica_set, "ReplicaFailure")
            message = failure.message if isinstance(failure, StatusError) else str(failure)
            found.append(known or conditions.make("ReplicaFailure", "True", meta.format_time(now), reason, message))
        if found:
            status["conditions"] = found
        return status


def _template_labels(replica_set: Object) -> dict[str, str]:
    found: dict[str, str] = ((replica_set["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}
    return found


def _tally(replica_set: Object, mine: list[Object]) -> Tally:
    """What the books say otherwise."""
    wanted = _template_labels(replica_set).items()
    active = [pod for pod in mine if pods.is_active(pod)]
    return Tally(
        active=len(active),
        ready=sum(map(pods.is_ready, active)),
        labelled=sum(wanted <= meta.labels(pod).items() for pod in active),
        leaving=sum(1 for pod in mine if meta.is_deleting(pod) and not pods.is_finished(pod)),
    )
