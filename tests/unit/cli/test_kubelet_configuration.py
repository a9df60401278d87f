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
from kubecore.kubelet.kubelet_config import KubeletConfig
from kubecore.kubelet.node_shutdown import ShutdownConfig, ShutdownPeriod

HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"


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


def test_nodes_of_a_whole_cluster_have_what_the_cluster_does_not_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path
) -> None:
    made: list[cluster.ClusterConfig] = []

    class Stop(Exception):
        pass

    def keep(config: cluster.ClusterConfig) -> None:
        made.append(config)
        raise Stop

    monkeypatch.setattr(cluster, "Cluster", keep)
    file.write_text(HEAD + "maxPods: 20\npodPidsLimit: 64\nevictionHard: {pid.available: 10%}\nseccompDefault: true\n")
    CliRunner().invoke(app, ["up", "--data-dir", str(tmp_path / "data"), "--kubelet-config", str(file)])
    (config,) = made
    assert (config.max_pods, config.kubelet["pod_max_pids"], config.kubelet["seccomp_default"]) == (20, 64, True)
    assert [one.signal for one in config.kubelet["eviction"].thresholds] == ["pid.available"]
    file.write_text(HEAD + "clusterDNS: [10.0.0.10]\n")
    assert "clusterDNS cannot be set for nodes of a whole cluster" in refusal("up", "--kubelet-config", str(file))
