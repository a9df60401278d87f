"""Which virtual servers a Service asks for on one node: pure functions of the Service and its EndpointSlices.

Rules of pkg/proxy/topology.go, serviceport.go and endpointslicecache.go: ready endpoints get the connections; when none
is ready, those that are terminating but still serving do; a policy Local narrows the choice to this node's endpoints
first; else hints may narrow it to those meant for this node or its zone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kubecore.api import meta

Object = Mapping[str, Any]
Purpose = Literal["ClusterIP", "NodePort", "ExternalIP", "LoadBalancer"]
ServerKey = tuple[str, str, int]
"""(protocol, address, port)"""

SCHEDULER_ANNOTATION = "kubecore.dev/scheduler"
PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
DEFAULT_AFFINITY_SECONDS = 10800


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """What the balancer is to hold for one address and port. `endpoints` are (address, port), sorted, each once."""

    protocol: str
    address: str
    port: int
    purpose: Purpose
    scheduler: str
    affinity_seconds: float | None
    endpoints: tuple[tuple[str, int], ...]

    @property
    def key(self) -> ServerKey:
        return (self.protocol, self.address, self.port)


@dataclass(frozen=True, slots=True)
class NodeView:
    """What a node brings to the choice. An empty `name` stands for all nodes: every endpoint is local."""

    name: str = ""
    zone: str = ""
    node_port_addresses: tuple[str, ...] = ("0.0.0.0",)
    scheduler: str = "rr"


@dataclass(frozen=True, slots=True)
class _Endpoint:
    address: str
    port: int
    ready: bool
    draining: bool
    """Terminating, and still serving."""
    local: bool
    for_nodes: frozenset[str]
    for_zones: frozenset[str]


def is_proxied(service: Object) -> bool:
    """Has it cluster IPs that are ours to serve?"""
    return has_cluster_ip(service) and not _is_for_others(service)


def _is_for_others(obj: Object) -> bool:
    """Services and EndpointSlices with either label are not for kube-proxy, whatever the label's value."""
    labels = meta.labels(obj)
    return PROXY_NAME_LABEL in labels or HEADLESS_LABEL in labels


def has_cluster_ip(service: Object) -> bool:
    spec = service.get("spec", {})
    return spec.get("type") != "ExternalName" and spec.get("clusterIP", "") not in ("", "None")


