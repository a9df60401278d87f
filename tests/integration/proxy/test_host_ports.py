"""Host ports of pods with network namespaces: every address of the node leads to the pod, which sees its clients."""

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

# In a process of its own: the threads that connect to pods are on the host where the first of them was started.
NODE = """
import sys
from kubecore.kubelet.networks.host_side import NodeHost
from kubecore.proxy.borrowed_addresses import BorrowedAddresses

pods = ("10.244.0.0/16", "fd44::/64")
host = NodeHost(("10.244.0.1", "fd44::1"), pod_ranges=pods, clients=BorrowedAddresses("kubecore-test"))
carrier = host.carrier()
for address in host.addresses():
    for protocol in ("TCP", "UDP"):
        carrier.open((protocol, address, 80), ("fd44::11" if ":" in address else "10.244.0.11", 8080))
print("serving", flush=True)
sys.stdin.read()
"""
FROM_OUTSIDE = (("192.0.2.1", "192.0.2.9"), ("2001:db8::1", "2001:db8::9"))
FROM_THE_NODE = (("127.0.0.1", "10.244.0.1"), ("10.244.0.1", "10.244.0.1"), ("::1", "fd44::1"), ("fd44::1", "fd44::1"))


@pytest.fixture
def world() -> Iterator[World]:
    world = make_world()
    for address in ("10.244.0.11", "fd44::11"):
        world.serve(world.one, address, 8080, "one")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with world.node.here():
        process = subprocess.Popen([sys.executable, "-c", NODE], text=True, cwd=ROOT, **pipes)  # type: ignore[call-overload]
    with process:
        assert process.stdout.readline() == "serving\n"
        yield world
        process.kill()
    world.close()


@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_a_pod_sees_clients_from_outside_as_they_are_and_the_node_as_itself(world: World, protocol: str) -> None:
    ask = world.ask if protocol == "TCP" else world.ask_udp
    for address, client in FROM_OUTSIDE:
        assert ask(world.client, address, 80) == f"one {client}"
    for address, seen in FROM_THE_NODE:
        assert ask(world.node, address, 80) == f"one {seen}"
