"""The forwarder with real sockets on the loopback interface."""

import asyncio
import errno
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from kubecore._native import Balancer, Forwarder
from tests.support.ports import free_port

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
VIP = "127.96.0.1"
SERVICE = ("TCP", VIP, 80)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def greet(name: str) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name.encode())
        await writer.drain()
        writer.close()

    return handler


@asynccontextmanager
async def backend(handler: Handler) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Plane:
    """A balancer with one service and a forwarder that listens for it."""

    def __init__(self, protocol: str = "TCP", **options: object) -> None:
        self.balancer = Balancer()
        self.protocol = protocol
        self.forwarder = Forwarder(self.balancer, **options)  # type: ignore[arg-type]

    def serve(self, ports: list[int], **options: object) -> tuple[str, int]:
        self.balancer.put_service(self.protocol, VIP, 80, **options)  # type: ignore[arg-type]
        self.point_to(ports)
        return self.forwarder.listen(self.protocol, VIP, 80, bind_port=0)

    def point_to(self, ports: list[int]) -> None:
        self.balancer.set_destinations(self.protocol, VIP, 80, [("127.0.0.1", port, 1) for port in ports])


@pytest.fixture
def plane() -> Iterator[Plane]:
    plane = Plane()
    yield plane
    plane.forwarder.shutdown()


