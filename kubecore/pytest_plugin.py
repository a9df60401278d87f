"""Fixtures for pytest: one cluster for all tests that ask for it, a namespace of its own for each. pytest finds them by
itself where kubecore is installed.

    def test_my_operator(kubecore_namespace, kubecore_kubeconfig): ...
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kubecore.cluster_config import ClusterConfig
    from kubecore.threaded_cluster import ThreadedCluster


@pytest.fixture(scope="session")
def kubecore_config(tmp_path_factory: pytest.TempPathFactory) -> ClusterConfig:
    """What the cluster is told; a fixture of this name in conftest.py takes its place."""
    from kubecore.cluster_config import ClusterConfig

    return ClusterConfig.throwaway(tmp_path_factory.mktemp("kubecore"))


@pytest.fixture(scope="session")
def kubecore_cluster(kubecore_config: ClusterConfig) -> Iterator[ThreadedCluster]:
    """The cluster, which lasts from the first test that asks for it to the last test of all."""
    from kubecore.threaded_cluster import ThreadedCluster

    with ThreadedCluster(kubecore_config) as cluster:
        yield cluster


@pytest.fixture
def kubecore_kubeconfig(kubecore_cluster: ThreadedCluster, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The administrator's kubeconfig, which KUBECONFIG names during the test, as clients and kubectl look for it."""
    monkeypatch.setenv("KUBECONFIG", str(kubecore_cluster.kubeconfig))
    return kubecore_cluster.kubeconfig


@pytest.fixture
def kubecore_namespace(kubecore_cluster: ThreadedCluster) -> Iterator[str]:
    """The name of a new namespace that pods can be made in. It is deleted behind the test, which does not wait."""
    name = kubecore_cluster.make_namespace("test-")
    yield name
    kubecore_cluster.delete_namespace(name)
