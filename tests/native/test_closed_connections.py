"""Closed connections count as inactive for a while, as in IPVS: the least loaded is not the same one each time."""

import asyncio
import socket
import struct
from collections.abc import Iterator

import pytest

from kubecore._native import Clock
from tests.native.test_forwarder import Plane, answer, backend, echo, eventually, greet, udp_backend
from tests.support.ports import free_port


@pytest.fixture
def clock() -> Clock:
    return Clock.virtual(0.0)


@pytest.fixture
def protocol() -> str:
    return "TCP"


@pytest.fixture
def plane(clock: Clock, protocol: str) -> Iterator[Plane]:
    plane = Plane(protocol, clock=clock, udp_timeout=30.0)
    yield plane
    plane.forwarder.shutdown()


def counts(plane: Plane, clock: Clock) -> list[tuple[int, int]]:
    """(active, inactive) of each destination, the one added last first."""
    (service,) = plane.balancer.services(clock.monotonic())
    return [(row["active"], row["inactive"]) for row in service["destinations"]]


async def closed(plane: Plane) -> None:
    await eventually(lambda: plane.forwarder.statistics()["open"] == 0)


async def test_those_made_one_after_the_other_are_spread(plane: Plane, clock: Clock) -> None:
    async with backend(greet("a")) as a, backend(greet("b")) as b:
        address, answers = plane.serve([a, b], scheduler="wlc"), []
        for _ in range(4):
            answers.append(await answer(address))
            await closed(plane)
        assert answers == [b"b", b"a", b"b", b"a"]
        clock.advance(119.9)
        assert counts(plane, clock) == [(0, 2), (0, 2)]
        clock.advance(0.1)
        assert counts(plane, clock) == [(0, 0), (0, 0)]


async def test_one_that_was_reset_counts_for_ten_seconds(plane: Plane, clock: Clock) -> None:
    async with backend(echo) as port:
        client = socket.create_connection(plane.serve([port]))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        await eventually(lambda: counts(plane, clock) == [(0, 1)])
    clock.advance(9.9)
    assert counts(plane, clock) == [(0, 1)]
    clock.advance(0.1)
    assert counts(plane, clock) == [(0, 0)]


async def test_one_that_was_refused_counts_for_ten_seconds(plane: Plane, clock: Clock) -> None:
    async with backend(greet("a")) as port:
        address = plane.serve([port, free_port()], scheduler="lc")
        assert [await answer(address) for _ in range(2)] == [b"a", b"a"]
        await closed(plane)
        assert counts(plane, clock) == [(0, 2), (0, 2)]
        clock.advance(10)
        assert counts(plane, clock) == [(0, 0), (0, 2)]


@pytest.mark.parametrize("protocol", ["UDP"])
async def test_a_flow_counts_until_300_seconds_after_its_last_packet(plane: Plane, clock: Clock) -> None:
    async with udp_backend(b"a") as port:
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(plane.serve([port]))
            await asyncio.get_running_loop().sock_sendall(client, b"1")
            assert await asyncio.get_running_loop().sock_recv(client, 100) == b"a1"
        clock.advance(30)
        await closed(plane)
    assert counts(plane, clock) == [(0, 1)]
    clock.advance(269.9)
    assert counts(plane, clock) == [(0, 1)]
    clock.advance(0.1)
    assert counts(plane, clock) == [(0, 0)]