async def answer(address: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    try:
        return await reader.read()
    finally:
        writer.close()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the state is in Rust, nothing tells of it
            await asyncio.sleep(0.001)


class TestTcp:
    async def test_connections_are_spread_by_the_scheduler(self, plane: Plane) -> None:
        async with backend(greet("a")) as a, backend(greet("b")) as b:
            address = plane.serve([a, b])
            assert [await answer(address) for _ in range(4)] == [b"b", b"a", b"b", b"a"]

    @pytest.mark.parametrize("size", [0, 1, 16 * 1024, 5_000_000])
    async def test_bytes_arrive_unchanged_in_both_directions(self, plane: Plane, size: int) -> None:
        payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
        async with backend(echo) as port:
            reader, writer = await asyncio.open_connection(*plane.serve([port]))
            writer.write(payload)
            writer.write_eof()
            assert await reader.read() == payload
            writer.close()
            await eventually(lambda: plane.forwarder.statistics()["open"] == 0)
        (service,) = plane.balancer.services()
        (row,) = service["destinations"]
        assert (row["bytes_in"], row["bytes_out"], row["active"], row["inactive"]) == (size, size, 0, 1)

    async def test_many_small_messages_alternate_with_large_ones(self, plane: Plane) -> None:
        async with backend(echo) as port:
            reader, writer = await asyncio.open_connection(*plane.serve([port]))
            for size in [1, 1000, 300_000, *[10] * 20, 2_000_000, 5]:
                writer.write(b"x" * size)
                await writer.drain()
                assert len(await reader.readexactly(size)) == size
            writer.close()

    async def test_a_half_closed_connection_still_carries_the_answer(self, plane: Plane) -> None:
        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received = len(await reader.read())
            writer.write(str(received).encode())
            writer.close()

        async with backend(count) as port:
            reader, writer = await asyncio.open_connection(*plane.serve([port]))
            writer.write(b"x" * 100_000)
            writer.write_eof()
            assert await reader.read() == b"100000"
            writer.close()

    async def test_a_slow_reader_slows_its_writer(self, plane: Plane) -> None:
        written = 0

        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            while written < 200_000_000:
                writer.write(bytes(100_000))
                await writer.drain()
                written += 100_000

        async with backend(flood) as port:
            reader, writer = await asyncio.open_connection(*plane.serve([port]))
            await reader.readexactly(1000)
            before = -1
            while before != written:
                before = written
                await asyncio.sleep(0.1)
            assert written < 100_000_000
            writer.close()

    async def test_what_a_slow_reader_has_not_taken_at_once_arrives_unchanged_and_in_order(self, plane: Plane) -> None:
        """Whether a piece is taken in part, not at all, or carried through a pipe."""
        numbers = b"".join(number.to_bytes(4, "big") for number in range(600_000))

        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for at in range(0, len(numbers), 5000):
                writer.write(numbers[at : at + 5000])
                await writer.drain()
            writer.close()

        async with backend(count) as port:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(plane.serve([port]))
            reader, writer = await asyncio.open_connection(sock=client, limit=4096)
            received = bytearray()
            while piece := await reader.read(10_000):
                received += piece
            writer.close()
        assert bytes(received) == numbers

    async def test_a_reset_is_passed_on(self, plane: Plane) -> None:
        async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

        async with backend(slam) as port:
            reader, writer = await asyncio.open_connection(*plane.serve([port]))
            writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    async def test_a_client_that_vanishes_ends_the_destinations_side(self, plane: Plane) -> None:
        ended = asyncio.Event()

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            except ConnectionError:
                pass
            ended.set()
            writer.close()

        async with backend(wait) as port:
            _, writer = await asyncio.open_connection(*plane.serve([port]))
            writer.transport.abort()
            async with asyncio.timeout(60):
                assert await ended.wait()


class TestFailures:
    async def test_a_destination_that_refuses_is_retried_elsewhere(self, plane: Plane) -> None:
        async with backend(greet("alive")) as port:
            address = plane.serve([port, free_port(), free_port()])
            assert [await answer(address) for _ in range(6)] == [b"alive"] * 6
            assert plane.forwarder.statistics()["retried"] > 0

    async def test_when_all_refuse_the_client_is_reset(self, plane: Plane) -> None:
        address = plane.serve([free_port()])
        with pytest.raises(ConnectionResetError):
            await answer(address)
        assert plane.forwarder.statistics()["refused"] == 1

    async def test_a_destination_that_does_not_answer_is_left_after_the_time_out(self) -> None:
        plane = Plane(connect_timeout=5.0)  # in which a living one answers, on a slow machine too
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen(0)
            queue = [socket.socket() for _ in range(4)]
            for one in queue:
                one.setblocking(False)
                one.connect_ex(deaf.getsockname())
            async with backend(greet("alive")) as port:
                assert await answer(plane.serve([port, deaf.getsockname()[1]])) == b"alive"
            for one in queue:
                one.close()
        plane.forwarder.shutdown()

    async def test_without_destinations_connections_are_refused_at_once(self, plane: Plane) -> None:
        address = plane.serve([])
        with pytest.raises(ConnectionRefusedError):
            await answer(address)
        async with backend(greet("now")) as port:
            plane.point_to([port])
            assert await answer(address) == b"now"
            plane.point_to([])
            with pytest.raises(ConnectionRefusedError):
                await answer(address)
            plane.point_to([port])
            assert await answer(address) == b"now"


class TestChanges:
    async def test_a_removed_destination_gets_no_new_connection_and_keeps_the_old_ones(self, plane: Plane) -> None:
        async with backend(echo) as old, backend(greet("new")) as new:
            address = plane.serve([old])
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"1")
            assert await reader.readexactly(1) == b"1"
            plane.point_to([new])
            assert [await answer(address) for _ in range(3)] == [b"new"] * 3
            writer.write(b"2")
            assert await reader.readexactly(1) == b"2"
            writer.close()

    async def test_listeners_come_and_go_without_touching_others(self, plane: Plane) -> None:
        async with backend(echo) as port:
            address = plane.serve([port])
            reader, writer = await asyncio.open_connection(*address)
            for number in range(1, 20):
                plane.balancer.put_service("TCP", VIP, 8000 + number)
                plane.balancer.set_destinations("TCP", VIP, 8000 + number, [("127.0.0.1", port, 1)])
                plane.forwarder.listen("TCP", VIP, 8000 + number, bind_port=0)
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                assert plane.forwarder.close("TCP", VIP, 8000 + number)
            writer.close()
        assert [row[1] for row in plane.forwarder.listening()] == [(VIP, 80)]

    async def test_a_closed_listener_frees_its_port(self, plane: Plane) -> None:
        address = plane.serve([])
        assert plane.forwarder.close(*SERVICE)
        assert not plane.forwarder.close(*SERVICE)
        with socket.socket() as again:
            again.bind(address)

    async def test_who_was_connected_just_before_the_listener_closes_is_carried(self, plane: Plane) -> None:
        async with backend(greet("served")) as port:
            for _ in range(50):
                with socket.create_connection(plane.serve([port])) as client:
                    plane.forwarder.close(*SERVICE)
                    client.settimeout(60)
                    assert await asyncio.to_thread(client.recv, 100) == b"served"

    async def test_a_port_that_is_taken_is_an_error_with_its_number(self, plane: Plane) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            plane.balancer.put_service(*SERVICE)
            with pytest.raises(OSError, match="in use") as caught:
                plane.forwarder.listen(*SERVICE, bind_address="127.0.0.1", bind_port=taken.getsockname()[1])
            assert caught.value.errno == errno.EADDRINUSE

    @pytest.mark.parametrize("first", [VIP, "0.0.0.0"])
    async def test_a_service_and_a_node_may_have_the_same_port(self, plane: Plane, first: str) -> None:
        port = free_port()
        async with backend(greet("service")) as service, backend(greet("node")) as node:
            named = {VIP: service, "0.0.0.0": node}
            for address in (first, *(named.keys() - {first})):
                plane.balancer.put_service("TCP", address, port)
                plane.balancer.set_destinations("TCP", address, port, [("127.0.0.1", named[address], 1)])
                plane.forwarder.listen("TCP", address, port)
            assert [await answer((address, port)) for address in (VIP, "127.0.0.1")] == [b"service", b"node"]
            with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
                stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                stranger.bind((VIP, port))

    async def test_a_port_that_somebody_else_shares_is_not_joined_because_ours_has_its_number_elsewhere(
        self, plane: Plane
    ) -> None:
        """Linux lets sockets of one user that ask for it share an address: each would have some of the clients."""
        port, elsewhere = free_port(), "127.99.0.9"
        for address in (elsewhere, VIP):
            plane.balancer.put_service("TCP", address, port)
        plane.forwarder.listen("TCP", elsewhere, port)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind((VIP, port))
            with pytest.raises(OSError, match="in use"):
                plane.forwarder.listen("TCP", VIP, port)

    async def test_shutdown_ends_listeners_and_connections(self, plane: Plane) -> None:
        async with backend(echo) as port:
            address = plane.serve([port])
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"x")
            await reader.readexactly(1)
            assert len(plane.forwarder.connections()) == 1
            assert plane.forwarder.targets() == {address}
            plane.forwarder.shutdown()
            assert await reader.read() == b""
            with pytest.raises(ConnectionRefusedError):
                await answer(address)
            writer.close()

    async def test_changes_under_load_lose_no_connection(self, plane: Plane) -> None:
        async with backend(greet("a")) as a, backend(greet("b")) as b, backend(greet("c")) as c:
            address = plane.serve([a, b, c])

            async def change() -> None:
                for turn in range(300):
                    plane.point_to([[a, b], [b, c], [c], [a, b, c]][turn % 4])
                    await asyncio.sleep(0)

            answers = asyncio.gather(*(answer(address) for _ in range(300)))
            await change()
            assert all(await answers)


