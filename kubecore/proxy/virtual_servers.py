"""Which virtual servers a Service asks for on a node, or on several that share a proxy: pure functions of the Service
and its EndpointSlices.

This is the model that all modes of the proxy share. (kubernetes `pkg/proxy/serviceport.go`; which endpoints get the
connections, `endpoint_choice` says.)
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from kubecore.api import meta
from kubecore.api.endpoint_choice import Choice, Endpoint, Place, canonical, choose_for_each, ready_here

Object = Mapping[str, Any]
Purpose = Literal["ClusterIP", "NodePort", "ExternalIP", "LoadBalancer"]
ServerKey = tuple[str, str, int]
"""(protocol, address, port)"""

SCHEDULER_ANNOTATION = "kubecore.dev/scheduler"
PROXY_PROTOCOL_ANNOTATION = "kubecore.dev/proxy-protocol"
PROXY_PROTOCOLS = {"v1": 1, "v2": 2}
"""Versions of the PROXY protocol by what the annotation calls them."""
PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
DEFAULT_AFFINITY_SECONDS = 10800
# No node is called so.
_ALL = "*"


@dataclass(frozen=True, slots=True)
class NodeHere:
    """One of the nodes that a proxy serves. By `pods`, ranges that no other node has, and by its own `addresses` a
    connection is known to be this node's."""

    name: str
    zone: str = ""
    pods: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What one of several nodes leads its connections to: those of its pods and, at a node port, those that come to its
    addresses. `inside` is for pods and the host, as in `VirtualServer`."""

    node: NodeHere
    endpoints: tuple[Endpoint, ...]
    inside: tuple[Endpoint, ...] | None = None

    @property
    def for_pods(self) -> tuple[Endpoint, ...]:
        return self.endpoints if self.inside is None else self.inside


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """What is to be balanced for one address and port, and how.

    `endpoints` are (address, port), sorted, each once: those that the traffic policy of this address allows. `anywhere`
    is false when there are none on other nodes either: connections are refused then, not dropped. `inside` are, for an
    external address of policy Local, the endpoints for pods and the node itself, which are not outside; None: the
    same. `source_ranges`, unless empty, are all that may connect. `masquerade`: endpoints are to answer to the node.
    `proxy_protocol`: the version in which endpoints of TCP are told their clients, None: not at all. `forwarded`: the
    forwarder is to carry it in every mode. `parts`: each of several nodes behind one proxy, where it makes a difference
    whose a connection is; `endpoints` and `inside` are for those that may be any node's. `guarded`: some of these nodes
    may have no endpoint while others have, and their clients are dropped then. `serving`: endpoints of UDP that keep
    the flows they have, also those that get no new ones.
    """

    protocol: str
    address: str
    port: int
    purpose: Purpose
    scheduler: str
    affinity_seconds: float | None
    endpoints: tuple[Endpoint, ...]
    anywhere: bool = False
    inside: tuple[Endpoint, ...] | None = None
    source_ranges: tuple[str, ...] = ()
    proxy_protocol: int | None = None
    forwarded: bool = False
    parts: tuple[Part, ...] = ()
    guarded: bool = False
    serving: tuple[Endpoint, ...] = ()

    @property
    def key(self) -> ServerKey:
        return (self.protocol, self.address, self.port)

    @property
    def masquerade(self) -> bool:
        """Connections from outside that may leave this node again must come back through it."""
        return self.purpose != "ClusterIP" and self.inside is None

    def at(self, address: str) -> VirtualServer:
        """Of a node port at all addresses: what it is at this one, which may be a single node's."""
        part = next((one for one in self.parts if address in one.node.addresses), None)
        if part is None:
            return replace(self, address=address)
        return replace(self, address=address, endpoints=part.endpoints, inside=part.inside, parts=(), guarded=False)

    def all_endpoints(self) -> dict[Endpoint, None]:
        """Those that anybody is led to."""
        found = dict.fromkeys((*self.endpoints, *(self.inside or ())))
        for part in self.parts:
            found |= dict.fromkeys((*part.endpoints, *(part.inside or ())))
        return found


@dataclass(frozen=True, slots=True)
class NodeView:
    """What a node brings to the choice. An empty `name` stands for all nodes: every endpoint is local. `nodes`, unless
    empty, are those that share the proxy, instead of one."""

    name: str = ""
    zone: str = ""
    node_port_addresses: tuple[str, ...] = ("0.0.0.0",)
    scheduler: str = "rr"
    nodes: tuple[NodeHere, ...] = ()

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(Place(one.name, one.zone) for one in self.nodes) or (Place(self.name, self.zone),)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A Service whose `port` on every node tells load balancers how many endpoints that node has. `by_address` has the
    numbers of several nodes; at an address that is no single one's, `endpoints` has that of all."""

    port: int
    endpoints: int
    by_address: tuple[tuple[str, int], ...] = ()

    def endpoints_at(self, address: str) -> int:
        return dict(self.by_address).get(address, self.endpoints)


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


def proxy_protocol_of(service: Object) -> int | None:
    """None also for a version that is unknown."""
    return PROXY_PROTOCOLS.get(meta.annotations(service).get(PROXY_PROTOCOL_ANNOTATION, ""))


