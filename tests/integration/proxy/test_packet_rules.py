"""What nf_tables does beside IPVS. This kernel has no IPVS: a table of DNAT stands for it where packets must be led."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kubecore.netlink import Netlink
from kubecore.proxy.ipvs.packet_rules import PacketRules
from kubecore.proxy.leading import INSIDE, Group
from kubecore.proxy.modes import unavailable
from kubecore.proxy.nftables.ruleset import Site
from kubecore.proxy.virtual_servers import NodeHere, Part, VirtualServer
from tests.support.net_world import SOON, World, make_world, set_in

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable("nftables")), reason=unavailable("nftables")),
]

ADDRESSES = {"192.0.2.1": "192.0.2.9", "2001:db8::1": "2001:db8::9"}
"""The node's, and the client's for each."""
VIP = {4: "10.96.0.1", 6: "fd96::1"}
PODS = {4: ("10.244.0.11", "10.244.0.12"), 6: ("fd44::11", "fd44::12")}
BOTH = pytest.mark.parametrize("version", [4, 6])
MARK = 0x6C000001


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = make_world()
    for address in ADDRESSES:
        world.serve(world.node, address, 80, "served")
    for pods in PODS.values():
        world.serve(world.one, pods[0], 8080, "one")
        world.serve(world.two, pods[1], 8080, "two")
    with world.node.here(), Netlink() as netlink:
        for address in VIP.values():
            netlink.add_address(1, ipaddress.ip_interface(address))
    set_in(world.node, "ipv4/ip_forward", "1")
    set_in(world.node, "ipv6/conf/all/forwarding", "1")
    yield world
    world.close()


@pytest.fixture
def rules(world: World) -> Iterator[PacketRules]:
    rules = PacketRules(Site(table="kubecore-test", pods=("10.244.0.0/16", "fd44::/64")))
    yield rules
    with world.node.here():
        rules.close()


@pytest.fixture
def ipvs(world: World) -> Iterator[None]:
    """Who comes for the virtual address is led to pod one, with the mark to pod two."""
    led = []
    for version, family in ((4, "ip"), (6, "ip6")):
        one, two = (f"[{pod}]:8080" if version == 6 else f"{pod}:8080" for pod in PODS[version])
        for mark, pod in ((f"meta mark {MARK}", two), ("", one)):
            led.append(f"{family} daddr {VIP[version]} tcp dport 80 {mark} dnat {family} to {pod}")
    chains = [f"chain {hook} {{ type nat hook {hook} priority -100; {'; '.join(led)}; }}" for hook in HOOKS]
    with world.node.here():
        text = "\n".join(["table inet ipvs {", *chains, "}\n"])
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
    yield
    with world.node.here():
        subprocess.run(["nft", "delete", "table", "inet", "ipvs"], check=True)


HOOKS = ("prerouting", "output")


def server(address: str, *ranges: str) -> VirtualServer:
    return VirtualServer("TCP", address, 80, "LoadBalancer", "rr", None, (), source_ranges=ranges)


def bring(world: World, rules: PacketRules, servers: list[VirtualServer], marks: dict[str, int] | None = None) -> None:
    """As the mode does, once IPVS has the servers."""
    known = {(one.key, INSIDE): mark for one in servers if (mark := (marks or {}).get(one.address))}
    with world.node.here():
        rules.tighten("default/web", servers, known)
        rules.loosen("default/web", servers, known)


class TestSourceRanges:
    @pytest.mark.parametrize(("address", "client"), ADDRESSES.items())
    def test_only_clients_of_the_ranges_are_let_in(
        self, world: World, rules: PacketRules, address: str, client: str
    ) -> None:
        own, other = (f"{client}/128", "fd00::/8") if ":" in client else (f"{client}/32", "10.0.0.0/8")
        bring(world, rules, [server(address, other)])
        assert world.ask(world.client, address, 80, within=SOON) == "silence"
        bring(world, rules, [server(address, other, own)])
        assert world.ask(world.client, address, 80) == f"served {client}"
        assert world.ask(world.node, address, 80, within=SOON) == "silence"
        bring(world, rules, [server(address)])
        assert world.ask(world.node, address, 80) == f"served {address}"

    def test_rules_that_somebody_has_removed_are_made_again_once_they_are_looked_after(
        self, world: World, rules: PacketRules
    ) -> None:
        address = "192.0.2.1"
        servers = [server(address, "10.0.0.0/8")]
        bring(world, rules, servers)
        with world.node.here():
            assert rules.restore() is None
            subprocess.run(["nft", "flush", "ruleset"], check=True)
            assert rules.restore() == ["default/web"]
        assert world.ask(world.client, address, 80) == f"served {ADDRESSES[address]}"
        bring(world, rules, servers)
        assert world.ask(world.client, address, 80, within=SOON) == "silence"

    def test_who_is_connected_stays_so(self, world: World, rules: PacketRules) -> None:
        bring(world, rules, [server("192.0.2.1", "192.0.2.0/24")])
        with world.client.socket("192.0.2.1") as client:
            client.connect(("192.0.2.1", 80))
            bring(world, rules, [server("192.0.2.1", "10.0.0.0/8")])
            assert client.recv(100) == b"served 192.0.2.9"
            assert client.recv(100) == b""


class TestWithoutEndpointsHere:
    @pytest.mark.parametrize(("address", "client"), ADDRESSES.items())
    def test_who_comes_is_dropped_for_as_long_as_there_are_some_elsewhere(
        self, world: World, rules: PacketRules, address: str, client: str
    ) -> None:
        silent = replace(server(address), anywhere=True)
        bring(world, rules, [silent])
        for where in (world.client, world.node):
            assert world.ask(where, address, 80, within=SOON) == "silence"
        with world.node.here():  # IPVS has no endpoint yet
            rules.tighten("default/web", [server(address)], {})
        assert world.ask(world.client, address, 80, within=SOON) == "silence"
        with world.node.here():
            rules.loosen("default/web", [server(address)], {})
        assert world.ask(world.client, address, 80) == f"served {client}"

    @pytest.mark.usefixtures("ipvs")
    @BOTH
    def test_pods_and_the_node_are_led_by_the_mark_all_the_same(
        self, world: World, rules: PacketRules, version: int
    ) -> None:
        silent = replace(server(VIP[version]), anywhere=True, inside=((PODS[version][1], 8080),))
        bring(world, rules, [silent], {VIP[version]: MARK})
        assert world.ask(world.client, VIP[version], 80, within=SOON) == "silence"
        assert world.ask(world.one, VIP[version], 80).startswith("two ")
        assert world.ask(world.node, VIP[version], 80).startswith("two ")
        bring(world, rules, [])
        assert world.ask(world.client, VIP[version], 80).startswith("one ")
        assert world.ask(world.two, VIP[version], 80).startswith("one ")


class TestSeveralNodes:
    """Pod one is on the first, pod two on the second."""

    NODES = (
        NodeHere("first", pods=("10.244.0.8/30", "fd44::10/127"), addresses=("10.244.0.1", "fd44::1")),
        NodeHere("second", pods=("10.244.0.12/30", "fd44::12/127"), addresses=("192.0.2.1", "2001:db8::1")),
    )

    @pytest.fixture
    def rules(self, world: World) -> Iterator[PacketRules]:
        rules = PacketRules(Site(table="kubecore-test", pods=("10.244.0.0/16", "fd44::/64"), nodes=self.NODES))
        yield rules
        with world.node.here():
            rules.close()

    @pytest.mark.usefixtures("ipvs")
    @BOTH
    def test_pods_are_led_by_the_mark_of_their_node_or_dropped_where_it_has_none(
        self, world: World, rules: PacketRules, version: int
    ) -> None:
        one, two = ((pod, 8080) for pod in PODS[version])
        parts = (Part(self.NODES[0], (two,)), Part(self.NODES[1], (one, two)))
        apart = replace(server(VIP[version]), purpose="ClusterIP", endpoints=(one, two), anywhere=True, parts=parts)
        with world.node.here():
            rules.tighten("default/web", [apart], {(apart.key, Group(0, inside=True)): MARK})
        assert world.ask(world.one, VIP[version], 80).startswith("two ")
        for where in (world.two, world.client, world.node):
            assert world.ask(where, VIP[version], 80).startswith("one ")
        silent = replace(apart, parts=(Part(self.NODES[0], ()), parts[1]))
        with world.node.here():
            rules.tighten("default/web", [silent], {})
        assert world.ask(world.one, VIP[version], 80, within=SOON) == "silence"
        assert world.ask(world.two, VIP[version], 80).startswith("one ")


class TestLoops:
    @pytest.mark.usefixtures("ipvs")
    @BOTH
    def test_a_pod_that_is_led_to_itself_is_answered_and_others_are_seen_as_they_are(
        self, world: World, rules: PacketRules, version: int
    ) -> None:
        one, two = PODS[version]
        gateway = {4: "10.244.0.1", 6: "fd44::1"}[version]
        assert world.ask(world.one, VIP[version], 80, within=SOON) == "silence"
        with world.node.here():
            rules.reflect("default/web", [(one, 8080)])
            rules.reflect("default/other", [(one, 8080)])
            rules.commit()
        assert world.ask(world.one, VIP[version], 80) == f"one {gateway}"
        assert world.ask(world.two, VIP[version], 80) == f"one {two}"
        with world.node.here():
            rules.reflect("default/web", [])
            rules.commit()
        assert world.ask(world.one, VIP[version], 80) == f"one {gateway}"
        with world.node.here():
            rules.reflect("default/other", [])
            rules.commit()
        assert world.ask(world.one, VIP[version], 80, within=SOON) == "silence"


def test_services_do_not_touch_each_other_and_nothing_is_left_at_the_end(world: World, rules: PacketRules) -> None:
    def tables() -> str:
        return subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout

    with world.node.here():
        rules.tighten("default/web", [server("192.0.2.1")], {})
        rules.commit()
        assert tables() == ""
        rules.tighten("default/web", [server("192.0.2.1", "10.0.0.0/8")], {})
        rules.tighten("default/other", [server("2001:db8::1", "fd00::/8")], {})
        rules.loosen("default/web", [], {})
        assert "kubecore-test" in tables()
    assert world.ask(world.client, "192.0.2.1", 80) == "served 192.0.2.9"
    assert world.ask(world.client, "2001:db8::1", 80, within=SOON) == "silence"
    with world.node.here():
        rules.close()
        assert tables() == ""


def test_rules_of_a_killed_run_hold_until_all_have_been_asked_for_anew(world: World, rules: PacketRules) -> None:
    address, client = "192.0.2.1", "192.0.2.9"
    bring(world, rules, [server(address, "10.0.0.0/8")])  # and is killed
    after = PacketRules(Site(table="kubecore-test"))
    try:
        bring(world, after, [server("2001:db8::1", "fd00::/8")])
        assert world.ask(world.client, address, 80, within=SOON) == "silence"
        with world.node.here():
            after.sweep()
        assert world.ask(world.client, address, 80) == f"served {client}"
        assert world.ask(world.client, "2001:db8::1", 80, within=SOON) == "silence"
    finally:
        with world.node.here():
            after.close()
            left = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert left == ""
