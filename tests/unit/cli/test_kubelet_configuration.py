"""`kubecore kubelet --config` and `kubecore up --kubelet-config`: what goes before what, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kubecore import cluster
from kubecore.cli import component
from kubecore.cli.main import app
from kubecore.kubelet import kubelet
from kubecore.kubelet.node.shutdown import ShutdownConfig, ShutdownPeriod
from kubecore.kubelet.settings.kubelet_config import KubeletConfig

HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

OF_A_NODE_ALONE = """\
authentication: {x509: {clientCAFile: pki/ca.crt}}
tlsCertFile: pki/tls.crt
tlsPrivateKeyFile: pki/tls.key
clusterDNS: [10.0.0.10]
clusterDomain: example.test
shutdownGracePeriod: 9s
shutdownGracePeriodCriticalPods: 3s
"""
OF_ANY_NODE = """\
maxPods: 20
podPidsLimit: 64
allowedUnsafeSysctls: [net.core.*]
staticPodPath: manifests
evictionHard: {pid.available: 10%}
evictionSoft: {nodefs.available: 2Gi}
evictionSoftGracePeriod: {nodefs.available: 1m}
evictionMinimumReclaim: {nodefs.available: 1Gi}
evictionPressureTransitionPeriod: 30s
evictionMaxPodGracePeriod: 5
seccompDefault: true
"""


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever should have been refused and was not."""

    def refuse(config: object) -> None:
        raise AssertionError(f"it was not refused: {config}")

    monkeypatch.setattr(cluster, "Cluster", refuse)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kubelet.yaml"


def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> KubeletConfig:
    """What a kubelet is made with that is started by these."""
    made: list[KubeletConfig] = []

    def run(kubeconfig: Path, field_manager: str, make: Any, **more: Any) -> None:
        make(None)

    monkeypatch.setattr(component, "run_component", run)
    monkeypatch.setattr(kubelet, "Kubelet", lambda client, clock, config: made.append(config))
    credentials = tmp_path / "kubeconfig"
    credentials.write_text("apiVersion: v1\nkind: Config\n")
    monkeypatch.setattr(component, "_saved_authority", lambda kubeconfig, folder: None)
    given = ["kubelet", "--kubeconfig", str(credentials), "--root-dir", str(tmp_path / "root"), *arguments]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    return made[0]


