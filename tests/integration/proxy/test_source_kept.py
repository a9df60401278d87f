"""Mode userspace: endpoints see who connects from outside where the traffic policy is Local."""

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
from kubecore.proxy.modes import ProxyConfig, make_data_plane
from kubecore.proxy.virtual_servers import VirtualServer

pods = ("10.244.0.0/16", "fd44::/64")
config = ProxyConfig(network_mode="netns", address_link="kc-test", table="kubecore-test", pod_ranges=pods)
plane = make_data_plane(config, None)
for address, one, two in (("203.0.113.5", "10.244.0.11", "10.244.0.12"), ("fd99::5", "fd44::11", "fd44::12")):
    local, both = ((one, 8080),), ((one, 8080), (two, 8080))
    given = {"purpose": "LoadBalancer", "scheduler": "rr", "affinity_seconds": None, "anywhere": True}
    servers = [
        VirtualServer("TCP", address, 80, endpoints=local, inside=both, **given),
        VirtualServer("TCP", address, 81, endpoints=local, **given),
    ]
    problems, _ = plane.apply("default/web" + address, servers)
    assert problems == [], problems
print("serving", flush=True)
sys.stdin.read()
plane.close()
"""


@pytest.fixture
def world() -> Iterator[World]:
    world = make_world()
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
        process = subprocess.Popen([sys.executable, "-c", PROXY], text=True, cwd=ROOT, **pipes)  # type: ignore[call-overload]
    with process:
        assert process.stdout.readline() == "serving\n"
        yield process
        process.kill()


def host_settings(world: World) -> str:
    commands = (("nft", "list", "tables"), ("ip", "rule"), ("ip", "-6", "rule"))
    with world.node.here():
        return "".join(subprocess.run(one, capture_output=True, text=True, check=True).stdout for one in commands)


def test_pods_see_clients_from_outside_and_nobody_else(world: World, proxy: subprocess.Popen[str]) -> None:
    for address, client, node in (("203.0.113.5", "192.0.2.9", "10.244.0.1"), ("fd99::5", "2001:db8::9", "fd44::1")):
        for _ in range(3):
            assert world.ask(world.client, address, 80) == f"one {client}"
        # policy Cluster: by way of the node, in its name
        assert world.ask(world.client, address, 81) == f"one {node}"
        assert {world.ask(world.two, address, 80) for _ in range(4)} == {f"one {node}", f"two {node}"}


def test_nothing_of_it_is_left_on_the_host(world: World, proxy: subprocess.Popen[str]) -> None:
    during = host_settings(world)
    assert "table inet kubecore-test" in during and "fwmark 0x6b" in during
    assert proxy.stdin is not None
    proxy.stdin.close()
    assert proxy.wait(30) == 0
    after = host_settings(world)
    assert "kubecore-test" not in after and "fwmark" not in after
