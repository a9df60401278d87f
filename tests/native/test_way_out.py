"""From a network namespace that no route leads out of to programs of the host, by real sockets."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from kubecore import _native
from kubecore import way_out as ways_out
from kubecore.kubelet.networks.network import BridgeNetwork, NetworkNamespace
from kubecore.kubelet.runtime import launching
from kubecore.node_network import NodeNetwork
from kubecore.way_out import WayOut
from tests.native.test_forwarder import eventually
from tests.support.host_addresses import outer_address

PODS, NODE, SERVICES = "10.231.0.0/16", "10.231.0.1", "10.232.0.0/16"
INSIDE = (PODS, SERVICES)
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
STRANGER = "203.0.113.7"
"""Whose address nobody has here (RFC 5737)."""
_IP_TRANSPARENT = 19

pytestmark = pytest.mark.skipif(bool(why := ways_out.trouble()), reason=f"it cannot be had here: {why}")


class Inside:
    """A network with one pod on its bridge."""

    def __init__(self) -> None:
        self.network = NodeNetwork.make()
        self.network.lead(INSIDE)
        bridge = BridgeNetwork(["10.231.0.0/24"], bridge="kc-test", cluster_cidrs=[PODS], node=self.network)
        bridge.start()
        new = launching.NEW_USER | launching.NEW_NETWORK
        self._pod = launching.create_namespaces(new, join=self.network.join)
        (self.address,) = bridge.attach("uid", NetworkNamespace(self._pod.network, self._pod.netlink))

    def socket(self, kind: int, *, of_node: bool = False) -> socket.socket:
        """Of the pod, or of a program that is in the node's network itself."""
        where = self.network.descriptors[1] if of_node else self._pod.network
        made = socket.socket(fileno=_native.socket_within(where, socket.AF_INET, kind, 0))
        made.setblocking(False)
        return made

    async def connect(
        self, address: str, port: int, *, of_node: bool = False
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        made = self.socket(TCP, of_node=of_node)
        try:
            await asyncio.get_running_loop().sock_connect(made, (address, port))
            return await asyncio.open_connection(sock=made)
        except BaseException:
            made.close()
            raise

    def in_the_name_of(self, address: str, kind: int) -> socket.socket:
        """Of a program in the node's network itself that has all rights there: bound to an address that is not its."""
        made = self.socket(kind, of_node=True)
        made.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
        made.bind((address, 0))
        return made

    def close(self) -> None:
        self._pod.close()
        self.network.close()


@pytest.fixture
def inside() -> Iterator[Inside]:
    made = Inside()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def way_out(inside: Inside) -> Iterator[WayOut]:
    made = WayOut(inside.network, INSIDE, NODE)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def host() -> str:
    return outer_address()


@asynccontextmanager
async def echo(address: str) -> AsyncIterator[int]:
    """Says whom it sees, then, once that one has finished, all that it has heard; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(writer.get_extra_info("peername")[0].encode() + b"\n")
        writer.write(await reader.read())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, address, 0) as server:
        yield server.sockets[0].getsockname()[1]


class Packets(asyncio.DatagramProtocol):
    """Answers each packet with whom it sees and what it was sent."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.heard: list[tuple[str, int]] = []

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.heard.append(addr)
        self._transport.sendto(addr[0].encode() + b"\n" + data, addr)


@asynccontextmanager
async def packets(address: str) -> AsyncIterator[tuple[int, Packets]]:
    transport, answering = await asyncio.get_running_loop().create_datagram_endpoint(Packets, (address, 0))
    try:
        yield transport.get_extra_info("sockname")[1], answering
    finally:
        transport.close()


async def is_reset(inside: Inside, address: str, port: int, *, of_node: bool = False) -> bool:
    """Whether a connection ends so before anything is heard: the kernel has taken it by the time that nobody does."""
    try:
        reader, writer = await inside.connect(address, port, of_node=of_node)
    except ConnectionResetError:
        return True
    try:
        return await reader.read() is None
    except ConnectionResetError:
        return True
    finally:
        writer.close()


async def failure(inside: Inside, address: str, port: int, *, of_node: bool = False) -> int | None:
    """The number of the error that connecting ends with."""
    with pytest.raises(OSError) as told:
        await inside.connect(address, port, of_node=of_node)
    return told.value.errno


async def asked(made: socket.socket, what: bytes, address: str, port: int) -> tuple[bytes, tuple[str, int]]:
    """What it is answered, and by whom."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendto(made, what, (address, port))
    return await loop.sock_recvfrom(made, 1 << 16)


# ---- connections


async def test_a_pod_reaches_the_host_at_its_outer_address_and_is_taken_for_the_host(
    inside: Inside, way_out: WayOut, host: str
) -> None:
    async with echo(host) as port:
        reader, writer = await inside.connect(host, port)
        assert await reader.readline() == f"{host}\n".encode()
        writer.close()
    assert way_out.statistics()["connections"] == 1


async def test_who_has_finished_still_hears_all_of_a_long_answer(inside: Inside, way_out: WayOut, host: str) -> None:
    said = bytes(range(256)) * (16 << 10)
    async with echo(host) as port:
        reader, writer = await inside.connect(host, port)
        await reader.readline()
        writer.write(said)
        writer.write_eof()
        assert await reader.read() == said
        writer.close()


async def test_whom_nobody_takes_outside_is_reset(inside: Inside, way_out: WayOut, host: str) -> None:
    with socket.socket() as held:
        held.bind((host, 0))  # and does not listen
        assert await is_reset(inside, *held.getsockname())
    assert way_out.statistics()["refused"] == 1


async def test_a_reset_outside_is_one_inside(inside: Inside, way_out: WayOut, host: str) -> None:
    loop = asyncio.get_running_loop()
    listener = socket.create_server((host, 0))
    listener.setblocking(False)
    with listener:
        reader, writer = await inside.connect(*listener.getsockname())
        accepted, _ = await loop.sock_accept(listener)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        accepted.close()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_whom_nobody_answers_outside_is_reset_after_a_while(inside: Inside, host: str) -> None:
    hasty = WayOut(inside.network, INSIDE, NODE, connect_timeout=0.05)
    with socket.create_server((host, 0), backlog=0) as busy, socket.create_connection(busy.getsockname()):
        async with asyncio.timeout(60):
            assert await is_reset(inside, *busy.getsockname())
    assert hasty.statistics()["refused"] == 1
    hasty.close()


async def test_connections_beyond_the_most_are_reset(inside: Inside, host: str) -> None:
    narrow = WayOut(inside.network, INSIDE, NODE, most=1)
    async with echo(host) as port:
        first, kept = await inside.connect(host, port)
        assert await first.readline() == f"{host}\n".encode()
        assert await is_reset(inside, host, port)
        assert await is_reset(inside, host, port, of_node=True)
        kept.close()
    narrow.close()


async def test_one_client_has_a_quarter_of_all_connections(inside: Inside, host: str) -> None:
    narrow = WayOut(inside.network, INSIDE, NODE, most=4)
    async with echo(host) as port:
        first, kept = await inside.connect(host, port)
        assert await first.readline() == f"{host}\n".encode()
        assert await is_reset(inside, host, port)
        other, left = await inside.connect(host, port, of_node=True)
        assert await other.readline() == f"{host}\n".encode()
        for writer in (kept, left):
            writer.close()
    narrow.close()


async def test_the_hosts_loopback_is_not_reached(inside: Inside, way_out: WayOut) -> None:
    async with echo("127.0.0.1") as port:
        for of_node in (False, True):
            assert await failure(inside, "127.0.0.1", port, of_node=of_node) == errno.ECONNREFUSED
            assert await failure(inside, NODE, port, of_node=of_node) == errno.ECONNREFUSED


async def test_what_listens_for_all_that_want_out_leads_nowhere_by_itself(inside: Inside, way_out: WayOut) -> None:
    port = await port_of(inside)
    assert await is_reset(inside, "127.0.0.1", port, of_node=True)


async def port_of(inside: Inside) -> int:
    """At which those are awaited that want out: the only one at the node's loopback."""
    told = await python_within(inside, "print(open('/proc/net/tcp').read())")
    addresses = [line.split()[1].partition(":") for line in told.splitlines()[1:-1]]
    (port,) = {int(port, 16) for address, _, port in addresses if address == "0100007F"}
    return port


async def python_within(inside: Inside, script: str) -> str:
    """What a program says that is in the node's network itself."""
    user, network = inside.network.descriptors
    enter = ("nsenter", f"--user=/proc/self/fd/{user}", f"--net=/proc/self/fd/{network}", "--preserve-credentials")
    pipe = asyncio.subprocess.PIPE
    program = (*enter, "python3", "-c", script)
    running = await asyncio.create_subprocess_exec(*program, stdout=pipe, pass_fds=(user, network))
    said, _ = await running.communicate()
    return said.decode()


@pytest.mark.parametrize("of_node", [False, True], ids=["a pod", "the node's network"])
async def test_addresses_of_the_cluster_that_nobody_has_are_unreachable_as_before(
    inside: Inside, way_out: WayOut, of_node: bool
) -> None:
    assert await failure(inside, "10.232.0.9", 80, of_node=of_node) == errno.ENETUNREACH


async def test_programs_in_the_nodes_network_itself_reach_the_host_with_its_address(
    inside: Inside, way_out: WayOut, host: str
) -> None:
    async with echo(host) as port:
        reader, writer = await inside.connect(host, port, of_node=True)
        assert await reader.readline() == f"{host}\n".encode()
        assert writer.get_extra_info("sockname")[0] == NODE
        writer.close()
    async with packets(host) as (port, _):
        with inside.socket(UDP, of_node=True) as made:
            assert await asked(made, b"who", host, port) == (f"{host}\nwho".encode(), (host, port))


# ---- who may


async def test_a_connection_in_the_name_of_somebody_outside_is_reset(
    inside: Inside, way_out: WayOut, host: str
) -> None:
    loop = asyncio.get_running_loop()
    async with echo(host) as port:
        with inside.in_the_name_of(STRANGER, TCP) as made, pytest.raises(ConnectionResetError):
            await loop.sock_connect(made, (host, port))
            await loop.sock_recv(made, 100)
    assert way_out.statistics() == {"connections": 1, "refused": 1, "flows": 0, "dropped": 0}


async def test_a_packet_in_the_name_of_somebody_outside_goes_nowhere(
    inside: Inside, way_out: WayOut, host: str
) -> None:
    async with packets(host) as (port, _):
        with inside.in_the_name_of(STRANGER, UDP) as made:
            made.sendto(b"who", (host, port))
            await eventually(lambda: way_out.statistics()["dropped"] == 1)
    assert way_out.statistics()["flows"] == 0


# ---- packets


async def test_a_packet_is_answered_by_whom_it_was_sent_to(inside: Inside, way_out: WayOut, host: str) -> None:
    async with packets(host) as (port, _):
        with inside.socket(UDP) as made:
            assert await asked(made, b"who", host, port) == (f"{host}\nwho".encode(), (host, port))


async def test_packets_larger_than_a_link_takes_go_both_ways(inside: Inside, way_out: WayOut, host: str) -> None:
    long = bytes(range(256)) * 32
    async with packets(host) as (port, _):
        with inside.socket(UDP) as made:
            assert (await asked(made, long, host, port))[0] == f"{host}\n".encode() + long


async def test_whoever_asks_on_is_the_same_one_outside(inside: Inside, way_out: WayOut, host: str) -> None:
    async with packets(host) as (port, answering):
        with inside.socket(UDP) as made:
            for word in (b"one", b"two", b"three"):
                await asked(made, word, host, port)
    assert len(answering.heard) == 3
    assert len(set(answering.heard)) == 1
    assert way_out.statistics()["flows"] == 1


async def test_who_asks_where_nobody_is_is_told_so(inside: Inside, way_out: WayOut, host: str) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, UDP) as held, inside.socket(UDP) as made:
        held.bind((host, 0))
        held.connect(held.getsockname())  # so that it takes nobody else's packets
        await loop.sock_connect(made, held.getsockname())
        await loop.sock_sendall(made, b"who")
        with pytest.raises(ConnectionRefusedError):
            await loop.sock_recv(made, 100)


