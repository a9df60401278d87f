"""The responder follows the cluster."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from kubecore.api import errors
from tests.support.dns_client import ask, query
from tests.support.ports import free_port
from tests.unit.dns.conftest import Dns


async def test_before_it_knows_the_cluster_it_denies_nothing(dns: Dns) -> None:
    dns.service("web", "10.96.0.7")
    assert dns.ask("web.default.svc").code == "SERVFAIL"
    assert not dns.responder.ready.is_set()
    await dns.start()
    assert dns.responder.ready.is_set()
    assert dns.ask("web.default.svc").values() == ["10.96.0.7"]
    assert dns.ask("db.default.svc").code == "NXDOMAIN"


async def test_a_new_service_is_named_without_any_time_passing(dns: Dns) -> None:
    await dns.start()
    dns.service("web", "10.96.0.7")
    await dns.clock.settle()
    assert dns.ask("web.default.svc").values() == ["10.96.0.7"]


async def test_a_service_deleted_does_not_exist_at_once(dns: Dns) -> None:
    dns.service("web", "10.96.0.7")
    await dns.start()
    await dns.clock.advance(1)
    await dns.api.client().delete("services", "web", "default")
    await dns.clock.settle()
    assert dns.ask("web.default.svc").code == "NXDOMAIN"
    assert dns.ask("_http._tcp.web.default.svc", "SRV").code == "NXDOMAIN"


async def test_a_headless_service_follows_its_slices(dns: Dns) -> None:
    dns.service("db", "None")
    await dns.start()
    assert dns.ask("db.default.svc").code == "NXDOMAIN"
    dns.slice("db-1", "db", "10.244.0.3")
    dns.slice("db-2", "db", "10.244.0.4")
    await dns.clock.advance(1)
    assert dns.ask("db.default.svc").values() == ["10.244.0.3", "10.244.0.4"]
    labels = {"labels": {"kubernetes.io/service-name": "other"}}
    dns.api.change("endpointslices.discovery.k8s.io", "db-2", metadata=labels)
    await dns.clock.advance(1)
    assert dns.ask("db.default.svc").values() == ["10.244.0.3"]
    await dns.api.client().delete("endpointslices.discovery.k8s.io", "db-1", "default")
    await dns.clock.advance(1)
    assert dns.ask("db.default.svc").code == "NXDOMAIN"


async def test_slices_may_come_before_their_service(dns: Dns) -> None:
    await dns.start()
    dns.slice("db-1", "db", "10.244.0.3")
    await dns.clock.advance(1)
    assert dns.ask("db.default.svc").code == "NXDOMAIN"
    dns.service("db", "None")
    await dns.clock.advance(1)
    assert dns.ask("db.default.svc").values() == ["10.244.0.3"]


async def test_names_of_pods_exist_as_long_as_their_namespace(dns: Dns) -> None:
    await dns.start()
    assert dns.ask("10-1-2-3.shop.pod").code == "NXDOMAIN"
    dns.api.add("namespaces", {"metadata": {"name": "shop"}})
    await dns.clock.advance(1)
    assert dns.ask("10-1-2-3.shop.pod").values() == ["10.1.2.3"]
    assert dns.ask("shop.svc").code == "NOERROR"
    dns.api.remove("namespaces", "shop")
    await dns.clock.advance(1)
    assert dns.ask("10-1-2-3.shop.pod").code == "NXDOMAIN"


async def test_only_what_has_changed_is_applied(dns: Dns) -> None:
    dns.service("web", "10.96.0.7")
    dns.slice("web-1", "web", "10.244.0.3")
    await dns.start()
    before = serial(dns)
    dns.slice("web-2", "web")
    await dns.clock.advance(1)
    assert serial(dns) == before
    dns.service("db", "10.96.0.8")
    await dns.clock.advance(1)
    assert serial(dns) == before + 1


def serial(dns: Dns) -> int:
    """Of the zone's SOA record: counts the replacements of records."""
    wire = dns.responder.answer(query("cluster.local", "SOA"))
    assert wire is not None
    return int.from_bytes(wire[-20:-16], "big")


