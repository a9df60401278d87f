"""Which networks a cluster gets, and keeps."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kubecore import netlink, node_network, way_out
from kubecore.cluster import ClusterConfig
from kubecore.cluster_networks import Networks, choose_networks, hold_networks
from kubecore.kubelet.networks import network
from kubecore.kubelet.networks.network import Detection
from kubecore.kubelet.networks.range_claims import RangeError
from kubecore.kubelet.settings.kubelet_config import CriConfig
from kubecore.node_network import NodeNetwork

Choose = Callable[..., Networks]


@pytest.fixture
def choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Choose]:
    """As a user without rights, to whom the kernel gives no namespaces; what was claimed is released at the end."""
    made: list[Networks] = []
    monkeypatch.setattr(network, "detect", lambda: Detection("loopback", "this is a test"))
    monkeypatch.setattr(network, "detect_rootless", lambda *_: Detection("loopback", "they are switched off"))

    def choose(name: str = "data", **fields: Any) -> Networks:
        config = ClusterConfig(data_dir=tmp_path / name, **fields)
        made.append(hold_networks(config, choose_networks(config)))
        return made[-1]

    yield choose
    for one in made:
        release(one)


@pytest.fixture
def led(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ranges that a network of the node's own is for, which none is made for here."""
    ranges: list[str] = []

    class Nowhere(NodeNetwork):
        @classmethod
        def make(cls) -> NodeNetwork:
            return cls(-1, -1)

        def lead(self, ranges_: Sequence[str]) -> None:
            ranges[:] = ranges_

    def lead_out(made: NodeNetwork, inside: Sequence[str], source: str) -> None:
        assert inside == tuple(ranges)
        four = [ipaddress.IPv4Network(one) for one in inside if ":" not in one]
        assert any(ipaddress.IPv4Address(source) in one for one in four)
        made.no_way_out = "nf_tables is missing"

    monkeypatch.setattr(way_out, "lead_out", lead_out)
    monkeypatch.setattr(node_network, "NodeNetwork", Nowhere)
    return ranges


def release(networks: Networks) -> None:
    if networks.claim is not None:
        networks.claim.release()


def test_without_rights_pods_share_the_hosts_network_and_the_user_is_told_why(choose: Choose) -> None:
    assert str(choose()).startswith("loopback: pods share the host's network")
    assert (
        "; chosen because this is a test, and pod network rootless cannot be had: they are switched off; "
        "Services have 127.96."
    ) in str(choose("another"))


def test_rootless_is_given_to_who_asks_for_it_and_kept(
    choose: Choose, monkeypatch: pytest.MonkeyPatch, led: list[str]
) -> None:
    monkeypatch.setattr(network, "detect_rootless", lambda *_: Detection("rootless", ""))
    first = choose(network_mode="rootless")
    assert str(first).startswith("rootless: every pod has a network namespace")
    assert {*first.services, *first.pods, *first.load_balancers} == set(led)
    first.release()
    again = choose()
    assert (again.mode, again.services, again.pods) == ("rootless", first.services, first.pods)
    assert again.node_ports_at == ("0.0.0.0", network.host_address(again.pods_of_node(0)[0]))


def test_without_rights_it_is_rootless_where_that_can_be_had_and_the_user_is_told_why_it_is_no_better(
    choose: Choose, monkeypatch: pytest.MonkeyPatch, led: list[str]
) -> None:
    monkeypatch.setattr(network, "detect_rootless", lambda *_: Detection("rootless", ""))
    first = choose()
    assert first.mode == "rootless"
    assert f"; chosen because this is a test; Services have {first.services[0]}" in str(first)


