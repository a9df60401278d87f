"""Mode nftables: node ports at ::1, which the forwarder carries."""

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
plane = make_data_plane(
    ProxyConfig(
        mode="nftables", network_mode="netns", address_link="kc-test", table="kubecore-test", pod_ranges=pods
    ),
    None,
)
ports = [
    VirtualServer(protocol, address, 30080, "NodePort", "rr", None, endpoints, anywhere=True)
    for protocol in ("TCP", "UDP")
    for address, endpoints in (("0.0.0.0", (("10.244.0.11", 8080),)), ("::", (("fd44::11", 8080),)))
]
problems, _ = plane.apply("default/web", ports)
plane.commit()
assert problems == [], problems
print(sorted({row["address"] for row in plane.rows()}), flush=True)
sys.stdin.readline()
plane.apply("default/web", [])
plane.commit()
print(plane.rows(), flush=True)
sys.stdin.readline()
plane.close()
"""


@pytest.fixture
def world() -> Iterator[World]:
    world = make_world()
    for address in ("10.244.0.11", "fd44::11"):
        world.serve(world.one, address, 8080, "one")
    yield world
    world.close()


def test_they_work_for_the_node_itself_until_their_service_goes(world: World) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with world.node.here():
        process = subprocess.Popen([sys.executable, "-c", PROXY], text=True, cwd=ROOT, **pipes)  # type: ignore[call-overload]
    with process:
        assert process.stdout.readline() == "['0.0.0.0', '::', '::1']\n"
        for address, seen in (("127.0.0.1", "10.244.0.1"), ("::1", "fd44::1"), ("fd44::1", "fd44::1")):
            assert world.ask(world.node, address, 30080) == f"one {seen}"
            assert world.ask_udp(world.node, address, 30080) == f"one {seen}"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "[]\n"
        assert world.ask(world.node, "::1", 30080) == "refused"
        process.kill()
