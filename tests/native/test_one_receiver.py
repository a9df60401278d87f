"""The forwarder with one socket for the packets of UDP that come to all services, to which the kernel leads them."""

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest

from kubecore._native import Balancer, Forwarder
from tests.native.test_forwarder import answer, backend, eventually, greet, udp_backend
from tests.native.test_one_listener import SOON, descriptors, why_not
from tests.support.ports import free_port
from tests.unit.proxy.builders import vip

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_not()), reason=f"one listener: {why_not()}")]

PORT = 53


class Plane:
    def __init__(self) -> None:
        self.balancer = Balancer()
        self.forwarder = Forwarder(self.balancer, one_listener=True)

    def serve(self, address: str, ports: list[int], *, protocol: str = "UDP", port: int = PORT) -> tuple[str, int]:
        self.balancer.put_service(protocol, address, port)
        self.point(address, ports, protocol=protocol, port=port)
        return self.forwarder.listen(protocol, address, port)

    def point(self, address: str, ports: list[int], *, protocol: str = "UDP", port: int = PORT) -> None:
        self.balancer.set_destinations(protocol, address, port, [("127.0.0.1", one, 1) for one in ports])


@pytest.fixture
def plane() -> Iterator[Plane]:
    plane = Plane()
    yield plane
    plane.forwarder.shutdown()
    # The next test may want the same ports.
    while plane.forwarder.statistics()["open"]:
        time.sleep(0.001)


def client(address: tuple[str, int]) -> socket.socket:
    """Takes answers from that very address alone."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.connect(address)
    return sock


async def ask(sock: socket.socket, *, within: float = 60) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, b"?")
    async with asyncio.timeout(within):
        return await loop.sock_recv(sock, 100)


async def ask_at(address: tuple[str, int]) -> bytes:
    with client(address) as one:
        return await ask(one)


def is_bound(address: str, port: int = PORT, kind: socket.SocketKind = socket.SOCK_DGRAM) -> bool:
    with socket.socket(type=kind) as other:
        try:
            other.bind((address, port))
        except OSError:
            return True
    return False


async def test_services_take_no_descriptors_and_answer_from_their_own_addresses(plane: Plane) -> None:
    async with udp_backend(b"a") as a, udp_backend(b"b") as b:
        before = descriptors()
        for number in range(100):
            plane.serve(vip(number), [b if number % 2 else a])
        # others in this process may open and close some of theirs meanwhile
        assert descriptors() - before < 50
        assert not is_bound(vip(1))
        assert [await ask_at((vip(number), PORT)) for number in (0, 1, 98, 99)] == [b"a?", b"b?", b"a?", b"b?"]


async def test_a_port_that_somebody_else_has_is_his(plane: Plane) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind((vip(1), PORT))
        with pytest.raises(OSError, match="Address already in use"):
            plane.serve(vip(1), [])


async def test_without_destinations_packets_are_refused(plane: Plane) -> None:
    address = plane.serve(vip(1), [])
    with client(address) as one:
        with pytest.raises(ConnectionRefusedError):
            await ask(one)
        async with udp_backend(b"a") as a:
            plane.point(vip(1), [a])
            assert await ask(one) == b"a?"


async def test_a_service_that_is_closed_leaves_its_address_to_others(plane: Plane) -> None:
    async with udp_backend(b"a") as a:
        address = plane.serve(vip(1), [a])
        with client(address) as one:
            assert await ask(one) == b"a?"
            plane.forwarder.close("UDP", *address)
            await eventually(lambda: not is_bound(vip(1)))
            with pytest.raises(ConnectionRefusedError):
                await ask(one)


async def test_flows_go_on_while_their_service_moves_to_a_socket_of_its_own_and_back(plane: Plane) -> None:
    async with udp_backend(b"a") as a:
        address = plane.serve(vip(1), [a])
        with client(address) as one, client(address) as stranger:
            assert await ask(one) == b"a?"
            for _ in range(3):
                plane.forwarder.set_access("UDP", *address, sources=["127.0.0.0/8"])
                assert await ask(one) == b"a?"
                plane.forwarder.set_access("UDP", *address)
                assert await ask(one) == b"a?"
            assert plane.forwarder.statistics()["accepted"] == 1
            plane.forwarder.set_access("UDP", *address, sources=["10.0.0.0/8"])
            with pytest.raises(TimeoutError):
                await ask(stranger, within=SOON)


async def test_who_comes_first_after_a_silence_is_answered(plane: Plane) -> None:
    async with udp_backend(b"a") as a:
        for number in range(20):
            address = plane.serve(vip(number), [])
            plane.forwarder.set_access("UDP", *address, silent=True)
            plane.point(vip(number), [a])
            assert await ask_at(address) == b"a?"


class TestNodePorts:
    async def test_take_no_descriptors_and_are_had_at_every_address(self, plane: Plane) -> None:
        async with udp_backend(b"packet ") as packets, backend(greet("stream")) as streams:
            port = free_port()
            plane.serve("0.0.0.0", [packets], port=port)
            assert not is_bound("0.0.0.0", port)
            assert [await ask_at((vip(number), port)) for number in (1, 2)] == [b"packet ?", b"packet ?"]
            port = free_port()
            plane.serve("0.0.0.0", [streams], protocol="TCP", port=port)
            assert not is_bound("0.0.0.0", port, socket.SOCK_STREAM)
            assert [await answer((vip(number), port)) for number in (1, 2)] == [b"stream", b"stream"]

    async def test_do_not_take_what_is_for_a_service_with_the_same_port(self, plane: Plane) -> None:
        port = free_port()
        async with udp_backend(b"node ") as node, udp_backend(b"service ") as service:
            plane.serve("0.0.0.0", [node], port=port)
            address = plane.serve(vip(1), [service], port=port)
            assert [await ask_at(address), await ask_at((vip(2), port))] == [b"service ?", b"node ?"]
            plane.forwarder.close("UDP", *address)
            assert await ask_at(address) == b"node ?"

    async def test_of_one_family_are_not_those_of_the_other(self, plane: Plane) -> None:
        port = free_port()
        async with udp_backend(b"four ") as four:
            plane.serve("0.0.0.0", [four], port=port)
            plane.serve("::", [], port=port)
            assert await ask_at(("127.0.0.1", port)) == b"four ?"
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
                six.setblocking(False)
                six.connect(("::1", port))
                with pytest.raises(ConnectionRefusedError):
                    await ask(six)
