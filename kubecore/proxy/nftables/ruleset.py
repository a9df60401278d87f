"""The table before it knows any Service: sets, maps and the chains that consult them, as text for `nft -f`.

A new connection takes one way through it, whatever the number of Services:

- `restricted` and `allowed`: who may connect to an address of a load balancer that does not take everybody.
- `services`: address, protocol, port → a verdict: `goto` a chain that picks among so many endpoints, to `originN` where
  inside and outside differ, to `nodesN` where several nodes do, to `refuse`, or drop.
- `slots`: address, protocol, port, slot → an endpoint's address and port. What a `pick` chain looks up.
- `clients`: client, address, protocol, port → its member of the Service, for as long as session affinity lasts; `turns`
  gives those who have none a member by slot, `members` a member's address and port.
- `ports`, `port-slots` and so on: the same for node ports, whatever the address; `node0-slots`, `port-node0-slots` and
  so on: for what comes from pods of the first of several nodes, or to its own address.

The number after each name is the address family's. Masqueraded is what comes from outside for an external address, what
endpoints send to themselves and what the node itself sends, be it to a node port of 127.0.0.1. There are none of ::1,
for nothing that has that address leaves the host.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kubecore.proxy.nftables.chains import MASQUERADE_MARK, MEMBER_MARK, MEMBER_MASK, REFUSED_MARK, prefix
from kubecore.proxy.virtual_servers import NodeHere

_CLIENTS = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the table is to know of its host.

    `pods`: ranges of the pods, which are not outside and whose address endpoints may see. `services`: ranges of cluster
    IPs, of which those without a Service lead nowhere. `link`: the pods' bridge, "" in loopback mode. `nodes`, if there
    are several of them: in the order in which virtual servers have them as parts.
    """

    table: str
    pods: Sequence[str] = ()
    services: Sequence[str] = ()
    link: str = ""
    nodes: Sequence[NodeHere] = ()


def ruleset(site: Site, *, asleep: bool = False) -> str:
    """Makes the table anew, in one transaction, whatever there was of that name. `asleep`: nothing asks it yet."""
    return "\n".join(
        [
            f"table inet {site.table} {{ }}",
            f"delete table inet {site.table}",
            f"table inet {site.table} {{",
            *(["flags dormant"] if asleep else []),
            *_sets(4, "ipv4_addr", site),
            *_sets(6, "ipv6_addr", site),
            "chain refuse { meta l4proto tcp reject with tcp reset; reject; }",
            *_refusal_of_ports(),
            *_dispatch(4, "ip", site),
            *_dispatch(6, "ip6", site),
            "chain services { meta nfproto vmap { ipv4 : goto services4, ipv6 : goto services6 }; }",
            "chain prerouting { type nat hook prerouting priority -100; jump services; }",
            "chain output { type nat hook output priority -100; jump services; }",
            *_leaving(4, "ip", of_family(4, site.pods)),
            *_leaving(6, "ip6", of_family(6, site.pods)),
            *_postrouting(),
            *_guards(site),
            "}\n",
        ]
    )


def of_family(version: int, ranges: Iterable[str]) -> list[str]:
    return [one for one in ranges if (":" in one) == (version == 6)]


def _sets(version: int, address: str, site: Site) -> list[str]:
    """By `type`, not `typeof`: `nft` would make nonsense of the latter when it reads it back (1.0.6). A slot is of type
    `mark`, which like it is a number of four bytes in the host's order."""
    port = "inet_proto . inet_service"
    what, endpoint = f"{address} . {port}", f"{address} . inet_service"
    remembering = f"flags dynamic, timeout; size {_CLIENTS}; timeout 3h;"
    made = []
    nodes = [None, *range(len(_several(site.nodes)))]
    for node, (by_port, where) in itertools.product(nodes, ((False, what), (True, port))):
        start = prefix(node, by_port=by_port)
        made += [
            f"map {start}inside{version} {{ type {where} : verdict; }}",
            f"map {start}outside{version} {{ type {where} : verdict; }}",
            f"map {start}slots{version} {{ type {where} . mark : {endpoint}; }}",
            f"map {start}turns{version} {{ type {where} . mark : mark; }}",
            f"map {start}members{version} {{ type {where} . mark : {endpoint}; }}",
            f"map {start}clients{version} {{ type {address} . {where} : mark; {remembering} }}",
        ]
    return [
        f"map services{version} {{ type {what} : verdict; }}",
        f"map ports{version} {{ type {port} : verdict; }}",
        *made,
        f"set addresses{version} {{ type {address}; }}",
        f"set loops{version} {{ type {address} . {address}; }}",
        *_restriction_sets(version, address),
        f"set pods{version} {{ type {address}; flags interval; {_elements(of_family(version, site.pods))} }}",
    ]


