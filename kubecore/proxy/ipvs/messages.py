"""IPVS as generic netlink speaks it: virtual services and their destinations, made, changed and listed.

(Linux `include/uapi/linux/ip_vs.h`, IPVS_CMD_* and IPVS_*_ATTR_*; `genetlink.h`. pyroute2 has the same, but takes 0.6 s
to be imported.)
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from kubecore.api.endpoint_choice import Endpoint
from kubecore.netlink import (
    ACK,
    DONE,
    DUMP,
    ERROR,
    HEADER,
    NESTED,
    REQUEST,
    attribute,
    attributes,
    error_number,
    messages,
)
from kubecore.proxy.data_plane import COUNTED
from kubecore.proxy.virtual_servers import ServerKey

_NETLINK_GENERIC, _CONTROL = 16, 16
_GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 3, 1, 2
_NEW_SERVICE, _SET_SERVICE, _DEL_SERVICE, _GET_SERVICE = 1, 2, 3, 4
_NEW_DEST, _SET_DEST, _DEL_DEST, _GET_DEST = 5, 6, 7, 8
_SERVICE, _DESTINATION = 1, 2
_PERSISTENT, _FALLBACK = 0x1, 0x8
_EVERY_FLAG = _PERSISTENT | _FALLBACK | 0x10
_PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
BY_MARK = "FWM"
"""Stands for the protocol of a virtual service that is found by firewall mark: the key's port is the mark, its address
one of the family."""
_NAMES = {number: name for name, number in _PROTOCOLS.items()}


@dataclass(frozen=True, slots=True)
class Service:
    """`persistence` in seconds, 0 without; `fallback`: hashing schedulers pass over destinations of weight 0."""

    key: ServerKey
    scheduler: str
    persistence: int
    fallback: bool


@dataclass(frozen=True, slots=True)
class Destination:
    """Counted by the kernel: connections since the start, packets and bytes in and out."""

    endpoint: Endpoint
    weight: int
    active: int
    inactive: int
    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Connection:
    """A NETLINK_GENERIC socket of this thread's network namespace. Raises OSError with the kernel's errno."""

    def __init__(self, channel: socket.socket | None = None) -> None:
        """FileNotFoundError: the kernel has no IPVS."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = channel or socket.socket(socket.AF_NETLINK, kind, _NETLINK_GENERIC)
        self._sequence = 0
        self._family = _CONTROL
        try:
            self._family = self._find_family()
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    # ------------------------------------------------------------------ services
    def add_service(self, service: Service) -> None:
        self._request(_NEW_SERVICE, ACK, attribute(_SERVICE | NESTED, _service(service)))

    def change_service(self, service: Service) -> None:
        self._request(_SET_SERVICE, ACK, attribute(_SERVICE | NESTED, _service(service)))

    def delete_service(self, key: ServerKey) -> None:
        """With its destinations."""
        self._request(_DEL_SERVICE, ACK, attribute(_SERVICE | NESTED, _key(key)))

    def services(self) -> dict[ServerKey, dict[str, int]]:
        """With what has been counted of each since it is there, by the names of `COUNTED`."""
        found: dict[ServerKey, dict[str, int]] = {}
        for reply in self._request(_GET_SERVICE, DUMP, b""):
            fields = dict(attributes(dict(attributes(reply))[_SERVICE]))
            if {1, 2, 3, 4} <= fields.keys():
                protocol = _NAMES.get(struct.unpack("=H", fields[2])[0], "")
                key = (protocol, _address(fields[3], fields[1]), struct.unpack("!H", fields[4])[0])
            elif {1, 5} <= fields.keys():
                six = struct.unpack("=H", fields[1])[0] == socket.AF_INET6
                key = (BY_MARK, "::" if six else "0.0.0.0", struct.unpack("=I", fields[5])[0])
            else:
                continue
            found[key] = _counted(fields)
        return found

    def has_service(self, key: ServerKey) -> bool:
        try:
            return bool(self._request(_GET_SERVICE, 0, attribute(_SERVICE | NESTED, _key(key))))
        except OSError as error:
            if missing(error):
                return False
            raise

    # ------------------------------------------------------------------ destinations
    def add_destination(self, key: ServerKey, endpoint: Endpoint, weight: int) -> None:
        self._request(_NEW_DEST, ACK, _both(key, endpoint, weight))

    def change_destination(self, key: ServerKey, endpoint: Endpoint, weight: int) -> None:
        self._request(_SET_DEST, ACK, _both(key, endpoint, weight))

    def delete_destination(self, key: ServerKey, endpoint: Endpoint) -> None:
        self._request(_DEL_DEST, ACK, _both(key, endpoint, 0))

    def destinations(self, key: ServerKey) -> list[Destination]:
        replies = self._request(_GET_DEST, DUMP, attribute(_SERVICE | NESTED, _key(key)))
        return [_read_destination(dict(attributes(reply))[_DESTINATION], key) for reply in replies]

    # ------------------------------------------------------------------ the exchange
    def _find_family(self) -> int:
        (reply,) = self._request(_GET_FAMILY, 0, attribute(_FAMILY_NAME, b"IPVS\0"))
        return int(struct.unpack("=H", dict(attributes(reply))[_FAMILY_ID])[0])

    def _request(self, command: int, flags: int, body: bytes) -> list[bytes]:
        self._sequence += 1
        head = HEADER.pack(20 + len(body), self._family, flags | REQUEST, self._sequence, 0)
        self._socket.send(head + struct.pack("=BBH", command, 1, 0) + body)
        replies: list[bytes] = []
        for kind, sequence, payload in messages(self._socket):
            if sequence != self._sequence:
                continue
            if kind == DONE:
                break
            if kind == ERROR:
                if code := error_number(payload):
                    raise OSError(code, os.strerror(code))
                break
            replies.append(payload[4:])
            if not flags:
                break
        return replies


