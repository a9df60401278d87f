"""How pods ping what is outside of a node's own network: ICMP echo over IPv4, beside `way_out`.

A packet socket in there is shown their requests, which nf_tables then drops (`way_out`). This process asks in their
place, by ping sockets (icmp(7)), and a raw socket says the answers inside in the name of who was asked. Few are carried
in a second: who pings would like to know whether somebody is there.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import ipaddress
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

from kubecore import _native, node_network
from kubecore.clock import Clock, Timer
from kubecore.node_network import NodeNetwork

_IPV4, _SO_ATTACH_FILTER, _FOR_US = 0x0800, 26, 0  # ETH_P_IP, PACKET_HOST
_HEADER, _ECHO_HEADER = struct.Struct("!BBHHHBBH4s4s"), struct.Struct("!BBHHH")
_REQUEST, _UNREACHABLE, _TIME_TO_LIVE = 8, 3, 64
_CODES = {errno.ENETUNREACH: 0, errno.EHOSTUNREACH: 1}
_LONGEST = 1 << 16
# So many in such a time: 200 a second.
_TOGETHER, _PAUSE_SECONDS = 10, 0.05
_MOST, _MOST_OF_ONE = 64, 16
_QUIET_SECONDS = 30.0

# Classic BPF (Linux `Documentation/networking/filter.rst`) of whole echo requests; a packet begins with IP's header.
_FILTER = (
    (0x30, 0, 0, 9),  # the protocol
    (0x15, 0, 6, socket.IPPROTO_ICMP),
    (0x28, 0, 0, 6),  # part of a packet
    (0x45, 4, 0, 0x3FFF),
    (0xB1, 0, 0, 0),  # the header's length
    (0x50, 0, 0, 0),  # ICMP's type
    (0x15, 0, 1, _REQUEST),
    (0x06, 0, 0, 0xFFFFFFFF),
    (0x06, 0, 0, 0),
)


def ping_socket() -> socket.socket:
    """Raises PermissionError where this user may not ping (`net.ipv4.ping_group_range`)."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)


