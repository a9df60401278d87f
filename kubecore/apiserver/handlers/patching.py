"""What a patch may be and what it may not do, whatever it patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import errors
from kubecore.api.errors import FieldError
from kubecore.apiserver.registry import lifecycle

if TYPE_CHECKING:
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.registry.options import WriteOptions
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

APPLY = "application/apply-patch+yaml"
# Strategic merge patch needs Go structs, which custom kinds have not.
_CUSTOM_PATCH_TYPES = ("application/json-patch+json", "application/merge-patch+json", APPLY)
_PATCH_TYPES = (*_CUSTOM_PATCH_TYPES, "application/strategic-merge-patch+json")


def check_patch(patch_type: str, options: WriteOptions, *, custom: bool) -> None:
    """Raises 415 for a patch of another type, 422 for options that are not of this type."""
    supported = _CUSTOM_PATCH_TYPES if custom else _PATCH_TYPES
    if patch_type not in supported and not custom:
        # Upstream's router has refused it already, in its own words.
        raise errors.StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    if patch_type not in supported:
        raise errors.unsupported_media_type(supported)
    if patch_type == APPLY:
        if not options.field_manager:
            cause = FieldError.required("fieldManager", "is required for apply patch")
            raise errors.invalid("PatchOptions", "", [cause], group="meta.k8s.io")
        return
    if options.force is not None:
        cause = FieldError.forbidden("force", "may not be specified for non-apply patch")
        raise errors.invalid("PatchOptions", "", [cause], group="meta.k8s.io")


def check_patched(ctx: RequestContext, served: Served, metadata: JSON) -> None:
    """A patch may not move the object: its name and namespace are the URL's."""
    if not metadata.get("name"):
        raise errors.bad_request(lifecycle.no_name(ctx.name))
    if metadata["name"] != ctx.name:
        raise errors.bad_request(lifecycle.name_mismatch(metadata["name"], ctx.name))
    if served.resource.namespaced:
        space = metadata.setdefault("namespace", ctx.namespace)
        if space != ctx.namespace:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
