"""The table before it knows any Service: sets, maps and the chains that consult them, as text for `nft -f`.

A new connection takes one way through it, whatever the number of Services:

- `restricted` and `allowed`: who may connect to an address of a load balancer that does not take everybody.
- `services`: address, protocol, port → a verdict: `goto` a chain that picks among so many endpoints, to `originN` where
  inside and outside differ, to `refuse`, or drop.
- `slots`: address, protocol, port, slot → an endpoint's address and port. What a `pick` chain looks up.
- `clients`: client, address, protocol, port → its member of the Service, for as long as session affinity lasts; `turns`
  gives those who have none a member by slot, `members` a member's address and port.
- `ports`, `port-slots` and so on: the same for node ports, whatever the address.

The number after each name is the address family's. Masqueraded is what comes from outside for an external address, what
endpoints send to themselves and what the node itself sends, be it to a node port of 127.0.0.1. There are none of ::1,
for nothing that has that address leaves the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubecore.proxy.nftables.chains import MASQUERADE_MARK, MEMBER_MARK, MEMBER_MASK, REFUSED_MARK

_CLIENTS = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the table is to know of its host.

    `pods`: ranges of the pods, which are not outside and whose address endpoints may see. `services`: ranges of cluster
    IPs, of which those without a Service lead nowhere. `link`: the pods' bridge, "" in loopback mode.
    """

    table: str
    pods: Sequence[str] = ()
    services: Sequence[str] = ()
    link: str = ""


def ruleset(site: Site, *, asleep: bool = False) -> str:
    """Makes the table anew, in one transaction, whatever there was of that name. `asleep`: nothing asks it yet."""
    return "\n".join(
        [
            f"table inet {site.table} {{ }}",
            f"delete table inet {site.table}",
            f"table inet {site.table} {{",
            *(["flags dormant"] if asleep else []),
            *_sets(4, "ipv4_addr", [one for one in site.pods if ":" not in one]),
            *_sets(6, "ipv6_addr", [one for one in site.pods if ":" in one]),
            "chain refuse { meta l4proto tcp reject with tcp reset; reject; }",
            *_refusal_of_ports(),
            *_dispatch(4, "ip", [one for one in site.services if ":" not in one]),
            *_dispatch(6, "ip6", [one for one in site.services if ":" in one]),
            "chain services { meta nfproto vmap { ipv4 : goto services4, ipv6 : goto services6 }; }",
            "chain prerouting { type nat hook prerouting priority -100; jump services; }",
            "chain output { type nat hook output priority -100; jump services; }",
            *_leaving(4, "ip", [one for one in site.pods if ":" not in one]),
            *_leaving(6, "ip6", [one for one in site.pods if ":" in one]),
            *_postrouting(),
            *_guards(site),
            "}\n",
        ]
    )


def _sets(version: int, address: str, pods: list[str]) -> list[str]:
    """By `type`, not `typeof`: `nft` would make nonsense of the latter when it reads it back (1.0.6). A slot is of type
    `mark`, which like it is a number of four bytes in the host's order."""
    port = "inet_proto . inet_service"
    what, endpoint = f"{address} . {port}", f"{address} . inet_service"
    remembering = f"flags dynamic, timeout; size {_CLIENTS}; timeout 3h;"
    made = []
    for prefix, where in (("", what), ("port-", port)):
        made += [
            f"map {prefix}inside{version} {{ type {where} : verdict; }}",
            f"map {prefix}outside{version} {{ type {where} : verdict; }}",
            f"map {prefix}slots{version} {{ type {where} . mark : {endpoint}; }}",
            f"map {prefix}turns{version} {{ type {where} . mark : mark; }}",
            f"map {prefix}members{version} {{ type {where} . mark : {endpoint}; }}",
            f"map {prefix}clients{version} {{ type {address} . {where} : mark; {remembering} }}",
        ]
    return [
        f"map services{version} {{ type {what} : verdict; }}",
        f"map ports{version} {{ type {port} : verdict; }}",
        *made,
        f"set addresses{version} {{ type {address}; }}",
        f"set loops{version} {{ type {address} . {address}; }}",
        *_restriction_sets(version, address),
        f"set pods{version} {{ type {address}; flags interval; {_elements(pods)} }}",
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
    - `loops`: what endpoints send to themselves is masqueraded, so that the answer comes back through IPVS.
    """
    new = "ct state new meta nfproto vmap { ipv4 : goto arriving4, ipv6 : goto arriving6 };"
    lines = [
        f"table inet {site.table} {{ }}",
        f"delete table inet {site.table}",
        f"table inet {site.table} {{",
        *_arriving(4, "ip", "ipv4_addr", [one for one in site.pods if ":" not in one]),
        *_arriving(6, "ip6", "ipv6_addr", [one for one in site.pods if ":" in one]),
        f"chain prerouting {{ type filter hook prerouting priority -150; {new} }}",
        f"chain output {{ type filter hook output priority -150; {new} }}",
        "chain postrouting { type nat hook postrouting priority 100; "
        "ip saddr . ip daddr @loops4 masquerade; ip6 saddr . ip6 daddr @loops6 masquerade; }",
        "}\n",
    ]
    return "\n".join(lines)


def _arriving(version: int, family: str, address: str, pods: list[str]) -> list[str]:
    what = f"{family} daddr . meta l4proto . th dport"
    rules = [
        _restriction(version, family),
        f"{family} saddr @pods{version} meta mark set {what} map @inside{version} return",
        f"fib saddr type local meta mark set {what} map @inside{version} return",
        f"{what} @silent{version} drop",
    ]
    return [
        *_restriction_sets(version, address),
        f"set pods{version} {{ type {address}; flags interval; {_elements(pods)} }}",
        f"map inside{version} {{ type {address} . inet_proto . inet_service : mark; }}",
        f"set silent{version} {{ type {address} . inet_proto . inet_service; }}",
        f"set loops{version} {{ type {address} . {address}; }}",
        f"chain arriving{version} {{ {'; '.join(rules)}; }}",
    ]


def _elements(members: list[str]) -> str:
    return f"elements = {{ {', '.join(members)} }};" if members else ""


def _dispatch(version: int, family: str, services: list[str]) -> list[str]:
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
