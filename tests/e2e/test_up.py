"""`kubecore up` as a process: starting, ending, starting again."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kubectl import Kubectl, program
from tests.support.ports import free_port
from tests.support.process import ROOT, running_cluster, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXAMPLE = ROOT / "examples" / "web.yaml"


def kubectl_for(kubeconfig: Path, home: Path) -> Kubectl:
    found = program("1.37")
    assert found is not None
    return Kubectl(found, kubeconfig, home)


def children_of(pid: int) -> list[int]:
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    direct = [int(word) for word in done.stdout.split()]
    return direct + [below for child in direct for below in children_of(child)]


@pytest.fixture
def heard() -> Iterator[None]:
    """SIGHUP is, by what is started here, also where the tests were themselves started by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_within_five_seconds_with_status_0_and_no_process_left(tmp_path: Path, number: int) -> None:
    with running_cluster(tmp_path / "data") as cluster:
        kubectl = kubectl_for(cluster.kubeconfig, tmp_path)
        kubectl("apply", "-f", str(EXAMPLE))
        kubectl("-n", "web", "rollout", "status", "deployment/backend", "--timeout=180s")
        children = children_of(cluster.process.pid)
        assert children
        assert cluster.stop_within(5, number=number) == 0
        assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def test_a_second_signal_leaves_no_process_either(tmp_path: Path) -> None:
    with running_cluster(tmp_path / "data") as cluster:
        kubectl = kubectl_for(cluster.kubeconfig, tmp_path)
        kubectl("create", "deployment", "ends", "--image=none", "--replicas=3", "--", "sleep", "1000")
        kubectl("rollout", "status", "deployment/ends", "--timeout=180s")
        children = children_of(cluster.process.pid)
        assert len(children) > 3
        cluster.process.send_signal(signal.SIGINT)
        assert cluster.stop(number=signal.SIGINT, seconds=60) == 0
        assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.parametrize("lines", [1, 2, 3, 5])
def test_ctrl_c_while_it_starts_ends_it_with_status_0_and_no_traceback(tmp_path: Path, lines: int) -> None:
    """Ctrl-C comes after so many lines of its log, hence in the midst of different parts' start."""
    command = [sys.executable, "-m", "kubecore", "up", "--data-dir", str(tmp_path), "--secure-port", "0"]
    process = subprocess.Popen(
        [*command, "--grpc-port", "0", "--v", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    assert process.stderr is not None
    said = "".join(process.stderr.readline() for _ in range(lines))
    process.send_signal(signal.SIGINT)
    try:
        said += process.communicate(timeout=180)[1]
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert "Traceback" not in said


def test_objects_are_there_after_a_restart_and_pods_run_again(tmp_path: Path) -> None:
    with running_cluster(tmp_path / "data") as cluster:
        kubectl = kubectl_for(cluster.kubeconfig, tmp_path)
        kubectl("create", "configmap", "kept", "--from-literal=a=1")
        uid = kubectl("get", "configmap", "kept", "-o", "jsonpath={.metadata.uid}")
        cluster.stop(number=signal.SIGKILL)
    with running_cluster(tmp_path / "data") as cluster:
        kubectl = kubectl_for(cluster.kubeconfig, tmp_path)
        assert kubectl("get", "configmap", "kept", "-o", "jsonpath={.metadata.uid}") == uid
        # killed that early, the first run need not have come to its node
        kubectl("wait", "--for=create", f"node/{socket.gethostname().lower()}", "--timeout=180s")
        kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=180s")
        # nor do its controllers wait for the lease they held when they were killed
        kubectl("create", "namespace", "later")
        kubectl("-n", "later", "wait", "--for=create", "configmap/kube-root-ca.crt", "--timeout=180s")
        lease = ("get", "lease", "kube-controller-manager", "-o", "jsonpath={.spec}")
        spec = json.loads(kubectl("-n", "kube-system", *lease))
        assert spec["holderIdentity"].startswith("kubecore-up_")
        assert spec["leaseTransitions"] == 0


def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    with running_cluster(tmp_path / "one") as first:
        port = int(first.url.rsplit(":", 1)[1])
        words = r"kubecore: cannot listen on .*in use \(--secure-port, --bind-address\)"
        with pytest.raises(RuntimeError, match=words):
            start(tmp_path / "two", secure_port=port)


def test_a_data_dir_in_use_is_a_clear_error_and_nothing_of_the_running_cluster_is_touched(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_cluster(data) as cluster:
        with pytest.raises(RuntimeError, match=rf"kubecore: .*data is in use by process {cluster.process.pid}; choose"):
            start(data)
        assert (data / "log" / "kubecore.log").read_text().count(" starting with ") == 1


def test_the_insecure_port_needs_no_credentials_and_the_secure_one_does(tmp_path: Path) -> None:
    port = free_port()
    with running_cluster(tmp_path / "data", "--insecure-port", str(port)) as cluster:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/namespaces", timeout=60) as answer:
            assert answer.status == 200
        trusting = ssl._create_unverified_context()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{cluster.url}/api/v1/namespaces", timeout=60, context=trusting)
        assert refused.value.code == 403
        assert b'system:anonymous\\" cannot list resource \\"namespaces\\"' in refused.value.read()


def test_the_front_end_of_the_example_answers_what_the_back_end_said(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hello from the back end, by pod backend-" in done.stdout


def test_who_is_told_that_it_is_ready_finds_its_nodes(tmp_path: Path) -> None:
    with running_cluster(tmp_path / "data", "--nodes", "2") as cluster:
        found = kubectl_for(cluster.kubeconfig, tmp_path)("get", "nodes", "-o", "name")
        assert len(found.split()) == 2
