"""Nodes of one `kubecore up`, with one proxy: each counts for itself, for its pods and at its address."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kubecore.netlink import Netlink
from kubecore.proxy.modes import unavailable
from tests.support.kubectl import Kubectl
from tests.support.net_world import Namespace
from tests.support.process import running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(900)]

HOST_SIDE, OUTSIDE = "192.0.2.1", "192.0.2.9"
PODS, SERVERS = "10.0.0.0/8", ("server-0", "server-1")
SERVER = """
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["NAME"].encode())

http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
ANSWERED, SILENCE = 0, 28  # of curl
Ask = Callable[[str], "Answer"]


@dataclass(frozen=True)
class Answer:
    code: int
    said: str


@pytest.fixture
def outside(newest_kubectl: Path) -> Iterator[Namespace]:
    """Another host, which knows the way to the nodes; the test itself is on theirs."""
    host, other = Namespace(), Namespace()
    with host.here():
        with Netlink() as netlink:
            netlink.add_veth("outside", peer="eth0", peer_namespace=other.descriptor)
            bring_up(netlink, "outside", HOST_SIDE)
        with other.here(), Netlink() as netlink:
            index = bring_up(netlink, "eth0", OUTSIDE)
            netlink.add_route(ipaddress.ip_network(PODS), index=index, gateway=ipaddress.ip_address(HOST_SIDE))
        yield other
    host.close()
    other.close()


def bring_up(netlink: Netlink, link: str, address: str) -> int:
    index = netlink.link_index(link)
    assert index is not None
    netlink.add_address(index, ipaddress.ip_interface(f"{address}/24"))
    netlink.set_up(index)
    return index


def pod(name: str, node: str, *command: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "main", "image": "none", "command": list(command)}
    if labels:
        container["env"] = [{"name": "NAME", "value": name}]
        container["readinessProbe"] = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    spec = {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def service(name: str, selector: dict[str, str], **spec: Any) -> dict[str, Any]:
    made = {"selector": selector, "ports": [{"port": 80, "targetPort": 8080}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": made}


ALL, LAST = {"app": "server"}, {"app": "server", "name": SERVERS[1]}
SERVICES = [
    service("local", ALL, internalTrafficPolicy="Local"),
    service("local-on-one", LAST, internalTrafficPolicy="Local"),
    service("near", ALL, trafficDistribution="PreferSameNode"),
    service("in-zone", ALL, trafficDistribution="PreferSameZone"),
    service("outer", ALL, type="NodePort", externalTrafficPolicy="Local"),
    service("outer-on-one", LAST, type="LoadBalancer", externalTrafficPolicy="Local"),
]


@pytest.mark.parametrize("mode", ["userspace", "nftables"])
def test_each_node_has_its_own_endpoints(mode: str, outside: Namespace, newest_kubectl: Path, tmp_path: Path) -> None:
    """Where the policy is Local, and where a Service prefers them: whoever asks from a node's pods, or from outside at
    its address, meets that node's pods alone, and nobody where it has none, while the other's serve on."""
    if why := unavailable("nftables") if mode == "nftables" else "":
        pytest.skip(why)
    with running_cluster(tmp_path / "data", "--nodes", "2", "--proxy-mode", mode) as cluster:
        kubectl = Kubectl(newest_kubectl, cluster.kubeconfig, tmp_path)
        nodes = kubectl("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split()
        where = '{.items[*].status.addresses[?(@.type=="InternalIP")].address}'
        addresses = kubectl("get", "nodes", "-o", f"jsonpath={where}").split()
        clients = (client_in(kubectl, "client-0"), client_in(kubectl, "client-1"))
        run_pods(kubectl, nodes)
        # Only now, so that whoever is served at all is served by everything there is.
        apply(kubectl, *SERVICES)
        for name in ("local", "near", "in-zone"):
            assert [met_by(ask, address_of(kubectl, name)) for ask in clients] == [{one} for one in SERVERS]
        alone = address_of(kubectl, "local-on-one")
        assert met_by(clients[1], alone) == {SERVERS[1]}
        assert clients[0](f"--max-time 2 http://{alone}/").code == SILENCE

        from_outside = client_at(outside)
        port = port_of(kubectl, "outer")
        assert [met_by(from_outside, f"{one}:{port}") for one in addresses] == [{one} for one in SERVERS]
        assert [met_by(ask, f"{addresses[0]}:{port}", 100) for ask in clients] == [set(SERVERS)] * 2
        port = port_of(kubectl, "outer-on-one")
        assert met_by(from_outside, f"{addresses[1]}:{port}") == {SERVERS[1]}
        assert from_outside(f"--max-time 2 http://{addresses[0]}:{port}/").code == SILENCE
        check = kubectl("get", "service", "outer-on-one", "-o", "jsonpath={.spec.healthCheckNodePort}")
        told = [from_outside(f"--max-time 60 http://{one}:{check}/").said for one in (*addresses, HOST_SIDE)]
        assert [json.loads(one)["localEndpoints"] for one in told] == [0, 1, 1]


def run_pods(kubectl: Kubectl, nodes: list[str]) -> None:
    """A server and a client on each node, which has a zone of its own."""
    for number, node in enumerate(nodes):
        kubectl("label", "node", node, f"topology.kubernetes.io/zone=zone-{number}")
        labels = {**ALL, "name": SERVERS[number]}
        apply(
            kubectl,
            pod(SERVERS[number], node, "python3", "-c", SERVER, labels=labels),
            pod(f"client-{number}", node, "sleep", "infinity"),
        )
    kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=300s")


def apply(kubectl: Kubectl, *objects: dict[str, Any]) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))


def address_of(kubectl: Kubectl, service: str) -> str:
    return kubectl("get", "service", service, "-o", "jsonpath={.spec.clusterIP}")


def port_of(kubectl: Kubectl, service: str) -> str:
    return kubectl("get", "service", service, "-o", "jsonpath={.spec.ports[0].nodePort}")


def met_by(ask: Ask, address: str, times: int = 10) -> set[str]:
    """Who answers, once anybody does."""
    found = ask(f"--max-time 300 --retry 120 --retry-delay 1 --retry-all-errors http://{address}/")
    assert found.code == ANSWERED, found
    more = ask(" ".join(["--max-time 300", *[f"-w '\\n' http://{address}/"] * times]))
    assert more.code == ANSWERED, more
    return {found.said, *more.said.split()}


def client_in(kubectl: Kubectl, pod: str) -> Ask:
    def ask(arguments: str) -> Answer:
        script = f"curl -sS {arguments}; code=$?; echo; echo $code"
        said, _, code = kubectl("exec", pod, "--", "sh", "-c", script).strip().rpartition("\n")
        return Answer(int(code), said.strip())

    return ask


def client_at(other: Namespace) -> Ask:
    def ask(arguments: str) -> Answer:
        with other.here():
            done = subprocess.run(["sh", "-c", f"curl -sS {arguments}"], capture_output=True, text=True, timeout=600)
        return Answer(done.returncode, done.stdout.strip())

    return ask
