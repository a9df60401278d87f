"""The table of what is served: conflicts, heirs, and that nothing is touched but what has changed."""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import pytest

from kubecore._native import Clock
from kubecore.clock import VirtualClock
from kubecore.proxy.addresses import AddressBook
from kubecore.proxy.claims import Problem
from kubecore.proxy.host_ports import HostPorts
from kubecore.proxy.table import LOOK_SECONDS, ServiceTable
from kubecore.proxy.virtual_servers import VirtualServer
from tests.support.ports import free_port
from tests.unit.proxy.builders import vip

HTTP = VirtualServer("TCP", vip(1), 8080, "ClusterIP", "rr", None, (("127.0.0.1", 1), ("127.0.0.1", 2)))


class Book(AddressBook):
    """Holds addresses in memory; those in `refused` cannot be had."""

    def __init__(self) -> None:
        super().__init__("none")
        self.refused: set[str] = set()

    def _add(self, address: str, on_link: bool) -> None:
        if address in self.refused:
            raise OSError(errno.EPERM, "Operation not permitted")

    def _delete(self, address: str, on_link: bool) -> None:
        pass

    @property
    def held(self) -> dict[str, int]:
        return {address: number for (address, _), number in self._holders.items()}


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def clock() -> Clock:
    return Clock.virtual(0.0)


@pytest.fixture(params=[False, True], ids=["listeners", "one listener"])
def table(book: Book, clock: Clock, request: pytest.FixtureRequest) -> Iterator[ServiceTable]:
    """Also where the kernel leads all to one listener; without the right to that the second is as the first."""
    table = ServiceTable(clock=clock, addresses=book, one_listener=request.param)
    yield table
    table.close()
    # The next test may want the same ports.
    while table.forwarder.statistics()["open"]:
        time.sleep(0.001)


def at(number: int, **changes: object) -> VirtualServer:
    return replace(HTTP, address=vip(number), **changes)  # type: ignore[arg-type]


def pass_bytes(client: socket.socket, taken: socket.socket) -> None:
    """They pass once the forwarder carries the connection: before, one whose destination goes is led elsewhere."""
    client.sendall(b"on")
    taken.settimeout(60)
    assert taken.recv(2) == b"on"


def listening(table: ServiceTable) -> set[str]:
    return {address for _, (address, _), _ in table.forwarder.listening()}


def told(problems: list[Problem]) -> list[str]:
    return [f"{one.reason}: {one.message}" for one in problems]


