"""Admission plugins that ask what the user may do beyond the request itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING, Any

from kubecore.apiserver.admission.chain import Plugin

if TYPE_CHECKING:
    from kubecore.api.scheme import Scheme
    from kubecore.apiserver.authorization.authorizer import Authorizer
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

_DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"


class DemandingPlugin(Plugin, ABC):
    """`demand` is called among those that validate, or, where webhooks authorize, among those that may wait."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    @abstractmethod
    def demand(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        """Asks the authorizer at once, and changes nothing. Raises StatusError to refuse."""

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        if not self._authorizer.asks_webhooks:
            self.demand(ctx, obj, old)

    def decide(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> Awaitable[None] | None:
        if not self._authorizer.asks_webhooks:
            return None
        return self._authorizer.settled(partial(self.demand, ctx, obj, old))


def resource_of(ctx: RequestContext, scheme: Scheme, group: str, version: str, kind: str) -> tuple[str, bool] | None:
    """The plural of a kind, built-in or custom, and whether it is namespaced; None where it is not served."""
    resource = scheme.for_kind(group, version, kind)
    if resource is not None:
        return resource.plural, resource.namespaced
    for definition in ctx.lookup.list(_DEFINITIONS):
        spec = definition["spec"]
        versions = {one["name"] for one in spec["versions"] if one.get("served")}
        if (spec["group"], spec["names"]["kind"]) == (group, kind) and version in versions:
            return spec["names"]["plural"], spec["scope"] == "Namespaced"
    return None
