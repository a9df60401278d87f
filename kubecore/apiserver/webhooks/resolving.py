"""Where a Service's webhook is to be reached: at one of its ready endpoints."""

from __future__ import annotations

import random
from typing import Any, Protocol

JSON = dict[str, Any]

_SLICES = "endpointslices.discovery.k8s.io"


class Lookup(Protocol):
    """Reads of Services and EndpointSlices."""

    def get(self, resource_key: str, namespace: str, name: str) -> JSON | None: ...

    def list(self, resource_key: str, namespace: str = "", label_selector: str = "") -> list[JSON]: ...


def endpoint(lookup: Lookup, host: str, port: int) -> tuple[str, int]:
    """Of a Service's name one of its endpoints, of others themselves. Raises OSError."""
    name, _, rest = host.partition(".")
    namespace, _, suffix = rest.partition(".")
    return _endpoint(lookup, namespace, name, port) if suffix == "svc" else (host, port)


def _endpoint(lookup: Lookup, namespace: str, name: str, port: int) -> tuple[str, int]:
    service = lookup.get("services", namespace, name)
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
    for piece in lookup.list(_SLICES, namespace, f"kubernetes.io/service-name={name}"):
        ports = [one.get("port") for one in piece.get("ports") or [] if (one.get("name") or "") == wanted]
        for endpoint in piece.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                found = preferred if piece.get("addressType") == own else others
                found += [(address, ports[0]) for address in endpoint["addresses"] if ports and ports[0]]
    if not (preferred or others):
        raise OSError(f'no endpoints available for service "{name}"')
    # As upstream: those of the Service's first family where there are any.
    return random.choice(preferred or others)
