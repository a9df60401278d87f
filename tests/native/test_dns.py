"""The DNS responder with real sockets; its tables are specified in native/dataplane/src/dns/tests.rs."""

import asyncio
import select
import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubecore._native import Clock, DnsServer
from tests.support.ports import free_port

A, CNAME, SOA, AAAA, SRV = 1, 5, 6, 28, 33
NXDOMAIN = 3
WEB = "web.default.svc.cluster.local"
RECORDS = [
    ("svc/default/web", [(WEB, "A", 30, "10.96.0.7"), (f"_http._tcp.{WEB}", "SRV", 30, f"0 100 80 {WEB}.")]),
    ("svc/default/out", [("out.default.svc.cluster.local", "CNAME", 30, "example.org.")]),
    ("svc/default/many", [("many.default.svc.cluster.local", "A", 30, f"10.244.0.{host}") for host in range(100)]),
]


def encode_name(name: str) -> bytes:
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def query(name: str, kind: int = A, *, number: int = 7) -> bytes:
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + encode_name(name) + struct.pack("!2H", kind, 1)


class Reply:
    """Just enough of a decoder: codes, counts and the addresses in the answer section."""

    def __init__(self, wire: bytes) -> None:
        self.number, self.flags, _, self.answers, self.authorities, _ = struct.unpack("!6H", wire[:12])
        self.code = self.flags & 0x0F
        self.truncated = bool(self.flags & 0x0200)
        self.addresses: list[str] = []
        self.ttls: list[int] = []
        at = self._skip_name(wire, 12) + 4
        for _ in range(self.answers):
            at = self._skip_name(wire, at)
            kind, _, ttl, length = struct.unpack("!2HIH", wire[at : at + 10])
            self.ttls.append(ttl)
            if kind in (A, AAAA):
                self.addresses.append(str(ip_address(wire[at + 10 : at + 10 + length])))
            at += 10 + length

    @staticmethod
    def _skip_name(wire: bytes, at: int) -> int:
        while (length := wire[at]) != 0:
            if length >= 0xC0:
                return at + 2
            at += length + 1
        return at + 1


def answer_to(wire: bytes, *, address: str, ttl: int = 60, code: int = 0) -> bytes:
    """What an upstream resolver would say."""
    number = wire[:2]
    question = wire[12:]
    record = b"\xc0\x0c" + struct.pack("!2HIH", A, 1, ttl, 4) + ip_address(address).packed
    return number + struct.pack("!5H", 0x8180 | code, 1, 1, 0, 0) + question + record


def denial_of(wire: bytes, *, ttl: int = 60, minimum: int = 60) -> bytes:
    """That the name does not exist, with the SOA record that says for how long."""
    zone = b"\0\0" + struct.pack("!5I", 1, 7200, 1800, 86400, minimum)
    record = b"\0" + struct.pack("!2HIH", SOA, 1, ttl, len(zone)) + zone
    return wire[:2] + struct.pack("!5H", 0x8180 | NXDOMAIN, 1, 0, 1, 0) + wire[12:] + record


@pytest.fixture
def server() -> Iterator[DnsServer]:
    server = DnsServer("cluster.local")
    server.set_records(RECORDS)
    yield server
    server.shutdown()


def readable(server: DnsServer) -> bool:
    return bool(select.select([server], [], [], 0)[0])


async def ask_udp(address: tuple[str, int], wire: bytes) -> Reply:
    return Reply(await exchange(address, wire))


