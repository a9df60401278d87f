"""Whose connections to a virtual server are led to other endpoints than its own: pure functions.

Its own are for clients from outside, and for all who may be any node's. Those from inside, where these differ, and each
of several nodes have groups of endpoints besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from kubecore.api.endpoint_choice import Endpoint
from kubecore.proxy.virtual_servers import Part, VirtualServer


class Group(NamedTuple):
    """Clients who have endpoints of their own: of one of the nodes, by its number among `parts`, or of any of them."""

    node: int | None
    inside: bool


INSIDE = Group(None, True)


@dataclass(frozen=True, slots=True)
class Rule:
    """`clients` ("all", "inside", or those of these ranges), where they come to one of the addresses `targets` (none:
    to whichever), are of this group; None: led to the server's own endpoints."""

    clients: Literal["all", "inside"] | tuple[str, ...]
    targets: tuple[str, ...]
    group: Group | None


def rules(server: VirtualServer) -> Iterator[Rule]:
    """In the order in which they are to be asked; the first one that fits counts."""
    inside = None if server.inside is None else INSIDE
    if server.purpose == "NodePort":
        for number, part in enumerate(server.parts):
            if part.node.addresses:
                if part.inside is not None:
                    yield Rule("inside", part.node.addresses, _group(server, part, number, inside=True))
                yield Rule("all", part.node.addresses, _group(server, part, number, inside=False))
    # what has a node's own address is the host's, which is all of them
    hosts = tuple(address for part in server.parts for address in part.node.addresses)
    if hosts:
        yield Rule(hosts, (), inside)
    for number, part in enumerate(server.parts):
        if part.node.pods:
            yield Rule(part.node.pods, (), _group(server, part, number, inside=part.inside is not None))
    if inside is not None:
        yield Rule("inside", (), inside)


def endpoints_of(server: VirtualServer, asked: Sequence[Rule]) -> dict[Group, tuple[Endpoint, ...]]:
    """Of all groups that the rules speak of."""
    found: dict[Group, tuple[Endpoint, ...]] = {}
    for group in (one.group for one in asked):
        if group is not None:
            found[group] = _endpoints(server, group)
    return found


def _group(server: VirtualServer, part: Part, number: int, *, inside: bool) -> Group:
    """Without hints who is inside is led alike on all nodes."""
    return INSIDE if inside and part.inside == server.inside else Group(number, inside)


def _endpoints(server: VirtualServer, group: Group) -> tuple[Endpoint, ...]:
    if group.node is None:
        return server.inside or ()
    part = server.parts[group.node]
    return (part.inside if group.inside else part.endpoints) or ()
