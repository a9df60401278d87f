"""At which addresses of a host node ports work."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from kubecore.api.endpoint_choice import canonical
from kubecore.netlink import Netlink, ipv6_trouble


def addresses_in(ranges: Sequence[str]) -> tuple[str, ...]:
    """This host's addresses that are in one of these networks; a range of all addresses stands for itself.

    No range at all is everything that this host has."""
    if not ranges:
        return ("0.0.0.0",) if ipv6_trouble() else ("0.0.0.0", "::")
    networks = [ipaddress.ip_network(one) for one in ranges]
    found = [str(one.network_address) for one in networks if not one.prefixlen]
    families = {one.version for one in networks if not one.prefixlen}
    with Netlink() as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            for held in netlink.addresses(family):
                address = held.address.ip
                near = any(address in one for one in networks if one.version == address.version)
                if near and address.version not in families:
                    found.append(str(address))
    return tuple(dict.fromkeys(found))


def primary_of(node: Mapping[str, Any]) -> tuple[str, ...]:
    """The node's own address of each family, as its status tells: internal ones go before external ones."""
    told = (node.get("status") or {}).get("addresses") or ()
    found: dict[bool, str] = {}
    for kind in ("InternalIP", "ExternalIP"):
        for one in told:
            address = canonical(one["address"]) if one["type"] == kind else ""
            if address:
                found.setdefault(":" in address, address)
    return tuple(found.values())
