"""Pools hand out each number once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecore.apiserver.registry.allocation.cluster_ips import AllocationError, ClusterIPs
from kubecore.apiserver.registry.allocation.node_ports import NodePorts
from kubecore.apiserver.registry.allocation.pool import NumberPool


@given(st.integers(1, 300), st.integers(0, 100))
def test_every_number_is_had_exactly_once(size: int, static: int) -> None:
    pool = NumberPool(size, static=static)
    had = [pool.take_any() for _ in range(size)]
    assert sorted(number for number in had if number is not None) == list(range(size))
    assert pool.take_any() is None


def test_the_static_band_is_handed_out_last() -> None:
    pool = NumberPool(10, static=4)
    first = {pool.take_any() for _ in range(6)}
    assert first == set(range(4, 10))


def test_a_number_given_back_can_be_had_again() -> None:
    pool = NumberPool(4)
    assert pool.take(2)
    assert not pool.take(2)
    pool.give_back(2)
    assert pool.take(2)
    assert len(pool) == 1


def test_neither_the_networks_own_nor_the_broadcast_address_is_handed_out() -> None:
    ips = ClusterIPs("10.0.0.0/29")
    assert {ips.take_any() for _ in range(6)} == {f"10.0.0.{n}" for n in range(1, 7)}
    with pytest.raises(AllocationError, match="range is full"):
        ips.take_any()
    with pytest.raises(AllocationError, match="not in the valid range"):
        ips.take("10.0.0.0")


def test_ipv6_ranges_work_too() -> None:
    ips = ClusterIPs("fd00::/112")
    assert ips.family == "IPv6"
    ips.take("fd00::a")
    with pytest.raises(AllocationError, match="provided IP is already allocated"):
        ips.take("fd00::a")


def test_node_ports_outside_the_range_are_refused() -> None:
    ports = NodePorts(range(30000, 30002))
    assert {ports.take_any(), ports.take_any()} == {30000, 30001}
    with pytest.raises(AllocationError, match="range is full"):
        ports.take_any()
    ports.give_back(30001)
    ports.take(30001)
