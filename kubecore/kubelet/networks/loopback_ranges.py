"""Which part of 127.0.0.0/8 a cluster has, so that clusters side by side on one host stay out of each other's way.

There are 32 slots. The cluster in slot s has Services in 127.96.(8s).0/21 and, on its node n, pods in
127.(64+n).(8s).0/21. Where a cluster looks first depends on its data directory, so that two that never ran at the same
time seldom share a slot either.
"""

from __future__ import annotations

import hashlib
import ipaddress

from kubecore.kubelet.networks.range_claims import RangeError

SLOTS = 32
MOST_NODES = 32
_PREFIX_LENGTH = 21
_STEP = 256 // SLOTS
_SERVICES_OCTET, _FIRST_NODE_OCTET = 96, 64


def services_of(slot: int) -> str:
    """The service range of a slot."""
    return f"127.{_SERVICES_OCTET}.{slot * _STEP}.0/{_PREFIX_LENGTH}"


def pods_of(services: str, node_index: int) -> str:
    """The pods' range on a node, in the slot that has `services`. Raises RangeError for a node too many."""
    if not 0 <= node_index < MOST_NODES:
        raise RangeError(f"loopback mode has room for {MOST_NODES} nodes, not for number {node_index}")
    octet = ipaddress.IPv4Network(services).network_address.packed[2]
    return f"127.{_FIRST_NODE_OCTET + node_index}.{octet}.0/{_PREFIX_LENGTH}"


def first_slot(seed: str) -> int:
    """The slot that a cluster looks at first; 0 without a seed."""
    return hashlib.sha256(seed.encode()).digest()[0] % SLOTS if seed else 0


def all_services(seed: str) -> list[str]:
    """Every slot's service range, from the seed's own slot on."""
    first = first_slot(seed)
    return [services_of((first + step) % SLOTS) for step in range(SLOTS)]
