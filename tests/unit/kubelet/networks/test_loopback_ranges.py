"""Clusters side by side in loopback mode have addresses of their own."""

from __future__ import annotations

import ipaddress
import itertools

import pytest

from kubecore.kubelet.networks import loopback_ranges
from kubecore.kubelet.networks.loopback_ranges import first_slot, pods_of, services_of
from kubecore.kubelet.networks.range_claims import RangeError

SLOTS = range(loopback_ranges.SLOTS)


def overlapping(ranges: list[str]) -> list[tuple[str, str]]:
    networks = [ipaddress.IPv4Network(one) for one in ranges]
    return [(str(one), str(other)) for one, other in itertools.combinations(networks, 2) if one.overlaps(other)]


def test_services_of_all_slots_lie_apart_in_127_96() -> None:
    ranges = [services_of(slot) for slot in SLOTS]
    assert overlapping(ranges) == []
    whole = ipaddress.IPv4Network("127.96.0.0/16")
    assert all(ipaddress.IPv4Network(one).subnet_of(whole) for one in ranges)


def test_pods_of_all_slots_and_nodes_lie_apart_and_have_room_for_every_pod_of_a_node() -> None:
    ranges = [pods_of(services_of(slot), node) for slot in SLOTS for node in (0, 1, loopback_ranges.MOST_NODES - 1)]
    assert overlapping([*ranges, *(services_of(slot) for slot in SLOTS)]) == []
    assert ipaddress.IPv4Network(ranges[0]).num_addresses > 10 * 110


def test_the_first_slot_is_that_of_whoever_names_no_seed() -> None:
    assert (services_of(first_slot("")), pods_of(services_of(0), 0)) == ("127.96.0.0/21", "127.64.0.0/21")


def test_a_cluster_looks_at_the_same_slot_first_every_time() -> None:
    assert first_slot("a") == first_slot("a")
    assert len({first_slot(str(number)) for number in range(300)}) == loopback_ranges.SLOTS


def test_a_node_too_many_is_named() -> None:
    with pytest.raises(RangeError, match="room for 32 nodes, not for number 32"):
        pods_of(services_of(0), 32)


def test_every_slot_is_looked_at_once_from_the_seeds_own_on() -> None:
    found = loopback_ranges.all_services("seed")
    assert found[0] == services_of(first_slot("seed"))
    assert sorted(found) == sorted(services_of(slot) for slot in SLOTS)
