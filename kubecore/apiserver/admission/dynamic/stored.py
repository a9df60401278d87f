"""Requests for stored objects, as webhooks and policies see them; called by the registry's stores.

After upstream k8s.io/apiserver pkg/endpoints/handlers/{create,update,patch}.go for what is looked at when, and
fieldmanager/admission.go for who may say what of managedFields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api import meta
from kubecore.apiserver.admission.dynamic.admission import EXEMPT
from kubecore.apiserver.admission.dynamic.subjects import Form, Labels, Subject
from kubecore.apiserver.registry import lifecycle
from kubecore.apiserver.registry.codec import dumps, loads

if TYPE_CHECKING:
    from kubecore.api.schemas import KindSchema
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.admission.dynamic.admission import DynamicAdmission
    from kubecore.apiserver.registry.store import Store
    from kubecore.apiserver.registry.strategy import RequestContext, Strategy
    from kubecore.apiserver.storage.interface import Stored

JSON = dict[str, Any]

_NOT_YET = ("uid", "creationTimestamp")
_BAD_OWNERS = (
    ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating "
    "admission controller; please fix your requests: {}"
)


class StoredSubject(Subject):
    """`obj` is changed in place; `managed` are the managedFields that it is to have, as JSON."""

    def __init__(
        self,
        store: Store,
        ctx: RequestContext,
        obj: JSON | None,
        old: bytes | None,
        *,
        managed: bytes | None = None,
        unnamed: bool = False,
        unmade: bool = False,
        version: str = "",
        settle: Callable[[JSON], None] | None = None,
    ) -> None:
        """`old` is what is stored, in the store's version. `unnamed`: the object's name was made up. `unmade`: what the
        server sets is not there yet. `version` is the resourceVersion it shows. `settle` defaults a changed object and
        takes back what may not change."""
        assert store.registry.admission.dynamic is not None
        self._versions = store.registry.admission.dynamic.versions
        resource = self._versions.find(store.resource, ctx.api_version)
        collection = ctx.verb == "deletecollection"
        super().__init__(ctx, resource, subresource=ctx.subresource, name="" if unnamed or collection else ctx.name)
        self.managed = managed
        self._store = store
        self._obj = obj
        self._old = old
        self._hidden = (*_NOT_YET, "name") if unnamed else _NOT_YET if unmade else ()
        self._version = version
        self._settle = settle
        self._old_labels: Labels | None = None
        self._forms: dict[str, Form] = {}

    @property
    def labels(self) -> tuple[Labels | None, Labels | None]:
        if self._old is not None and self._old_labels is None:
            self._old_labels = meta.labels(loads(self._old))
        return None if self._obj is None else meta.labels(self._obj), self._old_labels

    @property
    def known_as(self) -> str:
        metadata = {} if self._obj is None else self._obj["metadata"]
        made_up = "" if "name" in self._hidden else metadata.get("name")
        return self.name or made_up or metadata.get("generateName") or "Unknown"

    def schema(self, target: Resource) -> KindSchema:
        return self._versions.schema(target)

    async def form(self, target: Resource) -> Form:
        found = self._forms.get(target.api_version)
        if found is None:
            if target.api_version == self._store.resource.api_version:
                # Nearly always, and without a coroutine for each.
                found = Form(self._shown(), self._old)
            else:
                found = Form(await self._in(target, self._shown()), await self._in(target, self._old))
            self._forms[target.api_version] = found
        return found

    async def _in(self, target: Resource, body: bytes | None) -> bytes | None:
        return None if body is None else await self._versions.convert(body, self._store, target)

    def _shown(self) -> bytes | None:
        if self._obj is None:
            return None
        resource = self._store.resource
        metadata = {name: value for name, value in self._obj["metadata"].items() if name not in self._hidden}
        metadata.pop("managedFields", None)
        if self._version:
            metadata["resourceVersion"] = self._version
        if self.managed and self.managed != b"[]":
            metadata["managedFields"] = orjson.Fragment(self.managed)
        head = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}
        return dumps({**head, **{name: value for name, value in self._obj.items() if name not in head}})

    async def put(self, target: Resource, body: bytes) -> bool:
        obj = self._obj
        assert obj is not None and self._settle is not None, "only what is to be stored is changed"
        new = await self._versions.back(body, self._store, target)
        self._forms.clear()
        metadata, before = new.setdefault("metadata", {}), obj["metadata"]
        for name in (*self._hidden, "resourceVersion"):
            if name in before and (name != "name" or not metadata.get("name")):
                metadata[name] = before[name]
            elif name == "resourceVersion":
                metadata.pop(name, None)
        owned = self._owned(metadata.pop("managedFields", None) or [])
        if "managedFields" in before:
            metadata["managedFields"] = before["managedFields"]
        self._settle(new)
        changed = new != obj or owned
        obj.clear()
        obj.update(new)
        return changed

    def _owned(self, entries: Any) -> bool:
        """Takes over managedFields that somebody changed, if they can be any."""
        if entries == loads(self.managed or b"[]"):
            return False
        if wrong := _fault(entries):
            self.ctx.warn(_BAD_OWNERS.format(wrong))
            return False
        self.managed = dumps(entries)
        return True


def _fault(entries: Any) -> str:
    """After k8s.io/apimachinery pkg/util/managedfields/internal/managedfields.go (DecodeManagedFields)."""
    for number, entry in enumerate(entries):
        kind = entry.get("fieldsType") or ""
        if entry.get("operation") not in ("Apply", "Update"):
            return "operation must be `Apply` or `Update`"
        if not entry.get("apiVersion"):
            return "apiVersion must not be empty"
        if not kind:
            return f"missing fieldsType in managed fields entry {number}"
        if kind != "FieldsV1":
            return f'invalid fieldsType "{kind}" in managed fields entry {number}'
        if not isinstance(entry.get("fieldsV1"), dict):
            return f"error decoding versioned set from {entry.get('manager') or ''}: no fields"
    return ""


def _exempt(ctx: RequestContext) -> bool:
    return ctx.exempt or ctx.resource_key in EXEMPT


# --- what stores call


async def mutate_new(
    dynamic: DynamicAdmission,
    store: Store,
    ctx: RequestContext,
    obj: JSON,
    managed: bytes | None,
    *,
    unnamed: bool,
) -> bytes | None:
    """Has a new object changed; its managedFields then."""
    if _exempt(ctx) or not dynamic.mutates:
        store.registry.admission.metrics.admitted(ctx)
        return managed
    strategy = store.strategy

    def settle(new: JSON) -> None:
        lifecycle.place(ctx, store.resource, new["metadata"])
        if store.has_status and not strategy.status_on_create:
            new.pop("status", None)
        strategy.default(new)

    def again() -> bool:
        before = dumps(obj)
        if store.registry.admission.mutate(ctx, obj, None):
            strategy.default(obj)
        return dumps(obj) != before

    subject = StoredSubject(store, ctx, obj, None, managed=managed, unnamed=unnamed, unmade=True, settle=settle)
    if await dynamic.mutate(subject, again):
        ctx.name = obj["metadata"].get("name") or ""
        store.dedup_owners(ctx, obj["metadata"], patched=True)
    return subject.managed


async def mutate_changed(
    dynamic: DynamicAdmission,
    store: Store,
    ctx: RequestContext,
    obj: JSON,
    old: JSON,
    stored: Stored,
    managed: bytes | None,
    *,
    rules: Strategy,
    version: str,
) -> bytes | None:
    """Has an update changed, which follows `rules` and names `version`; the object's managedFields then."""
    if _exempt(ctx) or not dynamic.mutates:
        store.registry.admission.metrics.admitted(ctx)
        return managed
    default = rules.default_status if ctx.subresource == "status" else rules.default

    def settle(new: JSON) -> None:
        lifecycle.place(ctx, store.resource, new["metadata"])
        lifecycle.carry_over(ctx, store.resource, new["metadata"], old["metadata"])
        store.restrict(ctx, new, old)
        default(new)

    def again() -> bool:
        before = dumps(obj)
        if store.registry.admission.mutate(ctx, obj, old):
            default(obj)
        return dumps(obj) != before

    if ctx.facet is not None:
        await dynamic.mutate(ctx.facet(obj, old), again)
        return managed
    subject = StoredSubject(store, ctx, obj, stored.value, managed=managed, version=version, settle=settle)
    if await dynamic.mutate(subject, again):
        store.dedup_owners(ctx, obj["metadata"], patched=True)
    return subject.managed


async def validate(
    dynamic: DynamicAdmission,
    store: Store,
    ctx: RequestContext,
    obj: JSON | None,
    old: JSON | None,
    stored: Stored | None,
    managed: bytes | None = None,
) -> None:
    """Raises StatusError to refuse a create, an update or a deletion."""
    if _exempt(ctx) or not dynamic.validates:
        return
    if ctx.facet is not None and obj is not None and old is not None:
        await dynamic.validate(ctx.facet(obj, old))
        return
    was, version = (None, "") if stored is None else (stored.value, str(stored.revision))
    await dynamic.validate(StoredSubject(store, ctx, obj, was, managed=managed, version=version))


async def admit_deletion(dynamic: DynamicAdmission, store: Store, ctx: RequestContext, stored: Stored) -> None:
    """Raises StatusError to refuse."""
    if _exempt(ctx):
        store.registry.admission.metrics.admitted(ctx)
    else:
        await dynamic.admit(StoredSubject(store, ctx, None, stored.value))
