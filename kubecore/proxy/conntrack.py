"""Connections as the kernel tracks them: to count them, and to end flows of UDP that lead to endpoints that are gone.

TCP ends by itself; a client that keeps sending UDP from one port would be led to a gone endpoint for good. (kubernetes
`pkg/proxy/conntrack/cleanup.go`. Numbers: Linux `nfnetlink_conntrack.h`, CTA_*.)
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from kubecore.netlink import (
    ACK,
    DONE,
    DUMP,
    ERROR,
    HEADER,
    NESTED,
    REQUEST,
    Netlink,
    attribute,
    attributes,
    error_number,
    messages,
)

_NETLINK_NETFILTER = 12
_CTNETLINK, _GET, _DELETE = 1, 1, 2
_ORIGINAL, _REPLY, _PROTOCOL_INFO, _COUNTERS_ORIGINAL, _COUNTERS_REPLY = 1, 2, 4, 9, 10
_FILTER, _FILTER_ORIGINAL, _BY_PROTOCOL = 25, 1, 1 << 3
_STATUS, _STATUS_MASK, _LED = 3, 26, 1 << 5
_ESTABLISHED = 3
_TCP, _UDP = 6, 17
_FAMILIES = (socket.AF_INET, socket.AF_INET6)

# Addresses, protocol and ports, each with its header, as the kernel writes them where there are ports; by length. There
# may be very many connections.
_PLAIN = {one.size: one for one in (struct.Struct(f"!4x4x{size}s4x{size}s4x4xB3x4xH2x4xH2x") for size in (4, 16))}

Endpoint = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection: who it was meant for, and who answers. `raw` names it to the kernel. Packets and bytes are zero
    where the kernel does not count them (`net.netfilter.nf_conntrack_acct`)."""

    protocol: int
    client: Endpoint
    virtual: Endpoint
    destination: Endpoint
    established: bool
    packets: tuple[int, int]
    octets: tuple[int, int]
    raw: bytes


def flows(protocol: int | None = None, *, led: bool = False) -> list[Flow]:
    """All of this network namespace; of protocols with ports, or of one of them. `led`: those alone that go elsewhere
    than they were meant to (of a kernel before 5.17: all). Raises OSError."""
    with _connect() as connection:
        return [
            flow
            for family in _FAMILIES
            for payload in _dump(connection, family, protocol, led)
            if (flow := _read(payload)) is not None and protocol in (None, flow.protocol)
        ]


Endpoints = Mapping[Endpoint, Collection[Endpoint]]
PortEndpoints = Mapping[int, Collection[Endpoint]]


def end_stale(virtual: Endpoints, ports: PortEndpoints) -> int:
    """End flows of UDP to these virtual addresses (or to these node ports at whichever address) that are answered by
    anybody but the endpoints given. Returns how many. Raises OSError."""
    with Netlink() as netlink:
        local = {str(one.address.ip) for family in _FAMILIES for one in netlink.addresses(family)}
    stale = [flow for flow in flows(_UDP) if _is_stale(flow, virtual, ports, local)]
    with _connect() as connection:
        for flow in stale:
            with suppress(FileNotFoundError):  # it has ended meanwhile
                _delete(connection, flow)
    return len(stale)


def _is_stale(flow: Flow, virtual: Endpoints, ports: PortEndpoints, local: Collection[str]) -> bool:
    endpoints = virtual.get(flow.virtual)
    if endpoints is None:
        endpoints = ports.get(flow.virtual[1])
        # somebody else's port of that number is none of ours
        elsewhere = flow.destination == flow.virtual and flow.virtual[0] not in local
        if endpoints is None or elsewhere:
            return False
    return flow.destination not in endpoints


def _connect() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)


def _request(family: int, kind: int, flags: int, body: bytes = b"") -> bytes:
    head = HEADER.pack(20 + len(body), _CTNETLINK << 8 | kind, REQUEST | flags, 1, 0)
    return head + struct.pack("!BBH", family, 0, 0) + body


def _dump(connection: socket.socket, family: int, protocol: int | None, led: bool) -> Iterator[bytes]:
    """A kernel before 5.8 does not heed the protocol."""
    wanted = b""
    if protocol is not None:
        tuple_ = attribute(2 | NESTED, attribute(1, bytes([protocol])))
        flags = attribute(_FILTER_ORIGINAL, struct.pack("=I", _BY_PROTOCOL))
        wanted = attribute(_ORIGINAL | NESTED, tuple_) + attribute(_FILTER | NESTED, flags)
    if led:
        wanted += b"".join(attribute(one, struct.pack("!I", _LED)) for one in (_STATUS, _STATUS_MASK))
    connection.send(_request(family, _GET, DUMP, wanted))
    for kind, payload in _replies(connection):
        if kind == DONE:
            return
        yield payload


def _delete(connection: socket.socket, flow: Flow) -> None:
    family = socket.AF_INET6 if ":" in flow.client[0] else socket.AF_INET
    connection.send(_request(family, _DELETE, ACK, attribute(_ORIGINAL | NESTED, flow.raw)))
    for _ in _replies(connection):
        return


def _replies(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    for kind, _, payload in messages(connection):
        if kind == ERROR and (code := error_number(payload)):
            raise OSError(code, os.strerror(code))
        yield kind, payload


def _read(payload: bytes) -> Flow | None:
    fields = dict(attributes(payload[4:]))
    original, reply = _tuple(fields.get(_ORIGINAL, b"")), _tuple(fields.get(_REPLY, b""))
    if original is None or reply is None:
        return None
    protocol, client, virtual = original
    _, destination, _ = reply
    there, back = _counters(fields.get(_COUNTERS_ORIGINAL)), _counters(fields.get(_COUNTERS_REPLY))
    return Flow(
        protocol,
        client,
        virtual,
        destination,
        established=protocol != _TCP or _tcp_state(fields.get(_PROTOCOL_INFO, b"")) == _ESTABLISHED,
        packets=(there[0], back[0]),
        octets=(there[1], back[1]),
        raw=fields[_ORIGINAL],
    )


def _tuple(data: bytes) -> tuple[int, Endpoint, Endpoint] | None:
    """(protocol, source, destination)"""
    plain = _PLAIN.get(len(data))
    if plain is not None:
        source, destination, protocol, from_port, to_port = plain.unpack_from(data)
        family = socket.AF_INET if len(source) == 4 else socket.AF_INET6
        here, there = socket.inet_ntop(family, source), socket.inet_ntop(family, destination)
        return protocol, (here, from_port), (there, to_port)
    fields = dict(attributes(data))
    addresses, proto = dict(attributes(fields.get(1, b""))), dict(attributes(fields.get(2, b"")))
    source, destination = addresses.get(1) or addresses.get(3), addresses.get(2) or addresses.get(4)
    if source is None or destination is None or 2 not in proto or 3 not in proto:
        return None
    return proto[1][0], _endpoint(source, proto[2]), _endpoint(destination, proto[3])


def _endpoint(address: bytes, port: bytes) -> Endpoint:
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address), int.from_bytes(port[:2], "big")


def _tcp_state(info: bytes) -> int:
    tcp = dict(attributes(dict(attributes(info)).get(1, b"")))
    return tcp[1][0] if 1 in tcp else 0


def _counters(data: bytes | None) -> tuple[int, int]:
    fields = dict(attributes(data or b""))
    packets, octets = fields.get(1, b""), fields.get(2, b"")
    return int.from_bytes(packets, "big"), int.from_bytes(octets, "big")
