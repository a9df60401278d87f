"""Mode userspace: endpoints see pods with their own addresses, and clients from outside where the policy is Local."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from kubecore.proxy.borrowed_addresses import BorrowedAddresses
from kubecore.proxy.modes import unavailable
from tests.support.net_world import World, make_world, set_in
from tests.support.process import ROOT

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable("nftables")), reason=unavailable("nftables")),
]

# In a process of its own: the threads that connect to endpoints are on the host where the first of them was started.
PROXY = """
import sys
from kubecore.pod_namespaces import PodNamespaces
from kubecore.proxy.modes import ProxyConfig, make_data_plane
from kubecore.proxy.virtual_servers import VirtualServer

pods = ("10.244.0.0/16", "fd44::/64")
config = ProxyConfig(network_mode="netns", address_link="kc-test", table="kubecore-test", pod_ranges=pods)
namespaces = PodNamespaces(pods)
namespaces.add(("10.244.0.12", "fd44::12"), int(sys.argv[1]))
plane = make_data_plane(config, None, namespaces=namespaces)
assert plane.forwarder.listens_apart is None, plane.forwarder.listens_apart
for address, one, two in (("203.0.113.5", "10.244.0.11", "10.244.0.12"), ("fd99::5", "fd44::11", "fd44::12")):
    local, both = ((one, 8080),), ((one, 8080), (two, 8080))
    given = {"purpose": "LoadBalancer", "scheduler": "rr", "affinity_seconds": None, "anywhere": True}
    servers = [
        one
        for protocol in ("TCP", "UDP")
        for one in (
            VirtualServer(protocol, address, 80, endpoints=local, inside=both, **given),
            VirtualServer(protocol, address, 81, endpoints=local, **given),
        )
    ]
    given["purpose"] = "NodePort"
    servers.append(VirtualServer("UDP", "::" if ":" in address else "0.0.0.0", 30053, endpoints=local, **given))
    problems, _ = plane.apply("default/web" + address, servers)
    assert problems == [], problems
print("serving", flush=True)
sys.stdin.read()
plane.close()
"""


@pytest.fixture
def world() -> Iterator[World]:
    world = make_world()
    for forwarding in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):  # pods here reach each other through the node
        set_in(world.node, forwarding, "1")
    for name, namespace, addresses in (
        ("one", world.one, ("10.244.0.11", "fd44::11")),
        ("two", world.two, ("10.244.0.12", "fd44::12")),
    ):
        for address in addresses:
            world.serve(namespace, address, 8080, name)
    yield world
    world.close()


@pytest.fixture
def proxy(world: World) -> Iterator[subprocess.Popen[str]]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with world.node.here():
        command, two = [sys.executable, "-c", PROXY, str(world.two.descriptor)], (world.two.descriptor,)
        process = subprocess.Popen(command, text=True, cwd=ROOT, pass_fds=two, **pipes)  # type: ignore[call-overload]
    with process:
        assert process.stdout.readline() == "serving\n"
        yield process
        process.kill()


def host_settings(world: World) -> str:
    commands = (("nft", "list", "tables"), ("ip", "rule"), ("ip", "-6", "rule"))
    with world.node.here():
        return "".join(subprocess.run(one, capture_output=True, text=True, check=True).stdout for one in commands)


ADDRESSES = (("203.0.113.5", "192.0.2.9", "10.244.0.1"), ("fd99::5", "2001:db8::9", "fd44::1"))
"""Of the Service, of who comes from outside, and of the node as pods see it."""


@pytest.mark.parametrize(("address", "client", "node"), ADDRESSES)
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_pods_see_clients_from_outside_under_policy_local_alone(
    world: World, proxy: subprocess.Popen[str], protocol: str, address: str, client: str, node: str
) -> None:
    ask = world.ask if protocol == "TCP" else world.ask_udp
    for _ in range(3):
        assert ask(world.client, address, 80) == f"one {client}"
    # policy Cluster: by way of the node, in its name
    assert ask(world.client, address, 81) == f"one {node}"


@pytest.mark.parametrize(("address", "client", "node"), ADDRESSES)
@pytest.mark.parametrize("protocol", ["TCP", "UDP"])
def test_pods_see_each_other_and_themselves(
    world: World, proxy: subprocess.Popen[str], protocol: str, address: str, client: str, node: str
) -> None:
    ask = world.ask if protocol == "TCP" else world.ask_udp
    two = "fd44::12" if ":" in address else "10.244.0.12"
    assert {ask(world.two, address, 80) for _ in range(4)} == {f"one {two}", f"two {two}"}
    assert ask(world.two, address, 81) == f"one {two}"
    # of the other one nobody knows the namespace
    assert ask(world.one, address, 81) == f"one {node}"


def test_a_node_port_of_udp_answers_from_the_address_that_was_asked(world: World, proxy: subprocess.Popen[str]) -> None:
    for address in ("192.0.2.1", "10.244.0.1", "127.0.0.1", "127.9.9.9"):
        where = world.client if address == "192.0.2.1" else world.node
        assert world.ask_udp(where, address, 30053) == "one 10.244.0.1"
    for address in ("2001:db8::1", "fd44::1", "::1"):
        where = world.client if address == "2001:db8::1" else world.node
        assert world.ask_udp(where, address, 30053) == "one fd44::1"


def test_nothing_of_it_is_left_on_the_host(world: World, proxy: subprocess.Popen[str]) -> None:
    during = host_settings(world)
    assert "table inet kubecore-test" in during and "fwmark 0x6b" in during
    assert proxy.stdin is not None
    proxy.stdin.close()
    assert proxy.wait(30) == 0
    after = host_settings(world)
    assert "kubecore-test" not in after and "fwmark" not in after


def test_what_a_killed_run_left_there_is_swept(world: World) -> None:
    with world.node.here():
        BorrowedAddresses("kubecore-left").allowed()
    assert "kubecore-left" in host_settings(world)
    with world.node.here():
        BorrowedAddresses("kubecore-left").sweep()
    assert "kubecore-left" not in host_settings(world)
    assert "fwmark" not in host_settings(world)


def test_and_what_one_of_another_mode_left_goes_beside_what_is_in_use(world: World) -> None:
    with world.node.here():
        subprocess.run(["nft", "add table inet kubecore-left-next"], check=True)
        borrowed = BorrowedAddresses("kubecore-left")
        assert borrowed.allowed()
        borrowed.sweep()
    during = host_settings(world)
    assert "kubecore-left-next" not in during and "kubecore-left" in during and "fwmark" in during
    with world.node.here():
        borrowed.close()
