"""Objects that are there because of others: an IPAddress for each address of a Service.

They are made before the object they stand for and deleted after it, so that a server that ends in between leaves one
too many and never one too few; a controller finds those.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from kubecore.api import errors
from kubecore.api.meta import deepcopy
from kubecore.apiserver.registry.own_requests import MANAGER, SERVER
from kubecore.apiserver.registry.strategy import Companion, RequestContext

if TYPE_CHECKING:
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.store import Store

log = logging.getLogger(__name__)


_NOTHING = nullcontext()


def beside(
    registry: Registry, ctx: RequestContext, wanted: Sequence[Companion], had: Sequence[Companion] = ()
) -> AbstractAsyncContextManager[None]:
    """Makes what is wanted and was not had before; takes away what is wanted no more, or on failure what was made.

    Raises StatusError when one cannot be made. A dry run makes none. Most objects have none, and pay next to nothing.
    """
    return _NOTHING if ctx.dry_run or not (wanted or had) else _beside(registry, ctx, wanted, had)


@asynccontextmanager
async def _beside(
    registry: Registry, ctx: RequestContext, wanted: Sequence[Companion], had: Sequence[Companion]
) -> AsyncIterator[None]:
    known, kept = {one.key for one in had}, {one.key for one in wanted}
    new = [one for one in wanted if one.key not in known]
    made: list[Companion] = []
    try:
        for one in new:
            await _make(registry, ctx, one)
            made.append(one)
        yield
    except BaseException:
        await asyncio.shield(take_away(registry, ctx, made))
        raise
    await take_away(registry, ctx, [one for one in had if one.key not in kept])


async def take_away(registry: Registry, ctx: RequestContext, gone: Sequence[Companion]) -> None:
    """Deletes companions; that one is not there is no fault, and another failure is only logged."""
    from kubecore.apiserver.registry.deletion import delete
    from kubecore.apiserver.registry.options import DeleteOptions

    for one in gone:
        store = _store(registry, one)
        try:
            await delete(store, _context(ctx, store, one, "delete"), DeleteOptions())
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                log.warning("%s %s stays: %s", store.resource.plural, one.key[2], error.message)


async def _make(registry: Registry, ctx: RequestContext, one: Companion) -> None:
    store = _store(registry, one)
    await store.create(_context(ctx, store, one, "create"), deepcopy(one.obj))


def _store(registry: Registry, one: Companion) -> Store:
    store = registry.store(one.resource_key)
    assert store is not None, f"{one.resource_key} is not stored"
    return store


def _context(ctx: RequestContext, store: Store, one: Companion, verb: str) -> RequestContext:
    _, namespace, name = one.key
    return RequestContext(
        user=SERVER,
        verb=verb,
        resource_key=store.resource.key,
        namespace=namespace,
        name=name,
        clock=ctx.clock,
        now=ctx.now,
        lookup=ctx.lookup,
        field_manager=MANAGER,
    )
