"""Endpoints."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import addresses, names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

PROTOCOLS = ("SCTP", "TCP", "UDP")


class EndpointsStrategy(Strategy):
    resource_key = "endpoints"
    tracks_generation = False
    allow_create_on_update = True

    def default(self, obj: JSON) -> None:
        for subset in obj.get("subsets") or []:
            for port in subset.get("ports") or []:
                port["protocol"] = port.get("protocol") or "TCP"

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems = Problems()
        for index, subset in enumerate(obj.get("subsets") or []):
            _subset(problems, subset, f"subsets[{index}]")
        return problems


def _subset(problems: Problems, subset: JSON, path: str) -> None:
    if not subset.get("addresses") and not subset.get("notReadyAddresses"):
        problems.required(path, "must specify `addresses` or `notReadyAddresses`")
    for field in ("addresses", "notReadyAddresses"):
        for index, address in enumerate(subset.get(field) or []):
            validate_address(problems, address.get("ip", ""), f"{path}.{field}[{index}].ip")
            if address.get("hostname"):
                problems.check(f"{path}.{field}[{index}].hostname", address["hostname"], names.dns_label)
            if address.get("nodeName"):
                problems.check(f"{path}.{field}[{index}].nodeName", address["nodeName"], names.dns_subdomain)
    ports = subset.get("ports") or []
    for index, port in enumerate(ports):
        where = f"{path}.ports[{index}]"
        if port.get("name"):
            problems.check(f"{where}.name", port["name"], names.dns_label)
        elif len(ports) > 1:
            problems.required(f"{where}.name")
        problems.port(f"{where}.port", port.get("port", 0))
        problems.one_of(f"{where}.protocol", port.get("protocol"), PROTOCOLS, required=True)


def validate_address(problems: Problems, address: str, path: str) -> None:
    """An address traffic can be sent to. Loopback is allowed: in loopback mode pods have addresses of 127.0.0.0/8."""
    parsed = addresses.parse_ip(address)
    if parsed is None:
        problems.invalid(path, address, addresses.IP_ADDRESS)
    elif parsed.is_unspecified:
        problems.invalid(path, address, f"may not be unspecified ({address})")
    elif parsed.is_link_local:
        problems.invalid(path, address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    elif parsed.is_multicast:
        problems.invalid(path, address, "may not be in the multicast range (224.0.0.0/4, ff00::/8)")
