"""A cluster within another program (README, "Embedding it")."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kubecore.cluster import Cluster, ClusterConfig

README = Path(__file__).resolve().parents[2] / "README.md"

TESTS = """
from kubernetes import client, config


def test_a_synchronous_client_is_answered(cluster):
    config.load_kube_config(str(cluster.kubeconfig))
    assert client.CoreV1Api().read_namespace("default").status.phase == "Active"


def test_the_next_test_has_the_same_cluster(cluster):
    assert client.CoreV1Api().list_node().items
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


@pytest.mark.slow
def test_the_fixture_of_the_readme_serves_tests_with_synchronous_clients(tmp_path: Path) -> None:
    (fixture,) = [one for one in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if "pytest.fix" in one]
    (tmp_path / "conftest.py").write_text(fixture)
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]
    done = subprocess.run(list(map(str, command)), cwd=README.parent, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
