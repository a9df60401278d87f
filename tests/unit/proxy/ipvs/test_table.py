"""Mode ipvs: which virtual services and destinations the kernel is told."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from kubecore.api.endpoint_choice import Endpoint
from kubecore.netlink import InterfaceAddress
from kubecore.proxy.data_plane import ModeUnavailable
from kubecore.proxy.host_ports import HostPorts
from kubecore.proxy.ipvs import table as ipvs
from kubecore.proxy.ipvs.messages import Connection
from kubecore.proxy.ipvs.packet_rules import Led, PacketRules
from kubecore.proxy.ipvs.table import IpvsTable
from kubecore.proxy.leading import INSIDE
from kubecore.proxy.nftables.ruleset import Site
from kubecore.proxy.table import ServiceTable
from kubecore.proxy.virtual_servers import VirtualServer
from tests.support.ports import free_port
from tests.unit.proxy.builders import vip
from tests.unit.proxy.builders import virtual_server as server
from tests.unit.proxy.ipvs.fake_kernel import FakeKernel

ONE, TWO = ("10.0.0.1", 80), ("10.0.0.2", 8080)
# of this process: names in the kernel are everybody's
NODE_PORT = free_port()


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed.ljust(16, b"\0")


class Rules(PacketRules):
    """What nf_tables is told, by Service: servers and their marks. With `trouble` it cannot be had."""

    def __init__(self) -> None:
        super().__init__(Site(table="none"))
        self.trouble = ""
        self.tightened: list[tuple[str, list[VirtualServer]]] = []
        self.loosened: list[tuple[str, list[VirtualServer]]] = []
        self.marks: dict[Led, int] = {}
        self.reflected: dict[str, set[Endpoint]] = {}
        self.lost: list[str] | None = None

    def tighten(self, service: str, servers: Iterable[VirtualServer], marks: Mapping[Led, int]) -> None:
        if self.trouble:
            raise ModeUnavailable(self.trouble)
        self.tightened.append((service, list(servers)))
        self.marks = dict(marks)

    def loosen(self, service: str, servers: Iterable[VirtualServer], marks: Mapping[Led, int]) -> None:
        self.loosened.append((service, list(servers)))

    def reflect(self, service: str, endpoints: Iterable[Endpoint]) -> None:
        self.reflected[service] = set(endpoints)

    def restore(self) -> list[str] | None:
        return self.lost

    def commit(self) -> None:
        if self.trouble:
            raise ModeUnavailable(self.trouble)


class Told:
    """The table, and what its kernel has."""

    def __init__(self, kernel: FakeKernel, **options: Any) -> None:
        self.kernel = kernel
        self.rules = Rules()
        self.now = 0.0
        here = ["192.0.2.1", "fd00::1"]
        connection = Connection(cast(Any, kernel))
        own: dict[str, Any] = {"connection": connection, "rules": self.rules, "node_addresses": lambda: here}
        self.table = IpvsTable(**own, monotonic=lambda: self.now, **options)

    def apply(self, *servers: VirtualServer, service: str = "default/web") -> None:
        problems, _ = self.table.apply(service, servers)
        self.table.commit()
        assert problems == []

    def destinations(self) -> dict[str, dict[str, int]]:
        """Weights, by virtual service."""
        return {
            self._name(key): {self._where(*one, key[0]): weight for one, weight in held.items()}
            for key, held in self.kernel.destinations.items()
        }

    def _name(self, key: tuple[bytes, ...]) -> str:
        """Of one that is found by a mark: `mark of` what has it."""
        if not key[4]:
            return self._where(key[2], key[3], key[0])
        (mark,) = struct.unpack("=I", key[4])
        ((_, address, port), group) = next(one for one, number in self.rules.marks.items() if number == mark)
        return f"mark of {address}:{port}" + ("" if group == INSIDE else f" for node {group.node}")

    @staticmethod
    def _where(address: bytes, port: bytes, family: bytes) -> str:
        six = struct.unpack("=H", family)[0] == socket.AF_INET6
        return f"{ipaddress.ip_address(address if six else address[:4])}:{struct.unpack('!H', port)[0]}"

    def rows_of(self, address: str) -> list[Endpoint]:
        rows = [row for row in self.table.rows() if row["address"] == address]
        return [(one["address"], one["port"]) for row in rows for one in row["destinations"]]

    def service(self) -> dict[int, bytes]:
        (made,) = self.kernel.services.values()
        return made


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    monkeypatch.setattr(ipvs, "_set_up", lambda: None)
    return FakeKernel()


@pytest.fixture
def told(kernel: FakeKernel) -> Told:
    return Told(kernel)


class TestServices:
    def test_each_address_and_port_has_its_own_with_its_endpoints(self, told: Told) -> None:
        told.apply(server(ONE, TWO), server(("fd01::1", 80), address="fd00::7", protocol="UDP"))
        assert told.destinations() == {
            "10.96.0.1:80": {"10.0.0.1:80": 1, "10.0.0.2:8080": 1},
            "fd00::7:80": {"fd01::1:80": 1},
        }

    def test_a_node_port_is_one_at_each_address_of_the_node(self, told: Told) -> None:
        told.apply(server(ONE, address="0.0.0.0", port=30080, purpose="NodePort"))
        assert set(told.destinations()) == {"192.0.2.1:30080"}
        told.apply(server(("fd01::1", 80), address="::", port=30080, purpose="NodePort"))
        assert set(told.destinations()) == {"fd00::1:30080"}

    def test_scheduler_and_persistence_are_the_kernels_own(self, told: Told) -> None:
        told.apply(server(ONE, scheduler="wlc", affinity_seconds=60.0))
        made = told.service()
        assert (made[6], struct.unpack("=II", made[7])[0], struct.unpack("=I", made[8])[0]) == (b"wlc\0", 0x1, 60)
        assert made[9] == b"\xff" * 4

    def test_hashing_passes_over_what_drains(self, told: Told) -> None:
        told.apply(server(ONE, scheduler="mh"))
        assert struct.unpack("=II", told.service()[7])[0] == 0x8

    def test_options_change_without_a_new_service(self, told: Told) -> None:
        told.apply(server(ONE))
        told.apply(server(ONE, scheduler="sh"))
        assert told.service()[6] == b"sh\0"
        assert told.kernel.commands.count(1) == 1

    def test_a_service_that_somebody_has_cleared_away_is_made_anew_at_its_next_change(self, told: Told) -> None:
        told.apply(server(ONE))
        told.kernel.clear()
        told.apply(server(ONE, TWO))
        assert told.destinations() == {"10.96.0.1:80": {"10.0.0.1:80": 1, "10.0.0.2:8080": 1}}

    def test_what_a_killed_run_left_is_taken_up_and_leads_on_meanwhile(
        self, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = Told(kernel)
        before.apply(server(ONE, TWO))
        kernel.active[packed("10.0.0.1")] = 1
        before.table.apply("default/web", [server(TWO)])  # while somebody is connected to the other
        after = Told(kernel)
        monkeypatch.setattr(Connection, "delete_service", lambda *_: pytest.fail("nobody is led there"))
        monkeypatch.setattr(Connection, "add_service", lambda *_: pytest.fail("it is there"))
        after.apply(server(TWO))
        assert after.destinations() == {"10.96.0.1:80": {"10.0.0.1:80": 0, "10.0.0.2:8080": 1}}
        kernel.active.clear()
        after.table.commit()
        assert after.destinations() == {"10.96.0.1:80": {"10.0.0.2:8080": 1}}

    def test_and_gets_the_scheduler_that_is_asked_for_now(self, kernel: FakeKernel) -> None:
        Told(kernel).apply(server(ONE))
        after = Told(kernel)
        after.apply(server(ONE, scheduler="wlc"))
        assert after.service()[6] == b"wlc\0"

    def test_its_end_leaves_none(self, told: Told) -> None:
        told.apply(server(ONE), server(TWO, port=81))
        told.table.close()
        assert told.destinations() == {}


class TestEndpoints:
    def test_one_that_goes_drains_first(self, told: Told, kernel: FakeKernel) -> None:
        told.apply(server(ONE, TWO))
        kernel.active[packed("10.0.0.2")] = 1
        told.apply(server(ONE))
        assert told.destinations() == {"10.96.0.1:80": {"10.0.0.1:80": 1, "10.0.0.2:8080": 0}}
        told.table.commit()
        assert told.table.unfinished
        kernel.active.clear()
        told.table.commit()
        assert told.destinations() == {"10.96.0.1:80": {"10.0.0.1:80": 1}}
        assert not told.table.unfinished

    def test_one_that_comes_back_meanwhile_takes_connections_again(self, told: Told, kernel: FakeKernel) -> None:
        told.apply(server(ONE, TWO))
        kernel.active[packed("10.0.0.2")] = 1
        told.apply(server(ONE))
        told.apply(server(ONE, TWO))
        assert told.destinations()["10.96.0.1:80"]["10.0.0.2:8080"] == 1

    def test_one_that_drains_and_is_cleared_away_is_awaited_no_more(self, told: Told, kernel: FakeKernel) -> None:
        told.apply(server(ONE, TWO))
        kernel.active[packed("10.0.0.2")] = 1
        told.apply(server(ONE))
        assert told.table.unfinished
        kernel.clear()
        told.table.commit()
        assert not told.table.unfinished

    def test_those_that_came_before_a_failure_are_not_given_to_the_kernel_again(
        self, told: Told, kernel: FakeKernel
    ) -> None:
        kernel.full_at = packed("10.0.0.2")
        problems, _ = told.table.apply("default/web", [server(ONE, TWO)])
        assert [(one.reason, one.passing) for one in problems] == [("FailedToListen", True)]
        kernel.full_at = None
        told.apply(server(ONE, TWO))
        assert told.destinations() == {"10.96.0.1:80": {"10.0.0.1:80": 1, "10.0.0.2:8080": 1}}

    def test_one_of_udp_goes_at_once(self, told: Told, kernel: FakeKernel) -> None:
        kernel.active[packed("10.0.0.2")] = 1
        told.apply(server(ONE, TWO, protocol="UDP"))
        told.apply(server(ONE, protocol="UDP"))
        assert told.destinations() == {"10.96.0.1:80": {"10.0.0.1:80": 1}}

    def test_they_are_listed_with_what_the_kernel_counts(self, told: Told) -> None:
        told.apply(server(ONE))
        (row,) = told.table.rows()
        (one,) = row["destinations"]
        assert (row["service"], row["scheduler"], one["address"], one["port"]) == ("default/web", "rr", *ONE)
        assert (one["connections"], one["bytes_in"], one["packets_in"]) == (7, 900, 0)
        assert (row["connections"], row["bytes_in"], row["packets_in"]) == (9, 1000, 0)

    def test_what_was_counted_of_a_service_stays_when_its_endpoints_go(self, told: Told) -> None:
        told.apply(server(ONE))
        told.apply(server())
        (row,) = told.table.rows()
        assert (row["destinations"], row["connections"]) == ([], 9)


class TestLoopbackEndpoints:
    @pytest.fixture
    def both(self, kernel: FakeKernel) -> Iterator[Told]:
        told = Told(kernel, userspace=ServiceTable())
        yield told
        told.table.close()

    def test_are_left_to_userspace(self, both: Told) -> None:
        with socket.create_server((vip(6), 0)) as backend:
            api = server(backend.getsockname(), address=vip(5), port=8443)
            both.apply(api, server(ONE))
            assert set(both.destinations()) == {"10.96.0.1:80"}
            with socket.create_connection((vip(5), 8443), timeout=30):
                backend.accept()[0].close()
            both.apply(server(ONE, address=vip(5), port=8443))
            assert set(both.destinations()) == {f"{vip(5)}:8443"}
            assert both.rows_of(vip(5)) == [ONE]
            both.apply(api)
            assert both.destinations() == {}
            assert both.rows_of(vip(5)) == [backend.getsockname()]

    def test_are_told_of_clients_no_more_than_others_of_this_mode(self, both: Told) -> None:
        with socket.create_server((vip(6), 0)) as backend:
            backend.settimeout(30)
            both.apply(server(backend.getsockname(), address=vip(5), port=8443, proxy_protocol=1))
            with socket.create_connection((vip(5), 8443), timeout=30) as client:
                client.sendall(b"hello")
                accepted, _ = backend.accept()
                with accepted:
                    accepted.settimeout(30)
                    assert accepted.recv(1) == b"h"


class TestForwarded:
    def test_a_service_is_left_to_userspace_which_tells_endpoints_their_clients(self, kernel: FakeKernel) -> None:
        told = Told(kernel, userspace=ServiceTable())
        with socket.create_server((vip(6), 0)) as backend:
            backend.settimeout(30)
            web = server(backend.getsockname(), address=vip(5), port=8443, proxy_protocol=1, forwarded=True)
            told.apply(web)
            assert told.destinations() == {}
            with socket.create_connection((vip(5), 8443), timeout=30), backend.accept()[0] as accepted:
                accepted.settimeout(30)
                assert accepted.recv(100).startswith(b"PROXY TCP4 ")
            told.apply(server(ONE, address=vip(5), port=8443))
            assert set(told.destinations()) == {f"{vip(5)}:8443"}
        told.table.close()


class TestLoopbackNodePorts:
    def test_are_left_to_userspace(self, kernel: FakeKernel) -> None:
        told = Told(kernel, userspace=ServiceTable(), pods_on_loopback=True)
        port = free_port()
        with socket.create_server((vip(6), 0)) as backend:
            told.apply(server(backend.getsockname(), address="0.0.0.0", port=port, purpose="NodePort"))
            assert set(told.destinations()) == {f"192.0.2.1:{port}"}
            with socket.create_connection(("127.0.0.1", port), timeout=30):
                backend.accept()[0].close()
            assert {row["address"] for row in told.table.rows()} == {"127.0.0.1", "192.0.2.1"}
            told.apply()
            assert told.table.rows() == []
        told.table.close()


class TestNodeAddresses:
    def test_are_those_of_the_host_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Netlink:
            def __enter__(self) -> Netlink:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def link_index(self, name: str) -> int:
                return {"bridge": 7}[name]

            def addresses(self, family: int) -> list[InterfaceAddress]:
                four = ((1, "127.0.0.1/8"), (2, "192.0.2.1/24"), (3, "198.51.100.1/32"), (7, "10.244.0.1/16"))
                six = ((1, "::1/128"), (2, "fe80::1/64"), (2, "2001:db8::1/64"), (7, "fd96::1/128"))
                given = six if family == socket.AF_INET6 else (*four, (7, "10.96.0.1/32"))
                return [InterfaceAddress(index, ipaddress.ip_interface(text)) for index, text in given]

        monkeypatch.setattr(ipvs, "Netlink", Netlink)
        assert ipvs.local_addresses("bridge") == ["192.0.2.1", "198.51.100.1", "10.244.0.1", "2001:db8::1"]


class TestWithoutIpvs:
    def test_the_reason_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ipvs, "Connection", lambda: Connection(cast(Any, FakeKernel(has_ipvs=False))))
        with pytest.raises(ModeUnavailable, match=r"the kernel has no IPVS \(its module ip_vs\)"):
            IpvsTable()


class TestSourceRanges:
    RESTRICTED = server(ONE, address="203.0.113.5", purpose="LoadBalancer", source_ranges=("10.0.0.0/8",))

    def test_are_left_to_nf_tables(self, told: Told) -> None:
        told.apply(self.RESTRICTED)
        told.apply()
        assert told.rules.tightened == [("default/web", [self.RESTRICTED]), ("default/web", [])]

    def test_where_that_is_missing_everybody_is_let_in_and_that_is_told(self, told: Told) -> None:
        told.rules.trouble = "the program nft is missing"
        problems, _ = told.table.apply("default/web", [self.RESTRICTED, server(TWO)])
        message = "loadBalancerSourceRanges are not enforced, everybody is let in: the program nft is missing"
        assert [(one.reason, one.message) for one in problems] == [("SourceRangesNotEnforced", message)]
        assert set(told.destinations()) == {"203.0.113.5:80", f"{server(TWO).address}:80"}


class TestPolicyLocal:
    EXTERNAL = server(ONE, address="203.0.113.5", purpose="LoadBalancer", inside=(ONE, TWO))
    BY_MARK = "mark of 203.0.113.5:80"

    def test_who_comes_is_dropped_from_before_its_last_endpoint_here_goes_until_after_the_first_has_come(
        self, told: Told, kernel: FakeKernel
    ) -> None:
        silent = server(anywhere=True)
        order: list[str] = []
        told.rules.tighten = lambda *_: order.append("tighten")  # type: ignore[method-assign]
        told.rules.loosen = lambda *_: order.append("loosen")  # type: ignore[method-assign]
        send = kernel.send
        kernel.send = lambda data: (order.append("IPVS"), send(data))[1]  # type: ignore[method-assign,func-returns-value]
        for servers in ([server(ONE)], [silent], [server(ONE)]):
            order.clear()
            told.table.apply("default/web", servers)
            assert order == ["tighten", *["IPVS"] * order.count("IPVS"), "loosen"]
            assert "IPVS" in order

    def test_who_comes_from_inside_has_a_service_of_its_own_that_a_mark_leads_to(self, told: Told) -> None:
        told.apply(self.EXTERNAL)
        assert told.destinations() == {
            "203.0.113.5:80": {"10.0.0.1:80": 1},
            self.BY_MARK: {"10.0.0.1:80": 1, "10.0.0.2:8080": 1},
        }
        assert told.rows_of("203.0.113.5") == [ONE, TWO]

    def test_and_is_counted_with_those_from_outside(self, told: Told, kernel: FakeKernel) -> None:
        kernel.active[packed("10.0.0.1")] = 2
        told.apply(self.EXTERNAL)
        (row,) = told.table.rows()
        assert [(one["address"], one["weight"], one["active"]) for one in row["destinations"]] == [
            ("10.0.0.1", 1, 4),
            ("10.0.0.2", 1, 0),
        ]

    def test_which_is_gone_when_both_are_led_alike(self, told: Told) -> None:
        told.apply(self.EXTERNAL)
        told.apply(replace(self.EXTERNAL, endpoints=(ONE, TWO)))
        assert set(told.destinations()) == {"203.0.113.5:80"}
        assert told.rules.marks == {}

    def test_or_with_its_service(self, told: Told) -> None:
        told.apply(self.EXTERNAL)
        told.apply()
        assert told.destinations() == {}

    def test_a_mark_of_a_killed_run_leads_where_it_led_until_it_is_swept(self, kernel: FakeKernel) -> None:
        Told(kernel).apply(self.EXTERNAL)
        (old,) = (key for key in kernel.destinations if key[4])
        led = dict(kernel.destinations[old])
        after = Told(kernel)
        after.apply(replace(self.EXTERNAL, inside=(TWO,)))
        assert kernel.destinations[old] == led
        after.table.sweep()
        assert old not in kernel.destinations
        assert after.destinations()[self.BY_MARK] == {"10.0.0.2:8080": 1}

    def test_what_a_killed_run_left_is_swept(self, kernel: FakeKernel) -> None:
        Told(kernel).apply(self.EXTERNAL)
        after = Told(kernel)
        after.apply(replace(self.EXTERNAL, inside=None))
        after.table.sweep()
        assert after.destinations() == {"203.0.113.5:80": {"10.0.0.1:80": 1}}

    def test_marks_of_other_clusters_are_left_alone(self, kernel: FakeKernel) -> None:
        other = Told(kernel, site=Site(table="kubecore-other"))
        other.apply(self.EXTERNAL)
        Told(kernel).table.sweep()
        assert self.BY_MARK in other.destinations()

    def test_where_nf_tables_is_missing_that_is_told(self, told: Told) -> None:
        told.rules.trouble = "the program nft is missing"
        problems, _ = told.table.apply("default/web", [server(anywhere=True)])
        assert [(one.reason, one.message) for one in problems] == [
            (
                "TrafficPolicyNotEnforced",
                "the traffic policy of TCP 10.96.0.1:80 binds clients from inside, and who has no endpoint on this "
                "node is refused: the program nft is missing",
            )
        ]


class TestLoops:
    def test_endpoints_may_come_to_themselves(self, told: Told) -> None:
        told.apply(server(ONE), server(address="203.0.113.5", purpose="LoadBalancer", inside=(TWO,)))
        assert told.rules.reflected == {"default/web": {ONE, TWO}}

    def test_those_on_the_loopback_device_do_so_anyway(self, kernel: FakeKernel) -> None:
        told = Told(kernel, pods_on_loopback=True)
        told.apply(server(ONE))
        assert told.rules.reflected == {}


class TestHostPorts:
    def test_what_another_cluster_of_the_host_has_is_its_own(self, kernel: FakeKernel) -> None:
        one, other = (Told(each, ports=HostPorts()) for each in (kernel, FakeKernel()))
        port = server(ONE, address="0.0.0.0", port=NODE_PORT, purpose="NodePort")
        one.apply(port)
        problems, _ = other.table.apply("default/web", [port])
        assert [problem.message for problem in problems] == [
            f"cannot listen on TCP 0.0.0.0:{NODE_PORT}: another cluster on this host has it"
        ]
        assert other.destinations() == {}
        one.table.close()
        other.apply(port)
        assert set(other.destinations()) == {f"192.0.2.1:{NODE_PORT}"}
        other.table.close()

    def test_nobody_takes_over_the_cluster_ip_of_a_proxy_that_lives(self, kernel: FakeKernel) -> None:
        """Its virtual service is there, as that of one that was killed would be."""
        mine = server(ONE, address=vip(9))
        one = Told(kernel, ports=HostPorts(equal_ranges=True))
        one.apply(mine)
        other = Told(kernel, ports=HostPorts(equal_ranges=True))
        problems, _ = other.table.apply("default/web", [replace(mine, endpoints=(TWO,))])
        assert [problem.message for problem in problems] == [
            f"cannot listen on TCP {mine.address}:80: another cluster on this host has it"
        ]
        other.table.close()
        assert one.destinations() == {f"{mine.address}:80": {"10.0.0.1:80": 1}}
        one.table.close()
