"""Chains that pick an endpoint: one for each number of endpoints, not one for each Service.

A chain for n endpoints throws a number below n and looks up who has that slot of the packet's address and port. With
session affinity the slot says which member of the Service has it; the client's member is remembered, in the packet's
mark for as long as the packet is on its way through the table, and in `clients` for as long as the affinity lasts.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubecore.proxy.nftables import expressions as e

MASQUERADE_MARK = 0x4000
"""As kube-proxy's --iptables-masquerade-bit: what bears it is masqueraded and loses it."""
MEMBER_MARK, MEMBER_MASK = 0x6B600000, 0xFFF00000
"""A mark of this form names a member; the bits below are its number and, maybe, MASQUERADE_MARK."""
REFUSED_MARK = 0x6B700000
"""Of a packet that the host sends to itself, to be refused when it has arrived."""
MEMBERS = 1 << 19
OUTSIDE_SLOTS = 1 << 20
"""From here on are the slots for connections from outside, where those from inside have others."""
_SPARE = 8
"""A register that no key reaches before a slot is known."""


def prefix(node: int | None, *, by_port: bool = False) -> str:
    """What the names of maps begin with that are for ports, whatever the address, or for one of several nodes."""
    return ("port-" if by_port else "") + ("" if node is None else f"node{node}-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """How an endpoint is picked among `count` for address family `version` (4 or 6).

    `by_port`: the slots are those of a port, whatever the address. `node`: they are those of one of several nodes, by
    its number. `sticky_seconds`: for that long a client keeps its
    endpoint, 0: not at all. `by_source`: the client's address decides."""

    version: int
    count: int
    by_port: bool = False
    node: int | None = None
    outside: bool = False
    masquerade: bool = False
    sticky_seconds: int = 0
    by_source: bool = False

    @property
    def name(self) -> str:
        """Of the chain."""
        parts = [f"pick{self.version}", str(self.count)]
        parts += ["port"] if self.by_port else []
        parts += [] if self.node is None else [f"node{self.node}"]
        parts += ["outside"] if self.outside else []
        parts += ["source"] if self.by_source else []
        parts += [f"sticky-{self.sticky_seconds}"] if self.sticky_seconds else []
        parts += ["masquerade"] if self.masquerade else []
        return "-".join(parts)

    def rules(self) -> list[bytes]:
        if not self.sticky_seconds:
            mark = [e.mark_bit(MASQUERADE_MARK)] if self.masquerade else []
            slot = e.only_family(self.version) + self._where(0) + self._number(to=self._length)
            return [*mark, slot + self._rewrite("slots")]
        size = 1 if self.version == 4 else 4
        client = e.only_family(self.version) + e.source(self.version, to=0) + self._where(size)
        after = size + self._length
        known = client + e.look_up(self._map("clients"), key=0, to=0) + e.set_mark(0)
        pick = e.only_family(self.version) + self._where(0) + self._number(to=self._length)
        pick += e.look_up(self._map("turns"), key=0, to=0) + e.set_mark(0)
        keep = client + e.mark(to=after)
        remember = keep + e.remember(self._map("clients"), key=0, data=after, seconds=self.sticky_seconds)
        forget = keep + e.forget(self._map("clients"), key=0, data=after)
        go = e.only_family(self.version) + self._where(0) + e.mark(to=self._length) + self._rewrite("members")
        unknown = e.mark_is_not(MEMBER_MARK, MEMBER_MASK)
        # one who is remembered with a member that is gone gets past the first `go`
        return [known, unknown + pick, remember, go, forget, pick, remember, go]

    @property
    def _length(self) -> int:
        """Of what `_where` puts into registers."""
        return 2 if self.by_port else (3 if self.version == 4 else 6)

    def _where(self, register: int) -> bytes:
        """What the packet is sent to."""
        loaded = b"" if self.by_port else e.destination(self.version, to=register)
        after = register + self._length
        return loaded + e.protocol(to=after - 2) + e.destination_port(to=after - 1)

    def _number(self, *, to: int) -> bytes:
        offset = OUTSIDE_SLOTS if self.outside else 0
        if not self.by_source:
            return e.random_number(self.count, offset, to=to)
        length = 4 if self.version == 4 else 16
        return e.source(self.version, to=_SPARE) + e.hash_of(_SPARE, length, self.count, offset, to=to)

    def _rewrite(self, name: str) -> bytes:
        found = e.look_up(self._map(name), key=0, to=0)
        return found + e.rewrite_destination(self.version, address=0, port=1 if self.version == 4 else 4)

    def _map(self, name: str) -> str:
        return f"{prefix(self.node, by_port=self.by_port)}{name}{self.version}"
