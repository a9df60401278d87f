"""nf_tables as netlink speaks it: elements, chains and rules of one table, changed together or not at all.

The text that `nft` takes would do, but it first reads what the kernel has and starts a process: a change costs 5 ms and
more instead of a tenth. pyroute2 takes 0.6 s to be imported, and a millisecond for every few elements.

Source of the numbers: Linux `include/uapi/linux/netfilter/{nf_tables,nfnetlink}.h`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable

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

NETLINK_NETFILTER = 12
_NFTABLES, _BATCH_BEGIN, _BATCH_END = 10, 0x10, 0x11
_NEWTABLE, _GETTABLE, _DELTABLE = 0, 1, 2
_NEWCHAIN, _NEWRULE, _NEWSETELEM, _DELSETELEM = 3, 6, 12, 14
_F_CREATE, _F_APPEND = 0x400, 0x800
_TABLE_NAME, _TABLE_FLAGS, _ASLEEP = 1, 2, 1
_INET = 1  # NFPROTO_INET
_PREROUTING = 0  # NF_INET_PRE_ROUTING
_SOL_SOCKET, _SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 1, 32, 33
_ROOM = 64 << 20
# An attribute's length has 16 bits.
_MOST_BYTES = 60_000

_FAMILY = struct.Struct("!BBH")
_NUMBER = struct.Struct("!I")

ACCEPT, DROP, JUMP, GOTO = 1, 0, -3, -4


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(parts))


def number(kind: int, value: int) -> bytes:
    return attribute(kind, _NUMBER.pack(value & 0xFFFFFFFF))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def value(data: bytes) -> bytes:
    """The content of NFTA_SET_ELEM_DATA and the like: plain bytes."""
    return attribute(1, data)


def verdict(code: int, chain: str = "") -> bytes:
    """The same for a verdict, with the chain it names."""
    return nested(2, number(1, code), text(2, chain) if chain else b"")


def element(key: bytes, data: bytes = b"", *, end: bytes = b"") -> bytes:
    """One of a set (no `data`) or of a map; `end` is a range's last key, `data` as `value` or `verdict` make it."""
    made = nested(1, attribute(1, key))
    if data:
        made += nested(2, data)
    if end:
        made += nested(10, attribute(1, end))
    return nested(1, made)


class Batch:
    """A transaction upon one inet table, in the order of its calls."""

    def __init__(self, table: str) -> None:
        self._table = text(1, table)
        self._messages: list[tuple[int, int, bytes]] = []

    def __len__(self) -> int:
        return len(self._messages)

    def make_table(self) -> None:
        """If there is none of its name."""
        self._messages.append((_NEWTABLE, _F_CREATE, self._table))

    def make_table_anew(self) -> None:
        """Without anything in it, whatever there was of its name."""
        self._messages += [(_NEWTABLE, _F_CREATE, self._table), (_DELTABLE, 0, self._table)]
        self._messages.append((_NEWTABLE, _F_CREATE, self._table))

    def wake_table(self) -> None:
        """Its chains are consulted from now on."""
        self._messages.append((_NEWTABLE, 0, self._table + number(_TABLE_FLAGS, 0)))

    def delete_table(self, name: str) -> None:
        """Another one."""
        self._messages.append((_DELTABLE, 0, text(1, name)))

    def add_chain(self, name: str, rules: Iterable[bytes]) -> None:
        """A chain without a hook; a rule is a sequence of expressions as `expressions` makes them."""
        self._add_chain(name, rules)

    def add_prerouting_chain(self, name: str, rules: Iterable[bytes], *, priority: int) -> None:
        """One that whatever comes in goes through before it is routed; what no rule judges goes on."""
        hook = nested(4, number(1, _PREROUTING), number(2, priority))
        self._add_chain(name, rules, hook + text(7, "filter"))

    def _add_chain(self, name: str, rules: Iterable[bytes], hook: bytes = b"") -> None:
        self._messages.append((_NEWCHAIN, _F_CREATE, self._table + text(3, name) + hook))
        for rule in rules:
            body = self._table + text(2, name) + nested(4, rule)
            self._messages.append((_NEWRULE, _F_CREATE | _F_APPEND, body))

    def add_elements(self, name: str, elements: Iterable[bytes]) -> None:
        self._elements(_NEWSETELEM, _F_CREATE, name, elements)

    def delete_elements(self, name: str, elements: Iterable[bytes]) -> None:
        self._elements(_DELSETELEM, 0, name, elements)

    def _elements(self, kind: int, flags: int, name: str, elements: Iterable[bytes]) -> None:
        head = self._table + text(2, name)
        part: list[bytes] = []
        size = 0
        for one in elements:
            if size + len(one) > _MOST_BYTES:
                self._messages.append((kind, flags, head + nested(3, *part)))
                part, size = [], 0
            part.append(one)
            size += len(one)
        if part:
            self._messages.append((kind, flags, head + nested(3, *part)))

    def encode(self, sequence: int) -> tuple[bytes, int]:
        """The bytes to send, and the sequence number of the message that is acknowledged."""
        begin = HEADER.pack(20, _BATCH_BEGIN, REQUEST, sequence, 0) + _FAMILY.pack(0, 0, _NFTABLES)
        parts = [begin]
        last = len(self._messages) - 1
        for index, (kind, flags, body) in enumerate(self._messages):
            sequence += 1
            flags |= REQUEST | (ACK if index == last else 0)
            parts.append(HEADER.pack(20 + len(body), _NFTABLES << 8 | kind, flags, sequence, 0))
            parts.append(_FAMILY.pack(_INET, 0, 0) + body)
        acknowledged = sequence
        parts.append(HEADER.pack(20, _BATCH_END, REQUEST, sequence + 1, 0) + _FAMILY.pack(0, 0, _NFTABLES))
        return b"".join(parts), acknowledged


