"""The forwarder when endpoints fail and change, with real sockets on the loopback interface."""

import asyncio
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.native.test_forwarder import SERVICE, VIP, Plane, answer, backend, eventually, greet
from tests.support.ports import free_port

CHANGES, REQUESTS, CLIENTS = 500, 200, 6
PACE = 0.001
"""Seconds between two changes."""
NO_TIME_OUT = 3600.0


@pytest.fixture
def plane() -> Iterator[Plane]:
    plane = Plane(connect_timeout=NO_TIME_OUT)
    yield plane
    plane.forwarder.shutdown()


@asynccontextmanager
async def deaf() -> AsyncIterator[int]:
    """A port whose backlog is full: connections to it hang."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        queue = [socket.socket() for _ in range(4)]
        for one in queue:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for one in queue:
            one.close()


def is_tried(plane: Plane, port: int) -> bool:
    (service,) = plane.balancer.services()
    return any(one["port"] == port and one["active"] for one in service["destinations"])


class TestEndpointsThatFail:
    async def test_a_connection_that_hangs_on_a_removed_endpoint_goes_to_another(self, plane: Plane) -> None:
        async with deaf() as hanging, backend(greet("alive")) as port:
            address = plane.serve([port, hanging])
            waiting = asyncio.create_task(answer(address))
            await eventually(lambda: plane.forwarder.statistics()["accepted"] == 1)
            assert not waiting.done()
            plane.point_to([port])
            async with asyncio.timeout(60):
                assert await waiting == b"alive"

    async def test_an_endpoint_that_was_removed_meanwhile_and_is_back_is_as_good_as_any(self, plane: Plane) -> None:
        async with deaf() as first, deaf() as second:
            waiting = asyncio.create_task(answer(plane.serve([first])))
            await eventually(lambda: is_tried(plane, first))
            plane.point_to([second])
            await eventually(lambda: is_tried(plane, second))
            plane.point_to([first])
            await eventually(lambda: is_tried(plane, first))
            async with backend(greet("alive")) as port:
                plane.point_to([port])
                async with asyncio.timeout(60):
                    assert await waiting == b"alive"

    async def test_and_so_does_one_whose_clients_are_led_otherwise_by_now(self, plane: Plane) -> None:
        async with deaf() as hanging, backend(greet("alive")) as port:
            address = plane.serve([port])
            plane.balancer.put_service("FWM", "", 1)
            plane.balancer.set_destinations("FWM", "", 1, [("127.0.0.1", hanging, 1)])
            plane.forwarder.set_access(*SERVICE, led=[("all", (), 1)])
            waiting = asyncio.create_task(answer(address))
            await eventually(lambda: plane.forwarder.statistics()["accepted"] == 1)
            plane.forwarder.set_access(*SERVICE)
            plane.balancer.remove_service("FWM", "", 1)
            async with asyncio.timeout(60):
                assert await waiting == b"alive"

    async def test_when_the_last_endpoint_is_removed_who_hangs_on_it_is_reset(self, plane: Plane) -> None:
        async with deaf() as hanging:
            waiting = asyncio.create_task(answer(plane.serve([hanging])))
            await eventually(lambda: plane.forwarder.statistics()["accepted"] == 1)
            plane.point_to([])
            with pytest.raises(ConnectionResetError):
                await waiting

    async def test_what_an_endpoint_sent_before_it_died_arrives_and_then_its_death(self, plane: Plane) -> None:
        async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"x" * 100_000)
            await reader.readexactly(1)
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

        async with backend(die) as port, backend(greet("alive")) as other:
            address = plane.serve([other, port])
            reader, writer = await asyncio.open_connection(*address)
            assert await reader.readexactly(100_000) == b"x" * 100_000
            writer.write(b"!")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
            assert await answer(address) == b"alive"


class Gone:
    """Which endpoints are gone since when, in steps of a counter that all changes and requests move."""

    def __init__(self) -> None:
        self.step = 0
        self.since: dict[bytes, int] = {}

    def tick(self) -> int:
        self.step += 1
        return self.step

    def change(self, names: set[bytes], present: set[bytes]) -> None:
        now = self.tick()
        self.since = {name: self.since.get(name, now) for name in names - present}


class TestChangesUnderLoad:
    @pytest.mark.timeout(300)
    async def test_no_request_is_lost_and_none_goes_to_an_endpoint_that_was_gone_before_it_began(
        self, plane: Plane
    ) -> None:
        """A thousand changes a second, if the machine lets them, while clients ask without a pause; one endpoint in
        each set refuses all."""
        async with backend(greet("a")) as a, backend(greet("b")) as b, backend(greet("c")) as c:
            ports, refusing = {b"a": a, b"b": b, b"c": c}, free_port()
            address, gone, done, asked = plane.serve([a, b, c]), Gone(), False, 0

            async def change() -> None:
                nonlocal done
                for turn in itertools.count():
                    if turn >= CHANGES and asked >= REQUESTS:
                        break
                    present = [{b"a", b"b"}, {b"b", b"c"}, {b"c"}, {b"a", b"b", b"c"}][turn % 4]
                    plane.point_to([*(ports[name] for name in present), refusing])
                    gone.change(set(ports), present)
                    await asyncio.sleep(PACE)
                done = True

            async def ask() -> None:
                nonlocal asked
                while not done:
                    before = dict(gone.since)
                    name = await answer(address)
                    assert name in ports
                    # Gone when it was asked, and without a break since.
                    assert name not in before or gone.since.get(name) != before[name]
                    asked += 1

            async with asyncio.timeout(240):
                await asyncio.gather(change(), *(ask() for _ in range(CLIENTS)))
            statistics = plane.forwarder.statistics()
            assert (statistics["refused"], statistics["retried"] > 0) == (0, True)


class TestManyThatRefuse:
    async def test_the_one_that_does_not_is_found(self, plane: Plane) -> None:
        refusing = [free_port() for _ in range(20)]
        async with backend(greet("alive")) as port:
            address = plane.serve([*refusing, port])
            for _ in range(len(refusing) + 1):
                assert await answer(address) == b"alive"


class TestProxyProtocol:
    @staticmethod
    async def first_bytes(plane: Plane, version: int | None, count: int) -> tuple[bytes, tuple[str, int], int]:
        """What an endpoint receives first, the client's address and the port it asked for."""
        received: asyncio.Queue[bytes] = asyncio.Queue()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.put_nowait(await reader.readexactly(count))
            writer.close()

        async with backend(listen) as port:
            plane.balancer.put_service("TCP", VIP, 80)
            plane.point_to([port])
            address = plane.forwarder.listen("TCP", VIP, 80, bind_port=0, proxy_protocol=version)
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"hello")
            async with asyncio.timeout(60):
                found = await received.get()
            client = writer.get_extra_info("sockname")
            await reader.read()
            writer.close()
        return found, client, address[1]

    async def test_version_1_comes_before_the_first_byte(self, plane: Plane) -> None:
        found, client, port = await self.first_bytes(plane, 1, 50)
        assert found.startswith(f"PROXY TCP4 {client[0]} {VIP} {client[1]} {port}\r\nh".encode())

    async def test_version_2_comes_before_the_first_byte(self, plane: Plane) -> None:
        found, client, port = await self.first_bytes(plane, 2, 28 + 5)
        addresses = socket.inet_aton(client[0]) + socket.inet_aton(VIP) + struct.pack(">HH", client[1], port)
        assert found == b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + addresses + b"hello"

    async def test_it_is_off_by_default(self, plane: Plane) -> None:
        found, _, _ = await self.first_bytes(plane, None, 5)
        assert found == b"hello"

    def test_other_versions_and_protocols_are_refused(self, plane: Plane) -> None:
        for protocol in ("TCP", "UDP"):
            plane.balancer.put_service(protocol, VIP, 80)
        with pytest.raises(ValueError, match="expected version 1 or 2"):
            plane.forwarder.listen("TCP", VIP, 80, bind_port=0, proxy_protocol=3)
        with pytest.raises(ValueError, match="for TCP, not UDP"):
            plane.forwarder.listen("UDP", VIP, 80, bind_port=0, proxy_protocol=1)
