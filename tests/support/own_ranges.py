"""Address ranges that this process of tests has for itself, beside other processes of tests and clusters."""

from __future__ import annotations

import functools

from kubecore.kubelet.networks import loopback_ranges
from kubecore.kubelet.networks.network import unrouted
from kubecore.kubelet.networks.range_claims import Claim, claim_first

_claims: list[Claim] = []


def _first_free(ranges: list[str]) -> str:
    _claims.append(claim_first(ranges))
    return _claims[-1].network


@functools.cache
def own_pod_range() -> str:
    """Of pods on the host's network: a whole slot's, whose Services no cluster gets meanwhile, so neither its pods."""
    services = _first_free([loopback_ranges.services_of(slot) for slot in reversed(range(loopback_ranges.SLOTS))])
    return loopback_ranges.pods_of(services, 0)


@functools.cache
def own_octet() -> int:
    """N of a range 10.N.0.0/16 that no bridge of a killed run has."""
    free = unrouted(f"10.{octet}.0.0/16" for octet in range(128, 228))
    return int(_first_free(sorted(free)).split(".")[1])
