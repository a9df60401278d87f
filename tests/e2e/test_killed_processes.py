"""Processes of pods that somebody kills on the host: what goes with them comes back, and nothing else goes."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubecore.kubelet.runtime.oci_programs import finding
from tests.support.kubectl import Kubectl, of_version
from tests.support.pod_processes import first_process_beside, with_word
from tests.support.process import PATIENCE, ROOT, RunningCluster, running_cluster
from tests.support.small_image import SmallImage, programs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.root]

IMAGE = "docker.io/library/killed:1"
RUNC = {
    "apiVersion": "node.k8s.io/v1",
    "kind": "RuntimeClass",
    "metadata": {"name": "runc"},
    "handler": "runc",
}
BY_RUNC = pytest.param("runc", marks=pytest.mark.skipif(not finding.find("runc"), reason="there is no runc"))
RUNTIMES = pytest.mark.parametrize("runtime", ["host", "oci", BY_RUNC])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    folder = tmp_path_factory.mktemp("killed")
    archive = SmallImage([programs()], {}, [IMAGE]).docker_archive(folder / "image.tar")
    load = [sys.executable, "-m", "kubecore", "image", "load", "--data-dir", str(folder / "data"), str(archive)]
    subprocess.run(load, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    with running_cluster(folder / "data") as running:
        yield running


@pytest.fixture(scope="module")
def kubectl(cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    found = of_version("1.37", cluster.kubeconfig, tmp_path_factory.mktemp("home"))
    found("wait", "--for=create", "serviceaccount/default", "--timeout=180s")
    found("create", "-f", "-", stdin=json.dumps(RUNC))
    return found


class Pod:
    """Of one container, which sleeps, and its child, which sleeps for a time that nobody else does."""

    def __init__(self, kubectl: Kubectl, name: str, runtime: str, **spec: Any) -> None:
        self.kubectl = kubectl
        self.name = f"{name}-{runtime}"
        self.word = str(secrets.randbelow(10**6) + 10**6)
        container = {
            "name": "main",
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "command": ["/bin/sh", "-c", f"sleep {self.word} & sleep 1000000; exit 0"],
        }
        body = {"containers": [container], "runtimeClassName": runtime, "terminationGracePeriodSeconds": 0, **spec}
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.name}, "spec": body}
        kubectl("create", "-f", "-", stdin=json.dumps(made))
        kubectl("wait", f"pod/{self.name}", "--for=condition=Ready", "--timeout=180s")

    def child(self) -> int:
        """The pod is ready before its shell has come to start it."""
        ends = time.monotonic() + PATIENCE
        while len(found := with_word(self.word)) != 1:
            assert time.monotonic() < ends, found
        return found[0]

    def status(self) -> Any:
        (status,) = self.kubectl.json("get", "pod", self.name)["status"]["containerStatuses"]
        return status

    def restarted(self, times: int) -> Any:
        count = f"--for=jsonpath={{.status.containerStatuses[0].restartCount}}={times}"
        self.kubectl("wait", f"pod/{self.name}", count, "--timeout=180s")
        self.kubectl("wait", f"pod/{self.name}", "--for=condition=Ready", "--timeout=180s")
        return self.status()["lastState"]["terminated"]

    def events(self, reason: str) -> list[str]:
        chosen = f"involvedObject.name={self.name},reason={reason}"
        return [one["message"] for one in self.kubectl.json("get", "events", "--field-selector", chosen)["items"]]


@RUNTIMES
def test_a_container_whose_first_process_is_killed_is_restarted(kubectl: Kubectl, runtime: str) -> None:
    pod = Pod(kubectl, "first", runtime)
    os.kill(first_process_beside(pod.child()), signal.SIGKILL)
    ended = pod.restarted(1)
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")
    assert pod.events("SandboxChanged") == []


@RUNTIMES
def test_another_process_of_a_container_goes_alone(kubectl: Kubectl, runtime: str) -> None:
    pod = Pod(kubectl, "child", runtime)
    before, child = pod.status(), pod.child()
    os.kill(child, signal.SIGKILL)
    said = kubectl(
        "exec", pod.name, "--", "/bin/sh", "-c", f"until ! [ -d /proc/{child} ]; do :; done; echo still here"
    )
    assert said == "still here\n"
    assert pod.status() == before
    ends = time.monotonic() + PATIENCE
    while with_word(pod.word):
        assert time.monotonic() < ends


@RUNTIMES
def test_a_pod_whose_first_process_is_killed_gets_another_sandbox(kubectl: Kubectl, runtime: str) -> None:
    """Which all its containers share with it."""
    pod = Pod(kubectl, "shared", runtime, shareProcessNamespace=True)
    os.kill(first_process_beside(pod.child()), signal.SIGKILL)
    ended = pod.restarted(1)
    assert ended["exitCode"] == 137
    told = f"--field-selector=involvedObject.name={pod.name},reason=SandboxChanged"
    kubectl("wait", "--for=create", "events", told, "--timeout=180s")
    assert pod.events("SandboxChanged") == ["Pod sandbox changed, it will be killed and re-created."]
    assert Path(f"/proc/{pod.child()}").exists()
