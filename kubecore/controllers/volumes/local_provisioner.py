"""The provisioner behind the default storage class: a volume is a folder of this host, reached from one node.

It works as provisioners outside of Kubernetes do: the binder names it in an annotation of the claim, the scheduler
selects the node, and what it made it deletes once the claim is gone. A volume's size is bookkeeping only. (Shape:
sig-storage-lib-external-provisioner `controller/controller.go`, and Rancher's local-path-provisioner.)
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

from kubecore.api import errors, meta
from kubecore.api import persistent_volumes as volumes
from kubecore.api.errors import StatusError
from kubecore.api.node_selection import matches_topology
from kubecore.client.client import Object
from kubecore.client.events import reference
from kubecore.client.workqueue import RateLimits
from kubecore.controllers import conditions
from kubecore.controllers.base import Controller, ControllerContext, RetryLater
from kubecore.controllers.volumes.files import StoredFiles
from kubecore.controllers.volumes.writes import CLAIMS, VOLUMES

PROVISIONER = "kubecore.dev/local-path"
STORAGE_CLASS = "standard"
_CLASSES = "storageclasses.storage.k8s.io"
_HOSTNAME = "kubernetes.io/hostname"
_SET_UP = "set up"
_ONE_NODE = {"ReadWriteOnce", "ReadWriteOncePod"}


class _Impossible(Exception):
    """What the claim asks for cannot be provisioned."""


class LocalProvisioner(Controller):
    """Keys are `claim:NAMESPACE/NAME`, `volume:NAME` and `_SET_UP`. `folder` holds the volumes, and nothing else.

    The storage class is made together with the folder, once: a user who deletes or changes it is obeyed.
    """

    name = "local-volume-provisioner-controller"
    # what a claim asks for in vain it is told of now and then (the external-provisioner's --retry-interval-start, -max)
    limits = RateLimits(base=1.0, maximum=300.0)

    def __init__(self, context: ControllerContext, folder: Path, files: StoredFiles) -> None:
        super().__init__(context)
        self._folder = folder
        self._files = files
        self._claims = self.informer(CLAIMS)
        self._volumes = self.informer(VOLUMES)
        self._classes = self.informer(_CLASSES)
        self._nodes = self.informer("nodes")
        self._recorder = context.recorder(PROVISIONER)
        self._homeless: set[str] = set()
        """Claims that no node suits."""
        self._claims.add_handler(self._claim_seen, lambda _, new: self._claim_seen(new))
        self._volumes.add_handler(self._volume_seen, lambda _, new: self._volume_seen(new))
        self._nodes.add_handler(self._node_seen, self._node_changed)

    def _claim_seen(self, claim: Object) -> None:
        # Of its class nothing may be known yet.
        if _is_for_us(claim):
            self.queue.add(f"claim:{meta.key(claim)}")

    def _volume_seen(self, volume: Object) -> None:
        if meta.annotations(volume).get(volumes.PROVISIONED_BY) == PROVISIONER:
            self.queue.add(f"volume:{meta.name(volume)}")

    def _node_changed(self, old: Object, new: Object) -> None:
        if self._homeless and (not _is_usable(old) or meta.labels(old) != meta.labels(new)):
            self._node_seen(new)

    def _node_seen(self, node: Object) -> None:
        if _is_usable(node):
            for claim in self._homeless:
                self.queue.add(f"claim:{claim}")
            self._homeless.clear()

    async def started(self) -> None:
        self.queue.add(_SET_UP)

    async def _set_up(self) -> None:
        if not await self._files.exists(self._folder):
            others = volumes.default_class(self._classes.list())
            try:
                await self.client.create(_CLASSES, default_storage_class(is_default=others is None))
            except StatusError as error:
                if not errors.is_already_exists(error):
                    raise
            await self._files.make(self._folder, 0o755)

    async def sync(self, key: str) -> float | None:
        kind, _, name = key.partition(":")
        if key == _SET_UP:
            await self._set_up()
        elif kind == "claim":
            claim = self._claims.get(name)
            if claim is not None and self._should_provision(claim):
                await self._provision(claim)
        else:
            volume = self._volumes.get(name)
            if volume is not None:
                await self._look_after(volume)
        return None

    # ------------------------------------------------------------------ provisioning
    def _should_provision(self, claim: Object) -> bool:
        if not _is_for_us(claim):
            return False
        storage_class = self._classes.get(volumes.class_of(claim))
        if storage_class is None or storage_class["provisioner"] != PROVISIONER:
            return False
        return volumes.SELECTED_NODE in meta.annotations(claim) or not volumes.waits_for_consumer(storage_class)

    async def _provision(self, claim: Object) -> None:
        name = f"pvc-{meta.uid(claim)}"
        if self._volumes.get(name) is not None:
            return
        storage_class = self._classes.get(volumes.class_of(claim))
        assert storage_class is not None
        told = f'External provisioner is provisioning volume for claim "{meta.key(claim)}"'
        self._recorder.event(claim, "Normal", "Provisioning", told)
        try:
            _check(claim, storage_class)
            node = await self._choose_node(claim, storage_class)
            path = self._folder / f"{name}_{meta.namespace(claim)}_{meta.name(claim)}"
            await self._files.make(path, 0o777)  # whoever its pods run as
        except (_Impossible, OSError) as error:
            told = f'failed to provision volume with StorageClass "{meta.name(storage_class)}": {error}'
            self._recorder.event(claim, "Warning", "ProvisioningFailed", told)
            raise RetryLater(told) from error
        try:
            await self.client.create(VOLUMES, _volume(name, path, claim, storage_class, node))
        except StatusError as error:
            if not errors.is_already_exists(error):
                # the claim may be gone before it is tried again
                await self._files.remove(path)
                raise
        self._recorder.event(claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {name}")

    async def _choose_node(self, claim: Object, storage_class: Object) -> Object:
        """The one the scheduler selected; for a claim that is to be bound at once any one that is ready."""
        selected = meta.annotations(claim).get(volumes.SELECTED_NODE)
        if selected is not None:
            node = self._nodes.get(selected)
            if node is None:
                await self._let_another_be_selected(claim)
                raise RetryLater(f"node {selected} is gone")
            return node
        terms = storage_class.get("allowedTopologies")
        ready = [one for one in self._nodes.list() if _is_usable(one) and matches_topology(terms, meta.labels(one))]
        if not ready:
            self._homeless.add(meta.key(claim))
            raise _Impossible("no node is there to hold the volume")
        ready.sort(key=meta.name)
        return ready[zlib.crc32(meta.uid(claim).encode()) % len(ready)]

    async def _let_another_be_selected(self, claim: Object) -> None:
        """Without its annotation the scheduler begins anew."""
        copy = meta.deepcopy(claim)
        del copy["metadata"]["annotations"][volumes.SELECTED_NODE]
        await self.client.update(CLAIMS, copy)

    # ------------------------------------------------------------------ what was provisioned
    async def _look_after(self, volume: Object) -> None:
        policy = volume["spec"].get("persistentVolumeReclaimPolicy")
        held = volumes.EXTERNAL_FINALIZER in meta.finalizers(volume)
        if policy != "Delete":
            if held:
                await self._set_finalizer(volume, on=False)
            return
        if (volume.get("status") or {}).get("phase") == "Released":
            await self._delete(volume)
        elif not held and not meta.is_deleting(volume):
            await self._set_finalizer(volume, on=True)

    async def _delete(self, volume: Object) -> None:
        path = Path((volume["spec"].get("hostPath") or {}).get("path") or "/")
        try:
            if path.parent != self._folder or path.name in ("", ".", ".."):
                raise _Impossible(f"{path} is not in the folder of volumes, {self._folder}")
            await self._files.remove(path)
        except (_Impossible, OSError) as error:
            self._recorder.event(volume, "Warning", "VolumeFailedDelete", str(error))
            raise RetryLater(f"deleting {meta.name(volume)}: {error}") from error
        if not meta.is_deleting(volume):
            await self.client.delete(VOLUMES, meta.name(volume), uid=meta.uid(volume))
            volume = await self.client.get(VOLUMES, meta.name(volume))
        if volumes.EXTERNAL_FINALIZER in meta.finalizers(volume):
            await self._set_finalizer(volume, on=False)

    async def _set_finalizer(self, volume: Object, *, on: bool) -> None:
        copy = meta.deepcopy(volume)
        kept = [one for one in meta.finalizers(copy) if one != volumes.EXTERNAL_FINALIZER]
        copy["metadata"]["finalizers"] = [*kept, volumes.EXTERNAL_FINALIZER] if on else kept
        await self.client.update(VOLUMES, copy)


def default_storage_class(*, is_default: bool) -> Object:
    marks = {"storageclass.kubernetes.io/is-default-class": "true"} if is_default else {}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": marks},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }


def _is_for_us(claim: Object) -> bool:
    """It has no volume yet, and the binder says that ours is to provision it."""
    ours = meta.annotations(claim).get(volumes.STORAGE_PROVISIONER) == PROVISIONER
    return ours and not claim["spec"].get("volumeName")


def _check(claim: Object, storage_class: Object) -> None:
    """Raises _Impossible."""
    spec = claim["spec"]
    modes: Sequence[str] = spec.get("accessModes") or ()
    if not set(modes) <= _ONE_NODE:
        raise _Impossible("a folder of one node supports only the access modes ReadWriteOnce and ReadWriteOncePod")
    if spec.get("volumeMode") == "Block":
        raise _Impossible("block volumes are not supported")
    if spec.get("selector"):
        raise _Impossible("claim.spec.selector is not supported")
    if spec.get("dataSource") or spec.get("dataSourceRef"):
        raise _Impossible("data sources are not supported")
    for parameter in sorted(storage_class.get("parameters") or ()):
        raise _Impossible(f"unknown parameter {parameter} of the storage class")


def _volume(name: str, path: Path, claim: Object, storage_class: Object, node: Object) -> Object:
    """The volume that is there now, bound to its claim already."""
    hostname = meta.labels(node).get(_HOSTNAME, meta.name(node))
    expression = {"key": _HOSTNAME, "operator": "In", "values": [hostname]}
    policy = storage_class.get("reclaimPolicy") or "Delete"
    finalizers = [volumes.EXTERNAL_FINALIZER] if policy == "Delete" else []
    spec: Object = {
        "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
        "accessModes": claim["spec"]["accessModes"],
        "claimRef": reference(claim),
        "hostPath": {"path": str(path), "type": "DirectoryOrCreate"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
        "persistentVolumeReclaimPolicy": policy,
        "storageClassName": meta.name(storage_class),
        "volumeMode": "Filesystem",
    }
    annotations = {volumes.PROVISIONED_BY: PROVISIONER}
    metadata: Object = {"name": name, "annotations": annotations, "finalizers": finalizers}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}


def _is_usable(node: Object) -> bool:
    return conditions.is_true(node, "Ready") and not node["spec"].get("unschedulable")
