"""Binds claims and persistent volumes to each other, and has volumes reclaimed whose claims are gone.

The two point to each other (`claim.spec.volumeName`, `volume.spec.claimRef`), and either pointer may be set by users,
by the scheduler or by a provisioner before we see it. Keys are `claim:NAMESPACE/NAME` and `volume:NAME`; one worker,
or two claims could be given one volume. (kubernetes `pkg/controller/volume/persistentvolume`.)
"""

from __future__ import annotations

from kubecore.api import meta
from kubecore.api import persistent_volumes as volumes
from kubecore.api.errors import StatusError
from kubecore.client.ahead import Ahead
from kubecore.client.client import Object
from kubecore.client.informer import Of
from kubecore.controllers.base import Controller, ControllerContext, RetryLater
from kubecore.controllers.volumes.files import StoredFiles
from kubecore.controllers.volumes.measures import VolumeMeasures
from kubecore.controllers.volumes.reclaim import Reclaiming
from kubecore.controllers.volumes.writes import CLAIMS, BindingWrites

CLASSES = "storageclasses.storage.k8s.io"
_BY_USE, _BY_VOLUME = "binder-use", "binder-volume"
_IN_TREE = "kubernetes.io/"
_OVER = ("Released", "Failed")
_AGAIN_SECONDS = 15.0
"""After which it is told anew why a claim has no volume, so that its events do not expire while it waits."""
_MIGRATED = {
    "kubernetes.io/aws-ebs": "ebs.csi.aws.com",
    "kubernetes.io/azure-disk": "disk.csi.azure.com",
    "kubernetes.io/azure-file": "file.csi.azure.com",
    "kubernetes.io/cinder": "cinder.csi.openstack.org",
    "kubernetes.io/gce-pd": "pd.csi.storage.gke.io",
    "kubernetes.io/portworx-volume": "pxd.portworx.com",
    "kubernetes.io/vsphere-volume": "csi.vsphere.vmware.com",
}
"""CSI drivers that have taken the place of what was a part of Kubernetes (csi-translation-lib)."""
_DISABLED = "kubernetes.io/host-path"
"""The only one that is left, for tests of Kubernetes itself."""


