"""EndpointSlices."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.resources.endpoints import PROTOCOLS, validate_address
from kubecore.apiserver.registry.resources.generation import ContentGeneration
from kubecore.apiserver.registry.strategy import RequestContext
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.addresses import parse_ip
from kubecore.apiserver.registry.validation.metadata import validate_labels
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

_TYPES = ("FQDN", "IPv4", "IPv6")
_ENDPOINTS, _PORTS, _ADDRESSES = 1000, 20000, 100


class EndpointSliceStrategy(ContentGeneration):
    resource_key = "endpointslices.discovery.k8s.io"

    def default(self, obj: JSON) -> None:
        for port in obj.get("ports") or []:
            port.setdefault("name", "")
            port["protocol"] = port.get("protocol") or "TCP"
        if obj.get("endpoints") is None:
            obj["endpoints"] = []
        obj.setdefault("ports", [])

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, kind = Problems(), obj.get("addressType")
        problems.one_of("addressType", kind, _TYPES, required=True)
        endpoints, ports = obj.get("endpoints") or [], obj.get("ports") or []
        if len(endpoints) > _ENDPOINTS:
            problems.too_many("endpoints", len(endpoints), _ENDPOINTS)
        for index, endpoint in enumerate(endpoints):
            _endpoint(problems, endpoint, kind, f"endpoints[{index}]")
        if len(ports) > _PORTS:
            problems.too_many("ports", len(ports), _PORTS)
        _ports(problems, ports)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        problems = Problems()
        problems.immutable("addressType", obj.get("addressType"), old.get("addressType"))
        return problems


def _endpoint(problems: Problems, endpoint: JSON, kind: str | None, path: str) -> None:
    addresses = endpoint.get("addresses") or []
    if not addresses:
        problems.required(f"{path}.addresses", "must contain at least 1 address")
    elif len(addresses) > _ADDRESSES:
        problems.too_many(f"{path}.addresses", len(addresses), _ADDRESSES)
    for index, address in enumerate(addresses):
        where = f"{path}.addresses[{index}]"
        if kind == "FQDN":
            problems.check(where, address, names.dns_subdomain)
            continue
        parsed = parse_ip(address)
        if kind in _TYPES and parsed is not None and f"IPv{parsed.version}" != kind:
            problems.invalid(where, address, f"must be an {kind} address")
        else:
            validate_address(problems, address, where)
    if endpoint.get("nodeName"):
        problems.check(f"{path}.nodeName", endpoint["nodeName"], names.dns_subdomain)
    if endpoint.get("deprecatedTopology"):
        validate_labels(problems, endpoint["deprecatedTopology"], f"{path}.deprecatedTopology")
    if endpoint.get("hostname") is not None:
        problems.check(f"{path}.hostname", endpoint["hostname"], names.dns_label)


def _ports(problems: Problems, ports: list[JSON]) -> None:
    taken: set[str] = set()
    for index, port in enumerate(ports):
        where, name = f"ports[{index}]", port.get("name") or ""
        if name:
            problems.check(f"{where}.name", name, names.dns_label)
        if name in taken:
            problems.duplicate(f"{where}.name", name)
        taken.add(name)
        problems.one_of(f"{where}.protocol", port.get("protocol"), PROTOCOLS, required=True)
        if port.get("port") is not None:
            problems.port(f"{where}.port", port["port"])
        if port.get("appProtocol"):
            problems.check(f"{where}.appProtocol", port["appProtocol"], names.qualified_name)
