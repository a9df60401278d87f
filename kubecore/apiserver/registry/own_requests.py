"""Requests of the server's own: writes that nobody has asked it for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecore import _native
from kubecore.api import meta
from kubecore.apiserver.registry.strategy import RequestContext

if TYPE_CHECKING:
    from kubecore.apiserver.registry.registry import Registry

SERVER = _native.UserInfo("system:apiserver", "", ["system:masters", "system:authenticated"])
MANAGER = "kube-apiserver"


def own_request(
    registry: Registry,
    resource_key: str,
    verb: str,
    name: str = "",
    *,
    namespace: str = "",
    subresource: str = "",
    manager: str = MANAGER,
    exempt: bool = True,
) -> RequestContext:
    """`exempt`: webhooks are not asked, since one that is not there yet would keep the server from starting."""
    return RequestContext(
        user=SERVER,
        verb=verb,
        resource_key=resource_key,
        namespace=namespace,
        name=name,
        subresource=subresource,
        clock=registry.clock,
        now=meta.format_time(registry.clock.now()),
        lookup=registry,
        field_manager=manager,
        exempt=exempt,
    )
