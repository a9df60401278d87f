"""Privilege escalation: nobody grants, through roles and bindings, what they do not hold.

After upstream pkg/registry/rbac: a role may be written by who holds all its rules, or may `escalate` it; a binding by
who holds the rules of the role it names, or may `bind` it. Bootstrapping and system:masters are beyond this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from kubecore.api import errors
from kubecore.apiserver.admission.chain import CREATE, UPDATE
from kubecore.apiserver.authorization.attributes import Attributes
from kubecore.apiserver.authorization.authorizer import Authorizer
from kubecore.apiserver.authorization.demanding import DemandingPlugin

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore._native import UserInfo
    from kubecore.apiserver.registry.strategy import RequestContext

JSON = dict[str, Any]

_GROUP = "rbac.authorization.k8s.io"
_ROLES = ("roles.rbac.authorization.k8s.io", "clusterroles.rbac.authorization.k8s.io")
_BINDINGS = ("rolebindings.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io")
_MASTERS = "system:masters"


class EscalationCheck(DemandingPlugin):
    name = "RBACEscalation"

    def __init__(self, authorizer: Authorizer, native: _native.Authorizer) -> None:
        super().__init__(authorizer)
        self._native = native

    def handles(self, resource_key: str, operation: str, subresource: str) -> bool:
        return resource_key in _ROLES + _BINDINGS and operation in (CREATE, UPDATE)

    def demand(self, ctx: RequestContext, obj: JSON | None, old: JSON | None) -> None:
        user: UserInfo = ctx.user  # type: ignore[assignment]
        if obj is None or _MASTERS in user.groups:
            return
        if ctx.resource_key in _ROLES:
            self._check_role(ctx, user, obj, old)
        else:
            self._check_binding(ctx, user, obj, old)

    def _check_role(self, ctx: RequestContext, user: UserInfo, obj: JSON, old: JSON | None) -> None:
        plural = ctx.resource_key.partition(".")[0]
        if (
            old is not None
            and old.get("rules") == obj.get("rules")
            and (old.get("aggregationRule") == obj.get("aggregationRule"))
        ):
            return
        name = obj["metadata"].get("name") or ""
        asked = Attributes("escalate", _GROUP, "v1", plural, namespace=ctx.namespace, name=name)
        if self._authorizer.authorize(user, asked)[0]:
            return
        rules = list(obj.get("rules") or [])
        if obj.get("aggregationRule"):
            # Whoever aggregates may end up granting anything.
            everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
            rules += [everything, {"nonResourceURLs": ["*"], "verbs": ["*"]}]
        self._require(ctx, user, plural, name, rules)

    def _check_binding(self, ctx: RequestContext, user: UserInfo, obj: JSON, old: JSON | None) -> None:
        if (
            old is not None
            and old.get("roleRef") == obj.get("roleRef")
            and (old.get("subjects") == obj.get("subjects"))
        ):
            return
        reference = obj.get("roleRef") or {}
        name, kind = reference.get("name") or "", reference.get("kind")
        role_plural = "roles" if kind == "Role" else "clusterroles"
        asked = Attributes("bind", _GROUP, "v1", role_plural, namespace=ctx.namespace, name=name)
        if self._authorizer.authorize(user, asked)[0]:
            return
        role = ctx.get(f"{role_plural}.{_GROUP}", ctx.namespace if kind == "Role" else "", name)
        plural = ctx.resource_key.partition(".")[0]
        if role is None:
            raise errors.not_found(_GROUP, role_plural, name)
        self._require(ctx, user, plural, obj["metadata"].get("name") or "", role.get("rules") or [])

    def _require(self, ctx: RequestContext, user: UserInfo, plural: str, name: str, rules: list[JSON]) -> None:
        try:
            missing = self._native.covers(user, ctx.namespace, orjson.dumps(rules))
        except OverflowError as too_many:
            told = f"{too_many} permissions are more than can be checked: grant them in several roles"
            raise errors.forbidden(_GROUP, plural, name, told) from None
        if missing:
            groups = " ".join(f'"{group}"' for group in user.groups)
            raise errors.forbidden(
                _GROUP,
                plural,
                name,
                f'user "{user.username}" (groups=[{groups}]) is attempting to grant RBAC permissions not currently '
                "held:\n" + "\n".join(missing),
            )
