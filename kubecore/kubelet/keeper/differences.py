"""In what a node is not what its keeper was made for, as its user would say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kubecore.kubelet.keeper.messages import KeeperSettings

_WAYS = {False: "userspace", True: "of the kernel (nftables or ipvs)"}
_HALVES = {"": "none", "lower": "in use", "upper": "in use"}


def _listed(ranges: Any) -> str:
    return ", ".join(ranges) or "none"


def _named(programs: Any) -> str:
    return ", ".join(f"{handler}={program}" for handler, program in sorted(programs.items())) or "none"


_TOLD: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "network_mode": ("pod network", str),
    "pod_cidrs": ("addresses of the node's pods", _listed),
    "cluster_cidrs": ("addresses of the cluster's pods", _listed),
    "bridge": ("bridge", str),
    "pods_through_node": ("proxy mode", _WAYS.__getitem__),
    "half": ("container runtime outside of kubecore", _HALVES.__getitem__),
    "programs": ("OCI runtimes", _named),
    "root": ("folder", str),
    "image_store": ("folder of images", str),
    "mark": ("mark of its processes", str),
    "version": ("version of the keeper's protocol", str),
    "log_rotation": ("rotation of logs", str),
}
"""What is called how, and how its values are told."""
NOT_COMPARED = ("places", "watches_memory", "lonely_seconds", "node_network")
"""What a keeper can be told later."""


def differences(old: KeeperSettings, new: KeeperSettings) -> str:
    """ "" where there are none."""
    return "; ".join(
        f"{name} {tell(getattr(old, field))}, now {tell(getattr(new, field))}"
        for field, (name, tell) in _TOLD.items()
        if getattr(old, field) != getattr(new, field)
    )
