"""The Service kube-system/kube-dns: where the cluster finds its DNS, told as it truly is.

The responder listens at the Service's own address, without a hop through the service proxy, which only holds the
address for it (label `service.kubernetes.io/service-proxy-name`), and at an address of the node, which is the Service's
endpoint. Where port 53 cannot be had, the Service has the port that could be.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client
from kubecore.dns.resolvers import NAME, NAMESPACE
from kubecore.dns.responder import DNS_PORT, DnsResponder

log = logging.getLogger(__name__)

Object = dict[str, Any]

ACCOUNT = "coredns"
"""The service account that the bootstrap policy's role system:coredns is bound to."""
PROXY_NAME_LABEL, PROXY_NAME = "service.kubernetes.io/service-proxy-name", "kubecore-dns"
_SLICES = "endpointslices.discovery.k8s.io"
_LABELS = {
    "k8s-app": NAME,
    "kubernetes.io/cluster-service": "true",
    "kubernetes.io/name": "KubeDNS",
    PROXY_NAME_LABEL: PROXY_NAME,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """`addresses`: what kube-dns' cluster IPs should be, one of each family, the cluster's own first. `node_addresses`,
    `node_name`: the node it runs on; the addresses may not be there yet. `spare_ports` are tried in turn when port 53
    cannot be had; 0 picks a free one."""

    addresses: tuple[str, ...]
    node_addresses: tuple[str, ...]
    node_name: str
    spare_ports: Sequence[int] = (0,)


async def serve_cluster(client: Client, responder: DnsResponder, site: Site) -> tuple[str, ...]:
    """Listen at kube-dns' addresses and publish them. Returns the name servers for pods: none when they could not ask,
    since a resolv.conf cannot name a port.

    `client` must be allowed to write Services. A kube-dns with a selector is somebody else's: it is left alone, and
    pods ask it.
    """
    found = await _ensure_service(client, site.addresses)
    addresses = _addresses(found)
    if not addresses or found["spec"].get("selector"):
        log.info("Service %s/%s is not ours: pods ask %s", NAMESPACE, NAME, ", ".join(addresses) or "nobody")
        return addresses
    port = _listen(responder, [*addresses, *site.node_addresses], site.spare_ports)
    await asyncio.gather(
        _tell_port(client, found, port),
        *(_ensure(client, _SLICES, one) for one in endpoint_slices(site, port, owner=found)),
        _ensure(client, "endpoints", endpoints(site, port)),
        _ensure(client, "serviceaccounts", _object("v1", "ServiceAccount", {"name": ACCOUNT})),
    )
    return addresses if port == DNS_PORT else ()


def service(addresses: Sequence[str], *, families: int, port: int = DNS_PORT) -> Object:
    """Of so many families; where it has no `addresses`, the API server picks them."""
    spec: Object = {"type": "ClusterIP", "ports": _service_ports(port)}
    if families > 1:
        spec["ipFamilyPolicy"] = "PreferDualStack"
    if addresses:
        spec |= {"clusterIP": addresses[0], "clusterIPs": list(addresses)}
    return _object("v1", "Service", {"labels": dict(_LABELS)}, spec=spec)


def endpoint_slices(site: Site, port: int, *, owner: Object) -> list[Object]:
    """One for each family, of the Service `owner`, with which they go."""
    return [
        _endpoint_slice(
            site, address, port, owner=owner, name=NAME if index == 0 else f"{NAME}-{_family(address).lower()}"
        )
        for index, address in enumerate(site.node_addresses)
    ]


def _endpoint_slice(site: Site, address: str, port: int, *, owner: Object, name: str) -> Object:
    one: Object = {"addresses": [address], "conditions": {"ready": True, "serving": True}}
    if site.node_name:
        one["nodeName"] = site.node_name
    labels = {"kubernetes.io/service-name": NAME, "endpointslice.kubernetes.io/managed-by": PROXY_NAME}
    return _object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        {
            "name": name,
            "labels": labels,
            "ownerReferences": [meta.controller_reference(owner, "v1", "Service")],
        },
        addressType=_family(address),
        endpoints=[one],
        ports=[{"name": name, "protocol": protocol, "port": port} for name, protocol in _PORTS],
    )


