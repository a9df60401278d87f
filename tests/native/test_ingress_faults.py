"""The Ingress proxy when clients or destinations misbehave, with real sockets."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from socket import SO_LINGER, SOL_SOCKET

import pytest

from tests.native.test_ingress_routing import Plane
from tests.support.http_peers import PATIENCE, Backend, Connection, connected, read_head, serving
from tests.support.ports import free_port

CHUNKED = "POST / HTTP/1.1\r\nHost: foo.com\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    plane = Plane(connect_timeout=20.0)
    plane.route((False, "/", "web"))
    yield plane
    await asyncio.to_thread(plane.proxy.shutdown)


@pytest.fixture(params=["plain", "unusual"])
async def client(plane: Plane, request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    """Once a request was not plain, its connection is served by the full server instead of the relay."""
    async with connected(plane.port) as connection:
        if request.param == "unusual":
            assert (await connection.ask(host="nowhere", headers="TE: trailers\r\n")).status == 404
        yield connection


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read a request and reset the connection."""
    await read_head(reader)
    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))


# ---------------------------------------------------------------- destinations
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_refused_connection_is_tried_elsewhere(plane: Plane, client: Connection, method: str) -> None:
    async with serving(Backend("alive")) as port:
        plane.lead("web", free_port(), port, free_port())
        for _ in range(6):
            assert (await client.ask(method=method)).text == "alive"
    assert plane.proxy.statistics()["retries"] > 0


async def test_when_all_refuse_the_gateway_is_bad(plane: Plane, client: Connection) -> None:
    plane.lead("web", free_port(), free_port())
    assert (await client.ask()).status == 502


async def test_a_request_that_may_be_repeated_survives_a_reset(plane: Plane, client: Connection) -> None:
    async with serving(hang_up) as resetting, serving(Backend("alive")) as port:
        plane.lead("web", resetting, port)
        assert [(await client.ask()).text for _ in range(4)] == ["alive"] * 4


async def test_a_request_that_may_have_had_its_effect_is_not_repeated(plane: Plane, client: Connection) -> None:
    async with serving(hang_up) as first, serving(hang_up) as second:
        plane.lead("web", first, second)
        assert (await client.ask(method="POST", headers="Content-Length: 0\r\n")).status == 502
    assert plane.proxy.statistics()["retries"] == 0


async def test_kept_connections_that_were_closed_meanwhile_cost_no_request(plane: Plane, client: Connection) -> None:
    async def one_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    async with serving(one_each) as port:
        plane.lead("web", port)
        for method in ("GET", "POST", "GET", "POST"):
            assert (await client.ask(method=method, headers="Content-Length: 0\r\n")).status == 200


async def test_an_answer_that_never_comes_times_out() -> None:
    plane = Plane(response_timeout=0.2)
    plane.route((False, "/", "web"))

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as port, connected(plane.port) as client:
        plane.lead("web", port)
        assert (await client.ask()).status == 504
        assert (await client.ask(method="POST", headers="Content-Length: 0\r\n")).status == 504
    await asyncio.to_thread(plane.proxy.shutdown)


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
async def test_an_answer_that_makes_no_sense_is_a_bad_gateway(plane: Plane, client: Connection, answer: bytes) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(answer)
        await writer.drain()
        await reader.read()

    async with serving(babble) as port:
        plane.lead("web", port)
        assert (await client.ask(method="POST", headers="Content-Length: 0\r\n")).status == 502


@pytest.mark.parametrize("framing", ["Content-Length: 100\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n64\r\n"])
async def test_an_answer_that_breaks_off_does_not_look_whole(plane: Plane, client: Connection, framing: str) -> None:
    arrived = asyncio.Event()

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(f"HTTP/1.1 200 OK\r\n{framing}half".encode())
        await writer.drain()
        await arrived.wait()

    async with serving(die) as port:
        plane.lead("web", port)
        await client.send("GET / HTTP/1.1\r\nHost: foo.com\r\n\r\n")
        assert (await read_head(client.reader)).status == 200
        await asyncio.wait_for(client.reader.readuntil(b"half"), PATIENCE)
        arrived.set()
        assert (await client.rest()).strip() == b""


