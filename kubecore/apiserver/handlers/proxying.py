"""pods/proxy, services/proxy and nodes/proxy: requests of any kind passed on to a pod, an endpoint or a node.

After upstream pkg/registry/core/{pod,node}/strategy.go and service/storage/storage.go (ResourceLocation). Redirects,
and links within HTML pages, are told as the client reaches them (`native/front/src/forward/links.rs`).
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from kubecore import _native
from kubecore.api import errors
from kubecore.apiserver.handlers.connecting import ProxyOptions
from kubecore.apiserver.handlers.kubelets import JSON, KubeletConnection, kubelet_of
from kubecore.apiserver.handlers.request import Request, Response
from kubecore.apiserver.registry.codec import loads
from kubecore.apiserver.registry.missing import missing

if TYPE_CHECKING:
    from kubecore._native import UserInfo
    from kubecore.apiserver.handlers.chain import Handler
    from kubecore.apiserver.handlers.connecting import Connecting
    from kubecore.apiserver.handlers.served import Served
    from kubecore.apiserver.registry.registry import Registry

# OPTIONS has none.
_VERBS = ("get", "create", "update", "patch", "delete", "")
# The machine's own loopback services; pods without a network of their own have addresses above.
_OWN_LOOPBACK = ipaddress.ip_network("127.0.0.0/16")
# What a path may have unescaped (RFC 3986).
_PATH_CHARACTERS = "/:@!$&'()*+,;=~-._"


class Named(NamedTuple):
    """What a name in a proxy's path says: `[SCHEME:]NAME[:PORT]`."""

    scheme: str
    name: str
    port: str


class Backend(NamedTuple):
    host: str
    port: int
    tls: _native.BackendTls | None


class Proxying:
    def __init__(self, registry: Registry, kubelets: KubeletConnection, connecting: Connecting) -> None:
        self._registry = registry
        self._connecting = connecting
        self._kubelets = kubelets
        self._any_certificate: _native.BackendTls | None = None

    def handlers(self) -> dict[tuple[str, str, str], Handler]:
        """By (group resource, subresource, verb)."""
        kinds = (("pods", self._to_pod), ("services", self._to_service), ("nodes", self._to_node))
        return {(key, "proxy", verb): handler for key, handler in kinds for verb in _VERBS}

    async def _to_pod(self, request: Request, user: UserInfo, served: Served) -> Response | None:
        path = await self._path(request, user, served)
        named = _named(request, "pod")
        pod = loads(served.stored().get(request.namespace, named.name).value)
        port = named.port or _first_port(pod)
        address = (pod.get("status") or {}).get("podIP") or ""
        return self._pass_on(request, path, self._backend(named.scheme, _allowed(address), port))

    async def _to_service(self, request: Request, user: UserInfo, served: Served) -> Response | None:
        path = await self._path(request, user, served)
        named = _named(request, "service")
        port = named.port
        if port.isdecimal():
            service = loads(served.stored().get(request.namespace, named.name).value)
            port = _port_name(service, int(port))
        endpoints = self._registry.get("endpoints", request.namespace, named.name)
        if endpoints is None:
            # Of the Service, in upstream's words, though what is missing are its endpoints.
            raise missing(served.resource, request.namespace, named.name)
        subsets = endpoints.get("subsets") or []
        if not subsets:
            raise _no_endpoints(named.name)
        found = [
            (address["ip"], one["port"])
            for subset in subsets
            for one in subset.get("ports") or []
            if (one.get("name") or "") == port
            for address in subset.get("addresses") or []
            if self._is_pod(request.namespace, address)
        ]
        if not found:
            raise _no_endpoints(request.name)
        host, number = random.choice(found)
        return self._pass_on(request, path, self._backend(named.scheme, _allowed(host), str(number)))

    def _is_pod(self, namespace: str, address: JSON) -> bool:
        """Whoever writes Endpoints must not reach what is no pod of the namespace."""
        target = address.get("targetRef") or {}
        if target.get("kind") != "Pod" or target.get("namespace") != namespace:
            return False
        pod = self._registry.get("pods", namespace, target.get("name") or "")
        ips = [one.get("ip") for one in ((pod or {}).get("status") or {}).get("podIPs") or []]
        return address.get("ip") in ips

    async def _to_node(self, request: Request, user: UserInfo, served: Served) -> Response | None:
        path = await self._path(request, user, served)
        named = _named(request, "node")
        kubelet = kubelet_of(self._registry, named.name)
        if named.port in ("", str(kubelet.port)):
            return self._pass_on(request, path, Backend(kubelet.host, kubelet.port, self._kubelets.tls()))
        return self._pass_on(request, path, self._backend(named.scheme, await _resolved(kubelet.host), named.port))

    def _backend(self, scheme: str, host: str, port: str) -> Backend:
        tls = None
        if scheme == "https":
            if self._any_certificate is None:
                self._any_certificate = _native.BackendTls()
            tls = self._any_certificate
        if port and not (port.isdecimal() and 0 < int(port) < 65536):
            raise errors.bad_request(f"invalid port {port!r}")
        return Backend(host, int(port) if port else 443 if tls else 80, tls)

    async def _path(self, request: Request, user: UserInfo, served: Served) -> str:
        """Where to, below the backend. Raises StatusError when the request is refused."""
        if not isinstance(request, _native.Request):
            raise errors.bad_request("a proxy is not reached from within the API server")
        options = ProxyOptions(path=_parted(request)[1])
        return (await self._connecting.admitted(request, user, served, options)).path

    def _pass_on(self, request: Request, path: str, backend: Backend) -> Response | None:
        assert isinstance(request, _native.Request), "looked at with the path"
        prefix, path = (quote(one, safe=_PATH_CHARACTERS) for one in (_parted(request)[0], path))
        query = f"?{request.query}" if request.query else ""
        if not path and request.method in ("GET", "HEAD"):
            # So that what a page calls relative to itself is found.
            return Response(301, b"", "text/plain", [("Location", f"{prefix}/{query}")])
        _native.forward(
            request,
            host=backend.host,
            port=backend.port,
            target=f"{path or '/'}{query}",
            tls=backend.tls,
            prefix=prefix,
        )
        return None


