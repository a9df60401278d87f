"""The managedFields of what clients write to one store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore._native import outline
from kubecore.apiserver.registry.codec import OF_STATUS, dumps, loads

if TYPE_CHECKING:
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.registry.store import Store
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]


class Owning:
    def __init__(self, store: Store) -> None:
        self._store = store
        # By whom, when and through what an object of which outline was created last, and its managedFields: events
        # come many at once.
        self._last: tuple[tuple[str, str, str, bytes | None] | None, bytes | None] = (None, None)

    def managed(self, ctx: RequestContext, old: bytes | None, obj: JSON) -> bytes | None:
        """Those of what a client has sent, defaults and all, instead of `old`. Raises ConversionNeeded."""
        if ctx.managed is not None:
            return ctx.managed
        if old is None and ctx.owned is not None:
            return ctx.owned
        store = self._store
        if old is None and store.has_status:
            obj = {name: value for name, value in obj.items() if name not in store.strategy.unowned}
        manager, now, part = ctx.field_manager, ctx.now, ctx.subresource
        spoken = store.versions.other(ctx.api_version)
        if spoken is not None:
            return self._managed_in(spoken, ctx, old, obj)
        alike = (manager, now, part, outline(obj)) if old is None and store.conversion is None else None
        if alike is not None and alike == self._last[0]:
            return self._last[1]
        if part == "status" and not (store.spoken or store.versions).several:
            # Nothing else is compared.
            obj = {name: obj[name] for name in OF_STATUS if name in obj}
        managed = store.books(ctx).managed(old, store.codec.encode(obj), manager=manager, time=now, subresource=part)
        if alike is not None and alike[3] is not None:
            self._last = (alike, managed)
        return managed

    def _managed_in(self, spoken: Resource, ctx: RequestContext, old: bytes | None, obj: JSON) -> bytes | None:
        """The same of a client that speaks another version than objects are stored in."""
        store = self._store
        new = store.versions.said(store.codec.encode(obj), spoken)
        if old is not None:
            old = store.versions.said(old, spoken)
        elif store.has_status:
            # A version may always show some of it.
            new = dumps({name: value for name, value in loads(new).items() if name not in store.strategy.unowned})
        schema = store.versions.schema(spoken)
        return schema.managed(old, new, manager=ctx.field_manager, time=ctx.now, subresource=ctx.subresource)
