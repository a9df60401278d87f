"""The writes that bind a claim and a volume: each is left out when it would change nothing.

They go from the volume to the claim, so that whatever interrupts them is finished by the next sync of either.
(kubernetes `pkg/controller/volume/persistentvolume/pv_controller.go`.)
"""

from __future__ import annotations

from kubecore.api import meta
from kubecore.api.persistent_volumes import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    annotate,
    bound_to_claim,
    storage,
)
from kubecore.client.ahead import Ahead
from kubecore.client.client import Client, Object

CLAIMS = "persistentvolumeclaims"
VOLUMES = "persistentvolumes"


class BindingWrites:
    """What it writes is known to `claims` and `volumes` at once."""

    def __init__(self, client: Client, claims: Ahead, volumes: Ahead) -> None:
        self._client = client
        self._claims = claims
        self._volumes = volumes

    async def bind(self, volume: Object, claim: Object) -> None:
        """Volume to claim, its phase, claim to volume, its status."""
        changed = bound_to_claim(volume, claim)
        if changed is not None:
            volume = await self.update_volume(changed)
        volume = await self.set_phase(volume, "Bound")
        claim = await self._bind_claim(claim, volume)
        await self.set_claim(claim, "Bound", volume)

    async def unbind(self, volume: Object) -> None:
        """The volume is free again; one that its user reserved for a claim stays reserved by name."""
        copy = meta.deepcopy(volume)
        if BOUND_BY_CONTROLLER in meta.annotations(copy):
            copy["spec"].pop("claimRef", None)
            del copy["metadata"]["annotations"][BOUND_BY_CONTROLLER]
        else:
            copy["spec"]["claimRef"].pop("uid", None)
        await self.set_phase(await self.update_volume(copy), "Available")

    async def set_phase(self, volume: Object, phase: str, message: str = "") -> Object:
        """The volume as it is then; the very same when it is in that phase."""
        status = volume.get("status") or {}
        if status.get("phase") == phase:
            return volume
        status = {key: value for key, value in status.items() if key not in ("phase", "message")}
        status["phase"] = phase
        if message:
            status["message"] = message
        changed = {**volume, "status": status}
        return self._volumes.wrote(await self._client.update(VOLUMES, changed, subresource="status"))

    async def set_claim(self, claim: Object, phase: str, volume: Object | None = None) -> Object:
        """The claim's phase, and what it has of its volume."""
        before = claim.get("status") or {}
        status = {**before, "phase": phase}
        if volume is None:
            for key in ("accessModes", "capacity", "currentVolumeAttributesClassName"):
                status.pop(key, None)
        else:
            status["accessModes"] = volume["spec"].get("accessModes") or []
            # Once bound, the capacity is that of whoever resizes the file system.
            if before.get("phase") != phase:
                self._take_capacity(status, volume)
                attributes = volume["spec"].get("volumeAttributesClassName")
                if before.get("phase") == "Pending" and attributes:
                    status["currentVolumeAttributesClassName"] = attributes
        if status == before:
            return claim
        return self._claims.wrote(await self._client.update(CLAIMS, {**claim, "status": status}, subresource="status"))

    async def update_claim(self, claim: Object) -> Object:
        return self._claims.wrote(await self._client.update(CLAIMS, claim))

    async def update_volume(self, volume: Object) -> Object:
        return self._volumes.wrote(await self._client.update(VOLUMES, volume))

    async def _bind_claim(self, claim: Object, volume: Object) -> Object:
        points = claim["spec"].get("volumeName") == meta.name(volume)
        if points and BIND_COMPLETED in meta.annotations(claim):
            return claim
        copy = meta.deepcopy(claim)
        annotations = {BIND_COMPLETED: "yes"}
        if not points:
            copy["spec"]["volumeName"] = meta.name(volume)
            annotations[BOUND_BY_CONTROLLER] = "yes"
        annotate(copy, annotations)
        return await self.update_claim(copy)

    @staticmethod
    def _take_capacity(status: Object, volume: Object) -> None:
        capacity = volume["spec"].get("capacity") or {}
        if "storage" not in capacity:
            raise ValueError(f'PersistentVolume "{meta.name(volume)}" is without a storage capacity')
        if storage(capacity) != storage(status.get("capacity")):
            status["capacity"] = capacity