class VolumeBinder(Controller):
    name = "persistentvolume-binder-controller"
    queue_name = "claims"
    workers = 1

    def __init__(self, context: ControllerContext, files: StoredFiles) -> None:
        super().__init__(context)
        claims, held = self.informer(CLAIMS), self.informer("persistentvolumes")
        self._classes = self.informer(CLASSES)
        self._pods = self.informer("pods")
        claims.add_index(_BY_VOLUME, _volume_of_claim)
        held.add_index(_BY_USE, _use_of_volume)
        self._pods.add_index(volumes.PODS_BY_CLAIM, volumes.claim_keys_of_pod, of=Of.SPEC)
        self._claims_seen, self._volumes_seen = claims, held
        self._measures = VolumeMeasures(held.list, claims.list)
        self.metrics = self._measures.all
        self._claims, self._volumes = Ahead(claims, context.clock), Ahead(held, context.clock)
        self._recorder = context.recorder("persistentvolume-controller")
        self._writes = BindingWrites(context.client, self._claims, self._volumes)
        self._reclaiming = Reclaiming(context.client, self._recorder, self._writes, self._claims, files)
        self.enqueue_on_change(claims, self._touched_by_claim)
        self.enqueue_on_change(held, self._touched_by_volume)
        self._classes.add_handler(self._class_changed, lambda _, new: self._class_changed(new))
        self._pods.add_handler(None, None, self._pod_gone)

    # ------------------------------------------------------------------ what an event touches
    def _touched_by_claim(self, claim: Object) -> list[str]:
        reserved = self._volumes_seen.by_index(_BY_USE, _claimed(meta.key(claim)))
        names = {meta.name(one) for one in reserved} | {claim["spec"].get("volumeName") or ""}
        return [_claim_key(meta.key(claim)), *(_volume_key(name) for name in sorted(names) if name)]

    def _touched_by_volume(self, volume: Object) -> list[str]:
        touched = [_volume_key(meta.name(volume))]
        reference = volume["spec"].get("claimRef")
        waiting = self._claims_seen.by_index(_BY_VOLUME, meta.name(volume))
        if reference:
            touched.append(_claim_key(meta.make_key(reference["namespace"], reference["name"])))
        elif (volume.get("status") or {}).get("phase") == "Available":
            wanted = volumes.class_of(volume)
            unbound = self._claims_seen.by_index(_BY_VOLUME, "")
            waiting += [one for one in unbound if volumes.class_of(one) == wanted]
        return touched + [_claim_key(meta.key(claim)) for claim in waiting]

    def _class_changed(self, storage_class: Object) -> None:
        for claim in self._claims_seen.by_index(_BY_VOLUME, ""):
            if volumes.class_of(claim) == meta.name(storage_class) or not volumes.names_class(claim):
                self.queue.add(_claim_key(meta.key(claim)))

    def _pod_gone(self, pod: Object) -> None:
        """A volume that is to be recycled may be in use no more."""
        for key in volumes.claim_keys_of_pod(pod):
            for volume in self._volumes_seen.by_index(_BY_USE, _claimed(key)):
                self.queue.add(_volume_key(meta.name(volume)))

    # ------------------------------------------------------------------ syncing
    async def sync(self, key: str) -> float | None:
        kind, _, name = key.partition(":")
        if kind == "claim":
            claim = self._claims.get(name)
            if claim is not None:
                await self._sync_claim(claim)
                claim = self._claims.get(name)
            if claim is not None and volumes.BIND_COMPLETED not in meta.annotations(claim):
                return _AGAIN_SECONDS
        else:
            volume = self._volumes.get(name)
            if volume is not None:
                await self._sync_volume(volume)
        return None

    async def _sync_claim(self, claim: Object) -> None:
        if volumes.BIND_COMPLETED in meta.annotations(claim):
            await self._sync_bound(claim)
        elif claim["spec"].get("volumeName"):
            await self._sync_reserved(claim)
        else:
            await self._sync_unbound(claim)

    async def _sync_unbound(self, claim: Object) -> None:
        """It takes any volume that suits it."""
        name = volumes.class_of(claim)
        delayed = volumes.waits_for_consumer(self._classes.get(name)) if name else False
        volume = self._find(claim, delayed=delayed)
        if volume is not None:
            await self._writes.bind(volume, claim)
            return
        if not volumes.names_class(claim):
            chosen = volumes.default_class(self._classes.list())
            if chosen is not None:
                spec = {**claim["spec"], "storageClassName": meta.name(chosen)}
                await self._assign_class({**claim, "spec": spec})
                return
        if delayed and volumes.SELECTED_NODE not in meta.annotations(claim):
            self._tell_of_consumers(claim)
        elif name:
            await self._provision(claim, name)
            return
        else:
            message = "no persistent volumes available for this claim and no storage class is set"
            self._recorder.event(claim, "Normal", "FailedBinding", message)
        await self._writes.set_claim(claim, "Pending")

    async def _assign_class(self, claim: Object) -> None:
        try:
            await self._writes.update_claim(claim)
        except StatusError:
            self._measures.assigned(succeeded=False)
            raise
        self._measures.assigned(succeeded=True)

    def _find(self, claim: Object, *, delayed: bool) -> Object | None:
        """Volumes with the fewest access modes are tried first, the smallest of them before larger ones."""
        candidates = self._volumes.by_index(_BY_USE, _claimed(meta.key(claim)))
        candidates += self._volumes.by_index(_BY_USE, _of_class(volumes.class_of(claim)))
        by_modes: dict[tuple[str, ...], list[Object]] = {}
        for volume in sorted(candidates, key=meta.name):
            if volumes.allows_access(claim, volume):
                by_modes.setdefault(tuple(sorted(volume["spec"].get("accessModes") or ())), []).append(volume)
        for modes in sorted(by_modes, key=lambda one: (len(one), one)):
            found = volumes.find_matching(claim, by_modes[modes], delayed=delayed)
            if found is not None:
                return found
        return None

    def _tell_of_consumers(self, claim: Object) -> None:
        pods = [
            meta.name(pod)
            for pod in self._pods.by_index(volumes.PODS_BY_CLAIM, meta.key(claim))
            if not volumes.is_terminated(pod) and not pod["spec"].get("nodeName")
        ]
        if not pods:
            message = "waiting for first consumer to be created before binding"
            self._recorder.event(claim, "Normal", "WaitForFirstConsumer", message)
            return
        which = f"pod {pods[0]}" if len(pods) == 1 else f"pods {','.join(sorted(pods))}"
        self._recorder.event(claim, "Normal", "WaitForPodScheduled", f"waiting for {which} to be scheduled")

    async def _provision(self, claim: Object, class_name: str) -> None:
        """Every provisioner works outside of the binder, ours too: it is told by an annotation."""
        storage_class = self._classes.get(class_name)
        if storage_class is None:
            missing = f'storageclass.storage.k8s.io "{class_name}" not found'
            self._recorder.event(claim, "Warning", "ProvisioningFailed", missing)
            return
        provisioner: str = storage_class["provisioner"]
        provisioner = _MIGRATED.get(provisioner, provisioner)
        if provisioner.startswith(_IN_TREE) and provisioner != _DISABLED:
            missing = f"no volume plugin matched name: {provisioner}"
            self._recorder.event(claim, "Warning", "ProvisioningFailed", missing)
            return
        if meta.annotations(claim).get(volumes.STORAGE_PROVISIONER) != provisioner:
            copy = meta.deepcopy(claim)
            marks = {volumes.BETA_STORAGE_PROVISIONER: provisioner, volumes.STORAGE_PROVISIONER: provisioner}
            volumes.annotate(copy, marks)
            claim = await self._writes.update_claim(copy)
        if provisioner == _DISABLED:
            failed = f'Failed to create provisioner: provisioning in volume plugin "{provisioner}" is disabled'
            self._recorder.event(claim, "Warning", "ProvisioningFailed", failed)
            return
        message = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the "
            "system administrator. If volume creation is delayed, please verify that the provisioner is running and "
            "correctly registered."
        )
        self._recorder.event(claim, "Normal", "ExternalProvisioning", message)

    async def _sync_reserved(self, claim: Object) -> None:
        """It asks for one volume by name."""
        volume = self._volumes.get(claim["spec"]["volumeName"])
        if volume is None:
            await self._writes.set_claim(claim, "Pending")
        elif not volume["spec"].get("claimRef"):
            reason = volumes.mismatch(volume, claim)
            if not reason:
                await self._writes.bind(volume, claim)
                return
            told = f'Cannot bind to requested volume "{meta.name(volume)}": {reason}'
            self._recorder.event(claim, "Warning", "VolumeMismatch", told)
            await self._writes.set_claim(claim, "Pending")
        elif volumes.is_bound_to(volume, claim):
            await self._writes.bind(volume, claim)
        else:
            told = f'volume "{meta.name(volume)}" already bound to a different claim.'
            self._recorder.event(claim, "Warning", "FailedBinding", told)
            if volumes.BOUND_BY_CONTROLLER in meta.annotations(claim):
                # somebody took away the annotation that says it was bound
                raise RetryLater(f"claim {meta.key(claim)}: {told}")
            await self._writes.set_claim(claim, "Pending")

    async def _sync_bound(self, claim: Object) -> None:
        """It was bound once, and keeps that volume or none."""
        name = claim["spec"].get("volumeName")
        volume = self._volumes.get(name) if name else None
        if not name:
            await self._lose(claim, "ClaimLost", "Bound claim has lost reference to PersistentVolume.")
        elif volume is None:
            await self._lose(claim, "ClaimLost", "Bound claim has lost its PersistentVolume.")
        elif not volume["spec"].get("claimRef") or volume["spec"]["claimRef"].get("uid") == meta.uid(claim):
            await self._writes.bind(volume, claim)
        else:
            message = "Two claims are bound to the same volume, this one is bound incorrectly"
            await self._lose(claim, "ClaimMisbound", message, data_lost=False)

    async def _lose(self, claim: Object, reason: str, message: str, *, data_lost: bool = True) -> None:
        if (claim.get("status") or {}).get("phase") == "Lost":
            return
        await self._writes.set_claim(claim, "Lost")
        self._recorder.event(
            claim, "Warning", reason, f"{message} Data on the volume is lost!" if data_lost else message
        )

    # ------------------------------------------------------------------ volumes
    async def _sync_volume(self, volume: Object) -> None:
        reference = volume["spec"].get("claimRef")
        if not reference or not reference.get("uid"):
            # free, or reserved for a claim whose own sync will see to it
            await self._writes.set_phase(volume, "Available")
            return
        claim = await self._claim_of(volume)
        if claim is None:
            await self._release(volume)
        elif not claim["spec"].get("volumeName"):
            if volumes.modes_differ(claim, volume):
                self._tell_of_modes(claim, volume)
            else:
                self.queue.add(_claim_key(meta.key(claim)))
        elif claim["spec"]["volumeName"] == meta.name(volume):
            await self._writes.set_phase(volume, "Bound")
        elif (
            volumes.PROVISIONED_BY in meta.annotations(volume)
            and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
        ):
            # made for a claim that took another one meanwhile
            await self._release(volume)
        else:
            await self._writes.unbind(volume)

    async def _release(self, volume: Object) -> None:
        if (volume.get("status") or {}).get("phase") not in _OVER:
            volume = await self._writes.set_phase(volume, "Released")
        users = [
            meta.key(pod)
            for pod in self._pods.by_index(volumes.PODS_BY_CLAIM, _reference_key(volume))
            if not volumes.is_terminated(pod)
        ]
        await self._reclaiming.reclaim(volume, users)

    async def _claim_of(self, volume: Object) -> Object | None:
        """The claim that the volume is bound to. Before one counts as gone, the server is asked."""
        reference = volume["spec"]["claimRef"]
        claim = self._claims.get(_reference_key(volume))
        if claim is not None and meta.uid(claim) == reference["uid"]:
            return claim
        if claim is None and (volume.get("status") or {}).get("phase") in _OVER:
            return None
        claim = await self.client.find(CLAIMS, reference["name"], reference["namespace"])
        return claim if claim is not None and meta.uid(claim) == reference["uid"] else None

    def _tell_of_modes(self, claim: Object, volume: Object) -> None:
        of_volume = f'Cannot bind PersistentVolume to requested PersistentVolumeClaim "{meta.name(claim)}"'
        of_claim = f'Cannot bind PersistentVolume "{meta.name(volume)}" to requested PersistentVolumeClaim'
        for obj, told in ((volume, of_volume), (claim, of_claim)):
            self._recorder.event(obj, "Warning", "VolumeMismatch", f"{told} due to incompatible volumeMode.")


def _claim_key(key: str) -> str:
    return f"claim:{key}"


def _volume_key(name: str) -> str:
    return f"volume:{name}"


def _claimed(key: str) -> str:
    return f"claim:{key}"


def _of_class(name: str) -> str:
    return f"class:{name}"


def _reference_key(volume: Object) -> str:
    reference = volume["spec"]["claimRef"]
    return meta.make_key(reference.get("namespace", ""), reference.get("name", ""))


def _use_of_volume(volume: Object) -> list[str]:
    """Index: for which claim a volume is reserved, else of which class it is."""
    if volume["spec"].get("claimRef"):
        return [_claimed(_reference_key(volume))]
    return [_of_class(volumes.class_of(volume))]


def _volume_of_claim(claim: Object) -> list[str]:
    """Index: the volume a claim names, "" for those that name none."""
    return [claim["spec"].get("volumeName") or ""]
