"""The IPAddress that stands for an address of a Service (kubernetes `ipallocator/ipallocator.go`)."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation.addresses import parse_old_ip

JSON = dict[str, Any]

RESOURCE = "ipaddresses.networking.k8s.io"
FAMILY_LABEL, MANAGED_BY_LABEL = "ipaddress.kubernetes.io/ip-family", "ipaddress.kubernetes.io/managed-by"
MANAGER = "ipallocator.k8s.io"


def address_of(address: str, service: JSON) -> JSON:
    """`service` is the metadata of the Service whose address it is."""
    parsed = parse_old_ip(address)
    family = "IPv6" if parsed is not None and parsed.version == 6 else "IPv4"
    owner = {"resource": "services", "namespace": service.get("namespace") or "", "name": service.get("name") or ""}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": address if parsed is None else str(parsed),
            "labels": {FAMILY_LABEL: family, MANAGED_BY_LABEL: MANAGER},
        },
        "spec": {"parentRef": owner},
    }
