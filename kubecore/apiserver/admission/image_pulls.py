"""AlwaysPullImages: each new container's image is pulled, so that a node's store gives it to nobody who may not.

After upstream plugin/pkg/admission/alwayspullimages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kubecore.api import errors
from kubecore.api.errors import FieldError, aggregated
from kubecore.apiserver.admission.chain import CREATE, UPDATE, Plugin

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

_ALWAYS = "Always"


class AlwaysPullImages(Plugin):
    name = "AlwaysPullImages"

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key == "pods" and operation in (CREATE, UPDATE) and not subresource

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        spec = obj.get("spec")
        if isinstance(spec, dict) and _has_new_images(obj, old):
            for _, container in _containers(spec):
                container["imagePullPolicy"] = _ALWAYS
            for _, image in _image_volumes(spec):
                image["pullPolicy"] = _ALWAYS
        return False

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        assert obj is not None
        if not _has_new_images(obj, old):
            return
        spec = obj.get("spec") or {}
        wrong = [(f"{path}.imagePullPolicy", one.get("imagePullPolicy")) for path, one in _containers(spec)]
        wrong += [(f"{path}.pullPolicy", one.get("pullPolicy")) for path, one in _image_volumes(spec)]
        told = [
            errors.forbidden("", "pods", ctx.name, str(FieldError.not_supported(path, policy or "", [_ALWAYS]))).message
            for path, policy in wrong
            if policy != _ALWAYS
        ]
        if told:
            raise errors.StatusError(500, "", aggregated(told))


def _containers(spec: JSON) -> Iterator[tuple[str, JSON]]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, one in enumerate(spec.get(field) or ()):
            yield f"spec.{field}[{index}]", one


def _image_volumes(spec: JSON) -> Iterator[tuple[str, JSON]]:
    for index, one in enumerate(spec.get("volumes") or ()):
        if one.get("image") is not None:
            yield f"spec.volumes[{index}].image", one["image"]


def _has_new_images(obj: JSON, old: JSON | None) -> bool:
    if old is None:
        return True
    before = {one.get("image") for _, one in _containers(old.get("spec") or {})}
    return any(one.get("image") not in before for _, one in _containers(obj.get("spec") or {}))
