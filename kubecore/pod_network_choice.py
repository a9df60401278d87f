"""Which pod network a cluster has that was told none: the best that can be had here and goes with what it was told.

That is netns for root; rootless for others, where it can be had in full, with the way out; else loopback. What is
found is tried, not looked up: kernels and security modules refuse parts of it in many ways.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from kubecore.kubelet.networks import network
from kubecore.kubelet.networks.network import Detection
from kubecore.netlink import Netlink
from kubecore.proxy import modes

if TYPE_CHECKING:
    from kubecore.cluster_config import ClusterConfig
    from kubecore.cluster_networks import Mode

_LOOPBACK = ipaddress.ip_network("127.0.0.0/8")


def best(config: ClusterConfig, kept: Mode | None) -> Detection:
    """`kept`: what the data directory was made with, and keeps."""
    if "rootless" in (config.network_mode, kept):
        return network.detect_rootless()
    if kept == "loopback":
        return Detection(kept, "the data directory was made in loopback mode")
    if config.network_mode == "loopback":
        return Detection("loopback", "loopback mode was asked for")
    found = network.detect()
    if found.mode == "netns" or config.network_mode == "netns" or kept is not None:
        return found
    if not config.real_nodes:  # nothing runs, and nothing is to be waited for
        return found
    if why := _unsuited(config):
        return Detection("loopback", f"{found.reason}, and {why}")
    from kubecore import way_out

    rootless = network.detect_rootless(way_out.trouble)
    if rootless.mode == "rootless":
        return Detection("rootless", found.reason)
    return Detection("loopback", f"{found.reason}, and pod network rootless cannot be had: {rootless.reason}")


def _unsuited(config: ClusterConfig) -> str:
    """What the cluster was told that goes with loopback and not with rootless; "" for nothing."""
    if config.cri is not None:
        return "pod network rootless has no runtime cri"
    # Who cannot have it here is told so, and has userspace.
    if config.proxy_mode != "userspace" and not modes.unavailable(config.proxy_mode):
        return f"pod network rootless has no proxy mode {config.proxy_mode}"
    for one in (*config.service_cidrs, *config.load_balancer_ranges):
        if _meet(one, _LOOPBACK):
            return f"pod network rootless cannot have {one}"
    for one in config.load_balancer_ranges:
        if any(_meet(one, address) for address in _own_addresses()):
            return f"load balancers have addresses of this host ({one}), which pod network rootless would hide from it"
    return ""


def _own_addresses() -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    with Netlink() as netlink:
        held = [one.address.ip for family in (socket.AF_INET, socket.AF_INET6) for one in netlink.addresses(family)]
    return [ipaddress.ip_network(one) for one in held]


def _meet(asked: str, other: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    range_ = ipaddress.ip_network(asked)
    return range_.version == other.version and range_.overlaps(other)
