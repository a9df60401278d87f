"""Where a Service's webhook is to be reached: at one of its ready endpoints."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import Any, Protocol

from aiohttp.abc import AbstractResolver, ResolveResult

JSON = dict[str, Any]

_SLICES = "endpointslices.discovery.k8s.io"


class Lookup(Protocol):
    """Reads of Services and EndpointSlices."""

    def get(self, resource_key: str, namespace: str, name: str) -> JSON | None: ...

    def list(self, resource_key: str, namespace: str = "", label_selector: str = "") -> list[JSON]: ...


class ClusterResolver(AbstractResolver):
    """Names of Services to one of their endpoints, other names as the system does."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        name, _, rest = host.partition(".")
        namespace, _, suffix = rest.partition(".")
        if suffix == "svc":
            address, port = self._endpoint(namespace, name, port)
            return [_result(host, address, port)]
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        return [_result(host, str(address[0]), port, kind) for kind, _, _, _, address in found]

    def _endpoint(self, namespace: str, name: str, port: int) -> tuple[str, int]:
        service = self._lookup.get("services", namespace, name)
        if service is None:
            raise OSError(f'service "{name}" not found')
        spec = service.get("spec") or {}
        if spec.get("type") == "ExternalName":
            return str(spec.get("externalName")), port
        served = next((one for one in spec.get("ports") or [] if one.get("port") == port), None)
        if served is None:
            raise OSError(f'no service port {port} found for service "{name}"')
        wanted = served.get("name") or ""
        own = (spec.get("ipFamilies") or [""])[0]
        preferred: list[tuple[str, int]] = []
        others: list[tuple[str, int]] = []
        for piece in self._lookup.list(_SLICES, namespace, f"kubernetes.io/service-name={name}"):
            ports = [one.get("port") for one in piece.get("ports") or [] if (one.get("name") or "") == wanted]
            for endpoint in piece.get("endpoints") or []:
                if (endpoint.get("conditions") or {}).get("ready") is not False:
                    found = preferred if piece.get("addressType") == own else others
                    found += [(address, ports[0]) for address in endpoint["addresses"] if ports and ports[0]]
        if not (preferred or others):
            raise OSError(f'no endpoints available for service "{name}"')
        # As upstream: those of the Service's first family where there are any.
        return random.choice(preferred or others)

    async def close(self) -> None:
        """Nothing is held."""


def _result(hostname: str, address: str, port: int, family: int = 0) -> ResolveResult:
    if not family:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(
        hostname=hostname, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
    )
