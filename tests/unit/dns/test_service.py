"""kube-system/kube-dns says where DNS really is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kubecore.api import errors
from kubecore.dns.responder import DnsResponder
from kubecore.dns.service import Site, serve_cluster
from tests.unit.dns.conftest import Dns, Object

ADDRESS, NODE = "127.96.7.10", "127.95.7.1"


class Host(DnsResponder):
    """Listens on nothing; ports `refused` cannot be had, and port 0 is 40000."""

    refused: tuple[int, ...] = ()
    asked: list[tuple[Sequence[str], int]]

    def listen(self, addresses: Sequence[str], port: int, *, ahead: bool = False) -> int:
        self.asked = [*getattr(self, "asked", []), (addresses, port)]
        if port in self.refused:
            raise PermissionError(13, "Permission denied")
        return port or 40000


async def serve(dns: Dns, *, refused: tuple[int, ...] = (), spare_ports: Sequence[int] = (0,)) -> tuple[str, ...]:
    host = Host(dns.api.client(), dns.clock, dns.responder._config)
    host.refused = refused
    site = Site(addresses=(ADDRESS,), node_addresses=(NODE,), node_name="node", spare_ports=spare_ports)
    return await serve_cluster(dns.api.client("kubecore"), host, site)


def ports(obj: Object) -> list[tuple[str, str, int]]:
    return [(one["name"], one["protocol"], one["port"]) for one in obj["ports"]]


def found(dns: Dns, resource: str, name: str = "kube-dns") -> Object:
    one = dns.api.get(resource, name, "kube-system")
    assert one is not None
    return one


async def test_the_service_has_the_wanted_address_and_the_standard_ports(dns: Dns) -> None:
    assert await serve(dns) == (ADDRESS,)
    service = found(dns, "services")
    assert service["spec"]["clusterIP"] == ADDRESS
    assert ports(service["spec"]) == [("dns", "UDP", 53), ("dns-tcp", "TCP", 53)]
    assert service["metadata"]["labels"]["k8s-app"] == "kube-dns"
    # the service proxy is to hold the address, not to listen on it
    assert "service.kubernetes.io/service-proxy-name" in service["metadata"]["labels"]


async def test_its_endpoint_is_the_node_where_dns_listens_too(dns: Dns) -> None:
    await serve(dns)
    piece = found(dns, "endpointslices.discovery.k8s.io")
    assert [(one["addresses"], one["nodeName"]) for one in piece["endpoints"]] == [([NODE], "node")]
    assert ports(piece) == [("dns", "UDP", 53), ("dns-tcp", "TCP", 53)]
    assert piece["metadata"]["labels"]["kubernetes.io/service-name"] == "kube-dns"
    assert piece["metadata"]["ownerReferences"][0]["uid"] == found(dns, "services")["metadata"]["uid"]
    assert found(dns, "endpoints")["subsets"][0]["addresses"][0]["ip"] == NODE


async def test_the_service_account_of_its_role_is_there(dns: Dns) -> None:
    await serve(dns)
    assert found(dns, "serviceaccounts", "coredns")


async def test_where_port_53_cannot_be_had_the_service_has_another_and_pods_no_name_server(
    dns: Dns, caplog: pytest.LogCaptureFixture
) -> None:
    assert await serve(dns, refused=(53,)) == ()
    assert ports(found(dns, "services")["spec"]) == [("dns", "UDP", 40000), ("dns-tcp", "TCP", 40000)]
    assert ports(found(dns, "endpointslices.discovery.k8s.io")) == [("dns", "UDP", 40000), ("dns-tcp", "TCP", 40000)]
    assert f"Permission denied; it answers at {ADDRESS} port 40000 instead" in caplog.text


async def test_the_asked_port_is_preferred_to_a_free_one(dns: Dns) -> None:
    await serve(dns, refused=(53,), spare_ports=(5353, 0))
    assert ports(found(dns, "services")["spec"])[0] == ("dns", "UDP", 5353)
    await serve(dns, refused=(53, 5353), spare_ports=(5353, 0))
    assert ports(found(dns, "services")["spec"])[0] == ("dns", "UDP", 40000)


async def test_without_any_port_the_start_fails_with_the_reason(dns: Dns) -> None:
    with pytest.raises(PermissionError):
        await serve(dns, refused=(53, 0))


async def test_a_restart_keeps_the_address_and_tells_the_new_port(dns: Dns) -> None:
    await serve(dns, refused=(53,))
    dns.api.change(
        "services", "kube-dns", "kube-system", spec={"clusterIP": "127.96.7.99", "clusterIPs": ["127.96.7.99"]}
    )
    assert await serve(dns) == ("127.96.7.99",)
    assert ports(found(dns, "services")["spec"])[0] == ("dns", "UDP", 53)


async def test_a_restart_without_news_leaves_the_service_alone(dns: Dns) -> None:
    await serve(dns)
    before = found(dns, "services")["metadata"]["resourceVersion"]
    await serve(dns)
    assert found(dns, "services")["metadata"]["resourceVersion"] == before


async def test_when_its_address_is_taken_the_service_gets_another(dns: Dns) -> None:
    taken = errors.invalid(
        "Service", "kube-dns", [errors.Cause("FieldValueInvalid", "provided IP is already allocated")]
    )
    dns.api.react("create services", taken)
    await serve(dns)
    assert "clusterIP" not in found(dns, "services")["spec"]


async def test_of_both_families_it_has_two_addresses_a_slice_for_each_and_endpoints_of_the_first(dns: Dns) -> None:
    host = Host(dns.api.client(), dns.clock, dns.responder._config)
    site = Site(addresses=(ADDRESS, "fd00:96::a"), node_addresses=(NODE, "fd00:244::1"), node_name="node")
    assert await serve_cluster(dns.api.client("kubecore"), host, site) == (ADDRESS, "fd00:96::a")
    assert host.asked == [([ADDRESS, "fd00:96::a", NODE, "fd00:244::1"], 53)]
    spec = found(dns, "services")["spec"]
    assert (spec["clusterIPs"], spec["ipFamilyPolicy"]) == ([ADDRESS, "fd00:96::a"], "PreferDualStack")
    for name, family, address in (("kube-dns", "IPv4", NODE), ("kube-dns-ipv6", "IPv6", "fd00:244::1")):
        piece = found(dns, "endpointslices.discovery.k8s.io", name)
        assert (piece["addressType"], piece["endpoints"][0]["addresses"]) == (family, [address])
    assert found(dns, "endpoints")["subsets"][0]["addresses"][0]["ip"] == NODE


async def test_one_from_before_the_cluster_had_a_second_family_gets_its_address(dns: Dns) -> None:
    await serve(dns)
    host = Host(dns.api.client(), dns.clock, dns.responder._config)
    site = Site(addresses=(ADDRESS, "fd00:96::a"), node_addresses=(NODE, "fd00:244::1"), node_name="node")
    assert await serve_cluster(dns.api.client("kubecore"), host, site) == (ADDRESS, "fd00:96::a")


async def test_a_kube_dns_that_selects_pods_is_left_to_its_owner_and_asked_by_pods(dns: Dns) -> None:
    spec = {"clusterIP": "10.96.0.99", "selector": {"k8s-app": "kube-dns"}, "ports": []}
    dns.api.add("services", {"metadata": {"name": "kube-dns", "namespace": "kube-system"}, "spec": spec})
    assert await serve(dns) == ("10.96.0.99",)
    assert found(dns, "services")["spec"]["ports"] == []
