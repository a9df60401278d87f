"""Keeps the pods of StatefulSets, each with a name and storage of its own. (kubernetes `pkg/controller/statefulset`.)

Pods have stable names, so there are no expectations: what a late cache would make twice exists already.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.api.selectors import Selector
from kubecore.client.client import Object
from kubecore.client.informer import Of
from kubecore.controllers import hashes, pods
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.ownership import Ownership
from kubecore.controllers.pod_control import slow_start
from kubecore.controllers.workloads import revisions
from kubecore.controllers.workloads import statefulset_identity as identity
from kubecore.controllers.workloads.replicaset import OWNER_INDEX, controller_uid
from kubecore.controllers.workloads.revisions import REVISIONS, History
from kubecore.controllers.workloads.statefulset_pods import CLAIMS, StatefulPodControl
from kubecore.controllers.workloads.status_writing import write_status
from kubecore.metrics import Gauge, Named

STATEFUL_SETS = "statefulsets.apps"
_REVISION_HASH = "controller.kubernetes.io/hash"
_LABELS = ("statefulset_namespace", "statefulset_name", "pod_management_policy")
_MOST = Named(
    "statefulset_controller_statefulset_max_unavailable",
    "[ALPHA] Maximum number of unavailable pods allowed during StatefulSet rolling updates",
    _LABELS,
)
_UNAVAILABLE = Named(
    "statefulset_controller_statefulset_unavailable_replicas",
    "[ALPHA] Current number of unavailable pods in StatefulSet",
    _LABELS,
)


@dataclass(slots=True)
class _Pass:
    """What one sync works on. `replicas` has a pod for each ordinal in range, planned where there is none; of
    `condemned` the highest ordinal is first."""

    stateful_set: Object
    current: Object
    update: Object
    collisions: int
    replicas: list[Object] = field(default_factory=list)
    condemned: list[Object] = field(default_factory=list)
    first_unavailable: Object | None = None
    leaving: int = 0

    @property
    def ordered(self) -> bool:
        return not identity.is_parallel(self.stateful_set)


class StatefulSetController(Controller):
    """Keys are StatefulSets."""

    name = "statefulset-controller"
    workers = 5

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder(self.name)
        self._most, self._unavailable = Gauge(_MOST), Gauge(_UNAVAILABLE)
        self.metrics = (self._most, self._unavailable)
        self._sets = self.informer(STATEFUL_SETS)
        self._pods = self.informer("pods")
        self._claims = self.informer(CLAIMS)
        self._revisions = self.informer(REVISIONS)
        self._history = History(self.client, self._revisions, STATEFUL_SETS)
        self._pod_control = StatefulPodControl(self.client, self._claims, self._recorder)
        self._pods.add_index(OWNER_INDEX, controller_uid, of=Of.METADATA)
        self._sets.add_handler(self.enqueue, lambda _, new: self.enqueue(new), self.enqueue)
        self.enqueue_on_change(self._pods, self._keys_of_child)
        self.enqueue_on_change(self._revisions, self._keys_of_child)
        self._claims.add_handler(self._claim_changed, None, self._claim_changed)

    # ------------------------------------------------------------------ books
    def _keys_of_child(self, child: Object) -> list[str]:
        """Its StatefulSet's key, or those of all that may adopt it."""
        reference, namespace = meta.controller_of(child), meta.namespace(child)
        if reference is not None:
            return [f"{namespace}/{reference['name']}"] if reference["kind"] == "StatefulSet" else []
        labels = meta.labels(child)
        return [meta.key(one) for one in self._sets.list(namespace) if labels and _selector(one).matches(labels)]

    def _claim_changed(self, claim: Object) -> None:
        """A claim that came gets its owners, one that went is made anew for a pod that waits for it."""
        for one in self._sets.list(meta.namespace(claim)):
            for template in one["spec"].get("volumeClaimTemplates") or ():
                if meta.name(claim).startswith(f"{meta.name(template)}-{meta.name(one)}-"):
                    self.enqueue(one)

    # ------------------------------------------------------------------ sync
    async def sync(self, key: str) -> float | None:
        stateful_set = self._sets.get(key)
        if stateful_set is None:
            self._forget(key)
            return None
        selector = _selector(stateful_set)
        known = await self._history.claim(stateful_set, selector)
        mine = await self._claim(stateful_set, selector)
        step = await self._revisions_of(stateful_set, known)
        if step is None:
            return None
        # what is not available yet at this moment is waited for, however long the rest takes
        began = self.clock.now()
        self._arrange(step, mine)
        failure: Exception | None = None
        if not meta.is_deleting(stateful_set):
            try:
                await self._act(step)
            except Exception as error:
                failure = error
        await self._report(step)
        if not meta.is_deleting(stateful_set):
            await self._trim_history(step, known, mine)
        if failure is not None:
            raise failure
        return pods.next_available_in(stateful_set, mine, began)

    async def _claim(self, stateful_set: Object, selector: Selector) -> list[Object]:
        def is_member(pod: Object) -> bool:
            return identity.is_member(stateful_set, pod)

        ownership = Ownership(self.client, STATEFUL_SETS, "pods", stateful_set, selector, accepts=is_member)
        candidates = [
            *self._pods.by_index(OWNER_INDEX, meta.uid(stateful_set)),
            *self._pods.by_index(OWNER_INDEX, f"orphan/{meta.namespace(stateful_set)}"),
        ]
        return await ownership.claim(candidates)

    def _arrange(self, step: _Pass, mine: Sequence[Object]) -> None:
        """Sort the pods into those the set keeps and those that must go; those without an ordinal are ignored."""
        one, now = step.stateful_set, self.clock.now()
        start = identity.start_ordinal(one)
        kept = {identity.ordinal(pod): pod for pod in mine if identity.is_in_range(one, pod)}
        step.replicas = [
            kept.get(number) or identity.new_pod(one, step.current, step.update, number)
            for number in range(start, start + identity.replicas(one))
        ]
        others = [pod for pod in mine if identity.ordinal(pod) >= 0 and not identity.is_in_range(one, pod)]
        step.condemned = sorted(others, key=identity.ordinal, reverse=True)
        everything = [*step.replicas, *reversed(step.condemned)]
        step.first_unavailable = next((pod for pod in everything if identity.is_unavailable(one, pod, now)), None)

    async def _act(self, step: _Pass) -> None:
        """Replicas first, then what is too many, then an update; in order, each stage waits for the one before."""
        if await self._for_all(step, step.replicas, self._process_replica):
            return
        if await self._for_all(step, step.condemned, self._fit_claims):
            return
        if await self._for_all(step, step.condemned, self._process_condemned):
            return
        if identity.is_rolling(step.stateful_set):
            await self._roll(step)

    async def _for_all(
        self, step: _Pass, found: Sequence[Object], do: Callable[[_Pass, Object], Awaitable[bool]]
    ) -> bool:
        """Whether to stop here. In order one after the other until one says so, else all of them at once."""
        if step.ordered:
            for pod in found:
                if await do(step, pod):
                    return True
            return False
        waiting = iter(found)

        async def do_one() -> None:
            await do(step, next(waiting))

        _, failure = await slow_start(len(found), do_one)
        if failure is not None:
            raise failure
        return False

    async def _process_replica(self, step: _Pass, pod: Object) -> bool:
        one = step.stateful_set
        if pods.is_finished(pod):
            # restarted whatever its exit code was: the node may have rebooted; made anew once it is gone
            if not meta.is_deleting(pod):
                await self._pod_control.delete(one, pod)
            return True
        if not identity.is_created(pod):
            if self._pod_control.has_stale_claim(one, pod):
                return True
            await self._pod_control.create(one, pod)
            return True
        if pods.phase(pod) == "Pending":
            await self._pod_control.create_missing_claims(one, pod)
        if step.ordered:
            ready = identity.is_running_and_ready(pod)
            if meta.is_deleting(pod) or not ready or not identity.is_available(one, pod, self.clock.now()):
                return True
        await self._pod_control.mend(one, pod)
        return False

    async def _fit_claims(self, step: _Pass, pod: Object) -> bool:
        if not self._pod_control.claims_fit(step.stateful_set, pod):
            await self._pod_control.fit_claims(step.stateful_set, pod)
        return False

    async def _process_condemned(self, step: _Pass, pod: Object) -> bool:
        one = step.stateful_set
        if meta.is_deleting(pod):
            return True
        healthy = identity.is_running_and_ready(pod) and identity.is_available(one, pod, self.clock.now())
        if step.ordered and not healthy and pod is not step.first_unavailable:
            # the one below it that is not well goes or comes first
            return True
        await self._pod_control.delete(one, pod)
        return True

    async def _roll(self, step: _Pass) -> None:
        """Delete pods of other revisions, highest ordinal first, as many as maxUnavailable lets.

        Pods of a parallel set that do not work go first and at once: they are not to keep the template that mends
        them from coming.
        """
        one, now = step.stateful_set, self.clock.now()
        unavailable = sum(identity.is_unavailable(one, pod, now) for pod in step.replicas)
        self._unavailable.set(unavailable, *_measured_as(one))
        budget = identity.max_unavailable(one) - unavailable
        wanted = meta.name(step.update)
        old = [
            pod
            for pod in reversed(step.replicas[identity.partition(one) :])
            if identity.revision_of(pod) != wanted and not meta.is_deleting(pod)
        ]
        free: list[Object] = []
        if identity.is_parallel(one):
            free = [pod for pod in old if identity.is_unavailable(one, pod, now)]
            old = [pod for pod in old if pod not in free]
        for pod in [*free, *old[: max(budget, 0)]]:
            try:
                await self._pod_control.delete(one, pod)
            except StatusError as error:
                if not errors.is_not_found(error):
                    raise
            step.leaving += identity.revision_of(pod) == meta.name(step.current)

    # ------------------------------------------------------------------ history
    async def _revisions_of(self, stateful_set: Object, known: list[Object]) -> _Pass | None:
        """The revision the pods have and the one they are to get, which is made, or made the newest, if need be.

        None for a set that is being deleted and whose history is gone.
        """
        old = stateful_set.get("status") or {}
        collisions = old.get("collisionCount") or 0
        data = revisions.template_data(stateful_set)
        same = [one for one in known if one["data"] == data]
        if same and same[-1] is known[-1]:
            update = known[-1]
        elif meta.is_deleting(stateful_set):
            return None
        elif same:
            update = await self._history.renumber(same[-1], revisions.next_number(known))
        else:
            update, collisions = await self._snapshot(stateful_set, revisions.next_number(known), collisions)
        current = next((one for one in known if meta.name(one) == old.get("currentRevision")), update)
        return _Pass(stateful_set, current, update, collisions)

    async def _snapshot(self, stateful_set: Object, number: int, collisions: int) -> tuple[Object, int]:
        reference = meta.controller_reference(stateful_set, "apps/v1", "StatefulSet")
        while True:
            suffix = hashes.of_revision(revisions.template_data(stateful_set), collisions)
            wanted = revisions.make(stateful_set, reference, hash_label=_REVISION_HASH, number=number, suffix=suffix)
            made = await self._history.create(wanted)
            if made is not None:
                return made, collisions
            collisions += 1

    async def _trim_history(self, step: _Pass, known: list[Object], mine: list[Object]) -> None:
        live = {meta.name(step.current), meta.name(step.update), *(identity.revision_of(pod) for pod in mine)}
        await self._history.trim(known, step.stateful_set["spec"].get("revisionHistoryLimit"), live, live_count=False)

    # ------------------------------------------------------------------ status
    async def _report(self, step: _Pass) -> None:
        one = step.stateful_set
        status: dict[str, Any] = identity.status(
            one,
            [*step.replicas, *step.condemned],
            current=meta.name(step.current),
            update=meta.name(step.update),
            collisions=step.collisions,
            leaving=step.leaving,
            now=self.clock.now(),
        )
        self._most.set(identity.max_unavailable(one), *_measured_as(one))
        await write_status(self.client, STATEFUL_SETS, one, lambda _: status)

    def _forget(self, key: str) -> None:
        """Sets that are gone are measured no more."""
        for gauge in (self._most, self._unavailable):
            gauge.forget(lambda values: values[:2] == meta.split_key(key))


def _measured_as(stateful_set: Object) -> tuple[str, str, str]:
    policy = stateful_set["spec"].get("podManagementPolicy") or "OrderedReady"
    return meta.namespace(stateful_set), meta.name(stateful_set), policy


def _selector(stateful_set: Object) -> Selector:
    return Selector.from_label_selector(stateful_set["spec"]["selector"])
