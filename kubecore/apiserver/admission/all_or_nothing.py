"""AlwaysAdmit and AlwaysDeny: what the first plugins there were left behind.

After upstream plugin/pkg/admission/{admit,deny}, where both are deprecated, having no real meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import errors
from kubecore.apiserver.admission.chain import Plugin

if TYPE_CHECKING:
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

_SERVER = "system:apiserver"


class AlwaysAdmit(Plugin):
    """Has no objection, as the base of all plugins."""

    name = "AlwaysAdmit"


class AlwaysDeny(Plugin):
    name = "AlwaysDeny"

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return True

    def mutate(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> bool:
        self.validate(ctx, obj, old)
        return False

    def validate(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        # What the server itself writes is let in, or it would never be ready.
        if ctx.user.username != _SERVER:
            plural, _, group = ctx.resource_key.partition(".")
            raise errors.forbidden(group, plural, ctx.called, "admission control is denying all modifications")
