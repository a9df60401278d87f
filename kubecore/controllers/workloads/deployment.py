"""Moves Deployments from one ReplicaSet to the next. (kubernetes `pkg/controller/deployment`.)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.api.selectors import Selector
from kubecore.client.client import Object
from kubecore.client.informer import Of
from kubecore.controllers import conditions, hashes, pods
from kubecore.controllers.base import Controller, ControllerContext, RetryLater
from kubecore.controllers.ownership import Ownership
from kubecore.controllers.workloads import deployment_replicas as sizing
from kubecore.controllers.workloads import deployment_rollback as rollback
from kubecore.controllers.workloads import deployment_status as reporting
from kubecore.controllers.workloads.replicaset import OWNER_INDEX, REPLICA_SETS, controller_uid

DEPLOYMENTS = "deployments.apps"


class DeploymentController(Controller):
    """Keys are Deployments. A sync makes one step and waits for its consequences, which come as events."""

    name = "deployment-controller"
    workers = 5

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder(self.name)
        self._deployments = self.informer(DEPLOYMENTS)
        self._sets = self.informer(REPLICA_SETS)
        self._pods = self.informer("pods")
        self._sets.add_index(OWNER_INDEX, controller_uid, of=Of.METADATA)
        self._pods.add_index(OWNER_INDEX, controller_uid, of=Of.METADATA)
        self._deployments.add_handler(self.enqueue, lambda _, new: self.enqueue(new), self.enqueue)
        self.enqueue_on_change(self._sets, self._keys_of_set)
        self._pods.add_handler(on_delete=self._pod_deleted)

    # ------------------------------------------------------------------ books
    def _keys_of_set(self, replica_set: Object) -> list[str]:
        reference = meta.controller_of(replica_set)
        namespace = meta.namespace(replica_set)
        if reference is not None:
            return [f"{namespace}/{reference['name']}"] if reference["kind"] == "Deployment" else []
        labels = meta.labels(replica_set)
        return [
            meta.key(deployment)
            for deployment in self._deployments.list(namespace)
            if labels and Selector.from_label_selector(deployment["spec"]["selector"]).matches(labels)
        ]

    def _pod_deleted(self, pod: Object) -> None:
        """A Recreate deployment waits for the last of its old pods."""
        reference = meta.controller_of(pod)
        if reference is None or reference["kind"] != "ReplicaSet":
            return
        replica_set = self._sets.get(f"{meta.namespace(pod)}/{reference['name']}")
        for key in self._keys_of_set(replica_set) if replica_set is not None else ():
            deployment = self._deployments.get(key)
            if deployment is not None and not sizing.is_rolling(deployment):
                self.queue.add(key)

    # ------------------------------------------------------------------ sync
    async def sync(self, key: str) -> float | None:
        cached = self._deployments.get(key)
        if cached is None:
            return None
        deployment: Object = meta.deepcopy(cached)
        if not deployment["spec"].get("selector"):
            message = "This deployment is selecting all pods. A non-empty selector is required."
            self._recorder.event(deployment, "Warning", "SelectingAll", message)
            return None
        sets = await self._claim(deployment)
        if meta.is_deleting(deployment):
            new = sizing.find_new(deployment, sets)
            now = meta.format_time(self.clock.now())
            await self._write_status(deployment, reporting.base_status(deployment, sets, new, now))
            return None
        await self._note_pause(deployment)
        if deployment["spec"].get("paused"):
            return await self._scale(deployment, sets)
        if (revision := rollback.wanted_revision(deployment)) is not None:
            await self._roll_back(deployment, sets, revision)
            return None
        if sizing.is_scaling(deployment, sets):
            return await self._scale(deployment, sets)
        if sizing.is_rolling(deployment):
            return await self._roll(deployment, sets)
        return await self._recreate(deployment, sets)

    async def _claim(self, deployment: Object) -> list[Object]:
        selector = Selector.from_label_selector(deployment["spec"]["selector"])
        ownership = Ownership(self.client, DEPLOYMENTS, REPLICA_SETS, deployment, selector)
        mine = self._sets.by_index(OWNER_INDEX, meta.uid(deployment))
        orphans = self._sets.by_index(OWNER_INDEX, f"orphan/{meta.namespace(deployment)}")
        return await ownership.claim([*mine, *orphans])

    async def _note_pause(self, deployment: Object) -> None:
        """A roll-out does not time out while it is paused: its progress is unknown then."""
        progressing = conditions.find(deployment, "Progressing")
        reason = progressing.get("reason") if progressing is not None else None
        if reporting.progress_deadline(deployment) is None or reason == "ProgressDeadlineExceeded":
            return
        paused = bool(deployment["spec"].get("paused"))
        if paused == (reason == "DeploymentPaused"):
            return
        if paused:
            await self._write_progress(deployment, "Unknown", "DeploymentPaused", "Deployment is paused")
        else:
            await self._write_progress(deployment, "Unknown", "DeploymentResumed", "Deployment is resumed")

    async def _roll_back(self, deployment: Object, sets: list[Object], revision: int) -> None:
        new = await self._new_set(deployment, sets, create=True)
        assert new is not None
        await rollback.roll_back(self.client, self._recorder, deployment, [*_without(sets, new), new], revision)

    async def _scale(self, deployment: Object, sets: list[Object]) -> float | None:
        """Follow spec.replicas without moving the roll-out on: while it is paused, and after it was scaled."""
        new = await self._new_set(deployment, sets, create=False)
        old = _without(sets, new)
        sole = sizing.sole_active(new, old)
        if sole is not None:
            await self._resize(deployment, sole, sizing.replicas(deployment))
        elif sizing.is_saturated(deployment, new):
            for one in sizing.active(old):
                await self._resize(deployment, one, 0)
        elif sizing.is_rolling(deployment):
            carrying = sizing.active([*old, *([new] if new is not None else [])])
            sizes = sizing.proportional_sizes(deployment, carrying)
            for one in carrying:
                await self._resize(deployment, one, sizes[meta.name(one)])
        if deployment["spec"].get("paused"):
            await self._clean_up(deployment, old)
        now = meta.format_time(self.clock.now())
        everything = [*old, *([new] if new is not None else [])]
        await self._write_status(deployment, reporting.base_status(deployment, everything, new, now))
        return None

    async def _roll(self, deployment: Object, sets: list[Object]) -> float | None:
        new = await self._new_set(deployment, sets, create=True)
        assert new is not None
        old = _without(sets, new)
        wanted = sizing.replicas(deployment)
        size = min(sizing.new_set_size(deployment, [*old, new], new), wanted)
        if size != sizing.replicas(new):
            await self._resize(deployment, new, size)
            return await self._report(deployment, sets, new)
        shrunk = sizing.old_set_sizes(deployment, sizing.active(old), new)
        as_they_are = {meta.name(one): one for one in old}
        for name, size in shrunk:
            as_they_are[name] = await self._resize(deployment, as_they_are[name], size)
        if not shrunk and reporting.is_complete(deployment, deployment.get("status") or {}):
            await self._clean_up(deployment, old)
        return await self._report(deployment, sets, new)

    async def _recreate(self, deployment: Object, sets: list[Object]) -> float | None:
        new = await self._new_set(deployment, sets, create=False)
        old = _without(sets, new)
        running = sizing.active(old)
        for one in running:
            await self._resize(deployment, one, 0)
        if running or self._has_pods(old):
            return await self._report(deployment, sets, new)
        if new is None:
            new = await self._new_set(deployment, sets, create=True)
            assert new is not None
        if sizing.replicas(new) != sizing.replicas(deployment):
            await self._resize(deployment, new, sizing.replicas(deployment))
        if reporting.is_complete(deployment, deployment.get("status") or {}):
            await self._clean_up(deployment, old)
        return await self._report(deployment, sets, new)

    def _has_pods(self, sets: list[Object]) -> bool:
        """Whether a pod of these still exists that has not finished, also one on its way out."""
        found = (pod for one in sets for pod in self._pods.by_index(OWNER_INDEX, meta.uid(one)))
        return any(not pods.is_finished(pod) for pod in found)

    # ------------------------------------------------------------------ the new ReplicaSet
    async def _new_set(self, deployment: Object, sets: Sequence[Object], *, create: bool) -> Object | None:
        existing = sizing.find_new(deployment, sets)
        newest = max((sizing.revision(one) for one in sets if one is not existing), default=0) + 1
        if existing is not None:
            return await self._refresh(deployment, existing, newest)
        if not create:
            return None
        made = self._make_set(deployment, sets, newest)
        name = meta.name(made)
        try:
            created = await self.client.create(REPLICA_SETS, made)
        except StatusError as error:
            if not errors.is_already_exists(error):
                await self._creation_failed(deployment, name, error)
                raise
            created = await self._collided(deployment, name)
        else:
            size = sizing.replicas(created)
            if size > 0:
                self._tell_scaled(deployment, name, 0, size)
        # Written with the report that follows.
        self._set_revision(deployment, created)
        if reporting.progress_deadline(deployment) is not None:
            message = f'Created new replica set "{name}"'
            deployment["status"] = self._progressed(deployment, "True", "NewReplicaSetCreated", message)
        return created

    def _make_set(self, deployment: Object, sets: Sequence[Object], revision: int) -> Object:
        spec = deployment["spec"]
        suffix = hashes.of_template(spec["template"], (deployment.get("status") or {}).get("collisionCount"))
        template = meta.deepcopy(spec["template"])
        labels = template.setdefault("metadata", {}).setdefault("labels", {})
        labels[sizing.HASH_LABEL] = suffix
        selector = meta.deepcopy(spec["selector"])
        selector.setdefault("matchLabels", {})[sizing.HASH_LABEL] = suffix
        made: Object = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": sizing.set_name(deployment, suffix),
                "namespace": meta.namespace(deployment),
                "labels": dict(labels),
                "ownerReferences": [meta.controller_reference(deployment, "apps/v1", "Deployment")],
            },
            "spec": {
                "replicas": 0,
                "minReadySeconds": spec.get("minReadySeconds") or 0,
                "selector": selector,
                "template": template,
            },
        }
        made["spec"]["replicas"] = sizing.new_set_size(deployment, sets, made)
        sizing.new_set_annotations(deployment, made, revision, exists=False)
        return made

    async def _refresh(self, deployment: Object, existing: Object, revision: int) -> Object:
        """The new ReplicaSet exists already: after a roll-back, after a restart of ours, or simply since long ago."""
        copy: Object = meta.deepcopy(existing)
        changed = sizing.new_set_annotations(deployment, copy, revision, exists=True)
        min_ready = deployment["spec"].get("minReadySeconds") or 0
        if changed or (copy["spec"].get("minReadySeconds") or 0) != min_ready:
            copy["spec"]["minReadySeconds"] = min_ready
            copy = await self.client.update(REPLICA_SETS, copy)
        stale = self._set_revision(deployment, copy)
        deadline = reporting.progress_deadline(deployment)
        if deadline is not None and conditions.find(deployment, "Progressing") is None:
            message = f'Found new replica set "{meta.name(copy)}"'
            await self._write_progress(deployment, "True", "FoundNewReplicaSet", message)
        elif stale:
            await self._write_status(deployment, deployment.get("status") or {}, force=True)
        return copy

    async def _collided(self, deployment: Object, name: str) -> Object:
        """A ReplicaSet of that name exists: ours, not in the cache yet, or another one's with the same hash."""
        found = await self.client.get(REPLICA_SETS, name, meta.namespace(deployment))
        mine = meta.is_controlled_by(found, deployment)
        same = sizing.comparable_template(found["spec"]["template"]) == sizing.comparable_template(
            deployment["spec"]["template"]
        )
        if mine and same:
            return found
        status = dict(deployment.get("status") or {})
        status["collisionCount"] = sizing.status_count(deployment, "collisionCount") + 1
        await self._write_status(deployment, status)
        raise RetryLater(f"{name} is taken: trying another hash")

    async def _creation_failed(self, deployment: Object, name: str, error: StatusError) -> None:
        if error.has_cause("NamespaceTerminating"):
            return
        message = f'Failed to create new replica set "{name}": {error.message}'
        self._recorder.event(deployment, "Warning", "ReplicaSetCreateError", message)
        if reporting.progress_deadline(deployment) is not None:
            await self._write_progress(deployment, "False", "ReplicaSetCreateError", message)

    def _set_revision(self, deployment: Object, new: Object) -> bool:
        """Note the new set's revision on the deployment (not written yet); whether it was another."""
        revision = meta.annotations(new).get(sizing.REVISION)
        annotations = deployment["metadata"].setdefault("annotations", {})
        if revision is None or annotations.get(sizing.REVISION) == revision:
            return False
        annotations[sizing.REVISION] = revision
        return True

    # ------------------------------------------------------------------ sizes and history
    async def _resize(self, deployment: Object, replica_set: Object, size: int) -> Object:
        """Write a ReplicaSet's size and tell of it; the ReplicaSet as it is then."""
        before = sizing.replicas(replica_set)
        annotations = sizing.replica_annotations(deployment)
        if before == size and annotations.items() <= meta.annotations(replica_set).items():
            return replica_set
        copy = meta.deepcopy(replica_set)
        copy["spec"]["replicas"] = size
        copy["metadata"].setdefault("annotations", {}).update(annotations)
        written = await self.client.update(REPLICA_SETS, copy)
        if before != size:
            self._tell_scaled(deployment, meta.name(replica_set), before, size)
        return written

    def _tell_scaled(self, deployment: Object, name: str, before: int, after: int) -> None:
        direction = "up" if after > before else "down"
        message = f"Scaled {direction} replica set {name} from {before} to {after}"
        self._recorder.event(deployment, "Normal", "ScalingReplicaSet", message)

    async def _clean_up(self, deployment: Object, old: list[Object]) -> None:
        for one in sizing.expendable(deployment, old):
            try:
                await self.client.delete(REPLICA_SETS, meta.name(one), meta.namespace(one), uid=meta.uid(one))
            except StatusError as error:
                if not errors.is_not_found(error):
                    raise

    # ------------------------------------------------------------------ status
    async def _report(self, deployment: Object, known: list[Object], new: Object | None) -> float | None:
        """`known` are the ReplicaSets that there were; that the new one was made is written here."""
        old = _without(known, new)
        status = reporting.rollout_status(deployment, [*old, new] if new is not None else old, new, self.clock.now())
        was_made = new is not None and len(old) == len(known)
        if await self._write_status(deployment, status, force=was_made):
            return None
        return reporting.stuck_in(deployment, status, self.clock.now())

    async def _write_progress(self, deployment: Object, value: str, reason: str, message: str) -> None:
        await self._write_status(deployment, self._progressed(deployment, value, reason, message), force=True)

    def _progressed(self, deployment: Object, value: str, reason: str, message: str) -> dict[str, Any]:
        """Its status with this condition Progressing."""
        status: dict[str, Any] = meta.deepcopy(deployment.get("status") or {})
        reporting.set_condition(status, "Progressing", value, reason, message, meta.format_time(self.clock.now()))
        return status

    async def _write_status(self, deployment: Object, status: dict[str, Any], *, force: bool = False) -> bool:
        """Write it if it differs (or annotations do, or it has changed here only: `force`) and go on from what was
        written."""
        if not force and status == (deployment.get("status") or {}):
            return False
        written = await self.client.update(DEPLOYMENTS, {**deployment, "status": status}, subresource="status")
        deployment.clear()
        deployment.update(written)
        return True


def _without(sets: Sequence[Object], new: Object | None) -> list[Object]:
    return [one for one in sets if new is None or meta.uid(one) != meta.uid(new)]
