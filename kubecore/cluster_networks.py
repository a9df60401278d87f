"""Which pod network a cluster has, and which ranges of addresses: chosen once, kept beside its data."""

from __future__ import annotations

import ipaddress
import itertools
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from kubecore.whole_file import write_whole

if TYPE_CHECKING:
    from kubecore.cluster import ClusterConfig
    from kubecore.kubelet.network import Detection
    from kubecore.kubelet.range_claims import Claim

Mode = Literal["netns", "loopback"]

# Of Services and pods in netns mode. The host routes them, so that a second cluster on the machine needs its own.
NETWORK_PAIRS = {f"10.{96 + number}.0.0/16": f"10.{244 + number}.0.0/16" for number in range(11)}


# From the second octet of a range of Services to that of its load balancers: 127.96 → 127.97, 10.96 → 10.160.
_LOOPBACK_STEP, _NETNS_STEP = 1, 64


@dataclass(frozen=True, slots=True)
class Networks:
    """The pod network mode and the IPv4 ranges of Services and pods (in loopback mode the latter follow from the
    former). `claim` keeps other clusters of this host off the ranges; `reason` tells why the mode is no better."""

    mode: Mode = "loopback"
    services: str = "127.96.0.0/21"
    pods: str = ""
    claim: Claim | None = None
    reason: str = ""

    @property
    def load_balancers(self) -> str:
        """The range that Services of type LoadBalancer get addresses from, one for each range of Services."""
        first, second, third, _ = ipaddress.IPv4Network(self.services).network_address.packed
        if self.mode == "loopback":
            return f"{first}.{second + _LOOPBACK_STEP}.{third}.0/24"
        return f"{first}.{(second + _NETNS_STEP) % 256}.{third}.0/24"

    def pods_of_node(self, index: int) -> str:
        if self.mode == "loopback":
            from kubecore.kubelet import loopback_ranges

            return loopback_ranges.pods_of(self.services, index)
        return str(next(itertools.islice(ipaddress.ip_network(self.pods).subnets(new_prefix=24), index, None)))

    def __str__(self) -> str:
        from kubecore.kubelet.network import MEANING

        because = f" because {self.reason}" if self.reason else ""
        return f"{self.mode}: {MEANING[self.mode]}{because}; Services have {self.services}"


def choose_networks(config: ClusterConfig) -> Networks:
    """The ranges that the data directory was made with, else ones that are free on this host.

    They are kept: cluster IPs that were given away must stay inside their range over restarts. New ones are claimed at
    once, kept ones by `hold_networks`. Raises PermissionError when the directory's mode is not to be had, RangeError
    when there are no addresses left.
    """
    from kubecore.kubelet import network

    file = config.data_dir / "networks.json"
    found = network.detect()
    if file.exists():
        chosen = _kept_networks(config, Networks(**json.loads(file.read_text())), found)
    else:
        chosen = _new_networks(config, found)
        file.parent.mkdir(parents=True, exist_ok=True)
        kept = {"mode": chosen.mode, "services": chosen.services, "pods": chosen.pods}
        write_whole(file, json.dumps(kept).encode())
    if chosen.mode == "loopback" and found.mode == "loopback":
        return replace(chosen, reason=found.reason)
    return chosen


def _kept_networks(config: ClusterConfig, kept: Networks, found: Detection) -> Networks:
    made = f"{config.data_dir} was made with pod network {kept.mode}"
    if config.network_mode not in ("auto", kept.mode):
        raise PermissionError(f"{made} and keeps it: use another data directory for {config.network_mode}")
    if kept.mode == "netns" and found.mode != "netns":
        raise PermissionError(f"{made}, which cannot be had now: {found.reason}")
    return kept


def _new_networks(config: ClusterConfig, found: Detection) -> Networks:
    from kubecore.kubelet import loopback_ranges, network
    from kubecore.kubelet.range_claims import claim_first

    mode = found.mode if config.network_mode == "auto" else config.network_mode
    if mode == "netns":
        if found.mode != "netns":
            raise PermissionError(f"network namespaces for pods cannot be had: {found.reason}")
        free = network.unrouted([*NETWORK_PAIRS.keys(), *NETWORK_PAIRS.values()])
        # A killed cluster's bridge keeps its pods' route, and with it the pair, until the cluster is started again.
        candidates = [services for services, pods in NETWORK_PAIRS.items() if {services, pods} <= free]
        candidates = candidates or list(NETWORK_PAIRS)
    else:
        candidates = loopback_ranges.all_services(network.bridge_name(config.data_dir))
    claim = claim_first(candidates) if config.real_nodes else None
    services = claim.network if claim is not None else candidates[0]
    return Networks(mode, services, NETWORK_PAIRS.get(services, ""), claim)


def hold_networks(config: ClusterConfig, networks: Networks) -> Networks:
    """With a claim, unless nothing will listen on the addresses. To be called once the data directory is surely ours,
    for whoever has that has its addresses, too. Raises RangeError when another cluster has them."""
    from kubecore.kubelet.range_claims import Claim, RangeError

    if networks.claim is not None or not config.real_nodes:
        return networks
    try:
        return replace(networks, claim=Claim(networks.services))
    except RangeError as error:
        text = f"{error}, which {config.data_dir} was made with: end it, or use another data directory"
        raise RangeError(text) from error