async def test_answers_that_end_with_their_connection_or_come_in_chunks_are_whole(
    plane: Plane, client: Connection
) -> None:
    answers = {
        "/close": b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        "/chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"6;x=y\r\nuntil \r\n7\r\nthe end\r\n0\r\nT: 1\r\n\r\n",
        "/hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nuntil the end",
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        whole = answers[head.line.split(" ")[1]]
        for start in range(0, len(whole), 5):
            writer.write(whole[start : start + 5])
            await writer.drain()

    async with serving(answer) as port:
        plane.lead("web", port)
        for _ in range(2):
            assert [(await client.ask(path)).text for path in answers] == ["until the end"] * 3


async def test_answers_without_a_body_leave_their_connection_usable(plane: Plane, client: Connection) -> None:
    answers = {
        "/head": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        "/204": b"HTTP/1.1 204 No Content\r\nContent-Length: 1000\r\n\r\n",
        "/304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
    }

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(answers[(await read_head(reader)).line.split(" ")[1]])

    async with serving(answer) as port:
        plane.lead("web", port)
        for _ in range(2):
            for path in answers:
                method = "HEAD" if path == "/head" else "GET"
                await client.send(f"{method} {path} HTTP/1.1\r\nHost: foo.com\r\n\r\n")
                assert (await client.receive(body=False)).status in (200, 204, 304)
    assert plane.proxy.statistics()["retries"] == 0


async def test_bytes_after_an_answer_are_nobodys_answer(plane: Plane, client: Connection) -> None:
    async def answer_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        one = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
        writer.write(one % (5, b"right") + one % (6, b"stolen"))
        await writer.drain()
        await reader.read()

    async with serving(answer_twice) as port:
        plane.lead("web", port)
        assert [(await client.ask(method=method)).text for method in ("GET", "POST") * 2] == ["right"] * 4


async def test_a_destination_taken_out_gets_no_more_requests(plane: Plane, client: Connection) -> None:
    gone, staying = Backend("gone"), Backend("staying")
    async with serving(gone) as first, serving(staying) as second:
        plane.lead("web", first, second)
        for _ in range(4):
            await client.ask()
        before = len(gone.heads)
        plane.lead("web", second)
        for _ in range(8):
            assert (await client.ask()).text == "staying"
    assert len(gone.heads) == before


async def test_no_request_is_lost_while_destinations_come_and_go(plane: Plane) -> None:
    over = asyncio.Event()

    async def ask_on() -> set[int]:
        async with connected(plane.port) as client:
            statuses = set()
            while not over.is_set():
                statuses.add((await client.ask()).status)
            return statuses

    async with serving(Backend()) as first, serving(Backend()) as second, serving(Backend()) as third:
        plane.lead("web", first)
        asking = [asyncio.create_task(ask_on()) for _ in range(4)]
        some = [(first, second), (second,), (second, third), (third, free_port()), (first, third)]
        for number in range(500):
            plane.lead("web", *some[number % len(some)])
            await asyncio.sleep(0)
        over.set()
        assert await asyncio.gather(*asking) == [{200}] * 4


# ---------------------------------------------------------------- clients
async def test_a_coding_that_would_be_lost_on_the_way_is_not_taken(plane: Plane, client: Connection) -> None:
    backend = Backend()
    async with serving(backend) as port:
        plane.lead("web", port)
        await client.send(CHUNKED.replace("chunked", "gzip, chunked") + "3\r\nabc\r\n0\r\n\r\n")
        assert (await client.receive()).status == 501
    assert not backend.bodies


@pytest.mark.parametrize(
    "request_",
    [
        "POST / HTTP/1.1\r\nHost: foo.com\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        "POST / HTTP/1.1\r\nHost: foo.com\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
        "POST / HTTP/1.1\r\nHost: foo.com\r\nContent-Length: 6\r\nContent-Length: 5\r\n\r\nabcdef",
        "POST / HTTP/1.1\r\nHost: foo.com\r\nContent-Length: +6\r\n\r\nabcdef",
        "POST / HTTP/1.1\r\nHost: foo.com\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: foo.com\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: foo.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: foo.com\r\nContent-Length : 6\r\n\r\nabcdef",
        "GET / HTTP/1.1\r\nHost: foo.com\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: foo.com\r\nHost: bar.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: foo.com/evil\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@foo.com\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        CHUNKED + "zz\r\nabc\r\n",
        CHUNKED + "3\r\nabcdef\r\n",
        CHUNKED + "-1\r\n\r\n",
        CHUNKED + "FFFFFFFFFFFFFFFFF\r\n",
    ],
)
async def test_requests_that_could_be_read_in_two_ways_are_refused(
    plane: Plane, client: Connection, request_: str
) -> None:
    backend = Backend()
    async with serving(backend) as port:
        plane.lead("web", port)
        await client.send(request_)
        assert (await client.receive()).status == 400
        assert b"HTTP/1.1" not in await client.rest()
    assert not [head for head in backend.bodies if head]


async def test_a_pipelined_attempt_is_refused_too(plane: Plane, client: Connection) -> None:
    async with serving(Backend("hello")) as port:
        plane.lead("web", port)
        both = "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"
        await client.send(
            f"GET / HTTP/1.1\r\nHost: foo.com\r\n\r\nPOST / HTTP/1.1\r\nHost: foo.com\r\n{both}\r\n0\r\n\r\nG"
        )
        assert [(await client.receive()).status for _ in range(2)] == [200, 400]


async def test_pipelined_requests_are_answered_in_their_order(plane: Plane, client: Connection) -> None:
    async with serving(Backend("hello")) as port:
        plane.lead("web", port)
        await client.send("GET /a HTTP/1.1\r\nHost: foo.com\r\n\r\nGET /b HTTP/1.1\r\nHost: bar.com\r\n\r\n" * 3)
        assert [(await client.receive()).status for _ in range(6)] == [200, 404] * 3


async def test_heads_that_are_too_large_are_refused(plane: Plane) -> None:
    plane.lead("web", free_port())
    for headers in (f"X: {'x' * 70_000}\r\n", "".join(f"X-{number}: 1\r\n" for number in range(200))):
        async with connected(plane.port) as client:
            assert (await client.ask(headers=headers)).status == 431


async def test_connect_is_refused(plane: Plane, client: Connection) -> None:
    await client.send("CONNECT foo.com:443 HTTP/1.1\r\nHost: foo.com:443\r\n\r\n")
    assert (await client.receive()).status == 405


async def test_h2c_cannot_be_upgraded_to(plane: Plane, client: Connection) -> None:
    backend = Backend()
    async with serving(backend) as port:
        plane.lead("web", port)
        upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
        assert (await client.ask(headers=upgrade)).status == 200
    assert not {"upgrade", "connection", "http2-settings"} & backend.heads[0].headers.keys()


async def test_a_client_that_never_ends_its_head_is_dropped() -> None:
    plane = Plane(header_timeout=0.2)
    async with connected(plane.port) as client:
        await client.send("GET / HTTP/1.1\r\nHost: ")
        assert await client.rest() == b""
    await asyncio.to_thread(plane.proxy.shutdown)


async def test_an_idle_client_is_dropped() -> None:
    plane = Plane(idle_timeout=5.0)  # in which a client asks, on a slow machine too
    plane.route((False, "/", "web"))
    async with serving(Backend("hello")) as port, connected(plane.port) as client:
        plane.lead("web", port)
        assert (await client.ask()).status == 200
        assert await client.rest() == b""
    await asyncio.to_thread(plane.proxy.shutdown)


async def test_a_slow_client_holds_back_its_destination_and_nobody_else(plane: Plane, client: Connection) -> None:
    sent = 0
    blocked = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_head(reader)
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            sent += 65536
            try:
                await asyncio.wait_for(writer.drain(), 1.0)
            except TimeoutError:
                blocked.set()
                await writer.drain()

    async with serving(endless) as port, serving(Backend("quick")) as quick:
        plane.lead("web", port)
        await client.send("GET / HTTP/1.1\r\nHost: foo.com\r\n\r\n")
        await asyncio.wait_for(blocked.wait(), PATIENCE)
        assert sent < 100_000_000
        plane.lead("web", quick)
        async with connected(plane.port) as other:
            assert (await other.ask()).text == "quick"


async def test_when_a_client_goes_its_request_ends_at_the_destination(plane: Plane) -> None:
    arrived, ended = asyncio.Event(), asyncio.Event()

    async def waiting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        arrived.set()
        await reader.read()
        ended.set()

    async with serving(waiting) as port:
        plane.lead("web", port)
        async with connected(plane.port) as client:
            await client.send("GET / HTTP/1.1\r\nHost: foo.com\r\n\r\n")
            await asyncio.wait_for(arrived.wait(), PATIENCE)
        await asyncio.wait_for(ended.wait(), PATIENCE)


async def test_what_is_under_way_may_finish_when_it_ends(plane: Plane, client: Connection) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        arrived.set()
        await go_on.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    async with serving(slow) as port:
        plane.lead("web", port)
        await client.send("GET / HTTP/1.1\r\nHost: foo.com\r\n\r\n")
        await asyncio.wait_for(arrived.wait(), PATIENCE)
        ending = asyncio.create_task(asyncio.to_thread(plane.proxy.shutdown, PATIENCE))
        go_on.set()
        assert (await client.receive()).text == "ok"
        assert await client.rest() == b""
        await asyncio.wait_for(ending, PATIENCE)
    with pytest.raises(OSError):
        async with connected(plane.port):
            pass