def virtual_servers(service: Object, slices: Iterable[Object], node: NodeView) -> list[VirtualServer]:
    """All virtual servers of a Service, none for one that is not proxied."""
    if not is_proxied(service):
        return []
    spec = service["spec"]
    held = [piece for piece in slices if not _is_for_others(piece)]
    places, policies = node.places, (spec.get("internalTrafficPolicy"), spec.get("externalTrafficPolicy"))
    servers: dict[ServerKey, VirtualServer] = {}
    for port in spec.get("ports") or ():
        choices: dict[str, tuple[Choice, tuple[Choice, ...]]] = {}
        for purpose, address, number in _addresses(service, port, node):
            family = "IPv6" if ":" in address else "IPv4"
            if family not in choices:
                choices[family] = choose_for_each(held, port, family, places, policy_local="Local" in policies)
            protocol = port.get("protocol") or "TCP"
            if (protocol, address, number) not in servers:
                server = _server(service, *choices[family], purpose, (protocol, address, number), node)
                servers[server.key] = server
    return list(servers.values())


def health_check(service: Object, slices: Iterable[Object], node: NodeView) -> HealthCheck | None:
    """Of a Service that asks for one; each of its endpoints that are ready here counts once."""
    spec = service.get("spec", {})
    wanted = spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    port = spec.get("healthCheckNodePort") or 0
    if not (wanted and port and is_proxied(service)):
        return None
    held = [piece for piece in slices if not _is_for_others(piece)]
    families = {"IPv6" if ":" in ip else "IPv4" for ip in cluster_ips(service)}
    most: Counter[str] = Counter()
    for family in families:
        # of a pod that has two addresses there is one
        found = dict[str, str]()
        for one in spec.get("ports") or ():
            found |= ready_here(held, one, family, node.places)
        most |= Counter(found.values()) | Counter({_ALL: len(found)})
    by_address = [(address, most[one.name]) for one in node.nodes for address in one.addresses]
    return HealthCheck(port, most[_ALL], tuple(by_address) if len(node.nodes) > 1 else ())


def _server(
    service: Object, shared: Choice, each: tuple[Choice, ...], purpose: Purpose, key: ServerKey, node: NodeView
) -> VirtualServer:
    spec = service["spec"]
    internal = purpose == "ClusterIP"
    local = spec.get("internalTrafficPolicy" if internal else "externalTrafficPolicy") == "Local"
    server = VirtualServer(
        *key,
        purpose=purpose,
        scheduler=scheduler_of(service, node.scheduler),
        affinity_seconds=_affinity(spec),
        endpoints=shared.local if local else shared.cluster,
        anywhere=shared.anywhere,
        inside=shared.cluster if local and not internal else None,
        source_ranges=_source_ranges(service, key[1]) if purpose == "LoadBalancer" else (),
        proxy_protocol=proxy_protocol_of(service) if key[0] == "TCP" else None,
        serving=shared.serving,
    )
    return _with_parts(server, each, node, local=local) if each else server


def _with_parts(server: VirtualServer, each: tuple[Choice, ...], node: NodeView, *, local: bool) -> VirtualServer:
    """At an address that is nobody's own, a node is known by its pods alone, and these are inside."""
    parts, whole = [], (server.endpoints, server.inside)
    for here, choice in zip(node.nodes, each, strict=True):
        if server.inside is None:
            parts.append(Part(here, choice.local if local else choice.cluster))
        elif server.purpose == "NodePort":
            parts.append(Part(here, choice.local, choice.cluster))
        else:
            parts.append(Part(here, choice.cluster))
            whole = (server.inside, None)
    if all((one.endpoints, one.inside) == whole for one in parts):
        return server
    guarded = local and (server.inside is None or server.purpose == "NodePort")
    parted = replace(server, parts=tuple(parts), guarded=guarded)
    return parted.at(server.address) if server.purpose == "NodePort" else parted


def _affinity(spec: Object) -> float | None:
    if spec.get("sessionAffinity") != "ClientIP":
        return None
    config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return float(config.get("timeoutSeconds") or DEFAULT_AFFINITY_SECONDS)


def _source_ranges(service: Object, address: str) -> tuple[str, ...]:
    """Those of the address's family, none of them within another: the kernel would take neither. Ranges of the other
    family alone bind nobody, as with kube-proxy, and neither does one of all addresses."""
    texts = service["spec"].get("loadBalancerSourceRanges") or ()
    given = [one for text in texts if (one := _network(text.strip())) is not None]
    found = [one for one in given if (one.version == 6) == (":" in address)]
    if not all(one.prefixlen for one in found):
        return ()
    return tuple(str(one) for one in ipaddress.collapse_addresses(found))  # type: ignore[type-var]


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """A range without the bits behind the prefix; None for what is none."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _addresses(service: Object, port: Object, node: NodeView) -> Iterator[tuple[Purpose, str, int]]:
    """Only addresses of the families that the Service has cluster IPs of are served."""
    spec = service["spec"]
    families = {":" in ip for ip in cluster_ips(service)}
    for ip in cluster_ips(service):
        yield "ClusterIP", ip, port["port"]
    for given in spec.get("externalIPs") or ():
        ip = canonical(given)
        if ip and (":" in ip) in families:
            yield "ExternalIP", ip, port["port"]
    if spec.get("type") == "LoadBalancer":
        for ingress in (service.get("status", {}).get("loadBalancer") or {}).get("ingress") or ():
            ip = canonical(ingress.get("ip") or "")
            if ip and (":" in ip) in families and ingress.get("ipMode") != "Proxy":
                yield "LoadBalancer", ip, port["port"]
    if spec.get("type") in ("NodePort", "LoadBalancer") and port.get("nodePort"):
        for ip in node.node_port_addresses:
            if (":" in ip) in families:
                yield "NodePort", ip, port["nodePort"]
