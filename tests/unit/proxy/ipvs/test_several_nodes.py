"""Mode ipvs on a host of several nodes: what the kernel is told where it makes a difference whose a connection is."""

from __future__ import annotations

import pytest

from kubecore.api.endpoint_choice import Endpoint
from kubecore.proxy.ipvs import table as ipvs
from kubecore.proxy.virtual_servers import NodeHere, Part, VirtualServer
from tests.unit.proxy.builders import virtual_server as server
from tests.unit.proxy.ipvs.fake_kernel import FakeKernel
from tests.unit.proxy.ipvs.test_table import ONE, TWO, Told

A = NodeHere("a", pods=("10.244.0.0/24",), addresses=("192.0.2.1",))
B = NodeHere("b", pods=("10.244.1.0/24",), addresses=("192.0.2.2",))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setattr(ipvs, "_set_up", lambda: None)
    return Told(FakeKernel())


def internal(a: tuple[Endpoint, ...], b: tuple[Endpoint, ...]) -> VirtualServer:
    return server(*dict.fromkeys(a + b), parts=(Part(A, a), Part(B, b)))


def test_pods_of_each_have_a_service_of_their_own_that_a_mark_leads_to(told: Told) -> None:
    told.apply(internal((ONE,), (TWO,)))
    assert told.destinations() == {
        "10.96.0.1:80": {"10.0.0.1:80": 1, "10.0.0.2:8080": 1},
        "mark of 10.96.0.1:80 for node 0": {"10.0.0.1:80": 1},
        "mark of 10.96.0.1:80 for node 1": {"10.0.0.2:8080": 1},
    }
    assert told.rows_of("10.96.0.1") == [ONE, TWO]


def test_one_that_has_no_endpoint_or_those_of_all_has_none(told: Told) -> None:
    told.apply(internal((), (ONE, TWO)))
    assert set(told.destinations()) == {"10.96.0.1:80"}
    told.apply(server(ONE, TWO))
    assert told.rules.marks == {}


def test_a_node_port_at_the_address_of_one_is_that_ones(told: Told) -> None:
    both = (ONE, TWO)
    parts = (Part(A, (ONE,), both), Part(B, (TWO,), both))
    told.apply(server(*both, inside=both, parts=parts, address="0.0.0.0", port=30080, purpose="NodePort"))
    assert told.destinations()["192.0.2.1:30080"] == {"10.0.0.1:80": 1}
    assert told.destinations()["mark of 192.0.2.1:30080"] == {"10.0.0.1:80": 1, "10.0.0.2:8080": 1}


def test_they_count_as_one_where_nf_tables_is_missing_and_that_is_told(told: Told) -> None:
    told.rules.trouble = "the program nft is missing"
    problems, _ = told.table.apply("default/web", [internal((ONE,), (TWO,))])
    message = "nodes of this host count as one for TCP 10.96.0.1:80: the program nft is missing"
    assert [(one.reason, one.message) for one in problems] == [("TrafficPolicyNotEnforced", message)]
