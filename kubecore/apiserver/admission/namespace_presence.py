"""NamespaceExists and NamespaceAutoProvision: what is written into a namespace that is not there.

After upstream plugin/pkg/admission/namespace/{exists,autoprovision}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from kubecore.api import errors
from kubecore.apiserver.admission.chain import CREATE, DELETE, UPDATE, Plugin
from kubecore.apiserver.registry.strategy import RequestContext

if TYPE_CHECKING:
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.strategy import User
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]

_NAMESPACES = "namespaces"


class NamespaceExists(Plugin):
    """NamespaceLifecycle sees to it for what is created; this one for all writes."""

    name = "NamespaceExists"

    def __init__(self, cacher: Cacher) -> None:
        self._cacher = cacher

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key != _NAMESPACES and operation in (CREATE, UPDATE, DELETE)

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        if ctx.namespace and self._cacher.get(_NAMESPACES, "", ctx.namespace) is None:
            raise errors.not_found("", _NAMESPACES, ctx.namespace)


class NamespaceAutoProvision(Plugin):
    name = "NamespaceAutoProvision"

    def __init__(self, cacher: Cacher, registry: Callable[[], Registry], user: User) -> None:
        """`user` is who makes the namespaces."""
        self._cacher = cacher
        self._registry = registry
        self._user = user

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key != _NAMESPACES and operation == CREATE

    def expect(self, ctx: RequestContext, obj: JSON) -> Awaitable[None] | None:
        if ctx.dry_run or not ctx.namespace or self._cacher.get(_NAMESPACES, "", ctx.namespace) is not None:
            return None
        return self._provide(ctx)

    async def _provide(self, ctx: RequestContext) -> None:
        store = self._registry().store(_NAMESPACES)
        assert store is not None
        made = RequestContext(
            user=self._user,
            verb="create",
            resource_key=_NAMESPACES,
            namespace="",
            name=ctx.namespace,
            clock=ctx.clock,
            now=ctx.now,
            lookup=ctx.lookup,
            field_manager="kube-apiserver",
        )
        try:
            await store.create(made, {"metadata": {"name": ctx.namespace}})
        except errors.StatusError as refused:
            if not errors.is_already_exists(refused):
                plural, _, group = ctx.resource_key.partition(".")
                raise errors.forbidden(group, plural, ctx.called, refused.message) from refused
