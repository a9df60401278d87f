"""Source ranges where others than nf_tables carry the connections: who may come is asked before."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from kubecore.proxy.ipvs.source_guard import SourceGuard
from kubecore.proxy.modes import unavailable
from kubecore.proxy.virtual_servers import VirtualServer
from tests.support.net_world import SOON, World, make_world

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable("nftables")), reason=unavailable("nftables")),
]

ADDRESSES = {"192.0.2.1": "192.0.2.9", "2001:db8::1": "2001:db8::9"}
"""The node's, and the client's for each."""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = make_world()
    for address in ADDRESSES:
        world.serve(world.node, address, 80, "served")
    yield world
    world.close()


@pytest.fixture
def guard(world: World) -> Iterator[SourceGuard]:
    guard = SourceGuard("kubecore-test")
    yield guard
    with world.node.here():
        guard.close()


def server(address: str, *ranges: str) -> VirtualServer:
    return VirtualServer("TCP", address, 80, "LoadBalancer", "rr", None, (), source_ranges=ranges)


@pytest.mark.parametrize(("address", "client"), ADDRESSES.items())
def test_only_clients_of_the_ranges_are_let_in(world: World, guard: SourceGuard, address: str, client: str) -> None:
    own, other = (f"{client}/128", "fd00::/8") if ":" in client else (f"{client}/32", "10.0.0.0/8")
    with world.node.here():
        guard.restrict("default/web", [server(address, other)])
    assert world.ask(world.client, address, 80, within=SOON) == "silence"
    with world.node.here():
        guard.restrict("default/web", [server(address, other, own)])
    assert world.ask(world.client, address, 80) == f"served {client}"
    assert world.ask(world.node, address, 80, within=SOON) == "silence"
    with world.node.here():
        guard.restrict("default/web", [server(address)])
    assert world.ask(world.node, address, 80) == f"served {address}"


def test_who_is_connected_stays_so(world: World, guard: SourceGuard) -> None:
    with world.node.here():
        guard.restrict("default/web", [server("192.0.2.1", "192.0.2.0/24")])
    with world.client.socket("192.0.2.1") as client:
        client.connect(("192.0.2.1", 80))
        with world.node.here():
            guard.restrict("default/web", [server("192.0.2.1", "10.0.0.0/8")])
        assert client.recv(100) == b"served 192.0.2.9"
        assert client.recv(100) == b""


def test_services_do_not_touch_each_other_and_nothing_is_left_at_the_end(world: World, guard: SourceGuard) -> None:
    def tables() -> str:
        return subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout

    with world.node.here():
        guard.restrict("default/web", [server("192.0.2.1")])
        assert tables() == ""
        guard.restrict("default/web", [server("192.0.2.1", "10.0.0.0/8")])
        guard.restrict("default/other", [server("2001:db8::1", "fd00::/8")])
        guard.restrict("default/web", [])
        assert "kubecore-test" in tables()
    assert world.ask(world.client, "192.0.2.1", 80) == "served 192.0.2.9"
    assert world.ask(world.client, "2001:db8::1", 80, within=SOON) == "silence"
    with world.node.here():
        guard.close()
        assert tables() == ""
