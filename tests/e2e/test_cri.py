"""A node whose pods run under containerd, by its Container Runtime Interface, with kubectl."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.containerd import PAUSE, PROGRAMS, Containerd, running_containerd
from tests.support.kubectl import of_version
from tests.support.process import running_cluster, start
from tests.support.small_image import SmallImage, programs

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(900)]

COUNT = "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.05; done"


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    folder = tmp_path_factory.mktemp("containerd")
    with running_containerd(folder, cni=folder / "data" / "cni") as running:
        yield running


def pod(name: str, script: str, **container: Any) -> dict[str, Any]:
    main = {
        "name": "main",
        "image": PROGRAMS,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", script],
        **container,
    }
    spec = {"containers": [main], "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_pods_live_under_containerd_and_go_on_while_their_cluster_is_killed(
    containerd: Containerd, tmp_path: Path
) -> None:
    data = containerd.cni.parent
    arguments = ("--default-runtime", "cri", "--container-runtime-endpoint", containerd.endpoint)
    environment = containerd.environment()
    ready = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1}
    with running_cluster(data, *arguments, environment=environment) as cluster:
        kubectl = of_version("1.37", cluster.kubeconfig, tmp_path)
        kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=180s")
        for one in (pod("counting", COUNT), pod("probed", "sleep 1000", readinessProbe=ready)):
            kubectl("apply", "-f", "-", stdin=json.dumps(one))
        kubectl("wait", "pod", "counting", "--for=condition=Ready", "--timeout=180s")
        kubectl("wait", "pod", "probed", "--for=jsonpath={.status.phase}=Running", "--timeout=180s")

        before = kubectl.json("get", "pod", "counting")["status"]
        assert before["containerStatuses"][0]["containerID"].startswith("containerd://")
        assert before["containerStatuses"][0]["imageID"].startswith("sha256:")
        assert not ready_of(kubectl.json("get", "pod", "probed"))
        kubectl("exec", "probed", "--", "touch", "/tmp/ready")
        kubectl("wait", "pod", "probed", "--for=condition=Ready", "--timeout=180s")
        assert kubectl("exec", "-i", "probed", "--", "cat", stdin="to its end") == "to its end"
        failed = kubectl.run("exec", "probed", "--", "sh", "-c", "echo no >&2; exit 3")
        assert (failed.status, failed.errors.splitlines()[0]) == (3, "no")
        seen = kubectl("exec", "probed", "--", "cat", "/etc/resolv.conf", "/etc/hosts")
        assert "svc.cluster.local" in seen and kubectl.json("get", "pod", "probed")["status"]["podIP"] in seen

        inside = kubectl("exec", "counting", "--", "ls", "-l", "/proc/1/ns/net", "/proc/1/ns/mnt")
        cluster.stop(number=signal.SIGKILL)
    with running_cluster(data, *arguments, environment=environment) as cluster:
        kubectl("wait", "pod", "probed", "--for=condition=Ready", "--timeout=180s")
        after = kubectl.json("get", "pod", "counting")["status"]
        assert (after["podIP"], after["containerStatuses"]) == (before["podIP"], before["containerStatuses"])
        assert kubectl("exec", "counting", "--", "ls", "-l", "/proc/1/ns/net", "/proc/1/ns/mnt") == inside
        lines = [int(line) for line in kubectl("logs", "counting").split()]
        assert lines == list(range(1, len(lines) + 1))
        kubectl("delete", "pod", "counting", "--timeout=180s")
        assert len(containerd.tasks()) == 2  # the other pod, and what holds its namespaces
        # A second signal: nothing is waited for. What is left goes with the next run.
        cluster.process.send_signal(signal.SIGINT)
        assert cluster.stop(seconds=60) == 0
    with running_cluster(data, *arguments, environment=environment) as cluster:
        kubectl("delete", "pod", "probed", "--timeout=180s")
        assert containerd.tasks() == []
        assert cluster.stop(seconds=60) == 0


def test_what_a_container_changes_of_its_image_is_told_and_counts_for_its_limit(
    containerd: Containerd, tmp_path: Path
) -> None:
    data = containerd.cni.parent
    arguments = ("--default-runtime", "cri", "--container-runtime-endpoint", containerd.endpoint)
    write = "head -c 3000000 /dev/zero > /written; exec sleep 1000"
    with running_cluster(data, *arguments, environment=containerd.environment()) as cluster:
        kubectl = of_version("1.37", cluster.kubeconfig, tmp_path)
        kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=180s")
        for name, limit in (("modest", "10Mi"), ("greedy", "1Mi")):
            one = pod(name, write, resources={"limits": {"ephemeral-storage": limit}})
            kubectl("apply", "-f", "-", stdin=json.dumps(one))
        kubectl("wait", "pod", "greedy", "--for=jsonpath={.status.reason}=Evicted", "--timeout=180s")
        node = kubectl.json("get", "pod", "modest")["spec"]["nodeName"]
        deadline = time.monotonic() + 180
        while True:  # containerd looks every ten seconds, and may have looked at this one as it was writing
            summary = json.loads(kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary"))
            (told,) = [one for one in summary["pods"] if one["podRef"]["name"] == "modest"]
            if told["containers"][0]["rootfs"]["usedBytes"] >= 3_000_000:
                break
            assert time.monotonic() < deadline, told
        assert told["ephemeral-storage"]["usedBytes"] >= 3_000_000
        assert summary["node"]["runtime"]["imageFs"]["usedBytes"] > 0
        kubectl("delete", "pod", "modest", "greedy", "--timeout=180s")
        assert cluster.stop(seconds=60) == 0


def test_images_that_nothing_uses_go_when_the_disk_is_full(containerd: Containerd, tmp_path: Path) -> None:
    """It is full of its hundredth part here."""
    idle = {"localhost/idle:1", "localhost/idle:2"}
    for name in idle:
        image = SmallImage([programs()], {"Cmd": [name]}, [name])
        containerd.load(image.docker_archive(tmp_path / "idle.tar"))
    settings = {"imageGCHighThresholdPercent": 1, "imageGCLowThresholdPercent": 0, "imageMinimumGCAge": "1ns"}
    head = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
    (tmp_path / "kubelet.yaml").write_text(json.dumps(head | settings))
    arguments = ("--default-runtime", "cri", "--container-runtime-endpoint", containerd.endpoint)
    configured = (*arguments, "--kubelet-config", str(tmp_path / "kubelet.yaml"))
    with running_cluster(containerd.cni.parent, *configured, environment=containerd.environment()) as cluster:
        kubectl = of_version("1.37", cluster.kubeconfig, tmp_path)
        # What holds pods' namespaces is kept, so that the next pod can be started; its own image is loaded again, which
        # has gone unless a pod of the test before was left.
        deadline = time.monotonic() + 180
        while idle & {*(left := containerd.images())}:
            assert cluster.process.poll() is None and time.monotonic() < deadline, left
        assert PAUSE in left
        containerd.load(SmallImage([programs()], {}, [PROGRAMS]).docker_archive(tmp_path / "again"))
        kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=180s")
        kubectl("apply", "-f", "-", stdin=json.dumps(pod("later", COUNT)))
        kubectl("wait", "pod", "later", "--for=condition=Ready", "--timeout=180s")
        kubectl("delete", "pod", "later", "--timeout=180s")
        assert cluster.stop(seconds=60) == 0


def ready_of(pod: dict[str, Any]) -> bool:
    return bool(pod["status"]["containerStatuses"][0]["ready"])


def test_a_runtime_that_is_missing_is_told_before_anything_starts(tmp_path: Path) -> None:
    arguments = ("--default-runtime", "cri", "--container-runtime-endpoint", "unix:///no/socket")
    with pytest.raises(RuntimeError, match="kubecore printed ''") as failure:
        start(tmp_path / "data", *arguments)
    words = " ".join(str(failure.value).replace("│", " ").split())
    assert "pip install 'kubecore[cri]'" in words or "no container runtime listens at /no/socket" in words
    assert not (tmp_path / "data").exists()
