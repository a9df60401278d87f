"""What is said of a node whose pods cannot go on, since it is not what it was when they were started."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from kubecore.kubelet.keeper import differences as told
from kubecore.kubelet.keeper.differences import differences
from kubecore.kubelet.keeper.messages import KeeperSettings

BEFORE = KeeperSettings(
    root=Path("/node"),
    mark="mark",
    image_store=Path("/images"),
    network_mode="netns",
    pod_cidrs=("10.244.0.0/24",),
    cluster_cidrs=("10.244.0.0/16",),
    bridge="kc-1",
    pods_through_node=False,
)


def test_another_proxy_mode_is_named() -> None:
    assert differences(BEFORE, replace(BEFORE, pods_through_node=True)) == (
        "proxy mode userspace, now of the kernel (nftables or ipvs)"
    )


def test_and_all_else_that_differs() -> None:
    after = replace(BEFORE, network_mode="loopback", pod_cidrs=("127.64.0.0/24",), half="lower")
    assert differences(BEFORE, after) == (
        "pod network netns, now loopback; "
        "addresses of the node's pods 10.244.0.0/24, now 127.64.0.0/24; "
        "container runtime outside of kubecore none, now in use"
    )


def test_what_a_keeper_can_be_told_later_is_no_difference() -> None:
    assert differences(BEFORE, replace(BEFORE, lonely_seconds=5.0)) == ""


def test_nothing_that_a_keeper_is_made_with_is_forgotten() -> None:
    assert {*told._TOLD, *told.NOT_COMPARED} == {one.name for one in fields(KeeperSettings)}
