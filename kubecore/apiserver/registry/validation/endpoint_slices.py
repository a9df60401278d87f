"""EndpointSlices. After kubernetes `pkg/apis/discovery/validation/validation.go`."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.resources.endpoints import PROTOCOLS
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.addresses import canonical_ip, ip, parse_old_ip
from kubecore.apiserver.registry.validation.endpoints import validate_address
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_ENDPOINTS, _PORTS, _ADDRESSES, _HINTS = 1000, 20000, 100, 8


def validate_endpoints(problems: Problems, endpoints: list[JSON], kind: str) -> None:
    """`kind` is the slice's address type."""
    if len(endpoints) > _ENDPOINTS:
        problems.too_many("endpoints", len(endpoints), _ENDPOINTS)
        return
    for index, endpoint in enumerate(endpoints):
        path, addresses = f"endpoints[{index}]", endpoint.get("addresses") or []
        if not addresses:
            problems.required(f"{path}.addresses", "must contain at least 1 address")
        elif len(addresses) > _ADDRESSES:
            problems.too_many(f"{path}.addresses", len(addresses), _ADDRESSES)
        for number, address in enumerate(addresses):
            if kind == "FQDN":
                _domain(problems, address, f"{path}.addresses[{number}]")
            elif kind in ADDRESS_TYPES:
                _address(problems, address, kind, f"{path}.addresses", number)
        if endpoint.get("nodeName") is not None:
            problems.check(f"{path}.nodeName", endpoint["nodeName"], names.dns_subdomain)
        if endpoint.get("hostname") is not None:
            problems.check(f"{path}.hostname", endpoint["hostname"], names.dns_label)
        _hints(problems, endpoint.get("hints") or {}, f"{path}.hints")


def _address(problems: Problems, address: str, kind: str, path: str, index: int) -> None:
    # IPv4 is as lenient as Endpoints are; IPv6 came with the strict rules.
    errors = ip(address) if kind == "IPv4" else canonical_ip(address)
    for error in errors:
        problems.invalid(f"{path}[{index}]", address, error)
    parsed = parse_old_ip(address)
    if errors or parsed is None:
        return
    mapped = parsed.version == 6 and parsed.ipv4_mapped is not None
    if kind != ("IPv4" if mapped else f"IPv{parsed.version}"):
        problems.invalid(path, address, f"must be an {kind} address")
    validate_address(problems, address, f"{path}[{index}]")


def _domain(problems: Problems, name: str, path: str) -> None:
    """A domain of at least two parts; a dot may close it."""
    if not name:
        problems.required(path)
        return
    name = name.removesuffix(".")
    if errors := names.dns_subdomain(name):
        problems.invalid(path, name, ",".join(errors))
        return
    if "." not in name:
        problems.invalid(path, name, "should be a domain with at least two segments separated by dots")
        return
    for label in name.split("."):
        if errors := names.dns_label(label):
            problems.invalid(path, label, ",".join(errors))
            return


def _hints(problems: Problems, hints: JSON, path: str) -> None:
    for field, rule in (("forZones", names.label_value), ("forNodes", names.dns_subdomain)):
        wanted = [hint.get("name") or "" for hint in hints.get(field) or []]
        if len(wanted) > _HINTS:
            problems.too_many(f"{path}.{field}", len(wanted), _HINTS)
            return
        for index, name in enumerate(wanted):
            where = f"{path}.{field}[{index}].name"
            if name in wanted[:index]:
                problems.duplicate(where, name)
            problems.check(where, name, rule)


def validate_slice_ports(problems: Problems, ports: list[JSON]) -> None:
    if len(ports) > _PORTS:
        problems.too_many("ports", len(ports), _PORTS)
        return
    taken: set[str] = set()
    for index, port in enumerate(ports):
        path, name = f"ports[{index}]", port.get("name") or ""
        if name:
            problems.check(f"{path}.name", name, names.dns_label)
        if name in taken:
            problems.duplicate(f"{path}.name", name)
        taken.add(name)
        problems.one_of_if_given(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
        if port.get("appProtocol") is not None:
            problems.check(f"{path}.appProtocol", port["appProtocol"], names.qualified_name)
