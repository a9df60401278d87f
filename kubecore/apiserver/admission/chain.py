"""The admission chain: mutating plugins in order, later validating ones, over each write.

A plugin is a small class of its own file that says which requests it handles; the chain of a (resource, operation,
subresource) is computed once. Plugins look at other objects through the context and never wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"


class Plugin:
    """Base of all plugins: handles nothing, does nothing."""

    name: str = ""

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return False

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        """Changes `obj` in place; True when it did. Raises StatusError to refuse."""
        return False

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        """Raises StatusError to refuse. `obj` is None for a DELETE, `old` for a CREATE."""


class AdmissionChain:
    """All plugins, in the order Kubernetes runs them."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self._mutating: dict[tuple[str, str, str], tuple[Plugin, ...]] = {}
        self._validating: dict[tuple[str, str, str], tuple[Plugin, ...]] = {}

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        key = (ctx.resource_key, ctx.operation, ctx.subresource)
        plugins = self._mutating.get(key)
        if plugins is None:
            plugins = self._mutating[key] = self._overriding("mutate", key)
        changed = False
        for plugin in plugins:
            changed = plugin.mutate(ctx, obj, old) or changed
        return changed

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        key = (ctx.resource_key, ctx.operation, ctx.subresource)
        plugins = self._validating.get(key)
        if plugins is None:
            plugins = self._validating[key] = self._overriding("validate", key)
        for plugin in plugins:
            plugin.validate(ctx, obj, old)

    def _overriding(self, method: str, key: tuple[str, str, str]) -> tuple[Plugin, ...]:
        base = getattr(Plugin, method)
        return tuple(
            plugin for plugin in self.plugins if getattr(type(plugin), method) is not base and plugin.handles(*key)
        )
