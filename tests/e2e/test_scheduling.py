"""Where pods go and why they wait, as kubectl tells it, with real processes on one real node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import NEWEST
from tests.support.kubectl import Kubectl, program
from tests.support.ports import free_port
from tests.support.process import running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CONFIG = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default-scheduler
- schedulerName: heedless
  plugins:
    multiPoint:
      disabled: [{name: NodeUnschedulable}, {name: TaintToleration}]
"""
ANSWER = ["--timeout=180s"]


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Of a cluster of these tests' own: they cordon its node and evict pods from it."""
    config: Path = tmp_path_factory.mktemp("config") / "scheduler.yaml"
    config.write_text(CONFIG)
    found = program(NEWEST)
    assert found is not None
    folder = tmp_path_factory.mktemp("cluster")
    with running_cluster(folder, "--insecure-port", "0", "--scheduler-config", str(config)) as running:
        yield Kubectl(found, running.kubeconfig, tmp_path_factory.mktemp("home"))


def create(kubectl: Kubectl, namespace: str, name: str, *, port: int = 0, app: str = "", **spec: Any) -> None:
    """A pod that sleeps; `port` is one of its node that no other pod can have."""
    container: dict[str, Any] = {"name": "c", "image": "app:1", "command": ["sleep", "3600"]}
    if port:
        container["ports"] = [{"containerPort": port, "hostPort": port}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app or name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }
    answer = kubectl.run("-n", namespace, "create", "-f", "-", stdin=json.dumps(pod))
    assert answer.status == 0, answer.errors


def wait(kubectl: Kubectl, namespace: str, name: str, condition: str = "condition=Ready") -> None:
    kubectl("-n", namespace, "wait", f"--for={condition}", f"pod/{name}", "--timeout=180s")


def why_not(kubectl: Kubectl, namespace: str, name: str) -> str:
    """What the pod's condition says once it was tried in vain."""
    wait(kubectl, namespace, name, "condition=PodScheduled=False")
    conditions = kubectl.json("-n", namespace, "get", "pod", name)["status"]["conditions"]
    return str(next(one["message"] for one in conditions if one["type"] == "PodScheduled"))


def test_a_pod_of_higher_priority_takes_the_place_of_one_of_lower(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "priorityclass", "urgent", "--value=1000")
    port = free_port()
    try:
        create(kubectl, namespace, "low", port=port)
        wait(kubectl, namespace, "low")
        create(kubectl, namespace, "high", port=port, priorityClassName="urgent")
        wait(kubectl, namespace, "high")
    finally:
        kubectl("delete", "priorityclass", "urgent")
    high = kubectl.json("-n", namespace, "get", "pod", "high")
    assert high["spec"]["priority"] == 1000 and "nominatedNodeName" not in high["status"]
    assert kubectl("-n", namespace, "get", "pod", "low", "--ignore-not-found") == ""
    node = high["spec"]["nodeName"]
    assert kubectl.event(namespace, "Preempted") == {
        "name": "low",
        "component": "default-scheduler",
        "message": f"Preempted by pod {high['metadata']['uid']} on node {node}",
    }


def test_pods_that_keep_apart_wait_for_each_other(kubectl: Kubectl, namespace: str) -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "lonely"}}}
    apart = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    create(kubectl, namespace, "first", app="lonely", affinity=apart)
    wait(kubectl, namespace, "first")
    create(kubectl, namespace, "second", app="lonely", affinity=apart)
    assert why_not(kubectl, namespace, "second") == (
        "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules. no new claims to deallocate, "
        "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )
    kubectl("-n", namespace, "delete", "pod", "first")
    wait(kubectl, namespace, "second")


def test_a_cordoned_node_takes_pods_only_by_a_profile_that_does_not_mind(kubectl: Kubectl, namespace: str) -> None:
    node = kubectl("get", "nodes", "-o", "name").strip()
    kubectl("cordon", node)
    try:
        create(kubectl, namespace, "waits")
        assert why_not(kubectl, namespace, "waits").startswith(
            "0/1 nodes are available: 1 node(s) were unschedulable. no new claims to deallocate, preemption: "
        )
        create(kubectl, namespace, "goes", schedulerName="heedless")
        wait(kubectl, namespace, "goes")
        scheduled = kubectl.event(namespace, "Scheduled")
        assert (scheduled["name"], scheduled["component"]) == ("goes", "heedless")
    finally:
        kubectl("uncordon", node)
    wait(kubectl, namespace, "waits")


def test_a_gated_pod_waits_until_its_gate_is_taken_away(kubectl: Kubectl, namespace: str) -> None:
    create(kubectl, namespace, "gated", schedulingGates=[{"name": "example.com/quota"}])
    kubectl("-n", namespace, "wait", "--for=jsonpath={.status.phase}=Pending", "pod/gated", *ANSWER)
    assert "SchedulingGated" in kubectl("-n", namespace, "get", "pod", "gated")
    kubectl(
        "-n",
        namespace,
        "patch",
        "pod",
        "gated",
        "--type=json",
        "-p",
        '[{"op":"remove","path":"/spec/schedulingGates"}]',
    )
    wait(kubectl, namespace, "gated")


def test_a_drain_keeps_to_disruption_budgets(kubectl: Kubectl, namespace: str) -> None:
    node = kubectl("get", "nodes", "-o", "name").strip()
    create(kubectl, namespace, "kept")
    wait(kubectl, namespace, "kept")
    kubectl("-n", namespace, "create", "poddisruptionbudget", "budget", "--selector=app=kept", "--min-available=1")
    allowed = "--for=jsonpath={.status.currentHealthy}=1"
    kubectl("-n", namespace, "wait", allowed, "poddisruptionbudget/budget", *ANSWER)
    drain = ["drain", node, "--force", "--pod-selector=app=kept", "--ignore-daemonsets"]
    try:
        answer = kubectl.run(*drain, "--timeout=10s")
        assert answer.status and "Cannot evict pod as it would violate the pod's disruption budget" in answer.errors
        kubectl("-n", namespace, "delete", "poddisruptionbudget", "budget")
        kubectl(*drain, "--timeout=180s")
        assert kubectl("-n", namespace, "get", "pods", "-o", "name") == ""
    finally:
        kubectl("uncordon", node)
