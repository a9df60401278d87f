"""What a kubelet counts and times of its own work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kubecore.clock import VirtualClock
from kubecore.kubelet.node.measured_runtime import MeasuredRuntime
from kubecore.kubelet.runtime.interface import RuntimeFailure, SandboxConfig
from kubecore.kubelet.serving.kubelet_metrics import RuntimeMetrics
from kubecore.metrics import Metrics
from tests.unit.kubelet.conftest import Node, container
from tests.unit.kubelet.fake_runtime import FakeRuntime


def told(node: Node) -> list[str]:
    return node.kubelet.metrics.render(node.kubelet.counts()).decode().splitlines()


def probes(node: Node) -> list[str]:
    return node.kubelet.metrics.probes.render().decode().splitlines()


async def test_it_tells_what_runs_at_the_moment(node: Node) -> None:
    assert "kubelet_running_pods 0" in told(node)
    await node.run(container(), container("side"))
    lines = told(node)
    assert 'kubelet_node_name{node="node"} 1' in lines
    assert "kubelet_running_pods 1" in lines
    assert 'kubelet_running_containers{container_state="running"} 2' in lines
    assert 'kubelet_desired_pods{static=""} 1' in lines
    assert 'kubelet_active_pods{static=""} 1' in lines
    assert 'kubelet_working_pods{config="desired",lifecycle="sync",static=""} 1' in lines
    await node.delete(grace_seconds=0)
    assert "kubelet_running_pods 0" in told(node)


async def test_starts_are_counted_by_the_kind_of_container(node: Node) -> None:
    await node.run(container(), initContainers=[container("first")])
    node.runtime.end("first", 0)
    await node.settle()
    lines = told(node)
    assert "kubelet_started_pods_total 1" in lines
    assert 'kubelet_started_containers_total{container_type="init_container"} 1' in lines
    assert 'kubelet_started_containers_total{container_type="container"} 1' in lines


async def test_what_cannot_be_started_is_counted_by_its_reason(node: Node) -> None:
    missing = {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "missing", "key": "x"}}}
    await node.run(container(env=[missing]))
    labels = 'code="CreateContainerConfigError",container_type="container"'
    assert f"kubelet_started_containers_errors_total{{{labels}}} 1" in told(node)


async def test_each_call_of_a_runtime_is_counted_and_timed(node: Node) -> None:
    await node.run()
    lines = told(node)
    for operation in ("run_podsandbox", "create_container", "start_container"):
        assert f'kubelet_runtime_operations_total{{operation_type="{operation}"}} 1' in lines
        assert f'kubelet_runtime_operations_duration_seconds_count{{operation_type="{operation}"}} 1' in lines
    assert 'kubelet_run_podsandbox_duration_seconds_count{runtime_handler="host"} 1' in lines


async def test_how_long_a_pod_takes_to_run(node: Node) -> None:
    await node.run(container(), initContainers=[container("first")])
    assert "kubelet_pod_start_duration_seconds_count 1" not in told(node)
    await node.settle(7)
    node.runtime.end("first", 0)
    await node.settle()
    lines = told(node)
    assert "kubelet_containers_per_pod_count_count 1" in lines
    assert 'kubelet_pod_start_duration_seconds_bucket{le="6"} 0' in lines
    assert 'kubelet_pod_start_duration_seconds_bucket{le="8"} 1' in lines
    assert 'kubelet_pod_start_total_duration_seconds_bucket{le="6"} 0' in lines
    assert "kubelet_pod_start_total_duration_seconds_count 1" in lines
    assert 'kubelet_pod_worker_duration_seconds_count{operation_type="create"} 1' in lines


async def test_pods_that_are_refused_are_counted_by_the_reason(node: Node) -> None:
    await node.run(nodeSelector={"no": "such"})
    assert 'kubelet_admission_rejections_total{reason="NodeAffinity"} 1' in told(node)


async def test_probes_are_counted_until_their_pod_is_gone(node: Node) -> None:
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 10}
    await node.run(container(readinessProbe=probe))
    await node.settle(25)
    uid = node.pod()["metadata"]["uid"]
    labels = (
        f'container="main",namespace="default",pod="pod",pod_uid="{uid}",probe_type="Readiness",result="successful"'
    )
    assert f"prober_probe_total{{{labels}}} 3" in probes(node)
    assert any(line.startswith("prober_probe_duration_seconds_count{") for line in probes(node))
    await node.delete(grace_seconds=0)
    assert probes(node) == []


async def test_an_image_is_counted_by_its_size(node: Node) -> None:
    for size in (5, 20 << 20, 200 << 30):
        node.kubelet.metrics.pulled(3.0, size)
    lines = told(node)
    for label in ("0-10MB", "10MB-100MB", "GT100GB"):
        assert f'kubelet_image_pull_duration_seconds_bucket{{image_size_in_bytes="{label}",le="5"}} 1' in lines


async def test_pods_with_users_of_their_own_are_counted_beside_the_others(tmp_path: Path) -> None:
    metrics, clock = RuntimeMetrics(), VirtualClock()
    fake = FakeRuntime(clock)
    runtime = MeasuredRuntime(fake, metrics, clock)
    config = SandboxConfig("uid", "pod", "default", 0, "pod", tmp_path)
    await runtime.run_pod_sandbox(config)
    await runtime.run_pod_sandbox(replace(config, own_users=True))
    fake.fail_sandbox = [RuntimeFailure("FailedCreatePodSandBox", "no")]
    with pytest.raises(RuntimeFailure):
        await runtime.run_pod_sandbox(replace(config, own_users=True))
    told = Metrics()
    told.add(*metrics.all())
    lines = told.render().decode().splitlines()
    assert "kubelet_started_pods_total 3" in lines
    assert "kubelet_started_user_namespaced_pods_total 2" in lines
    assert "kubelet_started_user_namespaced_pods_errors_total 1" in lines
