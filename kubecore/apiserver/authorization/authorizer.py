"""Authorization: Rust's compiled RBAC first, then the modes it leaves to Python.

`Authorizer.authorize` is what everything in Python asks: the handler chain for requests Rust could not decide, the
in-process transport, and the access reviews.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kubecore._native import UserInfo
from kubecore.api import errors

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore.apiserver.admission.dynamic.conditions import Question
    from kubecore.apiserver.registry.strategy import User


class Attributes(NamedTuple):
    """What is asked for: a resource request, or with a `path` a non-resource one."""

    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


class Mode(Protocol):
    """An authorization mode in Python."""

    def authorize(self, user: UserInfo, attributes: Attributes) -> tuple[bool | None, str]:
        """(decision, reason); None is no opinion."""


class Authorizer:
    """The configured modes in order: the first that has an opinion decides, and nobody's opinion is a no."""

    def __init__(self, native: _native.Authorizer, modes: Sequence[str], python_modes: Mapping[str, Mode]) -> None:
        self._native = native
        self._modes = tuple(modes)
        self._python = python_modes
        native.set_modes(list(modes))

    def authorize(self, user: UserInfo, attributes: Attributes) -> tuple[bool, str]:
        """(allowed, reason)."""
        allowed, reason = self._ask_native(user, attributes)
        if allowed is not None:
            return allowed, reason
        reasons = []
        for mode in self._modes:
            found = self._opinion(mode, user, attributes)
            if found[0] is not None:
                return found[0], found[1]
            if found[1]:
                reasons.append(found[1])
        return False, ", ".join(reasons)

    def _opinion(self, mode: str, user: UserInfo, attributes: Attributes) -> tuple[bool | None, str]:
        if mode == "AlwaysAllow":
            return True, ""
        if mode == "AlwaysDeny":
            return False, "Everything is forbidden."
        if mode == "RBAC":
            allowed, reason = self._native.rbac_allows(
                user,
                attributes.verb,
                attributes.group,
                attributes.resource,
                attributes.subresource,
                attributes.namespace,
                attributes.name,
                attributes.path,
            )
            return (True, reason) if allowed else (None, reason)
        python = self._python.get(mode)
        return (None, "") if python is None else python.authorize(user, attributes)

    def _ask_native(self, user: UserInfo, attributes: Attributes) -> tuple[bool | None, str]:
        return self._native.authorize(
            user,
            attributes.verb,
            attributes.group,
            attributes.resource,
            attributes.subresource,
            attributes.namespace,
            attributes.name,
            attributes.path,
        )

    def answer(self, user: User, question: Question) -> tuple[bool, str]:
        """As `authorize`, of an expression's question."""
        verb, path, group, resource, subresource, namespace, name, _, _ = question
        if not isinstance(user, UserInfo):
            extra = {key: list(values) for key, values in user.extra.items()}
            user = UserInfo(user.username, user.uid, list(user.groups), extra)
        return self.authorize(user, Attributes(verb, group, "*", resource, subresource, namespace, name, path or ""))

    def check(self, user: UserInfo, attributes: Attributes) -> None:
        """Raises 403 in Kubernetes' words."""
        allowed, reason = self.authorize(user, attributes)
        if not allowed:
            raise forbidden(user, attributes, reason)


def forbidden(user: UserInfo, attributes: Attributes, reason: str = "") -> errors.StatusError:
    """The 403 for a user and what was asked (upstream endpoints/handlers/responsewriters/errors.go)."""
    suffix = f": {reason}" if reason else ""
    if attributes.path:
        message = f'User "{user.username}" cannot {attributes.verb} path "{attributes.path}"{suffix}'
        return errors.StatusError(403, "Forbidden", f"forbidden: {message}", {})
    resource = attributes.resource
    if attributes.subresource:
        resource += f"/{attributes.subresource}"
    message = f'User "{user.username}" cannot {attributes.verb} resource "{resource}" in API group "{attributes.group}"'
    if attributes.namespace:
        message += f' in the namespace "{attributes.namespace}"'
    else:
        message += " at the cluster scope"
    return errors.forbidden(attributes.group, attributes.resource, attributes.name, message + suffix)