def cluster_ips(service: Object) -> list[str]:
    spec = service.get("spec", {})
    return [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP", "")] if ip not in ("", "None")]


def scheduler_of(service: Object, default: str) -> str:
    return meta.annotations(service).get(SCHEDULER_ANNOTATION, "") or default


def virtual_servers(service: Object, slices: Iterable[Object], node: NodeView) -> list[VirtualServer]:
    """All virtual servers of a Service, none for one that is not proxied."""
    if not is_proxied(service):
        return []
    spec = service["spec"]
    held = [piece for piece in slices if not _is_for_others(piece)]
    servers: dict[ServerKey, VirtualServer] = {}
    for port in spec.get("ports") or ():
        for purpose, address, number in _addresses(service, port, node):
            family = "IPv6" if ":" in address else "IPv4"
            internal = purpose == "ClusterIP"
            policy = spec.get("internalTrafficPolicy" if internal else "externalTrafficPolicy") or "Cluster"
            server = VirtualServer(
                protocol=port.get("protocol") or "TCP",
                address=address,
                port=number,
                purpose=purpose,
                scheduler=scheduler_of(service, node.scheduler),
                affinity_seconds=_affinity(spec),
                endpoints=_usable(_endpoints(held, port, family, node), node, local=policy == "Local"),
            )
            servers.setdefault(server.key, server)
    return list(servers.values())


def _affinity(spec: Object) -> float | None:
    if spec.get("sessionAffinity") != "ClientIP":
        return None
    config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return float(config.get("timeoutSeconds") or DEFAULT_AFFINITY_SECONDS)


def _addresses(service: Object, port: Object, node: NodeView) -> Iterator[tuple[Purpose, str, int]]:
    """Only addresses of the families that the Service has cluster IPs of are served."""
    spec = service["spec"]
    families = {":" in ip for ip in cluster_ips(service)}
    for ip in cluster_ips(service):
        yield "ClusterIP", ip, port["port"]
    for given in spec.get("externalIPs") or ():
        ip = _canonical(given)
        if ip and (":" in ip) in families:
            yield "ExternalIP", ip, port["port"]
    if spec.get("type") == "LoadBalancer":
        for ingress in (service.get("status", {}).get("loadBalancer") or {}).get("ingress") or ():
            ip = _canonical(ingress.get("ip") or "")
            if ip and (":" in ip) in families and ingress.get("ipMode") != "Proxy":
                yield "LoadBalancer", ip, port["port"]
    if spec.get("type") in ("NodePort", "LoadBalancer") and port.get("nodePort"):
        for ip in node.node_port_addresses:
            if (":" in ip) in families:
                yield "NodePort", ip, port["nodePort"]


def _canonical(address: str) -> str:
    """The usual form of an IP address, also of one with leading zeros that old objects may hold; "" for no address."""
    if "." in address and ":" not in address:
        address = ".".join(part.lstrip("0") or part[-1:] for part in address.split("."))
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return ""


def _endpoints(slices: Sequence[Object], port: Object, family: str, node: NodeView) -> list[_Endpoint]:
    found: dict[tuple[str, int], _Endpoint] = {}
    for piece in slices:
        if piece.get("addressType") != family:
            continue
        number = _port_number(piece, port)
        if number is None:
            continue
        for given in piece.get("endpoints") or ():
            # consumers use only the first address of an endpoint (discovery/v1)
            address = _canonical((given.get("addresses") or [""])[0])
            if not address:
                continue
            one = _endpoint(given, address, number, node)
            # one that moves from slice to slice may be in two of them for a moment
            other = found.get((address, number))
            if other is None or (one.local, one.ready) > (other.local, other.ready):
                found[address, number] = one
    return list(found.values())


def _endpoint(given: Object, address: str, port: int, node: NodeView) -> _Endpoint:
    conditions, hints = given.get("conditions") or {}, given.get("hints") or {}
    # conditions that are not set: ready, serving, not terminating
    serving = conditions.get("serving") is not False
    return _Endpoint(
        address,
        port,
        ready=conditions.get("ready") is not False,
        draining=serving and bool(conditions.get("terminating")),
        local=not node.name or given.get("nodeName") == node.name,
        for_nodes=frozenset(hint["name"] for hint in hints.get("forNodes") or ()),
        for_zones=frozenset(hint["name"] for hint in hints.get("forZones") or ()),
    )


def _port_number(piece: Object, port: Object) -> int | None:
    for candidate in piece.get("ports") or ():
        same_protocol = (candidate.get("protocol") or "TCP") == (port.get("protocol") or "TCP")
        if same_protocol and (candidate.get("name") or "") == (port.get("name") or ""):
            number = candidate.get("port")
            return int(number) if number else None
    return None


def _usable(endpoints: list[_Endpoint], node: NodeView, *, local: bool) -> tuple[tuple[str, int], ...]:
    candidates = [one for one in endpoints if one.local] if local else endpoints
    chosen = [one for one in candidates if one.ready]
    if not chosen:
        chosen = [one for one in candidates if one.draining]
    elif node.name and not local:
        chosen = _hinted(chosen, node)
    return tuple(sorted(((one.address, one.port) for one in chosen), key=_order))


def _hinted(ready: list[_Endpoint], node: NodeView) -> list[_Endpoint]:
    """Those meant for this node, else for its zone, provided that every ready endpoint says for whom it is; else all.

    (KEP-4444, KEP-3015.)
    """
    if all(one.for_nodes for one in ready):
        near = [one for one in ready if node.name in one.for_nodes]
        if near:
            return near
    if all(one.for_zones for one in ready):
        return [one for one in ready if node.zone in one.for_zones] or ready
    return ready


def _order(endpoint: tuple[str, int]) -> tuple[int, int]:
    return (int(ipaddress.ip_address(endpoint[0])), endpoint[1])
