"""Which pod network a cluster has that was told none."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubecore import pod_network_choice, way_out
from kubecore.cluster import ClusterConfig
from kubecore.cluster_networks import Mode
from kubecore.kubelet.networks import network
from kubecore.kubelet.networks.network import Detection
from kubecore.kubelet.settings.kubelet_config import CriConfig
from kubecore.proxy import modes

Best = Callable[..., Detection]
OWN = "192.0.2.5"
"""The address of this host."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """By a user without rights, to whom the kernel gives all that rootless takes: of what the kernel was asked."""
    said: list[str] = []

    def detect() -> Detection:
        said.append("netns")
        return Detection("loopback", "this is not root")

    def trouble() -> str:
        said.append("rootless")
        return ""

    monkeypatch.setattr(network, "detect", detect)
    monkeypatch.setattr(way_out, "trouble", trouble)
    monkeypatch.setattr(modes, "unavailable", lambda mode: "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(pod_network_choice, "_own_addresses", lambda: [ipaddress.ip_network(OWN)])
    return said


@pytest.fixture
def best(asked: list[str], tmp_path: Path) -> Best:
    def best(*, kept: Mode | None = None, **fields: Any) -> Detection:
        return pod_network_choice.best(ClusterConfig(data_dir=tmp_path, **fields), kept)

    return best


def test_a_user_without_rights_has_rootless_and_is_told_why_it_is_not_netns(best: Best) -> None:
    assert best() == Detection("rootless", "this is not root")


def test_root_has_netns_and_nothing_else_is_tried(
    best: Best, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "detect", lambda: Detection("netns", ""))
    assert best(proxy_mode="nftables").mode == "netns"
    assert asked == []


@pytest.mark.parametrize(
    "why", ["no user and network namespace can be made (Operation not permitted)", "nf_tables: Operation not supported"]
)
def test_where_the_kernel_has_it_not_in_full_it_is_loopback_and_the_reason_is_told(
    best: Best, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(way_out, "trouble", lambda: why)
    assert best() == Detection("loopback", f"this is not root, and pod network rootless cannot be had: {why}")


def test_root_whose_rights_were_taken_has_loopback(best: Best, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert best().mode == "loopback"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"cri": CriConfig("unix:///nowhere")}, "pod network rootless has no runtime cri"),
        ({"proxy_mode": "nftables"}, "pod network rootless has no proxy mode nftables"),
        ({"proxy_mode": "ipvs"}, "pod network rootless has no proxy mode ipvs"),
        ({"service_cidrs": ("127.96.8.0/21",)}, "pod network rootless cannot have 127.96.8.0/21"),
        ({"load_balancer_ranges": ("127.5.0.0/24",)}, "pod network rootless cannot have 127.5.0.0/24"),
        (
            {"load_balancer_ranges": ("192.0.2.0/29",)},
            "load balancers have addresses of this host (192.0.2.0/29), which pod network rootless would hide from it",
        ),
    ],
)
def test_what_rootless_does_not_have_is_had_in_loopback_mode(
    best: Best, asked: list[str], fields: dict[str, Any], why: str
) -> None:
    assert best(**fields) == Detection("loopback", f"this is not root, and {why}")
    assert asked == ["netns"]


@pytest.mark.parametrize(
    "fields",
    [
        {"service_cidrs": ("10.7.0.0/16",)},
        {"pod_cidrs": ("10.8.0.0/16",)},
        {"load_balancer_ranges": ("198.51.100.0/24",)},
        {"ip_families": ("IPv4", "IPv6")},
    ],
)
def test_ranges_that_loopback_could_not_have_either_are_no_reason_against_rootless(
    best: Best, fields: dict[str, Any]
) -> None:
    assert best(**fields).mode == "rootless"


@pytest.mark.parametrize("mode", ["nftables", "ipvs"])
def test_a_proxy_mode_that_cannot_be_had_here_is_no_reason_against_rootless(
    best: Best, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(modes, "unavailable", lambda mode: "it needs root")
    assert best(proxy_mode=mode) == Detection("rootless", "this is not root")


@pytest.mark.parametrize("fields", [{"nodes": 0}, {"default_runtime": "simulated"}])
def test_where_nothing_runs_nothing_is_waited_for(best: Best, asked: list[str], fields: dict[str, Any]) -> None:
    assert best(simulated_nodes=5, **fields).mode == "loopback"
    assert asked == ["netns"]


def test_a_directory_made_in_loopback_mode_stays_so_and_the_user_is_told(best: Best, asked: list[str]) -> None:
    assert best(kept="loopback") == Detection("loopback", "the data directory was made in loopback mode")
    assert asked == []


def test_who_asks_for_loopback_gets_it(best: Best, asked: list[str]) -> None:
    assert best(network_mode="loopback") == Detection("loopback", "loopback mode was asked for")
    assert asked == []


def test_who_asks_for_netns_gets_nothing_else(best: Best, asked: list[str]) -> None:
    assert best(network_mode="netns") == Detection("loopback", "this is not root")
    assert asked == ["netns"]


@pytest.mark.parametrize("fields", [{"network_mode": "rootless"}, {"kept": "rootless"}])
def test_who_asks_for_rootless_or_has_it_needs_no_way_out(
    best: Best, asked: list[str], monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    monkeypatch.setattr(network.detect_rootless, "__defaults__", (lambda: "",))
    assert best(**fields) == Detection("rootless", "")
    assert asked == []
