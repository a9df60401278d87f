"""A node that is configured by a file: what a KubeletConfiguration says, and what the node does then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.kubelet.configuration import KubeletFile, load
from kubecore.kubelet.configz import told
from kubecore.kubelet.image_gc import ImageGcConfig
from kubecore.kubelet.kubelet_config import KubeletConfig
from kubecore.kubelet.logs import LogRotation
from kubecore.kubelet.node_shutdown import ShutdownConfig, ShutdownPeriod, in_order
from tests.unit.kubelet.conftest import Node, container

Object = dict[str, Any]

HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"


def read(**fields: Any) -> KubeletFile:
    return load(HEAD + yaml.safe_dump(fields))


def found(node: Node, resource: str, namespace: str = "default") -> Object:
    """What the API has of the node's name."""
    known = node.api.get(resource, "node", namespace)
    assert known is not None
    return known


def complaint(text: str) -> str:
    with pytest.raises(InvalidConfiguration) as caught:
        load(text)
    return str(caught.value)


# ---- reading


def test_what_options_say_too_is_given_to_them() -> None:
    found = read(
        maxPods=20,
        clusterDNS=["10.96.0.10", "fd00::a"],
        allowedUnsafeSysctls=["net.core.*"],
        staticPodPath="/etc/kubernetes/manifests",
        authentication={"x509": {"clientCAFile": "/pki/ca.crt"}, "anonymous": {"enabled": False}},
        evictionHard={"memory.available": "5%"},
        evictionSoft={"nodefs.available": "2Gi"},
        evictionSoftGracePeriod={"nodefs.available": "1m30s"},
    )
    assert found.options == {
        "max_pods": 20,
        "cluster_dns": "10.96.0.10,fd00::a",
        "allowed_unsafe_sysctls": "net.core.*",
        "pod_manifest_path": "/etc/kubernetes/manifests",
        "client_ca_file": "/pki/ca.crt",
        "eviction_hard": "memory.available<5%",
        "eviction_soft": "nodefs.available<2Gi",
        "eviction_soft_grace_period": "nodefs.available=1m30s",
    }
    assert (found.settings, found.ignored) == ({}, ())


def test_thresholds_that_are_merged_with_the_defaults_replace_only_their_own() -> None:
    found = read(evictionHard={"memory.available": "1Gi"}, mergeDefaultEvictionSettings=True)
    assert found.options["eviction_hard"] == "nodefs.available<1%,nodefs.inodesFree<1%,memory.available<1Gi"


def test_what_has_no_effect_is_named() -> None:
    assert read(cgroupDriver="systemd", maxPods=5, featureGates={"NodeSwap": True}).ignored == (
        "cgroupDriver",
        "featureGates",
    )


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"maxpods": 5}, 'strict decoding error: unknown field "maxpods"'),
        ({"maxPods": "5"}, 'strict decoding error: "maxPods" is no integer'),
        ({"authentication": {"x509": {"ca": "f"}}}, 'strict decoding error: unknown field "authentication.x509.ca"'),
        ({"maxPods": -1}, "invalid configuration: maxPods (--max-pods) -1 must not be a negative number or 0"),
        ({"containerLogMaxFiles": 1}, "invalid configuration: containerLogMaxFiles must be greater than 1"),
        ({"nodeLeaseDurationSeconds": 0}, "invalid configuration: nodeLeaseDurationSeconds must be greater than 0"),
        (
            {"imageGCLowThresholdPercent": 85},
            "invalid configuration: imageGCLowThresholdPercent (--image-gc-low-threshold) 85 must be less than "
            "imageGCHighThresholdPercent (--image-gc-high-threshold) 85",
        ),
        (
            {"shutdownGracePeriod": "10s", "shutdownGracePeriodCriticalPods": "20s"},
            "invalid configuration: shutdownGracePeriodCriticalPods 20s must be <= shutdownGracePeriod 10s",
        ),
        (
            {
                "shutdownGracePeriod": "10s",
                "shutdownGracePeriodByPodPriority": [{"priority": 0, "shutdownGracePeriodSeconds": 5}],
            },
            "invalid configuration: Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at "
            "the same time",
        ),
        (
            {"crashLoopBackOff": {"maxContainerRestartPeriod": "10m"}},
            "invalid configuration: CrashLoopBackOff.MaxContainerRestartPeriod (got: 600 seconds) must be set between "
            "1s and 300s",
        ),
        ({"imageMinimumGCAge": "2"}, 'imageMinimumGCAge: time: missing unit in duration "2"'),
        ({"kubeReserved": {"cpu": 1}}, 'invalid configuration: "kubeReserved.cpu" is no string'),
        ({"kubeReserved": {"gpu": "1"}}, 'invalid configuration: cannot reserve "gpu" resource in kubeReserved'),
        (
            {"systemReserved": {"cpu": "-1"}},
            'invalid configuration: resource quantity for "cpu" cannot be negative: -1',
        ),
        (
            {"registerWithTaints": [{"key": "a", "effect": "Never"}]},
            "invalid configuration: invalid taint: a=:Never",
        ),
    ],
)
def test_what_cannot_be_is_told_in_the_kubelets_words(fields: Object, problem: str) -> None:
    assert complaint(HEAD + yaml.safe_dump(fields)) == problem


