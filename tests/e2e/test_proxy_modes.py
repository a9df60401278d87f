"""A whole cluster whose kernel carries the Services, in a network namespace of its own."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kubecore import port_names
from kubecore.proxy.modes import unavailable
from tests.support.asking import answer_at
from tests.support.kubectl import Kubectl
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
def host(newest_kubectl: Path) -> Iterator[None]:
    """Everything that is started meanwhile is on a host of its own."""
    namespace = Namespace()
    with namespace.here():
        yield
    namespace.close()


def said_by(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def listed_with(line: str, data: Path) -> str:
    """What the proxy tells once it has the line, which it hears of a moment later; each look takes a good part of a
    second."""
    for _ in range(200):
        listed = output(sys.executable, "-m", "kubecore", "proxy", "ls", "--data-dir", str(data))
        if line in listed:
            break
    assert line in listed
    return listed


class Asking:
    """Somebody asks again and again, a new connection each time."""

    def __init__(self, url: str) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                said_by(self._url)
                self.answers += 1
            except Exception as error:
                self.failures.append(repr(error))
            self._over.wait(0.01)


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60).stdout


@pytest.mark.usefixtures("host")
def test_mode_nftables(tmp_path: Path, newest_kubectl: Path) -> None:
    """Pods find each other by name, clients find them at a node port and at a load balancer's address, the tables are
    told by `kubecore proxy ls`, no request is lost while kubecore is killed and started again, and nothing is left at
    the end."""
    with running_cluster(tmp_path / "data", "--proxy-mode", "nftables") as cluster:
        kubectl = Kubectl(newest_kubectl, cluster.kubeconfig, tmp_path)
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
        listed = listed_with(line, tmp_path / "data")
        assert listed.startswith("kubecore service proxy, mode nftables\n")
        assert HEARD in answer_at(f"http://{balanced}/")
        assert output("nft", "list", "tables").startswith("table inet kubecore-")
        # That is all the pod itself: names are not answered meanwhile.
        with Asking(f"http://{balanced}/healthz") as asking:
            cluster.stop(number=signal.SIGKILL)
            with running_cluster(tmp_path / "data", "--proxy-mode", "nftables"):
                listed_with(line, tmp_path / "data")
                asking.end()
                assert asking.failures == []
                assert asking.answers
                assert output("nft", "list", "tables").count("table inet") == 1
    assert output("nft", "list", "tables") == ""


@pytest.fixture
def had_by_another(host: None) -> Iterator[set[int]]:
    """Node ports: three of four of the range, on this host."""
    had = {port for port in range(30000, 32768) if port % 4}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < (needed := len(had) + 1000):
        pytest.skip("a process may not have so many names")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    with ExitStack() as held:
        for port in had:
            held.enter_context(port_names.claim("TCP", "0.0.0.0", port))
        yield had
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_node_port_that_another_cluster_of_the_host_has_is_not_picked(
    tmp_path: Path, newest_kubectl: Path, had_by_another: set[int]
) -> None:
    with running_cluster(tmp_path / "data") as cluster:
        kubectl = Kubectl(newest_kubectl, cluster.kubeconfig, tmp_path)
        for name in ("one", "two", "three"):
            kubectl("create", "service", "nodeport", name, "--tcp=80")
        picked = kubectl("get", "services", "-o", "jsonpath={.items[*].spec.ports[*].nodePort}").split()
    assert len(picked) == 3
    assert not had_by_another & {int(port) for port in picked}
