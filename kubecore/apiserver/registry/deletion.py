"""DELETE and DELETECOLLECTION: preconditions, grace, finalizers, propagation.

After upstream k8s.io/apiserver pkg/registry/rest/delete.go (BeforeDelete) and generic/registry/store.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api import errors
from kubecore.api.errors import Cause, FieldError
from kubecore.api.queries import int64, parse_query
from kubecore.apiserver.admission.dynamic.stored import admit_deletion
from kubecore.apiserver.registry import lifecycle
from kubecore.apiserver.registry.codec import json_body, loads
from kubecore.apiserver.registry.options import DeleteOptions
from kubecore.apiserver.registry.writes import storage_status
from kubecore.apiserver.storage.interface import KeyMissing, RevisionConflict, StorageError, Stored

if TYPE_CHECKING:
    from kubecore.apiserver.registry.store import Store
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

_PARALLEL = 64
_POLICIES = ("Foreground", "Background", "Orphan", "nil")


def delete_options(body: bytes, params: Mapping[str, str]) -> DeleteOptions:
    """From the body if there is one, else from the query. Raises 400, 422."""
    given: JSON = _from_body(body) if body else _from_query(params)
    causes = _option_causes(given)
    if causes:
        raise errors.invalid("DeleteOptions", "", causes, group="meta.k8s.io")
    preconditions = given.get("preconditions") or {}
    return DeleteOptions(
        grace=given.get("gracePeriodSeconds"),
        propagation=given.get("propagationPolicy") or "",
        orphan=given.get("orphanDependents"),
        uid=preconditions.get("uid"),
        resource_version=preconditions.get("resourceVersion"),
        dry_run=bool(given.get("dryRun")),
    )


def _from_body(body: bytes) -> JSON:
    given = json_body(body)
    for name in ("apiVersion", "kind"):
        _check_type(given.get(name), str, f".{name}", "string", before="couldn't get version/kind; json parse error: ")
    if (given.get("apiVersion") or "").count("/") > 1:
        raise errors.bad_request(f"unexpected GroupVersion string: {given['apiVersion']}")
    kind, version = given.get("kind") or "DeleteOptions", given.get("apiVersion") or "meta.k8s.io/v1"
    if kind != "DeleteOptions":
        if registered := _registered(kind, version):
            raise errors.bad_request(f"converting ({registered}.{kind}) to (v1.DeleteOptions): unknown conversion")
        detail = f'no kind "{kind}" is registered for version "{version}" in scheme "pkg/runtime/scheme.go:111"'
        raise errors.bad_request(detail)
    for name, wanted, go_type in _TYPES:
        _check_type(given.get(name), wanted, f"DeleteOptions.{name}", go_type)
    for name, go_type in (("uid", "types.UID"), ("resourceVersion", "string")):
        _check_type((given.get("preconditions") or {}).get(name), str, f"Preconditions.preconditions.{name}", go_type)
    return given


def _registered(kind: str, version: str) -> str:
    """Which version a kind is of where upstream reads options, empty where it knows none such."""
    if kind in _UNVERSIONED or (version == "v1" and kind in ("CreateOptions", "UpdateOptions")):
        return "v1"
    if version == "meta.k8s.io/v1beta1" and kind == "PartialObjectMetadataList":
        return "v1beta1"
    if version == "meta.k8s.io/v1" and kind in _OPTIONS:
        return "v1"
    return "v1" if kind in _FORMS and version in ("meta.k8s.io/v1", "meta.k8s.io/v1beta1") else ""


# Kinds that are the same in all versions.
_UNVERSIONED = frozenset({"Status", "APIVersions", "APIGroup", "APIGroupList", "APIResourceList"})
_OPTIONS = frozenset({"ListOptions", "GetOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "WatchEvent"})
_FORMS = frozenset({"Table", "TableOptions", "PartialObjectMetadata", "PartialObjectMetadataList"})

# What Go calls the types of a body's members.
_TYPES = (
    ("gracePeriodSeconds", int, "int64"),
    ("orphanDependents", bool, "bool"),
    ("propagationPolicy", str, "v1.DeletionPropagation"),
    ("dryRun", list, "[]string"),
    ("preconditions", dict, "v1.Preconditions"),
)


def _check_type(value: object, wanted: type, field: str, go_type: str, *, before: str = "") -> None:
    """Raises 400 in the words of Go's JSON decoder."""
    if value is None or type(value) is wanted:
        return
    kind = "number" if wanted is str or isinstance(value, int) else f"number {value}"
    sent = {str: "string", bool: "bool", int: kind, float: kind, list: "array"}.get(type(value), "object")
    raise errors.bad_request(f"{before}json: cannot unmarshal {sent} into Go struct field {field} of type {go_type}")


