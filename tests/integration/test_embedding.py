"""A cluster within another program (README, "Embedding it")."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from kubecore.api.errors import StatusError
from kubecore.cluster import Cluster, ClusterConfig
from kubecore.threaded_cluster import ThreadedCluster

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


def test_a_cluster_with_a_thread_serves_whoever_waits_for_answers(tmp_path: Path) -> None:
    threads = threading.active_count()
    with ThreadedCluster(ClusterConfig.throwaway(tmp_path, nodes=0)) as cluster:
        assert cluster.url.startswith("https://127.0.0.1:") and cluster.kubeconfig.is_file()
        name = cluster.make_namespace("test-")
        assert name.startswith("test-") and len(name) > len("test-")
        cluster.delete_namespace(name)
        with pytest.raises(StatusError, match=r'namespaces "nobody" not found'):
            cluster.delete_namespace("nobody")
        with pytest.raises(RuntimeError, match="has been started"):
            cluster.start()
    assert threading.active_count() == threads
    with pytest.raises(RuntimeError, match="has not been started"):
        cluster.make_namespace("test-")


def test_what_keeps_a_cluster_with_a_thread_from_starting_is_raised(tmp_path: Path) -> None:
    listener, port = taken_port()
    cluster = ThreadedCluster(ClusterConfig.throwaway(tmp_path, nodes=0, grpc_port=port))
    with listener, pytest.raises(OSError, match="grpc-port"):
        cluster.start()
    with cluster:  # the port is free now
        assert cluster.kubeconfig.is_file()


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
    assert "kubecore is ready" in done.stderr


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