def _parted(request: _native.Request) -> tuple[str, str]:
    """Up to the word `proxy`, and what follows, as they are meant."""
    named = f"/{request.resource}/{request.name}/proxy"
    end = request.path.index(named) + len(named)
    return request.path[:end], request.path[end:]


def _named(request: Request, kind: str) -> Named:
    parts = request.name.split(":")
    if len(parts) < 3:
        parts.insert(0, "")
    scheme, name, *port = parts
    if not name or len(port) > 1 or scheme not in ("", "http", "https"):
        raise errors.bad_request(f'invalid {kind} request "{request.name}"')
    return Named(scheme, name, port[0] if port else "")


def _first_port(pod: JSON) -> str:
    """The first that a container declares."""
    containers = (pod.get("spec") or {}).get("containers") or []
    return next((str(one["ports"][0]["containerPort"]) for one in containers if one.get("ports")), "")


def _port_name(service: JSON, number: int) -> str:
    for port in (service.get("spec") or {}).get("ports") or []:
        if port.get("port") == number:
            return port.get("name") or ""
    name = service["metadata"]["name"]
    raise errors.service_unavailable(f'no service port {number} found for service "{name}"')


def _no_endpoints(name: str) -> errors.StatusError:
    return errors.service_unavailable(f'no endpoints available for service "{name}"')


async def _resolved(host: str) -> str:
    """An address of a node, who is asked for by address or name. Raises 400 unless all of them are allowed."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise errors.bad_request(f"lookup {host}: {error.strerror}") from None
    allowed = [_allowed(str(where[0])) for *_, where in found]
    return allowed[0]


def _allowed(text: str) -> str:
    """The address of a pod. Raises 400 for what pods do not have but our own machine does."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise errors.bad_request("address not allowed") from None
    if isinstance(address, ipaddress.IPv6Address):
        # A socket connects to what is mapped.
        address = address.ipv4_mapped or address
    own = address in _OWN_LOOPBACK or (address.is_loopback and address.version == 6)
    if own or address.is_link_local or address.is_multicast or address.is_unspecified:
        raise errors.bad_request("address not allowed")
    return text
