"""The forwarder with one listening socket for the addresses of all services, to which the kernel leads who comes."""

import asyncio
import itertools
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kubecore._native import Balancer, Forwarder
from tests.native.test_forwarder import answer, backend, echo, eventually, greet
from tests.support.ports import free_port
from tests.unit.proxy.builders import vip

PORT = 80
SOON = 0.5
"""Seconds in which nothing is to come."""


def why_not() -> str:
    forwarder = Forwarder(Balancer(), one_listener=True)
    return forwarder.listens_apart or ""


pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_not()), reason=f"one listener: {why_not()}")]


class Plane:
    """Services at this process's own addresses, port 80."""

    def __init__(self) -> None:
        self.balancer = Balancer()
        self.forwarder = Forwarder(self.balancer, one_listener=True)

    def serve(self, address: str, ports: list[int]) -> tuple[str, int]:
        self.balancer.put_service("TCP", address, PORT)
        self.point(address, ports)
        return self.forwarder.listen("TCP", address, PORT)

    def point(self, address: str, ports: list[int]) -> None:
        host = "::1" if ":" in address else "127.0.0.1"
        self.balancer.set_destinations("TCP", address, PORT, [(host, port, 1) for port in ports])


@pytest.fixture
def plane() -> Iterator[Plane]:
    plane = Plane()
    yield plane
    plane.forwarder.shutdown()


def is_bound(address: str) -> bool:
    """Somebody listens at that very address."""
    with socket.socket() as other:
        # what lingers of connections of before is nobody's
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind((address, PORT))
        except OSError:
            return True
    return False


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def is_dropped(address: tuple[str, int]) -> bool:
    try:
        async with asyncio.timeout(SOON):
            await answer(address)
    except TimeoutError:
        return True
    return False


async def test_each_address_leads_to_the_endpoints_of_its_own_service(plane: Plane) -> None:
    async with backend(greet("a")) as a, backend(greet("b")) as b:
        one, two = plane.serve(vip(1), [a]), plane.serve(vip(2), [b])
        assert [await answer(address) for address in (one, two, one)] == [b"a", b"b", b"a"]


