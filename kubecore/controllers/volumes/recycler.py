"""Empties volumes of hosts' paths whose policy is Recycle, by a pod, and makes them available again.

The policy is deprecated, and as upstream's controller manager recycles it: one pod in namespace `default` for each
volume, whose events are told on the volume. (kubernetes `pkg/controller/volume/persistentvolume` and
`pkg/volume/util/recyclerclient`.)
"""

from __future__ import annotations

import asyncio

import orjson

from kubecore.api import errors, meta, quantity
from kubecore.api import persistent_volumes as volumes
from kubecore.api.errors import StatusError
from kubecore.background_tasks import see_out
from kubecore.client.ahead import Ahead
from kubecore.client.client import Object
from kubecore.client.informer import Of
from kubecore.controllers import pods
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.volumes.writes import CLAIMS, VOLUMES, BindingWrites

_NAMESPACE = "default"
_IMAGE = "registry.k8s.io/build-image/debian-base:bookworm-v1.0.6"
_SCRUB = 'test -e /scrub && find /scrub -mindepth 1 -delete && test -z "$(ls -A /scrub)" || exit 1'
_LEAST_SECONDS, _SECONDS_A_GIB = 60, 30
_AGAIN_SECONDS = 15.0
# Beyond its own deadline, which counts from its start: one that no node takes keeps others waiting no longer.
_UNSTARTED_SECONDS = 300
_OVER = ("Released", "Failed")


class RecycleFailed(Exception):
    pass


def is_recyclable(volume: Object) -> bool:
    return "hostPath" in volume["spec"]


