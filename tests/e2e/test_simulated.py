"""Simulated nodes as a user has them: `kubecore up --simulated-nodes N`, and kubectl."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl, program
from tests.support.process import PATIENCE, RunningCluster, running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Object = dict[str, Any]

NODES = ("--nodes", "0", "--simulated-nodes", "50")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("simulated")


def at_cluster(cluster: RunningCluster) -> Kubectl:
    found = program("1.37")
    assert found is not None
    return Kubectl(found, cluster.kubeconfig, cluster.data_dir)


@pytest.fixture(scope="module")
def simulation(data_dir: Path) -> Iterator[RunningCluster]:
    with running_cluster(data_dir, *NODES) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def web(simulation: RunningCluster) -> list[Object]:
    """The pods of a Deployment that is rolled out."""
    kubectl = at_cluster(simulation)
    with kubectl.running("get", "nodes", "--watch", "-o", "name", stdout=subprocess.PIPE) as watch:
        assert watch.stdout is not None
        there: set[bytes] = set()
        while len(there) < 50 and (line := watch.stdout.readline()):
            there.add(line)
    kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=180s")
    kubectl("create", "deployment", "web", "--image=nginx", "--replicas=200")
    kubectl("rollout", "status", "deployment/web", "--timeout=180s")
    pods: list[Object] = kubectl.json("get", "pods", "-l", "app=web")["items"]
    return pods


def test_a_deployment_runs_on_simulated_nodes(web: list[Object]) -> None:
    assert len({pod["spec"]["nodeName"] for pod in web}) == 50
    assert len({pod["status"]["podIP"] for pod in web}) == 200


def test_a_job_completes_and_a_pod_crashes_as_its_annotations_say(simulation: RunningCluster) -> None:
    kubectl = at_cluster(simulation)
    rules = ("simulation.kubecore.dev/run-for=100ms", "simulation.kubecore.dev/exit-code=3")
    kubectl("run", "crash", "--image=none", *(f"--annotations={rule}" for rule in rules))
    kubectl("create", "job", "once", "--image=none")
    kubectl("wait", "--for=condition=Complete", "job/once", "--timeout=180s")
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff"
    kubectl("wait", f"--for={reason}", "pod/crash", "--timeout=180s")
    ended = kubectl(
        "get", "pod", "crash", "-o", "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}"
    )
    assert ended == "3"


def test_logs_of_a_simulated_pod_say_why_there_are_none(simulation: RunningCluster) -> None:
    kubectl = at_cluster(simulation)
    kubectl("run", "quiet", "--image=none")
    kubectl("wait", "--for=condition=Ready", "pod/quiet", "--timeout=180s")
    answer = kubectl.run("logs", "quiet")
    assert answer.status == 1
    assert "has no kubelet to ask: nothing runs on simulated nodes" in answer.errors


def test_pods_live_on_over_a_kill_and_a_start_with_fewer_nodes_takes_the_others_away(
    simulation: RunningCluster, data_dir: Path, web: list[Object]
) -> None:
    simulation.stop(number=signal.SIGKILL)
    with running_cluster(data_dir, "--nodes", "0", "--simulated-nodes", "49") as again:
        kubectl = at_cluster(again)
        kubectl("wait", "--for=delete", "node/simulated-49", "--timeout=180s")
        # Those of the node that is gone are collected, and others take their place.
        lost = [f"pod/{pod['metadata']['name']}" for pod in web if pod["spec"]["nodeName"] == "simulated-49"]
        kubectl("wait", "--for=delete", *lost, "--timeout=180s")
        running = ("get", "pods", "-l", "app=web", "--field-selector=status.phase=Running")
        ends = time.monotonic() + PATIENCE
        while len(pods := kubectl.json(*running)["items"]) != 200:
            assert time.monotonic() < ends, len(pods)
        now = {pod["metadata"]["uid"]: pod for pod in pods}
        kept = [now[pod["metadata"]["uid"]] for pod in web if pod["spec"]["nodeName"] != "simulated-49"]
        assert len(kept) == 200 - len(lost) > 0
        assert {pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods} == {0}