def endpoints(site: Site, port: int) -> Object:
    """For those who still read Endpoints, which are of the first family; nobody is to make EndpointSlices of them."""
    address: Object = {"ip": site.node_addresses[0]}
    if site.node_name:
        address["nodeName"] = site.node_name
    ports = [{"name": name, "protocol": protocol, "port": port} for name, protocol in _PORTS]
    labels = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    return _object("v1", "Endpoints", {"labels": labels}, subsets=[{"addresses": [address], "ports": ports}])


_PORTS = (("dns", "UDP"), ("dns-tcp", "TCP"))


def _service_ports(port: int) -> list[Object]:
    return [{"name": name, "protocol": protocol, "port": port, "targetPort": port} for name, protocol in _PORTS]


def _object(version: str, kind: str, metadata: Object, **parts: Any) -> Object:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": NAME, "namespace": NAMESPACE, **metadata},
        **parts,
    }


def _listen(responder: DnsResponder, addresses: Sequence[str], spare_ports: Sequence[int]) -> int:
    """The port that could be had."""
    try:
        return responder.listen(addresses, DNS_PORT, ahead=True)
    except OSError as error:
        refused = error.strerror or str(error)
    for index, spare in enumerate(spare_ports):
        try:
            port = responder.listen(addresses, spare, ahead=True)
        except OSError:
            if index == len(spare_ports) - 1:
                raise
            continue
        log.warning(
            "%s; it answers at %s port %d instead, and Services are named in pods' /etc/hosts",
            refused,
            addresses[0],
            port,
        )
        return port
    raise OSError(refused)


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _addresses(found: Object) -> tuple[str, ...]:
    spec = found["spec"]
    return tuple(one for one in spec.get("clusterIPs") or [spec.get("clusterIP")] if one and one != "None")


async def _ensure_service(client: Client, addresses: tuple[str, ...]) -> Object:
    families = len(addresses)
    found = await client.find("services", NAME, NAMESPACE)
    if found is not None:
        return await _with_second_address(client, found, addresses)
    try:
        return await client.create("services", service(addresses, families=families))
    except StatusError as error:
        if error.code != 422:
            raise
        log.warning("kube-dns cannot have address %s: %s", " and ".join(addresses), error.message)
        return await client.create("services", service((), families=families))


async def _with_second_address(client: Client, found: Object, addresses: tuple[str, ...]) -> Object:
    """One of ours that is from before the cluster had a second family gets an address of it."""
    held = _addresses(found)
    if len(addresses) < 2 or len(held) != 1 or found["spec"].get("selector"):
        return found
    spec = {**found["spec"], "ipFamilyPolicy": "PreferDualStack", "clusterIPs": [held[0], addresses[1]]}
    try:
        return await client.update("services", {**found, "spec": spec})
    except StatusError as error:
        if error.code != 422:
            raise
        log.warning("kube-dns cannot have address %s: %s", addresses[1], error.message)
        return found


async def _tell_port(client: Client, found: Object, port: int) -> None:
    """A former run may have had another port."""
    told = [(one["port"], one.get("targetPort")) for one in found["spec"].get("ports") or ()]
    marked = meta.labels(found).get(PROXY_NAME_LABEL) == PROXY_NAME
    if marked and told == [(port, port)] * len(_PORTS):
        return
    changed = meta.deepcopy(found)
    changed["metadata"]["labels"] = {**meta.labels(found), PROXY_NAME_LABEL: PROXY_NAME}
    changed["spec"]["ports"] = _service_ports(port)
    await client.update("services", changed)


async def _ensure(client: Client, resource: str, wanted: Object) -> None:
    """Create an object of ours, or replace what it says."""
    try:
        await client.create(resource, wanted)
    except StatusError as error:
        if not errors.is_already_exists(error):
            raise
        if resource != "serviceaccounts":
            await client.update(resource, wanted)
