"""A network namespace that a process without rights makes and uses from outside, by real sockets."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kubecore import _native, node_network, way_out
from kubecore._native import Balancer, Forwarder
from kubecore.kubelet.keeper.door import Door, network_kept_at
from kubecore.kubelet.networks.network import BridgeNetwork, NetworkNamespace
from kubecore.kubelet.pods.grpc_target import grpc_target
from kubecore.kubelet.runtime import launching
from kubecore.node_network import NodeNetwork

PODS, NODE, SERVICE = "10.231.0.0/24", "10.231.0.1", "10.232.0.7"
OUTSIDE = "127.0.0.1"

pytestmark = pytest.mark.skipif(bool(why := node_network.trouble()), reason=f"it cannot be had here: {why}")


@pytest.fixture
def network() -> Iterator[NodeNetwork]:
    """With a bridge that has the node's address and a Service's."""
    made = NodeNetwork.make()
    try:
        made.lead([PODS, "10.232.0.0/16"])
        pods = bridge(made)
        pods.start()
        with made.netlink() as netlink:
            index = netlink.link_index("kc-test")
            assert index is not None
            netlink.add_local(index, ipaddress.ip_address(SERVICE))
        yield made
    finally:
        made.close()


def bridge(network: NodeNetwork) -> BridgeNetwork:
    return BridgeNetwork([PODS], bridge="kc-test", cluster_cidrs=["10.231.0.0/16"], node=network)


@asynccontextmanager
async def greeter(address: str, word: bytes) -> AsyncIterator[int]:
    """Says a word and whom it says it to; its port."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(word + b" " + writer.get_extra_info("peername")[0].encode())
        writer.close()

    listener = node_network.socket_for(address)
    listener.bind((address, 0))
    async with await asyncio.start_server(greet, sock=listener):
        yield listener.getsockname()[1]


async def said(address: str, port: int) -> bytes:
    reader, writer = await node_network.open_connection(address, port)
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_its_addresses_are_bound_and_connected_to_in_there_and_all_others_on_the_host(
    network: NodeNetwork,
) -> None:
    async with greeter(NODE, b"inside") as inside, greeter(OUTSIDE, b"outside") as outside:
        assert await said(NODE, inside) == f"inside {NODE}".encode()
        assert await said(OUTSIDE, outside) == f"outside {OUTSIDE}".encode()
        with node_network.of_address((socket.AF_INET, socket.SOCK_STREAM, 0, "", (NODE, inside))) as made:
            await asyncio.get_running_loop().sock_connect(made, (NODE, inside))


async def test_low_ports_of_its_addresses_may_be_bound_by_whoever_made_it(network: NodeNetwork) -> None:
    with node_network.socket_for(SERVICE, socket.SOCK_DGRAM) as packets, node_network.socket_for(SERVICE) as listener:
        packets.bind((SERVICE, 53))
        listener.bind((SERVICE, 443))
        assert (packets.getsockname(), listener.getsockname()) == ((SERVICE, 53), (SERVICE, 443))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["TCP", "UDP"])
def test_a_child_makes_sockets_for_many_who_ask(network: NodeNetwork, kind: int) -> None:
    """One a child would take longer than what most of them are for."""
    held: list[socket.socket] = []
    counts = []
    for _ in range(32):
        held.append(node_network.socket_for(NODE, kind))
        counts.append(len(list(Path("/proc/self/fd").iterdir())))
    for one in held:
        one.close()
    assert len(set(counts)) <= 3


async def test_nothing_leads_out_of_it_and_who_tries_is_told_at_once(network: NodeNetwork) -> None:
    with node_network.socket_for(NODE) as made, pytest.raises(OSError, match="Network is unreachable"):
        await asyncio.get_running_loop().sock_connect(made, ("192.0.2.1", 80))