def _restriction_sets(version: int, address: str) -> list[str]:
    what = f"{address} . inet_proto . inet_service"
    return [
        f"set restricted{version} {{ type {what}; }}",
        f"set allowed{version} {{ type {what} . {address}; flags interval; }}",
    ]


def _restriction(version: int, family: str) -> str:
    what = f"{family} daddr . meta l4proto . th dport"
    return f"{what} @restricted{version} {what} . {family} saddr != @allowed{version} drop"


def beside_ipvs(site: Site) -> str:
    """A table for what IPVS does not ask before it carries a connection, or after. Connections that are there stay.

    - `restricted` and `allowed`: as above.
    - `inside`: what inside clients of an address go to instead, a virtual service that is found by this mark.
    - `silent`: who else comes is dropped.
    - `node0-inside`, `node0-silent` and so on: the same for pods of the first of several nodes, before these.
    - `loops`: what endpoints send to themselves is masqueraded, so that the answer comes back through IPVS.
    """
    new = "ct state new meta nfproto vmap { ipv4 : goto arriving4, ipv6 : goto arriving6 };"
    lines = [
        f"table inet {site.table} {{ }}",
        f"delete table inet {site.table}",
        f"table inet {site.table} {{",
        *_arriving(4, "ip", "ipv4_addr", site),
        *_arriving(6, "ip6", "ipv6_addr", site),
        f"chain prerouting {{ type filter hook prerouting priority -150; {new} }}",
        f"chain output {{ type filter hook output priority -150; {new} }}",
        "chain postrouting { type nat hook postrouting priority 100; "
        "ip saddr . ip daddr @loops4 masquerade; ip6 saddr . ip6 daddr @loops6 masquerade; }",
        "}\n",
    ]
    return "\n".join(lines)


def _arriving(version: int, family: str, address: str, site: Site) -> list[str]:
    what = f"{family} daddr . meta l4proto . th dport"
    rules = [
        f"{family} saddr @pods{version} meta mark set {what} map @inside{version} return",
        f"fib saddr type local meta mark set {what} map @inside{version} return",
        f"{what} @silent{version} drop",
    ]
    numbers: list[int | None] = [None, *range(len(_several(site.nodes)))]
    sets, chains = [], [f"chain any{version} {{ {'; '.join(rules)}; }}"]
    for start in map(prefix, numbers):
        sets += [
            f"map {start}inside{version} {{ type {address} . inet_proto . inet_service : mark; }}",
            f"set {start}silent{version} {{ type {address} . inet_proto . inet_service; }}",
        ]
    for start in map(prefix, numbers[1:]):
        mark, drop = f"meta mark set {what} map @{start}inside{version} return", f"{what} @{start}silent{version} drop"
        chains.append(f"chain {start}arriving{version} {{ {mark}; {drop}; goto any{version}; }}")
    first = [
        _restriction(version, family),
        *_by_source(version, family, site.nodes, f"{{}}arriving{version}", f"any{version}"),
    ]
    return [
        *_restriction_sets(version, address),
        f"set pods{version} {{ type {address}; flags interval; {_elements(of_family(version, site.pods))} }}",
        *sets,
        f"set loops{version} {{ type {address} . {address}; }}",
        *chains,
        f"chain arriving{version} {{ {'; '.join(first)}; }}",
    ]


def _several(nodes: Sequence[NodeHere]) -> Sequence[NodeHere]:
    """A single one is not told apart from anybody."""
    return nodes if len(nodes) > 1 else ()


def _by_source(version: int, family: str, nodes: Sequence[NodeHere], chain: str, otherwise: str) -> list[str]:
    """To the chain of the node whose pod it comes from, which is named after its prefix. What has a node's own address
    is the host's, which is all of them."""
    own = [address for one in _several(nodes) for address in of_family(version, one.addresses)]
    pods = [
        f"{one} : goto {chain.format(prefix(number))}"
        for number, node in enumerate(_several(nodes))
        for one in of_family(version, node.pods)
    ]
    found = [f"{family} saddr {{ {', '.join(own)} }} goto {otherwise}"] if own else []
    found += [f"{family} saddr vmap {{ {', '.join(pods)} }}"] if pods else []
    return [*found, f"goto {otherwise}"]


def _elements(members: list[str]) -> str:
    return f"elements = {{ {', '.join(members)} }};" if members else ""