async def test_a_flow_that_was_quiet_for_long_makes_room_for_a_new_one(inside: Inside, host: str) -> None:
    narrow = WayOut(inside.network, INSIDE, NODE, most=2, most_of_one=2)
    async with packets(host) as (port, _):
        with inside.socket(UDP) as one, inside.socket(UDP) as two, inside.socket(UDP) as three:
            for asking in (one, two, two, three):  # two talks, so that one goes
                await asked(asking, b"who", host, port)
            await asked(two, b"who", host, port)
            assert narrow.statistics()["flows"] == 3
            await asked(one, b"who", host, port)
            assert narrow.statistics()["flows"] == 4
    narrow.close()


async def test_a_client_with_a_quarter_of_all_flows_makes_room_by_itself(inside: Inside, host: str) -> None:
    narrow = WayOut(inside.network, INSIDE, NODE, most=4)
    async with packets(host) as (port, _):
        with inside.socket(UDP, of_node=True) as other, inside.socket(UDP) as one, inside.socket(UDP) as two:
            for asking in (other, one, two, other):
                await asked(asking, b"who", host, port)
            assert narrow.statistics()["flows"] == 3
            await asked(one, b"who", host, port)
            assert narrow.statistics()["flows"] == 4
    narrow.close()


async def test_a_flow_is_forgotten_once_it_was_quiet_for_long_enough(inside: Inside, host: str) -> None:
    clock = _native.Clock.virtual(0)
    made = WayOut(inside.network, INSIDE, NODE, clock=clock)
    async with packets(host) as (port, _):
        with inside.socket(UDP) as asking:
            await asked(asking, b"who", host, port)
            clock.advance(29.0)
            await asked(asking, b"who", host, port)
            assert made.statistics()["flows"] == 1
            clock.advance(119.0)
            await asked(asking, b"who", host, port)
            assert made.statistics()["flows"] == 1
            clock.advance(121.0)
            await asked(asking, b"who", host, port)
            assert made.statistics()["flows"] == 2
    made.close()