class UdpEcho(asyncio.DatagramProtocol):
    def __init__(self, name: bytes) -> None:
        self.name = name

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(self.name + data, addr)


@asynccontextmanager
async def udp_backend(name: bytes) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: UdpEcho(name), local_addr=("127.0.0.1", 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


class TestUdp:
    @pytest.fixture
    def plane(self) -> Iterator[Plane]:
        plane = Plane("UDP", udp_timeout=30)
        yield plane
        plane.forwarder.shutdown()

    async def ask(self, sock: socket.socket, data: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, data)
        async with asyncio.timeout(60):
            return await loop.sock_recv(sock, 65536)

    def client(self, address: tuple[str, int]) -> socket.socket:
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect(address)
        return sock

    async def test_a_flow_keeps_its_destination(self, plane: Plane) -> None:
        async with udp_backend(b"a") as a, udp_backend(b"b") as b:
            address = plane.serve([a, b])
            with self.client(address) as one, self.client(address) as two:
                assert [await self.ask(one, b"1"), await self.ask(two, b"1")] == [b"b1", b"a1"]
                assert [await self.ask(one, b"2"), await self.ask(two, b"2")] == [b"b2", b"a2"]

    async def test_a_flow_leaves_a_removed_destination(self, plane: Plane) -> None:
        async with udp_backend(b"a") as a, udp_backend(b"b") as b:
            with self.client(plane.serve([a])) as one:
                assert await self.ask(one, b"1") == b"a1"
                plane.point_to([b])
                assert await self.ask(one, b"2") == b"b2"
                await eventually(lambda: plane.forwarder.statistics()["open"] == 1)  # the one to `a` ends by itself

    async def test_a_flow_ends_once_its_destination_refuses_it(self) -> None:
        plane = Plane("UDP", udp_timeout=3600)
        try:
            with socket.socket(type=socket.SOCK_DGRAM) as destination:
                destination.bind(("127.0.0.1", 0))
                with self.client(plane.serve([destination.getsockname()[1]])) as one:
                    one.send(b"1")
                    await eventually(lambda: plane.forwarder.statistics()["open"] == 1)
                    destination.connect(destination.getsockname())  # so that it takes nobody else's packets
                    one.send(b"2")
                    await eventually(lambda: plane.forwarder.statistics()["open"] == 0)
        finally:
            plane.forwarder.shutdown()

    async def test_without_destinations_the_port_is_unreachable(self, plane: Plane) -> None:
        address = plane.serve([])
        with self.client(address) as one:
            with pytest.raises(ConnectionRefusedError):
                await self.ask(one, b"1")
            async with udp_backend(b"a") as a:
                plane.point_to([a])
                assert await self.ask(one, b"2") == b"a2"

    async def test_a_service_and_a_node_may_have_the_same_port(self, plane: Plane) -> None:
        port = free_port()
        async with udp_backend(b"service ") as service, udp_backend(b"node ") as node:
            for address, endpoint in ((VIP, service), ("0.0.0.0", node)):
                plane.balancer.put_service("UDP", address, port)
                plane.balancer.set_destinations("UDP", address, port, [("127.0.0.1", endpoint, 1)])
                plane.forwarder.listen("UDP", address, port)
            with self.client((VIP, port)) as one, self.client(("127.9.9.9", port)) as two:
                assert [await self.ask(one, b"?"), await self.ask(two, b"?")] == [b"service ?", b"node ?"]

    async def test_a_flow_of_a_client_from_inside_is_one_flow(self, plane: Plane) -> None:
        async with udp_backend(b"a") as a:
            address = plane.serve([])
            plane.balancer.put_service("FWM", "", 1)
            plane.balancer.set_destinations("FWM", "", 1, [("127.0.0.1", a, 1)])
            plane.forwarder.set_access(
                "UDP", VIP, 80, silent=True, led=[("inside", (), 1)], inside_ranges=["127.0.0.0/8"]
            )
            with self.client(address) as one:
                assert [await self.ask(one, b"1"), await self.ask(one, b"2")] == [b"a1", b"a2"]
            assert plane.forwarder.statistics()["accepted"] == 1

    async def test_a_large_packet_passes_whole(self, plane: Plane) -> None:
        async with udp_backend(b"") as a:
            with self.client(plane.serve([a])) as one:
                assert await self.ask(one, b"x" * 60_000) == b"x" * 60_000


def test_many_idle_connections_cost_no_thread(plane: Plane) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        address = plane.serve([server.getsockname()[1]])
        clients = [socket.create_connection(address) for _ in range(200)]
        deadline = time.monotonic() + 60
        while len(plane.forwarder.connections()) < 200 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert (len(plane.forwarder.connections()), plane.forwarder.statistics()["open"]) == (200, 200)
        for client in clients:
            client.close()
