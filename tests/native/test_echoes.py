"""Pods ping what is outside of a node's own network: a world with one host in it."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from kubecore import _native, way_out
from kubecore.clock import VirtualClock
from kubecore.echoes import Echoes, EchoSockets, _checksum
from kubecore.node_network import NodeNetwork
from kubecore.way_out import WayOut
from tests.native.test_way_out import INSIDE, NODE, Inside

pytestmark = pytest.mark.skipif(bool(why := way_out.trouble()), reason=f"it cannot be had here: {why}")

SOMEBODY, NOBODY = "198.51.100.1", "203.0.113.7"
"""Whose address the world knows, and no other (RFC 5737)."""
LOOPBACK = 1
REQUEST, REPLY, UNREACHABLE = 8, 0, 3


@pytest.fixture
def inside() -> Iterator[Inside]:
    made = Inside()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def world() -> Iterator[NodeNetwork]:
    """What is outside: a network in which its user may ping."""
    made = NodeNetwork.make()
    who = f"{os.getegid()} {os.getegid()}".encode()
    step = ("write", b"/proc/sys/net/ipv4/ping_group_range", who, b"", 0, b"", False, False)
    try:
        _native.create_namespaces(namespaces=0, user_map=None, hostname=b"", steps=[step], join=made.join)
    except OSError as error:
        made.close()
        pytest.skip(f"who may ping cannot be set: {error}")
    with made.netlink() as netlink:
        netlink.set_up(LOOPBACK)
        netlink.add_address(LOOPBACK, ipaddress.ip_interface(SOMEBODY))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@asynccontextmanager
async def carried(inside: Inside, world: NodeNetwork, clock: VirtualClock) -> AsyncIterator[None]:
    def ping() -> socket.socket:
        made = _native.socket_within(world.descriptors[1], socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP, fileno=made)

    way = WayOut(inside.network, INSIDE, NODE, echoes=True)
    running = asyncio.create_task(Echoes(EchoSockets.within(inside.network), clock, ping=ping).run())
    try:
        await asyncio.sleep(0)  # it listens
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        way.close()


def pinging(inside: Inside) -> socket.socket:
    made = _native.socket_within(inside._pod.network, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    found = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP, fileno=made)
    found.setblocking(False)
    return found


def request(number: int, sequence: int, content: bytes) -> bytes:
    rest = struct.pack("!HH", number, sequence) + content
    return struct.pack("!BBH", REQUEST, 0, _checksum(bytes([REQUEST, 0, 0, 0]) + rest)) + rest


async def heard(pod: socket.socket) -> tuple[str, int, bytes]:
    """Who says it, of which type, and what is behind the checksum, which is right."""
    packet = await asyncio.get_running_loop().sock_recv(pod, 1 << 16)
    message = packet[20:]
    assert _checksum(message) == 0
    return socket.inet_ntoa(packet[12:16]), message[0], message[4:]


async def ask(pod: socket.socket, target: str, message: bytes) -> None:
    await asyncio.get_running_loop().sock_sendto(pod, message, (target, 0))


@pytest.mark.parametrize("content", [b"", b"odd", bytes(range(256)) * 4])
async def test_who_is_asked_answers_each_request_with_what_was_in_it(
    inside: Inside, world: NodeNetwork, clock: VirtualClock, content: bytes
) -> None:
    async with carried(inside, world, clock):
        with pinging(inside) as pod:
            for number, sequence in ((7, 1), (7, 2), (0xFFFF, 1)):
                await ask(pod, SOMEBODY, request(number, sequence, content))
                told = await heard(pod)
                assert told == (SOMEBODY, REPLY, struct.pack("!HH", number, sequence) + content)


async def test_where_no_way_leads_the_pod_is_told_so(inside: Inside, world: NodeNetwork, clock: VirtualClock) -> None:
    async with carried(inside, world, clock):
        with pinging(inside) as pod:
            await ask(pod, NOBODY, asked := request(7, 1, b"who"))
            who, kind, rest = await heard(pod)
            assert (who, kind) == (NOBODY, UNREACHABLE)
            assert rest[4 + 12 : 4 + 20] == socket.inet_aton(inside.address) + socket.inet_aton(NOBODY)
            assert rest[4 + 20 :] == asked[:8]


async def test_the_node_answers_for_itself(inside: Inside, world: NodeNetwork, clock: VirtualClock) -> None:
    async with carried(inside, world, clock):
        with pinging(inside) as pod:
            await ask(pod, NODE, request(7, 1, b"node"))
            assert (await heard(pod))[:2] == (NODE, REPLY)


async def test_a_flood_is_carried_bit_by_bit(inside: Inside, world: NodeNetwork, clock: VirtualClock) -> None:
    async with carried(inside, world, clock):
        with pinging(inside) as pod:
            for sequence in range(11):
                pod.sendto(request(7, sequence, b""), (SOMEBODY, 0))
            for sequence in range(10):
                assert await heard(pod) == (SOMEBODY, REPLY, struct.pack("!HH", 7, sequence))
            with pytest.raises(BlockingIOError):
                pod.recv(1)
            await clock.advance(0.05)
            assert await heard(pod) == (SOMEBODY, REPLY, struct.pack("!HH", 7, 10))


async def test_a_client_has_a_share_of_places_where_the_quietest_makes_room(
    inside: Inside, world: NodeNetwork, clock: VirtualClock
) -> None:
    """As for `while ping -c1 somebody; do sleep 1; done`, each of which is a series of its own."""
    async with carried(inside, world, clock):
        with pinging(inside) as pod:
            for number in (*range(18), 0):
                await ask(pod, SOMEBODY, request(number, 1, b""))
                assert await heard(pod) == (SOMEBODY, REPLY, struct.pack("!HH", number, 1))
                await clock.advance(0.05)
