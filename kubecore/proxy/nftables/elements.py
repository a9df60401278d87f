"""The elements and chains that virtual servers need in the table: pure functions."""

from __future__ import annotations

import ipaddress
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from kubecore.api.endpoint_choice import Endpoint
from kubecore.proxy.nftables import messages
from kubecore.proxy.nftables.chains import MASQUERADE_MARK, MEMBER_MARK, MEMBERS, OUTSIDE_SLOTS, Pick, prefix
from kubecore.proxy.virtual_servers import Part, VirtualServer

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
EVERY_ADDRESS = ("0.0.0.0", "::")
LOOPS = ("loops4", "loops6")
_DROP = messages.verdict(messages.DROP)
_REFUSE = messages.verdict(messages.GOTO, "refuse")
_REFUSE_PORT = messages.verdict(messages.GOTO, "refuse-port")
_PORT = struct.Struct("!H2x")
_NUMBER = struct.Struct("=I")

Place = tuple[str, bytes]
"""(set or map, key)"""


@dataclass(slots=True)
class Elements:
    """`own` belong to one Service alone, `shared` may be wanted by several: place → data (b"" in a set). `ends` are the
    last keys of ranges. `chains` must be there before. `members` are the endpoints that clients are kept with."""

    own: dict[Place, bytes] = field(default_factory=dict)
    shared: set[Place] = field(default_factory=set)
    ends: dict[Place, bytes] = field(default_factory=dict)
    chains: set[Pick] = field(default_factory=set)
    members: set[Endpoint] = field(default_factory=set)


class Members:
    """A number for each endpoint that clients are kept with, the same for as long as any Service wants it. One that is
    free again rests as long as possible, for somebody may still remember it."""

    def __init__(self) -> None:
        self._numbers: dict[Endpoint, int] = {}
        self._holders: Counter[Endpoint] = Counter()
        self._used: set[int] = set()
        self._next = 0

    def number(self, endpoint: Endpoint) -> int:
        """Without the bit of MASQUERADE_MARK. Raises OverflowError when there is none left."""
        found = self._numbers.get(endpoint)
        if found is None:
            if len(self._used) >= MEMBERS:
                raise OverflowError(f"session affinity knows {MEMBERS} endpoints at most")
            while self._next in self._used:
                self._next = (self._next + 1) % MEMBERS
            found = self._numbers[endpoint] = self._next
            self._used.add(found)
            self._next = (found + 1) % MEMBERS
        low = found & (MASQUERADE_MARK - 1)
        return (found - low) * 2 + low

    def exchange(self, old: set[Endpoint], new: set[Endpoint]) -> None:
        """A Service had the old ones and has the new ones now."""
        self._holders.update(new)
        for endpoint in old:
            self._holders[endpoint] -= 1
            if not self._holders[endpoint]:
                del self._holders[endpoint]
                self._used.discard(self._numbers.pop(endpoint))


def elements_of(servers: Iterable[VirtualServer], members: Members) -> Elements:
    """Of one Service's servers."""
    found = Elements()
    for server in servers:
        _Server(server, found, members).put()
    return found


