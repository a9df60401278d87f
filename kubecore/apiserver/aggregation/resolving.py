"""Where a Service's extension API server is reached. After upstream k8s.io/apiserver `pkg/util/proxy/proxy.go`."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from kubecore.apiserver.aggregation.remotes import Backend
    from kubecore.apiserver.registry.strategy import Lookup

JSON = dict[str, Any]

SERVICES, SLICES = "services", "endpointslices.discovery.k8s.io"


class Unresolvable(Exception):
    """There is nowhere to go; the text says why."""


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Resolver:
    """To one of the Service's endpoints, or, without `to_endpoints`, to its own address. An external name is its own
    address in any case: upstream refuses it only to who asks for endpoints, which we do unasked.
    """

    def __init__(self, lookup: Lookup, *, to_endpoints: bool) -> None:
        self._lookup = lookup
        self._resolve = self._endpoint if to_endpoints else self._own

    def __call__(self, backend: Backend) -> Address:
        """Raises Unresolvable."""
        service = self._lookup.get(SERVICES, backend.namespace, backend.service)
        if service is None:
            raise Unresolvable(f'service "{backend.service}" not found')
        return self._resolve(backend, service["spec"])

    def _endpoint(self, backend: Backend, spec: JSON) -> Address:
        if spec.get("type") == "ExternalName":
            return self._own(backend, spec)
        name = _port(backend, spec).get("name") or ""
        slices = slices_of(self._lookup, backend)
        random.shuffle(slices)
        own = next(iter(spec.get("ipFamilies") or []), "")
        slices.sort(key=lambda piece: piece.get("addressType") != own)
        for piece in slices:
            port = next((one["port"] for one in piece.get("ports") or [] if is_named(one, name)), None)
            ready = [one for one in piece.get("endpoints") or [] if is_ready(one)]
            if port is not None and ready:
                return Address(random.choice(ready)["addresses"][0], port)
        raise Unresolvable(f'no endpoints available for service "{backend.service}"')

    def _own(self, backend: Backend, spec: JSON) -> Address:
        kind = spec.get("type") or "ClusterIP"
        if kind == "ExternalName":
            return Address(spec["externalName"], backend.port)
        if kind == "ClusterIP" and spec.get("clusterIP") == "None":
            raise Unresolvable('cannot route to service with ClusterIP "None"')
        return Address(spec.get("clusterIP") or "", _port(backend, spec)["port"])


def slices_of(lookup: Lookup, backend: Backend) -> list[JSON]:
    return lookup.list(SLICES, backend.namespace, f"kubernetes.io/service-name={backend.service}")


def is_ready(endpoint: JSON) -> bool:
    return (endpoint.get("conditions") or {}).get("ready") is not False


def is_named(port: JSON, name: str) -> bool:
    return (port.get("name") or "") == name and port.get("port") is not None


def _port(backend: Backend, spec: JSON) -> JSON:
    found: JSON | None = next((one for one in spec.get("ports") or [] if one.get("port") == backend.port), None)
    if found is None:
        raise Unresolvable(f'no service port {backend.port} found for service "{backend.service}"')
    return found
