"""What a patch may be and what it may not do, whatever it patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import errors
from kubecore.apiserver.registry import lifecycle
from kubecore.apiserver.registry.options import write_options

if TYPE_CHECKING:
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.registry.options import WriteOptions
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

APPLY = "application/apply-patch+yaml"
# Strategic merge patch needs Go structs, which custom kinds have not.
_CUSTOM_PATCH_TYPES = ("application/json-patch+json", "application/merge-patch+json", APPLY)
_PATCH_TYPES = (*_CUSTOM_PATCH_TYPES, "application/strategic-merge-patch+json")


def type_of_patch(content_type: str, *, custom: bool) -> str:
    """Raises 415 for a patch of another type than these kinds take."""
    patch_type = content_type.partition(";")[0].strip().lower()
    supported = _CUSTOM_PATCH_TYPES if custom else _PATCH_TYPES
    if patch_type not in supported and not custom:
        # Upstream's router has refused it already, in its own words.
        raise errors.StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    if patch_type not in supported:
        raise errors.unsupported_media_type(supported)
    return patch_type


def patch_options(patch_type: str, query: str) -> WriteOptions:
    """Raises 400 and 422 for options that are wrong or not of this type."""
    return write_options("patch", query, applies=patch_type == APPLY)


def check_patched(ctx: RequestContext, served: Served, metadata: JSON) -> None:
    """A patch may not move the object: its name and namespace are the URL's."""
    if not served.resource.namespaced:
        metadata.pop("namespace", None)
    else:
        space = metadata.setdefault("namespace", ctx.namespace)
        if space != ctx.namespace:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
    if not metadata.get("name"):
        raise errors.bad_request(lifecycle.no_name(ctx.name))
    if metadata["name"] != ctx.name:
        raise errors.bad_request(lifecycle.name_mismatch(metadata["name"], ctx.name))
