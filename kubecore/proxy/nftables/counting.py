"""How many connections each endpoint has by way of each virtual server, from the kernel's list of all connections."""

from __future__ import annotations

from collections.abc import Iterable

from kubecore.api.endpoint_choice import Endpoint
from kubecore.proxy.conntrack import Flow
from kubecore.proxy.nftables.elements import EVERY_ADDRESS, PROTOCOLS
from kubecore.proxy.virtual_servers import VirtualServer

_CARRIED = ("packets_in", "packets_out", "bytes_in", "bytes_out")
_FIELDS = ("active", "inactive", *_CARRIED)


class Counted:
    """Packets and bytes are those of connections that are open; they are left out where the kernel does not count them:
    it has seen a packet of each connection that it knows."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        self._by_address: dict[tuple[int, Endpoint, Endpoint], list[int]] = {}
        self._by_port: dict[tuple[int, int, Endpoint], list[int]] = {}
        self._carried_is_known = True
        for flow in flows:
            if flow.destination == flow.virtual:
                continue
            numbers = (int(flow.established), int(not flow.established), *flow.packets, *flow.octets)
            one = self._by_address.setdefault((flow.protocol, flow.virtual, flow.destination), [0] * len(_FIELDS))
            other = self._by_port.setdefault((flow.protocol, flow.virtual[1], flow.destination), [0] * len(_FIELDS))
            self._carried_is_known &= sum(flow.packets) > 0
            for index, number in enumerate(numbers):
                one[index] += number
                other[index] += number

    def of(self, server: VirtualServer, endpoint: Endpoint) -> dict[str, int]:
        protocol = PROTOCOLS[server.protocol]
        if server.address in EVERY_ADDRESS:
            found = self._by_port.get((protocol, server.port, endpoint))
        else:
            found = self._by_address.get((protocol, (server.address, server.port), endpoint))
        told = dict(zip(_FIELDS, found or [0] * len(_FIELDS), strict=True))
        if not self._carried_is_known:
            for name in _CARRIED:
                del told[name]
        return {**told, "connections": told["active"] + told["inactive"]}
