"""Storage: the default class, finalizers that protect what is in use, and who may ask for more.

After upstream plugin/pkg/admission/storage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import errors, meta
from kubecore.api import persistent_volumes as volumes
from kubecore.apiserver.admission.chain import CREATE, UPDATE, Plugin
from kubecore.apiserver.admission.held_objects import HeldObjects

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

_CLAIMS = "persistentvolumeclaims"
_CLASSES = "storageclasses.storage.k8s.io"
_FINALIZERS = {
    _CLAIMS: "kubernetes.io/pvc-protection",
    "persistentvolumes": "kubernetes.io/pv-protection",
    "volumeattributesclasses.storage.k8s.io": "kubernetes.io/vac-protection",
}
_ONLY_BOUND = "Only bound persistent volume claims can be expanded"
_NOT_ALLOWED = (
    "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
)


class DefaultStorageClass(Plugin):
    name = "DefaultStorageClass"

    def __init__(self, cacher: Cacher) -> None:
        self._classes = HeldObjects(cacher, _CLASSES)

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == _CLAIMS and operation == CREATE and not subresource

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        if not isinstance(obj.get("spec"), dict) or volumes.names_class(obj):
            return False
        chosen = volumes.default_class(self._classes.list())
        if chosen is not None:
            obj["spec"]["storageClassName"] = meta.name(chosen)
        return False


class StorageObjectInUseProtection(Plugin):
    name = "StorageObjectInUseProtection"

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key in _FINALIZERS and operation == CREATE and not subresource

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        finalizer = _FINALIZERS[ctx.resource_key]
        if finalizer not in meta.finalizers(obj):
            obj["metadata"]["finalizers"] = [*meta.finalizers(obj), finalizer]
        return False


class ClaimResize(Plugin):
    name = "PersistentVolumeClaimResize"

    def __init__(self, cacher: Cacher) -> None:
        self._classes = HeldObjects(cacher, _CLASSES)

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == _CLAIMS and operation == UPDATE and not subresource

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        if obj is None or old is None or volumes.requested(obj) <= volumes.requested(old):
            return
        if (old.get("status") or {}).get("phase") != "Bound":
            raise errors.forbidden("", _CLAIMS, ctx.name, _ONLY_BOUND)
        if not self._allows(volumes.class_of(obj), volumes.class_of(old)):
            raise errors.forbidden("", _CLAIMS, ctx.name, _NOT_ALLOWED)

    def _allows(self, name: str, before: str) -> bool:
        found = self._classes.get("", name) if name and name == before else None
        return found is not None and bool(found.get("allowVolumeExpansion"))
