"""A node that is configured by a file: what a KubeletConfiguration says, and what the node does then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.kubelet.logs.writing import LogRotation
from kubecore.kubelet.node.image_gc import ImageGcConfig
from kubecore.kubelet.node.shutdown import ShutdownConfig, ShutdownPeriod, in_order
from kubecore.kubelet.serving.configz import told
from kubecore.kubelet.settings.configuration import KubeletFile, load
from kubecore.kubelet.settings.kubelet_config import KubeletConfig
from tests.unit.kubelet.conftest import Node, container

Object = dict[str, Any]

HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

OF_KUBEADM = """
apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous:
    enabled: false
  webhook:
    cacheTTL: 0s
    enabled: true
  x509:
    clientCAFile: /etc/kubernetes/pki/ca.crt
authorization:
  mode: Webhook
  webhook:
    cacheAuthorizedTTL: 0s
    cacheUnauthorizedTTL: 0s
cgroupDriver: systemd
clusterDNS:
- 10.96.0.10
clusterDomain: cluster.local
containerRuntimeEndpoint: unix:///var/run/containerd/containerd.sock
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
kind: KubeletConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
resolvConf: /run/systemd/resolve/resolv.conf
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
"""


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


def test_of_a_field_with_parts_those_without_effect_are_named() -> None:
    named = read(
        authentication={"anonymous": {"enabled": True}, "webhook": {"enabled": False, "cacheTTL": "1m"}},
        authorization={"mode": "AlwaysAllow"},
    )
    assert named.ignored == (
        "authentication.anonymous.enabled",
        "authentication.webhook.cacheTTL",
        "authentication.webhook.enabled",
        "authorization.mode",
    )


def test_what_is_so_anyway_is_not_named() -> None:
    authentication = {"anonymous": {"enabled": False}, "webhook": {"enabled": True}}
    assert read(authentication=authentication, authorization={"mode": "Webhook"}) == KubeletFile()


@pytest.mark.parametrize(
    "zero",
    [
        {"nodeLeaseDurationSeconds": 0},
        {"maxPods": 0},
        {"imageMinimumGCAge": "0s"},
        {"imageMaximumGCAge": "0"},
        {"evictionPressureTransitionPeriod": "0s"},
        {"evictionMaxPodGracePeriod": 0},
        {"shutdownGracePeriod": "0m", "shutdownGracePeriodCriticalPods": "0s"},
        {"shutdownGracePeriodByPodPriority": []},
        {"containerLogMaxSize": ""},
        {"clusterDomain": "", "clusterDNS": [], "staticPodPath": "", "tlsCertFile": "", "tlsPrivateKeyFile": ""},
        {"authentication": {"x509": {"clientCAFile": ""}}},
        {"containerRuntimeEndpoint": "", "imageServiceEndpoint": ""},
        {"kubeReserved": {}, "systemReserved": {}, "registerWithTaints": [], "allowedUnsafeSysctls": []},
        {"crashLoopBackOff": {}, "syncFrequency": "0s", "cgroupDriver": "", "memorySwap": {}},
        {"rotateCertificates": False, "readOnlyPort": 0, "logging": {"verbosity": 0, "options": {"json": {}}}},
    ],
)
def test_a_zero_says_nothing_where_upstream_has_a_default_for_it(zero: Object) -> None:
    assert read(**zero) == KubeletFile()


def test_a_zero_is_a_value_where_upstream_tells_it_from_none() -> None:
    found = read(imageGCLowThresholdPercent=0, evictionHard={}, failSwapOn=False, registryPullQPS=0, resolvConf="")
    assert found.settings["image_gc"] == ImageGcConfig(low_percent=0)
    assert found.options == {"eviction_hard": ""}
    assert found.ignored == ("failSwapOn", "registryPullQPS", "resolvConf")
    problem = "invalid configuration: containerLogMaxFiles must be greater than 1"
    assert complaint(f"{HEAD}containerLogMaxFiles: 0") == problem


def test_a_file_that_kubeadm_wrote_is_read() -> None:
    found = load(OF_KUBEADM)
    assert found.options == {
        "pod_manifest_path": "/etc/kubernetes/manifests",
        "client_ca_file": "/etc/kubernetes/pki/ca.crt",
        "cluster_dns": "10.96.0.10",
        "cluster_domain": "cluster.local",
        "container_runtime_endpoint": "unix:///var/run/containerd/containerd.sock",
        "rotate_certificates": True,
    }
    assert found.settings == {}
    assert found.ignored == ("cgroupDriver", "healthzBindAddress", "healthzPort", "resolvConf")


@pytest.mark.parametrize(
    ("asked", "enforced", "ignored"),
    [
        (["pods"], True, ()),
        (["none"], False, ()),
        ([], False, ()),
        (["kube-reserved"], False, ("kubeReservedCgroup", "enforceNodeAllocatable")),
    ],
)
def test_what_is_allocatable_is_enforced_for_pods(asked: list[str], enforced: bool, ignored: tuple[str, ...]) -> None:
    group = {"kubeReservedCgroup": "/kube"} if ignored else {}
    found = read(enforceNodeAllocatable=asked, **group)
    assert (found.settings["enforce_allocatable"], found.ignored) == (enforced, ignored)


_ENFORCEMENT = "enforceNodeAllocatable (--enforce-node-allocatable)"


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (["pods", "pods"], f'duplicated enforcements "pods" in {_ENFORCEMENT}'),
        (["pods", "none"], f'{_ENFORCEMENT} may not contain additional enforcements when "none" is specified'),
        (
            ["system-reserved"],
            "systemReservedCgroup (--system-reserved-cgroup) must be specified when "
            f'"system-reserved" or "system-reserved-compressible" included in {_ENFORCEMENT}',
        ),
        (
            ["all"],
            f'option "all" specified for {_ENFORCEMENT}. Valid options are "pods", "system-reserved", '
            '"system-reserved-compressible", "kube-reserved", "kube-reserved-compressible" or "none"',
        ),
    ],
)
def test_an_enforcement_that_there_is_not_is_refused(asked: list[str], problem: str) -> None:
    assert complaint(HEAD + yaml.safe_dump({"enforceNodeAllocatable": asked})) == f"invalid configuration: {problem}"


def test_nulls_say_nothing() -> None:
    authentication = {"x509": {"clientCAFile": None}, "webhook": None}
    assert read(maxPods=None, authentication=authentication, crashLoopBackOff=None, kubeReserved={"cpu": None}) == (
        KubeletFile()
    )
    assert read(clusterDNS=[None]).options == {"cluster_dns": ""}
    periods = [None, {"priority": 5, "shutdownGracePeriodSeconds": None}]
    told = read(shutdownGracePeriodByPodPriority=periods).settings["shutdown"]
    assert told == ShutdownConfig(by_priority=(ShutdownPeriod(0, 0), ShutdownPeriod(5, 0)))


def test_relative_paths_are_of_the_files_folder() -> None:
    text = HEAD + yaml.safe_dump(
        {
            "staticPodPath": "manifests",
            "tlsCertFile": "../tls.crt",
            "tlsPrivateKeyFile": "/elsewhere/tls.key",
            "authentication": {"x509": {"clientCAFile": "pki/ca.crt"}},
        }
    )
    assert load(text, Path("/etc/node")).options == {
        "pod_manifest_path": "/etc/node/manifests",
        "tls_cert_file": "/etc/node/../tls.crt",
        "tls_private_key_file": "/elsewhere/tls.key",
        "client_ca_file": "/etc/node/pki/ca.crt",
    }


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"maxpods": 5}, 'strict decoding error: unknown field "maxpods"'),
        ({"maxPods": "5"}, 'strict decoding error: "maxPods" is no integer'),
        ({"authentication": {"x509": {"ca": "f"}}}, 'strict decoding error: unknown field "authentication.x509.ca"'),
        ({"maxPods": -1}, "invalid configuration: maxPods (--max-pods) -1 must not be a negative number"),
        ({"containerLogMaxFiles": 1}, "invalid configuration: containerLogMaxFiles must be greater than 1"),
        ({"nodeLeaseDurationSeconds": -1}, "invalid configuration: nodeLeaseDurationSeconds must be greater than 0"),
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
            {"imageMaximumGCAge": "1m"},
            "invalid configuration: imageMaximumGCAge 1m0s must be greater than imageMinimumGCAge 2m0s",
        ),
        (
            {"maxPods": -1, "imageMinimumGCAge": "-5m"},
            "[invalid configuration: maxPods (--max-pods) -1 must not be a negative number, "
            "invalid configuration: imageMinimumGCAge -5m0s must not be negative]",
        ),
        ({"imageMaximumGCAge": "-1s"}, "invalid configuration: imageMaximumGCAge -1s must not be negative"),
        (
            {"evictionPressureTransitionPeriod": "-1h"},
            "invalid configuration: evictionPressureTransitionPeriod -1h0m0s must not be negative",
        ),
        ({"syncFrequency": "1"}, 'syncFrequency: time: missing unit in duration "1"'),
    ],
)
def test_what_cannot_be_is_told_in_the_kubelets_words(fields: Object, problem: str) -> None:
    assert complaint(HEAD + yaml.safe_dump(fields)) == problem


@pytest.mark.parametrize(
    ("taint", "shown"),
    [
        ({"key": "a", "effect": "Never"}, "{a  Never <nil>}"),
        ({"key": "no key", "effect": "NoSchedule"}, "{no key  NoSchedule <nil>}"),
        ({"key": "Upper.case/a", "effect": "NoSchedule"}, "{Upper.case/a  NoSchedule <nil>}"),
        ({"key": "a", "value": "no value", "effect": "NoSchedule"}, "{a no value NoSchedule <nil>}"),
        ({"key": None, "value": "b", "effect": "NoSchedule"}, "{ b NoSchedule <nil>}"),
        (None, "{   <nil>}"),
    ],
)
def test_a_taint_has_the_key_and_the_value_of_a_label(taint: Object | None, shown: str) -> None:
    assert complaint(HEAD + yaml.safe_dump({"registerWithTaints": [taint]})) == f"invalid taint: {shown}"


def test_a_taint_of_a_file_was_not_added_at_a_time() -> None:
    taint = {"key": "a", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}
    problem = "invalid configuration: taint.TimeAdded is not nil"
    assert complaint(HEAD + yaml.safe_dump({"registerWithTaints": [taint]})) == problem


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


@pytest.mark.parametrize(
    ("given", "together"),
    [({"maxPods": 7}, True), ({"singleProcessOOMKill": False}, True), ({"singleProcessOOMKill": True}, False)],
)
async def test_all_processes_of_a_container_are_killed_for_want_of_memory_unless_one_is_to_be(
    node: Node, given: Object, together: bool
) -> None:
    found = read(**given)
    await node.start(**found.settings)
    await node.run()
    assert (node.runtime.config("main").limits.together, found.ignored) == (together, ())


def test_pods_end_in_as_many_steps_as_there_are_priorities() -> None:
    class Pod:
        def __init__(self, priority: int) -> None:
            self.pod: Object = {"spec": {"priority": priority}}
            self.takes_room = True

        def end(self, ending: Any) -> Any:
            raise AssertionError("who is only put in order does not end")

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


def test_how_many_images_the_status_names_is_told_none_and_all_included() -> None:
    assert [read(nodeStatusMaxImages=most).settings for most in (-1, 0, 7)] == [{"max_images": n} for n in (-1, 0, 7)]
    problem = "invalid configuration: nodeStatusMaxImages (--node-status-max-images) -2 must be -1 or greater"
    assert complaint(f"{HEAD}nodeStatusMaxImages: -2") == problem


def test_a_serving_certificate_may_be_asked_for() -> None:
    given = read(serverTLSBootstrap=True)
    assert (given.settings, given.ignored) == ({"server_tls_bootstrap": True}, ())
    assert read(serverTLSBootstrap=False).ignored == ()


def test_it_is_what_configz_tells(tmp_path: Path) -> None:
    settings = read(
        containerLogMaxSize="1Mi",
        containerLogMaxFiles=3,
        kubeReserved={"cpu": "1", "memory": "1Gi"},
        imageMinimumGCAge="1ms",
        imageMaximumGCAge="1h",
        nodeStatusMaxImages=7,
    ).settings
    assert settings["log_rotation"] == LogRotation(1 << 20, 3)
    config = KubeletConfig(node_name="node", root_dir=tmp_path, **settings)
    found = told(config, address="127.0.0.1", port=1, cgroups=False)["kubeletconfig"]
    assert (found["containerLogMaxSize"], found["containerLogMaxFiles"]) == ("1Mi", 3)
    assert (found["imageMinimumGCAge"], found["imageMaximumGCAge"]) == ("1ms", "1h0m0s")
    assert found["kubeReserved"] == {"cpu": "1", "memory": "1Gi"}
    assert found["nodeStatusMaxImages"] == 7