def _dispatch(version: int, family: str, site: Site) -> list[str]:
    services = of_family(version, site.services)
    what = f"{family} daddr . meta l4proto . th dport"
    port = "meta l4proto . th dport"
    unknown = [f"{family} daddr {{ {', '.join(services)} }} fib daddr type != local drop"] if services else []
    rules = [
        _restriction(version, family),
        f"{what} vmap @services{version}",
        # a port that its Service has not
        f"{family} daddr @addresses{version} goto refuse",
        f"{'' if version == 4 else 'ip6 daddr != ::1 '}fib daddr type local {port} vmap @ports{version}",
        *unknown,
    ]
    return [
        *_origin(f"origin{version}", version, family, what, "inside", "outside"),
        *_origin(f"port-origin{version}", version, family, port, "port-inside", "port-outside"),
        *_nodes(version, family, site.nodes),
        f"chain services{version} {{ {'; '.join(rules)}; }}",
    ]


def _refusal_of_ports() -> list[str]:
    """What the host sends to a port of its own is refused when it arrives: on its way out, a packet of UDP would be an
    error of permission to who sends it. (One to a cluster IP has no other end, as with kube-proxy.)"""
    mark = f"{REFUSED_MARK:#x}"
    return [
        f"chain refuse-port {{ fib saddr type local meta l4proto udp meta mark set {mark} accept; goto refuse; }}",
        f"chain refused {{ type filter hook input priority 0; meta mark {mark} reject; }}",
    ]


def _origin(name: str, version: int, family: str, what: str, inside: str, outside: str) -> list[str]:
    """externalTrafficPolicy Local binds only who comes from outside; others come as through a load balancer."""
    rules = [
        f"{family} saddr @pods{version} {what} vmap @{inside}{version}",
        f"fib saddr type local {what} vmap @{inside}{version}",
        f"{what} vmap @{outside}{version}",
        "drop",
    ]
    return [f"chain {name} {{ {'; '.join(rules)}; }}"]


def _nodes(version: int, family: str, nodes: Sequence[NodeHere]) -> list[str]:
    """Whose of several nodes a connection is: its from whose pods it comes; at a node port, first of all, its to whose
    address it goes."""
    if not _several(nodes):
        return []
    what, port, chains = f"{family} daddr . meta l4proto . th dport", "meta l4proto . th dport", []
    targets = []
    for number, node in enumerate(nodes):
        mine, ports = prefix(number), prefix(number, by_port=True)
        chains.append(f"chain {mine}origin{version} {{ {what} vmap @{mine}outside{version}; drop; }}")
        chains += _origin(f"{ports}origin{version}", version, family, port, f"{ports}inside", f"{ports}outside")
        targets += [f"{one} : goto {ports}origin{version}" for one in of_family(version, node.addresses)]
    by_target = [f"{family} daddr vmap {{ {', '.join(targets)} }}"] if targets else []
    for start, first in (("", []), ("port-", by_target)):
        rules = [*first, *_by_source(version, family, nodes, f"{start}{{}}origin{version}", f"{start}origin{version}")]
        chains.append(f"chain {start}nodes{version} {{ {'; '.join(rules)}; }}")
    return chains


def _leaving(version: int, family: str, pods: list[str]) -> list[str]:
    """What goes to an endpoint of ours."""
    far = [f"ct original {family} daddr @addresses{version} {family} saddr != @pods{version} masquerade"]
    rules = [
        f"{family} daddr . {family} daddr != @loops{version} return",
        f"{family} saddr . {family} daddr @loops{version} masquerade",
        "fib saddr type local masquerade",
        *(far if pods else []),
    ]
    return [f"chain leaving{version} {{ {'; '.join(rules)}; }}"]


def _postrouting() -> list[str]:
    marked, member = f"{MASQUERADE_MARK:#x}", f"{MEMBER_MARK:#x}"
    both, mask = f"{MEMBER_MARK | MASQUERADE_MARK:#x}", f"{MEMBER_MASK | MASQUERADE_MARK:#x}"
    rules = [
        f"meta mark and {mask} == {both} meta mark set {marked}",
        f"meta mark and {MEMBER_MASK:#x} == {member} meta mark set 0",
        "oifname lo return",
        f"meta mark and {marked} == {marked} meta mark set meta mark xor {marked} masquerade fully-random",
        "ct status and dnat == 0 return",
        "meta nfproto vmap { ipv4 : goto leaving4, ipv6 : goto leaving6 }",
    ]
    return [f"chain postrouting {{ type nat hook postrouting priority 100; {'; '.join(rules)}; }}"]


def _guards(site: Site) -> list[str]:
    """Answers to a pod must come back through the host, so that no pod is to learn of a shorter way. And what only
    listens on 127.0.0.1 stays out of pods' reach, though the link may route to it for the sake of endpoints there."""
    if not site.link:
        return []
    return [
        "chain redirects { type filter hook output priority 0; "
        f'oifname "{site.link}" icmp type redirect drop; oifname "{site.link}" icmpv6 type nd-redirect drop; }}',
        "chain loopback { type filter hook input priority 0; "
        f'iifname "{site.link}" ip daddr 127.0.0.0/8 ct status and dnat == 0 drop; }}',
    ]
