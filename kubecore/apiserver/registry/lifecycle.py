"""The rules of metadata through an object's life: what the server sets and what no client may change.

After upstream k8s.io/apiserver pkg/registry/rest/{meta,create,update,delete}.go.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kubecore import _native
from kubecore.api import errors, meta
from kubecore.api.errors import FieldError

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"

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


def begin(ctx: RequestContext, resource: Resource, metadata: JSON) -> str:
    """System fields of a new object; gives it a name when it has only a generateName, which is returned then."""
    if metadata.get("resourceVersion"):
        raise errors.bad_request("resourceVersion should not be set on objects to be created")
    metadata.pop("resourceVersion", None)
    place(ctx, resource, metadata)
    metadata["uid"] = new_uid()
    metadata["creationTimestamp"] = ctx.now
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation", "managedFields"):
        if name in metadata:
            del metadata[name]
    given = metadata.get("name") or ""
    if given:
        if ctx.name and ctx.name != given:
            raise errors.bad_request(name_mismatch(given, ctx.name))
        return ""
    base = metadata.get("generateName") or ""
    if base:
        metadata["name"] = meta.generate_name(base)
    return base


def name_mismatch(given: str, wanted: str) -> str:
    return f"the name of the object ({given}) does not match the name on the URL ({wanted})"


def no_name(wanted: str) -> str:
    return f"the name of the object ({wanted} based on URL) was undeterminable: name must be provided"


def check_same(ctx: RequestContext, resource: Resource, obj: JSON) -> None:
    """A PUT's object must be the one its URL names."""
    metadata = obj.setdefault("metadata", {})
    name = metadata.get("name")
    if not name:
        raise errors.bad_request(no_name(ctx.name))
    if name != ctx.name:
        raise errors.bad_request(name_mismatch(name, ctx.name))
    place(ctx, resource, metadata)


def _immutable(resource: Resource, name: str, **given: object) -> errors.StatusError:
    """`given` are fields of the metadata."""
    causes = [FieldError.invalid(f"metadata.{field}", value, "field is immutable") for field, value in given.items()]
    return errors.invalid(resource.kind, name, causes, group=resource.group)


def carry_over(metadata: JSON, old: JSON, resource: Resource, *, patch: bool = False) -> None:
    """System fields of an update: the old object's, whatever the client sent. Raises 409 for a foreign uid, which a
    patch cannot change either (422), and 422 for a deletionTimestamp of the client's own."""
    uid, name = metadata.get("uid"), old.get("name", "")
    if uid and uid != old.get("uid"):
        if patch:
            raise _immutable(resource, name, uid=uid)
        detail = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old.get('uid')}"
        raise errors.conflict(resource.group, resource.plural, name, detail)
    deleted = metadata.get("deletionTimestamp")
    if deleted and deleted != old.get("deletionTimestamp"):
        grace, before = metadata.get("deletionGracePeriodSeconds"), old.get("deletionGracePeriodSeconds")
        further = {"deletionGracePeriodSeconds": grace} if grace is not None and grace != before else {}
        raise _immutable(resource, name, deletionTimestamp=deleted, **further)
    for name in (
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "selfLink",
    ):
        kept = old.get(name)
        if kept is not None:
            metadata[name] = kept
        elif name in metadata and name != "generateName":
            del metadata[name]


def spec_changed(obj: JSON, old: JSON) -> bool:
    """Something outside metadata and status differs."""
    for name, value in obj.items():
        # A write of the status has the very parts of the old object.
        if name not in _BESIDE_SPEC and value is not (was := old.get(name)) and value != was:
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


def mark_deleted(ctx: RequestContext, metadata: JSON, grace: int) -> None:
    """The object is being deleted and will be gone in `grace` seconds at the earliest."""
    metadata["deletionTimestamp"] = meta.format_time(meta.parse_time(ctx.now) + timedelta(seconds=grace))
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
