"""Server-side apply: the schema engine merges and keeps the books, this says what the path may set.

After upstream k8s.io/apiserver pkg/endpoints/handlers/patch.go (applyPatcher).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kubecore.api import errors
from kubecore.api.schemas import PatchError, refuse_crowds
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.subresources import kept_by_status

if TYPE_CHECKING:
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]


def apply(ctx: RequestContext, served: Served, live: bytes | None, config: bytes, *, force: bool) -> JSON:
    """The object as applied (before defaults); its managedFields are left in `ctx`. Raises PatchError (400, 409, 500),
    422 for what upstream finds later, 413 for too many structures, and ConversionNeeded."""
    try:
        books = served.stored().books(ctx) if served.custom else served.schema
        applied = books.apply(
            live,
            config,
            manager=ctx.field_manager,
            time=ctx.now,
            subresource=ctx.subresource,
            force=force,
            reset=_reset(ctx, served),
            field_validation=ctx.field_validation,
        )
    except PatchError as error:
        if error.reason != "Invalid":
            raise
        cause = errors.Cause("FieldValueInvalid", error.message, error.detail)
        raise errors.invalid(served.resource.kind, ctx.name, [cause], group=served.resource.group) from error
    refuse_crowds(applied.body)
    for told in applied.warnings:
        ctx.warn(told)
    ctx.managed = applied.managed
    return loads(applied.body)  # type: ignore[no-any-return]


def check_no_uid(served: Served, obj: JSON, name: str) -> None:
    """Raises 409: a uid says that the object is thought to exist."""
    uid = (obj.get("metadata") or {}).get("uid")
    if uid:
        detail = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        raise errors.conflict(served.resource.group, served.resource.plural, name, detail)


# Where it is not the spec, and metadata that a write of the status leaves as it is, that a subresource cannot set.
_RESETS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("certificatesigningrequests.certificates.k8s.io", "status"): ("spec", "status.conditions"),
    ("certificatesigningrequests.certificates.k8s.io", "approval"): ("spec", "status.certificate"),
    ("namespaces", "finalize"): ("status",),
    # Upstream names these under a version or group that there is not, so nothing is kept from whom applies them.
    ("podcertificaterequests.certificates.k8s.io", "status"): (),
    ("servicecidrs.networking.k8s.io", "status"): (),
}


def _reset(ctx: RequestContext, served: Served) -> list[str]:
    """What this path cannot set (upstream: each strategy's GetResetFields)."""
    store = served.stored()
    known = _RESETS.get((store.resource.key, ctx.subresource))
    if known is not None:
        return list(known)
    match ctx.subresource:
        case "":
            return list(store.strategy.unowned) if store.has_status else []
        case "status":
            return ["spec", *(f"metadata.{name}" for name in kept_by_status(store.resource.key))]
        case _:
            return ["metadata", "status"]
