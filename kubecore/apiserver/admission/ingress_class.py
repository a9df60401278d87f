"""An Ingress that names no class gets the default one, if there is one.

After upstream plugin/pkg/admission/network/defaultingressclass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import meta
from kubecore.apiserver.admission.chain import CREATE, Plugin
from kubecore.apiserver.admission.held_objects import HeldObjects

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

_INGRESSES = "ingresses.networking.k8s.io"
_CLASSES = "ingressclasses.networking.k8s.io"
_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_DEFAULT_ANNOTATION = "ingressclass.kubernetes.io/is-default-class"


class DefaultIngressClass(Plugin):
    name = "DefaultIngressClass"

    def __init__(self, cacher: Cacher) -> None:
        self._classes = HeldObjects(cacher, _CLASSES)

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == _INGRESSES and operation == CREATE and not subresource

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        spec = obj.get("spec")
        if not isinstance(spec, dict) or spec.get("ingressClassName") is not None:
            return False
        if _CLASS_ANNOTATION in meta.annotations(obj):
            return False
        name = self._default()
        if name:
            spec["ingressClassName"] = name
        return False

    def _default(self) -> str:
        """Of several the newest, of those the first by name."""
        found = [one for one in self._classes.list() if meta.annotations(one).get(_DEFAULT_ANNOTATION) == "true"]
        found.sort(key=meta.name)
        newest = max((one["metadata"].get("creationTimestamp") or "" for one in found), default="")
        return next((meta.name(one) for one in found if one["metadata"].get("creationTimestamp") == newest), "")
