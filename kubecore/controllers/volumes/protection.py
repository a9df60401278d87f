"""Keeps claims that pods use, volumes that are bound, and attributes classes that are in use, from going too early.

Each has a finalizer from the day it is made (admission puts it on); here it is taken off a deleted one that nobody
needs any more. (kubernetes `pkg/controller/volume/pvcprotection`, `pvprotection` and `vacprotection`.)
"""

from __future__ import annotations

from collections.abc import Iterable

from kubecore.api import meta
from kubecore.api import persistent_volumes as volumes
from kubecore.client.client import Object
from kubecore.client.informer import Of
from kubecore.controllers.base import Controller, ControllerContext
from kubecore.controllers.volumes.writes import CLAIMS, VOLUMES

_ATTRIBUTES = "volumeattributesclasses.storage.k8s.io"
_TO_DO, _BY_ATTRIBUTES = "protection-to-do", "protection-attributes"


def _needs_work(obj: Object, finalizer: str) -> bool:
    """It goes and still has the finalizer, or it stays and has none."""
    return meta.is_deleting(obj) == (finalizer in meta.finalizers(obj))


class _Protection(Controller):
    """What the three have in common. `finalizer` protects the objects of `resource`."""

    resource: str
    finalizer: str

    async def _put_on(self, obj: Object) -> None:
        await self._set(obj, [*meta.finalizers(obj), self.finalizer])

    async def _take_off(self, obj: Object) -> None:
        await self._set(obj, [one for one in meta.finalizers(obj) if one != self.finalizer])

    async def _set(self, obj: Object, finalizers: list[str]) -> None:
        await self.client.update(self.resource, {**obj, "metadata": {**obj["metadata"], "finalizers": finalizers}})


class ClaimProtection(_Protection):
    """Keys are namespaces, so that one list of pods serves all claims of one that are deleted together."""

    name = "persistentvolumeclaim-protection-controller"
    queue_name = "pvcprotection"
    resource = CLAIMS
    finalizer = "kubernetes.io/pvc-protection"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._claims = self.informer(CLAIMS)
        self._pods = self.informer("pods")
        self._claims.add_index(_TO_DO, _claims_to_do)
        self._pods.add_index(volumes.PODS_BY_CLAIM, volumes.claim_keys_of_pod, of=Of.SPEC)
        self._claims.add_handler(self._claim_seen, lambda _, new: self._claim_seen(new))
        self._pods.add_handler(self._pod_seen, lambda _, new: self._pod_seen(new), self._pod_gone)

    def _claim_seen(self, claim: Object) -> None:
        if _needs_work(claim, self.finalizer):
            self.queue.add(meta.namespace(claim))

    def _pod_seen(self, pod: Object) -> None:
        if volumes.is_terminated(pod) or not pod["spec"].get("nodeName"):
            self._pod_gone(pod)

    def _pod_gone(self, pod: Object) -> None:
        for key in volumes.claim_keys_of_pod(pod):
            claim = self._claims.get(key)
            if claim is not None and meta.is_deleting(claim):
                self.queue.add(meta.namespace(pod))

    async def sync(self, key: str) -> float | None:
        deleted = []
        for claim in self._claims.by_index(_TO_DO, key):
            if not meta.is_deleting(claim):
                await self._put_on(claim)
            elif not _is_used(claim, self._pods.by_index(volumes.PODS_BY_CLAIM, meta.key(claim))):
                deleted.append(claim)
        if deleted:
            # the cache may not have seen a pod that uses it yet
            pods = (await self.client.list("pods", key)).items
            for claim in deleted:
                if not _is_used(claim, pods):
                    await self._take_off(claim)
        return None


class VolumeProtection(_Protection):
    name = "persistentvolume-protection-controller"
    queue_name = "pvprotection"
    resource = VOLUMES
    finalizer = "kubernetes.io/pv-protection"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._volumes = self.informer(VOLUMES)
        self._volumes.add_handler(self._seen, lambda _, new: self._seen(new))

    def _seen(self, volume: Object) -> None:
        if _needs_work(volume, self.finalizer):
            self.enqueue(volume)

    async def sync(self, key: str) -> float | None:
        volume = self._volumes.get(key)
        if volume is None or not _needs_work(volume, self.finalizer):
            return None
        if not meta.is_deleting(volume):
            await self._put_on(volume)
        elif (volume.get("status") or {}).get("phase") != "Bound":
            await self._take_off(volume)
        return None


class AttributesClassProtection(_Protection):
    """In use is a class that a claim asks for or has, and one that a volume has."""

    name = "volumeattributesclass-protection-controller"
    queue_name = "vacprotection"
    resource = _ATTRIBUTES
    finalizer = "kubernetes.io/vac-protection"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._classes = self.informer(_ATTRIBUTES)
        self._users = [self.informer(CLAIMS), self.informer(VOLUMES)]
        self._classes.add_handler(self._seen, lambda _, new: self._seen(new))
        for informer in self._users:
            informer.add_index(_BY_ATTRIBUTES, _attributes_classes)
            self.enqueue_on_change(informer, _attributes_classes)

    def _seen(self, attributes_class: Object) -> None:
        if _needs_work(attributes_class, self.finalizer):
            self.enqueue(attributes_class)

    async def sync(self, key: str) -> float | None:
        found = self._classes.get(key)
        if found is None or not _needs_work(found, self.finalizer):
            return None
        if not meta.is_deleting(found):
            await self._put_on(found)
        elif not any(informer.by_index(_BY_ATTRIBUTES, key) for informer in self._users):
            await self._take_off(found)
        return None


def _claims_to_do(claim: Object) -> list[str]:
    """Index: the namespaces of claims whose finalizer is not as it should be."""
    return [meta.namespace(claim)] if _needs_work(claim, ClaimProtection.finalizer) else []


def _attributes_classes(user: Object) -> list[str]:
    status = user.get("status") or {}
    names = (
        user["spec"].get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return sorted({name for name in names if name})


def _is_used(claim: Object, pods: Iterable[Object]) -> bool:
    """By a pod with a node, as long as that exists; for an ephemeral volume, until the kubelet is done with the pod."""
    for pod in pods:
        if not pod["spec"].get("nodeName"):
            continue
        for name, ephemeral in volumes.claims_of_pod(pod):
            if name != meta.name(claim):
                continue
            if not ephemeral or (not _is_shut_down(pod) and _owns(pod, claim)):
                return True
    return False


def _is_shut_down(pod: Object) -> bool:
    return meta.is_deleting(pod) and pod["metadata"].get("deletionGracePeriodSeconds") == 0


def _owns(pod: Object, claim: Object) -> bool:
    return any(one["uid"] == meta.uid(pod) for one in meta.owner_references(claim))
