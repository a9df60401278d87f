"""Which pod network a cluster has, and which ranges of addresses: chosen once, kept beside its data."""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kubecore.whole_file import write_whole

if TYPE_CHECKING:
    from kubecore.cluster import ClusterConfig
    from kubecore.kubelet.networks.network import Detection
    from kubecore.kubelet.networks.range_claims import Claim
    from kubecore.node_network import NodeNetwork
    from kubecore.proxy.virtual_servers import NodeHere

Mode = Literal["netns", "rootless", "loopback"]
Ranges = tuple[str, ...]
"""One, or one of each family, the cluster's own first."""

# Of Services and pods in netns mode. The host routes them, so that a second cluster on the machine needs its own.
_NUMBERS = range(31)
_NODE_PREFIXES = {4: 24, 6: 64}
# Addresses that no packet can be led to from elsewhere (RFC 6890, RFC 5771, RFC 4291).
_SPECIAL = {
    "a host itself": ("0.0.0.0/8", "127.0.0.0/8", "::1/128"),
    "links": ("169.254.0.0/16", "fe80::/10"),
    "groups": ("224.0.0.0/4", "ff00::/8"),
}
_EVERYWHERE = {"IPv4": "0.0.0.0", "IPv6": "::"}
# In loopback mode without nodes nothing listens on them.
_ONLY_FAMILY = "IPv6 has a single loopback address"


def _service_range(number: int, family: str) -> str:
    return f"10.{96 + number}.0.0/16" if family == "IPv4" else f"fd00:10:{96 + number}::/112"


def _pod_range(number: int, family: str) -> str:
    part = 244 + number if number < 11 else 213 + number  # 244 to 254, then 224 to 243
    return f"10.{part}.0.0/16" if family == "IPv4" else f"fd00:10:{part}::/56"


# From the second octet of a range of Services to that of its load balancers: 127.96 → 127.97, 10.96 → 10.160; of IPv6
# from the third part of the address: fd00:10:96 → fd00:10:d6.
_LOOPBACK_STEP, _NETNS_STEP = 1, 64


