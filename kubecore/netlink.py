"""The few rtnetlink requests a node and its service proxy need, spoken over a raw socket.

pyroute2 would do, but importing it costs 0.6 s, more than half of the budget a whole cluster has to become ready.
Every call is one synchronous round trip to the kernel (microseconds), so it may be made from the event loop.

Source of the numbers: Linux `include/uapi/linux/{netlink,rtnetlink,if_link,if_addr,veth}.h`, man 7 rtnetlink.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ERROR, DONE = 2, 3
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
NESTED = 0x8000
_F_EXCL, _F_CREATE = 0x200, 0x400
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_NEWRULE, _DELRULE = 32, 33
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 10, 18, 28
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA, _VETH_PEER = 1, 2, 4, 5, 1
_BRPORT_MODE = 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO = 1, 2, 6
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 7, 15
_FRA_IIFNAME, _FRA_PRIORITY, _FRA_MARK, _FRA_TABLE, _FRA_IP_PROTO, _FR_TO_TABLE = 3, 6, 10, 15, 22, 1
_RTN_LOCAL, _RTN_THROW, _SCOPE_HOST, _LOOPBACK = 2, 9, 254, 1
_IFF_UP = 1
# An IPv6 address is used at once: nobody else on a link of ours can have it.
_IFA_F_NODAD = 0x02
_RT_TABLE_MAIN, _RT_TABLE_LOCAL, _RTPROT_BOOT, _SCOPE_UNIVERSE, _SCOPE_LINK, _RTN_UNICAST = 254, 255, 3, 0, 253, 1
# Of a rule, behind that of the main table (32766).
_AFTER_MAIN = 33_000
# Who has made a route; of those that nobody else is known to use.
_RTPROT_OURS = 107

_DISABLE_IPV6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")

HEADER = struct.Struct("=IHHII")
"""Of every message: length, type, flags, sequence number, port."""
_LINK = struct.Struct("=BBHiII")
_ADDRESS = struct.Struct("=BBBBI")
# How long an address is preferred and valid, and two times that the kernel keeps.
_LIFETIMES, _FOREVER = struct.Struct("=IIII"), 0xFFFFFFFF
_ROUTE = struct.Struct("=BBBBBBBBI")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """One address as it stands on a link: `index` of the link, address and prefix length."""

    index: int
    address: Interface


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", len(payload) + 4, kind) + payload + b"\0" * (-len(payload) % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def messages(channel: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    """(type, sequence number, payload) of what the kernel sends, without an end: whoever asked knows the last one."""
    while True:
        data = channel.recv(1 << 18)
        offset = 0
        while offset + HEADER.size <= len(data):
            length, kind, _, sequence, _ = HEADER.unpack_from(data, offset)
            yield kind, sequence, data[offset + HEADER.size : offset + length]
            offset += (length + 3) & ~3


def error_number(payload: bytes) -> int:
    """The errno in a message of type ERROR; 0 is an acknowledgement."""
    return -int(struct.unpack_from("=i", payload)[0])


def ipv6_trouble() -> str:
    """Why links of this host cannot have IPv6 addresses; "" if they can."""
    try:
        disabled = _DISABLE_IPV6.read_text().strip()
    except OSError:
        return "the kernel has no IPv6"
    return "" if disabled == "0" else "IPv6 is switched off (net.ipv6.conf.default.disable_ipv6)"


def _hardware(of: bytes) -> bytes:
    """An address of the kind that everybody may give himself."""
    return b"\x02" + hashlib.blake2b(of, digest_size=5).digest()


def _family(address: Address | Interface | Network) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


class Netlink:
    """A NETLINK_ROUTE socket. `descriptor` is one opened in another network namespace (it keeps belonging to it).

    Every method raises OSError with the kernel's errno; the `exists`/`missing` cases are the caller's to judge.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        else:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0, fileno=descriptor)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- links

    def add_bridge(self, name: str) -> None:
        """With a hardware address of its name. A bridge that was given none has that of one of its ports, and another
        when ports come and go, while those who have asked for it go on sending to the former one."""
        link = attribute(_IFLA_IFNAME, name.encode() + b"\0") + attribute(_IFLA_ADDRESS, _hardware(name.encode()))
        self._new_link(link + attribute(_IFLA_LINKINFO, attribute(_INFO_KIND, b"bridge\0")))

    def add_veth(self, name: str, *, peer: str, peer_namespace: int, address: Address | None = None) -> None:
        """A veth pair: `name` here, `peer` in the network namespace that the descriptor `peer_namespace` is of. Who is
        to have the `address` there has a hardware address of it, so that it is also found by those who have asked for
        one that had it before."""
        far = _LINK.pack(0, 0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, peer.encode() + b"\0")
        if address is not None:
            far += attribute(_IFLA_ADDRESS, _hardware(address.packed))
        far += attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_namespace))
        data = attribute(_INFO_DATA, attribute(_VETH_PEER, far))
        info = attribute(_INFO_KIND, b"veth\0") + data
        self._new_link(attribute(_IFLA_IFNAME, name.encode() + b"\0") + attribute(_IFLA_LINKINFO, info))

    def delete_link(self, name: str) -> None:
        """Raises OSError(ENODEV) when there is no such link."""
        body = _LINK.pack(0, 0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        self._request(_DELLINK, ACK, body)

    def link_index(self, name: str) -> int | None:
        body = _LINK.pack(0, 0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        try:
            replies = self._request(_GETLINK, 0, body)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return int(_LINK.unpack_from(replies[0])[3])

    def set_up(self, index: int) -> None:
        self._request(_NEWLINK, ACK, _LINK.pack(0, 0, 0, index, _IFF_UP, _IFF_UP))

    def set_master(self, index: int, master: int) -> None:
        body = _LINK.pack(0, 0, 0, index, 0, 0) + attribute(_IFLA_MASTER, struct.pack("=I", master))
        self._request(_NEWLINK, ACK, body)

    def reflect(self, index: int) -> None:
        """A port of a bridge may be sent what came from it: a pod that talks to itself by way of a Service."""
        mode = attribute(_INFO_SLAVE_DATA, attribute(_BRPORT_MODE, b"\1"))
        info = attribute(_INFO_SLAVE_KIND, b"bridge\0") + mode
        body = _LINK.pack(0, 0, 0, index, 0, 0) + attribute(_IFLA_LINKINFO, info)
        self._request(_NEWLINK, ACK, body)

    # ---- addresses and routes

    def add_address(self, index: int, address: Interface, *, preferred: bool = True) -> None:
        """Unless `preferred`, nobody connects from it who does not ask for it while there is another.

        Raises OSError(EEXIST) when the link has it already."""
        lifetimes = b"" if preferred else attribute(_IFA_CACHEINFO, _LIFETIMES.pack(0, _FOREVER, 0, 0))
        self._request(_NEWADDR, ACK | _F_CREATE | _F_EXCL, self._address(index, address) + lifetimes)

    def delete_address(self, index: int, address: Interface) -> None:
        self._request(_DELADDR, ACK, self._address(index, address))

    def addresses(self, family: int = socket.AF_INET) -> list[InterfaceAddress]:
        """All IPv4 (or IPv6) addresses of this namespace."""
        found = []
        for reply in self._request(_GETADDR, DUMP, _ADDRESS.pack(family, 0, 0, 0, 0)):
            _, prefix, _, _, index = _ADDRESS.unpack_from(reply)
            fields = dict(attributes(reply[_ADDRESS.size :]))
            raw = fields.get(_IFA_LOCAL) or fields.get(_IFA_ADDRESS)
            if raw:
                found.append(InterfaceAddress(index, ipaddress.ip_interface((raw, prefix))))
        return found

    def add_route(self, destination: Network, *, index: int, gateway: Address | None = None) -> None:
        """Raises OSError(EEXIST) when there is the same already."""
        scope = _SCOPE_LINK if gateway is None and destination.version == 4 else _SCOPE_UNIVERSE
        body = _ROUTE.pack(
            _family(destination), destination.prefixlen, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, scope, _RTN_UNICAST, 0
        )
        if destination.prefixlen:
            body += attribute(_RTA_DST, destination.network_address.packed)
        body += attribute(_RTA_OIF, struct.pack("=I", index))
        if gateway is not None:
            body += attribute(_RTA_GATEWAY, gateway.packed)
        self._request(_NEWROUTE, ACK | _F_CREATE, body)

    def add_local(self, index: int, address: Address) -> None:
        """The host takes what is for the address as its own, as if it stood on the link. The kernel goes through all
        addresses of a link to add one more, but not through routes. To bind one of IPv6, a socket needs IPV6_FREEBIND.
        Raises OSError(EEXIST) when that is so already."""
        self._request(_NEWROUTE, ACK | _F_CREATE | _F_EXCL, self._local(index, address))

    def delete_local(self, index: int, address: Address) -> None:
        """Undo `add_local`. Raises OSError(ESRCH) when there is nothing to undo."""
        self._request(_DELROUTE, ACK, self._local(index, address))

    def locals(self, index: int) -> list[Address]:
        """What `add_local`, of whatever process, has led to the link."""
        found: list[Address] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            asked = _ROUTE.pack(family, 0, 0, 0, _RT_TABLE_LOCAL, 0, 0, 0, 0)
            for reply in self._request(_GETROUTE, DUMP, asked):
                _, _, _, _, table, protocol, *_ = _ROUTE.unpack_from(reply)
                if (table, protocol) == (_RT_TABLE_LOCAL, _RTPROT_OURS):
                    fields = dict(attributes(reply[_ROUTE.size :]))
                    if struct.unpack("=I", fields[_RTA_OIF])[0] == index:
                        found.append(ipaddress.ip_address(fields[_RTA_DST]))
        return found

    @staticmethod
    def _local(index: int, address: Address) -> bytes:
        length, table = address.max_prefixlen, _RT_TABLE_LOCAL
        head = _ROUTE.pack(_family(address), length, 0, 0, table, _RTPROT_OURS, _SCOPE_HOST, _RTN_LOCAL, 0)
        return head + attribute(_RTA_DST, address.packed) + attribute(_RTA_OIF, struct.pack("=I", index))

    def keep_marked(self, mark: int, families: Sequence[int] = (socket.AF_INET, socket.AF_INET6)) -> None:
        """Packets with this mark are for the host itself, whatever their address. The routing table for it has the mark
        as its number."""
        table = attribute(_RTA_TABLE, struct.pack("=I", mark))
        for family in families:
            route = _ROUTE.pack(family, 0, 0, 0, 0, _RTPROT_BOOT, _SCOPE_HOST, _RTN_LOCAL, 0)
            to_itself = attribute(_RTA_OIF, struct.pack("=I", _LOOPBACK))
            with suppress(FileExistsError):
                self._request(_NEWROUTE, ACK | _F_CREATE | _F_EXCL, route + table + to_itself)
            with suppress(FileExistsError):
                self._request(_NEWRULE, ACK | _F_CREATE | _F_EXCL, self._marked(family, mark))

    def keep_own(self, source: Address, *, table: int, protocols: Iterable[int], but: Iterable[Network] = ()) -> None:
        """What programs of this namespace send to where no route leads is for the namespace itself, and comes from
        `source`, an address of it, unless it is for `but`. The routing table for it is of that number. Nothing is done
        twice."""
        family, number = _family(source), attribute(_RTA_TABLE, struct.pack("=I", table))
        new, own = ACK | _F_CREATE | _F_EXCL, _RTPROT_BOOT
        to_itself = attribute(_RTA_OIF, struct.pack("=I", _LOOPBACK)) + attribute(_RTA_PREFSRC, source.packed)
        route = _ROUTE.pack(family, 0, 0, 0, 0, own, _SCOPE_HOST, _RTN_LOCAL, 0) + number + to_itself
        asked = [(_NEWROUTE, route)]
        for one in but:
            head = _ROUTE.pack(family, one.prefixlen, 0, 0, 0, own, _SCOPE_UNIVERSE, _RTN_THROW, 0)
            asked.append((_NEWROUTE, head + number + attribute(_RTA_DST, one.network_address.packed)))
        sent_here = attribute(_FRA_IIFNAME, b"lo\0") + attribute(_FRA_PRIORITY, struct.pack("=I", _AFTER_MAIN))
        for protocol in protocols:
            head = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, _FR_TO_TABLE, 0)
            asked.append((_NEWRULE, head + sent_here + attribute(_FRA_IP_PROTO, bytes([protocol])) + number))
        for kind, body in asked:
            with suppress(FileExistsError):
                self._request(kind, new, body)

    def release_marked(self, mark: int) -> bool:
        """Undo `keep_marked`. False: there was nothing to undo."""
        found = False
        table = attribute(_RTA_TABLE, struct.pack("=I", mark))
        for family in (socket.AF_INET, socket.AF_INET6):
            with suppress(FileNotFoundError):
                while True:  # a killed run may have left one of its own
                    self._request(_DELRULE, ACK, self._marked(family, mark))
                    found = True
            with suppress(ProcessLookupError):
                route = _ROUTE.pack(family, 0, 0, 0, 0, _RTPROT_BOOT, _SCOPE_HOST, _RTN_LOCAL, 0)
                self._request(_DELROUTE, ACK, route + table)
        return found

    @staticmethod
    def _marked(family: int, mark: int) -> bytes:
        number = struct.pack("=I", mark)
        head = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, _FR_TO_TABLE, 0)
        return head + attribute(_FRA_MARK, number) + attribute(_FRA_TABLE, number)

    def routes(self, version: int = 4) -> list[Network]:
        """Destinations of the main routing table of IPv4 or IPv6, the default route among them as 0.0.0.0/0 or ::/0."""
        found: list[Network] = []
        family, size = (socket.AF_INET, 4) if version == 4 else (socket.AF_INET6, 16)
        request = _ROUTE.pack(family, 0, 0, 0, _RT_TABLE_MAIN, 0, 0, 0, 0)
        for reply in self._request(_GETROUTE, DUMP, request):
            kind, prefix, _, _, table, *_ = _ROUTE.unpack_from(reply)
            if kind == family and table == _RT_TABLE_MAIN:
                raw = dict(attributes(reply[_ROUTE.size :])).get(_RTA_DST, bytes(size))
                found.append(ipaddress.ip_network((raw, prefix), strict=False))
        return found

    # ---- the exchange

    def _new_link(self, attributes: bytes) -> None:
        body = _LINK.pack(0, 0, 0, 0, 0, 0) + attributes
        self._request(_NEWLINK, ACK | _F_CREATE | _F_EXCL, body)

    @staticmethod
    def _address(index: int, address: Interface) -> bytes:
        flags = _IFA_F_NODAD if address.version == 6 else 0
        head = _ADDRESS.pack(_family(address), address.network.prefixlen, flags, _SCOPE_UNIVERSE, index)
        packed = address.ip.packed
        return head + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)

    def _request(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        self._sequence += 1
        self._socket.send(HEADER.pack(HEADER.size + len(body), kind, flags | REQUEST, self._sequence, 0) + body)
        replies: list[bytes] = []
        for reply, sequence, payload in messages(self._socket):
            if sequence != self._sequence:
                continue  # the tail of an exchange that ended with an error
            if reply == DONE:
                break
            if reply == ERROR:
                if code := error_number(payload):
                    raise OSError(code, os.strerror(code))
                break
            replies.append(payload)
            if not flags:
                break
        return replies
