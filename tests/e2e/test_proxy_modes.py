"""A whole cluster whose kernel carries the Services, in a network namespace of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubecore.proxy.modes import unavailable
from tests.support.asking import answer_at
from tests.support.kubectl import Kubectl, program
from tests.support.net_world import Namespace
from tests.support.process import ROOT, running_cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(unavailable("nftables")), reason=unavailable("nftables")),
]

HEARD = "heard: hello from the back end, by pod backend-"
EXAMPLE = ROOT / "examples" / "web.yaml"


@pytest.fixture
def host() -> Iterator[None]:
    """Everything that is started meanwhile is on a host of its own."""
    namespace = Namespace()
    with namespace.here():
        yield
    namespace.close()


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60).stdout


@pytest.mark.usefixtures("host")
def test_mode_nftables(tmp_path: Path) -> None:
    """Pods find each other by name, clients find them at a node port and at a load balancer's address, the tables are
    told by `kubecore proxy ls`, and nothing is left at the end."""
    kubectl_program = program("1.37")
    assert kubectl_program is not None
    with running_cluster(tmp_path / "data", "--proxy-mode", "nftables") as cluster:
        kubectl = Kubectl(kubectl_program, cluster.kubeconfig, tmp_path)
        kubectl("apply", "-f", str(EXAMPLE))
        for name in ("backend", "frontend"):
            kubectl("-n", "web", "rollout", "status", f"deployment/{name}", "--timeout=180s")
        told = ("-n", "web", "get", "service", "frontend", "-o")
        port = kubectl(*told, "jsonpath={.spec.ports[0].nodePort}")
        assert HEARD in answer_at(f"http://127.0.0.1:{port}/")
        kubectl("-n", "web", "patch", "service", "frontend", "-p", '{"spec":{"type":"LoadBalancer"}}')
        where = "jsonpath={.status.loadBalancer.ingress[0].ip}"
        kubectl("-n", "web", "wait", f"--for={where}", "service/frontend", "--timeout=180s")
        balanced = f"{kubectl(*told, where)}:{kubectl(*told, 'jsonpath={.spec.ports[0].port}')}"
        line = f"TCP  {balanced} random  (web/frontend, LoadBalancer)"
        for _ in range(200):  # the proxy hears of the address a moment later; each look takes a good part of a second
            listed = output(sys.executable, "-m", "kubecore", "proxy", "ls", "--data-dir", str(tmp_path / "data"))
            if line in listed:
                break
        assert listed.startswith("kubecore service proxy, mode nftables\n")
        assert line in listed
        assert HEARD in answer_at(f"http://{balanced}/")
        assert output("nft", "list", "tables").startswith("table inet kubecore-")
    assert output("nft", "list", "tables") == ""