class TestServing:
    def test_a_server_is_balanced_and_listened_for(self, table: ServiceTable) -> None:
        assert table.apply("default/web", [HTTP]) == ([], [])
        (row,) = table.rows()
        assert (row["service"], row["purpose"], row["listening"]) == ("default/web", "ClusterIP", True)
        assert {(one["address"], one["port"]) for one in row["destinations"]} == set(HTTP.endpoints)
        assert listening(table) == {vip(1)}

    def test_what_a_service_asks_for_no_more_is_taken_away(self, table: ServiceTable) -> None:
        table.apply("default/web", [at(1), at(2)])
        table.apply("default/web", [at(2)])
        assert listening(table) == {vip(2)}
        table.apply("default/web", [])
        assert (len(table), table.rows(), listening(table)) == (0, [], set())

    def test_nobody_is_dropped_while_a_service_is_being_made(
        self, table: ServiceTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        silent = []
        balance = table._balance

        def look(server: VirtualServer) -> None:
            if server.endpoints:
                with socket.socket() as client:
                    client.settimeout(30)
                    silent.append(client.connect_ex((vip(1), 8080)) != errno.ECONNREFUSED)
            balance(server)

        monkeypatch.setattr(table, "_balance", look)
        table.apply("default/web", [at(1, anywhere=True)])
        assert silent == [False]

    def test_its_port_is_free_again_then(self, table: ServiceTable) -> None:
        table.apply("default/web", [HTTP])
        assert listening(table)
        table.apply("default/web", [])
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((vip(1), 8080))
            assert probe.getsockname() == (vip(1), 8080)

    def test_closing_ends_everything(self, table: ServiceTable, book: Book) -> None:
        table.apply("default/web", [at(1), at(2)])
        table.close()
        assert (table.rows(), listening(table), book.held) == ([], set(), {})


class TestChanges:
    def picks(self, table: ServiceTable, count: int) -> list[int]:
        found = [table.balancer.pick(*HTTP.key, "192.0.2.1") for _ in range(count)]
        return [one[1] for one in found if one is not None]

    def test_applying_the_same_again_does_not_disturb_the_rotation(self, table: ServiceTable) -> None:
        table.apply("default/web", [HTTP])
        first = self.picks(table, 1)
        table.apply("default/web", [HTTP])
        assert {*first, *self.picks(table, 1)} == {1, 2}

    def test_destinations_that_stay_keep_their_counts(self, table: ServiceTable) -> None:
        table.apply("default/web", [HTTP])
        for number in range(4):
            table.balancer.connect(*HTTP.key, "192.0.2.1", 1000 + number)
        table.apply("default/web", [replace(HTTP, endpoints=(("127.0.0.1", 2), ("127.0.0.1", 3)))])
        (row,) = table.rows()
        assert {one["port"]: one["connections"] for one in row["destinations"]} == {2: 2, 3: 0}

    def test_an_endpoint_that_went_is_listed_with_weight_0_while_somebody_is_connected_to_it(
        self, table: ServiceTable
    ) -> None:
        def listed() -> list[tuple[str, int, int, int]]:
            (row,) = table.rows()
            return [(one["address"], one["port"], one["weight"], one["active"]) for one in row["destinations"]]

        with socket.create_server((vip(9), 0)) as server:
            at_server = server.getsockname()
            table.apply("default/web", [replace(HTTP, endpoints=(at_server,))])
            with socket.create_connection((HTTP.address, HTTP.port)) as client, server.accept()[0] as taken:
                pass_bytes(client, taken)
                table.apply("default/web", [HTTP])
                assert (*at_server, 0, 1) in listed()
                assert len(listed()) == 3
            while table.forwarder.statistics()["open"]:
                time.sleep(0.001)
            assert len(listed()) == 2

    def test_what_was_counted_of_a_service_stays_when_its_endpoints_go(self, table: ServiceTable) -> None:
        local = replace(HTTP, purpose="LoadBalancer", inside=(("127.0.0.1", 3),))
        table.apply("default/web", [local])
        for client in ("192.0.2.1", "192.0.2.2"):
            table.balancer.connect(*HTTP.key, client, 1000)
        (mark,) = [one["mark"] for one in table.balancer.services() if "mark" in one]
        table.balancer.connect("FWM", HTTP.address, mark, "127.0.0.1", 1000)
        (row,) = table.rows()
        assert (row["connections"], [one["connections"] for one in row["destinations"]]) == (3, [1, 1, 1])
        table.apply("default/web", [replace(local, endpoints=())])
        (row,) = table.rows()
        assert (row["connections"], [one["connections"] for one in row["destinations"]]) == (3, [1])

    @pytest.mark.parametrize(("protocol", "packets"), [("TCP", set()), ("UDP", {"packets_in", "packets_out"})])
    def test_packets_are_told_of_udp_alone_for_the_kernel_makes_those_of_tcp(
        self, table: ServiceTable, protocol: str, packets: set[str]
    ) -> None:
        table.apply("default/web", [replace(HTTP, protocol=protocol)])
        (row,) = table.rows()
        for one in (row, *row["destinations"]):
            assert {name for name in one if name.startswith("packets")} == packets

    @pytest.mark.parametrize("affinity", [None, 60.0])
    def test_a_flow_of_udp_stays_with_an_endpoint_that_serves_though_no_new_one_comes(
        self, table: ServiceTable, affinity: float | None
    ) -> None:
        with ExitStack() as sockets:
            one, other, client, stranger = (
                sockets.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(4)
            )
            for here in (one, other):
                here.bind((vip(9), 0))
            at_one, at_other, elsewhere = one.getsockname(), other.getsockname(), (vip(8), 53)
            server = replace(HTTP, protocol="UDP", affinity_seconds=affinity)

            def asked(who: socket.socket) -> socket.socket:
                who.sendto(b"who", (HTTP.address, HTTP.port))
                (heard,), _, _ = select.select([one, other], [], [], 60)
                heard.recv(9)
                return heard

            serving = (at_one, at_other, elsewhere)
            table.apply("default/web", [replace(server, endpoints=(at_one,), serving=serving)])
            assert asked(client) is one
            table.apply("default/web", [replace(server, endpoints=(at_other,), serving=serving)])
            assert asked(client) is one
            assert asked(stranger) is other
            (row,) = table.rows()
            assert {(to["address"], to["port"]): to["weight"] for to in row["destinations"]} == {at_one: 0, at_other: 1}
            table.apply("default/web", [replace(server, endpoints=(at_other,), serving=(at_other, elsewhere))])
            assert asked(client) is other

    def test_connections_that_are_closed_are_listed_as_inactive_for_as_long_as_ipvs_remembers_them(self) -> None:
        clock = Clock.virtual(0.0)
        with closing(ServiceTable(clock=clock)) as table, socket.create_server(("127.0.0.1", 0)) as server:
            table.apply("default/web", [replace(HTTP, endpoints=(server.getsockname(),))])
            with socket.create_connection((HTTP.address, HTTP.port)), server.accept()[0]:
                pass
            while table.forwarder.statistics()["open"]:
                time.sleep(0.001)
            (row,) = table.rows()
            assert [(one["active"], one["inactive"]) for one in row["destinations"]] == [(0, 1)]
            clock.advance(120)
            (row,) = table.rows()
            assert [(one["active"], one["inactive"]) for one in row["destinations"]] == [(0, 0)]

    def test_another_scheduler_takes_over_with_the_same_destinations(self, table: ServiceTable) -> None:
        table.apply("default/web", [HTTP])
        table.apply("default/web", [replace(HTTP, scheduler="sh", affinity_seconds=60.0)])
        (row,) = table.rows()
        assert (row["scheduler"], row["persistence_seconds"], len(row["destinations"])) == ("sh", 60.0, 2)

    def test_a_change_of_one_service_leaves_others_alone(self, table: ServiceTable) -> None:
        table.apply("default/web", [HTTP])
        table.balancer.connect(*HTTP.key, "192.0.2.1", 1000)
        table.apply("default/other", [at(2)])
        table.apply("default/other", [])
        (row,) = table.rows()
        assert (row["connections"], listening(table)) == (1, {vip(1)})


class TestAccess:
    """An external address that not everybody, or nobody here, is served at."""

    LOCAL = replace(HTTP, purpose="LoadBalancer", endpoints=(), anywhere=True)

    def knock(self, source: str) -> int:
        """What a client is told at once: 0 for nothing."""
        with socket.socket() as client:
            client.bind((source, 0))
            client.setblocking(False)
            client.connect_ex((vip(1), 8080))
            told = select.select([], [client], [], 0)[1]
            return client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if told else 0

    def test_where_nobody_has_an_endpoint_clients_are_refused(self, table: ServiceTable) -> None:
        table.apply("default/web", [replace(self.LOCAL, anywhere=False)])
        assert self.knock(vip(9)) == errno.ECONNREFUSED

    def test_where_only_others_have_them_they_are_dropped(self, table: ServiceTable) -> None:
        table.apply("default/web", [self.LOCAL])
        assert self.knock(vip(9)) == 0
        table.apply("default/web", [replace(self.LOCAL, anywhere=False)])
        assert self.knock(vip(9)) == errno.ECONNREFUSED

    def test_an_endpoint_for_clients_from_inside_and_outside_is_listed_once(self, table: ServiceTable) -> None:
        (one, other) = HTTP.endpoints
        table.apply("default/web", [replace(self.LOCAL, endpoints=(one,), inside=(one, other))])
        (row,) = table.rows()
        listed = [(to["address"], to["port"], to["weight"], to["overloaded"]) for to in row["destinations"]]
        assert listed == [(*one, 1, False), (*other, 1, False)]

    def test_pods_and_this_host_are_served_by_any(self, book: Book) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            closing(ServiceTable(clock=VirtualClock().native, addresses=book, pod_ranges=["10.0.0.0/8"])) as table,
        ):
            endpoint = server.getsockname()
            table.apply("default/web", [replace(self.LOCAL, inside=(endpoint,))])
            with socket.create_connection((vip(1), 8080), timeout=60):
                server.settimeout(60)
                server.accept()[0].close()
            (row,) = table.rows()
            assert [(one["address"], one["port"], one["connections"]) for one in row["destinations"]] == [
                (*endpoint, 1)
            ]
            table.apply("default/web", [replace(self.LOCAL, anywhere=False)])
            assert (len(table.balancer), table.rows()[0]["destinations"]) == (1, [])

    def test_source_ranges_are_for_the_listener(self, table: ServiceTable) -> None:
        """Of no endpoint, so that who comes in is refused at once."""
        table.apply("default/web", [replace(self.LOCAL, anywhere=False, source_ranges=(f"{vip(9)}/32",))])
        assert self.knock(vip(9)) == errno.ECONNREFUSED
        table.apply("default/web", [replace(HTTP, purpose="LoadBalancer", source_ranges=(f"{vip(9)}/32",))])
        assert self.knock(vip(8)) == 0
        with socket.create_server(("127.0.0.1", 0)) as server:
            changed = replace(HTTP, endpoints=(server.getsockname(),), source_ranges=(f"{vip(9)}/32",))
            table.apply("default/web", [changed])
            with socket.create_connection((vip(1), 8080), timeout=60, source_address=(vip(9), 0)):
                server.settimeout(60)
                server.accept()[0].close()