async def test_a_name_that_dns_cannot_have_keeps_no_other_from_its_own(
    dns: Dns, caplog: pytest.LogCaptureFixture
) -> None:
    dns.service("x" * 64, "10.96.0.8")
    dns.service("web", "10.96.0.7")
    await dns.start()
    assert dns.ask("web.default.svc").values() == ["10.96.0.7"]
    assert "has no names" in caplog.text


async def test_what_was_known_is_answered_while_the_api_server_is_away(dns: Dns) -> None:
    dns.service("web", "10.96.0.7")
    await dns.start()
    dns.api.react("list services", errors.service_unavailable("away"), times=100)
    dns.api.end_watches()
    await dns.clock.advance(5)
    assert dns.ask("web.default.svc").values() == ["10.96.0.7"]


async def test_a_pods_search_path_is_gone_through_while_it_has_its_address(dns: Dns) -> None:
    dns.service("web", "10.96.0.7")
    responder = dns.responder = dns.make(autopath=True)
    address = responder.listen(["127.0.0.1"], 0)

    def values() -> list[str]:
        return ask(("127.0.0.1", address), "web.default.default.svc.cluster.local").values("A")

    dns.api.add("pods", {"metadata": {"name": "p"}, "spec": {}})
    await dns.start()
    assert values() == []
    statuses: list[tuple[dict[str, Any], list[str]]] = [
        ({"phase": "Running", "podIPs": [{"ip": "127.0.0.1"}]}, ["10.96.0.7"]),
        ({"phase": "Succeeded", "podIPs": [{"ip": "127.0.0.1"}]}, []),
    ]
    for status, found in statuses:
        dns.api.change("pods", "p", status=status)
        await dns.clock.settle()
        assert values() == found


async def test_an_address_that_another_pod_has_by_now_stays_known(dns: Dns) -> None:
    dns.service("web", "10.96.0.7")
    responder = dns.responder = dns.make(autopath=True)
    port = responder.listen(["127.0.0.1"], 0)
    for name in ("old", "new"):
        dns.api.add("pods", {"metadata": {"name": name}, "spec": {}, "status": {"podIPs": [{"ip": "127.0.0.1"}]}})
        if name == "old":
            await dns.start()
    await dns.clock.settle()
    dns.api.remove("pods", "old")
    await dns.clock.settle()
    assert ask(("127.0.0.1", port), "web.default.default.svc.cluster.local").values("A") == ["10.96.0.7"]


class TestListening:
    def test_one_port_serves_all_addresses(self, dns: Dns) -> None:
        port = dns.responder.listen(["127.0.0.1", "127.7.7.7"], 0)
        assert sorted(dns.responder.listening()) == [("127.0.0.1", port), ("127.7.7.7", port)]

    def test_all_addresses_are_had_or_none(self, dns: Dns) -> None:
        port = free_port()  # at the first address it is to be had
        refused = rf"cannot listen on 127.7.7.7:{port} for DNS: .*in use"
        with socket.create_server(("127.7.7.7", port)), pytest.raises(OSError, match=refused):
            dns.responder.listen(["127.0.0.1", "127.7.7.7"], port)
        assert dns.responder.listening() == []

    def test_an_address_may_be_listened_on_before_it_is_there(self, dns: Dns) -> None:
        with pytest.raises(OSError, match="assign"):
            dns.responder.listen(["192.0.2.77"], 0)
        assert dns.responder.listen(["192.0.2.77"], 0, ahead=True)

    async def test_it_names_itself_where_it_has_the_standard_port(self, dns: Dns) -> None:
        dns.responder.listen(["127.0.0.1"], 0)
        await dns.start()
        assert dns.ask("ns.dns").code == "NXDOMAIN"
