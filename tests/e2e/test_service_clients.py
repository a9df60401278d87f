"""Services, DNS and Ingress as clients of all kinds meet them: curl, dig, Python and Go, in a pod, on the node and on
another host (network namespaces of their own)."""

from __future__ import annotations

import ipaddress
import json
import shlex
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubecore.netlink import Netlink
from kubecore.proxy.modes import unavailable
from tests.e2e.test_ingress import server
from tests.native.test_one_listener import why_not
from tests.support.go_programs import built
from tests.support.kubectl import Kubectl
from tests.support.net_world import Namespace
from tests.support.process import running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(900)]

NODE_SIDE, OTHER_SIDE = "192.0.2.1", "192.0.2.9"
SERVICES, DOMAIN = "10.96.0.0/11", "default.svc.cluster.local"
HOST = "shop.example.com"
PYTHON = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=60).read().decode())"
RETRY = "--retry 60 --retry-delay 1 --retry-all-errors"
Run = Callable[[str], str]
"""Has a shell of some place run a command; what that prints."""


@dataclass
class Hosts:
    """A node to be, and another host on its network, which knows the way to Services."""

    node: Namespace
    other: Namespace

    def run_on_node(self, command: str) -> str:
        return shell(["sh", "-c", command])

    def run_on_other(self, command: str) -> str:
        with self.other.here():
            return shell(["sh", "-c", command])

    @contextmanager
    def http_server(self) -> Iterator[str]:
        """On the other host, port 8080; gives what it answers."""
        with self.other.here():
            listener = socket.create_server((OTHER_SIDE, 8080))
        listener.settimeout(60)

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(65536)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nelsewhere")

        with listener:
            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            yield "elsewhere"
            thread.join(60)


def shell(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture
def hosts(newest_kubectl: Path) -> Iterator[Hosts]:
    hosts = Hosts(Namespace(), Namespace())
    with hosts.node.here():
        with Netlink() as netlink:
            netlink.add_veth("outside", peer="eth0", peer_namespace=hosts.other.descriptor)
            _bring_up(netlink, "outside", NODE_SIDE)
        with hosts.other.here(), Netlink() as netlink:
            index = _bring_up(netlink, "eth0", OTHER_SIDE)
            gateway = ipaddress.ip_address(NODE_SIDE)
            netlink.add_route(ipaddress.ip_network(SERVICES), index=index, gateway=gateway)
        yield hosts
    hosts.node.close()
    hosts.other.close()


def _bring_up(netlink: Netlink, link: str, address: str) -> int:
    index = netlink.link_index(link)
    assert index is not None
    netlink.add_address(index, ipaddress.ip_interface(f"{address}/24"))
    netlink.set_up(index)
    return index


@pytest.fixture(scope="module")
def go_client() -> Path:
    return built("service_clients")


CLIENT = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "client"},
    "spec": {
        "containers": [{"name": "client", "image": "none", "command": ["sleep", "infinity"]}],
        "terminationGracePeriodSeconds": 0,
    },
}


# a name that any resolver knows
OUTSIDE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "outside"},
    "spec": {"type": "ExternalName", "externalName": OTHER_SIDE},
}


@dataclass
class Asked:
    """Of one cluster: a Service's address, that of DNS, the way to the Ingress (as curl's --resolve has it)."""

    address: str
    dns: str
    ingress: str
    go_client: Path

    def by_all(self, run: Run) -> None:
        url, name = f"http://{self.address}", f"shop.{DOMAIN}"
        assert run(f"curl -sS {RETRY} {url}/curl") == "shop /curl None"
        for protocol in ("+notcp", "+tcp"):
            assert run(f"dig +short {protocol} +tries=10 @{self.dns} {name}") == self.address
        assert run(f"python3 -c {shlex.quote(PYTHON)} {url}/python") == "shop /python None"
        assert run(f"{self.go_client} {self.dns} {name}. {url}/go").splitlines() == [self.address, "shop /go None"]
        assert run(self.at_ingress("i")) == "shop /i http"

    def at_ingress(self, path: str) -> str:
        host, port, _ = self.ingress.split(":")
        return f"curl -sS --fail {RETRY} --resolve {self.ingress} http://{host}:{port}/{path}"


@pytest.fixture(params=["userspace", "nftables"])
def mode(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    if mode == "nftables" and (why := unavailable(mode)):
        pytest.skip(why)
    return mode


def make(kubectl: Kubectl) -> None:
    """A pod that asks, one that answers, a Service and an Ingress of it; a Service of the other host."""
    items = [*server("shop"), CLIENT, OUTSIDE]
    kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=180s")
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    kubectl("create", "ingress", "shop", f"--rule={HOST}/*=shop:80", f"--rule={HOST}/outside=outside:8080")
    kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=180s")
    served = "--for=jsonpath={.status.loadBalancer.ingress[0].ip}"
    kubectl("wait", served, "ingress/shop", "--timeout=180s")


def test_every_client_is_served_everywhere(
    tmp_path: Path, newest_kubectl: Path, hosts: Hosts, go_client: Path, mode: str
) -> None:
    options = ("--proxy-mode", mode, "--bind-address", "0.0.0.0")
    with running_cluster(tmp_path / "data", *options) as cluster:
        kubectl = Kubectl(newest_kubectl, cluster.kubeconfig, tmp_path)
        make(kubectl)
        status = kubectl.json("get", "ingress", "shop")["status"]["loadBalancer"]["ingress"][0]
        address = kubectl.json("get", "service", "shop")["spec"]["clusterIP"]
        dns = kubectl.json("get", "service", "kube-dns", "-n", "kube-system")["spec"]["clusterIP"]
        asked = Asked(address, dns, f"{HOST}:{status['ports'][0]['port']}:{NODE_SIDE}", go_client)

        def run_in_pod(command: str) -> str:
            return kubectl("exec", "client", "--", "sh", "-c", command).strip()

        for run in (run_in_pod, hosts.run_on_node, hosts.run_on_other):
            asked.by_all(run)
        with hosts.http_server() as body:
            assert hosts.run_on_node(asked.at_ingress("outside")) == body
        if mode == "userspace" and not why_not():
            assert hosts.run_on_node(f"ss -ltnH src {address}") == ""  # the kernel leads to the one listener
        own = kubectl.json("get", "pod", "client")["status"]["podIP"]
        assert run_in_pod(f"curl -sS {RETRY} http://{address}/who") == own
        # pods need no more than a name
        assert run_in_pod(f"curl -sS {RETRY} http://shop/by-name") == "shop /by-name None"
        assert run_in_pod(f"python3 -c {shlex.quote(PYTHON)} http://shop.default/x") == "shop /x None"