def test_as_many_clusters_at_a_time_have_ranges_of_their_own_as_in_loopback_mode(
    choose: Choose, monkeypatch: pytest.MonkeyPatch, led: list[str]
) -> None:
    monkeypatch.setattr(network, "detect_rootless", lambda *_: Detection("rootless", ""))
    ranges: list[str] = []
    for number in range(20):  # others may have some
        made = choose(str(number))
        ranges += (*made.services, *made.pods, *made.load_balancers)
    networks = [ipaddress.IPv4Network(one) for one in ranges]
    for index, one in enumerate(networks):
        assert not any(one.overlaps(other) for other in networks[:index])


def test_where_nothing_leads_out_of_a_rootless_network_the_user_is_told_why(
    choose: Choose, monkeypatch: pytest.MonkeyPatch, led: list[str]
) -> None:
    monkeypatch.setattr(network, "detect_rootless", lambda *_: Detection("rootless", ""))
    assert str(choose(network_mode="rootless")).endswith(
        "; nothing leads out of it but to Services: nf_tables is missing"
    )


def test_where_rootless_cannot_be_had_who_asks_for_it_is_refused_and_told_why(
    choose: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "detect_rootless", lambda *_: Detection("loopback", "they are switched off"))
    with pytest.raises(PermissionError, match="pod network rootless cannot be had: they are switched off"):
        choose(network_mode="rootless")