async def test_a_thousand_services_take_no_descriptors(plane: Plane) -> None:
    async with backend(greet("last")) as port:
        before = descriptors()
        for number in range(1000):
            address = (vip(1 + number // 5), 2000 + number % 5)
            plane.balancer.put_service("TCP", *address)
            plane.balancer.set_destinations("TCP", *address, [("127.0.0.1", port, 1)])
            plane.forwarder.listen("TCP", *address)
        # others in this process may open and close some of theirs meanwhile
        assert descriptors() - before < 100
        assert await answer(address) == b"last"


async def test_bytes_and_ends_pass_in_both_directions(plane: Plane) -> None:
    payload = os.urandom(3_000_000)
    async with backend(echo) as port:
        reader, writer = await asyncio.open_connection(*plane.serve(vip(1), [port]))
        writer.write(payload)
        writer.write_eof()
        assert await reader.read() == payload
        writer.close()


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="a host without IPv6")
async def test_ipv6(plane: Plane) -> None:
    server = await asyncio.start_server(greet("six"), "::1", 0)
    async with server:
        port = free_port()  # of nobody else: of IPv6 the loopback interface has one address
        plane.balancer.put_service("TCP", "::1", port)
        plane.balancer.set_destinations("TCP", "::1", port, [("::1", server.sockets[0].getsockname()[1], 1)])
        plane.forwarder.listen("TCP", "::1", port)
        assert await answer(("::1", port)) == b"six"


async def test_without_destinations_connections_are_refused_until_there_is_one(plane: Plane) -> None:
    async with backend(greet("a")) as port:
        address = plane.serve(vip(1), [])
        with pytest.raises(ConnectionRefusedError):
            await answer(address)
        plane.point(vip(1), [port])
        assert await answer(address) == b"a"
        plane.point(vip(1), [])
        with pytest.raises(ConnectionRefusedError):
            await answer(address)


async def test_nobody_who_listens_everywhere_takes_a_services_clients(plane: Plane) -> None:
    async with backend(greet("a")) as port:
        with socket.socket() as everywhere:
            everywhere.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            everywhere.bind(("0.0.0.0", 0))
            address, neighbour = ((host, everywhere.getsockname()[1]) for host in (vip(1), vip(2)))
            plane.balancer.put_service("TCP", *address)
            plane.balancer.set_destinations("TCP", *address, [("127.0.0.1", port, 1)])
            plane.forwarder.listen("TCP", *address)
            async with await asyncio.start_server(greet("stranger"), sock=everywhere):
                assert await answer(address) == b"a"
                assert await answer(neighbour) == b"stranger"
                plane.forwarder.close("TCP", *address)
                assert await answer(address) == b"stranger"


async def test_a_port_that_somebody_else_has_is_his(plane: Plane) -> None:
    async with await asyncio.start_server(greet("other"), vip(1), PORT):
        plane.balancer.put_service("TCP", vip(1), PORT)
        with pytest.raises(OSError, match="Address already in use"):
            plane.forwarder.listen("TCP", vip(1), PORT)
        assert await answer((vip(1), PORT)) == b"other"


async def test_who_came_just_before_the_service_went_is_carried(plane: Plane) -> None:
    async with backend(greet("alive")) as port:
        address = plane.serve(vip(1), [port])
        with socket.create_connection(address) as client:
            plane.forwarder.close("TCP", *address)
            client.settimeout(60)
            assert await asyncio.to_thread(client.recv, 100) == b"alive"
        with pytest.raises(ConnectionRefusedError):
            await answer(address)


async def test_a_service_for_some_clients_alone_listens_for_itself_meanwhile(plane: Plane) -> None:
    async with backend(greet("a")) as port:
        address, neighbour = plane.serve(vip(1), [port]), plane.serve(vip(2), [port])
        assert not is_bound(vip(1))
        plane.forwarder.set_access("TCP", *address, sources=[f"{vip(9)}/32"])
        assert is_bound(vip(1)) and not is_bound(vip(2))
        assert await is_dropped(address)
        assert await answer(neighbour) == b"a"
        plane.forwarder.set_access("TCP", *address)
        assert await answer(address) == b"a"
        await eventually(lambda: not is_bound(vip(1)))


async def test_clients_are_dropped_where_endpoints_are_elsewhere_alone(plane: Plane) -> None:
    async with backend(greet("a")) as port:
        address = plane.serve(vip(1), [port])
        plane.forwarder.set_access("TCP", *address, silent=True)
        assert not is_bound(vip(1)) and await answer(address) == b"a"
        plane.point(vip(1), [])
        assert is_bound(vip(1)) and await is_dropped(address)
        plane.point(vip(1), [port])
        assert await answer(address) == b"a"
        await eventually(lambda: not is_bound(vip(1)))


async def test_a_service_some_of_whose_clients_may_be_dropped_any_moment_listens_for_itself_all_the_time(
    plane: Plane,
) -> None:
    async with backend(greet("a")) as port:
        address = plane.serve(vip(1), [port])
        plane.balancer.put_service("FWM", "", 1)
        for _ in range(2):
            plane.forwarder.set_access("TCP", *address, silent=True, apart=True, led=[(["127.0.0.1/32"], (), 1)])
            assert is_bound(vip(1)) and await is_dropped(address)
            plane.balancer.set_destinations("FWM", "", 1, [("127.0.0.1", port, 1)])
            assert is_bound(vip(1)) and await answer(address) == b"a"
            plane.balancer.set_destinations("FWM", "", 1, [])
        plane.forwarder.set_access("TCP", *address)
        assert await answer(address) == b"a"
        await eventually(lambda: not is_bound(vip(1)))


async def test_no_connection_is_lost_while_a_service_moves_to_a_socket_of_its_own_and_back(plane: Plane) -> None:
    async with backend(greet("a")) as port:
        address, done = plane.serve(vip(1), [port]), asyncio.Event()

        async def ask() -> None:
            while not done.is_set():
                assert await answer(address) == b"a"

        clients = [asyncio.create_task(ask()) for _ in range(4)]
        for turn in range(100):
            plane.forwarder.set_access("TCP", *address, sources=["127.0.0.0/8"] if turn % 2 else [])
            await asyncio.sleep(0.001)
        done.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*clients)
        assert plane.forwarder.statistics()["refused"] == 0


def test_and_nobody_is_refused_or_forgotten_who_comes_in_that_very_moment(plane: Plane) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as backend:
        address, came, failed = plane.serve(vip(1), [backend.getsockname()[1]]), itertools.count(), list[OSError]()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    backend.accept()[0].close()

        def knock() -> None:
            while next(came) < 5000:
                try:
                    with socket.create_connection(address, timeout=60) as client:
                        client.recv(1)
                except OSError as error:
                    failed.append(error)

        serving = threading.Thread(target=serve)
        clients = [threading.Thread(target=knock) for _ in range(4)]
        for thread in (serving, *clients):
            thread.start()
        while any(thread.is_alive() for thread in clients):
            plane.forwarder.set_access("TCP", *address, sources=["127.0.0.0/8"])
            plane.forwarder.set_access("TCP", *address)
        backend.shutdown(socket.SHUT_RDWR)
        serving.join()
        assert failed == []


async def test_what_endpoints_are_told_of_clients_changes_without_a_break(plane: Plane) -> None:
    async with backend(echo) as port:
        address = plane.serve(vip(1), [port])
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"here\n")
        assert await reader.readline() == b"here\n"
        plane.forwarder.set_access("TCP", *address, proxy_protocol=1)
        told, other = await asyncio.open_connection(*address)
        assert (await told.readline()).startswith(b"PROXY TCP4 ")
        writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        for one in (writer, other):
            one.close()


async def test_at_the_end_the_kernel_leads_nobody_any_more(plane: Plane) -> None:
    async with backend(greet("a")) as port:
        address = plane.serve(vip(1), [port])
        plane.forwarder.shutdown()
        await eventually(lambda: not plane.forwarder.listening())
        with pytest.raises(ConnectionRefusedError):
            await answer(address)
