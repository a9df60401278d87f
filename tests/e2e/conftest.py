from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kubecore.apiserver.admission.names import ORDERED
from kubecore.apiserver.admission.options import AdmissionOptions
from kubecore.apiserver.config import APIServerConfig
from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.clock import RealClock
from tests.e2e.validation.comparing import Kubecore
from tests.support import go_programs
from tests.support.client_sources import ClientSources, installed
from tests.support.kubectl import Kubectl, make_namespace, program
from tests.support.process import RunningCluster, running_cluster

NEWEST = "1.37"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """One cluster for all tests of the session; tests keep to namespaces of their own."""
    with running_cluster(tmp_path_factory.mktemp("cluster"), "--insecure-port", "0") as running:
        yield running


@pytest.fixture(scope="session")
def newest_kubectl() -> Path:
    """The program, which may have to be fetched: to be asked for before a test leaves for another network."""
    found = program(NEWEST)
    assert found is not None
    return found


@pytest.fixture(scope="session")
def kubectl(cluster: RunningCluster, newest_kubectl: Path, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return Kubectl(newest_kubectl, cluster.kubeconfig, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def client_sources(tmp_path_factory: pytest.TempPathFactory) -> ClientSources:
    """Where clients' own tests and examples are."""
    return installed(tmp_path_factory.mktemp("clients"))


@pytest.fixture
def namespace(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace named after the test, deleted afterwards without waiting."""
    name = request.node.name.split("[")[0].replace("_", "-")[:50].strip("-").lower()
    name = f"{name}-{abs(hash(request.node.nodeid)) % 10**6}"
    make_namespace(kubectl, name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def example() -> Path:
    return Path(__file__).resolve().parents[2] / "examples" / "web.yaml"


@pytest.fixture(scope="session")
def judge() -> Path:
    """Kubernetes' own registry: the Go program in `validation`."""
    return go_programs.built("validation")


@pytest.fixture
async def kubecore(tmp_path: Path) -> AsyncIterator[Kubecore]:
    """An API server on which no plugin changes or refuses anything, and without flow control's own objects."""
    config = APIServerConfig(
        data_dir=tmp_path,
        secure_port=0,
        storage=LMDBConfig(sync=False),
        runtime_config=(("api/all", "true"),),
        admission=AdmissionOptions(disable=ORDERED),
        priority_and_fairness=False,
    )
    server = APIServer(config, RealClock())
    await server.start()
    asking = Kubecore(server.transport(username="admin", groups=["system:masters"]))
    for name in ("default", "kube-system"):
        await asking.create_if_absent({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield asking
    await server.stop()