class TestConflicts:
    def test_who_asked_first_has_it_and_the_other_is_told(self, table: ServiceTable) -> None:
        table.apply("default/first", [HTTP])
        problems, _ = table.apply("default/second", [HTTP, at(2)])
        assert told(problems) == [f"AddressTaken: TCP {vip(1)}:8080 belongs to Service default/first"]
        assert not problems[0].passing
        assert {row["service"] for row in table.rows()} == {"default/first", "default/second"}

    def test_whoever_asked_next_inherits_it(self, table: ServiceTable) -> None:
        for name in ("first", "second", "third"):
            table.apply(f"default/{name}", [HTTP])
        assert table.apply("default/first", []) == ([], ["default/second"])
        assert table.apply("default/second", [HTTP]) == ([], [])
        (row,) = table.rows()
        assert (row["service"], row["listening"]) == ("default/second", True)

    def test_who_gives_up_while_waiting_leaves_no_heir(self, table: ServiceTable) -> None:
        table.apply("default/first", [HTTP])
        table.apply("default/second", [HTTP])
        assert table.apply("default/second", []) == ([], [])
        assert table.apply("default/first", []) == ([], [])

    def test_a_node_port_of_another_cluster_on_the_host_is_its_own_until_that_lets_it_go(self) -> None:
        port = free_port()
        web = replace(HTTP, address="0.0.0.0", port=port, purpose="NodePort")
        with closing(ServiceTable(ports=HostPorts())) as one, closing(ServiceTable(ports=HostPorts())) as other:
            # a Service that has the port's number at another address makes the port no less the other cluster's
            other.apply("default/same", [replace(HTTP, address=vip(9), port=port)])
            one.apply("default/same", [replace(HTTP, address=vip(8), port=port)])
            assert one.apply("default/web", [web]) == ([], [])
            problems, _ = other.apply("default/web", [web])
            assert [(problem.message, problem.passing) for problem in problems] == [
                (f"cannot listen on TCP 0.0.0.0:{port}: another cluster on this host has it", True)
            ]
            assert listening(other) == {vip(9)}
            one.apply("default/web", [])
            one.apply("default/same", [])
            assert other.apply("default/web", [web]) == ([], [])

    def test_an_ipv6_address_is_told_in_brackets(self, table: ServiceTable) -> None:
        six = replace(HTTP, address="fd00::1")
        table.apply("default/first", [six])
        problems, _ = table.apply("default/second", [six])
        assert "TCP [fd00::1]:8080 belongs to Service default/first" in problems[0].message


