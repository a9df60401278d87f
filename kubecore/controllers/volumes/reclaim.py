"""What becomes of a volume whose claim is gone: retained, deleted, left to `recycler.py` or said not to be recyclable.

(kubernetes `pkg/controller/volume/persistentvolume/pv_controller.go`, reclaimVolume, and the deleter of
`pkg/volume/hostpath`.)
"""

from __future__ import annotations

import posixpath
from pathlib import Path

from kubecore.api import meta
from kubecore.api import persistent_volumes as volumes
from kubecore.client.ahead import Ahead
from kubecore.client.client import Client, Object
from kubecore.client.events import EventRecorder
from kubecore.controllers.base import RetryLater
from kubecore.controllers.volumes.files import StoredFiles
from kubecore.controllers.volumes.recycler import is_recyclable
from kubecore.controllers.volumes.writes import VOLUMES, BindingWrites

_TEMPORARY = "/tmp/"
_UNKNOWN = "Volume has unrecognized PersistentVolumeReclaimPolicy"


class Reclaiming:
    def __init__(
        self, client: Client, recorder: EventRecorder, writes: BindingWrites, claims: Ahead, files: StoredFiles
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._writes = writes
        self._claims = claims
        self._files = files

    async def reclaim(self, volume: Object, users: list[str]) -> None:
        """By the volume's policy; `users` are the pods that still name its claim."""
        policy = volume["spec"].get("persistentVolumeReclaimPolicy")
        if policy == "Recycle":
            await self._recycle(volume, users)
        elif policy == "Delete":
            await self._delete(volume)
        elif policy != "Retain":
            await self._fail(volume, "VolumeUnknownReclaimPolicy", _UNKNOWN)

    async def _recycle(self, volume: Object, users: list[str]) -> None:
        if is_recyclable(volume):
            # takes its time, and has a controller of its own
            return
        reference = volume["spec"]["claimRef"]
        if users and self._claims.get(meta.make_key(reference["namespace"], reference["name"])) is None:
            told = f"Volume is used by pods: {','.join(sorted(users))}"
            self._recorder.event(volume, "Normal", "VolumeFailedRecycle", told)
            return
        await self._fail(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!")

    async def _delete(self, volume: Object) -> None:
        """Volumes of provisioners are theirs to delete; of the others we can delete what the host's /tmp holds."""
        provisioner = meta.annotations(volume).get(volumes.PROVISIONED_BY, "")
        if (provisioner and not provisioner.startswith("kubernetes.io/")) or "csi" in volume["spec"]:
            return
        if not await self._still_released(volume):
            return
        source = volume["spec"].get("hostPath")
        name = meta.name(volume)
        if source is None:
            # of those that upstream knows here, NFS alone cannot delete
            matched = "no deletable volume plugin matched" if "nfs" in volume["spec"] else "no volume plugin matched"
            told = f'error getting deleter volume plugin for volume "{name}": {matched}'
            await self._fail(volume, "VolumeFailedDelete", told)
            return
        path = posixpath.normpath(source["path"])
        if not path.startswith(_TEMPORARY):
            told = f"host_path deleter only supports /tmp/.+ but received provided {source['path']}"
            await self._fail(volume, "VolumeFailedDelete", told)
            return
        try:
            await self._files.remove(Path(path))
        except OSError as error:
            await self._fail(volume, "VolumeFailedDelete", str(error))
            raise RetryLater(f"deleting {name}: {error}") from error
        await self._client.delete(VOLUMES, name, uid=meta.uid(volume))

    async def _still_released(self, volume: Object) -> bool:
        """Data is lost hereafter, so what a cache says is not enough."""
        fresh = await self._client.find(VOLUMES, meta.name(volume))
        if fresh is None:
            return False
        mine, now = volume["spec"]["claimRef"], fresh["spec"].get("claimRef") or {}
        return meta.uid(fresh) == meta.uid(volume) and now.get("uid") == mine["uid"]

    async def _fail(self, volume: Object, reason: str, message: str) -> None:
        if (volume.get("status") or {}).get("phase") == "Failed":
            return
        await self._writes.set_phase(volume, "Failed", message)
        self._recorder.event(volume, "Warning", reason, message)
