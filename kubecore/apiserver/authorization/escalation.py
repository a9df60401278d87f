"""Privilege escalation: nobody grants, through roles and bindings, what they do not hold.

After upstream pkg/registry/rbac: a role may be written by who holds all its rules, or may `escalate` it; a binding by
who holds the rules of the role it names, or may `bind` it. Bootstrapping and system:masters are beyond this.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api import errors
from kubecore.api.errors import aggregated
from kubecore.api.quoting import quoted
from kubecore.apiserver.admission.chain import CREATE, UPDATE, Plugin
from kubecore.apiserver.authorization.attributes import Attributes
from kubecore.apiserver.authorization.authorizer import Authorizer

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from kubecore import _native
    from kubecore._native import UserInfo
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

_GROUP = "rbac.authorization.k8s.io"
_ROLES = ("roles.rbac.authorization.k8s.io", "clusterroles.rbac.authorization.k8s.io")
_BINDINGS = ("rolebindings.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io")
_ROLE_KINDS = {"Role": "roles", "ClusterRole": "clusterroles"}
_MASTERS = "system:masters"
# Whoever aggregates may end up granting anything.
_EVERYTHING = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}]
_KEEPING = ("ownerReferences", "finalizers", "managedFields", "resourceVersion", "selfLink")
_KIND = re.compile("^(cluster)?role(?=[.])")


class EscalationCheck(Plugin):
    name = "RBACEscalation"

    def __init__(self, authorizer: Authorizer, native: _native.Authorizer) -> None:
        self._authorizer = authorizer
        self._native = native

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key in _ROLES + _BINDINGS and operation in (CREATE, UPDATE)

    def guard(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> Awaitable[None] | None:
        """Upstream's storage asks this, before it looks whether the object is right."""
        if self._authorizer.asks_webhooks:
            return self._authorizer.settled(partial(self._check, ctx, obj, old))
        self._check(ctx, obj, old)
        return None

    def _check(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> None:
        user: UserInfo = ctx.user  # type: ignore[assignment]
        if _MASTERS in user.groups:
            return
        if ctx.resource_key in _ROLES:
            self._check_role(ctx, user, obj, old)
        else:
            self._check_binding(ctx, user, obj, old)

    def _check_role(self, ctx: RequestContext, user: UserInfo, obj: JSON, old: JSON | None) -> None:
        if old is not None and _changes_who_keeps_it_alone(obj, old):
            return
        plural, name = ctx.resource_key.partition(".")[0], _named(ctx, obj)
        # Of a new role upstream knows no name yet.
        named = "" if ctx.verb == "create" else name
        asked = Attributes("escalate", _GROUP, "*", plural, namespace=ctx.namespace, name=named)
        if self._authorizer.authorize(user, asked)[0]:
            return
        self._require(ctx, user, name, obj.get("rules") or [])
        if (_aggregates(obj) or _aggregates(old)) and self._lacks(ctx, user, name, _EVERYTHING)[0]:
            told = "must have cluster-admin privileges to use the aggregationRule"
            raise errors.forbidden(_GROUP, plural, name, told)

    def _check_binding(self, ctx: RequestContext, user: UserInfo, obj: JSON, old: JSON | None) -> None:
        if old is not None and _changes_who_keeps_it_alone(obj, old):
            return
        reference = obj.get("roleRef") or {}
        name, kind = reference.get("name") or "", reference.get("kind") or ""
        role_plural = _ROLE_KINDS.get(kind)
        if role_plural is None:
            raise errors.StatusError(500, "", f"unsupported role reference kind: {quoted(kind)}")
        group = reference.get("apiGroup") or ""
        asked = Attributes("bind", group, "*", role_plural, namespace=ctx.namespace, name=name)
        if self._authorizer.authorize(user, asked)[0]:
            return
        if kind == "Role" and not ctx.namespace:
            raise errors.bad_request("Namespace parameter required.")
        role = ctx.get(f"{role_plural}.{_GROUP}", ctx.namespace if kind == "Role" else "", name)
        if role is None:
            raise errors.not_found(_GROUP, ctx.resource_key.partition(".")[0], name)
        self._require(ctx, user, _named(ctx, obj), role.get("rules") or [])

    def _require(self, ctx: RequestContext, user: UserInfo, name: str, rules: list[JSON]) -> None:
        missing, failures = self._lacks(ctx, user, name, rules)
        if not missing:
            return
        groups, plural = " ".join(map(quoted, user.groups)), ctx.resource_key.partition(".")[0]
        told = (
            f"user {quoted(user.username)} (groups=[{groups}]) is attempting to grant RBAC permissions not currently "
        )
        told += "held:\n" + "\n".join(missing)
        if failures:
            # Roles that are not there go by the resource that is asked for.
            told += f"; resolution errors: [{aggregated([_KIND.sub(plural, one) for one in failures])}]"
        raise errors.forbidden(_GROUP, plural, name, told)

    def _lacks(self, ctx: RequestContext, user: UserInfo, name: str, rules: list[JSON]) -> tuple[list[str], list[str]]:
        try:
            return self._native.covers(user, ctx.namespace, orjson.dumps(rules))
        except OverflowError as too_many:
            told = f"{too_many} permissions are more than can be checked: grant them in several roles"
            raise errors.forbidden(_GROUP, ctx.resource_key.partition(".")[0], name, told) from None


def _named(ctx: RequestContext, obj: JSON) -> str:
    """Whose name is to be made has none yet."""
    return "" if ctx.name_prefix else obj["metadata"].get("name") or ""


def _aggregates(role: JSON | None) -> bool:
    return bool(((role or {}).get("aggregationRule") or {}).get("clusterRoleSelectors"))


def _changes_who_keeps_it_alone(obj: JSON, old: JSON) -> bool:
    """Owners and finalizers. A label may do more: it makes a role part of those that aggregate it."""
    return _judged(obj) == _judged(old)


def _judged(obj: JSON) -> JSON:
    metadata = {key: value for key, value in obj["metadata"].items() if value and key not in _KEEPING}
    return {**{key: value for key, value in obj.items() if value}, "metadata": metadata}
