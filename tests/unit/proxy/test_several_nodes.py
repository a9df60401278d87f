"""Nodes that share a proxy: each counts for itself, by its pods' ranges and its own addresses."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.api.endpoint_choice import Endpoint
from kubecore.client.client import Object
from kubecore.proxy.leading import INSIDE, Group, Rule, endpoints_of, rules
from kubecore.proxy.table import ServiceTable
from kubecore.proxy.virtual_servers import (
    HealthCheck,
    NodeHere,
    NodeView,
    Part,
    VirtualServer,
    health_check,
    virtual_servers,
)
from tests.unit.proxy.builders import endpoint, endpoint_slice, port, service, vip

A = NodeHere("a", "east", ("10.244.0.0/24",), ("10.244.0.1",))
B = NodeHere("b", "west", ("10.244.1.0/24",), ("10.244.1.1",))
BOTH = NodeView(nodes=(A, B))
ON_A, ON_B, ELSEWHERE = "10.244.0.5", "10.244.1.5", "10.244.9.5"
ONE_EACH = (endpoint(ON_A, node="a"), endpoint(ON_B, node="b"))


def servers(of: Object, *given: Object, view: NodeView = BOTH) -> dict[str, VirtualServer]:
    return {one.purpose: one for one in virtual_servers(of, [endpoint_slice(*given)], view)}


def cluster_ip(*given: Object, view: NodeView = BOTH, **spec: Any) -> VirtualServer:
    return servers(service(**spec), *given, view=view)["ClusterIP"]


def at(*addresses: str) -> tuple[Endpoint, ...]:
    return tuple((one, 80) for one in addresses)


class TestPolicyLocal:
    def test_pods_of_a_node_have_the_endpoints_of_that_node(self) -> None:
        found = cluster_ip(*ONE_EACH, internalTrafficPolicy="Local")
        assert found.parts == (Part(A, at(ON_A)), Part(B, at(ON_B)))

    def test_a_node_without_an_endpoint_has_none_while_another_one_has(self) -> None:
        found = cluster_ip(ONE_EACH[1], internalTrafficPolicy="Local")
        assert (found.parts, found.anywhere) == ((Part(A, ()), Part(B, at(ON_B))), True)

    def test_that_may_be_so_at_any_moment_and_never_for_want_of_hints_that_fit(self) -> None:
        hinted = [endpoint(ON_A, node="a", for_nodes="a"), endpoint(ON_B, node="b", for_nodes="b")]
        assert cluster_ip(*hinted, internalTrafficPolicy="Local").guarded
        assert not cluster_ip(*hinted).guarded
        outer = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ingress": [{"ip": "203.0.113.1"}]}
        found = servers(service("web", port(80, node_port=30080), **outer), *hinted)
        assert {name: one.guarded for name, one in found.items()} == {
            "ClusterIP": False,
            "LoadBalancer": False,
            "NodePort": True,
        }

    def test_who_may_be_any_nodes_has_those_of_all_of_them_but_of_no_others(self) -> None:
        found = cluster_ip(*ONE_EACH, endpoint(ELSEWHERE, node="x"), internalTrafficPolicy="Local")
        assert found.endpoints == at(ON_A, ON_B)

    def test_those_of_one_node_that_are_draining_do_while_it_has_none_ready(self) -> None:
        draining = endpoint(ON_A, node="a", ready=False, serving=True, terminating=True)
        found = cluster_ip(draining, ONE_EACH[1], internalTrafficPolicy="Local")
        assert found.parts == (Part(A, at(ON_A)), Part(B, at(ON_B)))
        assert found.endpoints == at(ON_B)

    def test_of_an_external_address_binds_clients_that_come_to_a_nodes_own_address(self) -> None:
        of = service("web", port(80, node_port=30080), type="NodePort", externalTrafficPolicy="Local")
        found = servers(of, *ONE_EACH)["NodePort"]
        everywhere = at(ON_A, ON_B)
        assert found.parts == (Part(A, at(ON_A), everywhere), Part(B, at(ON_B), everywhere))
        assert (found.endpoints, found.inside) == (everywhere, everywhere)

    def test_and_nobody_at_an_address_that_is_no_single_nodes(self) -> None:
        of = service(
            "web", type="LoadBalancer", externalTrafficPolicy="Local", ingress=[{"ip": "203.0.113.1"}], externalIPs=[]
        )
        found = servers(of, *ONE_EACH)["LoadBalancer"]
        assert (found.endpoints, found.inside, found.parts) == (at(ON_A, ON_B), at(ON_A, ON_B), ())

    def test_a_node_port_at_one_nodes_address_alone_is_that_nodes(self) -> None:
        of = service("web", port(80, node_port=30080), type="NodePort", externalTrafficPolicy="Local")
        view = NodeView(nodes=(A, B), node_port_addresses=B.addresses)
        found = servers(of, *ONE_EACH, view=view)["NodePort"]
        assert (found.endpoints, found.inside, found.parts) == (at(ON_B), at(ON_A, ON_B), ())


class TestHints:
    def test_pods_of_a_node_prefer_the_endpoints_meant_for_it(self) -> None:
        given = [endpoint(ON_A, for_nodes="a", for_zones="east"), endpoint(ON_B, for_nodes="b", for_zones="west")]
        assert cluster_ip(*given).parts == (Part(A, at(ON_A)), Part(B, at(ON_B)))

    def test_or_for_its_zone(self) -> None:
        given = [endpoint(ON_A, for_zones="east"), endpoint(ON_B, for_zones="west"), endpoint(ELSEWHERE, for_zones="x")]
        found = cluster_ip(*given)
        assert found.parts == (Part(A, at(ON_A)), Part(B, at(ON_B)))
        assert found.endpoints == at(ON_A, ON_B)

    def test_also_by_way_of_a_load_balancers_address_of_policy_local(self) -> None:
        given = [endpoint(ON_A, node="a", for_nodes="a"), endpoint(ON_B, node="b", for_nodes="b")]
        of = service(type="LoadBalancer", externalTrafficPolicy="Local", ingress=[{"ip": "203.0.113.1"}])
        assert servers(of, *given)["LoadBalancer"].parts == (Part(A, at(ON_A)), Part(B, at(ON_B)))


class TestWhereItMakesNoDifference:
    @pytest.mark.parametrize(
        "given",
        [
            ONE_EACH,
            [endpoint(ON_A, for_zones="east west"), endpoint(ON_B, for_zones="east west")],
            [endpoint(ON_A, for_nodes="a", for_zones="east"), endpoint(ON_B)],
        ],
        ids=["no hints", "one zone's", "not all with hints"],
    )
    def test_there_is_one_set_for_all(self, given: list[Object]) -> None:
        assert cluster_ip(*given).parts == ()

    def test_nor_has_policy_local_more_while_there_is_nothing_to_choose_from(self) -> None:
        assert cluster_ip(internalTrafficPolicy="Local").parts == ()

    def test_a_single_node_is_as_one_with_a_proxy_of_its_own(self) -> None:
        given = [*ONE_EACH, endpoint("10.244.0.6", node="a")]
        for spec in ({}, {"internalTrafficPolicy": "Local"}):
            alone, shared = NodeView("a", "east"), NodeView(nodes=(A,))
            assert cluster_ip(*given, view=shared, **spec) == cluster_ip(*given, view=alone, **spec)


class TestHealthChecks:
    def test_count_each_nodes_endpoints_at_its_address_and_all_of_them_elsewhere(self) -> None:
        of = service(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=32000)
        given = [*ONE_EACH, endpoint("10.244.1.6", node="b"), endpoint(ELSEWHERE, node="x")]
        found = health_check(of, [endpoint_slice(*given)], BOTH)
        assert found == HealthCheck(32000, 3, (("10.244.0.1", 1), ("10.244.1.1", 2)))
        assert [found.endpoints_at(one) for one in ("10.244.0.1", "10.244.1.1", "192.0.2.1")] == [1, 2, 3]


class TestRules:
    def test_the_host_which_is_all_nodes_comes_before_the_ranges_that_its_addresses_are_in(self) -> None:
        asked = list(rules(cluster_ip(*ONE_EACH, internalTrafficPolicy="Local")))
        assert asked == [
            Rule(("10.244.0.1", "10.244.1.1"), (), None),
            Rule(A.pods, (), Group(0, inside=False)),
            Rule(B.pods, (), Group(1, inside=False)),
        ]

    def test_at_a_node_port_the_node_that_is_asked_counts_most(self) -> None:
        of = service("web", port(80, node_port=30080), type="NodePort", externalTrafficPolicy="Local")
        server = servers(of, *ONE_EACH)["NodePort"]
        asked = list(rules(server))
        assert asked == [
            Rule("inside", A.addresses, INSIDE),
            Rule("all", A.addresses, Group(0, inside=False)),
            Rule("inside", B.addresses, INSIDE),
            Rule("all", B.addresses, Group(1, inside=False)),
            Rule(("10.244.0.1", "10.244.1.1"), (), INSIDE),
            Rule(A.pods, (), INSIDE),
            Rule(B.pods, (), INSIDE),
            Rule("inside", (), INSIDE),
        ]
        assert endpoints_of(server, asked) == {
            INSIDE: at(ON_A, ON_B),
            Group(0, inside=False): at(ON_A),
            Group(1, inside=False): at(ON_B),
        }

    def test_a_server_that_is_the_same_for_all_has_none(self) -> None:
        assert list(rules(cluster_ip(*ONE_EACH))) == []


class TestUserspace:
    """What the balancer has, by way of marks."""

    @pytest.fixture
    def table(self) -> Any:
        table = ServiceTable()
        yield table
        table.close()

    def has(self, table: ServiceTable) -> list[list[str]]:
        """Destinations of the services by mark, in the order of these."""
        found = [row for row in table.balancer.services() if "mark" in row]
        return [[one["address"] for one in row["destinations"]] for row in sorted(found, key=lambda row: row["mark"])]

    def apply(self, table: ServiceTable, *given: Object, **spec: Any) -> None:
        of = service("web", port(18080), ips=[vip(90)], **spec)
        problems, _ = table.apply("default/web", virtual_servers(of, [endpoint_slice(*given)], BOTH))
        assert problems == []

    def test_each_node_has_a_service_which_keeps_its_mark_and_its_picks(self, table: ServiceTable) -> None:
        self.apply(table, *ONE_EACH, internalTrafficPolicy="Local")
        assert self.has(table) == [[ON_A], [ON_B]]
        self.apply(table, ONE_EACH[1], internalTrafficPolicy="Local")
        assert self.has(table) == [[], [ON_B]]
        self.apply(table, *ONE_EACH, internalTrafficPolicy="Local")
        assert self.has(table) == [[ON_A], [ON_B]]

    def test_they_go_when_it_makes_no_difference_any_more(self, table: ServiceTable) -> None:
        self.apply(table, *ONE_EACH, internalTrafficPolicy="Local")
        self.apply(table, *ONE_EACH)
        assert self.has(table) == []
        self.apply(table, *ONE_EACH, internalTrafficPolicy="Local")
        table.apply("default/web", [])
        assert self.has(table) == []

    def test_an_endpoint_is_told_once(self, table: ServiceTable) -> None:
        self.apply(table, *ONE_EACH, internalTrafficPolicy="Local")
        (row,) = table.rows()
        assert sorted(one["address"] for one in row["destinations"]) == [ON_A, ON_B]
