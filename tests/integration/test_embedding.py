"""A cluster within another program (README, "Embedding it")."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kubecore import threaded_cluster
from kubecore.api.errors import StatusError
from kubecore.cluster import Cluster, ClusterConfig
from kubecore.threaded_cluster import ClusterFailed, ThreadedCluster

README = Path(__file__).resolve().parents[2] / "README.md"

MORE_TESTS = """
import os

from kubernetes import client, config


def test_the_next_test_has_the_same_cluster_and_another_namespace(kubecore_kubeconfig, kubecore_namespace):
    assert os.environ["KUBECONFIG"] == str(kubecore_kubeconfig)
    config.load_kube_config(str(kubecore_kubeconfig))
    assert kubecore_kubeconfig.parent.name == "cluster0"  # the first folder that was made for one, and the last
    assert client.CoreV1Api().list_namespaced_pod(kubecore_namespace).items == []
"""


def small(folder: Path | str, **fields: Any) -> Cluster:
    values: dict[str, Any] = {"secure_port": 0, "grpc_port": 0, "nodes": 0, "durable": False, **fields}
    return Cluster(ClusterConfig(data_dir=folder, **values))  # type: ignore[arg-type]


async def test_a_data_directory_may_be_named_by_a_text(tmp_path: Path) -> None:
    async with small(str(tmp_path)) as cluster:
        assert cluster.kubeconfig == tmp_path / "admin.kubeconfig"


async def test_a_cluster_is_there_within_its_context_and_gone_behind_it(tmp_path: Path) -> None:
    async with small(tmp_path) as cluster:
        assert cluster.url.startswith("https://127.0.0.1:")
    with pytest.raises(RuntimeError, match="has not been started"):
        _ = cluster.url
    async with small(tmp_path):
        pass  # nobody has the data directory


async def test_a_cluster_ends_with_what_failed_within_its_context(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="as it was"):
        async with small(tmp_path) as cluster:
            raise LookupError("as it was")
    with pytest.raises(RuntimeError, match="has not been started"):
        _ = cluster.url


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("secure_port", "6443", "secure_port is a number, not '6443'"),
        ("grpc_port", 70000, "grpc_port is from 0 to 65535, not 70000"),
        ("dns_port", -1, "dns_port is from 0 to 65535, not -1"),
        ("nodes", -1, "nodes is at least 0, not -1"),
        ("simulated_nodes", True, "simulated_nodes is a number, not True"),
        ("max_pods", 0, "max_pods is at least 1, not 0"),
        ("default_runtime", "docker", "default_runtime is one of host, oci, cri, simulated, not 'docker'"),
        ("proxy_mode", "iptables", "proxy_mode is one of userspace, nftables, ipvs, not 'iptables'"),
        ("network_mode", "host", "network_mode is one of auto, netns, rootless, loopback, not 'host'"),
        ("service_cidrs", "10.96.0.0/16", r"service_cidrs is a tuple, such as \('10.96.0.0/16',\), not a text"),
        ("authorization_modes", "RBAC", r"authorization_modes is a tuple, such as \('RBAC',\), not a text"),
        ("kubelet", {"maxPods": 5}, "kubelet: a KubeletConfig has no maxPods"),
        ("kubelet", {"lease_seconds": 0}, "kubelet: lease_seconds is at least 1, not 0"),
        (
            "kubelet",
            {"lease_seconds": 200},
            "node_monitor_grace_seconds is more than the 50 s after which nodes renew leases of 200 s, not 50",
        ),
        (
            "node_monitor_grace_seconds",
            9.5,
            "node_monitor_grace_seconds is more than the 10 s after which nodes renew leases of 40 s, not 9.5",
        ),
    ],
)
def test_a_field_that_is_wrong_is_told_before_there_is_a_cluster(
    tmp_path: Path, field: str, value: Any, told: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{told}$"):
        ClusterConfig.throwaway(tmp_path, **{field: value})


async def test_a_cluster_that_runs_is_not_started_again_and_goes_on(tmp_path: Path) -> None:
    async with small(tmp_path) as cluster:
        with pytest.raises(RuntimeError, match="has been started"):
            await cluster.start()
        assert await cluster.client.get("namespaces", "default")


def test_a_cluster_starts_again_on_another_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubecore.cluster.STOP_BUDGET_SECONDS", 600.0)  # however slow the machine is
    cluster = ThreadedCluster(ClusterConfig.throwaway(tmp_path, nodes=0))
    for _ in range(2):
        with cluster:
            cluster.delete_namespace(cluster.make_namespace("test-"))
    assert "did not end in time" not in caplog.text


def taken_port() -> tuple[socket.socket, int]:
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]


async def test_a_first_start_that_fails_leaves_the_choice_of_ranges(tmp_path: Path) -> None:
    listener, port = taken_port()
    with listener, pytest.raises(OSError, match="grpc-port"):
        await small(tmp_path, grpc_port=port).start()
    async with small(tmp_path, service_cidrs=("10.199.0.0/16",)) as cluster:
        assert cluster.networks.services == ("10.199.0.0/16",)


async def test_a_later_start_that_fails_leaves_the_ranges_as_they_are(tmp_path: Path) -> None:
    async with small(tmp_path, service_cidrs=("10.199.0.0/16",)):
        pass
    listener, port = taken_port()
    with listener, pytest.raises(OSError, match="grpc-port"):
        await small(tmp_path, grpc_port=port).start()
    with pytest.raises(PermissionError, match=r"was made with 10\.199\.0\.0/16 for Services and keeps that"):
        await small(tmp_path, service_cidrs=("10.198.0.0/16",)).start()


def threads_of_clusters() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "kubecore"]


def test_a_cluster_with_a_thread_serves_whoever_waits_for_answers(tmp_path: Path) -> None:
    with ThreadedCluster(ClusterConfig.throwaway(tmp_path, nodes=0)) as cluster:
        assert cluster.url.startswith("https://127.0.0.1:") and cluster.kubeconfig.is_file()
        name = cluster.make_namespace("test-")
        assert name.startswith("test-") and len(name) > len("test-")
        cluster.delete_namespace(name)
        cluster.delete_namespace("nobody")  # as when a test has deleted its own
        with pytest.raises(StatusError, match="is forbidden: this namespace may not be deleted"):
            cluster.delete_namespace("kube-system")
        with pytest.raises(RuntimeError, match="has been started"):
            cluster.start()
    assert threads_of_clusters() == []
    with pytest.raises(RuntimeError, match="does not run"):
        cluster.make_namespace("test-")


def test_what_keeps_a_cluster_with_a_thread_from_starting_is_raised(tmp_path: Path) -> None:
    listener, port = taken_port()
    with listener, pytest.raises(OSError, match="grpc-port"):
        ThreadedCluster(ClusterConfig.throwaway(tmp_path, nodes=0, grpc_port=port)).start()
    assert threads_of_clusters() == []


def test_a_cluster_of_which_a_part_dies_is_not_waited_for(tmp_path: Path) -> None:
    cluster = ThreadedCluster(ClusterConfig.throwaway(tmp_path, nodes=0))
    cluster.start()
    failed = cluster._cluster.failed
    assert failed is not None and cluster._loop is not None and cluster._thread is not None
    cluster._loop.call_soon_threadsafe(failed.set_result, LookupError("lost"))
    cluster._thread.join()
    with pytest.raises(RuntimeError, match="does not run"):
        cluster.make_namespace("test-")
    with pytest.raises(ClusterFailed, match="lost"):
        cluster.stop()


def test_a_start_that_is_given_up_at_once_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by Ctrl-C before the thread has come to its loop."""

    class Interrupted(Future[None]):
        def result(self, timeout: float | None = None) -> None:
            raise KeyboardInterrupt

    cluster = ThreadedCluster(ClusterConfig.throwaway(tmp_path, nodes=0))
    run_cluster = cluster._run

    def late() -> None:
        cluster._stopping.wait()
        run_cluster()

    monkeypatch.setattr(cluster, "_run", late)
    monkeypatch.setattr(threaded_cluster, "Future", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        cluster.start()
    assert threads_of_clusters() == []


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(command, cwd=README.parent, capture_output=True, text=True, timeout=200)


@pytest.mark.slow
def test_the_fixtures_of_the_readme_give_tests_a_cluster_and_namespaces(tmp_path: Path) -> None:
    (text,) = [one for one in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if "pytest.fix" in one]
    fixture, test = text.split("def test_")
    (tmp_path / "conftest.py").write_text(fixture)
    (tmp_path / "test_one.py").write_text("from kubernetes import client, config\n\n\ndef test_" + test)
    (tmp_path / "test_two.py").write_text(MORE_TESTS)
    plugin = ("-p", "kubecore.pytest_plugin", "-p", "no:cacheprovider", "--rootdir", tmp_path)
    done = run("pytest", "-q", *plugin, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.slow
def test_a_cluster_for_one_command_ends_with_it_and_leaves_nothing() -> None:
    done = run(
        "kubecore",
        "up",
        "--nodes",
        0,
        "--",
        "sh",
        "-c",
        "kubectl get namespace default -o name; echo $KUBECONFIG; exit 3",
    )
    assert done.returncode == 3, done.stderr
    name, kubeconfig = done.stdout.splitlines()
    assert name == "namespace/default"
    assert not Path(kubeconfig).parent.exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith("kubecore is ready: https://127.0.0.1:")


@pytest.mark.slow
def test_a_command_is_told_when_its_cluster_is_to_end(tmp_path: Path) -> None:
    said = 'trap "echo told; exit 7" TERM; echo started; while :; do sleep 0.1; done'
    command = ["kubecore", "up", "--nodes", "0", "--data-dir", str(tmp_path / "kept"), "--", "sh", "-c", said]
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-m", *command], cwd=README.parent, **pipes) as process:
        assert process.stdout is not None and process.stdout.readline() == "started\n"
        process.terminate()
        assert process.communicate(timeout=100)[0] == "told\n"
    assert process.returncode == 7
    assert (tmp_path / "kept" / "admin.kubeconfig").is_file()


@pytest.mark.slow
def test_a_command_on_a_terminal_is_told_of_a_signal_that_is_not_the_terminals() -> None:
    """On a terminal of its own, whose foreground both are."""
    said = 'trap "echo interrupted" INT; trap "echo told; exit 7" TERM; echo started; while :; do sleep 0.1; done'
    words = [sys.executable, "-m", "kubecore", "up", "--nodes", "0", "--", "sh", "-c", said]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(README.parent)
        os.execv(sys.executable, words)
    with os.fdopen(terminal, "r+b", buffering=0) as screen:
        text = b""
        while b"started" not in text:
            text += os.read(screen.fileno(), 4096)
        os.kill(child, signal.SIGTERM)
        with suppress(OSError):  # EIO: nobody has the terminal any more
            while piece := os.read(screen.fileno(), 4096):
                text += piece
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert (text.count(b"told"), text.count(b"interrupted")) == (1, 0)


@pytest.mark.slow
def test_a_command_that_cannot_be_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "program").write_text("#!/no/such/interpreter")
    (tmp_path / "program").chmod(0o755)
    done = run("kubecore", "up", "--nodes", 0, "--", tmp_path / "program")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        126,
        f"kubecore: cannot run {tmp_path}/program: No such file or directory",
    )
