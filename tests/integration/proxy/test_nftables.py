"""Connections through the tables of mode nftables: of pods, of the node itself, and from outside."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kubecore.api.endpoint_choice import Endpoint
from kubecore.proxy import conntrack
from kubecore.proxy.modes import unavailable
from kubecore.proxy.virtual_servers import Purpose, VirtualServer
from tests.support.net_world import SOON, Namespace, World, make_world
from tests.support.nftables_plane import ONE, ONE_SIX, TABLE, TWO, TWO_SIX, Plane, serve_pods

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable("nftables")), reason=unavailable("nftables")),
]

NODE, CLIENT = "10.244.0.1", "192.0.2.9"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = make_world()
    serve_pods(world)
    world.serve(world.node, "127.0.0.1", 6443, "node")
    yield world
    world.close()


def plane_of(world: World) -> Plane:
    return Plane(world, routed_ranges=("203.0.113.0/24",))


@pytest.fixture
def plane(world: World) -> Iterator[Plane]:
    plane = plane_of(world)
    yield plane
    plane.close()


def nft(world: World, *arguments: str) -> str:
    with world.node.here():
        return subprocess.run(["nft", *arguments], capture_output=True, text=True, check=True).stdout


def server(
    *endpoints: Endpoint,
    address: str = "10.96.0.1",
    port: int = 80,
    purpose: Purpose = "ClusterIP",
    protocol: str = "TCP",
    **more: Any,
) -> VirtualServer:
    options: dict[str, Any] = {"scheduler": "rr", "affinity_seconds": None, "anywhere": bool(endpoints), **more}
    return VirtualServer(protocol, address, port, purpose, endpoints=endpoints, **options)


def node_port(*endpoints: Endpoint, address: str = "0.0.0.0", **more: Any) -> VirtualServer:
    return server(*endpoints, address=address, port=30080, purpose="NodePort", **more)


def all_of(ask: Callable[[], str], expected: set[str]) -> bool:
    """Whether asking again and again brings all of these and nothing else. (By chance alone: once in 2^100.)"""
    seen: set[str] = set()
    for _ in range(100):
        seen.add(ask())
        if seen == expected:
            return True
    raise AssertionError(f"expected {expected}, saw {seen}")


class TestClusterIPs:
    def test_a_pod_is_led_to_every_endpoint_and_seen_with_its_own_address(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE, TWO))
        assert all_of(lambda: world.ask(world.two, "10.96.0.1", 80), {"one 10.244.0.12", f"two {NODE}"})

    def test_and_so_is_the_node(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE, TWO))
        assert all_of(lambda: world.ask(world.node, "10.96.0.1", 80), {f"one {NODE}", f"two {NODE}"})

    def test_who_comes_from_outside_the_cluster_is_answered_through_the_node(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE))
        assert world.ask(world.client, "10.96.0.1", 80) == f"one {NODE}"

    def test_a_pod_reaches_itself_through_its_service(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE))
        assert world.ask(world.one, "10.96.0.1", 80) == f"one {NODE}"

    def test_udp(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE, TWO, protocol="UDP"))
        assert all_of(lambda: world.ask_udp(world.one, "10.96.0.1", 80), {f"one {NODE}", "two 10.244.0.11"})
        assert all_of(lambda: world.ask_udp(world.client, "10.96.0.1", 80), {f"one {NODE}", f"two {NODE}"})

    def test_ipv6(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE_SIX, TWO_SIX, address="fd96::1"), server(ONE, address="10.96.0.1"))
        assert all_of(lambda: world.ask(world.one, "fd96::1", 80), {"one fd44::1", "two fd44::11"})
        assert world.ask(world.one, "10.96.0.1", 80) == f"one {NODE}"

    def test_an_endpoint_may_listen_on_the_nodes_loopback_alone(self, world: World, plane: Plane) -> None:
        plane.have(server(("127.0.0.1", 6443), port=443))
        assert world.ask(world.one, "10.96.0.1", 443) == "node 10.244.0.11"
        assert world.ask(world.one, "127.0.0.1", 6443) == "refused"

    def test_source_hashing_leads_a_client_always_to_the_same_endpoint(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE, TWO, scheduler="sh"))
        assert len({world.ask(world.client, "10.96.0.1", 80) for _ in range(20)}) == 1


class TestRefusing:
    def test_a_service_without_endpoints_refuses(self, world: World, plane: Plane) -> None:
        plane.have(server(), server(protocol="UDP"))
        for where in (world.one, world.node, world.client):
            assert world.ask(where, "10.96.0.1", 80) == "refused"
        assert world.ask_udp(world.one, "10.96.0.1", 80) == "refused"

    def test_one_that_has_some_elsewhere_but_may_not_use_them_is_silent(self, world: World, plane: Plane) -> None:
        plane.have(server(anywhere=True))
        assert world.ask(world.one, "10.96.0.1", 80, within=SOON) == "silence"

    def test_a_port_that_the_service_has_not_is_refused(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE))
        assert world.ask(world.one, "10.96.0.1", 81) == "refused"

    def test_a_cluster_ip_that_nobody_has_leads_nowhere(self, world: World, plane: Plane) -> None:
        assert world.ask(world.one, "10.96.0.9", 80, within=SOON) == "silence"


class TestAffinity:
    def test_a_client_keeps_its_endpoint_for_as_long_as_there_is_that(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE, TWO, affinity_seconds=600))
        (first,) = {world.ask(world.client, "10.96.0.1", 80) for _ in range(20)}
        kept, other = (ONE, TWO) if first.startswith("one") else (TWO, ONE)
        plane.have(server(*sorted([kept, other, ("10.244.0.99", 1)]), affinity_seconds=600))
        assert {world.ask(world.client, "10.96.0.1", 80) for _ in range(20)} == {first}
        plane.have(server(other, affinity_seconds=600))
        assert {world.ask(world.client, "10.96.0.1", 80) for _ in range(5)} == {
            f"{'two' if kept is ONE else 'one'} {NODE}"
        }
        plane.have(server(*sorted([kept, other]), affinity_seconds=600))
        assert first not in {world.ask(world.client, "10.96.0.1", 80) for _ in range(20)}

    def test_clients_are_told_apart(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE, TWO, affinity_seconds=600))
        for where in (world.one, world.two, world.node, world.client):
            assert len({world.ask(where, "10.96.0.1", 80) for _ in range(10)}) == 1
        assert nft(world, "list", "map", "inet", TABLE, "clients4").count(" timeout 10m") == 4

    def test_at_node_ports_and_over_ipv6(self, world: World, plane: Plane) -> None:
        plane.have(
            node_port(ONE, TWO, affinity_seconds=600),
            node_port(ONE_SIX, TWO_SIX, address="::", affinity_seconds=600),
            server(ONE_SIX, TWO_SIX, address="fd96::1", affinity_seconds=600),
        )
        for address, port in (("192.0.2.1", 30080), ("2001:db8::1", 30080), ("fd96::1", 80)):
            (seen,) = {world.ask(world.client, address, port) for _ in range(10)}
            assert seen.endswith(("10.244.0.1", "fd44::1"))

    def test_what_is_remembered_does_not_stay_on_the_packet(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE, affinity_seconds=600))
        nft(world, "add table ip watch")
        nft(world, "add chain ip watch seen { type filter hook postrouting priority 300; }")
        nft(world, "add rule ip watch seen tcp dport 8080 meta mark != 0 counter")
        try:
            assert world.ask(world.client, "10.96.0.1", 80) == f"one {NODE}"
            assert "counter packets 0" in nft(world, "list chain ip watch seen")
        finally:
            nft(world, "delete table ip watch")


class TestNodePorts:
    @pytest.mark.parametrize(
        ("where", "address"),
        [
            ("client", "192.0.2.1"),
            ("one", "192.0.2.1"),
            ("two", "10.244.0.1"),
            ("node", "127.0.0.1"),
            ("node", "192.0.2.1"),
        ],
    )
    def test_work_at_every_address_of_the_node(self, world: World, plane: Plane, where: str, address: str) -> None:
        plane.have(node_port(ONE, TWO))
        asking: Namespace = getattr(world, where)
        assert all_of(lambda: world.ask(asking, address, 30080), {f"one {NODE}", f"two {NODE}"})

    def test_over_ipv6_and_udp(self, world: World, plane: Plane) -> None:
        plane.have(node_port(ONE_SIX, address="::"), node_port(TWO, protocol="UDP"))
        assert world.ask(world.client, "2001:db8::1", 30080) == "one fd44::1"
        assert world.ask_udp(world.client, "192.0.2.1", 30080) == f"two {NODE}"

    def test_or_at_some_addresses_only(self, world: World, plane: Plane) -> None:
        plane.have(node_port(ONE, address="192.0.2.1"))
        assert world.ask(world.client, "192.0.2.1", 30080) == f"one {NODE}"
        assert world.ask(world.two, "10.244.0.1", 30080) == "refused"

    def test_without_endpoints_refuse(self, world: World, plane: Plane) -> None:
        plane.have(node_port())
        assert world.ask(world.client, "192.0.2.1", 30080) == "refused"

    @pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
    def test_and_so_to_the_node_itself_whoever_listens_there(self, world: World, plane: Plane, address: str) -> None:
        world.serve(world.node, address, 30083, "program")
        everywhere = "::" if ":" in address else "0.0.0.0"
        ports = [server(address=everywhere, port=30083, purpose="NodePort", protocol=one) for one in ("TCP", "UDP")]
        plane.have(*ports)
        for where in (world.node, world.one, world.client):
            assert world.ask(where, address, 30083) == "refused"
            assert world.ask_udp(where, address, 30083) == "refused"


class TestExternalPolicyLocal:
    def test_a_client_outside_is_led_to_an_endpoint_here_and_seen_with_its_address(
        self, world: World, plane: Plane
    ) -> None:
        plane.have(node_port(ONE, inside=(ONE, TWO)))
        assert {world.ask(world.client, "192.0.2.1", 30080) for _ in range(20)} == {f"one {CLIENT}"}

    def test_pods_and_the_node_itself_are_not_outside(self, world: World, plane: Plane) -> None:
        plane.have(node_port(ONE, inside=(ONE, TWO)))
        assert all_of(lambda: world.ask(world.one, "192.0.2.1", 30080), {f"one {NODE}", "two 10.244.0.11"})
        assert all_of(lambda: world.ask(world.node, "127.0.0.1", 30080), {f"one {NODE}", f"two {NODE}"})

    def test_without_endpoints_here_a_client_outside_hears_nothing(self, world: World, plane: Plane) -> None:
        plane.have(node_port(inside=(TWO,), anywhere=True))
        assert world.ask(world.client, "192.0.2.1", 30080, within=SOON) == "silence"
        assert world.ask(world.one, "192.0.2.1", 30080) == "two 10.244.0.11"

    def test_the_same_holds_at_a_load_balancers_address(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE, address="203.0.113.5", purpose="LoadBalancer", inside=(ONE, TWO)))
        assert {world.ask(world.client, "203.0.113.5", 80) for _ in range(20)} == {f"one {CLIENT}"}
        assert all_of(lambda: world.ask(world.two, "203.0.113.5", 80), {"one 10.244.0.12", f"two {NODE}"})


class TestLoadBalancers:
    def test_their_addresses_lead_to_the_endpoints(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE, address="203.0.113.5", purpose="LoadBalancer"))
        for where in (world.client, world.node, world.two):
            assert world.ask(where, "203.0.113.5", 80) == f"one {NODE}"

    def test_source_ranges_keep_others_out(self, world: World, plane: Plane) -> None:
        ranges = ("192.0.2.0/28", "198.51.100.0/24")
        plane.have(server(ONE, address="203.0.113.5", purpose="LoadBalancer", source_ranges=ranges))
        assert world.ask(world.client, "203.0.113.5", 80) == f"one {NODE}"
        assert world.ask(world.two, "203.0.113.5", 80, within=SOON) == "silence"
        plane.have(server(ONE, address="203.0.113.5", purpose="LoadBalancer", source_ranges=("10.0.0.0/8",)))
        assert world.ask(world.client, "203.0.113.5", 80, within=SOON) == "silence"
        assert world.ask(world.two, "203.0.113.5", 80) == f"one {NODE}"


class TestChanges:
    def test_connections_go_where_the_endpoints_are_now(self, world: World, plane: Plane) -> None:
        for endpoints, name in (((ONE,), "one"), ((TWO,), "two"), ((ONE,), "one")):
            plane.have(server(*endpoints))
            assert world.ask(world.client, "10.96.0.1", 80) == f"{name} {NODE}"

    def test_a_service_that_goes_leaves_nothing(self, world: World, plane: Plane) -> None:
        nothing = nft(world, "list", "map", "inet", TABLE, "slots4")
        plane.have(
            server(ONE, TWO),
            server(ONE, address="10.96.0.2", affinity_seconds=5),
            node_port(ONE, inside=(ONE, TWO)),
            server(ONE, address="203.0.113.5", purpose="LoadBalancer", source_ranges=("10.0.0.0/8",)),
        )
        assert nft(world, "list", "map", "inet", TABLE, "slots4") != nothing
        plane.have()
        assert "elements = { 10.244.0.0/16 }" in nft(world, "list", "set", "inet", TABLE, "pods4")
        left = [line for line in nft(world, "list", "table", "inet", TABLE).splitlines() if "elements" in line]
        assert [line.strip() for line in left] == ["elements = { 10.244.0.0/16 }", "elements = { fd44::/64 }"]

    def test_services_that_share_endpoints_do_not_take_them_from_each_other(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE), service="default/a")
        plane.have(server(ONE, address="10.96.0.2"), service="default/b")
        plane.have(service="default/a")
        assert world.ask(world.one, "10.96.0.2", 80) == f"one {NODE}"

    def test_a_table_that_somebody_emptied_is_made_anew_with_the_next_change(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE), service="default/a")
        nft(world, "flush ruleset")
        plane.have(server(TWO, address="10.96.0.2"), service="default/b")
        assert world.ask(world.client, "10.96.0.1", 80) == f"one {NODE}"
        assert world.ask(world.client, "10.96.0.2", 80) == f"two {NODE}"

    def test_and_without_any_change_once_it_is_looked_after(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE))
        assert plane.look_after() is None
        nft(world, "flush ruleset")
        assert plane.look_after() == ()
        assert world.ask(world.client, "10.96.0.1", 80) == f"one {NODE}"
        assert plane.look_after() is None

    def test_ranges_of_sources_may_become_narrower_and_wider(self, world: World, plane: Plane) -> None:
        for ranges in (("10.0.0.0/8",), ("10.1.0.0/16", "192.0.2.9/32"), ("192.0.0.0/16",), ("192.0.2.0/24",)):
            plane.have(server(ONE, address="203.0.113.5", purpose="LoadBalancer", source_ranges=ranges))
        assert world.ask(world.client, "203.0.113.5", 80) == f"one {NODE}"

    def test_after_any_changes_the_kernel_has_what_a_new_table_would_have(self, world: World, plane: Plane) -> None:
        chance = random.Random(5)
        endpoints = [(f"10.244.1.{number}", 80 + number % 2) for number in range(1, 6)]
        kept: dict[str, list[VirtualServer]] = {}
        for _ in range(80):
            name = f"default/{chance.randrange(4)}"
            kept[name] = [any_server(chance, name, endpoints) for _ in range(chance.randrange(4))]
            plane.have(*kept[name], service=name)
        changed = elements_in(world)
        plane.close()
        fresh = plane_of(world)
        try:
            for name, servers in kept.items():
                fresh.have(*servers, service=name)
            assert elements_in(world) == changed
        finally:
            fresh.close()


def any_server(chance: random.Random, name: str, endpoints: list[Endpoint]) -> VirtualServer:
    """Of a Service: no other asks for its address or its node port. Without affinity, whose members have numbers."""
    number = int(name[-1])
    some = tuple(sorted(chance.sample(endpoints, chance.randrange(len(endpoints)))))
    local = {"inside": some, "anywhere": bool(some)} if chance.random() < 0.3 else {}
    mine = tuple(one for one in some if chance.random() < 0.7) if local else some
    if chance.random() < 0.3:
        return server(*mine, address="0.0.0.0", port=30000 + number, purpose="NodePort", **local)
    if chance.random() < 0.3:
        ranges = chance.choice([(), ("10.0.0.0/8",), ("10.1.0.0/16", "192.0.2.0/24")])
        address = f"203.0.113.{number + 1}"
        return server(*mine, address=address, purpose="LoadBalancer", source_ranges=ranges, **local)
    protocol = chance.choice(["TCP", "UDP", "SCTP"])
    return server(*some, address=f"10.96.1.{number}", port=chance.choice([80, 81]), protocol=protocol)


def elements_in(world: World) -> list[str]:
    """All sets and maps with what is in them, in a certain order."""
    held = json.loads(nft(world, "-j", "list", "table", "inet", TABLE))["nftables"]
    found = [one[kind] for one in held for kind in ("set", "map") if kind in one]
    return sorted(
        f"{one['name']} {json.dumps(element)}" for one in found for element in one.get("elem") or () if one["name"]
    )


class TestUdp:
    """A client that keeps sending from one port has one flow, which the kernel would never lead anywhere else."""

    @pytest.fixture
    def client(self, world: World) -> Iterator[Callable[[], str]]:
        with world.client.socket("10.96.0.1", socket.SOCK_DGRAM) as made:
            made.bind((CLIENT, 0))

            def ask() -> str:
                made.sendto(b"who", self.to)
                return made.recv(200).decode()

            yield ask

    to = ("10.96.0.1", 80)

    def test_its_flow_ends_with_its_endpoint(self, world: World, plane: Plane, client: Callable[[], str]) -> None:
        plane.have(server(ONE, protocol="UDP"))
        assert client() == f"one {NODE}"
        plane.have(server(TWO, protocol="UDP"))
        assert client() == f"two {NODE}"

    def test_and_with_nothing_else(self, world: World, plane: Plane, client: Callable[[], str]) -> None:
        plane.have(server(ONE, protocol="UDP"))
        assert client() == f"one {NODE}"
        plane.have(server(ONE, TWO, protocol="UDP"))
        assert {client() for _ in range(20)} == {f"one {NODE}"}

    def test_nor_with_one_that_serves_though_no_new_ones_come(
        self, world: World, plane: Plane, client: Callable[[], str]
    ) -> None:
        plane.have(server(ONE, protocol="UDP"))
        assert client() == f"one {NODE}"
        plane.have(server(TWO, protocol="UDP", serving=(ONE, TWO)))
        assert client() == f"one {NODE}"
        (row,) = plane.rows()
        weights = {(one["address"], one["port"]): one["weight"] for one in row["destinations"]}
        assert (weights[TWO], weights[ONE]) == (1, 0)
        plane.have(server(TWO, protocol="UDP"))
        assert client() == f"two {NODE}"

    def test_at_node_ports_too(self, world: World, plane: Plane, client: Callable[[], str]) -> None:
        self.to = ("192.0.2.1", 30080)
        plane.have(node_port(ONE, protocol="UDP"))
        assert client() == f"one {NODE}"
        plane.have(node_port(TWO, protocol="UDP"))
        assert client() == f"two {NODE}"


class TestCounting:
    def test_open_connections_are_those_of_the_endpoint_that_has_them(self, world: World, plane: Plane) -> None:
        # addresses and ports that no other test has had connections to
        plane.have(
            server(ONE, TWO, address="10.96.7.7"), server(ONE, TWO, address="0.0.0.0", port=30777, purpose="NodePort")
        )
        with world.one.socket("10.96.7.7") as made:
            made.connect(("10.96.7.7", 80))
            cluster_ip, port = sorted(plane.rows(), key=lambda row: row["port"])
        assert sorted(one["connections"] for one in cluster_ip["destinations"]) == [0, 1]
        assert [one["connections"] for one in port["destinations"]] == [0, 0]
        assert (cluster_ip["service"], cluster_ip["scheduler"]) == ("default/web", "random")

    def test_the_kernel_is_asked_for_connections_that_were_led_alone(self, world: World, plane: Plane) -> None:
        plane.have(server(ONE, address="10.96.7.8"))
        assert world.ask(world.two, "10.96.7.8", 80) == "one 10.244.0.12"
        assert world.ask(world.client, "10.244.0.12", 8080) == "two 192.0.2.9"
        with world.node.here():
            every, led = ({flow.virtual[0] for flow in conntrack.flows(led=led)} for led in (False, True))
        assert {"10.96.7.8", "10.244.0.12"} <= every
        assert "10.96.7.8" in led and "10.244.0.12" not in led


class TestLifetime:
    def test_its_end_leaves_no_table(self, world: World) -> None:
        plane = plane_of(world)
        plane.have(server(ONE))
        plane.close()
        assert nft(world, "list", "tables") == ""

    def test_what_a_killed_run_left_leads_connections_until_the_new_table_is_whole(self, world: World) -> None:
        plane_of(world).have(server(ONE), server(ONE, address="10.96.0.2"))
        plane = plane_of(world)
        try:
            assert world.ask(world.client, "10.96.0.1", 80) == f"one {NODE}"
            plane.have(server(TWO))
            assert world.ask(world.client, "10.96.0.1", 80) == f"two {NODE}"
            assert world.ask(world.client, "10.96.0.2", 80, within=SOON) == "silence"
            assert nft(world, "list", "tables").count("table inet") == 1
        finally:
            plane.close()
        assert nft(world, "list", "tables") == ""

    def test_nobody_is_refused_while_a_new_table_takes_the_place_of_an_old_one(self, world: World) -> None:
        """However often: by the names that tables have in turn."""
        plane = plane_of(world)
        plane.have(server(ONE))
        heard: list[str] = []
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                heard.append(world.ask(world.client, "10.96.0.1", 80, again=False))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            for _ in range(6):  # none of them is closed: they are killed
                plane = plane_of(world)
                plane.have(server(ONE))
        finally:
            over.set()
            asking.join()
            plane.close()
        assert set(heard) == {f"one {NODE}"}

    def test_an_end_before_the_first_commit_leaves_nothing_of_a_killed_run(self, world: World) -> None:
        plane_of(world).have(server(ONE))
        plane_of(world).close()
        assert nft(world, "list", "tables") == ""

    def test_other_tables_are_left_alone(self, world: World) -> None:
        nft(world, "add table inet kubecore-other")
        plane_of(world).close()
        assert nft(world, "list", "tables") == "table inet kubecore-other\n"
        nft(world, "delete table inet kubecore-other")
