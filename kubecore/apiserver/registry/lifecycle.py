"""The rules of metadata through an object's life: what the server sets and what no client may change.

After upstream k8s.io/apiserver pkg/registry/rest/{meta,create,update,delete}.go.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kubecore import _native
from kubecore.api import errors, meta
from kubecore.api.errors import FieldError
from kubecore.api.quoting import quoted
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.upstream_keys import upstream_key

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.registry.store import Store
    from kubecore.apiserver.registry.strategy import RequestContext
    from kubecore.apiserver.storage.interface import Stored

JSON = dict[str, Any]

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
# What stands for no revision where an object names the one that it replaces.
NO_REVISION = ("", "0")

new_uid = _native.new_uid


def place(ctx: RequestContext, resource: Resource, metadata: JSON) -> None:
    """Puts the object into the namespace of the request. Raises 400 when it names another one."""
    given = metadata.get("namespace") or ""
    if not resource.namespaced:
        metadata.pop("namespace", None)
    elif not given:
        metadata["namespace"] = ctx.namespace
    elif given != ctx.namespace:
        raise errors.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def begin(ctx: RequestContext, resource: Resource, metadata: JSON) -> tuple[str, str]:
    """System fields of a new object; gives it a name when it has only a generateName, which is returned then, and with
    it the resourceVersion that a create should not have. Raises 400 and 500."""
    version = metadata.pop("resourceVersion", None) or ""
    if ctx.verb != "create":
        # Of an apply to what is not there: a revision, whichever.
        revision(version)
        version = ""
    place(ctx, resource, metadata)
    metadata["uid"] = new_uid()
    metadata["creationTimestamp"] = ctx.now
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"):
        if name in metadata:
            del metadata[name]
    given = metadata.get("name") or ""
    if given:
        if ctx.name and ctx.name != given:
            raise errors.bad_request(name_mismatch(given, ctx.name))
        return "", version
    base = metadata.get("generateName") or ""
    if base:
        metadata["name"] = meta.generate_name(base)
    return base, version


def revision(given: str) -> int:
    """The revision that a client's resourceVersion names. Raises 500, as upstream's versioner does."""
    if not given:
        return 0
    if not (given.isascii() and given.isdigit()):
        raise errors.StatusError(500, "", f"strconv.ParseUint: parsing {quoted(given)}: invalid syntax")
    if int(given) >= 1 << 64:
        raise errors.StatusError(500, "", f"strconv.ParseUint: parsing {quoted(given)}: value out of range")
    return int(given)


def check_version(ctx: RequestContext, store: Store, given: str, current: int) -> None:
    """Once all that mutates has seen the update, as upstream: what may not be at all is refused before. Raises 409 for
    another revision than the current one, 422 for none where it must be named, 500 for what is none."""
    if given in NO_REVISION:
        if not store.strategy.allow_unconditional_update and ctx.verb == "update":
            cause = FieldError.invalid("metadata.resourceVersion", 0, "must be specified for an update")
            raise errors.invalid(store.told.plural, ctx.name, [cause], group=store.told.group)
    elif given != str(current) and revision(given) != current:
        raise store.conflict(ctx.name)


def check_new_version(ctx: RequestContext, given: str) -> None:
    """Raises 500, as upstream's storage does, which dry runs do not come to, for a new object that says which revision
    it is of."""
    try:
        named = 0 if ctx.dry_run else revision(given)
    except errors.StatusError:
        return
    if named:
        raise errors.StatusError(500, "", "resourceVersion should not be set on objects to be created")


def already_there(resource: Resource, name: str, stored: Stored | None) -> errors.StatusError:
    """The 409 for a new object of a name that is taken; of what is about to go it says so."""
    error = errors.already_exists(resource.group, resource.plural, name)
    if stored is not None and meta.is_deleting(loads(stored.value)):
        error.message = f"object is being deleted: {error.message}"
    return error


def name_mismatch(given: str, wanted: str) -> str:
    return f"the name of the object ({given}) does not match the name on the URL ({wanted})"


def no_name(wanted: str) -> str:
    return f"the name of the object ({wanted} based on URL) was undeterminable: name must be provided"


def check_same(ctx: RequestContext, resource: Resource, obj: JSON) -> None:
    """A PUT's object must be the one its URL names."""
    metadata = obj.setdefault("metadata", {})
    place(ctx, resource, metadata)
    name = metadata.get("name")
    if not name:
        raise errors.bad_request(no_name(ctx.name))
    if name != ctx.name:
        raise errors.bad_request(name_mismatch(name, ctx.name))


