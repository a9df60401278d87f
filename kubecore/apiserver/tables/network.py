"""Tables of Services and what is behind and before them."""

from __future__ import annotations

from datetime import datetime

from kubecore.apiserver.tables.column import (
    AGE,
    NAME,
    Cell,
    Column,
    Field,
    KindTable,
    Object,
    at,
    labels_at,
    names_at,
    part,
    selector_at,
    shortened,
    wide,
)


def _balancer_addresses(obj: Object) -> list[str]:
    ingress = part(obj, "status", "loadBalancer", "ingress") or []
    return sorted({one.get("ip") or one.get("hostname") for one in ingress} - {None, ""})


def _external_ip(service: Object, _now: datetime) -> Cell:
    spec = service.get("spec", {})
    external = spec.get("externalIPs") or []
    match spec.get("type"):
        case "ClusterIP" | "NodePort":
            return ",".join(external) or "<none>"
        case "LoadBalancer":
            balancer = ",".join(_balancer_addresses(service))
            return ",".join([*([balancer] if balancer else []), *external]) or "<pending>"
        case "ExternalName":
            return str(spec.get("externalName", ""))
    return "<unknown>"


def _cluster_ip(service: Object, _now: datetime) -> Cell:
    ips = part(service, "spec", "clusterIPs")
    return str(ips[0]) if ips else "<none>"


def _service_ports(service: Object, _now: datetime) -> Cell:
    pieces = []
    for port in part(service, "spec", "ports") or []:
        node_port = f":{port['nodePort']}" if port.get("nodePort", 0) > 0 else ""
        pieces.append(f"{port.get('port', 0)}{node_port}/{port.get('protocol', '')}")
    return ",".join(pieces) or "<none>"


SERVICES = KindTable(
    (
        NAME,
        Column("Type", at("spec", "type"), Field("core.v1.ServiceSpec", "type")),
        Column("Cluster-IP", _cluster_ip, Field("core.v1.ServiceSpec", "clusterIP")),
        Column("External-IP", _external_ip, Field("core.v1.ServiceSpec", "externalIPs")),
        Column("Port(s)", _service_ports, Field("core.v1.ServiceSpec", "ports")),
        AGE,
        wide("Selector", labels_at("spec", "selector"), Field("core.v1.ServiceSpec", "selector")),
    )
)