def refusal(*arguments: str) -> str:
    """The words of it, without the frame that they are shown in."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2
    return " ".join(result.output.replace("│", " ").split())


def test_options_go_before_the_file_and_the_file_before_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path
) -> None:
    file.write_text(HEAD + "maxPods: 20\npodPidsLimit: 100\nclusterDomain: example.test\nkubeReserved: {cpu: 100m}\n")
    found = configured(monkeypatch, tmp_path, "--max-pods", "7", "--config", str(file))
    assert (found.max_pods, found.pod_max_pids, found.cluster_domain) == (7, 100, "example.test")
    assert (found.reserved, found.default_runtime) == ({"cpu": 10**8}, "host")


def test_thresholds_of_the_file_and_of_options_go_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path
) -> None:
    file.write_text(HEAD + 'evictionHard: {memory.available: 5%}\nevictionPressureTransitionPeriod: "30s"\n')
    soft = ["--eviction-soft", "nodefs.available<1Gi", "--eviction-soft-grace-period", "nodefs.available=1m"]
    found = configured(monkeypatch, tmp_path, "--config", str(file), *soft).eviction
    assert [(one.signal, one.grace_seconds) for one in found.thresholds] == [
        ("memory.available", None),
        ("nodefs.available", 60.0),
    ]
    assert found.transition_seconds == 30.0


def test_time_by_priority_comes_from_the_file_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path
) -> None:
    file.write_text(HEAD + "shutdownGracePeriodByPodPriority: [{priority: 0, shutdownGracePeriodSeconds: 9}]\n")
    found = configured(monkeypatch, tmp_path, "--config", str(file))
    assert found.shutdown == ShutdownConfig(by_priority=(ShutdownPeriod(0, 9),))
    told = refusal("kubelet", "--kubeconfig", str(file), "--config", str(file), "--shutdown-grace-period", "9s")
    assert "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time" in told


@pytest.mark.parametrize(("command", "option"), [("kubelet", "--config"), ("up", "--kubelet-config")])
def test_a_file_that_cannot_be_used_is_refused_by_name(command: str, option: str, file: Path) -> None:
    assert f"Invalid value for '{option}': {file}: No such file" in refusal(command, option, str(file))
    file.write_text(HEAD + "maxPod: 3\n")
    assert 'strict decoding error: unknown field "maxPod"' in refusal(command, option, str(file))


def test_what_has_no_effect_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path) -> None:
    file.write_text(HEAD + "cgroupDriver: systemd\n")
    configured(monkeypatch, tmp_path, "--config", str(file))
    result = CliRunner().invoke(app, ["kubelet", "--kubeconfig", str(file), "--config", str(file), "--max-pods", "x"])
    assert f"kubecore: {file}: without effect here: cgroupDriver" in result.output


def test_all_that_a_file_says_is_heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path) -> None:
    (tmp_path / "pki").mkdir()
    for name in ("ca.crt", "tls.crt", "tls.key"):
        (tmp_path / "pki" / name).touch()
    file.write_text(HEAD + OF_A_NODE_ALONE + OF_ANY_NODE)
    found = configured(monkeypatch, tmp_path, "--config", str(file))
    assert (found.client_ca, found.server_certificate, found.server_key) == (
        tmp_path / "pki" / "ca.crt",
        tmp_path / "pki" / "tls.crt",
        tmp_path / "pki" / "tls.key",
    )
    assert (found.cluster_dns, found.cluster_domain) == (("10.0.0.10",), "example.test")
    assert (found.shutdown.seconds, found.shutdown.critical_seconds) == (9.0, 3.0)
    assert (found.max_pods, found.pod_max_pids, found.allowed_unsafe_sysctls) == (20, 64, ("net.core.*",))
    assert found.pod_manifest_path == tmp_path / "manifests"
    assert [one.signal for one in found.eviction.thresholds] == ["pid.available", "nodefs.available"]
    assert (found.eviction.transition_seconds, found.eviction.most_grace_seconds) == (30.0, 5.0)


def cluster_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> cluster.ClusterConfig:
    """What a cluster is made with that is started by these."""
    made: list[cluster.ClusterConfig] = []

    class Stop(Exception):
        pass

    def keep(config: cluster.ClusterConfig) -> None:
        made.append(config)
        raise Stop

    monkeypatch.setattr(cluster, "Cluster", keep)
    CliRunner().invoke(app, ["up", "--data-dir", str(tmp_path / "data"), *arguments])
    (config,) = made
    return config


def test_nodes_of_a_whole_cluster_have_what_the_cluster_does_not_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path
) -> None:
    file.write_text(HEAD + OF_ANY_NODE)
    config = cluster_of(monkeypatch, tmp_path, "--kubelet-config", str(file))
    assert (config.max_pods, config.kubelet["pod_max_pids"], config.kubelet["seccomp_default"]) == (20, 64, True)
    assert config.kubelet["allowed_unsafe_sysctls"] == ("net.core.*",)
    assert config.kubelet["pod_manifest_path"] == tmp_path / "manifests"
    evicting = config.kubelet["eviction"]
    assert [one.signal for one in evicting.thresholds] == ["pid.available", "nodefs.available"]
    assert (evicting.transition_seconds, evicting.most_grace_seconds) == (30.0, 5.0)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("authentication: {x509: {clientCAFile: kubelet.yaml}}", "authentication.x509.clientCAFile"),
        ("tlsCertFile: kubelet.yaml", "tlsCertFile"),
        ("tlsPrivateKeyFile: kubelet.yaml", "tlsPrivateKeyFile"),
        ("clusterDNS: [10.0.0.10]", "clusterDNS"),
        ("clusterDomain: example.test", "clusterDomain"),
    ],
)
def test_nodes_of_a_whole_cluster_have_from_no_file_what_is_the_clusters(said: str, name: str, file: Path) -> None:
    """Whom the API server knows, above all."""
    file.write_text(f"{HEAD}{said}\n")
    assert f"{name} cannot be set for nodes of a whole cluster" in refusal("up", "--kubelet-config", str(file))