class TestPortsThatCannotBeHad:
    def test_one_that_another_program_has_may_be_free_later(self, table: ServiceTable) -> None:
        with socket.create_server((vip(1), 8080)):
            problems, _ = table.apply("default/web", [HTTP, at(2)])
        assert told(problems) == [f"FailedToListen: cannot listen on TCP {vip(1)}:8080: Address already in use"]
        assert problems[0].passing
        assert listening(table) == {vip(2)}
        assert table.apply("default/web", [HTTP, at(2)]) == ([], [])
        assert listening(table) == {vip(1), vip(2)}

    def test_an_address_that_the_host_has_not_may_come_later(self, table: ServiceTable) -> None:
        problems, _ = table.apply("default/web", [replace(HTTP, address="203.0.113.1")])
        assert problems[0].passing
        assert "Cannot assign requested address" in problems[0].message

    def test_sctp_cannot_be_served_and_waiting_does_not_help(self, table: ServiceTable) -> None:
        problems, _ = table.apply("default/web", [replace(HTTP, protocol="SCTP"), at(2)])
        (problem,) = problems
        assert problem.reason == "FailedToListen" and not problem.passing
        assert listening(table) == {vip(2)}

    def test_what_the_balancer_refuses_does_not_keep_the_rest_from_being_served(self, table: ServiceTable) -> None:
        problems, _ = table.apply("default/web", [replace(HTTP, address="nonsense"), at(2)])
        assert '"nonsense" is not an IP address' in problems[0].message
        assert listening(table) == {vip(2)}
        assert table.apply("default/web", []) == ([], [])


