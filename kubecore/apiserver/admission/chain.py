"""The admission chain: mutating plugins in order, later validating ones, over each write; last those that may wait.

A plugin is a small class of its own file that says which requests it handles; the chain of a (resource, operation,
subresource) is computed once. Plugins look at other objects through the context; what must wait for something (a quota
to be charged, somebody else's answer) comes in `decide`, when nothing else is left that could refuse the write. What is
on its way and needed by `mutate` is waited for in `expect`, before anything is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubecore.apiserver.admission.dynamic.admission import DynamicAdmission
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"


class Plugin:
    """Base of all plugins: handles nothing, does nothing."""

    name: str = ""

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return False

    def expect(self, ctx: RequestContext, obj: JSON) -> Awaitable[None] | None:
        """Of a CREATE: what must be there before `mutate` and is about to come; None when nothing is missing."""
        return None

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        """Changes `obj` in place; True when what it put there is to be defaulted. Raises StatusError to refuse."""
        return False

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        """Raises StatusError to refuse. `obj` is None for a DELETE, `old` for a CREATE."""

    def decide(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> Awaitable[None] | None:
        """The last word, by a plugin that may have to wait for it; None when there is nothing to wait for.

        Raises StatusError to refuse, at once or when awaited. What must be told how the write ended puts that into
        `ctx.finish`."""
        return None

    async def close(self) -> None:
        """Lets go of what it holds open; called once, at the end."""


class AdmissionChain:
    """All plugins, in the order Kubernetes runs them."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        # Webhooks and policies, once there is a server to call them.
        self.dynamic: DynamicAdmission | None = None
        self._expecting: dict[tuple[str, str, str], tuple[Plugin, ...]] = {}
        self._mutating: dict[tuple[str, str, str], tuple[Plugin, ...]] = {}
        self._validating: dict[tuple[str, str, str], tuple[Plugin, ...]] = {}
        self._deciding: dict[tuple[str, str, str], tuple[Plugin, ...]] = {}

    @property
    def asked(self) -> DynamicAdmission | None:
        """Webhooks and policies, where there are any at present."""
        dynamic = self.dynamic
        return dynamic if dynamic is not None and dynamic.awake else None

    def expect(self, ctx: RequestContext, obj: JSON) -> Awaitable[None] | None:
        """None when nothing has to be waited for, as for most writes."""
        key = (ctx.resource_key, ctx.operation, ctx.subresource)
        plugins = self._expecting.get(key)
        if plugins is None:
            plugins = self._expecting[key] = self._overriding("expect", key)
        if not plugins:
            return None
        coming = [one for plugin in plugins if (one := plugin.expect(ctx, obj)) is not None]
        return _all(coming) if coming else None

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        key = (ctx.resource_key, ctx.operation, ctx.subresource)
        plugins = self._mutating.get(key)
        if plugins is None:
            plugins = self._mutating[key] = self._overriding("mutate", key)
        wants_defaults = False
        for plugin in plugins:
            wants_defaults = plugin.mutate(ctx, obj, old) or wants_defaults
        return wants_defaults

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        key = (ctx.resource_key, ctx.operation, ctx.subresource)
        plugins = self._validating.get(key)
        if plugins is None:
            plugins = self._validating[key] = self._overriding("validate", key)
        for plugin in plugins:
            plugin.validate(ctx, obj, old)

    def decide(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> Awaitable[None] | None:
        """None when nobody has to be waited for, which is what most writes hear."""
        key = (ctx.resource_key, ctx.operation, ctx.subresource)
        plugins = self._deciding.get(key)
        if plugins is None:
            plugins = self._deciding[key] = self._overriding("decide", key)
        for number, plugin in enumerate(plugins, 1):
            if (waiting := plugin.decide(ctx, obj, old)) is not None:
                return _decide(waiting, plugins[number:], ctx, obj, old)
        return None

    async def close(self) -> None:
        for plugin in self.plugins:
            await plugin.close()

    def _overriding(self, method: str, key: tuple[str, str, str]) -> tuple[Plugin, ...]:
        base = getattr(Plugin, method)
        return tuple(
            plugin for plugin in self.plugins if getattr(type(plugin), method) is not base and plugin.handles(*key)
        )


async def _all(coming: Sequence[Awaitable[None]]) -> None:
    for one in coming:
        await one


async def _decide(
    first: Awaitable[None], rest: Sequence[Plugin], ctx: RequestContext, obj: JSON | None, old: JSON | None
) -> None:
    await first
    for plugin in rest:
        if (waiting := plugin.decide(ctx, obj, old)) is not None:
            await waiting
