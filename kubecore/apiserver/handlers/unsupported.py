"""Parts of the API that are served by name only so far: they say so, with 501."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubecore.api import errors
from kubecore.apiserver.handlers.request import Request, Response

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.handlers.chain import Handler
    from kubecore.apiserver.handlers.served import Served

_CONNECT = ("get", "create", "update", "patch", "delete")


async def _refuse(request: Request, user: UserInfo, served: Served) -> Response | None:
    raise errors.not_implemented(f"this server does not support {served.resource.plural}/{request.subresource} yet")


def unsupported() -> dict[tuple[str, str, str], Handler]:
    """Handlers by (group resource, subresource, verb)."""
    paths = [("pods", name) for name in ("exec", "attach", "portforward", "proxy")]
    paths += [("nodes", "proxy"), ("services", "proxy")]
    return {(key, subresource, verb): _refuse for key, subresource in paths for verb in _CONNECT}
