"""Tables of Services and what is behind and before them."""

from __future__ import annotations

from datetime import datetime

from kubecore.apiserver.tables.column import (
    AGE,
    NAME,
    Cell,
    Column,
    KindTable,
    Object,
    at,
    labels_at,
    part,
    selector_at,
    wide,
)

_MOST_SHOWN = 3
# What kubectl shows of a load balancer's addresses before it cuts them off.
_LOAD_BALANCER_WIDTH = 16


def _balancer_addresses(obj: Object) -> list[str]:
    ingress = part(obj, "status", "loadBalancer", "ingress") or []
    return sorted({one.get("ip") or one.get("hostname") for one in ingress} - {None, ""})


def _clipped(text: str) -> str:
    return text if len(text) <= _LOAD_BALANCER_WIDTH else text[: _LOAD_BALANCER_WIDTH - 3] + "..."


def _external_ip(service: Object, _now: datetime) -> Cell:
    spec = service.get("spec", {})
    external = spec.get("externalIPs") or []
    match spec.get("type", "ClusterIP"):
        case "ClusterIP" | "NodePort":
            return ",".join(external) or "<none>"
        case "LoadBalancer":
            balancer = ",".join(_balancer_addresses(service))
            return ",".join([*([balancer] if balancer else []), *external]) or "<pending>"
        case "ExternalName":
            return str(spec.get("externalName", ""))
    return "<unknown>"


def _cluster_ip(service: Object, _now: datetime) -> Cell:
    spec = service.get("spec", {})
    ips = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return ips[0] or "<none>"


def _service_ports(service: Object, _now: datetime) -> Cell:
    pieces = []
    for port in part(service, "spec", "ports") or []:
        node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
        pieces.append(f"{port['port']}{node_port}/{port.get('protocol', 'TCP')}")
    return ",".join(pieces) or "<none>"


SERVICES = KindTable(
    (
        NAME,
        Column("Type", at("spec", "type"), "How the service is reached."),
        Column("Cluster-IP", _cluster_ip, "Its address within the cluster."),
        Column("External-IP", _external_ip, "Its addresses outside the cluster."),
        Column("Port(s)", _service_ports, "Its ports, each with its node port."),
        AGE,
        wide("Selector", labels_at("spec", "selector"), "Which pods answer."),
    )
)


def _host_port(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _shortened(items: list[str], separator: str = ",") -> str:
    shown = separator.join(items[:_MOST_SHOWN])
    return f"{shown} + {len(items) - _MOST_SHOWN} more..." if len(items) > _MOST_SHOWN else shown


def _endpoints(obj: Object, _now: datetime) -> Cell:
    subsets = obj.get("subsets") or []
    if not subsets:
        return "<none>"
    found: list[str] = []
    for subset in subsets:
        addresses = [address["ip"] for address in subset.get("addresses") or []]
        ports = subset.get("ports") or []
        if not ports:
            # A headless service may have addresses without ports.
            found.extend(addresses)
        for port in ports:
            found.extend(_host_port(ip, port["port"]) for ip in addresses)
    return _shortened(found)


ENDPOINTS = KindTable((NAME, Column("Endpoints", _endpoints, "Addresses and ports that are ready."), AGE))


def _slice_ports(obj: Object, _now: datetime) -> Cell:
    ports = obj.get("ports") or []
    if not ports:
        return "<unset>"
    texts = []
    for port in ports:
        if port.get("name") and port.get("port") is None:
            texts.append(port["name"])
        else:
            texts.append("*" if port.get("port") is None else str(port["port"]))
    return _shortened(texts)


def _slice_endpoints(obj: Object, _now: datetime) -> Cell:
    addresses = [address for endpoint in obj.get("endpoints") or [] for address in endpoint.get("addresses") or []]
    return _shortened(addresses) or "<unset>"


ENDPOINT_SLICES = KindTable(
    (
        NAME,
        Column("AddressType", at("addressType"), "IPv4, IPv6 or FQDN."),
        Column("Ports", _slice_ports, "Ports every endpoint of the slice has."),
        Column("Endpoints", _slice_endpoints, "Addresses in the slice."),
        AGE,
    )
)


def _hosts(ingress: Object, _now: datetime) -> Cell:
    hosts = [rule["host"] for rule in part(ingress, "spec", "rules") or [] if rule.get("host")]
    return _shortened(hosts) or "*"


INGRESSES = KindTable(
    (
        NAME,
        Column("Class", at("spec", "ingressClassName", default="<none>"), "The class that implements it."),
        Column("Hosts", _hosts, "Hosts whose requests are matched."),
        Column("Address", lambda obj, _: ",".join(_balancer_addresses(obj)), "Where its load balancer is reached."),
        Column("Ports", lambda obj, _: "80, 443" if part(obj, "spec", "tls") else "80", "Ports that are open."),
        AGE,
    )
)


def _parameters(obj: Object, _now: datetime) -> Cell:
    parameters = part(obj, "spec", "parameters")
    if not parameters:
        return "<none>"
    kind, group = parameters.get("kind", ""), parameters.get("apiGroup")
    return f"{kind}.{group}/{parameters.get('name')}" if group else f"{kind}/{parameters.get('name')}"


INGRESS_CLASSES = KindTable(
    (
        NAME,
        Column("Controller", at("spec", "controller"), "The controller that implements the class."),
        Column("Parameters", _parameters, "Where the controller finds more settings."),
        AGE,
    )
)

NETWORK_POLICIES = KindTable(
    (NAME, Column("Pod-Selector", selector_at("spec", "podSelector"), "Which pods it holds for."), AGE)
)

SERVICE_CIDRS = KindTable(
    (NAME, Column("CIDRs", lambda obj, _: ",".join(part(obj, "spec", "cidrs") or []), "Ranges of cluster IPs."), AGE)
)


def _parent(obj: Object, _now: datetime) -> Cell:
    parent = part(obj, "spec", "parentRef")
    if not parent:
        return "<none>"
    pieces = [parent.get("resource", "")]
    if parent.get("group"):
        pieces[0] += f".{parent['group']}"
    if parent.get("namespace"):
        pieces.append(parent["namespace"])
    return "/".join([*pieces, parent.get("name", "")])


IP_ADDRESSES = KindTable((NAME, Column("ParentRef", _parent, "What the address belongs to.")))
