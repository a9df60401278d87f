"""Which address families a cluster gets, and keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubecore import netlink
from kubecore.cluster import ClusterConfig
from kubecore.cluster_networks import Networks, choose_networks
from kubecore.kubelet.networks import network, range_claims
from kubecore.kubelet.networks.network import Detection
from kubecore.kubelet.networks.range_claims import RangeError

Choose = Callable[..., Networks]
DUAL = ("IPv4", "IPv6")


class Host:
    """What this machine can do, and which networks it has routes into."""

    mode = "netns"
    trouble = ""
    taken: frozenset[str] = frozenset()


@pytest.fixture
def machine() -> Host:
    return Host()


class Claim:
    """Of a range that no other cluster has."""

    def __init__(self, network: str) -> None:
        self.network = network


@pytest.fixture
def choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Host) -> Choose:
    monkeypatch.setattr(network, "detect", lambda: Detection(machine.mode, "this is a test"))  # type: ignore[arg-type]
    monkeypatch.setattr(network, "unrouted", lambda candidates: set(candidates) - machine.taken)
    monkeypatch.setattr(range_claims, "Claim", Claim)
    monkeypatch.setattr(netlink, "ipv6_trouble", lambda: machine.trouble)

    def choose(**fields: Any) -> Networks:
        return choose_networks(ClusterConfig(data_dir=tmp_path / "data", **fields))

    return choose


class TestNew:
    def test_a_cluster_has_ipv4_unless_it_is_asked_for_more(self, choose: Choose) -> None:
        found = choose()
        assert (len(found.services), found.families, len(found.pods)) == (1, ("IPv4",), 1)

    def test_both_families_have_ranges_for_services_pods_and_load_balancers(self, choose: Choose) -> None:
        found = choose(ip_families=DUAL, nodes=0)
        assert found.services == ("10.96.0.0/16", "fd00:10:96::/112")
        assert found.pods == ("10.244.0.0/16", "fd00:10:244::/56")
        assert found.load_balancers == ("10.160.0.0/24", "fd00:10:d6::/120")
        assert found.pods_of_node(1) == ("10.244.1.0/24", "fd00:10:244:1::/64")

    def test_ranges_of_the_same_number_are_taken_where_all_of_them_are_free(
        self, choose: Choose, machine: Host
    ) -> None:
        machine.taken = frozenset({"fd00:10:244::/56"})
        assert choose(ip_families=DUAL, nodes=0).services == ("10.97.0.0/16", "fd00:10:97::/112")

    def test_the_first_range_that_is_given_is_of_the_clusters_own_family(self, choose: Choose) -> None:
        found = choose(service_cidrs=("fd00:7::/112", "10.7.0.0/16"), nodes=0)
        assert found.services == ("fd00:7::/112", "10.7.0.0/16")
        assert found.families == ("IPv6", "IPv4")
        assert found.pods == ("fd00:10:244::/56", "10.244.0.0/16")

    def test_pods_have_the_ranges_that_are_given(self, choose: Choose) -> None:
        found = choose(pod_cidrs=("10.8.0.0/16", "fd00:8::/56"))
        assert found.pods_of_node(0) == ("10.8.0.0/24", "fd00:8::/64")
        assert found.families == DUAL

    def test_services_and_pods_cannot_share_a_range(self, choose: Choose) -> None:
        with pytest.raises(PermissionError, match=r"Services cannot have 10.8.0.0/16, which pods have"):
            choose(service_cidrs=("10.8.0.0/16",), pod_cidrs=("10.8.0.0/20",))

    def test_a_range_of_pods_has_room_for_so_many_nodes(self, choose: Choose) -> None:
        found = choose(pod_cidrs=("10.8.0.0/23",))
        assert found.pods_of_node(1) == ("10.8.1.0/24",)
        with pytest.raises(RangeError, match=r"10.8.0.0/23 has no room for one more node, number 2"):
            found.pods_of_node(2)


class TestWithoutIPv6:
    def test_without_it_in_the_kernel_a_cluster_of_both_has_ipv4_and_says_why(
        self, choose: Choose, machine: Host
    ) -> None:
        machine.trouble = "the kernel has no IPv6"
        found = choose(ip_families=DUAL)
        assert found.families == ("IPv4",)
        assert str(found).endswith("; there is no IPv6: the kernel has no IPv6")

    def test_pods_on_the_hosts_network_have_ipv4_only(self, choose: Choose, machine: Host) -> None:
        machine.mode = "loopback"
        found = choose(ip_families=DUAL)
        assert (found.families, found.mode) == (("IPv4",), "loopback")
        assert "IPv6 has a single loopback address only" in found.left_out
        assert "network namespaces cannot be had: this is a test" in found.left_out

    def test_a_cluster_of_ipv6_alone_is_refused(self, choose: Choose, machine: Host) -> None:
        machine.mode = "loopback"
        with pytest.raises(PermissionError, match="pods cannot have IPv6: IPv6 has a single loopback address only"):
            choose(ip_families=("IPv6",))

    def test_simulated_nodes_have_both_families_anywhere(self, choose: Choose, machine: Host) -> None:
        machine.mode = "loopback"
        found = choose(ip_families=DUAL, default_runtime="simulated")
        assert found.families == DUAL
        assert found.services[1] == "fd00:10:96::/112"


class TestOnLoopback:
    def test_ranges_of_pods_are_refused(self, choose: Choose, machine: Host) -> None:
        machine.mode = "loopback"
        with pytest.raises(PermissionError, match="only where they have network namespaces"):
            choose(pod_cidrs=("10.8.0.0/16",))

    def test_services_have_a_part_of_the_loopback_network(self, choose: Choose, machine: Host) -> None:
        machine.mode = "loopback"
        with pytest.raises(PermissionError, match=r"in loopback mode Services have one of the /21 of 127.96.0.0/16"):
            choose(service_cidrs=("10.8.0.0/16",))
        assert choose(service_cidrs=("127.96.248.0/21",)).services == ("127.96.248.0/21",)

    def test_without_nodes_services_have_any_range(self, choose: Choose, machine: Host) -> None:
        machine.mode = "loopback"
        assert choose(service_cidrs=("10.8.0.0/16",), nodes=0).services == ("10.8.0.0/16",)


class TestKept:
    def test_both_families_are_kept_without_being_asked_for(self, choose: Choose) -> None:
        first = choose(ip_families=DUAL)
        again = choose()
        assert (again.services, again.pods) == (first.services, first.pods)

    def test_a_second_family_joins_a_single_one(self, choose: Choose) -> None:
        single = choose(nodes=0)
        both = choose(ip_families=DUAL, nodes=0)
        assert both.services == (*single.services, "fd00:10:96::/112")
        assert both.pods == (*single.pods, "fd00:10:244::/56")
        assert choose(nodes=0).services == both.services

    def test_the_second_range_may_be_given(self, choose: Choose) -> None:
        single = choose(nodes=0)
        both = choose(service_cidrs=(*single.services, "fd00:9::/112"), nodes=0)
        assert both.services == (*single.services, "fd00:9::/112")

    def test_a_second_family_that_cannot_be_had_is_left_out(self, choose: Choose, machine: Host) -> None:
        choose()
        machine.trouble = "the kernel has no IPv6"
        assert choose(ip_families=DUAL).left_out == "the kernel has no IPv6"
        assert choose().left_out == ""

    def test_one_of_two_families_does_not_go(self, choose: Choose) -> None:
        choose(ip_families=DUAL)
        with pytest.raises(PermissionError, match="was made with IPv4 and IPv6 and keeps that"):
            choose(ip_families=("IPv4",))

    def test_other_ranges_are_refused(self, choose: Choose) -> None:
        kept = choose()
        with pytest.raises(PermissionError, match=f"was made with {kept.services[0]} for Services and keeps that"):
            choose(service_cidrs=("10.7.0.0/16",))

    def test_ipv6_that_is_gone_is_missed(self, choose: Choose, machine: Host) -> None:
        choose(ip_families=DUAL)
        machine.trouble = "IPv6 is switched off"
        with pytest.raises(PermissionError, match="was made with IPv6, which cannot be had now: IPv6 is switched off"):
            choose()