def check_uid(ctx: RequestContext, resource: Resource, metadata: JSON, found: str | None) -> None:
    """Raises 409 for what is meant for an object that is gone."""
    if (given := metadata.get("uid")) and given != found:
        raise missed(ctx, resource, "UID", given=given, found=found)


def carry_over(ctx: RequestContext, resource: Resource, metadata: JSON, old: JSON) -> None:
    """System fields of an update: the old object's, whatever the client sent. What is told together with all else that
    is wrong with it stays as sent, for `validate_metadata_update`: the foreign uid of a patch, and when and how
    gracefully an object is to go. Raises 409 for the foreign uid of an update."""
    if ctx.verb != "patch":
        check_uid(ctx, resource, metadata, old.get("uid"))
    told = {
        "uid": metadata.get("uid"),
        "deletionTimestamp": None if old.get("deletionTimestamp") else metadata.get("deletionTimestamp"),
        "deletionGracePeriodSeconds": metadata.get("deletionGracePeriodSeconds"),
    }
    for name in (
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "selfLink",
    ):
        kept = old.get(name)
        if told.get(name):
            continue
        if kept is not None:
            metadata[name] = kept
        elif name in metadata:
            del metadata[name]


def missed(ctx: RequestContext, resource: Resource, what: str, *, given: str, found: str | None) -> errors.StatusError:
    """The 409 for an update that is meant for an object with another `what`, in the words of upstream's storage, or of
    what stands before it in a dry run and does not know where that has its keys."""
    key = f"{'' if ctx.dry_run else '/registry'}{upstream_key(resource, ctx.namespace, ctx.name)}"
    why = f"Precondition failed: {what} in precondition: {given}, {what} in object meta: {found or ''}"
    detail = f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {why}"
    return errors.conflict(resource.group, resource.plural, ctx.name, detail)


def spec_changed(obj: JSON, old: JSON, *, empty_is_null: bool = False) -> bool:
    """Something outside metadata and status differs, `empty_is_null`: more than whether empty lists are null."""
    for name, value in obj.items():
        # A write of the status has the very parts of the old object.
        if name in _BESIDE_SPEC or value is (was := old.get(name)) or value == was:
            continue
        if not (empty_is_null and same(value, was)):
            return True
    return any(name not in obj and name not in _BESIDE_SPEC and value is not None for name, value in old.items())


_BESIDE_SPEC = frozenset({"metadata", "status", "apiVersion", "kind"})


_DUPLICATES = (
    ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may "
    "reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {uids}"
)


def without_duplicate_owners(metadata: JSON, *, admitted: bool) -> str:
    """Leaves each owner once; says what there was more than once, empty for nothing. `admitted`: after admission."""
    owners = metadata.get("ownerReferences") or []
    if len(owners) < 2:
        return ""
    once: dict[frozenset[tuple[str, Any]], JSON] = {}
    duplicates: list[str] = []
    for owner in owners:
        if (key := frozenset(owner.items())) in once:
            duplicates.append(owner.get("uid", ""))
        else:
            once[key] = owner
    if not duplicates:
        return ""
    metadata["ownerReferences"] = list(once.values())
    return _DUPLICATES.format(when=" after mutating admission happens" if admitted else "", uids=", ".join(duplicates))


def mark_deleted(metadata: JSON, grace: int, *, now: str) -> None:
    """The object is being deleted and will be gone in `grace` seconds at the earliest."""
    metadata["deletionTimestamp"] = meta.format_time(meta.parse_time(now) + timedelta(seconds=grace)) if grace else now
    metadata["deletionGracePeriodSeconds"] = grace


def shorten_deletion(ctx: RequestContext, metadata: JSON, grace: int) -> None:
    """A repeated delete: the same deletion, sooner, but not in the past; a grace that is over already is one second."""
    before = metadata.get("deletionGracePeriodSeconds") or 0
    started = meta.parse_time(metadata["deletionTimestamp"]) - timedelta(seconds=before)
    end, now = started + timedelta(seconds=grace), meta.parse_time(ctx.now)
    metadata["deletionTimestamp"] = meta.format_time(max(end, now))
    metadata["deletionGracePeriodSeconds"] = min(grace, 1) if end < now else grace


def may_go(metadata: JSON) -> bool:
    """The deletion's grace is over (finalizers are another matter)."""
    return bool(metadata.get("deletionTimestamp")) and not metadata.get("deletionGracePeriodSeconds")
