"""What virtual servers put into the sets and maps of mode nftables."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest

from kubecore.proxy.nftables import elements
from kubecore.proxy.nftables.chains import MASQUERADE_MARK, MEMBER_MARK, MEMBER_MASK
from kubecore.proxy.nftables.elements import Elements, Members, elements_of
from kubecore.proxy.nftables.messages import DROP, GOTO, verdict
from kubecore.proxy.virtual_servers import NodeHere, Part, VirtualServer
from tests.unit.proxy.builders import virtual_server as server

ONE, TWO = ("10.0.0.1", 80), ("10.0.0.2", 8080)


def of(*servers: VirtualServer) -> Elements:
    return elements_of(servers, Members())


def key(address: str, port: int = 80, protocol: int = 6) -> bytes:
    packed = ipaddress.ip_address(address).packed if address else b""
    return packed + struct.pack("=B3x", protocol) + struct.pack("!H2x", port)


def slots(found: Elements, name: str = "slots4") -> dict[int, bytes]:
    return {struct.unpack("=I", place[-4:])[0]: data for (where, place), data in found.own.items() if where == name}


class TestVerdicts:
    def verdict(self, found: Elements, name: str = "services4") -> bytes:
        (data,) = [data for (where, _), data in found.own.items() if where == name]
        return data

    def test_endpoints_are_picked_by_the_chain_of_their_number(self) -> None:
        found = of(server(ONE, TWO))
        assert self.verdict(found) == verdict(GOTO, "pick4-2")
        assert {pick.name for pick in found.chains} == {"pick4-2"}

    def test_no_endpoints_refuse_and_none_of_ours_are_silent(self) -> None:
        assert self.verdict(of(server())) == verdict(GOTO, "refuse")
        assert self.verdict(of(server(anywhere=True))) == verdict(DROP)

    @pytest.mark.parametrize(
        ("fields", "chain"),
        [
            ({"scheduler": "sh"}, "pick4-1-source"),
            ({"affinity_seconds": 60.0}, "pick4-1-sticky-60"),
            ({"purpose": "LoadBalancer"}, "pick4-1-masquerade"),
            ({"address": "fd00::1"}, "pick6-1"),
        ],
    )
    def test_other_ways_of_picking_have_chains_of_their_own(self, fields: dict[str, Any], chain: str) -> None:
        found = of(server(ONE, **fields))
        assert self.verdict(found, "services6" if "6-" in chain else "services4") == verdict(GOTO, chain)

    def test_a_node_port_of_every_address_is_found_by_its_port_alone(self) -> None:
        found = of(server(ONE, address="0.0.0.0", port=30080, purpose="NodePort"))
        assert found.own["ports4", key("", 30080)] == verdict(GOTO, "pick4-1-port-masquerade")
        assert slots(found, "port-slots4") == {0: key("10.0.0.1")[:4] + struct.pack("!H2x", 80)}

    def test_at_an_external_address_of_policy_local_it_depends_on_who_comes(self) -> None:
        found = of(server(ONE, inside=(ONE, TWO), purpose="LoadBalancer", address="192.0.2.5"))
        where = key("192.0.2.5")
        assert found.own["services4", where] == verdict(GOTO, "origin4")
        assert found.own["inside4", where] == verdict(GOTO, "pick4-2")
        assert found.own["outside4", where] == verdict(GOTO, "pick4-1-outside")
        assert sorted(slots(found)) == [0, 1, 1 << 20]

    def test_who_is_outside_has_no_verdict_there_without_local_endpoints(self) -> None:
        found = of(server(inside=(TWO,), anywhere=True, purpose="LoadBalancer", address="192.0.2.5"))
        assert not [place for place in found.own if place[0] == "outside4"]


class TestSeveralNodes:
    NODES = (NodeHere("a", pods=("10.244.0.0/24",)), NodeHere("b", pods=("10.244.1.0/24",)))

    def test_each_has_verdicts_and_slots_of_its_own(self) -> None:
        parts = (Part(self.NODES[0], (ONE,)), Part(self.NODES[1], (ONE, TWO)))
        found = of(server(ONE, TWO, parts=parts))
        assert found.own["services4", key("10.96.0.1")] == verdict(GOTO, "nodes4")
        told = {place[0]: data for place, data in found.own.items() if place[0].endswith("outside4")}
        assert told == {
            "outside4": verdict(GOTO, "pick4-2"),
            "node0-outside4": verdict(GOTO, "pick4-1-node0"),
            "node1-outside4": verdict(GOTO, "pick4-2-node1"),
        }
        assert [len(slots(found, f"{name}slots4")) for name in ("", "node0-", "node1-")] == [2, 1, 2]

    def test_one_without_endpoints_has_no_verdict(self) -> None:
        found = of(server(TWO, parts=(Part(self.NODES[0], ()), Part(self.NODES[1], (TWO,)))))
        assert not [place for place in found.own if place[0].startswith("node0-")]

    def test_who_is_inside_is_led_alike_at_a_node_port(self) -> None:
        both = (ONE, TWO)
        parts = (Part(self.NODES[0], (ONE,), both), Part(self.NODES[1], (TWO,), both))
        found = of(server(*both, inside=both, parts=parts, address="0.0.0.0", port=30080, purpose="NodePort"))
        where = key("", 30080)
        assert found.own["ports4", where] == verdict(GOTO, "port-nodes4")
        for name in ("port-inside4", "port-node0-inside4", "port-node1-inside4"):
            assert found.own[name, where] == verdict(GOTO, "pick4-2-port")
        assert found.own["port-node1-outside4", where] == verdict(GOTO, "pick4-1-port-node1")


class TestSlots:
    def test_every_endpoint_has_one(self) -> None:
        found = slots(of(server(ONE, TWO)))
        assert found == {
            0: bytes([10, 0, 0, 1]) + struct.pack("!H2x", 80),
            1: bytes([10, 0, 0, 2]) + struct.pack("!H2x", 8080),
        }

    def test_with_affinity_it_holds_the_number_of_a_member(self) -> None:
        found = of(server(ONE, TWO, affinity_seconds=60.0))
        marks = [struct.unpack("=I", data)[0] for data in slots(found, "turns4").values()]
        assert [mark & MEMBER_MASK for mark in marks] == [MEMBER_MARK] * 2
        assert sorted(slots(found, "members4")) == sorted(marks)
        assert found.members == {ONE, TWO}

    def test_which_says_too_whether_to_masquerade(self) -> None:
        found = of(server(ONE, affinity_seconds=60.0, purpose="LoadBalancer"))
        (mark,) = slots(found, "members4")
        assert mark & MASQUERADE_MARK

    def test_endpoints_that_would_talk_to_themselves_are_known(self) -> None:
        found = of(server(ONE))
        assert ("loops4", bytes([10, 0, 0, 1]) * 2) in found.shared
        assert ("addresses4", bytes([10, 96, 0, 1])) in found.shared


class TestSourceRanges:
    def test_an_address_with_ranges_is_restricted_to_them(self) -> None:
        found = of(server(ONE, purpose="LoadBalancer", address="192.0.2.5", source_ranges=("10.0.0.0/8",)))
        where = key("192.0.2.5")
        place = ("allowed4", where + bytes([10, 0, 0, 0]))
        assert (found.own["restricted4", where], found.own[place]) == (b"", b"")
        assert found.ends[place] == where + bytes([10, 255, 255, 255])


class TestMembers:
    def test_a_member_keeps_its_number_while_any_service_has_it(self) -> None:
        members = Members()
        first = members.number(ONE)
        members.exchange(set(), {ONE})
        members.exchange(set(), {ONE})
        members.exchange({ONE}, set())
        assert members.number(ONE) == first
        members.exchange({ONE}, set())
        assert members.number(TWO) != first
        assert members.number(ONE) != first

    def test_numbers_leave_out_the_bit_for_masquerading_and_come_round(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(elements, "MEMBERS", 2 * MASQUERADE_MARK)
        members = Members()
        seen = {members.number(("10.0.0.1", port)) for port in range(2 * MASQUERADE_MARK)}
        assert len(seen) == 2 * MASQUERADE_MARK
        assert not any(number & MASQUERADE_MARK for number in seen)
        assert not any(number & MEMBER_MASK for number in seen)
        with pytest.raises(OverflowError):
            members.number(TWO)
