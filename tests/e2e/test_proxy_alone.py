"""`kubecore proxy` as a process of its own beside an API server, its Services in the kernel of a host of its own: asked
by pods, by the host and by somebody outside."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kubecore.netlink import Netlink
from kubecore.proxy.modes import unavailable
from tests.support.kubectl import Kubectl, program
from tests.support.net_world import World, make_world
from tests.support.process import ROOT, Command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(unavailable("nftables")), reason=unavailable("nftables")),
]

CLUSTER_IP, NODE_PORT = "10.96.0.10", 30080
POD_ONE, POD_TWO = "10.244.0.11", "10.244.0.12"
NODE, OUTSIDE, CLIENT = "10.244.0.1", "192.0.2.1", "192.0.2.9"
ASKED = 64
"""Often enough that a picked one is missed by chance once in 2^63."""


@pytest.fixture
def world() -> Iterator[World]:
    world = make_world()
    with world.node.here(), Netlink() as netlink:  # as hosts have one
        outside = netlink.link_index("outside")
        assert outside is not None
        gateway, everything = ipaddress.ip_address(CLIENT), ipaddress.ip_network("0.0.0.0/0")
        netlink.add_route(everything, index=outside, gateway=gateway)
    world.serve(world.one, POD_ONE, 8080, "one")
    world.serve(world.two, POD_TWO, 8080, "two")
    yield world
    world.close()


@dataclass
class Host:
    """The world's node, with an API server and a proxy."""

    world: World
    kubectl: Kubectl
    proxy: Command

    def have(self, *objects: dict[str, Any]) -> None:
        for one in objects:
            with self.world.node.here():
                self.kubectl("apply", "-f", "-", stdin=json.dumps(one))

    def said(self, *command: str) -> str:
        with self.world.node.here():
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
        return done.stdout

    def until_listed(self, text: str, *, without: str = "nobody") -> str:
        """What `kubecore proxy ls` prints, once it is so; each look takes a good part of a second."""
        for _ in range(200):
            listed = self.said(sys.executable, "-m", "kubecore", "proxy", "ls", "--server", "127.0.0.1:10249")
            if text in listed and without not in listed:
                return listed
        raise AssertionError(listed)


@pytest.fixture
def host(world: World, tmp_path: Path) -> Iterator[Host]:
    kubectl_program = program("1.37")
    assert kubectl_program is not None
    data, pods = tmp_path / "data", ("--cluster-cidr", "10.244.0.0/16")
    own = ("--data-dir", str(data), "--secure-port", "6443", "--service-cluster-ip-range", "10.96.0.0/16")
    kubeconfig = data / "admin.kubeconfig"
    with world.node.here():
        server = Command("apiserver", *own)
        try:
            server.wait_ready()
            proxy = Command("proxy", "--kubeconfig", str(kubeconfig), "--proxy-mode", "nftables", *pods)
            try:
                proxy.wait_for("kube-proxy is ready")
                yield Host(world, Kubectl(kubectl_program, kubeconfig, tmp_path), proxy)
            finally:
                proxy.kill()
        finally:
            server.kill()


def service(**spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "nodePort": NODE_PORT}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "NodePort", "clusterIP": CLUSTER_IP, "ports": ports, **spec},
    }


def endpoints(*addresses: str) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-a", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [one], "conditions": {"ready": True}} for one in addresses],
    }


def test_connections_are_led_by_what_the_api_server_says(world: World, host: Host) -> None:
    host.have(service(), endpoints(POD_ONE, POD_TWO))
    listed = host.until_listed(f"-> {POD_TWO}:8080")
    assert listed.startswith("kubecore service proxy, mode nftables\n")

    def asked(where: Any, address: str, port: int) -> set[str]:
        return {world.ask(where, address, port) for _ in range(ASKED)}

    # a pod sees pods as they are, and itself by way of the node
    assert asked(world.two, CLUSTER_IP, 80) == {f"one {POD_TWO}", f"two {NODE}"}
    assert asked(world.node, CLUSTER_IP, 80) == {f"one {NODE}", f"two {NODE}"}
    assert asked(world.client, OUTSIDE, NODE_PORT) == {f"one {NODE}", f"two {NODE}"}
    assert world.ask_udp(world.two, CLUSTER_IP, 80) == "refused"

    host.have(endpoints(POD_TWO))
    host.until_listed(f"-> {POD_TWO}:8080", without=POD_ONE)
    assert asked(world.client, OUTSIDE, NODE_PORT) == {f"two {NODE}"}

    host.have(service(externalTrafficPolicy="Local", sessionAffinity="ClientIP"))
    host.until_listed("persistent")
    assert asked(world.client, OUTSIDE, NODE_PORT) == {f"two {CLIENT}"}

    assert host.proxy.stop(seconds=60) == 0
    assert host.said("nft", "list", "tables") == ""
    assert world.ask(world.client, OUTSIDE, NODE_PORT) == "refused"
