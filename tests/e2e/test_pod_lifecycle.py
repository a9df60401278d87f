"""How real containers begin and end: hooks, sidecars, another image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubectl import Kubectl, of_version, own_namespace
from tests.support.process import RunningCluster, running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Object = dict[str, Any]

TOLD = (
    "trap 'rm /said/ready-{0}; say {0} term; sleep {1}; say {0} over; exit 0' TERM; "
    "say {0} runs; touch /said/ready-{0}; while :; do sleep 0.1; done"
)
SAY = 'say() { echo "$(date +%s.%N) $*" >> /said/log; }; '


@pytest.fixture(scope="module")
def kubectl(cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return of_version("1.37", cluster.kubeconfig, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Iterator[str]:
    with own_namespace(kubectl, "lifecycle") as name:
        yield name


class Pod:
    """One whose containers note what they do in a file that outlives it."""

    def __init__(self, kubectl: Kubectl, namespace: str, name: str, folder: Any) -> None:
        self._kubectl, self._namespace, self.name = kubectl, namespace, name
        self._folder = folder
        folder.chmod(0o777)

    def container(self, name: str, script: str, **fields: Any) -> Object:
        mounts = [{"name": "said", "mountPath": "/said"}]
        command = ["sh", "-c", SAY + script]
        ready = {"exec": {"command": ["test", "-e", f"/said/ready-{name}"]}, "periodSeconds": 1}
        told = {"name": name, "image": "none", "command": command, "volumeMounts": mounts}
        return {**told, "readinessProbe": ready, **fields}

    def run(self, *containers: Object, **spec: Any) -> None:
        volumes = [{"name": "said", "hostPath": {"path": str(self._folder)}}]
        whole = {"containers": list(containers), "volumes": volumes, **spec}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.name}, "spec": whole}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(pod))

    def kubectl(self, *arguments: str, **more: Any) -> str:
        return self._kubectl("-n", self._namespace, *arguments, **more)

    def wait(self) -> None:
        self.kubectl("wait", "pod", self.name, "--for=condition=Ready", "--timeout=180s")

    def delete(self) -> None:
        self.kubectl("delete", "pod", self.name, "--timeout=180s")

    def said(self) -> list[tuple[float, str]]:
        """When, and what."""
        lines = (self._folder / "log").read_text().splitlines()
        return [(float(when), what) for when, _, what in (line.partition(" ") for line in lines)]

    def let_go(self) -> None:
        """Whoever waits until it is enough."""
        (self._folder / "enough").touch()

    def words(self) -> list[str]:
        return [what for _, what in self.said()]


@pytest.fixture
def pod(
    kubectl: Kubectl, namespace: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Pod:
    name = request.node.name.replace("_", "-")[:40].rstrip("-")
    return Pod(kubectl, namespace, name, tmp_path_factory.mktemp("said"))


def test_pre_stop_is_over_before_a_container_is_told_to_end(pod: Pod) -> None:
    hook = {"exec": {"command": ["sh", "-c", SAY + "say hook begins; sleep 2; say hook ends"]}}
    pod.run(
        pod.container("main", TOLD.format("main", 0), lifecycle={"preStop": hook}), terminationGracePeriodSeconds=120
    )
    pod.wait()
    pod.delete()
    assert pod.words() == ["main runs", "hook begins", "hook ends", "main term", "main over"]


def test_sidecars_go_on_until_the_main_container_has_ended(pod: Pod) -> None:
    sidecars = [pod.container(name, TOLD.format(name, 0), restartPolicy="Always") for name in ("log", "mesh")]
    pod.run(pod.container("main", TOLD.format("main", 2)), initContainers=sidecars, terminationGracePeriodSeconds=120)
    pod.wait()
    pod.delete()
    ends = [what for what in pod.words() if not what.endswith("runs")]
    assert ends == ["main term", "main over", "mesh term", "mesh over", "log term", "log over"]


def test_the_next_container_starts_and_the_pod_is_ready_when_post_start_is_over(pod: Pod) -> None:
    hook = {"exec": {"command": ["sh", "-c", SAY + "say hook begins; sleep 2; say hook ends"]}}
    first = pod.container("first", TOLD.format("first", 0), lifecycle={"postStart": hook})
    pod.run(first, pod.container("second", TOLD.format("second", 0)), terminationGracePeriodSeconds=1)
    pod.wait()
    said = dict((what, when) for when, what in pod.said())
    assert said["hook ends"] - said["hook begins"] >= 2
    assert said["second runs"] > said["hook ends"]
    pod.delete()


def test_a_container_that_is_given_another_image_is_restarted(pod: Pod) -> None:
    pod.run(pod.container("main", TOLD.format("main", 0)), terminationGracePeriodSeconds=120)
    pod.wait()
    pod.kubectl("set", "image", f"pod/{pod.name}", "main=other:2")
    restarts = "jsonpath={.status.containerStatuses[0].restartCount}=1"
    pod.kubectl("wait", "pod", pod.name, f"--for={restarts}", "--timeout=180s")
    pod.wait()
    assert pod.words() == ["main runs", "main term", "main over", "main runs"]
    told = f"--field-selector=reason=Killing,involvedObject.name={pod.name}"
    pod.kubectl("wait", "--for=create", "events", told, "--timeout=180s")
    assert "Container main definition changed, will be restarted" in pod.kubectl("events", "--for", f"pod/{pod.name}")
    pod.delete()


def test_a_pod_whose_sidecar_takes_its_time_to_end_says_that_its_main_container_has_completed(pod: Pod) -> None:
    script = "trap '' TERM; touch /said/ready-log; until [ -e /said/enough ]; do sleep 0.1; done"
    sidecar = pod.container("log", script, restartPolicy="Always")
    main = pod.container("main", "say main runs")
    pod.run(main, initContainers=[sidecar], restartPolicy="Never", terminationGracePeriodSeconds=600)
    ended = "jsonpath={.status.containerStatuses[0].state.terminated.reason}=Completed"
    pod.kubectl("wait", "pod", pod.name, f"--for={ended}", "--timeout=180s")
    status = json.loads(pod.kubectl("get", "pod", pod.name, "-o", "json"))["status"]
    assert status["phase"] in ("Pending", "Running")
    assert "running" in status["initContainerStatuses"][0]["state"]
    ready = next(one for one in status["conditions"] if one["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "PodCompleted")
    pod.let_go()
    pod.kubectl("wait", "pod", pod.name, "--for=jsonpath={.status.phase}=Succeeded", "--timeout=180s")
    pod.delete()


def test_a_running_container_is_given_more_and_less_and_goes_on(pod: Pod) -> None:
    def sized(cpu: str, memory: str) -> Object:
        amounts = {"cpu": cpu, "memory": memory}
        return {"requests": amounts, "limits": amounts}

    main = pod.container("main", TOLD.format("main", 0), resources=sized("200m", "100Mi"))
    pod.run(main, terminationGracePeriodSeconds=5)
    pod.wait()
    for cpu, memory in (("300m", "100Mi"), ("400m", "200Mi"), ("100m", "150Mi")):
        change = {"spec": {"containers": [{"name": "main", "resources": sized(cpu, memory)}]}}
        pod.kubectl("patch", "pod", pod.name, "--subresource=resize", "-p", json.dumps(change))
        for name, amount in (("cpu", cpu), ("memory", memory)):
            told = f"jsonpath={{.status.containerStatuses[0].resources.limits.{name}}}={amount}"
            pod.kubectl("wait", "pod", pod.name, f"--for={told}", "--timeout=180s")
    status = json.loads(pod.kubectl("get", "pod", pod.name, "-o", "json"))["status"]
    assert status["containerStatuses"][0]["restartCount"] == 0
    assert "ResizeError" not in pod.kubectl("events", "--for", f"pod/{pod.name}")
    assert pod.words() == ["main runs"]
    pod.delete()


def test_a_cluster_that_ends_leaves_its_pods_the_time_that_its_nodes_are_given(tmp_path: Path) -> None:
    folder, file = tmp_path / "said", tmp_path / "nodes.yaml"
    folder.mkdir()
    file.write_text("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nshutdownGracePeriod: 90s\n")
    with running_cluster(tmp_path / "data", "--kubelet-config", str(file)) as cluster:
        pod = Pod(of_version("1.37", cluster.kubeconfig, tmp_path / "home"), "default", "leaves", folder)
        hook = {"exec": {"command": ["sh", "-c", SAY + "say hook begins; sleep 1; say hook ends"]}}
        pod.run(pod.container("main", TOLD.format("main", 5), lifecycle={"preStop": hook}))
        pod.wait()
        assert cluster.stop(seconds=180) == 0
    assert pod.words() == ["main runs", "hook begins", "hook ends", "main term", "main over"]
