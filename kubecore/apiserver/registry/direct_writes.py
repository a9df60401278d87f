"""Writes by the registry that no strategy, admission or validation looks at: whoever makes them has seen to that.

`change` and `amend` come to an end by themselves, being worked out anew where another was faster. What is named `begin`
has one try: it works the write out at once, from what the watch cache has, or leaves that to the storage, and hands it
over before anything is waited for, so that many go into one commit. How that ends is the caller's matter, who has the
usual way left.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from kubecore.api.schemas import DeferredValue, apart, with_members
from kubecore.apiserver.registry.codec import dumps, loads
from kubecore.apiserver.registry.writes import storage_status
from kubecore.apiserver.storage.interface import KeyMissing, RevisionConflict, StorageError, Stored

if TYPE_CHECKING:
    from kubecore.apiserver.registry.store import Store
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]


async def change(store: Store, ctx: RequestContext, apply: Callable[[JSON], object], *, owner: str = "") -> bytes:
    """`apply` changes the object in place and raises what refuses that; False means nothing is to be written. What it
    changes belongs to `owner`, where one is named, else to whom it did before."""

    def made(stored: Stored) -> bytes | None:
        value, managed = apart(stored.value)
        obj = loads(value)
        if apply(obj) is False:
            return None
        if owner:
            new, part = store.codec.encode_managed(obj, managed, value), ctx.subresource
            managed = store.books(ctx).managed(stored.value, new, manager=owner, time=ctx.now, subresource=part)
        return store.codec.encode_managed(obj, managed, value)

    return await _changed(store, ctx, made)


async def amend(store: Store, ctx: RequestContext, decide: Callable[[bytes], JSON]) -> bytes:
    """`change` for who knows which members of its members are to be different: the rest is neither read nor written
    anew. `decide` makes those of the stored bytes (None takes one out) and raises what refuses the change."""
    return await _changed(store, ctx, lambda stored: _amended(stored, decide(stored.value)))


def begin_amend(store: Store, namespace: str, name: str, decide: Callable[[bytes], JSON]) -> Awaitable[Stored]:
    """`amend` of an object that is stored as the store speaks of it; its end raises RevisionConflict where another was
    faster, and ValueUnmade. Raises 404."""
    stored = store.get(namespace, name)
    changes = _without_revision(decide(stored.value))
    value = DeferredValue.merged(stored.value, dumps(changes), opening=store.codec.opening)
    return store.registry.storage.update(store.key(namespace, name), value, expected=stored.revision)


def begin_rewrite(
    store: Store, namespace: str, name: str, rewrite: Callable[[bytes], tuple[DeferredValue, bool]]
) -> Awaitable[Stored]:
    """`begin_amend` for who has all of the stored bytes made anew, and says whether the object is gone with it."""
    stored = store.get(namespace, name)
    value, goes = rewrite(stored.value)
    write = store.registry.storage.delete if goes else store.registry.storage.update
    return write(store.key(namespace, name), value, expected=stored.revision)


def begin_create(store: Store, namespace: str, name: str, value: DeferredValue) -> Awaitable[Stored]:
    """Of an object that is to be stored as the store speaks of it; its end raises KeyExists where one is there, and
    ValueUnmade."""
    return store.registry.storage.create(store.key(namespace, name), value)


async def _changed(store: Store, ctx: RequestContext, made: Callable[[Stored], bytes | None]) -> bytes:
    while True:
        stored = await store.read(ctx.namespace, ctx.name)
        body = made(stored)
        if body is None:
            return stored.value
        try:
            return await store.replace_stored(ctx, store.key(ctx.namespace, ctx.name), body, stored)
        except RevisionConflict:
            ctx.seconds_left()
        except KeyMissing:
            raise store.not_found(ctx.name) from None
        except StorageError as error:
            raise storage_status(error) from error


def _amended(stored: Stored, changes: JSON) -> bytes:
    return with_members(stored.value, dumps(_without_revision(changes)))


def _without_revision(changes: JSON) -> JSON:
    changes.setdefault("metadata", {})["resourceVersion"] = None
    return changes
