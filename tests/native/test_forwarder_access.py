"""Who may come to a forwarder's listener: packets of others are dropped by the kernel, without an answer."""

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from tests.native.test_forwarder import SERVICE, VIP, Plane, backend, eventually, greet, udp_backend

GUEST, STRANGER = "127.0.0.77", "127.0.0.78"
INSIDE_MARK = 7


@pytest.fixture
def plane() -> Iterator[Plane]:
    plane = Plane()
    yield plane
    plane.forwarder.shutdown()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with backend(greet("served")) as port:
        yield port


@contextmanager
def knocking(source: str, address: tuple[str, int]) -> Iterator[socket.socket]:
    """A client whose first packet has been sent."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket.socket(family) as client:
        client.bind((source, 0))
        client.setblocking(False)
        client.connect_ex(address)
        yield client


def hears_nothing(client: socket.socket) -> bool:
    """On the loopback device an answer, be it a refusal, is there when the call that sent the packet returns."""
    return not select.select([client], [client], [], 0)[1]


async def heard(client: socket.socket) -> bytes:
    """What the client is sent once it is connected; its kernel asks again after a second."""
    loop, connected = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(client, connected.set)
    try:
        async with asyncio.timeout(60):
            await connected.wait()
            loop.remove_writer(client)
            return await loop.sock_recv(client, 100)
    finally:
        loop.remove_writer(client)


class TestSources:
    async def test_clients_from_elsewhere_are_not_answered(self, plane: Plane, port: int) -> None:
        address = plane.serve([port])
        plane.forwarder.set_access(*SERVICE, sources=["192.0.2.0/24", f"{GUEST}/32"])
        with knocking(STRANGER, address) as stranger, knocking(GUEST, address) as guest:
            assert await heard(guest) == b"served"
            assert hears_nothing(stranger)
        assert plane.forwarder.statistics()["accepted"] == 1

    async def test_a_client_that_keeps_knocking_comes_in_when_the_ranges_are_lifted(
        self, plane: Plane, port: int
    ) -> None:
        address = plane.serve([port])
        plane.forwarder.set_access(*SERVICE, sources=["192.0.2.0/24"])
        with knocking(GUEST, address) as client:
            assert hears_nothing(client)
            plane.forwarder.set_access(*SERVICE)
            assert await heard(client) == b"served"

    async def test_who_is_connected_stays_so_when_he_may_come_no_more(self, plane: Plane) -> None:
        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(2))
            writer.close()

        async with backend(wait) as port:
            reader, writer = await asyncio.open_connection(*plane.serve([port]))
            writer.write(b"1")
            await eventually(lambda: plane.forwarder.statistics()["open"] == 1)
            plane.forwarder.set_access(*SERVICE, sources=["192.0.2.0/24"])
            writer.write(b"2")
            async with asyncio.timeout(60):
                assert await reader.read() == b"12"
            writer.close()

    @pytest.mark.parametrize(
        ("ranges", "comes_in"),
        [
            (["127.0.0.76/30"], True),
            (["127.0.0.80/28"], False),
            (["0.0.0.0/0"], True),
            (["::/0"], False),
            ([f"10.0.{number}.0/24" for number in range(250)], False),
            ([*(f"10.0.{number}.0/24" for number in range(250)), f"{GUEST}/32"], True),
        ],
    )
    async def test_ranges_are_of_any_length_and_number(
        self, plane: Plane, port: int, ranges: list[str], comes_in: bool
    ) -> None:
        address = plane.serve([port])
        plane.forwarder.set_access(*SERVICE, sources=ranges)
        with knocking(GUEST, address) as client:
            if comes_in:
                assert await heard(client) == b"served"
            else:
                assert hears_nothing(client)

    async def test_more_than_the_kernel_takes_are_looked_at_here_and_strangers_reset(
        self, plane: Plane, port: int
    ) -> None:
        address = plane.serve([port])
        ranges = [f"10.{one}.{other}.0/24" for one in range(8) for other in range(250)]
        plane.forwarder.set_access(*SERVICE, sources=[*ranges, f"{GUEST}/32"])
        with knocking(STRANGER, address) as stranger, knocking(GUEST, address) as guest:
            assert await heard(guest) == b"served"
            with pytest.raises(ConnectionResetError):
                await heard(stranger)

    @pytest.mark.parametrize(("ranges", "comes_in"), [(["fd00::/8"], False), (["fd00::/8", "::/127"], True)])
    async def test_ipv6(self, plane: Plane, port: int, ranges: list[str], comes_in: bool) -> None:
        key = ("TCP", "::1", 80)
        plane.balancer.put_service(*key)
        plane.balancer.set_destinations(*key, [("127.0.0.1", port, 1)])
        address = plane.forwarder.listen(*key, bind_port=0)
        plane.forwarder.set_access(*key, sources=ranges)
        with knocking("::1", address) as client:
            if comes_in:
                assert await heard(client) == b"served"
            else:
                assert hears_nothing(client)

    async def test_udp(self) -> None:
        plane = Plane("UDP")
        async with udp_backend(b"to ") as port:
            address = plane.serve([port])
            plane.forwarder.set_access("UDP", VIP, 80, sources=[f"{GUEST}/32"])
            with socket.socket(type=socket.SOCK_DGRAM) as stranger, socket.socket(type=socket.SOCK_DGRAM) as guest:
                for client, source in ((stranger, STRANGER), (guest, GUEST)):
                    client.bind((source, 0))
                    client.setblocking(False)
                    client.connect(address)
                    client.send(source.encode())
                async with asyncio.timeout(60):
                    assert await asyncio.get_running_loop().sock_recv(guest, 100) == b"to " + GUEST.encode()
                with pytest.raises(BlockingIOError):
                    stranger.recv(100)
            assert plane.forwarder.statistics()["accepted"] == 1
        plane.forwarder.shutdown()


class TestSilence:
    async def test_where_endpoints_are_elsewhere_alone_clients_are_dropped_until_there_is_one(
        self, plane: Plane, port: int
    ) -> None:
        address = plane.serve([])
        plane.forwarder.set_access(*SERVICE, silent=True)
        with knocking(GUEST, address) as client:
            assert hears_nothing(client)
            plane.point_to([port])
            assert await heard(client) == b"served"

    async def test_where_there_are_none_at_all_they_are_refused(self, plane: Plane) -> None:
        address = plane.serve([])
        plane.forwarder.set_access(*SERVICE, silent=True)
        plane.forwarder.set_access(*SERVICE)
        with knocking(GUEST, address) as client, pytest.raises(ConnectionRefusedError):
            await heard(client)

    async def test_udp_is_dropped_without_an_error(self) -> None:
        plane = Plane("UDP")
        address = plane.serve([])
        plane.forwarder.set_access("UDP", VIP, 80, silent=True)
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.connect(address)
            client.setblocking(False)
            for _ in range(2):
                client.send(b"?")
            with pytest.raises(BlockingIOError):
                client.recv(100)
        plane.forwarder.shutdown()


class TestInside:
    @pytest.fixture
    async def address(self, plane: Plane) -> AsyncIterator[tuple[str, int]]:
        """Of a listener without an endpoint for clients from outside."""
        async with backend(greet("inside")) as port:
            address = plane.serve([])
            plane.balancer.put_service("FWM", "", INSIDE_MARK)
            plane.balancer.set_destinations("FWM", "", INSIDE_MARK, [("127.0.0.1", port, 1)])
            plane.forwarder.set_access(
                *SERVICE, silent=True, led=[("inside", (), INSIDE_MARK)], inside_ranges=["10.0.0.0/8", f"{GUEST}/32"]
            )
            yield address

    async def test_clients_from_inside_have_endpoints_of_their_own(
        self, plane: Plane, address: tuple[str, int], port: int
    ) -> None:
        with knocking(GUEST, address) as guest, knocking(STRANGER, address) as stranger:
            assert await heard(guest) == b"inside"
            assert hears_nothing(stranger)
            plane.point_to([port])
            assert await heard(stranger) == b"served"
        with knocking(GUEST, address) as guest:
            assert await heard(guest) == b"inside"

    async def test_who_comes_from_the_address_that_he_goes_to_is_inside(self, address: tuple[str, int]) -> None:
        with knocking(address[0], address) as client:
            assert await heard(client) == b"inside"

    async def test_they_are_refused_when_nobody_has_endpoints(self, plane: Plane, address: tuple[str, int]) -> None:
        plane.balancer.set_destinations("FWM", "", INSIDE_MARK, [])
        plane.forwarder.set_access(*SERVICE)
        with knocking(GUEST, address) as client, pytest.raises(ConnectionRefusedError):
            await heard(client)


class TestClientsWhoAreLedOtherwise:
    """By rules, of which the first that fits counts: as when each of several nodes has endpoints of its own."""

    OTHER_MARK = 8

    @pytest.fixture
    async def address(self, plane: Plane, port: int) -> AsyncIterator[tuple[str, int]]:
        """Of a listener whose service has an endpoint, as has that of INSIDE_MARK; that of OTHER_MARK has none."""
        async with backend(greet("other")) as other:
            address = plane.serve([port])
            for mark, ports in ((INSIDE_MARK, [other]), (self.OTHER_MARK, [])):
                plane.balancer.put_service("FWM", "", mark)
                plane.balancer.set_destinations("FWM", "", mark, [("127.0.0.1", one, 1) for one in ports])
            yield address

    async def test_by_where_they_come_from(self, plane: Plane, address: tuple[str, int]) -> None:
        rules: list[tuple[str | list[str], list[str], int | None]] = [
            ([f"{GUEST}/32"], [], INSIDE_MARK),
            (["127.0.0.76/30"], [], self.OTHER_MARK),
        ]
        plane.forwarder.set_access(*SERVICE, silent=True, led=rules)
        with (
            knocking(GUEST, address) as guest,
            knocking(STRANGER, address) as stranger,
            knocking("127.0.0.80", address) as another,
        ):
            assert (await heard(guest), await heard(another)) == (b"other", b"served")
            assert hears_nothing(stranger)
            plane.forwarder.set_access(*SERVICE, silent=True, led=rules[:1])
            assert await heard(stranger) == b"served"
        assert plane.forwarder.statistics()["refused"] == 0

    async def test_by_where_they_go_to(self, plane: Plane, port: int) -> None:
        one, other, third = "127.0.7.1", "127.0.7.2", "127.0.7.3"
        async with backend(greet("other")) as elsewhere:
            plane.balancer.put_service(*SERVICE)
            plane.point_to([port])
            _, bound = plane.forwarder.listen(*SERVICE, bind_address="0.0.0.0", bind_port=0)
            for mark, ports in ((INSIDE_MARK, [elsewhere]), (self.OTHER_MARK, [])):
                plane.balancer.put_service("FWM", "", mark)
                plane.balancer.set_destinations("FWM", "", mark, [("127.0.0.1", port, 1) for port in ports])
            plane.forwarder.set_access(
                *SERVICE, silent=True, led=[("all", [one], INSIDE_MARK), ("all", [other], self.OTHER_MARK)]
            )
            with (
                knocking(GUEST, (one, bound)) as first,
                knocking(GUEST, (other, bound)) as second,
                knocking(GUEST, (third, bound)) as last,
            ):
                assert (await heard(first), await heard(last)) == (b"other", b"served")
                assert hears_nothing(second)

    async def test_a_rule_may_leave_some_to_the_listeners_own_service(
        self, plane: Plane, address: tuple[str, int]
    ) -> None:
        plane.forwarder.set_access(*SERVICE, led=[([f"{GUEST}/32"], [], None), ("all", [], INSIDE_MARK)])
        with knocking(GUEST, address) as guest, knocking(STRANGER, address) as stranger:
            assert (await heard(guest), await heard(stranger)) == (b"served", b"other")

    async def test_of_ipv6_too(self, plane: Plane, port: int) -> None:
        key = ("TCP", "::1", 80)
        plane.balancer.put_service(*key)
        plane.balancer.set_destinations(*key, [("127.0.0.1", port, 1)])
        plane.balancer.put_service("FWM", "", INSIDE_MARK)
        address = plane.forwarder.listen(*key, bind_port=0)
        plane.forwarder.set_access(*key, silent=True, led=[(["fd00::/8"], [], INSIDE_MARK)])
        with knocking("::1", address) as client:
            assert await heard(client) == b"served"
        plane.forwarder.set_access(*key, silent=True, led=[(["::/64"], ["::2", "::1"], INSIDE_MARK)])
        with knocking("::1", address) as client:
            assert hears_nothing(client)

    async def test_while_there_is_no_endpoint_for_anybody_they_are_refused(
        self, plane: Plane, address: tuple[str, int]
    ) -> None:
        plane.point_to([])
        plane.forwarder.set_access(*SERVICE, led=[([f"{GUEST}/32"], [], self.OTHER_MARK)])
        for source in (GUEST, STRANGER):
            with knocking(source, address) as client, pytest.raises(ConnectionRefusedError):
                await heard(client)

    async def test_packets_of_udp(self) -> None:
        plane = Plane("UDP")
        key = ("UDP", VIP, 80)
        async with udp_backend(b"one ") as one, udp_backend(b"other ") as other:
            address = plane.serve([one])
            for mark, ports in ((INSIDE_MARK, [other]), (self.OTHER_MARK, [])):
                plane.balancer.put_service("FWM", "", mark)
                plane.balancer.set_destinations("FWM", "", mark, [("127.0.0.1", port, 1) for port in ports])
            led = [([f"{GUEST}/32"], [], INSIDE_MARK), ([f"{STRANGER}/32"], [], self.OTHER_MARK)]
            plane.forwarder.set_access(*key, silent=True, led=led)
            told = []
            with contextlib.ExitStack() as clients:
                for source in (STRANGER, GUEST, "127.0.0.80"):
                    client = clients.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                    client.bind((source, 0))
                    client.setblocking(False)
                    client.connect(address)
                    client.send(b"?")
                    told.append(client)
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(60):
                    assert await loop.sock_recv(told[1], 100) == b"other ?"
                    assert await loop.sock_recv(told[2], 100) == b"one ?"
                # His came first, and is dropped by the kernel.
                with pytest.raises(BlockingIOError):
                    told[0].recv(100)
        plane.forwarder.shutdown()


class TestBadInput:
    def test_it_is_named(self, plane: Plane) -> None:
        plane.serve([])
        with pytest.raises(ValueError, match=r'"10\.0\.0\.0/33" is not a range of addresses'):
            plane.forwarder.set_access(*SERVICE, sources=["10.0.0.0/33"])
        with pytest.raises(ValueError, match='"some" are no clients that are known'):
            plane.forwarder.set_access(*SERVICE, led=[("some", (), None)])
        with pytest.raises(ValueError, match="no virtual service FWM/9"):
            plane.forwarder.set_access(*SERVICE, led=[("all", (), 9)])
        with pytest.raises(ValueError, match=r"TCP/127\.96\.0\.1:81 is not listened for"):
            plane.forwarder.set_access("TCP", VIP, 81)
