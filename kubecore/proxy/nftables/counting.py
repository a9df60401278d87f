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
        self._by_address: dict[tuple[int, Endpoint], dict[Endpoint, list[int]]] = {}
        self._by_port: dict[tuple[int, int], dict[Endpoint, list[int]]] = {}
        self._carried_is_known = True
        for flow in flows:
            if flow.destination == flow.virtual:
                continue
            numbers = (int(flow.established), int(not flow.established), *flow.packets, *flow.octets)
            self._carried_is_known &= sum(flow.packets) > 0
            for found in (
                self._by_address.setdefault((flow.protocol, flow.virtual), {}),
                self._by_port.setdefault((flow.protocol, flow.virtual[1]), {}),
            ):
                sums = found.setdefault(flow.destination, [0] * len(_FIELDS))
                for index, number in enumerate(numbers):
                    sums[index] += number

    def endpoints(self, server: VirtualServer) -> list[Endpoint]:
        """Those that open connections lead to, be it that nobody else is led there any more."""
        return [endpoint for endpoint, (active, *_) in self._found(server).items() if active]

    def of(self, server: VirtualServer, endpoint: Endpoint) -> dict[str, int]:
        found = self._found(server).get(endpoint)
        told = dict(zip(_FIELDS, found or [0] * len(_FIELDS), strict=True))
        if not self._carried_is_known:
            for name in _CARRIED:
                del told[name]
        return {**told, "connections": told["active"] + told["inactive"]}

    def _found(self, server: VirtualServer) -> dict[Endpoint, list[int]]:
        protocol = PROTOCOLS[server.protocol]
        if server.address in EVERY_ADDRESS:
            return self._by_port.get((protocol, server.port), {})
        return self._by_address.get((protocol, (server.address, server.port)), {})