class TestHeldAddresses:
    def test_addresses_of_servers_are_held_while_they_are_served(self, table: ServiceTable, book: Book) -> None:
        table.apply("default/web", [at(1), at(1, port=8081), at(2, purpose="NodePort")])
        assert book.held == {vip(1): 1}
        table.apply("default/web", [])
        table.commit()
        assert book.held == {}
        assert not table.unfinished

    def test_those_of_a_service_that_is_gone_stay_for_connections_that_came_by_them(
        self, table: ServiceTable, book: Book, clock: Clock
    ) -> None:
        with socket.create_server((vip(9), 0)) as server:
            table.apply("default/web", [replace(HTTP, endpoints=((vip(9), server.getsockname()[1]),)), at(2)])
            with socket.create_connection((HTTP.address, HTTP.port)) as client, server.accept()[0] as taken:
                pass_bytes(client, taken)
                table.apply("default/web", [])
                table.commit()
                assert (book.held, table.unfinished) == ({vip(1): 1}, True)
                pass_bytes(client, taken)
            while table.forwarder.connections():
                time.sleep(0.001)
            table.commit()
            assert (book.held, table.unfinished) == ({vip(1): 1}, True), "it is looked for again after a while"
            clock.advance(LOOK_SECONDS)
            table.commit()
            assert (book.held, table.unfinished) == ({}, False)

    def test_one_address_of_two_services_stays_until_both_are_gone(self, table: ServiceTable, book: Book) -> None:
        table.apply("default/a", [at(1)])
        table.apply("default/b", [at(1, port=8081)])
        table.apply("default/a", [])
        table.commit()
        assert book.held == {vip(1): 1}

    def test_one_that_was_let_go_is_not_let_go_again_at_the_end(self, table: ServiceTable, book: Book) -> None:
        table.apply("default/a", [at(1), at(2)])
        table.apply("default/a", [at(2)])
        table.commit()
        table.apply("default/b", [at(1)])
        table.apply("default/a", [])
        table.commit()
        assert book.held == {vip(1): 1}

    def test_addresses_may_be_held_for_others_to_listen_on(self, table: ServiceTable, book: Book) -> None:
        table.apply("default/theirs", [], addresses=[vip(3)])
        assert (book.held, len(table)) == ({vip(3): 1}, 0)

    def test_one_that_cannot_be_held_is_told_and_tried_again(self, table: ServiceTable, book: Book) -> None:
        book.refused = {vip(1)}
        problems, _ = table.apply("default/web", [HTTP])
        (problem,) = problems
        assert problem.reason == "FailedToAddAddress" and problem.passing
        assert problem.message.endswith("cannot be put on this node's bridge: Operation not permitted")
        book.refused = set()
        assert table.apply("default/web", [HTTP]) == ([], [])
        assert book.held == {vip(1): 1}

    def test_a_new_listener_has_no_endpoints_until_it_knows_who_may_come(self, table: ServiceTable) -> None:
        forwarder, seen = table.forwarder, []

        class Watched:
            def set_access(self, *key: Any, **rules: Any) -> None:
                seen.append([len(row["destinations"]) for row in table.balancer.services()])
                forwarder.set_access(*key, **rules)

            def __getattr__(self, name: str) -> Any:
                return getattr(forwarder, name)

        table.forwarder = Watched()  # type: ignore[assignment]
        table.apply("default/web", [replace(HTTP, purpose="LoadBalancer", source_ranges=(f"{vip(9)}/32",))])
        assert (seen, len(table.rows()[0]["destinations"])) == ([[0]], 2)