def missing(error: OSError) -> bool:
    """Whether what was asked for is not there."""
    return error.errno in (errno.ENOENT, errno.ESRCH)


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed.ljust(16, b"\0")


def _address(data: bytes, family: bytes) -> str:
    six = struct.unpack("=H", family)[0] == socket.AF_INET6
    return str(ipaddress.ip_address(data[:16] if six else data[:4]))


def _key(key: ServerKey) -> bytes:
    protocol, address, port = key
    if protocol == BY_MARK:
        return attribute(1, struct.pack("=H", _family(address))) + attribute(5, struct.pack("=I", port))
    return (
        attribute(1, struct.pack("=H", _family(address)))
        + attribute(2, struct.pack("=H", _PROTOCOLS[protocol]))
        + attribute(3, _packed(address))
        + attribute(4, struct.pack("!H", port))
    )


def _service(service: Service) -> bytes:
    flags = (_PERSISTENT if service.persistence else 0) | (_FALLBACK if service.fallback else 0)
    # of one client: all bits of an IPv4 address, or the length of an IPv6 prefix
    one_client = 128 if ":" in service.key[1] else 0xFFFFFFFF
    return (
        _key(service.key)
        + attribute(6, service.scheduler.encode() + b"\0")
        + attribute(7, struct.pack("=II", flags, _EVERY_FLAG))
        + attribute(8, struct.pack("=I", service.persistence))
        + attribute(9, struct.pack("=I", one_client))
    )


def _both(key: ServerKey, endpoint: Endpoint, weight: int) -> bytes:
    address, port = endpoint
    masquerading = attribute(3, struct.pack("=I", 0))
    destination = (
        attribute(1, _packed(address))
        + attribute(2, struct.pack("!H", port))
        + masquerading
        + attribute(4, struct.pack("=I", weight))
        + attribute(5, struct.pack("=I", 0))
        + attribute(6, struct.pack("=I", 0))
        + attribute(11, struct.pack("=H", _family(address)))
    )
    return attribute(_SERVICE | NESTED, _key(key)) + attribute(_DESTINATION | NESTED, destination)


def _read_destination(data: bytes, key: ServerKey) -> Destination:
    fields = dict(attributes(data))
    family = fields.get(11, struct.pack("=H", _family(key[1])))

    def number(kind: int) -> int:
        return int(struct.unpack("=I", fields[kind])[0])

    endpoint = _address(fields[1], family), struct.unpack("!H", fields[2])[0]
    return Destination(endpoint, number(4), number(7), number(8), **_counted(fields))


def _counted(fields: Mapping[int, bytes]) -> dict[str, int]:
    """Of a service or a destination (IPVS_SVC_ATTR_STATS64, IPVS_DEST_ATTR_STATS64)."""
    numbers = {kind: struct.unpack("=Q", one)[0] for kind, one in attributes(fields.get(12, b"")) if len(one) == 8}
    return {name: numbers.get(kind, 0) for kind, name in enumerate(COUNTED, 1)}