def _from_query(params: Mapping[str, str]) -> JSON:
    given: JSON = {}
    if "gracePeriodSeconds" in params:
        given["gracePeriodSeconds"] = int64(params["gracePeriodSeconds"])
    if "propagationPolicy" in params:
        given["propagationPolicy"] = params["propagationPolicy"]
    if "orphanDependents" in params:
        given["orphanDependents"] = params["orphanDependents"].lower() not in ("false", "0")
    if params.get("dryRun"):
        given["dryRun"] = [params["dryRun"]]
    # Upstream reads these, too; where a collection is deleted, resourceVersion is that of the list as well.
    given["preconditions"] = {name: params.get(name) or None for name in ("uid", "resourceVersion")}
    return given


def _option_causes(given: JSON) -> list[Cause]:
    causes: list[Cause] = []
    policy, orphan = given.get("propagationPolicy"), given.get("orphanDependents")
    if policy is not None and orphan is not None:
        detail = "orphanDependents and deletionPropagation cannot be both set"
        causes.append(FieldError.invalid("propagationPolicy", policy, detail))
    if policy is not None and policy not in _POLICIES[:-1]:
        causes.append(FieldError.not_supported("propagationPolicy", policy, _POLICIES))
    dry_run = given.get("dryRun")
    if dry_run and any(one != "All" for one in dry_run):
        causes.append(FieldError.not_supported("dryRun", dry_run, ["All"]))
    return causes


@dataclass(frozen=True, slots=True)
class Deleted:
    """`body` is the object's last or changed state; `gone` says which."""

    body: bytes
    gone: bool
    uid: str


async def delete(store: Store, ctx: RequestContext, options: DeleteOptions) -> Deleted:
    """Deletes one object, or marks it so. Raises 404, 409."""
    ctx.operation = "DELETE"
    ctx.dry_run = ctx.dry_run or options.dry_run
    ctx.options = options
    admitted = False
    while True:
        stored = await store.read(ctx.namespace, ctx.name)
        obj = loads(stored.value)
        check_preconditions(store, ctx, options, obj)
        if _is_pending(store, options, obj):
            return Deleted(stored.value, False, obj["metadata"].get("uid") or "")
        if not admitted:
            admission = store.registry.admission
            admission.mutate(ctx, {}, obj)
            admission.validate(ctx, None, obj)
            if (dynamic := admission.asked) is not None:
                await admit_deletion(dynamic, store, ctx, stored)
            if (deciding := admission.decide(ctx, None, obj)) is not None:
                await deciding
            admitted = True
        try:
            return await _delete(store, ctx, options, obj, stored)
        except RevisionConflict:
            ctx.seconds_left()
        except KeyMissing:
            raise store.not_found(ctx.name) from None
        except StorageError as error:
            raise storage_status(error) from error


def _is_pending(store: Store, options: DeleteOptions, obj: JSON) -> bool:
    """Of a kind that goes with grace: it goes already, and no sooner if it is asked again. Upstream asks no plugin
    then, and changes no finalizers."""
    left = obj["metadata"].get("deletionGracePeriodSeconds")
    if left is None or store.strategy.delete_grace(obj, options.grace) is None:
        return False
    return options.grace is None or _seconds(options.grace) >= left


def check_preconditions(store: Store, ctx: RequestContext, options: DeleteOptions, obj: JSON) -> None:
    """Raises 409; upstream names the kind that is stored here, and not the resource (BeforeDelete)."""
    metadata, resource = obj["metadata"], store.resource
    uid, version = metadata.get("uid") or "", str(metadata["resourceVersion"])
    if store.strategy.deletes_in_own_way:
        for what, wanted, found in (
            ("UID", options.uid, uid),
            ("ResourceVersion", options.resource_version, version),
        ):
            if wanted is not None and wanted != found:
                detail = f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
                raise store.conflict(ctx.name, detail)
        return
    if options.uid is not None and options.uid != uid:
        raise errors.conflict(
            resource.group,
            resource.kind,
            ctx.name,
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({uid}). "
            "The object might have been deleted and then recreated",
        )
    if options.resource_version is not None and options.resource_version != version:
        raise errors.conflict(
            resource.group,
            resource.kind,
            ctx.name,
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the ResourceVersion "
            f"in record ({version}). The object might have been modified",
        )


