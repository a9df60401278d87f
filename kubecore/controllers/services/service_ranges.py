"""Which ServiceCIDRs an address or a range lies in (kubernetes `pkg/api/servicecidr`)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from kubecore.api import meta
from kubecore.client.client import Object

SERVICE_CIDRS, IP_ADDRESSES = "servicecidrs.networking.k8s.io", "ipaddresses.networking.k8s.io"
MANAGED_BY, MANAGER = "ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io"
FAMILY = "ipaddress.kubernetes.io/ip-family"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def networks(cidr: Object) -> list[Network]:
    """The ranges of a ServiceCIDR; validation lets through no others."""
    return [ipaddress.ip_network(one, strict=False) for one in (cidr.get("spec") or {}).get("cidrs") or []]


def holds(network: Network, address: Address) -> bool:
    """Whether Services can have the address: not the network's own, nor the broadcast address of IPv4."""
    if address.version != network.version or address not in network:
        return False
    ends = {network.network_address, *([network.broadcast_address] if network.version == 4 else [])}
    return address not in ends


def containing_address(cidrs: Iterable[Object], address: Address) -> list[Object]:
    return [one for one in cidrs if any(holds(network, address) for network in networks(one))]


def containing_range(cidrs: Iterable[Object], wanted: Network) -> list[Object]:
    """Those with a range that is, or contains, the wanted one."""
    return [one for one in cidrs if any(_within(wanted, network) for network in networks(one))]


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def overlapping(cidrs: Iterable[Object], other: Object) -> list[str]:
    """Names of those that share addresses with another one."""
    wanted = networks(other)
    return [meta.name(one) for one in cidrs if any(_meet(held, wanted) for held in networks(one))]


def _meet(network: Network, others: Iterable[Network]) -> bool:
    return any(network.overlaps(one) for one in others if one.version == network.version)
