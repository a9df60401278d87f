"""Endpoints."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import advice, names
from kubecore.apiserver.registry.validation.addresses import IP_ADDRESS, parse_old_ip
from kubecore.apiserver.registry.validation.endpoints import validate_address
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
        # Old ones may be against today's rules: they can be kept as they are.
        return [] if ctx.operation == "UPDATE" else _subsets(obj)

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return [] if same(obj.get("subsets"), old.get("subsets")) else _subsets(obj)

    def warnings(self, ctx: RequestContext, obj: JSON, old: JSON | None) -> list[str]:
        return advice.of_endpoints(obj)


def _subsets(obj: JSON) -> Problems:
    problems = Problems()
    for index, subset in enumerate(obj.get("subsets") or []):
        _subset(problems, subset, f"subsets[{index}]")
    return problems


def _subset(problems: Problems, subset: JSON, path: str) -> None:
    if not subset.get("addresses") and not subset.get("notReadyAddresses"):
        problems.required(path, "must specify `addresses` or `notReadyAddresses`")
    for field in ("addresses", "notReadyAddresses"):
        for index, address in enumerate(subset.get(field) or []):
            _address(problems, address, f"{path}.{field}[{index}]")
    ports = subset.get("ports") or []
    for index, port in enumerate(ports):
        where = f"{path}.ports[{index}]"
        if port.get("name"):
            problems.check(f"{where}.name", port["name"], names.dns_label)
        elif len(ports) > 1:
            problems.required(f"{where}.name")
        problems.port(f"{where}.port", port.get("port", 0))
        problems.one_of(f"{where}.protocol", port.get("protocol"), PROTOCOLS, required=True)
        if port.get("appProtocol") is not None:
            problems.check(f"{where}.appProtocol", port["appProtocol"], names.qualified_name)


def _address(problems: Problems, address: JSON, path: str) -> None:
    ip = address.get("ip") or ""
    if parse_old_ip(ip) is None:
        # Upstream says it twice.
        problems.invalid(f"{path}.ip", ip, IP_ADDRESS)
        problems.invalid(f"{path}.ip", ip, "must be a valid IP address")
    else:
        validate_address(problems, ip, f"{path}.ip")
    if address.get("hostname"):
        problems.check(f"{path}.hostname", address["hostname"], names.dns_label)
    if address.get("nodeName") is not None:
        problems.check(f"{path}.nodeName", address["nodeName"], names.dns_subdomain)
