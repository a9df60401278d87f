"""Endpoints that take a connection and then end it: tried elsewhere where nothing can be lost by it."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kubecore._native import Clock, ConnectionTable
from tests.native.test_forwarder import VIP, Plane, answer, backend, echo, eventually, greet

ABORT = struct.pack("ii", 1, 0)
"""Of SO_LINGER: closing sends a reset."""


@pytest.fixture
def plane() -> Iterator[Plane]:
    plane = Plane(connect_timeout=3600.0)
    yield plane
    plane.forwarder.shutdown()


@asynccontextmanager
async def plain(treat: Callable[[socket.socket], None]) -> AsyncIterator[int]:
    """A server that handles one connection after another with blocking calls, and not before it has been taken."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                treat(listener.accept()[0])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        await asyncio.to_thread(thread.join)


def slam(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    connection.close()


def deferring() -> socket.socket:
    """A listener whose kernel lets clients believe that they are connected, and takes them only once they speak: if it
    is closed before, what they say is acknowledged by nobody and answered with a reset."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 3600)
    return listener


def states(plane: Plane) -> list[str]:
    return [state for *_, state, _ in ConnectionTable(plane.balancer).connections(now=0)]


class Leaving:
    """A client that is connected to an endpoint which is gone, unbeknown to the forwarder."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def begin(self, good: int, **options: int) -> None:
        with deferring() as bad:
            self._plane.balancer.put_service("TCP", VIP, 80)
            self.port = bad.getsockname()[1]
            self._plane.point_to([good, self.port])
            address = self._plane.forwarder.listen("TCP", VIP, 80, bind_port=0, **options)
            self.reader, self.writer = await asyncio.open_connection(*address)
            await eventually(lambda: states(self._plane) == ["ESTABLISHED"])

    async def read(self, count: int = -1) -> bytes:
        async with asyncio.timeout(60):
            return await (self.reader.read() if count < 0 else self.reader.readexactly(count))


class TestNothingTaken:
    async def test_an_endpoint_that_resets_at_once_is_passed_over(self, plane: Plane) -> None:
        async with plain(slam) as bad, backend(greet("alive")) as good:
            address = plane.serve([good, bad])
            for _ in range(10):
                assert await answer(address) == b"alive"
            assert plane.forwarder.statistics()["retried"] > 0

    async def test_an_endpoint_that_closes_at_once_is_passed_over(self, plane: Plane) -> None:
        async with plain(lambda connection: connection.close()) as bad, backend(greet("alive")) as good:
            address = plane.serve([good, bad])
            for _ in range(10):
                assert await answer(address) == b"alive"
            assert plane.forwarder.statistics()["retried"] > 0

    async def test_when_all_reset_at_once_so_is_the_client(self, plane: Plane) -> None:
        async with plain(slam) as one, plain(slam) as other:
            with pytest.raises(ConnectionResetError):
                await answer(plane.serve([one, other]))
        assert plane.forwarder.statistics()["refused"] == 1

    async def test_when_all_close_at_once_the_client_sees_that_and_no_reset(self, plane: Plane) -> None:
        async with (
            plain(lambda connection: connection.close()) as one,
            plain(lambda connection: connection.close()) as other,
        ):
            assert await answer(plane.serve([one, other])) == b""

    async def test_one_that_never_answers_and_says_so_gets_what_clients_say(self, plane: Plane) -> None:
        """A sink may close its side at once; when nobody else is there it is written to all the same."""
        received: list[bytes] = []

        def sink(connection: socket.socket) -> None:
            with connection:
                connection.shutdown(socket.SHUT_WR)
                while data := connection.recv(100):
                    received.append(data)

        async with plain(sink) as port:
            reader, writer = await asyncio.open_connection(*plane.serve([port]))
            async with asyncio.timeout(60):
                assert await reader.read() == b""
                writer.write(b"log line")
                writer.write_eof()
                await eventually(lambda: b"".join(received) == b"log line")
            writer.close()


def asks_for_signs_of_life(port: int) -> bool:
    """Whether the kernel does, of who is connected to `port`: a keepalive timer runs (`tr` of /proc/net/tcp)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(fields[2] == f"0100007F:{port:04X}" and fields[5].startswith("02:") for fields in lines)


async def test_a_connection_that_has_stood_for_long_goes_nowhere_else() -> None:
    clock = Clock.virtual(0.0)
    plane = Plane(clock=clock, connect_timeout=3600.0)
    client = Leaving(plane)

    def stands_for_long(port: int) -> bool:
        clock.advance(10)
        return asks_for_signs_of_life(port)

    async with backend(greet("alive")) as good:
        await client.begin(good)
        assert not asks_for_signs_of_life(client.port)
        await eventually(lambda: stands_for_long(client.port))
        client.writer.write(b"hello")
        with pytest.raises(ConnectionResetError):
            await client.read()
    assert plane.forwarder.statistics()["retried"] == 0
    plane.forwarder.shutdown()


class TestSomethingSaid:
    @pytest.fixture
    async def client(self, plane: Plane) -> AsyncIterator[Leaving]:
        client = Leaving(plane)
        yield client
        client.writer.close()

    async def test_what_was_said_to_one_that_is_gone_is_said_to_another(self, plane: Plane, client: Leaving) -> None:
        async with backend(echo) as good:
            await client.begin(good)
            said = bytes(range(250)) * 12
            client.writer.write(said)
            assert await client.read(len(said)) == said
            assert plane.forwarder.statistics()["retried"] == 1
            (service,) = plane.balancer.services()
            assert [(row["active"], row["port"] == good) for row in service["destinations"]] == [(0, False), (1, True)]

    async def test_a_client_that_has_finished_is_carried_elsewhere_with_its_end(self, client: Leaving) -> None:
        async with backend(echo) as good:
            await client.begin(good)
            client.writer.write(b"over")
            client.writer.write_eof()
            assert await client.read() == b"over"

    async def test_more_than_is_kept_is_not_said_again(self, plane: Plane, client: Leaving) -> None:
        async with backend(echo) as good:
            await client.begin(good)
            client.writer.write(bytes(100_000))
            with pytest.raises(ConnectionResetError):
                await client.read(1)
        assert plane.forwarder.statistics()["retried"] == 0

    async def test_another_endpoint_is_told_the_client_as_well(self, plane: Plane, client: Leaving) -> None:
        """The PROXY protocol's line is not the client's, so it counts for nothing that was taken."""

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readuntil(b"hi"))
            writer.close()

        async with backend(listen) as good:
            await client.begin(good, proxy_protocol=1)
            client.writer.write(b"hi")
            heard = await client.read()
        assert heard.startswith(b"PROXY TCP4 127.0.0.1 ") and heard.endswith(b"\r\nhi")


class TestTaken:
    async def test_one_that_has_read_and_resets_is_not_tried_elsewhere(self, plane: Plane) -> None:
        """It may have acted: only the client can know what that means."""
        read: list[bytes] = []

        def take(connection: socket.socket) -> None:
            read.append(connection.recv(3))
            slam(connection)

        async with plain(take) as one, plain(take) as other:
            reader, writer = await asyncio.open_connection(*plane.serve([one, other]))
            writer.write(b"pay")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
        assert read == [b"pay"]

    async def test_one_that_has_answered_and_resets_is_not_tried_elsewhere(self, plane: Plane) -> None:
        hold = threading.Event()

        def speak(connection: socket.socket) -> None:
            connection.sendall(b"hello")
            hold.wait(60)
            slam(connection)

        async with plain(speak) as one:
            reader, writer = await asyncio.open_connection(*plane.serve([one]))
            assert await reader.readexactly(5) == b"hello"
            hold.set()
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
        assert plane.forwarder.statistics()["retried"] == 0