class EchoSockets(NamedTuple):
    """In the network: what is shown requests, and what says answers."""

    requests: socket.socket
    answers: socket.socket

    @classmethod
    def within(cls, network: NodeNetwork) -> Self:
        """Raises OSError."""
        requests = _within(network, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_IPV4))
        try:
            _attach(requests)
            return cls(requests, _within(network, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
        except OSError:
            requests.close()
            raise

    def close(self) -> None:
        for one in self:
            one.close()


def echo_sockets(network: NodeNetwork) -> EchoSockets | None:
    """None where this user may not ping, or the kernel has no such sockets."""
    try:
        ping_socket().close()
        return EchoSockets.within(network)
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A client's series of requests."""

    client: str
    target: str
    number: int
    """Of the series, as the client tells them apart."""


@dataclass(slots=True)
class _Asking:
    socket: socket.socket
    end: Timer


class Echoes:
    """Of everybody in the network, while it runs; then the sockets are closed."""

    def __init__(self, sockets: EchoSockets, clock: Clock, *, ping: Callable[[], socket.socket] = ping_socket) -> None:
        self._clock, self._ping = clock, ping
        self._requests, self._answers = sockets
        # The quietest first.
        self._asking: dict[_Asked, _Asking] = {}
        self._left = _TOGETHER
        self._pause: Timer | None = None

    async def run(self) -> None:
        self._listen()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            if self._pause is not None:
                self._pause.cancel()
            asyncio.get_running_loop().remove_reader(self._requests)
            for asked in list(self._asking):
                self._forget(asked)
            self._requests.close()
            self._answers.close()

    def _listen(self) -> None:
        self._left, self._pause = _TOGETHER, None
        asyncio.get_running_loop().add_reader(self._requests, self._take)

    def _take(self) -> None:
        while self._left:
            try:
                packet, sender = self._requests.recvfrom(_LONGEST)
            except OSError:  # there are no more
                return
            self._left -= 1
            if self._pause is None:
                self._pause = self._clock.call_later(_PAUSE_SECONDS, self._listen)
            if sender[2] == _FOR_US:
                self._carry(packet)
        asyncio.get_running_loop().remove_reader(self._requests)

    def _carry(self, packet: bytes) -> None:
        length = (packet[0] & 0xF) * 4
        echo = packet[length : struct.unpack_from("!H", packet, 2)[0]]
        if len(echo) < _ECHO_HEADER.size:
            return
        client, target = (socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16))
        asked = _Asked(client, target, _ECHO_HEADER.unpack_from(echo)[3])
        if not (_native.is_elsewhere(client) and _is_outside(target)):
            return
        try:
            self._begin(asked).socket.send(echo)
        except OSError as error:
            if (code := _CODES.get(error.errno or 0)) is not None:
                about = bytes(4) + packet[: length + _ECHO_HEADER.size]
                self._say(asked, _UNREACHABLE, code, about)

    def _begin(self, asked: _Asked) -> _Asking:
        """Where there are too many, the one that has been quiet for longest makes room: most are over by then."""
        known = self._asking.pop(asked, None)
        if known is not None:
            known.end.cancel()
            known.end = self._end(asked)
            self._asking[asked] = known
            return known
        of_one = [one for one in self._asking if one.client == asked.client]
        if len(of_one) >= _MOST_OF_ONE:
            self._forget(of_one[0])
        elif len(self._asking) >= _MOST:
            self._forget(next(iter(self._asking)))
        made = self._ping()
        try:
            made.setblocking(False)
            made.connect((asked.target, 0))
        except OSError:
            made.close()
            raise
        self._asking[asked] = begun = _Asking(made, self._end(asked))
        asyncio.get_running_loop().add_reader(made, self._answer, asked, made)
        return begun

    def _end(self, asked: _Asked) -> Timer:
        return self._clock.call_later(_QUIET_SECONDS, lambda: self._forget(asked))

    def _answer(self, asked: _Asked, answering: socket.socket) -> None:
        try:
            echo = answering.recv(_LONGEST)
        except OSError:
            return
        kind, code, _, _, sequence = _ECHO_HEADER.unpack_from(echo)
        self._say(asked, kind, code, struct.pack("!HH", asked.number, sequence) + echo[_ECHO_HEADER.size :])

    def _say(self, asked: _Asked, kind: int, code: int, rest: bytes) -> None:
        """To the client, in the name of whom it asked."""
        message = bytes([kind, code]) + struct.pack("!H", _checksum(bytes([kind, code, 0, 0]) + rest)) + rest
        names = (socket.inet_aton(asked.target), socket.inet_aton(asked.client))
        # The kernel fills the rest of the header in (raw(7)).
        header = _HEADER.pack(0x45, 0, 0, 0, 0, _TIME_TO_LIVE, socket.IPPROTO_ICMP, 0, *names)
        try:
            self._answers.sendto(header + message, (asked.client, 0))
        except OSError:  # it is gone
            return

    def _forget(self, asked: _Asked) -> None:
        asking = self._asking.pop(asked)
        asking.end.cancel()
        asyncio.get_running_loop().remove_reader(asking.socket)
        asking.socket.close()


def _within(network: NodeNetwork, family: int, kind: int, protocol: int) -> socket.socket:
    flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    made = _native.socket_within(network.descriptors[1], family, kind | flags, protocol)
    return socket.socket(family, kind, protocol, fileno=made)


def _attach(requests: socket.socket) -> None:
    code = b"".join(struct.pack("=HBBI", *one) for one in _FILTER)
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(_FILTER), ctypes.addressof(held))
    requests.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _is_outside(target: str) -> bool:
    """To be reached by way of the host: not itself, nor a group, nor an address that a network of ours knows."""
    address = ipaddress.IPv4Address(target)
    itself = address.is_loopback or address.packed[0] == 0
    everybody = address.is_multicast or address.packed == b"\xff" * 4
    return not (itself or everybody or node_network.is_elsewhere(target))


def _checksum(message: bytes) -> int:
    """RFC 1071."""
    padded = message + bytes(len(message) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
