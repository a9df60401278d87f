"""Pools hand out each number once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecore.apiserver.registry.allocation.cluster_ips import AllocationError, ClusterIPs, RangeFull
from kubecore.apiserver.registry.allocation.node_ports import NodePorts, PortOperation
from kubecore.apiserver.registry.allocation.pool import NumberPool
from kubecore.apiserver.registry.allocation.service_addresses import ServiceAddresses
from kubecore.metrics import Metrics


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
    with pytest.raises(AllocationError, match="the provided network does not match the current range"):
        ips.take("10.0.0.0")


def test_ipv6_ranges_work_too() -> None:
    ips = ClusterIPs("fd00::/112")
    assert ips.family == "IPv6"
    ips.take("fd00::a")
    with pytest.raises(AllocationError, match="provided IP is already allocated"):
        ips.take("fd00::a")


def test_a_service_cidr_adds_addresses_while_it_is_ready() -> None:
    ips = ClusterIPs("10.0.0.0/30")
    with pytest.raises(AllocationError, match="does not match the current range"):
        ips.take("10.1.0.1")
    ips.set_ranges("more", ["10.1.0.0/30", "fd00::/120"])
    ips.take("10.1.0.1")
    assert {ips.take_any() for _ in range(3)} == {"10.0.0.1", "10.0.0.2", "10.1.0.2"}
    ips.give_back("10.1.0.2")
    ips.set_ranges("more", [])
    with pytest.raises(AllocationError, match="range is full"):
        ips.take_any()


def test_an_address_of_two_ranges_is_had_once() -> None:
    ips = ClusterIPs("10.0.0.0/29")
    ips.take("10.0.0.1")
    ips.set_ranges("inner", ["10.0.0.0/30"])
    with pytest.raises(AllocationError, match="already allocated"):
        ips.take("10.0.0.1")
    assert {ips.take_any() for _ in range(5)} == {f"10.0.0.{n}" for n in range(2, 7)}


def test_an_address_is_free_when_neither_a_service_nor_an_ip_address_has_it() -> None:
    ips = ClusterIPs("10.0.0.0/24")
    assert ips.hold("10.0.0.7")
    assert not ips.hold("10.0.0.7")
    with pytest.raises(AllocationError, match="already allocated"):
        ips.take("10.0.0.7")
    ips.restore("10.0.0.7")
    ips.let_go("10.0.0.7")
    with pytest.raises(AllocationError, match="already allocated"):
        ips.take("10.0.0.7")
    ips.give_back("10.0.0.7")
    ips.take("10.0.0.7")


def test_a_dry_run_takes_no_port_and_does_not_look_at_the_range() -> None:
    ports = NodePorts(range(30000, 30002))
    ports.take(30000)
    dry = PortOperation(ports, dry_run=True)
    with pytest.raises(AllocationError, match="already allocated"):
        dry.take(30000)
    dry.take(80)
    dry.finish(True)
    assert 30001 not in ports


def test_ports_are_given_back_when_the_request_has_succeeded_and_taken_ones_when_it_has_not() -> None:
    ports = NodePorts(range(30000, 30004))
    ports.take(30000)
    failed = PortOperation(ports, dry_run=False)
    failed.take(30001)
    failed.give_back(30000)
    failed.finish(False)
    assert 30001 not in ports
    assert 30000 in ports
    done = PortOperation(ports, dry_run=False)
    done.give_back(30000)
    done.finish(True)
    assert 30000 not in ports


def test_node_ports_outside_the_range_are_refused() -> None:
    ports = NodePorts(range(30000, 30002))
    assert {ports.take_any(), ports.take_any()} == {30000, 30001}
    with pytest.raises(AllocationError, match="range is full"):
        ports.take_any()
    ports.give_back(30001)
    ports.take(30001)


def test_a_node_port_that_somebody_else_has_is_picked_only_when_there_is_no_other() -> None:
    ports = NodePorts(range(30000, 30004), {30000, 30001}.__contains__)
    assert {ports.take_any(), ports.take_any()} == {30002, 30003}
    assert not {30000, 30001} & {port for port in ports.ports if port in ports}
    assert {ports.take_any(), ports.take_any()} == {30000, 30001}
    with pytest.raises(RangeFull):
        ports.take_any()


def test_a_node_port_that_somebody_else_has_can_be_asked_for() -> None:
    ports = NodePorts(range(30000, 30004), lambda port: True)
    ports.take(30001)
    assert [port for port in ports.ports if port in ports] == [30001]


def test_it_is_told_how_many_addresses_are_in_use_and_how_often_they_are_asked_for() -> None:
    addresses, metrics = ServiceAddresses("10.0.0.0/29,fd00::/64"), Metrics()
    metrics.add(*addresses.metrics)
    ips = addresses.of("IPv4")
    addresses.set_ranges("more", ["10.1.0.0/30"])
    ips.take("10.0.0.1")
    for wanted in ("10.0.0.1", "10.9.0.1"):
        with pytest.raises(AllocationError):
            ips.take(wanted)
    for _ in range(6):
        ips.take_any()
    ips.give_back("10.0.0.1")
    prefix = "kube_apiserver_clusterip_allocator"
    told = metrics.render().decode()
    assert [line for line in told.splitlines() if not line.startswith("#")] == [
        f'{prefix}_allocated_ips{{cidr="10.0.0.0/29"}} 5',
        f'{prefix}_allocated_ips{{cidr="10.1.0.0/30"}} 1',
        f'{prefix}_allocated_ips{{cidr="fd00::/64"}} 0',
        f'{prefix}_available_ips{{cidr="10.0.0.0/29"}} 1',
        f'{prefix}_available_ips{{cidr="10.1.0.0/30"}} 1',
        f'{prefix}_available_ips{{cidr="fd00::/64"}} 9.22337203685478e+18',
        f'{prefix}_allocation_total{{cidr="10.0.0.0/29",scope="dynamic"}} 5',
        f'{prefix}_allocation_total{{cidr="10.0.0.0/29",scope="static"}} 1',
        f'{prefix}_allocation_total{{cidr="10.1.0.0/30",scope="dynamic"}} 1',
        f'{prefix}_allocation_errors_total{{cidr="10.0.0.0/29",scope="dynamic"}} 1',
        f'{prefix}_allocation_errors_total{{cidr="10.0.0.0/29",scope="static"}} 1',
    ]
    assert f"# HELP {prefix}_available_ips [ALPHA] Gauge measuring the number of available IPs for Services\n" in told
    assert f"# HELP {prefix}_allocation_total [ALPHA] Number of Cluster IPs allocations\n" in told


def test_it_is_told_how_many_node_ports_are_in_use() -> None:
    ports, metrics = NodePorts(range(30000, 30002)), Metrics()
    metrics.add(*ports.metrics)
    ports.take(30000)
    for wanted in (30000, 80):
        with pytest.raises(AllocationError):
            ports.take(wanted)
    ports.take_any()
    with pytest.raises(AllocationError):
        ports.take_any()
    ports.give_back(30000)
    prefix = "kube_apiserver_nodeport_allocator"
    assert [line for line in metrics.render().decode().splitlines() if not line.startswith("#")] == [
        f"{prefix}_allocated_ports 1",
        f"{prefix}_available_ports 1",
        f'{prefix}_allocation_total{{scope="dynamic"}} 1',
        f'{prefix}_allocation_total{{scope="static"}} 1',
        f'{prefix}_allocation_errors_total{{scope="dynamic"}} 1',
        f'{prefix}_allocation_errors_total{{scope="static"}} 2',
    ]
