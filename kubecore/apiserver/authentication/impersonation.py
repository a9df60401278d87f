"""Acting as somebody else: who that is by the Impersonate-* headers, and what one must be allowed for it.

After upstream k8s.io/apiserver pkg/endpoints/filters/impersonation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from kubecore import _native
from kubecore.api import errors
from kubecore.apiserver.authorization.attributes import Attributes
from kubecore.apiserver.registry.validation.names import dns_label, dns_subdomain

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.handlers.request import Request

_ACCOUNT = "system:serviceaccount:"
_USER, _UID, _GROUP, _EXTRA = (f"impersonate-{name}" for name in ("user", "uid", "group", "extra-"))
_GROUP_OF_API, _VERSION = "authentication.k8s.io", "v1"
_ANONYMOUS, _KNOWN, _UNKNOWN = "system:anonymous", "system:authenticated", "system:unauthenticated"


@dataclass(slots=True)
class Wanted:
    """Another identity, as it is asked for."""

    name: str
    uid: str = ""
    groups: list[str] = field(default_factory=list)
    extra: dict[str, list[str]] = field(default_factory=dict)

    @property
    def account(self) -> tuple[str, str] | None:
        """Namespace and name of the service account that it is."""
        parts = self.name.removeprefix(_ACCOUNT).split(":")
        if not self.name.startswith(_ACCOUNT) or len(parts) != 2:
            return None
        namespace, name = parts
        return None if dns_label(namespace) or dns_subdomain(name) else (namespace, name)

    def demands(self) -> Iterator[Attributes]:
        """What must be allowed, each for itself."""
        if self.account is not None:
            namespace, name = self.account
            yield Attributes("impersonate", "", "", "serviceaccounts", namespace=namespace, name=name)
        elif self.name:
            yield Attributes("impersonate", "", "", "users", name=self.name)
        for group in self.groups:
            yield Attributes("impersonate", "", "", "groups", name=group)
        for key, values in self.extra.items():
            for value in values:
                yield Attributes("impersonate", _GROUP_OF_API, _VERSION, "userextras", key, name=value)
        if self.uid:
            yield Attributes("impersonate", _GROUP_OF_API, _VERSION, "uids", name=self.uid)

    def identity(self) -> UserInfo:
        """With the groups it has by itself, where none are asked for that say otherwise."""
        groups = list(self.groups)
        if self.account is not None and not groups:
            groups = ["system:serviceaccounts", f"system:serviceaccounts:{self.account[0]}"]
        if self.name == _ANONYMOUS:
            groups += [] if _UNKNOWN in groups else [_UNKNOWN]
        elif not {_KNOWN, _UNKNOWN} & set(groups):
            groups.append(_KNOWN)
        return _native.UserInfo(self.name, self.uid, groups, self.extra)


def wanted(request: Request) -> Wanted | None:
    """Whom the headers name; None for nobody. Raises 400 for what belongs to a user, without one."""
    first: dict[str, str] = {}
    found = Wanted("")
    for header, value in request.headers():
        lowered = header.lower()
        if lowered in (_USER, _UID):
            first.setdefault(lowered, value)
        elif lowered == _GROUP:
            found.groups.append(value)
        elif lowered.startswith(_EXTRA):
            found.extra.setdefault(unquote(lowered[len(_EXTRA) :]), []).append(value)
    found.name, found.uid = first.get(_USER, ""), first.get(_UID, "")
    if found.name:
        return found
    if found.uid or found.groups or found.extra:
        told = " ".join(map(_told, found.demands()))
        refused = errors.bad_request(f"requested [{told}] without impersonating a user")
        # It repeats what was sent, and is never to be taken for a page.
        refused.headers.append(("X-Content-Type-Options", "nosniff"))
        raise refused
    return None


_KINDS = {"groups": "Group", "userextras": "UserExtra", "uids": "UID"}


def _told(attributes: Attributes) -> str:
    """As Go prints the ObjectReference that upstream makes of it."""
    version = f"{attributes.group}/{attributes.version}" if attributes.group else ""
    return f"{{{_KINDS[attributes.resource]}  {attributes.name}  {version}  {attributes.subresource}}}"
