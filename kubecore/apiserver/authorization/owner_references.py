"""OwnerReferencesPermissionEnforcement: who may say that an object belongs to another, and that this one has to wait.

After upstream plugin/pkg/admission/gc/gc_admission.go; off unless enabled, as there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import errors
from kubecore.api.scheme import Scheme, split_group_version
from kubecore.apiserver.admission.chain import CREATE, UPDATE
from kubecore.apiserver.authorization.attributes import Attributes
from kubecore.apiserver.authorization.authorizer import Authorizer
from kubecore.apiserver.authorization.demanding import DemandingPlugin, resource_of

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]


class OwnerReferencesPermissionEnforcement(DemandingPlugin):
    name = "OwnerReferencesPermissionEnforcement"

    def __init__(self, authorizer: Authorizer, scheme: Scheme) -> None:
        super().__init__(authorizer)
        self._scheme = scheme

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        # The status of a pod cannot change its owners, and old kubelets send them broken.
        return operation in (CREATE, UPDATE) and (resource_key, subresource) != ("pods", "status")

    def demand(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        owners, before = _owners(obj), _owners(old)
        if owners == before:
            return
        plural, _, group = ctx.resource_key.partition(".")
        # Who creates a thing could have left it, so need not be allowed to delete it.
        if ctx.operation != CREATE:
            asked = Attributes("delete", group, "", plural, ctx.subresource, ctx.namespace, ctx.name)
            self._demand(ctx, asked, "cannot set an ownerRef on a resource you can't delete")
        blocked = {ref.get("uid") for ref in before if ref.get("blockOwnerDeletion")}
        blocking = [ref for ref in owners if ref.get("blockOwnerDeletion") and ref.get("uid") not in blocked]
        if not blocking or self._allows(ctx, Attributes("update", "*", "*", "*", "finalizers", name="*"))[0]:
            return
        for ref in blocking:
            self._demand(
                ctx,
                self._finalizing(ctx, ref),
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on",
            )

    def _finalizing(self, ctx: RequestContext, ref: JSON) -> Attributes:
        """What it is to hold up the deletion of an owner. Raises 403 for a kind that is not served."""
        api_version, kind = ref.get("apiVersion") or "", ref.get("kind") or ""
        group, version = split_group_version(api_version)
        found = resource_of(ctx, self._scheme, group, version, kind)
        if found is None:
            raise _forbidden(
                ctx,
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion "
                f'{api_version} Kind {kind}: no matches for kind "{kind}" in version "{api_version}"',
            )
        plural, namespaced = found
        namespace = ctx.namespace if namespaced else ""
        return Attributes("update", group, version, plural, "finalizers", namespace, ref.get("name") or "")

    def _allows(self, ctx: RequestContext, asked: Attributes) -> tuple[bool, str]:
        user: UserInfo = ctx.user  # type: ignore[assignment]
        return self._authorizer.authorize(user, asked)[:2]

    def _demand(self, ctx: RequestContext, asked: Attributes, problem: str) -> None:
        allowed, reason = self._allows(ctx, asked)
        if not allowed:
            raise _forbidden(ctx, f"{problem}: {reason}, <nil>")


def _forbidden(ctx: RequestContext, detail: str) -> errors.StatusError:
    plural, _, group = ctx.resource_key.partition(".")
    return errors.forbidden(group, plural, ctx.name, detail)


def _owners(obj: JSON | None) -> list[JSON]:
    return ((obj or {}).get("metadata") or {}).get("ownerReferences") or []
