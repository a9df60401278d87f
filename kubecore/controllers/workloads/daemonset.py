"""Keeps one pod of each DaemonSet on every node it is meant for. (kubernetes `pkg/controller/daemon`.)"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kubecore.api import errors, meta
from kubecore.api.selectors import Selector
from kubecore.client.client import Object
from kubecore.client.informer import Of
from kubecore.controllers import hashes, pods
from kubecore.controllers.base import Controller, ControllerContext, RetryLater
from kubecore.controllers.expectations import Expectations
from kubecore.controllers.ownership import Ownership
from kubecore.controllers.pod_control import PodControl, slow_start
from kubecore.controllers.workloads import daemon_pods, revisions
from kubecore.controllers.workloads.daemon_pods import Fit, Plan
from kubecore.controllers.workloads.replacement_backoff import ReplacementBackoff
from kubecore.controllers.workloads.replicaset import OWNER_INDEX, controller_uid
from kubecore.controllers.workloads.revisions import HASH_LABEL, REVISIONS, History
from kubecore.controllers.workloads.status_writing import write_status

DAEMON_SETS = "daemonsets.apps"
_BURST = 250


class DaemonSetController(Controller):
    """Keys are DaemonSets."""

    name = "daemonset-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder(self.name)
        self._pod_control = PodControl(self.client, self._recorder)
        self._expectations = Expectations(self.clock)
        self._failed = ReplacementBackoff(self.clock, initial=1.0, maximum=900.0)
        self._sets = self.informer(DAEMON_SETS)
        self._pods = self.informer("pods")
        self._nodes = self.informer("nodes")
        self._revisions = self.informer(REVISIONS)
        self._history = History(self.client, self._revisions, DAEMON_SETS)
        self._pods.add_index(OWNER_INDEX, controller_uid, of=Of.METADATA)
        self._sets.add_handler(self.enqueue, lambda _, new: self.enqueue(new), self._set_deleted)
        self._pods.add_handler(self._pod_added, self._pod_updated, self._pod_deleted)
        self._nodes.add_handler(self._node_changed, self._node_updated, self._node_changed)
        self.enqueue_on_change(self._revisions, self._keys_of_child)

    # ------------------------------------------------------------------ books
    def _set_deleted(self, daemon_set: Object) -> None:
        self._expectations.forget(meta.key(daemon_set))
        self.enqueue(daemon_set)

    def _keys_of_child(self, child: Object) -> list[str]:
        """Its DaemonSet's key, or those of all that may adopt it."""
        owner = self._owner(child)
        if owner is not None:
            return [meta.key(owner)]
        labels = meta.labels(child)
        if meta.controller_of(child) is not None or not labels:
            return []
        return [meta.key(one) for one in self._sets.list(meta.namespace(child)) if _selector(one).matches(labels)]

    def _owner(self, child: Object) -> Object | None:
        reference = meta.controller_of(child)
        if reference is None or reference["kind"] != "DaemonSet":
            return None
        found = self._sets.get(f"{meta.namespace(child)}/{reference['name']}")
        return found if found is not None and meta.uid(found) == reference["uid"] else None

    def _pod_added(self, pod: Object) -> None:
        if meta.is_deleting(pod):
            self._pod_deleted(pod)
            return
        owner = self._owner(pod)
        if owner is not None:
            self._expectations.creation_observed(meta.key(owner))
        for key in self._keys_of_child(pod):
            self.queue.add(key)

    def _pod_updated(self, old: Object, new: Object) -> None:
        if meta.is_deleting(new):
            self._pod_deleted(new)
            return
        before = self._owner(old)
        after = before if meta.same_owners(old, new) else self._owner(new)
        if before is not None:
            self.enqueue(before)
        if after is not None or before is not None or meta.labels(old) != meta.labels(new):
            for key in self._keys_of_child(new):
                self.queue.add(key)

    def _pod_deleted(self, pod: Object) -> None:
        owner = self._owner(pod)
        if owner is not None:
            self._expectations.deletion_observed(meta.key(owner), meta.uid(pod))
            self.enqueue(owner)

    def _node_updated(self, old: Object, new: Object) -> None:
        if meta.labels(old) != meta.labels(new) or old["spec"].get("taints") != new["spec"].get("taints"):
            for daemon_set in self._sets.list():
                if daemon_pods.fit(daemon_set, old) != daemon_pods.fit(daemon_set, new):
                    self.enqueue(daemon_set)

    def _node_changed(self, node: Object) -> None:
        for daemon_set in self._sets.list():
            if daemon_pods.fit(daemon_set, node).stay:
                self.enqueue(daemon_set)

    # ------------------------------------------------------------------ sync
    async def sync(self, key: str) -> float | None:
        daemon_set = self._sets.get(key)
        if daemon_set is None:
            self._expectations.forget(key)
            return None
        if not daemon_set["spec"].get("selector"):
            message = "This daemon set is selecting all pods. A non-empty selector is required."
            self._recorder.event(daemon_set, "Warning", "SelectingAll", message)
            return None
        if meta.is_deleting(daemon_set):
            # its history may be gone before its pods, and what is old or new cannot be told without
            return None
        current, old = await self._construct_history(daemon_set)
        hash = meta.labels(current)[HASH_LABEL]
        fits = {meta.name(node): daemon_pods.fit(daemon_set, node) for node in self._nodes.list()}
        mine = await self._claim(daemon_set)
        by_node = _by_node(mine)
        if not self._expectations.satisfied(key):
            # what this generation asks for has not been looked at, so that is not claimed either
            await self._report(daemon_set, by_node, fits, hash, observed=False)
            return None
        # what is not available yet at this moment is waited for, however long the rest takes
        began = self.clock.now()
        again: float | None = None
        failure: Exception | None = None
        try:
            again = await self._act(key, daemon_set, by_node, fits, hash)
            await self._trim_history(daemon_set, old, mine)
        except Exception as error:
            # told in the status first
            failure = error
        await self._report(daemon_set, by_node, fits, hash, observed=True)
        if failure is not None:
            raise failure
        waits = [pods.next_available_in(daemon_set, mine, began), again]
        return min((wait for wait in waits if wait is not None), default=None)

    async def _claim(self, daemon_set: Object) -> list[Object]:
        ownership = Ownership(self.client, DAEMON_SETS, "pods", daemon_set, _selector(daemon_set))
        candidates = [
            *self._pods.by_index(OWNER_INDEX, meta.uid(daemon_set)),
            *self._pods.by_index(OWNER_INDEX, f"orphan/{meta.namespace(daemon_set)}"),
        ]
        return await ownership.claim(candidates)

    async def _act(
        self, key: str, daemon_set: Object, by_node: Mapping[str, list[Object]], fits: Mapping[str, Fit], hash: str
    ) -> float | None:
        """Put pods onto nodes and off them; when that is done, the next step of a rolling update.

        Returns the seconds after which a failed pod may be replaced, if one must wait.
        """
        now = self.clock.now()
        plan, again = self._manage(daemon_set, by_node, fits, hash, now)
        if not plan and daemon_pods.is_rolling(daemon_set):
            empty: dict[str, list[Object]] = {node: [] for node, one in fits.items() if one.run}
            plan = daemon_pods.roll(daemon_set, {**empty, **by_node}, fits, hash, now)
        if plan:
            await self._carry_out(key, daemon_set, plan, hash)
        return again

    def _manage(
        self,
        daemon_set: Object,
        by_node: Mapping[str, list[Object]],
        fits: Mapping[str, Fit],
        hash: str,
        now: datetime,
    ) -> tuple[Plan, float | None]:
        plan = Plan()
        waits: list[float] = []
        surge = daemon_pods.allows_surge(daemon_set)
        for node, one in fits.items():
            found = by_node.get(node, [])
            alive = [pod for pod in found if not meta.is_deleting(pod)]
            if one.run and not found:
                plan.create.append(node)
            elif one.stay:
                running = [pod for pod in alive if not pods.is_finished(pod)]
                for pod in alive:
                    if pods.is_finished(pod):
                        self._replace_finished(daemon_set, pod, node, plan, waits)
                plan.delete += daemon_pods.keep_one(daemon_set, running, hash, now)
                if surge and one.run and not running:
                    plan.create.append(node)
            else:
                plan.delete += alive
        for node, found in by_node.items():
            if node not in fits:
                # of a node that is gone; bound ones are the pod garbage collector's
                plan.delete += [pod for pod in found if not pods.node_name(pod) and not meta.is_deleting(pod)]
        return plan, min(waits, default=None)

    def _replace_finished(self, daemon_set: Object, pod: Object, node: str, plan: Plan, waits: list[float]) -> None:
        name = f"{meta.key(pod)} on node {node}"
        if pods.phase(pod) == "Succeeded":
            message = f"Found succeeded daemon pod {name}, will try to delete it"
            self._recorder.event(daemon_set, "Normal", "SucceededDaemonPod", message)
            plan.delete.append(pod)
            return
        # a kubelet that rejects the pod and this controller must not chase each other
        generation = (daemon_set.get("status") or {}).get("observedGeneration", 0)
        key = f"{meta.uid(daemon_set)}/{generation}/{node}"
        wait = self._failed.remaining(key)
        if wait > 0:
            waits.append(wait)
            return
        self._failed.replaced(key)
        message = f"Found failed daemon pod {name}, will try to kill it"
        self._recorder.event(daemon_set, "Warning", "FailedDaemonPod", message)
        plan.delete.append(pod)

    async def _carry_out(self, key: str, daemon_set: Object, plan: Plan, hash: str) -> None:
        create, delete = plan.create[:_BURST], plan.delete[:_BURST]
        self._expectations.expect(key, creations=len(create), deletions=[meta.uid(pod) for pod in delete])
        reference = meta.controller_reference(daemon_set, "apps/v1", "DaemonSet")
        nodes = iter(create)

        async def create_one() -> None:
            template = daemon_pods.pod_template(daemon_set, hash, next(nodes))
            await self._pod_control.create(daemon_set, template, reference)

        done, failure = await slow_start(len(create), create_one)
        self._expectations.creation_observed(key, len(create) - done)
        results = await asyncio.gather(
            *(self._pod_control.delete(daemon_set, pod) for pod in delete), return_exceptions=True
        )
        for pod, result in zip(delete, results, strict=True):
            if isinstance(result, BaseException):
                self._expectations.deletion_observed(key, meta.uid(pod))
                if not errors.is_not_found(result):
                    failure = failure or result
        if failure is not None:
            raise failure

    # ------------------------------------------------------------------ history
    async def _construct_history(self, daemon_set: Object) -> tuple[Object, list[Object]]:
        """The revision of the present template, made or made the newest if need be, and the others, oldest first."""
        data = revisions.template_data(daemon_set)
        known = [await self._labelled(one) for one in await self._history.claim(daemon_set, _selector(daemon_set))]
        same = [one for one in known if one["data"] == data]
        old = [one for one in known if one["data"] != data]
        newest = revisions.next_number(old)
        if not same:
            return await self._snapshot(daemon_set, newest), old
        current = same[-1]
        for duplicate in same[:-1]:
            await self._relabel_pods(daemon_set, meta.labels(current)[HASH_LABEL])
            await self._history.delete(duplicate)
        if revisions.number(current) < newest:
            current = await self._history.renumber(current, newest)
        return current, old

    async def _labelled(self, revision: Object) -> Object:
        """One of another maker may lack the hash: its name is as good."""
        if HASH_LABEL in meta.labels(revision):
            return revision
        copy: Object = meta.deepcopy(revision)
        copy["metadata"].setdefault("labels", {})[HASH_LABEL] = meta.name(revision)
        return await self._history.update(copy)

    async def _relabel_pods(self, daemon_set: Object, hash: str) -> None:
        for pod in await self._claim(daemon_set):
            if meta.labels(pod).get(HASH_LABEL) != hash:
                patch = {"metadata": {"labels": {HASH_LABEL: hash}}}
                await self.client.patch("pods", meta.name(pod), patch, meta.namespace(pod), patch_type="merge")

    async def _snapshot(self, daemon_set: Object, number: int) -> Object:
        collisions = (daemon_set.get("status") or {}).get("collisionCount")
        reference = meta.controller_reference(daemon_set, "apps/v1", "DaemonSet")
        suffix = hashes.of_template(daemon_set["spec"]["template"], collisions)
        wanted = revisions.make(daemon_set, reference, hash_label=HASH_LABEL, number=number, suffix=suffix)
        made = await self._history.create(wanted)
        if made is not None:
            return made
        fresh = await self.client.get(DAEMON_SETS, meta.name(daemon_set), meta.namespace(daemon_set))
        status = fresh.get("status") or {}
        if status.get("collisionCount") == collisions:
            status = {**status, "collisionCount": (collisions or 0) + 1}
            await self.client.update(DAEMON_SETS, {**fresh, "status": status}, subresource="status")
        raise RetryLater(f"{meta.name(wanted)} is taken: trying another hash")

    async def _trim_history(self, daemon_set: Object, old: list[Object], mine: list[Object]) -> None:
        live = {meta.labels(pod).get(HASH_LABEL, "") for pod in mine} - {""}
        await self._history.trim(old, daemon_set["spec"].get("revisionHistoryLimit"), live, live_count=True)

    # ------------------------------------------------------------------ status
    async def _report(
        self,
        daemon_set: Object,
        by_node: Mapping[str, list[Object]],
        fits: Mapping[str, Fit],
        hash: str,
        *,
        observed: bool,
    ) -> None:
        counts = daemon_pods.counts(daemon_set, by_node, fits, hash, self.clock.now())
        generation = meta.generation(daemon_set) if observed else None
        await write_status(
            self.client, DAEMON_SETS, daemon_set, lambda current: self._status(current, counts, generation)
        )

    @staticmethod
    def _status(daemon_set: Object, counts: Mapping[str, int], generation: int | None) -> dict[str, Any]:
        status = dict(daemon_set.get("status") or {})
        for name, count in counts.items():
            status.pop(name, None)
            if count or name in daemon_pods.ALWAYS_TOLD:
                status[name] = count
        if generation is not None:
            status["observedGeneration"] = generation
        return status


def _selector(daemon_set: Object) -> Selector:
    return Selector.from_label_selector(daemon_set["spec"]["selector"])


def _by_node(mine: list[Object]) -> dict[str, list[Object]]:
    """Pods by the node they are on or meant for; those that only wait to vanish are nobody's business any more."""
    found: dict[str, list[Object]] = {}
    for pod in mine:
        node = daemon_pods.target_node(pod)
        if node and not (pods.is_finished(pod) and meta.is_deleting(pod)):
            found.setdefault(node, []).append(pod)
    return found