async def _delete(store: Store, ctx: RequestContext, options: DeleteOptions, obj: JSON, stored: Stored) -> Deleted:
    strategy, metadata = store.strategy, obj["metadata"]
    uid = metadata.get("uid") or ""
    if metadata.get("deletionTimestamp") and strategy.keeps_deletion(obj):
        return Deleted(stored.value, False, uid)
    metadata.pop("resourceVersion", None)
    changed = _set_propagation(store, ctx, options, obj)
    grace = strategy.delete_grace(obj, options.grace)
    if metadata.get("deletionTimestamp"):
        before = metadata.get("deletionGracePeriodSeconds") or 0
        # Asked again: only a shorter grace that the client names changes anything.
        if grace is not None and options.grace is not None and _seconds(options.grace) < before:
            lifecycle.shorten_deletion(ctx, metadata, _seconds(options.grace))
            changed = True
    elif grace is not None or strategy.holds_deletion(obj):
        lifecycle.mark_deleted(metadata, grace or 0, now=ctx.now)
        if metadata.get("generation") and strategy.deletion_counts:
            metadata["generation"] += 1
        strategy.mark_deleting(ctx, obj)
        changed = True
    if not strategy.holds_deletion(obj) and (not metadata.get("deletionTimestamp") or lifecycle.may_go(metadata)):
        body = await store.remove(ctx, obj, store.codec.encode(obj, stored.value), stored)
        return Deleted(body, True, uid)
    if not changed:
        return Deleted(stored.value, False, uid)
    return Deleted(await store.store_update(ctx, obj, stored), False, uid)


def _seconds(grace: int) -> int:
    """Less than nothing is asked for when somebody means at once, but not without the kubelet."""
    return 1 if grace < 0 else grace


def _set_propagation(store: Store, ctx: RequestContext, options: DeleteOptions, obj: JSON) -> bool:
    """Puts the garbage collector's finalizers on or off as asked; True when that changed the object."""
    if not store.strategy.has_dependents:
        return False
    metadata = obj["metadata"]
    before = metadata.get("finalizers") or []
    policy = options.propagation
    if options.orphan is not None:
        policy = "Orphan" if options.orphan else "Foreground" if store.strategy.deletes_in_own_way else "Background"
    if not policy:
        if lifecycle.ORPHAN in before or lifecycle.FOREGROUND in before:
            return False
        policy = store.strategy.default_propagation(ctx, obj)
    after = [one for one in before if one not in (lifecycle.ORPHAN, lifecycle.FOREGROUND)]
    if policy == "Orphan":
        after.append(lifecycle.ORPHAN)
    elif policy == "Foreground":
        after.append(lifecycle.FOREGROUND)
    if after == before:
        return False
    if after:
        metadata["finalizers"] = after
    else:
        metadata.pop("finalizers", None)
    return True


def deletion_status(store: Store, name: str, uid: str) -> bytes:
    """The Status that answers the deletion of an object that is gone."""
    details: JSON = {"name": name}
    if store.told.group:
        details["group"] = store.told.group
    details["kind"] = store.told.plural
    if uid:
        details["uid"] = uid
    return orjson.dumps({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})


async def delete_all(store: Store, ctx: RequestContext, options: DeleteOptions, items: Sequence[bytes]) -> None:
    """Deletes what a list has found. Raises what keeps an object from being deleted."""
    for begin in range(0, len(items), _PARALLEL):
        await asyncio.gather(*(_delete_item(store, ctx, options, item) for item in items[begin : begin + _PARALLEL]))


def of_its_time(query: str) -> str:
    """The query of a list that finds what is to be deleted: a collection is deleted page by page, and pages of a list
    at a revision are of just that one."""
    params = parse_query(query)
    if params.get("resourceVersion", "0") in ("", "0") or params.get("resourceVersionMatch") or params.get("continue"):
        return query
    return f"{query}&resourceVersionMatch=Exact"


async def _delete_item(store: Store, ctx: RequestContext, options: DeleteOptions, item: bytes) -> None:
    metadata = loads(item)["metadata"]
    own = replace(ctx, namespace=metadata.get("namespace") or "", name=metadata["name"], warnings=ctx.warnings)
    try:
        await delete(store, own, options)
    except errors.StatusError as error:
        # Somebody else was faster.
        if not errors.is_not_found(error):
            raise