def test_a_file_of_another_kind_is_refused() -> None:
    assert complaint("kind: Pod\napiVersion: v1\n") == 'no kind "Pod" is registered for version "v1"'


# ---- what the node does


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    one = Node(tmp_path)
    yield one
    await one.stop()


async def test_what_is_reserved_is_not_for_pods(node: Node) -> None:
    settings = read(kubeReserved={"cpu": "300m", "memory": "1Gi"}, systemReserved={"cpu": "200m"}).settings
    await node.start(**settings)
    status = found(node, "nodes")["status"]
    cpus = int(status["capacity"]["cpu"])
    assert status["allocatable"]["cpu"] == f"{cpus * 1000 - 500}m"
    spared = int(status["capacity"]["memory"][:-2]) - int(status["allocatable"]["memory"][:-2])
    assert spared == (1024 + 100) * 1024


async def test_a_new_node_has_its_taints_and_who_took_them_off_keeps_them_off(node: Node) -> None:
    settings = read(registerWithTaints=[{"key": "for", "value": "tests", "effect": "NoSchedule"}]).settings
    await node.start(**settings)
    assert found(node, "nodes")["spec"]["taints"] == [{"key": "for", "value": "tests", "effect": "NoSchedule"}]
    await node.stop()
    node.api.change("nodes", "node", "", spec={"taints": []})
    await node.start(**settings)
    assert found(node, "nodes")["spec"]["taints"] == []


async def test_its_lease_is_renewed_four_times_in_the_time_it_holds(node: Node) -> None:
    await node.start(**read(nodeLeaseDurationSeconds=8).settings)
    lease = found(node, "leases.coordination.k8s.io", "kube-node-lease")["spec"]
    assert lease["leaseDurationSeconds"] == 8
    await node.settle(2)
    assert found(node, "leases.coordination.k8s.io", "kube-node-lease")["spec"]["renewTime"] > lease["renewTime"]


async def test_a_container_that_crashes_waits_no_longer_than_that(node: Node) -> None:
    await node.start(**read(crashLoopBackOff={"maxContainerRestartPeriod": "3s"}).settings)
    await node.run(container("app"))
    node.runtime.end("app", 1)
    await node.settle()
    for _ in range(3):
        node.runtime.end("app", 1)
        await node.settle()
        waiting = node.container("app")["state"]["waiting"]
        assert (waiting["reason"], "back-off 3s" in waiting["message"]) == ("CrashLoopBackOff", True)
        await node.settle(3)
        assert node.runtime.running() == ["app"]


@pytest.mark.parametrize(
    ("default", "given", "wanted"),
    [(True, None, "runtime-default"), (False, None, "unconfined"), (True, "Unconfined", "unconfined")],
)
async def test_who_asks_for_no_seccomp_profile_has_the_default(
    node: Node, default: bool, given: str | None, wanted: str
) -> None:
    await node.start(**read(seccompDefault=default).settings)
    await node.run(securityContext={"seccompProfile": {"type": given}} if given else {})
    assert node.runtime.config("main").seccomp == wanted


def test_pods_end_in_as_many_steps_as_there_are_priorities() -> None:
    class Pod:
        def __init__(self, priority: int) -> None:
            self.pod: Object = {"spec": {"priority": priority}}
            self.takes_room = True

        def end(self, ending: Any) -> Any:
            raise NotImplementedError

    periods = [(100, 20), (0, 60), (2_000_000_000, 5)]
    told = [{"priority": priority, "shutdownGracePeriodSeconds": seconds} for priority, seconds in periods]
    config = read(shutdownGracePeriodByPodPriority=told).settings["shutdown"]
    assert config == ShutdownConfig(by_priority=tuple(ShutdownPeriod(*one) for one in periods))
    pods = [Pod(priority) for priority in (-5, 99, 100, 3_000, 2_000_000_001)]
    assert [(seconds, [one.pod["spec"]["priority"] for one in group]) for seconds, group in in_order(config, pods)] == [
        (60, [-5, 99]),
        (20, [100, 3_000]),
        (5, [2_000_000_001]),
    ]


def test_how_images_are_collected_is_told_whole_or_in_part() -> None:
    given = read(
        imageMinimumGCAge="5m", imageMaximumGCAge="1h", imageGCHighThresholdPercent=50, imageGCLowThresholdPercent=40
    )
    assert given.settings["image_gc"] == ImageGcConfig(50, 40, 300.0, 3600.0)
    assert read(imageMaximumGCAge="1h").settings["image_gc"] == ImageGcConfig(oldest_seconds=3600.0)


def test_it_is_what_configz_tells(tmp_path: Path) -> None:
    settings = read(
        containerLogMaxSize="1Mi", containerLogMaxFiles=3, kubeReserved={"cpu": "1", "memory": "1Gi"}
    ).settings
    assert settings["log_rotation"] == LogRotation(1 << 20, 3)
    config = KubeletConfig(node_name="node", root_dir=tmp_path, **settings)
    found = told(config, address="127.0.0.1", port=1, cgroups=False)["kubeletconfig"]
    assert (found["containerLogMaxSize"], found["containerLogMaxFiles"]) == ("1Mi", 3)
    assert found["kubeReserved"] == {"cpu": "1", "memory": "1Gi"}