@dataclass(frozen=True, slots=True)
class Networks:
    """The pod network mode and the ranges of Services and pods (in loopback mode the latter follow from the former).

    `claim` keeps other clusters of this host off the ranges; `reason` tells why the mode is no better, `left_out` why a
    family that was asked for is not there; `new`: they were not kept from an earlier start.
    """

    mode: Mode = "loopback"
    services: Ranges = ("127.96.0.0/21",)
    pods: Ranges = ()
    claim: Claim | None = None
    reason: str = ""
    left_out: str = ""
    new: bool = False
    node: NodeNetwork | None = None
    """Where pods have their namespaces, in mode rootless: known once the networks are held."""

    @property
    def families(self) -> tuple[str, ...]:
        return families_of(self.services)

    @property
    def load_balancers(self) -> Ranges:
        """The ranges that Services of type LoadBalancer get addresses from, one for each range of Services."""
        return tuple(self._load_balancers(ipaddress.ip_network(one)) for one in self.services)

    def _load_balancers(self, services: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
        packed = bytearray(services.network_address.packed)
        if services.version == 6:
            packed[5] = (packed[5] + _NETNS_STEP) % 256
            return f"{ipaddress.IPv6Address(bytes(packed))}/120"
        step = _LOOPBACK_STEP if self.mode == "loopback" else _NETNS_STEP
        return f"{packed[0]}.{(packed[1] + step) % 256}.{packed[2]}.0/24"

    def pods_of_node(self, index: int) -> Ranges:
        """Raises RangeError for a node too many."""
        if self.mode == "loopback":
            from kubecore.kubelet.networks import loopback_ranges

            return (loopback_ranges.pods_of(self.services[0], index),)
        return tuple(_part(one, index) for one in self.pods)

    def nodes_here(self, names: Iterable[str]) -> tuple[NodeHere, ...]:
        """What the proxy that all nodes share knows their connections by."""
        from kubecore.kubelet.networks.network import host_address
        from kubecore.proxy.virtual_servers import NodeHere

        ranges = ((name, self.pods_of_node(index)) for index, name in enumerate(names))
        return tuple(NodeHere(name, pods=pods, addresses=tuple(map(host_address, pods))) for name, pods in ranges)

    @property
    def node_ports_at(self) -> Ranges:
        """Where node ports are served: at all addresses of the host, and at the first node's where that has others."""
        own = self.pods_of_node(0) if self.mode == "rootless" else ()
        return (*map(_EVERYWHERE.__getitem__, self.families), *(str(ipaddress.ip_network(one)[1]) for one in own))

    @property
    def node_reached_at(self) -> str:
        """The first node's address, "" where the host does not know it."""
        from kubecore.kubelet.networks.network import host_address

        return "" if self.mode == "rootless" else host_address(self.pods_of_node(0)[0])

    def release(self) -> None:
        if self.claim is not None:
            self.claim.release()
        if self.node is not None:
            self.node.close()

    def __str__(self) -> str:
        from kubecore.kubelet.networks.network import MEANING

        because = f"; chosen because {self.reason}" if self.reason else ""
        without = f"; there is no IPv6: {self.left_out}" if self.left_out else ""
        if self.node is not None and self.node.no_way_out:
            without += f"; nothing leads out of it but to Services: {self.node.no_way_out}"
        return f"{self.mode}: {MEANING[self.mode]}{because}; Services have {' and '.join(self.services)}{without}"


def families_of(ranges: Sequence[str]) -> tuple[str, ...]:
    """As in ipFamilies."""
    return tuple("IPv6" if ":" in one else "IPv4" for one in ranges)


def _part(pods: str, index: int) -> str:
    """The range of a node's pods."""
    from kubecore.kubelet.networks.range_claims import RangeError

    network = ipaddress.ip_network(pods)
    parts = network.subnets(new_prefix=max(_NODE_PREFIXES[network.version], network.prefixlen))
    found = next(itertools.islice(parts, index, None), None)
    if found is None:
        raise RangeError(f"the range of pods {pods} has no room for one more node, number {index}")
    return str(found)


def choose_networks(config: ClusterConfig) -> Networks:
    """The ranges that the data directory was made with, else ones that are free on this host.

    They are kept: cluster IPs that were given away must stay inside their range over restarts; a second family may join
    a single one. New ones are claimed at once, kept ones by `hold_networks`. Raises PermissionError when what was asked
    for is not to be had, RangeError when there are no addresses left.
    """
    from kubecore import pod_network_choice

    kept = _kept(config)
    found = pod_network_choice.best(config, kept.mode if kept is not None else None)
    if found.mode == "rootless" and config.cri is not None:
        raise PermissionError(
            "pod network rootless is for kubecore's own runtimes; runtime cri has a network of its own"
        )
    chosen = _kept_networks(config, kept, found) if kept is not None else _new_networks(config, found)
    _judge(config, chosen)
    if kept is None or kept.services != chosen.services:
        _write(_file(config), chosen)
    return replace(chosen, reason=found.reason) if found.mode == chosen.mode != "netns" else chosen


def forget_networks(config: ClusterConfig, networks: Networks) -> None:
    """Nothing is to be kept of a start that has failed before anybody had an address, if it was the first one."""
    if networks.new:
        _file(config).unlink(missing_ok=True)


def _file(config: ClusterConfig) -> Path:
    return config.data_dir / "networks.json"


def _judge(config: ClusterConfig, chosen: Networks) -> None:
    """What was asked for must work. Raises PermissionError."""
    held = {"Services": chosen.services, "pods": chosen.pods}
    for what, ranges in held.items():
        if _overlap(ranges, config.load_balancer_ranges):
            asked = " and ".join(config.load_balancer_ranges)
            raise PermissionError(f"load balancers cannot have {asked}: {what} have {' and '.join(ranges)}")
    if chosen.mode == "loopback":
        return
    for what, ranges in {**held, "load balancers": config.load_balancer_ranges}.items():
        for one in ranges:
            for use, special in _SPECIAL.items():
                if _overlap((one,), special):
                    text = f"{what} cannot have {one} where pods have network namespaces"
                    raise PermissionError(f"{text}: {' and '.join(special)} are for {use}")


def _kept(config: ClusterConfig) -> Networks | None:
    """Those of an earlier start. Raises ValueError for a file that is damaged."""
    file = _file(config)
    if not file.exists():
        return None
    try:
        held = json.loads(file.read_bytes())
        services, pods = (tuple(one for one in held[what].split(",") if one) for what in ("services", "pods"))
        return Networks(held["mode"], services, pods)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        lost = "it tells which networks the cluster has; when it is removed they are chosen anew"
        raise ValueError(f"{file} is damaged: {lost}") from error


def _write(file: Path, chosen: Networks) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = {"mode": chosen.mode, "services": ",".join(chosen.services), "pods": ",".join(chosen.pods)}
    write_whole(file, json.dumps(kept).encode())


def _wanted_families(config: ClusterConfig) -> tuple[str, ...]:
    """() where nothing is said of them."""
    return families_of(config.service_cidrs or config.pod_cidrs) or config.ip_families


def _ipv6_trouble(config: ClusterConfig, mode: Mode, found: Detection) -> str:
    """Why the pods of this host cannot have IPv6; "" if they can, or if there are none."""
    from kubecore import netlink

    if not config.real_nodes:
        return ""
    if mode != "loopback":
        return netlink.ipv6_trouble()
    because = f", and network namespaces cannot be had: {found.reason}" if found.mode == "loopback" else ""
    return f"{_ONLY_FAMILY} only, which pods in loopback mode cannot share{because}"


# --- kept ones


def _kept_networks(config: ClusterConfig, kept: Networks, found: Detection) -> Networks:
    made = f"{config.data_dir} was made with pod network {kept.mode}"
    if config.network_mode not in ("auto", kept.mode):
        raise PermissionError(f"{made} and keeps it: use another data directory for {config.network_mode}")
    if kept.mode != "loopback" and found.mode != kept.mode:
        raise PermissionError(f"{made}, which cannot be had now: {found.reason}")
    wanted = _wanted_families(config)
    if len(wanted) == 2 and wanted[:1] == kept.families:
        trouble = _ipv6_trouble(config, kept.mode, found) if "IPv6" in wanted else ""
        if trouble:
            return replace(kept, left_out=trouble)
        kept = _with_second_family(config, kept, wanted[1])
    for what, asked, held in (("Services", config.service_cidrs, kept.services), ("pods", config.pod_cidrs, kept.pods)):
        if asked and asked != held:
            held_now = " and ".join(held) or "none"
            raise PermissionError(
                f"{config.data_dir} was made with {held_now} for {what} and keeps that: use another data directory for "
                f"{' and '.join(asked)}"
            )
    if config.ip_families and config.ip_families != kept.families:
        text = f"{config.data_dir} was made with {' and '.join(kept.families)} and keeps that"
        raise PermissionError(f"{text}: use another data directory for {' and '.join(config.ip_families)}")
    if "IPv6" in kept.families and (trouble := _ipv6_trouble(config, kept.mode, found)):
        raise PermissionError(f"{config.data_dir} was made with IPv6, which cannot be had now: {trouble}")
    return kept


def _with_second_family(config: ClusterConfig, kept: Networks, family: str) -> Networks:
    from kubecore.kubelet.networks import network

    other = kept.families[0]
    own = next((number for number in _NUMBERS if _service_range(number, other) == kept.services[0]), None)
    free = network.unrouted([make(number, family) for number in _NUMBERS for make in (_service_range, _pod_range)])
    order = sorted(_NUMBERS, key=lambda number: number != own)
    number = next((one for one in order if {_service_range(one, family), _pod_range(one, family)} <= free), order[0])
    services = config.service_cidrs[1:] or (_service_range(number, family),)
    pods = config.pod_cidrs[1:] or (_pod_range(number, family),)
    return replace(kept, services=kept.services + services, pods=kept.pods + pods if kept.pods else ())


# --- new ones


def _new_networks(config: ClusterConfig, found: Detection) -> Networks:
    from kubecore.kubelet.networks.range_claims import RangeError, claim_first

    asked = config.network_mode
    mode = found.mode if asked == "auto" else asked
    if mode == "netns" and found.mode != "netns":
        raise PermissionError(f"network namespaces for pods cannot be had: {found.reason}")
    if mode == "rootless" and found.mode != "rootless":
        raise PermissionError(f"pod network rootless cannot be had: {found.reason}")
    families, left_out = _wanted_families(config) or ("IPv4",), ""
    trouble = _ipv6_trouble(config, mode, found) if "IPv6" in families else ""
    if trouble and families == ("IPv6",):
        raise PermissionError(f"pods cannot have IPv6: {trouble}")
    if trouble:
        families, left_out = ("IPv4",), trouble
    candidates = _on_loopback(config, families) if mode == "loopback" else _in_namespaces(config, families)
    by_claim = {services[0]: (services, pods) for services, pods in candidates}
    try:
        claim = claim_first(list(by_claim)) if config.real_nodes else None
    except RangeError:
        if mode != "rootless":
            raise
        claim = None  # in a network of its own nobody meets those of others
    services, pods = by_claim[claim.network if claim is not None else next(iter(by_claim))]
    return Networks(mode, services, pods, claim, left_out=left_out, new=True)


def _numbers_of(config: ClusterConfig) -> list[int]:
    """All of them. Where a cluster looks first depends on its data directory, so that one which is started again seldom
    finds that another one has taken its addresses meanwhile."""
    first = hashlib.sha256(str(config.data_dir.absolute()).encode()).digest()[0] if config.real_nodes else 0
    return [(first + step) % len(_NUMBERS) for step in _NUMBERS]


def _in_namespaces(config: ClusterConfig, families: tuple[str, ...]) -> list[tuple[Ranges, Ranges]]:
    """Pairs of ranges, those that are free first."""
    from kubecore.kubelet.networks import network

    asked, asked_pods = _only(config.service_cidrs, families), _only(config.pod_cidrs, families)
    pairs = []
    for number in _numbers_of(config):
        services = asked or tuple(_service_range(number, family) for family in families)
        pods = asked_pods or tuple(_pod_range(number, family) for family in families)
        if not _overlap(services, pods):
            pairs.append((services, pods))
    free = network.unrouted({one for services, pods in pairs for one in (*services, *pods)})
    # A killed cluster's bridge keeps its pods' route, and with it the pair, until the cluster is started again.
    unrouted = [pair for pair in pairs if {*pair[0], *pair[1]} <= free]
    if not pairs:
        raise PermissionError(f"Services cannot have {' and '.join(asked)}, which pods have")
    return (unrouted or pairs)[:1] if asked else unrouted or pairs


def _on_loopback(config: ClusterConfig, families: tuple[str, ...]) -> list[tuple[Ranges, Ranges]]:
    from kubecore.kubelet.networks import loopback_ranges, network

    if config.pod_cidrs:
        raise PermissionError("pods have ranges of their own (--pod-cidr) only where they have network namespaces")
    asked = _only(config.service_cidrs, families)
    slots = loopback_ranges.all_services(network.bridge_name(config.data_dir))
    if asked and config.real_nodes and asked[0] not in slots:
        raise PermissionError(f"in loopback mode Services have one of the /21 of 127.96.0.0/16, not {asked[0]}")
    if asked:
        return [(asked, ())]
    others = {"IPv6": _service_range(0, "IPv6")}
    return [(tuple(others.get(family, slot) for family in families), ()) for slot in slots]


def _only(ranges: Ranges, families: tuple[str, ...]) -> Ranges:
    return tuple(one for one in ranges if families_of([one])[0] in families)


def _overlap(some: Ranges, others: Ranges) -> bool:
    pairs = ((ipaddress.ip_network(one), ipaddress.ip_network(other)) for one in some for other in others)
    return any(one.version == other.version and one.overlaps(other) for one, other in pairs)


# --- their claim


def hold_networks(config: ClusterConfig, networks: Networks) -> Networks:
    """With a claim, unless nothing will listen on the addresses. To be called once the data directory is surely ours,
    for whoever has that has its addresses, too. Raises RangeError when another cluster has them."""
    from kubecore.kubelet.networks.range_claims import Claim, RangeError

    if not config.real_nodes:
        return networks
    if networks.claim is None:
        try:
            networks = replace(networks, claim=Claim(networks.services[0]))
        except RangeError as error:
            if networks.mode == "rootless":  # in a network of its own nobody meets those of others
                return replace(networks, node=_node_network(config, networks))
            text = f"{error}, which {config.data_dir} was made with: end it, or use another data directory"
            raise RangeError(text) from error
    return replace(networks, node=_node_network(config, networks)) if networks.mode == "rootless" else networks


def _node_network(config: ClusterConfig, networks: Networks) -> NodeNetwork:
    """That which pods have gone on in, if there is one."""
    from kubecore import way_out
    from kubecore.kubelet.keeper.door import network_kept_at
    from kubecore.kubelet.networks.network import host_address
    from kubecore.node_network import NodeNetwork

    folders = sorted((config.data_dir / "nodes").glob("*"))
    found = next(filter(None, map(network_kept_at, folders)), None) or NodeNetwork.make()
    inside = (*networks.pods, *networks.services, *(config.load_balancer_ranges or networks.load_balancers))
    found.lead(inside)
    source = next((one for one in networks.pods_of_node(0) if ":" not in one), None)
    if source is None:
        found.no_way_out = "it takes IPv4"
    else:
        way_out.lead_out(found, inside, host_address(source))
    return found
