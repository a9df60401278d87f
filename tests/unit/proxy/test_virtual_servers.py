"""Which virtual servers a Service makes on a node, and which endpoints they have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubecore.client.client import Object
from kubecore.proxy.virtual_servers import HealthCheck, NodeView, VirtualServer, health_check, virtual_servers
from tests.unit.proxy.builders import endpoint, endpoint_slice, port, service

HERE = NodeView("here")
ALL = NodeView()


def servers(of: Object, *slices: Object, node: NodeView = ALL) -> list[VirtualServer]:
    return virtual_servers(of, slices, node)


def addresses(of: Object, node: NodeView = ALL) -> set[str]:
    return {f"{one.purpose} {one.protocol} {one.address} {one.port}" for one in servers(of, node=node)}


def endpoints(of: Object, *slices: Object, node: NodeView = ALL, purpose: str = "ClusterIP") -> list[str]:
    (found,) = [one.endpoints for one in servers(of, *slices, node=node) if one.purpose == purpose]
    return [f"{address}:{number}" for address, number in found]


class TestProxyProtocol:
    @pytest.mark.parametrize(("text", "version"), [("v1", 1), ("v2", 2), ("v3", None), ("", None)])
    def test_an_annotation_asks_for_a_version(self, text: str, version: int | None) -> None:
        (found,) = servers(service(annotations={"kubecore.dev/proxy-protocol": text}))
        assert found.proxy_protocol == version

    def test_is_for_tcp_alone(self) -> None:
        of = service("web", port(53, protocol="UDP"), annotations={"kubecore.dev/proxy-protocol": "v2"})
        assert [one.proxy_protocol for one in servers(of)] == [None]


class TestAddresses:
    def test_each_port_on_the_cluster_ip(self) -> None:
        two = service("web", port(80, name="http"), port(53, name="dns", protocol="UDP"))
        assert addresses(two) == {"ClusterIP TCP 10.96.0.10 80", "ClusterIP UDP 10.96.0.10 53"}

    def test_both_cluster_ips_of_a_dual_stack_service(self) -> None:
        assert addresses(service(ips=["10.96.0.10", "fd00::10"])) == {
            "ClusterIP TCP 10.96.0.10 8080",
            "ClusterIP TCP fd00::10 8080",
        }

    def test_node_ports_on_all_addresses_of_the_node(self) -> None:
        of = service("web", port(80, node_port=30080), type="NodePort")
        assert addresses(of) == {"ClusterIP TCP 10.96.0.10 80", "NodePort TCP 0.0.0.0 30080"}
        some = NodeView("here", node_port_addresses=("192.0.2.1", "192.0.2.2", "fd00::1"))
        assert {one for one in addresses(of, some) if one.startswith("NodePort")} == {
            "NodePort TCP 192.0.2.1 30080",
            "NodePort TCP 192.0.2.2 30080",
        }

    def test_the_addresses_that_a_load_balancer_gave_it(self) -> None:
        ingress = [{"ip": "203.0.113.1"}, {"ip": "203.0.113.2", "ipMode": "VIP"}, {"hostname": "lb.example.com"}]
        of = service("web", port(80, node_port=30080), type="LoadBalancer", ingress=ingress)
        assert addresses(of) == {
            "ClusterIP TCP 10.96.0.10 80",
            "LoadBalancer TCP 203.0.113.1 80",
            "LoadBalancer TCP 203.0.113.2 80",
            "NodePort TCP 0.0.0.0 30080",
        }

    def test_but_not_those_whose_traffic_comes_through_a_proxy(self) -> None:
        of = service(type="LoadBalancer", ingress=[{"ip": "203.0.113.1", "ipMode": "Proxy"}])
        assert addresses(of) == {"ClusterIP TCP 10.96.0.10 8080"}

    def test_a_load_balancer_without_node_ports_has_none(self) -> None:
        assert addresses(service(type="LoadBalancer", allocateLoadBalancerNodePorts=False)) == {
            "ClusterIP TCP 10.96.0.10 8080"
        }

    def test_external_ips_whatever_the_type(self) -> None:
        assert addresses(service(externalIPs=["192.0.2.9"])) == {
            "ClusterIP TCP 10.96.0.10 8080",
            "ExternalIP TCP 192.0.2.9 8080",
        }

    def test_only_addresses_of_the_families_that_it_has_cluster_ips_of(self) -> None:
        of = service(externalIPs=["fd00::9"], type="LoadBalancer", ingress=[{"ip": "fd00::8"}])
        assert addresses(of) == {"ClusterIP TCP 10.96.0.10 8080"}

    def test_what_is_no_address_is_ignored(self) -> None:
        assert addresses(service(externalIPs=["example", ""])) == {"ClusterIP TCP 10.96.0.10 8080"}

    def test_one_address_asked_for_twice_is_served_once(self) -> None:
        of = service(externalIPs=["10.96.0.10"])
        assert addresses(of) == {"ClusterIP TCP 10.96.0.10 8080"}


class TestServicesThatAreNotProxied:
    @pytest.mark.parametrize(
        "of",
        [
            service(ips=["None"]),
            service(ips=[]),
            service(type="ExternalName", externalName="example.com"),
            service(labels={"service.kubernetes.io/service-proxy-name": "other"}),
            service(labels={"service.kubernetes.io/service-proxy-name": ""}),
            service(labels={"service.kubernetes.io/headless": ""}),
        ],
        ids=["headless", "no address", "ExternalName", "another proxy's", "a nameless proxy's", "labelled headless"],
    )
    def test_make_none(self, of: Object) -> None:
        assert servers(of, endpoint_slice(endpoint("10.0.0.1"))) == []


class TestPorts:
    def test_endpoints_are_those_of_the_slice_port_of_the_same_name(self) -> None:
        of = service("web", port(80, name="http"), port(443, name="https"))
        ports = [{"name": "https", "protocol": "TCP", "port": 8443}, {"name": "http", "protocol": "TCP", "port": 8000}]
        found = servers(of, endpoint_slice(endpoint("10.0.0.1"), ports=ports))
        assert {one.port: one.endpoints for one in found} == {
            80: (("10.0.0.1", 8000),),
            443: (("10.0.0.1", 8443),),
        }

    def test_a_named_target_port_may_be_another_number_in_each_slice(self) -> None:
        old = endpoint_slice(endpoint("10.0.0.1"), name="a", ports=[{"name": "", "protocol": "TCP", "port": 8000}])
        new = endpoint_slice(endpoint("10.0.0.2"), name="b", ports=[{"name": "", "protocol": "TCP", "port": 9000}])
        assert endpoints(service(), old, new) == ["10.0.0.1:8000", "10.0.0.2:9000"]

    def test_ports_of_one_name_are_told_apart_by_protocol(self) -> None:
        of = service("dns", port(53, name="dns"), port(53, name="dns", protocol="UDP"))
        ports = [{"name": "dns", "protocol": "UDP", "port": 1053}, {"name": "dns", "protocol": "TCP", "port": 2053}]
        found = servers(of, endpoint_slice(endpoint("10.0.0.1"), ports=ports))
        assert {one.protocol: one.endpoints for one in found} == {
            "TCP": (("10.0.0.1", 2053),),
            "UDP": (("10.0.0.1", 1053),),
        }

    @pytest.mark.parametrize("number", [None, 0])
    def test_a_slice_that_names_no_number_has_no_endpoints_for_it(self, number: int | None) -> None:
        assert endpoints(service(), endpoint_slice(endpoint("10.0.0.1"), ports=[{"name": "", "port": number}])) == []


class TestSlices:
    def test_endpoints_of_all_slices_are_put_together_sorted_and_each_once(self) -> None:
        a = endpoint_slice(endpoint("10.0.0.10"), endpoint("10.0.0.9"), name="a")
        b = endpoint_slice(endpoint("10.0.0.9"), endpoint("10.0.0.1"), name="b")
        assert endpoints(service(), a, b) == ["10.0.0.1:80", "10.0.0.9:80", "10.0.0.10:80"]

    def test_each_family_has_its_own(self) -> None:
        of = service(ips=["10.96.0.10", "fd00::10"])
        six = endpoint_slice(endpoint("fd00::1"), family="IPv6", name="six")
        found = servers(of, endpoint_slice(endpoint("10.0.0.1")), six)
        assert {one.address: one.endpoints for one in found} == {
            "10.96.0.10": (("10.0.0.1", 80),),
            "fd00::10": (("fd00::1", 80),),
        }

    def test_only_the_first_address_of_an_endpoint_is_used(self) -> None:
        several = {"addresses": ["10.0.0.1", "10.0.0.2"], "conditions": {}}
        assert endpoints(service(), endpoint_slice(several)) == ["10.0.0.1:80"]

    def test_an_endpoint_of_another_family_than_its_slice_is_none(self) -> None:
        assert endpoints(service(), endpoint_slice(endpoint("fd00::1"), endpoint("10.0.0.1"))) == ["10.0.0.1:80"]

    def test_slices_for_another_proxy_are_ignored(self) -> None:
        for label in ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"):
            assert endpoints(service(), endpoint_slice(endpoint("10.0.0.1"), labels={label: ""})) == []

    def test_an_endpoint_that_is_in_two_slices_for_a_moment_is_ready_if_either_says_so(self) -> None:
        old = endpoint_slice(endpoint("10.0.0.1", ready=False), name="a")
        new = endpoint_slice(endpoint("10.0.0.1", ready=True), name="b")
        assert endpoints(service(), old, new) == endpoints(service(), new, old) == ["10.0.0.1:80"]

    def test_addresses_with_leading_zeros_are_the_usual_ones(self) -> None:
        assert endpoints(service(), endpoint_slice(endpoint("010.000.0.01"))) == ["10.0.0.1:80"]


class TestReadiness:
    def usable(self, *given: Object, node: NodeView = ALL, **spec: Any) -> list[str]:
        return [one.partition(":")[0] for one in endpoints(service(**spec), endpoint_slice(*given), node=node)]

    def test_ready_endpoints_get_the_connections(self) -> None:
        draining = endpoint("10.0.0.2", ready=False, serving=True, terminating=True)
        assert self.usable(endpoint("10.0.0.1", ready=True), draining) == ["10.0.0.1"]

    def test_not_saying_is_being_ready(self) -> None:
        assert self.usable(endpoint("10.0.0.1")) == ["10.0.0.1"]

    def test_when_none_is_ready_those_do_that_end_but_still_serve(self) -> None:
        draining = endpoint("10.0.0.1", ready=False, serving=True, terminating=True)
        ended = endpoint("10.0.0.2", ready=False, serving=False, terminating=True)
        assert self.usable(draining, ended) == ["10.0.0.1"]

    @pytest.mark.parametrize("node", [ALL, HERE])
    def test_flows_of_udp_stay_with_those_that_end_but_still_serve(self, node: NodeView) -> None:
        draining = endpoint("10.0.0.2", node="there", ready=False, serving=True, terminating=True)
        ended = endpoint("10.0.0.3", node="here", ready=False, serving=False, terminating=True)
        ports = [port(53, protocol=one) for one in ("UDP", "TCP")]
        pieces = [endpoint_slice(endpoint("10.0.0.1"), draining, ended, ports=[one]) for one in ports]
        found = {one.protocol: one for one in servers(service("dns", *ports), *pieces, node=node)}
        assert found["UDP"].endpoints == (("10.0.0.1", 53),)
        assert (found["UDP"].serving, found["TCP"].serving) == ((("10.0.0.1", 53), ("10.0.0.2", 53)), ())

    def test_flows_of_udp_stay_where_policies_and_hints_let_nobody_new_go(self) -> None:
        dns, ports = port(53, protocol="UDP"), [port(53, protocol="UDP")]
        near, far = endpoint("10.0.0.1", node="here", for_zones="a"), endpoint("10.0.0.2", node="there", for_zones="b")
        everywhere = (("10.0.0.1", 53), ("10.0.0.2", 53))
        for of in (service("dns", dns, internalTrafficPolicy="Local"), service("dns", dns)):
            (found,) = servers(of, endpoint_slice(near, far, ports=ports), node=replace(HERE, zone="a"))
            assert (found.endpoints, found.serving) == (everywhere[:1], everywhere)

    def test_serving_is_taken_for_granted_when_not_said(self) -> None:
        assert self.usable(endpoint("10.0.0.1", ready=False, terminating=True)) == ["10.0.0.1"]

    @pytest.mark.parametrize("node", [ALL, HERE])
    def test_of_one_that_is_in_two_slices_for_a_moment_the_ready_one_counts(self, node: NodeView) -> None:
        there, unready = endpoint("10.0.0.1", node="there"), endpoint("10.0.0.1", ready=False)
        assert self.usable(unready, there, node=node) == self.usable(there, unready, node=node) == ["10.0.0.1"]

    def test_an_endpoint_that_is_not_ready_and_does_not_end_gets_none(self) -> None:
        assert self.usable(endpoint("10.0.0.1", ready=False, serving=True, terminating=False)) == []
        assert self.usable(endpoint("10.0.0.1", ready=False)) == []


class TestTrafficPolicies:
    NEAR, FAR = endpoint("10.0.0.1", node="here"), endpoint("10.0.0.2", node="there")
    DRAINING = {"ready": False, "serving": True, "terminating": True}

    def both(self, node: NodeView, *given: Object, **spec: Any) -> tuple[list[str], list[str]]:
        """Endpoints of the cluster IP and of the node port."""
        of = service("web", port(80, node_port=30080), type="NodePort", **spec)
        piece = endpoint_slice(*given)
        internal, external = (endpoints(of, piece, node=node, purpose=one) for one in ("ClusterIP", "NodePort"))
        return internal, external

    def test_the_default_is_all_endpoints(self) -> None:
        everyone = ["10.0.0.1:80", "10.0.0.2:80"]
        assert self.both(HERE, self.NEAR, self.FAR) == (everyone, everyone)

    def test_internal_local_keeps_connections_to_the_cluster_ip_on_the_node(self) -> None:
        internal, external = self.both(HERE, self.NEAR, self.FAR, internalTrafficPolicy="Local")
        assert (internal, external) == (["10.0.0.1:80"], ["10.0.0.1:80", "10.0.0.2:80"])

    def test_external_local_keeps_all_others_on_the_node(self) -> None:
        internal, external = self.both(HERE, self.NEAR, self.FAR, externalTrafficPolicy="Local")
        assert (internal, external) == (["10.0.0.1:80", "10.0.0.2:80"], ["10.0.0.1:80"])
        ingress = [{"ip": "203.0.113.1"}]
        of = service(type="LoadBalancer", externalTrafficPolicy="Local", ingress=ingress, externalIPs=["192.0.2.9"])
        piece = endpoint_slice(self.NEAR, self.FAR)
        for purpose in ("LoadBalancer", "ExternalIP"):
            assert endpoints(of, piece, node=HERE, purpose=purpose) == ["10.0.0.1:80"]

    def test_a_node_without_endpoints_drops_them_rather_than_send_them_on(self) -> None:
        internal, external = self.both(HERE, self.FAR, internalTrafficPolicy="Local", externalTrafficPolicy="Local")
        assert internal == external == []

    def test_local_endpoints_that_drain_are_better_than_ready_ones_elsewhere(self) -> None:
        draining = endpoint("10.0.0.1", node="here", **self.DRAINING)  # type: ignore[arg-type]
        internal, external = self.both(HERE, draining, self.FAR, externalTrafficPolicy="Local")
        assert (internal, external) == (["10.0.0.2:80"], ["10.0.0.1:80"])

    def test_a_proxy_for_all_nodes_finds_every_endpoint_local(self) -> None:
        internal, _ = self.both(ALL, self.NEAR, self.FAR, internalTrafficPolicy="Local")
        assert internal == ["10.0.0.1:80", "10.0.0.2:80"]

    def of(self, node: NodeView, *given: Object, purpose: str = "LoadBalancer", **spec: Any) -> VirtualServer:
        balanced = service(type="LoadBalancer", ingress=[{"ip": "203.0.113.1"}], **spec)
        (found,) = [one for one in servers(balanced, endpoint_slice(*given), node=node) if one.purpose == purpose]
        return found

    def test_pods_and_the_node_itself_are_not_bound_by_external_local(self) -> None:
        found = self.of(HERE, self.NEAR, self.FAR, externalTrafficPolicy="Local")
        assert (found.endpoints, found.inside) == ((("10.0.0.1", 80),), (("10.0.0.1", 80), ("10.0.0.2", 80)))
        assert self.of(HERE, self.NEAR).inside is None

    def test_what_only_other_nodes_could_take_is_told_from_what_nobody_could(self) -> None:
        assert self.of(HERE, self.FAR, externalTrafficPolicy="Local").anywhere
        assert not self.of(HERE, endpoint("10.0.0.2", ready=False), externalTrafficPolicy="Local").anywhere

    def test_what_comes_to_an_external_address_is_masqueraded_unless_it_stays_on_the_node(self) -> None:
        assert self.of(HERE, self.NEAR).masquerade
        assert not self.of(HERE, self.NEAR, externalTrafficPolicy="Local").masquerade
        assert not self.of(HERE, self.NEAR, purpose="ClusterIP").masquerade


class TestSourceRanges:
    def ranges(self, *given: str, ip: str = "203.0.113.1", ips: list[str] | None = None) -> tuple[str, ...]:
        balanced = service(
            type="LoadBalancer", ingress=[{"ip": ip}], ips=ips, loadBalancerSourceRanges=list(given), externalIPs=[]
        )
        (found,) = [one for one in servers(balanced) if one.purpose == "LoadBalancer"]
        assert all(one.source_ranges == () for one in servers(balanced) if one.purpose == "ClusterIP")
        return found.source_ranges

    def test_bind_who_comes_to_a_load_balancers_address(self) -> None:
        assert self.ranges() == ()
        assert self.ranges("192.0.2.0/24", " 198.51.100.1/32 ") == ("192.0.2.0/24", "198.51.100.1/32")

    def test_of_each_family_are_those_of_the_address(self) -> None:
        six = ["10.96.0.10", "fd00::10"]
        assert self.ranges("192.0.2.0/24", "fd01::/64", ip="fd00::5", ips=six) == ("fd01::/64",)

    def test_are_told_once_where_one_is_within_another(self) -> None:
        assert self.ranges("10.1.0.0/16", "10.0.0.0/8", "10.1.2.3/32", "192.0.2.7/24") == ("10.0.0.0/8", "192.0.2.0/24")

    def test_of_the_other_family_alone_bind_nobody_as_with_kube_proxy(self) -> None:
        assert self.ranges("fd01::/64") == ()

    def test_of_all_addresses_bind_nobody_whatever_stands_beside_them(self) -> None:
        assert self.ranges("192.0.2.0/24", "0.0.0.0/0") == ()
        six = ["10.96.0.10", "fd00::10"]
        assert self.ranges("0.0.0.0/0", "fd01::/64", ip="fd00::5", ips=six) == ("fd01::/64",)


class TestHealthChecks:
    LOCAL: dict[str, Any] = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000}

    def test_count_the_ready_endpoints_of_the_node_each_address_once(self) -> None:
        of = service("web", port(80, name="http"), port(443, name="https"), **self.LOCAL)
        ports = [{"name": "http", "protocol": "TCP", "port": 80}, {"name": "https", "protocol": "TCP", "port": 443}]
        draining = endpoint("10.0.0.3", node="here", ready=False, serving=True, terminating=True)
        given = [endpoint("10.0.0.1", node="here"), endpoint("10.0.0.2", node="there"), draining]
        assert health_check(of, [endpoint_slice(*given, ports=ports)], HERE) == HealthCheck(32000, 1)

    def test_count_a_pod_of_two_addresses_once(self) -> None:
        of = service("web", port(80), clusterIPs=["10.96.0.1", "fd00::1"], **self.LOCAL)
        slices = [
            endpoint_slice(endpoint("10.0.0.1", node="here")),
            endpoint_slice(endpoint("fd44::1", node="here"), endpoint("fd44::2", node="here"), family="IPv6"),
        ]
        assert health_check(of, slices, HERE) == HealthCheck(32000, 2)

    @pytest.mark.parametrize(
        "fields", [{"externalTrafficPolicy": "Cluster"}, {"type": "NodePort"}, {"healthCheckNodePort": 0}]
    )
    def test_are_for_load_balancers_of_policy_local_alone(self, fields: dict[str, Any]) -> None:
        assert health_check(service(**{**self.LOCAL, **fields}), [], HERE) is None


class TestHints:
    """Where the EndpointSlice controller would like connections to go (spec.trafficDistribution)."""

    ZONE_A = NodeView("here", zone="a")

    def usable(self, *given: Object, node: NodeView = ZONE_A, **spec: Any) -> list[str]:
        return [one.partition(":")[0] for one in endpoints(service(**spec), endpoint_slice(*given), node=node)]

    def test_endpoints_for_the_nodes_zone_are_preferred(self) -> None:
        a, b = endpoint("10.0.0.1", for_zones="a"), endpoint("10.0.0.2", for_zones="b")
        both = endpoint("10.0.0.3", for_zones="a b")
        assert self.usable(a, b, both) == ["10.0.0.1", "10.0.0.3"]

    def test_endpoints_for_the_node_itself_even_more(self) -> None:
        here, there = (
            endpoint("10.0.0.1", for_nodes="here", for_zones="a"),
            endpoint("10.0.0.2", for_nodes="there", for_zones="a"),
        )
        assert self.usable(here, there) == ["10.0.0.1"]

    def test_a_node_for_which_there_is_none_goes_by_zone(self) -> None:
        one, two = (
            endpoint("10.0.0.1", for_nodes="x", for_zones="a"),
            endpoint("10.0.0.2", for_nodes="y", for_zones="b"),
        )
        assert self.usable(one, two) == ["10.0.0.1"]

    @pytest.mark.parametrize("node", [NodeView("here", zone="c"), NodeView("here"), ALL])
    def test_all_are_used_when_there_is_none_for_the_zone_either(self, node: NodeView) -> None:
        a, b = endpoint("10.0.0.1", for_zones="a"), endpoint("10.0.0.2", for_zones="b")
        assert self.usable(a, b, node=node) == ["10.0.0.1", "10.0.0.2"]

    def test_or_when_a_single_ready_endpoint_has_no_hint(self) -> None:
        a, unhinted = endpoint("10.0.0.1", for_zones="a"), endpoint("10.0.0.2")
        assert self.usable(a, unhinted) == ["10.0.0.1", "10.0.0.2"]
        late = endpoint("10.0.0.2", ready=False)
        assert self.usable(a, endpoint("10.0.0.3", for_zones="b"), late) == ["10.0.0.1"]

    def test_a_policy_local_does_not_care(self) -> None:
        a, b = (endpoint(f"10.0.0.{n}", node="here", for_zones=zone) for n, zone in ((1, "a"), (2, "b")))
        assert self.usable(a, b, internalTrafficPolicy="Local") == ["10.0.0.1", "10.0.0.2"]


class TestOptions:
    def test_client_ip_affinity_lasts_three_hours_unless_told_otherwise(self) -> None:
        def affinity(**spec: Any) -> float | None:
            (found,) = servers(service(**spec))
            return found.affinity_seconds

        config = {"clientIP": {"timeoutSeconds": 60}}
        assert affinity() is affinity(sessionAffinity="None") is None
        assert affinity(sessionAffinity="ClientIP") == 10800
        assert affinity(sessionAffinity="ClientIP", sessionAffinityConfig=config) == 60

    def test_a_service_may_choose_how_it_is_balanced(self) -> None:
        (found,) = servers(service(annotations={"kubecore.dev/scheduler": "mh"}))
        (default,) = servers(service(), node=NodeView(scheduler="lc"))
        assert (found.scheduler, default.scheduler) == ("mh", "lc")
