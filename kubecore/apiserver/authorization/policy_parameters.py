"""Parameters of admission policies: nobody lets a policy read for them what they may not read themselves.

Else whoever may write policies could have Secrets told in messages. After upstream pkg/registry/admissionregistration
(authz.go of both kinds of policies and of their bindings); system:masters are beyond it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubecore.api import errors
from kubecore.api.errors import FieldError
from kubecore.api.scheme import Scheme, split_group_version
from kubecore.apiserver.admission.chain import CREATE, UPDATE
from kubecore.apiserver.authorization.attributes import Attributes
from kubecore.apiserver.authorization.demanding import DemandingPlugin, resource_of
from kubecore.apiserver.registry.equality import same

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.authorization.authorizer import Authorizer
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

_GROUP = "admissionregistration.k8s.io"
_WORDS = ("validating", "mutating")
# The kinds of policies; those of bindings, with the policies that they are of.
_POLICIES = {f"{word}admissionpolicies.{_GROUP}": f"{word.capitalize()}AdmissionPolicy" for word in _WORDS}
_BINDINGS = {
    f"{word}admissionpolicybindings.{_GROUP}": (
        f"{word.capitalize()}AdmissionPolicyBinding",
        f"{word}admissionpolicies",
    )
    for word in _WORDS
}
_MASTERS = "system:masters"
_EVERYTHING = ("*", "*", "*")


class PolicyParameters(DemandingPlugin):
    name = "PolicyParameters"

    def __init__(self, authorizer: Authorizer, scheme: Scheme) -> None:
        super().__init__(authorizer)
        self._scheme = scheme

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        concerned = resource_key in _POLICIES or resource_key in _BINDINGS
        return concerned and not subresource and operation in (CREATE, UPDATE)

    def demand(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        """Raises 422, as upstream, which asks where it validates."""
        user: UserInfo = ctx.user  # type: ignore[assignment]
        spec = (obj or {}).get("spec") or {}
        if _MASTERS in user.groups:
            return
        if ctx.resource_key in _POLICIES:
            kind, field = _POLICIES[ctx.resource_key], "spec.paramKind"
            why = self._of_policy(ctx, user, spec, ((old or {}).get("spec") or {}).get("paramKind"))
        else:
            (kind, policies), field = _BINDINGS[ctx.resource_key], "spec.paramRef"
            why = self._of_binding(ctx, user, spec, f"{policies}.{_GROUP}")
        if why:
            raise errors.invalid(kind, ctx.name, [FieldError.forbidden(field, why)], group=_GROUP)

    def _of_policy(self, ctx: RequestContext, user: UserInfo, spec: JSON, before: JSON | None) -> str:
        given = spec.get("paramKind")
        if given is None or same(given, before):
            return ""
        group, version, plural = self._resolved(ctx, given)
        asked = Attributes("get", group, version, plural, namespace="*", name="*")
        if self._authorizer.authorize(user, asked).allowed:
            return ""
        whose = f"(kind={given.get('kind') or ''}, apiVersion={given.get('apiVersion') or ''})"
        return f'user {_shown(user)} must have "get" permission on all objects of the referenced paramKind {whose}'

    def _of_binding(self, ctx: RequestContext, user: UserInfo, spec: JSON, policies: str) -> str:
        """Of every update, too: upstream compares references by what they point to, which is never the same."""
        reference = spec.get("paramRef")
        if reference is None:
            return ""
        name, named = reference.get("name") or "", spec.get("policyName") or ""
        policy = ctx.get(policies, "", named)
        kind = ((policy or {}).get("spec") or {}).get("paramKind")
        group, version, plural = _EVERYTHING if kind is None else self._resolved(ctx, kind)
        verb = "get" if name else "list"
        asked = Attributes(verb, group, version, plural, namespace=reference.get("namespace") or "", name=name)
        if self._authorizer.authorize(user, asked).allowed:
            return ""
        lacking = f'user {_shown(user)} does not have "{verb}" permission'
        if policy is None:
            unknown = f"get policy {named}"
        elif kind is not None and plural == "*":
            unknown = f"resolve paramKind &{{{kind.get('apiVersion') or ''} {kind.get('kind') or ''}}}"
        else:
            return f"{lacking} on the object referenced by paramRef"
        needed = f"{lacking} for all groups, versions and resources"
        return f"unable to {unknown} to determine minimum required permissions and {needed}"

    def _resolved(self, ctx: RequestContext, kind: JSON) -> tuple[str, str, str]:
        """Group, version and plural of a kind; all plurals of one that is not served."""
        group, version = split_group_version(kind.get("apiVersion") or "")
        found = resource_of(ctx, self._scheme, group, version, kind.get("kind") or "")
        return group, version, found[0] if found else "*"


def _shown(user: UserInfo) -> str:
    """As Go prints who it is."""
    extra = " ".join(f"{key}:[{' '.join(values)}]" for key, values in sorted(user.extra.items()))
    return f"&{{{user.username} {user.uid} [{' '.join(user.groups)}] map[{extra}]}}"
