"""Mode nftables: Services that ask for what the kernel's tables have not, which the forwarder carries."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from kubecore.proxy.modes import unavailable
from tests.support.net_world import World, make_world
from tests.support.process import ROOT

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable("nftables")), reason=unavailable("nftables")),
]

# In a process of its own: the threads that connect to endpoints are on the host where the first of them was started.
PROXY = """
import sys
from dataclasses import replace
from kubecore.proxy.modes import ProxyConfig, make_data_plane
from kubecore.proxy.virtual_servers import VirtualServer

pods = ("10.244.0.0/16", "fd44::/64")
plane = make_data_plane(
    ProxyConfig(
        mode="nftables",
        network_mode="netns",
        address_link="kc-test",
        table="kubecore-test",
        pod_ranges=pods,
        service_ranges=("10.96.0.0/16",),
    ),
    None,
)
ends = (("10.244.0.11", 8080), ("10.244.0.12", 8080))
forwarded = [
    VirtualServer(protocol, address, port, purpose, "rr", None, ends, anywhere=True, forwarded=True)
    for protocol in ("TCP", "UDP")
    for address, port, purpose in (("10.96.0.1", 80, "ClusterIP"), ("0.0.0.0", 30080, "NodePort"))
]
for servers in (forwarded, [replace(one, forwarded=False) for one in forwarded], forwarded, []):
    problems, _ = plane.apply("default/web", servers)
    plane.commit()
    assert problems == [], problems
    print(sorted({row["scheduler"] for row in plane.rows()}), flush=True)
    sys.stdin.readline()
plane.close()
"""
CLUSTER_IP, NODE = "10.96.0.1", "10.244.0.1"


@pytest.fixture
def world() -> Iterator[World]:
    world = make_world()
    world.serve(world.one, "10.244.0.11", 8080, "one")
    world.serve(world.two, "10.244.0.12", 8080, "two")
    yield world
    world.close()


def in_turn(world: World, address: str, port: int) -> bool:
    """Whether pods and the node are led to one endpoint after the other, and over UDP to one of them."""
    for where in (world.one, world.node):
        told = [world.ask(where, address, port).split()[0] for _ in range(6)]
        if told not in (["one", "two"] * 3, ["two", "one"] * 3):
            return False
        if world.ask_udp(where, address, port).split()[0] not in ("one", "two"):
            return False
    return True


def test_they_are_balanced_as_they_ask_and_may_change_between_both(world: World) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with world.node.here():
        process = subprocess.Popen([sys.executable, "-c", PROXY], text=True, cwd=ROOT, **pipes)  # type: ignore[call-overload]

    def then() -> str:
        process.stdin.write("\n")
        process.stdin.flush()
        return str(process.stdout.readline())

    with process:
        assert process.stdout.readline() == "['rr']\n"
        assert in_turn(world, CLUSTER_IP, 80)
        assert in_turn(world, NODE, 30080)
        assert world.ask(world.one, CLUSTER_IP, 81) == "refused"
        assert then() == "['random']\n"
        assert world.ask(world.one, CLUSTER_IP, 80).split()[0] in ("one", "two")
        assert then() == "['rr']\n"
        assert in_turn(world, CLUSTER_IP, 80)
        assert then() == "[]\n"
        assert world.ask(world.node, CLUSTER_IP, 80, within=1) in ("silence", "refused")
        process.kill()
