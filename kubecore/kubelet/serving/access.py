"""Who may ask a kubelet: the API server itself, and whoever has a right to the node's subresources.

(kubernetes `pkg/kubelet/server/auth.go`, with fine-grained authorization: KEP-2862.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecore.api.errors import StatusError
from kubecore.client.client import Client
from kubecore.client.delegated_access import CacheTimes, DelegatedAccess
from kubecore.clock import Clock

if TYPE_CHECKING:
    from kubecore._native import Request, UserInfo

_API_SERVER = "kube-apiserver-kubelet-client"
_ADMINISTRATORS = "system:masters"

_TIMES = CacheTimes(token=120.0, allowed=300.0, refused=30.0)
_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_ALONE = {
    "stats": "stats",
    "metrics": "metrics",
    "logs": "log",
    "checkpoint": "checkpoint",
    "statusz": "statusz",
    "flagz": "configz",
}
_OR_PROXY = {"pods": "pods", "runningpods": "pods", "healthz": "healthz", "configz": "configz"}


class Undecided(Exception):
    """Nobody could tell whether a user may; in the kubelet's words, with what failed as its cause."""


class KubeletAccess:
    """The API server and administrators, whom the cluster's CA has given a certificate as such, are not asked about, so
    that the API server is never waited for by itself."""

    def __init__(self, client: Client, clock: Clock, node_name: str) -> None:
        self._node_name = node_name
        self._access = DelegatedAccess(client, clock, _TIMES)

    async def who(self, request: Request) -> UserInfo | None:
        """None for nobody that is known. Raises StatusError and OSError."""
        return await self._access.who(request)

    async def refusal(self, user: UserInfo, request: Request) -> str:
        """Why the user may not, in the kubelet's words; "" if it may. Raises Undecided."""
        by_certificate = request.authenticated is not None
        if by_certificate and (user.username == _API_SERVER or _ADMINISTRATORS in user.groups):
            return ""
        verb, asked = _VERBS.get(request.method, ""), subresources(request.path)
        for subresource in asked:
            attributes = {
                "verb": verb,
                "version": "v1",
                "resource": "nodes",
                "subresource": subresource,
                "name": self._node_name,
            }
            try:
                allowed, _ = await self._access.allows(user, resourceAttributes=attributes)
            except (StatusError, OSError) as error:
                said = f"user={user.username}, verb={verb}, resource=nodes, subresource={subresource}"
                raise Undecided(f"Authorization error ({said})") from error
            if allowed:
                return ""
        shown = f"[{' '.join(asked)}]"
        return f"Forbidden (user={user.username}, verb={verb}, resource=nodes, subresource(s)={shown})\n"


def subresources(path: str) -> tuple[str, ...]:
    """Of which one has to be the user's."""
    first = path.strip("/").partition("/")[0]
    if first in _ALONE:
        return (_ALONE[first],)
    return (_OR_PROXY[first], "proxy") if first in _OR_PROXY else ("proxy",)