def _host_port(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _endpoints(obj: Object, _now: datetime) -> Cell:
    subsets = obj.get("subsets") or []
    if not subsets:
        return "<none>"
    found: list[str] = []
    for subset in subsets:
        addresses = [address.get("ip", "") for address in subset.get("addresses") or []]
        ports = subset.get("ports") or []
        if not ports:
            # A headless service may have addresses without ports.
            found.extend(addresses)
        for port in ports:
            found.extend(_host_port(ip, port.get("port", 0)) for ip in addresses)
    return shortened(found)


ENDPOINTS = KindTable((NAME, Column("Endpoints", _endpoints, Field("core.v1.Endpoints", "subsets")), AGE))


def _slice_ports(obj: Object, _now: datetime) -> Cell:
    return shortened([str(port.get("port", port.get("name", "*"))) for port in obj.get("ports") or []], "<unset>")


def _slice_endpoints(obj: Object, _now: datetime) -> Cell:
    addresses = [address for endpoint in obj.get("endpoints") or [] for address in endpoint.get("addresses") or []]
    return shortened(addresses, "<unset>")


ENDPOINT_SLICES = KindTable(
    (
        NAME,
        Column(
            "AddressType",
            at("addressType"),
            (
                "addressType specifies the type of address carried by this EndpointSlice. All addresses in this "
                "slice must be the same type. This field is immutable after creation. The following address "
                "types are currently supported: * IPv4: Represents an IPv4 Address. * IPv6: Represents an IPv6 "
                "Address. * FQDN: Represents a Fully Qualified Domain Name."
            ),
        ),
        Column(
            "Ports",
            _slice_ports,
            (
                "ports specifies the list of network ports exposed by each endpoint in this slice. Each port "
                "must have a unique name. When ports is empty, it indicates that there are no defined ports. "
                'When a port is defined with a nil port value, it indicates "all ports". Each slice may include '
                "a maximum of 100 ports."
            ),
        ),
        Column("Endpoints", _slice_endpoints, Field("discovery.v1.EndpointSlice", "endpoints")),
        AGE,
    )
)


_MOST_HOSTS = 3


def _hosts(ingress: Object, _now: datetime) -> Cell:
    """Up to three hosts; when there are rules behind the third, how many rules more than three there are."""
    rules = part(ingress, "spec", "rules") or []
    hosts = [(at, rule["host"]) for at, rule in enumerate(rules) if rule.get("host")][:_MOST_HOSTS]
    shown = ",".join(host for _, host in hosts) or "*"
    if len(hosts) == _MOST_HOSTS and hosts[-1][0] < len(rules) - 1:
        return f"{shown} + {len(rules) - _MOST_HOSTS} more..."
    return shown


INGRESSES = KindTable(
    (
        NAME,
        Column(
            "Class",
            at("spec", "ingressClassName", default="<none>"),
            ("The name of the IngressClass resource that should be used for additional configuration"),
        ),
        Column("Hosts", _hosts, "Hosts that incoming requests are matched against before the ingress rule"),
        Column(
            "Address",
            lambda obj, _: ",".join(_balancer_addresses(obj)),
            "Address is a list containing ingress points for the load-balancer",
        ),
        Column(
            "Ports",
            lambda obj, _: "80, 443" if part(obj, "spec", "tls") else "80",
            "Ports of TLS configurations that open",
        ),
        AGE,
    )
)


def _parameters(obj: Object, _now: datetime) -> Cell:
    parameters = part(obj, "spec", "parameters")
    if parameters is None:
        return "<none>"
    kind, group, name = parameters.get("kind", ""), parameters.get("apiGroup"), parameters.get("name", "")
    return f"{kind}/{name}" if group is None else f"{kind}.{group}/{name}"


INGRESS_CLASSES = KindTable(
    (
        NAME,
        Column("Controller", at("spec", "controller"), "Controller that is responsible for handling this class"),
        Column("Parameters", _parameters, "A reference to a resource with additional parameters"),
        AGE,
    )
)

NETWORK_POLICIES = KindTable(
    (
        NAME,
        Column(
            "Pod-Selector",
            selector_at("spec", "podSelector"),
            (
                "Selects the pods to which this NetworkPolicy object applies.  The array of ingress rules is "
                "applied to any pods selected by this field. Multiple network policies can select the same set "
                "of pods.  In this case, the ingress rules for each are combined additively. This field is NOT "
                "optional and follows standard label selector semantics. An empty podSelector matches all pods "
                "in this namespace."
            ),
        ),
        AGE,
    )
)

SERVICE_CIDRS = KindTable(
    (NAME, Column("CIDRs", names_at("spec", "cidrs"), Field("networking.v1.ServiceCIDRSpec", "cidrs")), AGE)
)


def _parent(obj: Object, _now: datetime) -> Cell:
    parent = part(obj, "spec", "parentRef")
    if parent is None:
        return "<none>"
    pieces = [parent.get("resource", "").lower()]
    if parent.get("group"):
        pieces[0] += f".{parent['group'].lower()}"
    if parent.get("namespace"):
        pieces.append(parent["namespace"])
    return "/".join([*pieces, parent.get("name", "")])


def _address_cells(obj: Object, now: datetime) -> list[Cell]:
    # Upstream gives the age, too, without a column for it.
    return [NAME.cell(obj, now), _parent(obj, now), AGE.cell(obj, now)]


IP_ADDRESSES = KindTable(
    (NAME, Column("ParentRef", _parent, Field("networking.v1.IPAddressSpec", "parentRef"))), _address_cells
)
