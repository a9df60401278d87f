"""Which DNS records the objects of a cluster ask for: pure functions.

After the Kubernetes DNS-Based Service Discovery specification 1.1 (kubernetes/dns `docs/specification.md`); the numbers
below are its sections. Where it leaves a choice, and for the records beyond it, this does what the kubernetes plugin of
CoreDNS does with kubeadm's configuration; but names of service records have no addresses here, and those of endpoints
no service records.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubecore.api import meta

Object = Mapping[str, Any]
Record = tuple[str, str, int, str]
"""(name, type, TTL in seconds, value in zone file form), as `_native.DnsServer.set_records` takes it."""

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
TOLERATE_UNREADY_ANNOTATION = "service.alpha.kubernetes.io/tolerate-unready-endpoints"

SCHEMA_VERSION = "1.1.0"
_SCHEMA_VERSION_TTL = 28800
_PRIORITY, _WEIGHT = 0, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """The cluster domain, without a dot at its end, and the TTL of records in it."""

    domain: str = "cluster.local"
    ttl: int = 30

    def record(self, name: str, kind: str, value: str) -> Record:
        return (name, kind, self.ttl, value)

    def address(self, name: str, address: str) -> Record:
        return self.record(name, "AAAA" if ":" in address else "A", address)

    def pointer(self, address: str, name: str) -> Record:
        return self.record(ipaddress.ip_address(address).reverse_pointer, "PTR", f"{name}.")

    def service(self, name: str, *, port: int, target: str) -> Record:
        """`_weighed` puts priority and weight before it."""
        return self.record(name, "SRV", f"{port} {target}.")


@dataclass(frozen=True, slots=True)
class _Port:
    name: str
    protocol: str
    number: int


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """One address that is to be published; an empty `hostname` is one that the endpoint was not given."""

    address: str
    hostname: str
    ports: tuple[_Port, ...]

    @property
    def label(self) -> str:
        """The hostname of 2.1: the given one, else what identifies the endpoint, its address."""
        return self.hostname or address_label(self.address)


def zone_records(zone: Zone, servers: Iterable[str] = ()) -> list[Record]:
    """What the zone has without any object: its version (2.2), and its name server at the addresses of `servers`."""
    version = (f"dns-version.{zone.domain}", "TXT", _SCHEMA_VERSION_TTL, SCHEMA_VERSION)
    between = [zone.record(f"{part}.{zone.domain}", "EMPTY", "") for part in ("svc", "pod")]
    name = f"ns.dns.{zone.domain}"
    addresses = [zone.address(name, server) for server in servers]
    own = [zone.record(zone.domain, "NS", f"{name}."), *addresses] if addresses else []
    return [version, *between, *own]


def namespace_records(namespace: str, zone: Zone) -> list[Record]:
    """That the namespace's names exist, and its pods' names (2.6), which spell their addresses."""
    return [
        zone.record(f"{namespace}.svc.{zone.domain}", "EMPTY", ""),
        zone.record(f"{namespace}.pod.{zone.domain}", "PODS", ""),
    ]


def service_records(service: Object, slices: Iterable[Object], zone: Zone) -> list[Record]:
    """All records of a Service (2.3, 2.4, 2.5), each once; `slices` are its EndpointSlices. None for a Service that has
    no cluster IP yet, and none for a headless one without ready endpoints."""
    spec = service.get("spec") or {}
    name = f"{meta.name(service)}.{meta.namespace(service)}.svc.{zone.domain}"
    if spec.get("type") == "ExternalName":
        return _external(name, spec.get("externalName") or "", zone)
    endpoints = list(_published_endpoints(service, slices))
    headless = spec.get("clusterIP") == "None"
    found = _headless(name, endpoints, zone) if headless else _cluster_ip(name, spec, endpoints, zone)
    return list(_weighed(list(dict.fromkeys(found))))


def address_label(address: str) -> str:
    """The label that spells an address: 10-1-2-3, fd00--1."""
    label = address.replace(".", "-").replace(":", "-")
    if label.startswith("-") or label.endswith("-"):
        label = ipaddress.ip_address(address).exploded.replace(":", "-")
    return label


def _external(name: str, target: str, zone: Zone) -> list[Record]:
    """2.5. An address is no name an alias could lead to."""
    target = target.removesuffix(".")
    return [] if not target or _is_address(target) else [zone.record(name, "CNAME", f"{target}.")]


def _cluster_ip(name: str, spec: Object, endpoints: Iterable[_Endpoint], zone: Zone) -> Iterator[Record]:
    addresses = [one for one in spec.get("clusterIPs") or [spec.get("clusterIP") or ""] if _is_address(one)]
    if not addresses:
        return
    for address in addresses:
        yield zone.address(name, address)
        yield zone.pointer(address, name)
    for port in _ports(spec.get("ports") or ()):
        yield from _service_records_of_port(name, port, name, zone)
    # beyond the specification: pods behind this Service have a name below it, and their addresses lead back to it, also
    # where a headless Service names them, too (CoreDNS, and the documentation's "A/AAAA records" of pods)
    for endpoint in endpoints:
        own = f"{endpoint.label}.{name}"
        yield zone.address(own, endpoint.address)
        yield zone.pointer(endpoint.address, own)


def _headless(name: str, endpoints: Iterable[_Endpoint], zone: Zone) -> Iterator[Record]:
    for endpoint in endpoints:
        own = f"{endpoint.label}.{name}"
        yield zone.address(name, endpoint.address)
        yield zone.address(own, endpoint.address)
        yield zone.pointer(endpoint.address, own)
        for port in endpoint.ports:
            yield from _service_records_of_port(name, port, own, zone)


def _service_records_of_port(name: str, port: _Port, target: str, zone: Zone) -> Iterator[Record]:
    """Named ports have the SRV records of 2.3.2 and 2.4.2. Those of the bare name, which peer finders look up, are
    beyond the specification."""
    if port.name:
        yield zone.service(f"_{port.name}._{port.protocol}.{name}", port=port.number, target=target)
    yield zone.service(name, port=port.number, target=target)


def _weighed(records: Sequence[Record]) -> Iterator[Record]:
    """Service records of one name share its weight, as with CoreDNS."""
    sharing = Counter(name for name, kind, _, _ in records if kind == "SRV")
    for name, kind, ttl, value in records:
        if kind == "SRV":
            value = f"{_PRIORITY} {max(1, _WEIGHT // sharing[name])} {value}"
        yield name, kind, ttl, value


def _published_endpoints(service: Object, slices: Iterable[Object]) -> Iterator[_Endpoint]:
    """Ready endpoints, or all where the Service says so; readiness that is not told means ready (discovery/v1)."""
    spec = service.get("spec") or {}
    tolerant = meta.annotations(service).get(TOLERATE_UNREADY_ANNOTATION) == "true"
    publish_all = bool(spec.get("publishNotReadyAddresses")) or tolerant
    for piece in sorted(slices, key=meta.key):
        if piece.get("addressType") not in ("IPv4", "IPv6"):
            continue
        ports = _ports(piece.get("ports") or ())
        for endpoint in piece.get("endpoints") or ():
            if not publish_all and (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            for address in endpoint.get("addresses") or ():
                if _is_address(address):
                    yield _Endpoint(address, endpoint.get("hostname") or "", ports)


def _ports(ports: Sequence[Object]) -> tuple[_Port, ...]:
    """Of a Service or an EndpointSlice. One without a number stands for all ports and has no records."""
    return tuple(
        _Port(port.get("name") or "", (port.get("protocol") or "TCP").lower(), port["port"])
        for port in ports
        if port.get("port")
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