class _Server:
    def __init__(self, server: VirtualServer, found: Elements, members: Members) -> None:
        self._server = server
        self._found = found
        self._members = members
        self._version = 6 if ":" in server.address else 4
        self._by_port = server.purpose == "NodePort" and server.address in EVERY_ADDRESS
        self._key = _what(server) if self._by_port else key_of(server)

    def put(self) -> None:
        server, version = self._server, self._version
        main = f"ports{version}" if self._by_port else f"services{version}"
        if server.purpose == "ClusterIP":
            self._found.shared.add((f"addresses{version}", _packed(server.address)))
        self._restrict()
        if not server.anywhere:
            verdict = _REFUSE_PORT if server.purpose == "NodePort" else _REFUSE
        elif server.parts:
            verdict = messages.verdict(messages.GOTO, f"{prefix(None, by_port=self._by_port)}nodes{version}")
            inside = self._lead(server.inside, server.endpoints)
            for number, part in enumerate(server.parts):
                self._lead_node(number, part, inside)
        elif server.inside is None:
            verdict = self._pick(server.endpoints) if server.endpoints else _DROP
        else:
            verdict = messages.verdict(messages.GOTO, f"{prefix(None, by_port=self._by_port)}origin{version}")
            self._lead(server.inside, server.endpoints)
        self._found.own[main, self._key] = verdict

    def _lead_node(self, number: int, part: Part, inside_of_all: bytes) -> None:
        if not self._by_port:
            # who comes there is one of its pods
            self._lead(None, part.for_pods, number)
        elif part.inside is not None and part.inside == self._server.inside:
            self._put("inside", inside_of_all, number)
            self._lead(None, part.endpoints, number)
        else:
            self._lead(part.inside, part.endpoints, number)

    def _lead(
        self, inside: tuple[Endpoint, ...] | None, others: tuple[Endpoint, ...], node: int | None = None
    ) -> bytes:
        """Returns the verdict for who is inside; b"" where there is none."""
        verdict = self._pick(inside, node=node) if inside else b""
        self._put("inside", verdict, node)
        if others:
            self._put("outside", self._pick(others, node=node, outside=inside is not None), node)
        return verdict

    def _put(self, name: str, verdict: bytes, node: int | None) -> None:
        if verdict:
            self._found.own[f"{prefix(node, by_port=self._by_port)}{name}{self._version}", self._key] = verdict

    def _pick(self, endpoints: tuple[Endpoint, ...], *, node: int | None = None, outside: bool = False) -> bytes:
        """Gives each endpoint a slot; returns the verdict that picks one of them."""
        server, found, version = self._server, self._found, self._version
        pick = Pick(
            version=version,
            count=len(endpoints),
            by_port=self._by_port,
            node=node,
            outside=outside,
            masquerade=server.masquerade,
            sticky_seconds=int(server.affinity_seconds or 0),
            by_source=server.scheduler == "sh",
        )
        found.chains.add(pick)
        maps = prefix(node, by_port=self._by_port)
        slots = f"{maps}turns{version}" if pick.sticky_seconds else f"{maps}slots{version}"
        for slot, endpoint in enumerate(endpoints, OUTSIDE_SLOTS if outside else 0):
            packed = _packed(endpoint[0])
            found.shared.add(loop(endpoint))
            data = packed + _PORT.pack(endpoint[1])
            if pick.sticky_seconds:
                data = self._member(endpoint, data, f"{maps}members{version}")
            found.own[slots, self._key + _NUMBER.pack(slot)] = data
        return _goto(pick)

    def _member(self, endpoint: Endpoint, data: bytes, members: str) -> bytes:
        """The mark that stands for an endpoint, entered where its address is looked up by it."""
        self._found.members.add(endpoint)
        mark = MEMBER_MARK | self._members.number(endpoint)
        packed = _NUMBER.pack(mark | MASQUERADE_MARK if self._server.masquerade else mark)
        self._found.own[members, self._key + packed] = data
        return packed

    def _restrict(self) -> None:
        for place, end in restrictions(self._server):
            self._found.own[place] = b""
            if end:
                self._found.ends[place] = end


def restrictions(server: VirtualServer) -> Iterator[tuple[Place, bytes]]:
    """Elements that let its source ranges alone come to a server's address, with the last keys of ranges."""
    if not server.source_ranges:
        return
    version, key = 6 if ":" in server.address else 4, key_of(server)
    yield (f"restricted{version}", key), b""
    for text in server.source_ranges:
        network = ipaddress.ip_network(text)
        yield (f"allowed{version}", key + network.network_address.packed), key + network.broadcast_address.packed


def loop(endpoint: Endpoint) -> Place:
    """What the endpoint sends to itself."""
    packed = _packed(endpoint[0])
    return LOOPS[":" in endpoint[0]], packed + packed


def key_of(server: VirtualServer) -> bytes:
    """What a packet for it is sent to: address, protocol and port."""
    return _packed(server.address) + _what(server)


def _what(server: VirtualServer) -> bytes:
    return struct.pack("=B3x", PROTOCOLS[server.protocol]) + _PORT.pack(server.port)


def encode(place: Place, data: bytes, end: bytes = b"") -> bytes:
    """An element as the kernel takes it. Data of verdict maps is made by `messages.verdict` already."""
    if data and place[0].rstrip("46").endswith(("slots", "turns", "members")):
        data = messages.value(data)
    return messages.element(place[1], data, end=end)


@lru_cache(maxsize=65536)
def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


@lru_cache(maxsize=4096)
def _goto(pick: Pick) -> bytes:
    return messages.verdict(messages.GOTO, pick.name)
