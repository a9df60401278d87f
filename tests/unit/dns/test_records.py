"""The rows of the Kubernetes DNS specification 1.1, each as the records it demands."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore import _native
from kubecore.dns.records import Zone, address_label, namespace_records, service_records, zone_records
from tests.support.dns_client import decode, query

Object = dict[str, Any]

ZONE = Zone(domain="cluster.local", ttl=30)
HTTP = {"name": "http", "protocol": "TCP", "port": 80}
WEB = "web.shop.svc.cluster.local"


def service(*addresses: str, name: str = "web", ports: Any = (HTTP,), **spec: Any) -> Object:
    """`addresses` are its cluster IPs; "None" makes it headless."""
    body = {"ports": list(ports), "clusterIPs": list(addresses), "clusterIP": addresses[0] if addresses else "", **spec}
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": body}


def endpoint(address: str, hostname: str = "", **conditions: bool) -> Object:
    found: Object = {"addresses": [address], "conditions": conditions}
    return {**found, "hostname": hostname} if hostname else found


def endpoint_slice(*endpoints: Object, name: str = "web-1", kind: str = "IPv4", ports: Any = (HTTP,)) -> Object:
    labels = {"kubernetes.io/service-name": "web"}
    metadata = {"name": name, "namespace": "shop", "labels": labels}
    return {"metadata": metadata, "addressType": kind, "endpoints": list(endpoints), "ports": list(ports)}


def records(one: Object, *slices: Object) -> dict[tuple[str, str], list[str]]:
    """(name, type) -> values; that no record comes twice is part of every test."""
    found: dict[tuple[str, str], list[str]] = {}
    made = service_records(one, slices, ZONE)
    assert len(made) == len(set(made))
    for name, kind, ttl, value in made:
        assert ttl == 30
        found.setdefault((name, kind), []).append(value)
    return {key: sorted(values) for key, values in found.items()}


class TestSchemaVersion:
    """2.2"""

    def test_the_version_is_a_text_record_of_the_zone(self) -> None:
        assert ("dns-version.cluster.local", "TXT", 28800, "1.1.0") in zone_records(ZONE)

    def test_a_version_and_names_follow_the_configured_domain(self) -> None:
        other = Zone(domain="k8s.example", ttl=7)
        assert ("dns-version.k8s.example", "TXT", 28800, "1.1.0") in zone_records(other)
        assert ("web.shop.svc.k8s.example", "A", 7, "10.96.0.7") in service_records(service("10.96.0.7"), [], other)


class TestServiceWithClusterIP:
    """2.3"""

    def test_its_name_has_the_address(self) -> None:
        assert records(service("10.96.0.7"))[WEB, "A"] == ["10.96.0.7"]

    def test_an_ipv6_address_is_aaaa(self) -> None:
        found = records(service("fd00:96::7"))
        assert found[WEB, "AAAA"] == ["fd00:96::7"]
        assert (WEB, "A") not in found

    def test_a_dual_stack_service_has_both(self) -> None:
        found = records(service("10.96.0.7", "fd00:96::7"))
        assert (found[WEB, "A"], found[WEB, "AAAA"]) == (["10.96.0.7"], ["fd00:96::7"])

    def test_each_named_port_has_a_service_record_under_its_protocol(self) -> None:
        dns = {"name": "dns", "protocol": "UDP", "port": 53}
        found = records(service("10.96.0.7", ports=[HTTP, dns]))
        assert found[f"_http._tcp.{WEB}", "SRV"] == [f"0 100 80 {WEB}."]
        assert found[f"_dns._udp.{WEB}", "SRV"] == [f"0 100 53 {WEB}."]

    def test_a_port_without_protocol_is_tcp(self) -> None:
        assert (f"_http._tcp.{WEB}", "SRV") in records(service("10.96.0.7", ports=[{"name": "http", "port": 80}]))

    def test_the_service_record_has_the_port_of_the_service_not_the_target_port(self) -> None:
        found = records(service("10.96.0.7", ports=[{**HTTP, "targetPort": 8080}]))
        assert found[f"_http._tcp.{WEB}", "SRV"] == [f"0 100 80 {WEB}."]

    def test_an_unnamed_port_has_none(self) -> None:
        found = records(service("10.96.0.7", ports=[{"protocol": "TCP", "port": 80}]))
        assert [name for name, _ in found if name.startswith("_")] == []

    def test_the_bare_name_lists_all_ports_for_peer_finders(self) -> None:
        found = records(service("10.96.0.7", ports=[HTTP, {"protocol": "TCP", "port": 9000}]))
        assert found[WEB, "SRV"] == [f"0 50 80 {WEB}.", f"0 50 9000 {WEB}."]

    @pytest.mark.parametrize(
        ("address", "reverse"),
        [
            ("10.96.0.7", "7.0.96.10.in-addr.arpa"),
            ("fd00:96::7", "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa"),
        ],
    )
    def test_the_address_leads_back_to_the_name(self, address: str, reverse: str) -> None:
        assert records(service(address))[reverse, "PTR"] == [f"{WEB}."]

    def test_it_is_named_without_any_endpoint(self) -> None:
        assert records(service("10.96.0.7"))[WEB, "A"] == ["10.96.0.7"]

    @pytest.mark.parametrize(("hostname", "label"), [("one", "one"), ("", "10-244-0-3")])
    def test_pods_behind_it_have_a_name_below_it_to_which_their_address_leads_back(
        self, hostname: str, label: str
    ) -> None:
        found = records(service("10.96.0.7"), endpoint_slice(endpoint("10.244.0.3", hostname)))
        assert found[f"{label}.{WEB}", "A"] == ["10.244.0.3"]
        assert found["3.0.244.10.in-addr.arpa", "PTR"] == [f"{label}.{WEB}."]
        assert found[WEB, "A"] == ["10.96.0.7"]
        assert found[f"_http._tcp.{WEB}", "SRV"] == [f"0 100 80 {WEB}."]

    def test_pods_that_are_not_ready_have_none(self) -> None:
        unready = endpoint_slice(endpoint("10.244.0.3", ready=False))
        assert records(service("10.96.0.7"), unready) == records(service("10.96.0.7"))

    def test_one_that_has_no_address_yet_has_no_name(self) -> None:
        assert records(service()) == {}


class TestHeadlessService:
    """2.4"""

    def test_its_name_has_the_address_of_every_ready_endpoint(self) -> None:
        ready, unready = endpoint("10.244.0.3", ready=True), endpoint("10.244.0.4", ready=False)
        more = endpoint_slice(endpoint("10.244.1.3", ready=True), name="web-2")
        found = records(service("None"), endpoint_slice(ready, unready), more)
        assert found[WEB, "A"] == ["10.244.0.3", "10.244.1.3"]

    def test_readiness_that_is_not_told_means_ready(self) -> None:
        assert records(service("None"), endpoint_slice(endpoint("10.244.0.3")))[WEB, "A"] == ["10.244.0.3"]

    def test_slices_of_both_families_make_a_and_aaaa(self) -> None:
        v4 = endpoint_slice(endpoint("10.244.0.3"))
        v6 = endpoint_slice(endpoint("fd00::3"), name="web-2", kind="IPv6")
        found = records(service("None"), v4, v6)
        assert (found[WEB, "A"], found[WEB, "AAAA"]) == (["10.244.0.3"], ["fd00::3"])
        assert found[f"fd00--3.{WEB}", "AAAA"] == ["fd00::3"]

    def test_without_ready_endpoints_the_name_does_not_exist(self) -> None:
        assert records(service("None"), endpoint_slice(endpoint("10.244.0.3", ready=False))) == {}

    @pytest.mark.parametrize("how", ["publishNotReadyAddresses", "annotation"])
    def test_all_endpoints_are_named_where_the_service_asks_for_it(self, how: str) -> None:
        one = service("None", publishNotReadyAddresses=how != "annotation")
        if how == "annotation":
            one["metadata"]["annotations"] = {"service.alpha.kubernetes.io/tolerate-unready-endpoints": "true"}
        found = records(one, endpoint_slice(endpoint("10.244.0.3", "one", ready=False)))
        assert found[WEB, "A"] == found[f"one.{WEB}", "A"] == ["10.244.0.3"]

    def test_an_endpoint_with_hostname_has_a_name_of_its_own(self) -> None:
        assert records(service("None"), endpoint_slice(endpoint("10.244.0.3", "my-pet")))[f"my-pet.{WEB}", "A"] == [
            "10.244.0.3"
        ]

    def test_a_hostname_that_several_endpoints_share_has_all_their_addresses(self) -> None:
        shared = endpoint_slice(endpoint("10.244.0.3", "pet"), endpoint("10.244.0.4", "pet"))
        assert records(service("None"), shared)[f"pet.{WEB}", "A"] == ["10.244.0.3", "10.244.0.4"]

    def test_an_endpoint_without_hostname_is_named_after_its_address(self) -> None:
        found = records(service("None"), endpoint_slice(endpoint("10.244.0.3")))
        assert found[f"10-244-0-3.{WEB}", "A"] == ["10.244.0.3"]

    @pytest.mark.parametrize(
        ("address", "label"),
        [
            ("10.244.0.3", "10-244-0-3"),
            ("fd00::3", "fd00--3"),
            ("::3", "0000-0000-0000-0000-0000-0000-0000-0003"),
            ("fd00::", "fd00-0000-0000-0000-0000-0000-0000-0000"),
        ],
    )
    def test_a_label_that_spells_an_address_neither_begins_nor_ends_with_a_hyphen(
        self, address: str, label: str
    ) -> None:
        assert address_label(address) == label

    def test_there_is_a_service_record_for_every_endpoint_and_named_port(self) -> None:
        ports = [HTTP, {"name": "peer", "protocol": "TCP", "port": 7000}]
        pets = endpoint_slice(endpoint("10.244.0.3", "a"), endpoint("10.244.0.4"), ports=ports)
        found = records(service("None", ports=ports), pets)
        assert found[f"_http._tcp.{WEB}", "SRV"] == [f"0 50 80 10-244-0-4.{WEB}.", f"0 50 80 a.{WEB}."]
        assert found[f"_peer._tcp.{WEB}", "SRV"] == [f"0 50 7000 10-244-0-4.{WEB}.", f"0 50 7000 a.{WEB}."]
        assert len(found[WEB, "SRV"]) == 4

    @pytest.mark.parametrize(("endpoints", "weight"), [(1, 100), (3, 33), (150, 1)])
    def test_endpoints_share_the_weight_of_100_of_which_each_has_some(self, endpoints: int, weight: int) -> None:
        """As CoreDNS reckons it (`plugin/backend_lookup.go`)."""
        pets = endpoint_slice(*(endpoint(f"10.244.0.{number}") for number in range(endpoints)))
        found = records(service("None"), pets)[f"_http._tcp.{WEB}", "SRV"]
        assert [value.split()[1] for value in found] == [str(weight)] * endpoints

    def test_the_service_record_has_the_port_that_the_endpoint_listens_on(self) -> None:
        one = service("None", ports=[{**HTTP, "targetPort": 8080}])
        found = records(one, endpoint_slice(endpoint("10.244.0.3", "a"), ports=[{**HTTP, "port": 8080}]))
        assert found[f"_http._tcp.{WEB}", "SRV"] == [f"0 100 8080 a.{WEB}."]

    def test_unnamed_ports_have_no_service_record_and_no_ports_harm_nobody(self) -> None:
        unnamed = endpoint_slice(endpoint("10.244.0.3", "a"), ports=[{"protocol": "TCP", "port": 80}])
        assert [name for name, _ in records(service("None"), unnamed) if name.startswith("_")] == []
        portless = records(service("None", ports=[]), endpoint_slice(endpoint("10.244.0.3", "a"), ports=[]))
        assert portless[WEB, "A"] == ["10.244.0.3"]

    def test_a_port_without_number_stands_for_all_and_has_no_service_record(self) -> None:
        every = endpoint_slice(endpoint("10.244.0.3", "a"), ports=[{"name": "any", "protocol": "TCP", "port": None}])
        assert [kind for _, kind in records(service("None"), every)] == ["A", "A", "PTR"]

    def test_an_endpoints_address_leads_back_to_its_own_name(self) -> None:
        found = records(service("None"), endpoint_slice(endpoint("10.244.0.3", "pet"), endpoint("10.244.0.4")))
        assert found["3.0.244.10.in-addr.arpa", "PTR"] == [f"pet.{WEB}."]
        assert found["4.0.244.10.in-addr.arpa", "PTR"] == [f"10-244-0-4.{WEB}."]

    def test_an_endpoint_in_two_slices_is_named_once(self) -> None:
        one, other = (endpoint_slice(endpoint("10.244.0.3", "a"), name=name) for name in ("web-1", "web-2"))
        assert records(service("None"), one, other) == records(service("None"), one)

    def test_slices_of_names_make_no_addresses(self) -> None:
        assert records(service("None"), endpoint_slice(endpoint("db.example.org"), kind="FQDN")) == {}


class TestExternalName:
    """2.5"""

    @pytest.mark.parametrize("target", ["www.example.com", "www.example.com."])
    def test_its_name_is_an_alias(self, target: str) -> None:
        assert records(service(type="ExternalName", externalName=target)) == {(WEB, "CNAME"): ["www.example.com."]}

    @pytest.mark.parametrize("target", ["192.0.2.1", "fd00::1", ""])
    def test_an_address_or_nothing_makes_no_alias(self, target: str) -> None:
        assert records(service(type="ExternalName", externalName=target)) == {}


class TestPods:
    """2.6"""

    def test_any_address_of_a_namespace_is_a_pods_name(self) -> None:
        assert ("shop.pod.cluster.local", "PODS", 30, "") in namespace_records("shop", ZONE)


class TestAnswers:
    """The same records, looked up."""

    def lookup(self, name: str, kind: str) -> tuple[str, list[str]]:
        server = _native.DnsServer("cluster.local")
        headless = endpoint_slice(endpoint("10.244.0.3", "pet"), endpoint("10.244.0.4", "cat"))
        server.set_records(
            [
                ("zone", zone_records(ZONE, ["10.96.0.10"])),
                ("shop", namespace_records("shop", ZONE)),
                ("web", service_records(service("10.96.0.7", "fd00:96::7"), [], ZONE)),
                ("db", service_records(service("None", name="db"), [headless], ZONE)),
                ("out", service_records(service(name="out", type="ExternalName", externalName=WEB), [], ZONE)),
            ]
        )  # fmt: skip
        wire = server.answer(query(name, kind))
        assert wire is not None
        answer = decode(wire)
        return answer.code, answer.values()

    @pytest.mark.parametrize(
        ("name", "kind", "code", "values"),
        [
            ("dns-version.cluster.local", "TXT", "NOERROR", ["1.1.0"]),
            ("cluster.local", "NS", "NOERROR", ["ns.dns.cluster.local."]),
            ("ns.dns.cluster.local", "A", "NOERROR", ["10.96.0.10"]),
            (WEB, "A", "NOERROR", ["10.96.0.7"]),
            (WEB.upper(), "A", "NOERROR", ["10.96.0.7"]),
            (WEB, "AAAA", "NOERROR", ["fd00:96::7"]),
            (WEB, "TXT", "NOERROR", []),
            (f"_http._tcp.{WEB}", "SRV", "NOERROR", [f"0 100 80 {WEB}."]),
            (f"_HTTP._TCP.{WEB}", "SRV", "NOERROR", [f"0 100 80 {WEB}."]),
            (f"_https._tcp.{WEB}", "SRV", "NXDOMAIN", []),
            ("7.0.96.10.in-addr.arpa", "PTR", "NOERROR", [f"{WEB}."]),
            ("db.shop.svc.cluster.local", "A", "NOERROR", ["10.244.0.3", "10.244.0.4"]),
            ("pet.db.shop.svc.cluster.local", "A", "NOERROR", ["10.244.0.3"]),
            ("other.db.shop.svc.cluster.local", "A", "NXDOMAIN", []),
            ("_http._tcp.db.shop.svc.cluster.local", "SRV", "NOERROR",
             ["0 50 80 cat.db.shop.svc.cluster.local.", "0 50 80 pet.db.shop.svc.cluster.local."]),
            ("out.shop.svc.cluster.local", "A", "NOERROR", ["10.96.0.7", f"{WEB}."]),
            ("10-1-2-3.shop.pod.cluster.local", "A", "NOERROR", ["10.1.2.3"]),
            ("10-1-2-3.nowhere.pod.cluster.local", "A", "NXDOMAIN", []),
            ("shop.svc.cluster.local", "A", "NOERROR", []),
            ("nowhere.svc.cluster.local", "A", "NXDOMAIN", []),
            ("nothing.shop.svc.cluster.local", "A", "NXDOMAIN", []),
            ("svc.cluster.local", "A", "NOERROR", []),
            ("cluster.local", "SOA", "NOERROR", ["ns.dns.cluster.local."]),
        ],
    )  # fmt: skip
    def test_a_question_has_its_answer(self, name: str, kind: str, code: str, values: list[str]) -> None:
        assert self.lookup(name, kind) == (code, values)
