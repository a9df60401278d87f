"""Storage: claims that name no class get the default one.

After upstream plugin/pkg/admission/storage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import meta
from kubecore.api import persistent_volumes as volumes
from kubecore.apiserver.admission.chain import CREATE, Plugin
from kubecore.apiserver.registry.codec import loads

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

_CLAIMS = "persistentvolumeclaims"
_CLASSES = "storageclasses.storage.k8s.io"


class DefaultStorageClass(Plugin):
    name = "DefaultStorageClass"

    def __init__(self, cacher: Cacher) -> None:
        self._cacher = cacher

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == _CLAIMS and operation == CREATE and not subresource

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        if not isinstance(obj.get("spec"), dict) or volumes.names_class(obj):
            return False
        chosen = volumes.default_class([loads(item) for item in self._cacher.list(_CLASSES).items])
        if chosen is None:
            return False
        obj["spec"]["storageClassName"] = meta.name(chosen)
        return True
