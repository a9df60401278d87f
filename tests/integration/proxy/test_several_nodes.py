"""Mode nftables on a host of two nodes: whose a connection is, tells the source's range and the node's address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kubecore.api.endpoint_choice import Endpoint
from kubecore.proxy.modes import unavailable
from kubecore.proxy.virtual_servers import NodeHere, Part, VirtualServer
from tests.support.net_world import SOON, World, make_world
from tests.support.nftables_plane import ONE, ONE_SIX, TWO, TWO_SIX, Plane, serve_pods

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable("nftables")), reason=unavailable("nftables")),
]

FIRST = NodeHere("first", pods=("10.244.0.0/29", "10.244.0.8/30", "fd44::10/127"), addresses=("10.244.0.1", "fd44::1"))
SECOND = NodeHere("second", pods=("10.244.0.12/30", "fd44::12/127"), addresses=("192.0.2.1", "2001:db8::1"))
ADDRESS, ADDRESS_SIX = "10.96.0.1", "fd96::1"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = make_world()
    serve_pods(world)
    yield world
    world.close()


@pytest.fixture
def plane(world: World) -> Iterator[Plane]:
    plane = Plane(world, nodes=(FIRST, SECOND))
    yield plane
    plane.close()


def local(first: tuple[Endpoint, ...], second: tuple[Endpoint, ...], **more: Any) -> VirtualServer:
    """At a cluster IP; each node has its own endpoints."""
    given: dict[str, Any] = {"protocol": "TCP", "address": ADDRESS, "port": 80, "purpose": "ClusterIP"}
    given |= {"scheduler": "rr", "affinity_seconds": None, "anywhere": True, **more}
    return VirtualServer(endpoints=first + second, parts=(Part(FIRST, first), Part(SECOND, second)), **given)


def node_port(first: tuple[Endpoint, ...], second: tuple[Endpoint, ...], **more: Any) -> VirtualServer:
    """Of policy Local."""
    both = first + second
    given: dict[str, Any] = {"protocol": "TCP", "address": "0.0.0.0", "port": 30080, "purpose": "NodePort"}
    given |= {"scheduler": "rr", "affinity_seconds": None, "anywhere": True, "inside": both, **more}
    parts = (Part(FIRST, first, both), Part(SECOND, second, both))
    return VirtualServer(endpoints=both, parts=parts, **given)


def said(world: World, where: Any, address: str, port: int = 80, times: int = 8) -> set[str]:
    """Who answers."""
    return {world.ask(where, address, port, within=SOON if times == 1 else 30).split()[0] for _ in range(times)}


class TestClusterIps:
    def test_pods_have_their_nodes_endpoints(self, world: World, plane: Plane) -> None:
        plane.have(local((ONE,), (TWO,)))
        assert (said(world, world.one, ADDRESS), said(world, world.two, ADDRESS)) == ({"one"}, {"two"})
        plane.have(local((TWO,), (ONE,)))
        assert (said(world, world.one, ADDRESS), said(world, world.two, ADDRESS)) == ({"two"}, {"one"})

    def test_who_has_none_is_not_answered(self, world: World, plane: Plane) -> None:
        plane.have(local((), (ONE, TWO)))
        assert said(world, world.two, ADDRESS, times=100) == {"one", "two"}
        assert said(world, world.one, ADDRESS, times=1) == {"silence"}

    def test_the_host_has_those_of_all_nodes(self, world: World, plane: Plane) -> None:
        plane.have(local((ONE,), (TWO,)))
        assert said(world, world.node, ADDRESS, times=100) == {"one", "two"}

    def test_of_ipv6(self, world: World, plane: Plane) -> None:
        plane.have(local((ONE_SIX,), (TWO_SIX,), address=ADDRESS_SIX))
        assert (said(world, world.one, ADDRESS_SIX), said(world, world.two, ADDRESS_SIX)) == ({"one"}, {"two"})

    def test_by_udp(self, world: World, plane: Plane) -> None:
        plane.have(local((ONE,), (TWO,), protocol="UDP"))
        told = [world.ask_udp(where, ADDRESS, 80).split()[0] for where in (world.one, world.two)]
        assert told == ["one", "two"]

    def test_a_client_is_kept_with_an_endpoint_of_his_node(self, world: World, plane: Plane) -> None:
        sticky = {"affinity_seconds": 60.0}
        plane.have(local((ONE, TWO), (ONE,), **sticky))
        assert len(said(world, world.one, ADDRESS)) == 1

    def test_but_not_with_one_that_is_another_nodes_by_now(self, world: World, plane: Plane) -> None:
        sticky = {"affinity_seconds": 60.0}
        plane.have(local((TWO,), (ONE,), **sticky))
        assert said(world, world.one, ADDRESS) == {"two"}
        plane.have(local((ONE,), (TWO,), **sticky))
        assert said(world, world.one, ADDRESS) == {"one"}

    def test_what_is_the_same_for_all_again_is_so(self, world: World, plane: Plane) -> None:
        plane.have(local((), (TWO,)))
        same = VirtualServer("TCP", ADDRESS, 80, "ClusterIP", "rr", None, (TWO,), anywhere=True)
        plane.have(same)
        assert (said(world, world.one, ADDRESS), said(world, world.two, ADDRESS)) == ({"two"}, {"two"})


class TestNodePorts:
    def test_clients_from_outside_have_the_endpoints_of_the_node_that_they_ask(
        self, world: World, plane: Plane
    ) -> None:
        plane.have(node_port((ONE,), (TWO,)))
        assert said(world, world.client, FIRST.addresses[0], 30080) == {"one"}
        assert said(world, world.client, SECOND.addresses[0], 30080) == {"two"}

    def test_and_are_not_answered_where_it_has_none(self, world: World, plane: Plane) -> None:
        plane.have(node_port((), (TWO,)))
        assert said(world, world.client, SECOND.addresses[0], 30080) == {"two"}
        assert said(world, world.client, FIRST.addresses[0], 30080, times=1) == {"silence"}

    def test_clients_from_inside_have_those_of_all_nodes(self, world: World, plane: Plane) -> None:
        plane.have(node_port((ONE,), (TWO,)))
        for where in (world.one, world.node):
            assert said(world, where, SECOND.addresses[0], 30080, times=100) == {"one", "two"}

    def test_unless_their_node_prefers_others(self, world: World, plane: Plane) -> None:
        server = VirtualServer(
            *("TCP", "0.0.0.0", 30080, "NodePort", "rr", None, (ONE, TWO)),
            anywhere=True,
            parts=(Part(FIRST, (ONE,)), Part(SECOND, (TWO,))),
        )
        plane.have(server)
        assert said(world, world.client, FIRST.addresses[0], 30080) == {"one"}
        assert said(world, world.one, SECOND.addresses[0], 30080) == {"two"}

    def test_a_client_is_kept_with_an_endpoint_by_each_node(self, world: World, plane: Plane) -> None:
        plane.have(node_port((ONE,), (TWO,), affinity_seconds=60.0))
        for _ in range(2):
            assert said(world, world.client, FIRST.addresses[0], 30080) == {"one"}
            assert said(world, world.client, SECOND.addresses[0], 30080) == {"two"}
