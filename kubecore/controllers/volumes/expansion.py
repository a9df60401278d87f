"""Lets bound claims that ask for more have it.

The local provisioner's volumes have no size but in the books, so that theirs is changed there; all others wait for
their driver's resizer. (kubernetes `pkg/controller/volume/expand`, and kubernetes-csi/external-resizer.)
"""

from __future__ import annotations

from kubecore.api import meta
from kubecore.api import persistent_volumes as volumes
from kubecore.client.client import Object
from kubecore.controllers import conditions
from kubecore.controllers.base import Controller, ControllerContext, RetryLater
from kubecore.controllers.volumes.local_provisioner import PROVISIONER
from kubecore.controllers.volumes.writes import CLAIMS, VOLUMES

_RESIZING = "Resizing"


class ExpandController(Controller):
    """Keys are claims."""

    name = "persistentvolume-expander-controller"
    queue_name = "volume_expand"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._claims = self.informer(CLAIMS)
        self._volumes = self.informer(VOLUMES)
        self._recorder = context.recorder("volume_expand")
        self._claims.add_handler(self._seen, lambda _, new: self._seen(new))

    def _seen(self, claim: Object) -> None:
        if _wants_more(claim):
            self.enqueue(claim)

    async def sync(self, key: str) -> float | None:
        claim = self._claims.get(key)
        if claim is None or not _wants_more(claim):
            return None
        volume = self._volumes.get(claim["spec"]["volumeName"])
        if volume is None or (volume["spec"].get("claimRef") or {}).get("uid") != meta.uid(claim):
            raise RetryLater(f"persistent Volume is not bound to PVC being updated : {key}")
        if meta.annotations(volume).get(volumes.PROVISIONED_BY) == PROVISIONER:
            await self._expand(claim, volume)
        else:
            told = "waiting for an external controller to expand this PVC"
            self._recorder.event(claim, "Normal", "ExternalExpanding", told)
        return None

    async def _expand(self, claim: Object, volume: Object) -> None:
        wanted = claim["spec"]["resources"]["requests"]["storage"]
        status = claim["status"]
        now = meta.format_time(self.clock.now())
        started = {
            **status,
            "allocatedResources": {**(status.get("allocatedResources") or {}), "storage": wanted},
            "allocatedResourceStatuses": {"storage": "ControllerResizeInProgress"},
            "conditions": conditions.put(status.get("conditions") or [], conditions.make(_RESIZING, "True", now)),
        }
        claim = await self._write(claim, started)
        told = f"External resizer is resizing volume {meta.name(volume)}"
        self._recorder.event(claim, "Normal", "Resizing", told)
        if volumes.storage(volume["spec"]["capacity"]) < volumes.requested(claim):
            capacity = {**volume["spec"]["capacity"], "storage": wanted}
            await self.client.update(VOLUMES, {**volume, "spec": {**volume["spec"], "capacity": capacity}})
        finished = {**claim["status"], "capacity": {**(status.get("capacity") or {}), "storage": wanted}}
        finished.pop("allocatedResourceStatuses", None)
        finished["conditions"] = [one for one in claim["status"]["conditions"] if one["type"] != _RESIZING]
        await self._write(claim, finished)
        self._recorder.event(claim, "Normal", "VolumeResizeSuccessful", "Resize volume succeeded")

    async def _write(self, claim: Object, status: Object) -> Object:
        return await self.client.update(CLAIMS, {**claim, "status": status}, subresource="status")


def _wants_more(claim: Object) -> bool:
    status = claim.get("status") or {}
    return (
        status.get("phase") == "Bound"
        and bool(claim["spec"].get("volumeName"))
        and volumes.requested(claim) > volumes.storage(status.get("capacity"))
    )