async def exchange(address: tuple[str, int], wire: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(address)
        await loop.sock_sendall(sock, wire)
        async with asyncio.timeout(60):
            return await loop.sock_recv(sock, 65535)


async def ask_tcp(address: tuple[str, int], *wires: bytes) -> list[Reply]:
    reader, writer = await asyncio.open_connection(*address)
    replies = []
    for wire in wires:
        writer.write(struct.pack("!H", len(wire)) + wire)
    for _ in wires:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        replies.append(Reply(await reader.readexactly(length)))
    writer.close()
    return replies


class Resolver(asyncio.DatagramProtocol):
    def __init__(self, react: Callable[[bytes], bytes | None]) -> None:
        self.react = react
        self.asked = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        if (reply := self.react(data)) is not None:
            self.transport.sendto(reply, addr)


async def upstream(react: Callable[[bytes], bytes | None]) -> tuple[Resolver, str]:
    """A resolver that answers so, if it does, and where it is."""
    loop = asyncio.get_running_loop()
    transport, resolver = await loop.create_datagram_endpoint(lambda: Resolver(react), local_addr=("127.0.0.1", 0))
    return resolver, f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"


class TestTransports:
    async def test_udp_and_tcp_answer_on_one_port(self, server: DnsServer) -> None:
        address = server.listen("127.0.0.1", 0)
        reply = await ask_udp(address, query(WEB))
        assert (reply.number, reply.code, reply.addresses) == (7, 0, ["10.96.0.7"])
        (reply,) = await ask_tcp(address, query(WEB))
        assert reply.addresses == ["10.96.0.7"]

    async def test_an_answer_cut_on_udp_is_whole_on_tcp(self, server: DnsServer) -> None:
        address = server.listen("127.0.0.1", 0)
        many = query("many.default.svc.cluster.local")
        reply = await ask_udp(address, many)
        assert reply.truncated and 0 < reply.answers < 100
        (reply,) = await ask_tcp(address, many)
        assert not reply.truncated and len(reply.addresses) == 100

    async def test_one_tcp_connection_carries_many_queries(self, server: DnsServer) -> None:
        address = server.listen("127.0.0.1", 0)
        replies = await ask_tcp(address, *(query(WEB, number=number) for number in range(20)))
        assert [reply.number for reply in replies] == list(range(20))

    async def test_rubbish_harms_nobody(self, server: DnsServer) -> None:
        address = server.listen("127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*address)
        writer.write(b"\xff\xff" + b"x" * 100)
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            for size in [0, 1, 11, 12, 13, 500, 60_000]:
                sock.sendto(b"\x00" * size, address)
        assert (await ask_udp(address, query(WEB))).code == 0
        writer.close()

    async def test_a_closed_listener_frees_the_port(self, server: DnsServer) -> None:
        address = server.listen("127.0.0.1", 0)
        assert server.listening() == [address]
        assert server.close(*address) and not server.close(*address)
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            while True:
                try:
                    assert server.listen(*address) == address
                    break
                except OSError:
                    await asyncio.sleep(0.001)

    def test_a_taken_port_is_an_os_error(self, server: DnsServer) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(OSError, match="in use"):
                server.listen("127.0.0.1", taken.getsockname()[1])


class TestRecords:
    async def test_changes_are_answered_at_once(self, server: DnsServer) -> None:
        address = server.listen("127.0.0.1", 0)
        server.set_records([("svc/default/web", [(WEB, "A", 30, "10.96.0.8")])])
        assert (await ask_udp(address, query(WEB))).addresses == ["10.96.0.8"]
        server.set_records([("svc/default/web", [])])
        reply = await ask_udp(address, query(WEB))
        assert (reply.code, reply.authorities) == (3, 1)

    @pytest.mark.parametrize(
        "record",
        [
            ("a b..c", "A", 30, "10.0.0.1"),
            (WEB, "A", 30, "fd00::1"),
            (WEB, "MX", 30, "x"),
            (WEB, "SRV", 30, "0 0 99999 x."),
        ],
    )
    def test_a_bad_record_is_a_value_error(self, server: DnsServer, record: tuple[str, str, int, str]) -> None:
        with pytest.raises(ValueError):
            server.set_records([("x", [record])])

    @given(st.binary(max_size=600))
    def test_no_bytes_crash_the_responder(self, wire: bytes) -> None:
        server = DnsServer("cluster.local")
        reply = server.answer(wire)
        assert reply is None or reply[:2] == wire[:2]


class TestForwarding:
    async def test_without_resolvers_other_names_are_refused(self, server: DnsServer) -> None:
        address = server.listen("127.0.0.1", 0)
        assert (await ask_udp(address, query("example.org"))).code == 5

    async def test_other_names_are_asked_for_and_kept_for_their_ttl(self) -> None:
        resolver, where = await upstream(lambda wire: answer_to(wire, address="192.0.2.1", ttl=20))
        clock = Clock.virtual(0.0)
        server = DnsServer("cluster.local", clock, upstreams=[where])
        address = server.listen("127.0.0.1", 0)
        assert (await ask_udp(address, query("Example.org"))).addresses == ["192.0.2.1"]
        clock.advance(5)
        reply = await ask_udp(address, query("example.ORG", number=9))
        assert (reply.number, reply.addresses, reply.ttls, resolver.asked) == (9, ["192.0.2.1"], [15], 1)
        clock.advance(16)
        await ask_udp(address, query("example.org"))
        assert resolver.asked == 2
        server.shutdown()

    async def test_an_alias_out_of_the_cluster_is_followed(self, server: DnsServer) -> None:
        _, where = await upstream(lambda wire: answer_to(wire, address="192.0.2.1"))
        server.set_upstreams([where])
        address = server.listen("127.0.0.1", 0)
        reply = await ask_udp(address, query("out.default.svc.cluster.local"))
        assert (reply.answers, reply.addresses) == (2, ["192.0.2.1"])

    @pytest.mark.parametrize("tcp", [True, False])
    async def test_what_an_alias_leads_to_is_asked_for_by_tcp_where_a_datagram_is_too_small(
        self, server: DnsServer, tcp: bool
    ) -> None:
        def cut(wire: bytes) -> bytes:
            return wire[:2] + struct.pack("!5H", 0x8380, 1, 0, 0, 0) + wire[12:]

        async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            reply = answer_to(await reader.readexactly(length), address="192.0.2.1")
            writer.write(struct.pack("!H", len(reply)) + reply)
            writer.close()

        port = free_port()
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: Resolver(cut), local_addr=("127.0.0.1", port))
        if tcp:
            await asyncio.start_server(whole, "127.0.0.1", port)
        server.set_upstreams([f"127.0.0.1:{port}"])
        reply = await ask_udp(server.listen("127.0.0.1", 0), query("out.default.svc.cluster.local"))
        assert (reply.answers, reply.addresses) == ((2, ["192.0.2.1"]) if tcp else (1, []))
        assert reply.truncated is not tcp

    async def test_a_failing_resolver_is_passed_over(self, server: DnsServer) -> None:
        _, failing = await upstream(lambda wire: answer_to(wire, address="192.0.2.9", code=2))
        _, good = await upstream(lambda wire: answer_to(wire, address="192.0.2.1"))
        server.set_upstreams([failing, good])
        address = server.listen("127.0.0.1", 0)
        assert (await ask_udp(address, query("example.org"))).addresses == ["192.0.2.1"]

    async def test_who_speaks_edns_is_told_which_resolver_fails_and_why(self, server: DnsServer) -> None:
        _, failing = await upstream(lambda wire: wire[:2] + b"\x81\x82" + wire[4:])
        down = f"127.0.0.1:{free_port()}"
        server.set_upstreams([failing, down])
        plain = query("example.org")
        asked = plain[:10] + b"\0\1" + plain[12:] + b"\0" + struct.pack("!2HIH", 41, 1232, 0, 0)
        reply = await exchange(server.listen("127.0.0.1", 0), asked)
        told = f"{failing}: answers Server Failure; {down}: Connection refused (os error 111)".encode()
        assert reply[3] & 0xF == 2
        assert reply.endswith(struct.pack("!3H", 15, 2 + len(told), 22) + told)

    async def test_a_resolver_that_has_not_answered_twice_is_told_of_until_it_does(self, server: DnsServer) -> None:
        port = free_port()
        server.set_upstreams([f"127.0.0.1:{port}"])
        address = server.listen("127.0.0.1", 0)
        assert not readable(server)
        assert (await ask_udp(address, query("example.org"))).code == 2
        assert readable(server)
        assert server.troubles() == {f"127.0.0.1:{port}": "Connection refused (os error 111)"}
        assert not readable(server)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Resolver(lambda wire: answer_to(wire, address="192.0.2.1")), local_addr=("127.0.0.1", port)
        )
        assert (await ask_udp(address, query("example.org"))).code == 0
        assert readable(server) and server.troubles() == {}
        transport.close()

    async def test_one_that_answers_though_it_does_not_help_is_none(self, server: DnsServer) -> None:
        _, failing = await upstream(lambda wire: answer_to(wire, address="192.0.2.9", code=2))
        server.set_upstreams([failing])
        assert (await ask_udp(server.listen("127.0.0.1", 0), query("example.org"))).code == 2
        assert server.troubles() == {}

    async def test_one_that_is_asked_no_more_is_none(self, server: DnsServer) -> None:
        server.set_upstreams([f"127.0.0.1:{free_port()}"])
        await ask_udp(server.listen("127.0.0.1", 0), query("example.org"))
        assert len(server.troubles()) == 1
        server.set_upstreams([])
        assert readable(server) and server.troubles() == {}

    async def test_forged_replies_are_passed_over(self, server: DnsServer) -> None:
        def react(wire: bytes) -> bytes:
            forged = bytes([wire[0] ^ 1]) + answer_to(wire, address="192.0.2.66")[1:]
            resolver.transport.sendto(forged, resolver.peer)  # type: ignore[attr-defined]
            return answer_to(wire, address="192.0.2.1")

        resolver, where = await upstream(react)
        received = resolver.datagram_received

        def remember(data: bytes, addr: tuple[str, int]) -> None:
            resolver.peer = addr  # type: ignore[attr-defined]
            received(data, addr)

        resolver.datagram_received = remember  # type: ignore[method-assign]
        server.set_upstreams([where])
        address = server.listen("127.0.0.1", 0)
        assert (await ask_udp(address, query("example.org"))).addresses == ["192.0.2.1"]

    async def test_that_a_name_does_not_exist_is_kept_as_long_as_its_zone_says(self) -> None:
        resolver, where = await upstream(lambda wire: denial_of(wire, ttl=900, minimum=10))
        clock = Clock.virtual(0.0)
        server = DnsServer("cluster.local", clock, upstreams=[where])
        address = server.listen("127.0.0.1", 0)
        for _ in range(2):
            assert (await ask_udp(address, query("nobody.example.org"))).code == NXDOMAIN
        assert resolver.asked == 1
        clock.advance(11)
        await ask_udp(address, query("nobody.example.org"))
        assert resolver.asked == 2
        server.shutdown()

    async def test_a_stub_domain_has_resolvers_of_its_own(self, server: DnsServer) -> None:
        _, other = await upstream(lambda wire: answer_to(wire, address="192.0.2.1"))
        _, corp = await upstream(lambda wire: answer_to(wire, address="192.0.2.2"))
        _, lab = await upstream(lambda wire: answer_to(wire, address="192.0.2.3"))
        server.set_upstreams([other], {"corp.example": [corp], "lab.corp.example.": [lab]})
        address = server.listen("127.0.0.1", 0)
        for name, found in {
            "db.corp.example": "192.0.2.2",
            "CORP.example": "192.0.2.2",
            "db.lab.corp.example": "192.0.2.3",
            "db.notcorp.example": "192.0.2.1",
        }.items():
            assert (await ask_udp(address, query(name))).addresses == [found], name

    async def test_a_stub_domain_below_the_clusters_has_what_the_tables_have_not(self, server: DnsServer) -> None:
        _, there = await upstream(lambda wire: answer_to(wire, address="192.0.2.2"))
        server.set_upstreams([], {"default.svc.cluster.local": [there]})
        address = server.listen("127.0.0.1", 0)
        assert (await ask_udp(address, query(WEB))).addresses == ["10.96.0.7"]
        assert (await ask_udp(address, query("db.default.svc.cluster.local"))).addresses == ["192.0.2.2"]
        assert (await ask_udp(address, query("db.other.svc.cluster.local"))).code == NXDOMAIN

    def test_a_stub_domain_cannot_take_the_clusters_names(self, server: DnsServer) -> None:
        with pytest.raises(ValueError, match=r'names of "local\." are answered here'):
            server.set_upstreams([], {"local": ["192.0.2.1"]})

    def test_a_bad_resolver_is_named(self) -> None:
        with pytest.raises(ValueError, match='"dns" is not'):
            DnsServer("cluster.local", upstreams=["dns"])


