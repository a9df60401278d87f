"""A Service that the forwarder had goes to the kernel: who comes through the forwarder still is not lost."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

import pytest

from kubecore.proxy.handover import HANDSHAKE_SECONDS, Handover
from kubecore.proxy.held_addresses import HeldAddresses
from kubecore.proxy.table import LOOK_SECONDS, ServiceTable
from kubecore.proxy.virtual_servers import VirtualServer
from tests.unit.proxy.builders import vip, virtual_server
from tests.unit.proxy.test_table import Book

WEB = "default/web"
SECONDS = 30.0


@dataclass
class World:
    backends: list[socket.socket]
    book: Book = field(default_factory=Book)
    table: ServiceTable = field(default_factory=ServiceTable)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.handover = Handover(self.table, HeldAddresses(self.book), lambda: self.now)

    def server(self, *numbers: int) -> VirtualServer:
        ends = [self.backends[number].getsockname() for number in numbers]
        return virtual_server(*ends, address=vip(5), port=8443)

    def apply(self, *, left: list[VirtualServer] | None = None, taken: list[VirtualServer] | None = None) -> None:
        assert self.handover.apply(WEB, left=left or [], taken=taken or []) == []

    def connect(self) -> socket.socket:
        return socket.create_connection((vip(5), 8443), timeout=SECONDS)

    def settle_after(self, seconds: float) -> bool:
        """Whether the forwarder still has the Service then, whose address is held for as long."""
        self.now += seconds
        self.handover.settle()
        here = bool(self.table.forwarder.listening())
        assert bool(self.book.held) == here == self.handover.unfinished
        return here


@pytest.fixture
def world() -> Iterator[World]:
    backends = [socket.create_server((vip(6 + number), 0)) for number in range(2)]
    for one in backends:
        one.settimeout(SECONDS)
    world = World(backends)
    yield world
    world.handover.close()
    for one in backends:
        one.close()


def test_who_is_about_to_be_connected_still_is(world: World) -> None:
    server = world.server(0)
    world.apply(left=[replace(server, forwarded=True, proxy_protocol=1)])
    world.apply(taken=[server])
    assert world.settle_after(HANDSHAKE_SECONDS / 2)
    with world.connect(), world.backends[0].accept()[0] as accepted:
        assert accepted.recv(100).startswith(b"PROXY TCP4 ")


def test_and_by_endpoints_that_are_there(world: World) -> None:
    world.apply(left=[world.server(0)])
    world.apply(taken=[world.server(0)])
    world.apply(taken=[world.server(1)])
    with world.connect() as client, world.backends[1].accept()[0] as accepted:
        accepted.sendall(b"the second")
        assert client.recv(100) == b"the second"


def test_who_is_connected_stays_so_for_as_long_as_he_likes(world: World) -> None:
    world.apply(left=[world.server(0)])
    with closing(world.connect()) as client, world.backends[0].accept()[0] as accepted:
        world.apply(taken=[world.server(0)])
        assert world.settle_after(1000 * HANDSHAKE_SECONDS)
        client.sendall(b"still here")
        assert accepted.recv(100) == b"still here"
    ends = time.monotonic() + SECONDS
    while world.table.forwarder.connections():
        assert time.monotonic() < ends
    assert world.settle_after(LOOK_SECONDS / 2)
    assert not world.settle_after(LOOK_SECONDS / 2)


def test_after_that_the_forwarder_has_nothing_of_it(world: World) -> None:
    world.apply(left=[world.server(0)])
    world.apply(taken=[world.server(0)])
    assert world.handover.rows() == []
    assert not world.settle_after(HANDSHAKE_SECONDS)


def test_changes_of_the_service_do_not_make_it_longer(world: World) -> None:
    world.apply(left=[world.server(0)])
    world.apply(taken=[world.server(0)])
    assert world.settle_after(HANDSHAKE_SECONDS / 2)
    world.apply(taken=[world.server(0, 1)])
    assert not world.settle_after(HANDSHAKE_SECONDS / 2)


def test_a_service_that_comes_back_is_the_forwarders_again(world: World) -> None:
    world.apply(left=[world.server(0)])
    world.apply(taken=[world.server(0)])
    world.apply(left=[world.server(0)])
    world.now += HANDSHAKE_SECONDS
    world.handover.settle()
    assert not world.handover.unfinished
    with world.connect():
        world.backends[0].accept()[0].close()


def test_one_that_is_gone_is_gone_at_once(world: World) -> None:
    world.apply(left=[world.server(0)])
    world.apply(taken=[world.server(0)])
    world.apply()
    with pytest.raises(ConnectionRefusedError):
        world.connect()
    assert not world.handover.unfinished