class VolumeRecycler(Controller):
    """Keys are volumes. A worker has one until its pod has ended."""

    name = "persistentvolume-recycler-controller"
    queue_name = "volume_recycler"
    workers = 5

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        claims, held = self.informer(CLAIMS), self.informer(VOLUMES)
        self._pods = self.informer("pods")
        self._pods.add_index(volumes.PODS_BY_CLAIM, volumes.claim_keys_of_pod, of=Of.SPEC)
        self._recorder = context.recorder("persistentvolume-controller")
        self._writes = BindingWrites(context.client, Ahead(claims, context.clock), Ahead(held, context.clock))
        held.add_handler(self._seen, lambda _, new: self._seen(new))

    def _seen(self, volume: Object) -> None:
        if _is_due(volume):
            self.enqueue(volume)

    async def sync(self, key: str) -> float | None:
        volume = await self.client.find(VOLUMES, key)
        if volume is None or not _is_due(volume) or not await self._is_released(volume):
            return None
        if users := self._users(volume):
            told = f"Volume is used by pods: {','.join(users)}"
            self._recorder.event(volume, "Normal", "VolumeFailedRecycle", told)
            return _AGAIN_SECONDS
        try:
            await self._recycle(volume)
        except (RecycleFailed, StatusError) as error:
            await self._fail(volume, f"Recycle failed: {error.message if isinstance(error, StatusError) else error}")
            return _AGAIN_SECONDS
        self._recorder.event(volume, "Normal", "VolumeRecycled", "Volume recycled")
        await self._writes.unbind(volume)
        return None

    async def _is_released(self, volume: Object) -> bool:
        """Data is lost hereafter, so what a cache says is not enough."""
        claim_ref = volume["spec"]["claimRef"]
        claim = await self.client.find(CLAIMS, claim_ref["name"], claim_ref["namespace"])
        return claim is None or meta.uid(claim) != claim_ref["uid"]

    def _users(self, volume: Object) -> list[str]:
        claim_ref = volume["spec"]["claimRef"]
        found = self._pods.by_index(volumes.PODS_BY_CLAIM, meta.make_key(claim_ref["namespace"], claim_ref["name"]))
        return sorted(meta.key(pod) for pod in found if not volumes.is_terminated(pod))

    async def _fail(self, volume: Object, message: str) -> None:
        if (volume.get("status") or {}).get("phase") != "Failed":
            await self._writes.set_phase(volume, "Failed", message)
            self._recorder.event(volume, "Warning", "VolumeFailedRecycle", message)

    # ------------------------------------------------------------------ the pod
    async def _recycle(self, volume: Object) -> None:
        """Raises RecycleFailed and StatusError."""
        wanted = recycler_pod(volume)
        try:
            pod = await self.client.create("pods", wanted)
        except StatusError as error:
            if not errors.is_already_exists(error):
                raise RecycleFailed(f"unexpected error creating recycler pod:  {error.message}") from error
            # whose it is cannot be told: another manager's that was ended, or a user's who would keep us from it
            await self._delete(meta.name(wanted))
            raise RecycleFailed("old recycler pod found, will retry later") from error
        telling = asyncio.create_task(self._pass_on_events(volume, pod))
        try:
            await self._ended(pod)
        finally:
            await see_out(telling)
            await self._delete(meta.name(pod))

    async def _ended(self, pod: Object) -> None:
        """Wait until it has succeeded. Raises RecycleFailed."""
        name = meta.name(pod)
        watched = self.client.watch(
            "pods",
            _NAMESPACE,
            resource_version=meta.resource_version(pod),
            field_selector=f"metadata.name={name}",
            timeout_seconds=pod["spec"]["activeDeadlineSeconds"] + _UNSTARTED_SECONDS,
        )
        async for batch in watched:
            for event in batch:
                if event.type == "DELETED":
                    raise RecycleFailed("failed to recycle volume: recycler pod was deleted")
                if event.type not in ("ADDED", "MODIFIED"):
                    continue
                found: Object = orjson.loads(event.object)
                if pods.phase(found) == "Succeeded":
                    return
                if pods.phase(found) == "Failed":
                    why = found["status"].get("message") or "pod failed, pod.Status.Message unknown"
                    raise RecycleFailed(f"failed to recycle volume: {why}")
        raise RecycleFailed(f'failed to recycle volume: recycler pod "{name}" watch channel had been closed')

    async def _pass_on_events(self, volume: Object, pod: Object) -> None:
        """What is told of the pod is told on the volume, for as long as the pod is waited for."""
        selector = f"involvedObject.uid={meta.uid(pod)}"
        try:
            async for batch in self.client.watch("events", _NAMESPACE, field_selector=selector):
                for event in batch:
                    if event.type == "ADDED":
                        told: Object = orjson.loads(event.object)
                        message = f"Recycler pod: {told.get('message', '')}"
                        self._recorder.event(volume, told.get("type") or "Normal", "RecyclerPod", message)
        except (StatusError, OSError):
            # the volume is recycled whether anybody hears of it or not
            return

    async def _delete(self, name: str) -> None:
        try:
            await self.client.delete("pods", name, _NAMESPACE)
        except StatusError as error:
            if not errors.is_not_found(error):
                raise RecycleFailed(f"failed to delete recycler pod: {error.message}") from error


def recycler_pod(volume: Object) -> Object:
    """Named after the volume, so that there is one at a time."""
    gibibytes = quantity.parse(volume["spec"]["capacity"]["storage"]) // 2**30
    container = {
        "name": "pv-recycler",
        "image": _IMAGE,
        "command": ["/bin/sh"],
        "args": ["-c", _SCRUB],
        "volumeMounts": [{"name": "vol", "mountPath": "/scrub"}],
    }
    spec = {
        "activeDeadlineSeconds": max(_LEAST_SECONDS, int(gibibytes) * _SECONDS_A_GIB),
        "restartPolicy": "Never",
        "volumes": [{"name": "vol", "hostPath": {"path": volume["spec"]["hostPath"]["path"]}}],
        "containers": [container],
    }
    metadata = {"name": f"recycler-for-{meta.name(volume)}", "namespace": _NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _is_due(volume: Object) -> bool:
    spec = volume["spec"]
    is_over = (volume.get("status") or {}).get("phase") in _OVER and (spec.get("claimRef") or {}).get("uid")
    return bool(is_over) and spec.get("persistentVolumeReclaimPolicy") == "Recycle" and is_recyclable(volume)
