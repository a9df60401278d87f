from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client_sources import ClientSources, installed
from tests.support.kubectl import Kubectl, program
from tests.support.process import RunningCluster, running_cluster

NEWEST = "1.37"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """One cluster for all tests of the session; tests keep to namespaces of their own."""
    with running_cluster(tmp_path_factory.mktemp("cluster"), "--insecure-port", "0") as running:
        yield running


@pytest.fixture(scope="session")
def kubectl(cluster: RunningCluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    found = program(NEWEST)
    assert found is not None
    return Kubectl(found, cluster.kubeconfig, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def client_sources(tmp_path_factory: pytest.TempPathFactory) -> ClientSources:
    """Where clients' own tests and examples are."""
    return installed(tmp_path_factory.mktemp("clients"))


@pytest.fixture
def namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace named after the test, deleted afterwards without waiting."""
    name = request.node.name.split("[")[0].replace("_", "-")[:50].strip("-").lower()
    name = f"{name}-{abs(hash(request.node.nodeid)) % 10**6}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def example() -> Path:
    return Path(__file__).resolve().parents[2] / "examples" / "web.yaml"