def test_an_address_with_a_scope_is_one_of_the_hosts(network: NodeNetwork) -> None:
    assert not node_network.is_elsewhere("fe80::1%lo")
    assert not node_network.is_elsewhere("a-name")


async def test_once_it_is_closed_sockets_are_the_hosts_again(network: NodeNetwork) -> None:
    assert node_network.is_elsewhere(NODE)
    network.close()
    assert not node_network.is_elsewhere(NODE)
    with node_network.socket_for(NODE) as made, pytest.raises(OSError, match="Cannot assign"):
        made.bind((NODE, 0))


async def test_the_forwarder_leads_into_it_and_out_of_it(network: NodeNetwork) -> None:
    balancer = Balancer()
    forwarder = Forwarder(balancer)
    async with greeter(NODE, b"inside") as inside, greeter(OUTSIDE, b"outside") as outside:
        for key, destination in (
            (("TCP", OUTSIDE, 0), (NODE, inside, 1)),
            (("TCP", SERVICE, 443), (OUTSIDE, outside, 1)),
        ):
            balancer.put_service(*key)
            balancer.set_destinations(*key, [destination])
        try:
            _, node_port = forwarder.listen("TCP", OUTSIDE, 0)
            forwarder.listen("TCP", SERVICE, 443)
            assert await said(OUTSIDE, node_port) == f"inside {NODE}".encode()
            assert await said(SERVICE, 443) == f"outside {OUTSIDE}".encode()
        finally:
            forwarder.shutdown()


async def test_a_pod_has_a_namespace_within_it_and_an_address_on_its_bridge(network: NodeNetwork) -> None:
    new = launching.NEW_USER | launching.NEW_NETWORK
    pods, namespaces = bridge(network), launching.create_namespaces(new, join=network.join)
    try:
        (address,) = pods.attach("uid", NetworkNamespace(namespaces.network, namespaces.netlink))
        assert ipaddress.ip_address(address) in ipaddress.ip_network(PODS)
        made = _native.socket_within(namespaces.network, socket.AF_INET, socket.SOCK_STREAM, 0)
        with socket.socket(fileno=made) as listener:
            listener.setblocking(False)
            listener.bind((address, 0))
            listener.listen()
            reader, writer = await node_network.open_connection(address, listener.getsockname()[1])
            accepted, client = await asyncio.get_running_loop().sock_accept(listener)
            accepted.close()
            assert client[0] == NODE
            assert await reader.read() == b""
            writer.close()
    finally:
        namespaces.close()


async def test_grpc_is_met_half_way(network: NodeNetwork) -> None:
    async with greeter(NODE, b"inside") as port, grpc_target(NODE, port, "told") as target:
        reader, writer = await asyncio.open_unix_connection(target.removeprefix("unix:"))
        assert await reader.read() == f"inside {NODE}".encode()
        writer.close()
    assert not os.access(target.removeprefix("unix:"), os.F_OK)
    async with grpc_target(OUTSIDE, 1, "told") as target:
        assert target == "told"


async def test_a_keeper_hands_it_to_a_cluster_that_starts_anew(network: NodeNetwork, tmp_path: Path) -> None:
    assert network_kept_at(tmp_path) is None
    door = Door(tmp_path, network)
    found = await asyncio.to_thread(network_kept_at, tmp_path)
    door.close()
    assert found is not None
    own, others = network.descriptors, found.descriptors
    assert [os.fstat(one).st_ino for one in own] == [os.fstat(one).st_ino for one in others]
    found.close()
    assert network_kept_at(tmp_path) is None


def test_where_the_kernel_has_no_part_in_a_way_out_the_network_says_why(
    network: NodeNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(95, "nf_tables: Operation not supported")

    monkeypatch.setattr("kubecore.way_out._lead", refuse)
    way_out.lead_out(network, [PODS], NODE)
    assert network.no_way_out == "nf_tables: Operation not supported"
    assert way_out.trouble() == "nf_tables: Operation not supported"