# ---- its end


async def test_after_its_end_a_pod_that_wants_out_is_told_at_once_that_no_route_leads_there(
    inside: Inside, way_out: WayOut, host: str
) -> None:
    way_out.close()
    async with echo(host) as port:
        assert await failure(inside, host, port) == errno.ENETUNREACH


async def test_after_its_end_a_program_in_the_nodes_network_does_not_come_to_itself(
    inside: Inside, way_out: WayOut, host: str
) -> None:
    way_out.close()
    with inside.socket(UDP, of_node=True) as own, inside.socket(UDP, of_node=True) as asking:
        own.bind(("0.0.0.0", 0))
        port = own.getsockname()[1]
        asking.sendto(b"outside", (host, port))
        asking.sendto(b"to itself", (NODE, port))
        assert await asyncio.get_running_loop().sock_recv(own, 100) == b"to itself"


async def test_a_network_that_is_had_back_is_set_as_at_first(inside: Inside, way_out: WayOut) -> None:
    way_out.close()
    path = "/proc/sys/net/ipv4/ip_forward"
    await python_within(inside, f"open({path!r}, 'w').write('0')")
    WayOut(inside.network, INSIDE, NODE).close()
    assert await python_within(inside, f"print(open({path!r}).read())") == "1\n\n"


async def test_a_cluster_that_has_a_network_back_leads_out_of_it_anew(
    inside: Inside, way_out: WayOut, host: str
) -> None:
    way_out.close()
    again = WayOut(inside.network, INSIDE, NODE)
    async with echo(host) as port:
        reader, writer = await inside.connect(host, port)
        assert await reader.readline() == f"{host}\n".encode()
        writer.close()
    again.close()