class Connection:
    """A NETLINK_NETFILTER socket of this thread's network namespace, or of another (`descriptor`), for small
    transactions there. Raises OSError with the kernel's errno."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._sequence = 0
        if descriptor is not None:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER, fileno=descriptor)
            return
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        # A transaction is one message to the kernel, however many Services it speaks of.
        for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
            self._socket.setsockopt(_SOL_SOCKET, option, _ROOM)

    def close(self) -> None:
        self._socket.close()

    def table_is_awake(self, name: str) -> bool | None:
        """Whether its chains are consulted; None where there is no such table."""
        self._sequence += 1
        body = _FAMILY.pack(_INET, 0, 0) + text(1, name)
        head = HEADER.pack(HEADER.size + len(body), _NFTABLES << 8 | _GETTABLE, REQUEST, self._sequence, 0)
        self._socket.send(head + body)
        for kind, sequence, payload in messages(self._socket):
            if sequence != self._sequence:
                continue
            if kind == ERROR:
                code = error_number(payload)
                if code == errno.ENOENT:
                    return None
                raise OSError(code, os.strerror(code))
            (flags,) = _NUMBER.unpack(dict(attributes(payload[_FAMILY.size :])).get(_TABLE_FLAGS, bytes(4)))
            return not flags & _ASLEEP
        return None

    def tables(self) -> list[str]:
        """What there is of the family inet, whoever made it."""
        self._sequence += 1
        head = HEADER.pack(20, _NFTABLES << 8 | _GETTABLE, REQUEST | DUMP, self._sequence, 0)
        self._socket.send(head + _FAMILY.pack(_INET, 0, 0))
        found = []
        for kind, sequence, payload in messages(self._socket):
            if sequence != self._sequence:
                continue
            if kind == DONE:
                break
            if kind == ERROR:
                code = error_number(payload)
                raise OSError(code, os.strerror(code))
            found.append(dict(attributes(payload[_FAMILY.size :]))[_TABLE_NAME].rstrip(b"\0").decode())
        return found

    def run(self, batch: Batch) -> None:
        """All of it is in effect when this returns, and nothing when it raises."""
        if not len(batch):
            return
        first = self._sequence + 1
        data, awaited = batch.encode(first)
        self._sequence = awaited + 1
        self._socket.send(data)
        code = 0
        for kind, sequence, payload in messages(self._socket):
            if kind == ERROR and first <= sequence <= awaited:
                code = code or error_number(payload)
                # A batch that is refused as a whole is answered at its beginning alone.
                if sequence in (first, awaited):
                    break
        if code:
            raise OSError(code, f"nf_tables: {os.strerror(code)}")