def test_a_directory_made_in_loopback_mode_stays_so(choose: Choose, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(network_mode="loopback").release()
    monkeypatch.setattr(network, "detect_rootless", lambda *_: Detection("rootless", ""))
    with pytest.raises(PermissionError, match="made with pod network loopback and keeps it"):
        choose(network_mode="rootless")


def test_a_directory_made_rootless_does_not_fall_back(
    choose: Choose, monkeypatch: pytest.MonkeyPatch, led: list[str]
) -> None:
    monkeypatch.setattr(network, "detect_rootless", lambda *_: Detection("rootless", ""))
    choose(network_mode="rootless").release()
    monkeypatch.setattr(network, "detect_rootless", lambda *_: Detection("loopback", "they are switched off"))
    with pytest.raises(PermissionError, match="pod network rootless, which cannot be had now: they are switched off"):
        choose()
    with pytest.raises(PermissionError, match="made with pod network rootless and keeps it"):
        choose(network_mode="loopback")


def test_rootless_is_refused_where_others_run_containers(choose: Choose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "detect_rootless", lambda *_: Detection("rootless", ""))
    with pytest.raises(PermissionError, match="pod network rootless is for kubecore's own runtimes"):
        choose(network_mode="rootless", cri=CriConfig("unix:///nowhere"))


def test_rootless_has_both_families_of_which_ipv4_leads_out(
    choose: Choose, monkeypatch: pytest.MonkeyPatch, led: list[str]
) -> None:
    monkeypatch.setattr(network, "detect_rootless", lambda *_: Detection("rootless", ""))
    monkeypatch.setattr(netlink, "ipv6_trouble", lambda: "")
    six_first = choose(network_mode="rootless", ip_families=("IPv6", "IPv4"))
    assert (six_first.families, six_first.left_out) == (("IPv6", "IPv4"), "")
    assert {*six_first.services, *six_first.pods, *six_first.load_balancers} == set(led)
    alone = choose("other", network_mode="rootless", ip_families=("IPv6",))
    assert str(alone).endswith("; nothing leads out of it but to Services: it takes IPv4")


def test_two_clusters_at_a_time_have_different_ranges(choose: Choose) -> None:
    one, other = choose("one"), choose("other")
    assert one.services != other.services
    assert one.pods_of_node(0) != other.pods_of_node(0)


def test_a_cluster_keeps_its_ranges(choose: Choose) -> None:
    first = choose()
    release(first)
    assert choose().services == first.services


def test_a_range_that_is_taken_meanwhile_is_a_clear_error(choose: Choose, tmp_path: Path) -> None:
    first = choose()
    with pytest.raises(RangeError, match=rf"has the addresses {first.services[0]} now, which .*data was made with"):
        choose()


@pytest.mark.usefixtures("led")
def test_a_rootless_range_that_is_taken_meanwhile_is_none_that_anybody_meets(
    choose: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "detect_rootless", lambda *_: Detection("rootless", ""))
    first = choose(network_mode="rootless")
    again = choose()
    assert (again.services, again.claim) == (first.services, None)


def test_a_cluster_without_nodes_holds_no_range(choose: Choose) -> None:
    assert choose(nodes=0).claim is None
    assert choose(nodes=0).claim is None


def test_network_namespaces_that_cannot_be_had_are_refused_with_the_reason(choose: Choose) -> None:
    with pytest.raises(PermissionError, match="network namespaces for pods cannot be had: this is a test"):
        choose(network_mode="netns")


def test_a_range_that_was_asked_for_and_is_taken_is_named(choose: Choose) -> None:
    first = choose()
    with pytest.raises(RangeError, match=f"has the addresses {first.services[0]} now"):
        choose("another", service_cidrs=first.services)


def test_where_a_cluster_looks_first_depends_on_its_data_directory(choose: Choose) -> None:
    """So that one which is started again seldom finds its addresses taken by one that was made meanwhile."""
    found = []
    for name in "abcdefgh":
        chosen = choose(name)
        found.append(chosen.services)
        assert chosen.claim is not None
        chosen.claim.release()
    assert len(set(found)) > 1


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (
            {"load_balancer_ranges": ("10.77.5.0/24",)},
            "load balancers cannot have 10.77.5.0/24: Services have 10.77.0.0/16",
        ),
        (
            {"load_balancer_ranges": ("10.0.0.0/8",), "service_cidrs": ("172.16.0.0/16",)},
            "load balancers cannot have 10.0.0.0/8: pods have 10.78.0.0/16",
        ),
        (
            {"service_cidrs": ("127.0.0.0/16",)},
            "Services cannot have 127.0.0.0/16 where pods have network namespaces: "
            "0.0.0.0/8 and 127.0.0.0/8 and ::1/128 are for a host itself",
        ),
        (
            {"pod_cidrs": ("169.254.0.0/16",)},
            "pods cannot have 169.254.0.0/16 where pods have network namespaces: "
            "169.254.0.0/16 and fe80::/10 are for links",
        ),
        (
            {"load_balancer_ranges": ("239.0.0.0/8",)},
            "load balancers cannot have 239.0.0.0/8 where pods have network namespaces: "
            "224.0.0.0/4 and ff00::/8 are for groups",
        ),
    ],
)
def test_a_range_that_cannot_work_is_refused_by_name(
    choose: Choose, monkeypatch: pytest.MonkeyPatch, ranges: dict[str, tuple[str, ...]], message: str
) -> None:
    monkeypatch.setattr(network, "detect", lambda: Detection("netns", ""))
    monkeypatch.setattr(network, "unrouted", frozenset)
    with pytest.raises(PermissionError, match=f"^{re.escape(message)}$"):
        choose(**{"service_cidrs": ("10.77.0.0/16",), "pod_cidrs": ("10.78.0.0/16",), **ranges})


def test_a_directory_made_with_network_namespaces_does_not_fall_back(choose: Choose, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/networks.json").write_text(
        json.dumps({"mode": "netns", "services": "10.96.0.0/16", "pods": "10.244.0.0/16"})
    )
    with pytest.raises(
        PermissionError, match="was made with pod network netns, which cannot be had now: this is a test"
    ):
        choose()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"mode": "loopback", "services": 1, "pods": ""}', "\xff"])
def test_a_damaged_file_of_networks_is_told_by_its_name(choose: Choose, tmp_path: Path, text: str) -> None:
    file = tmp_path / "data/networks.json"
    file.parent.mkdir()
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))} is damaged: "):
        choose()


def test_a_directory_keeps_its_mode(choose: Choose) -> None:
    release(choose())
    with pytest.raises(PermissionError, match="was made with pod network loopback and keeps it"):
        choose(network_mode="netns")