class TestAutopath:
    """A pod's resolver is spared the rounds of its search path."""

    FIRST = "default.svc.cluster.local"

    @pytest.fixture
    async def resolver(self, server: DnsServer) -> Resolver:
        def react(wire: bytes) -> bytes:
            there = (encode_name("api.example.org"), encode_name("intern.corp.example"))
            return answer_to(wire, address="192.0.2.1") if wire[12:-4] in there else denial_of(wire)

        resolver, where = await upstream(react)
        server.set_upstreams([where])
        server.set_search(["corp.example"])
        server.set_clients([("127.0.0.1", self.FIRST)])
        return resolver

    async def ask(self, server: DnsServer, name: str) -> Reply:
        return await ask_udp(server.listen("127.0.0.1", 0), query(f"{name}.{self.FIRST}"))

    @pytest.mark.usefixtures("resolver")
    @pytest.mark.parametrize(
        ("name", "address"),
        [
            ("web.default", "10.96.0.7"),
            (WEB, "10.96.0.7"),
            ("api.example.org", "192.0.2.1"),
            ("intern", "192.0.2.1"),
        ],
    )
    async def test_the_first_name_that_exists_is_the_answer_behind_an_alias(
        self, server: DnsServer, name: str, address: str
    ) -> None:
        reply = await self.ask(server, name)
        assert (reply.code, reply.answers, reply.addresses) == (0, 2, [address])

    async def test_what_exists_nowhere_is_denied_once(self, server: DnsServer, resolver: Resolver) -> None:
        reply = await self.ask(server, "nobody.example.org")
        assert (reply.code, reply.answers, reply.authorities) == (NXDOMAIN, 0, 1)
        assert resolver.asked == 2

    async def test_who_is_not_known_goes_its_own_rounds(self, server: DnsServer, resolver: Resolver) -> None:
        server.set_clients([("127.0.0.1", None)])
        assert (await self.ask(server, "api.example.org")).code == NXDOMAIN
        assert resolver.asked == 0
