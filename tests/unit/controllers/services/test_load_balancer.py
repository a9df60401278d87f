"""Services of type LoadBalancer get addresses of the cluster's pool, and give them back."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.client.client import Object
from kubecore.controllers.services.load_balancer import CLASS, FINALIZER, LoadBalancerController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events

POOL = ("192.0.2.0/30", "fd00::/126")


def service(name: str = "web", **spec: Any) -> Object:
    return {"metadata": {"name": name}, "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv4"], **spec}}


def addresses(api: FakeAPI, name: str = "web") -> list[str]:
    found = api.get("services", name)
    assert found is not None
    ingress = found.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    assert all(one["ipMode"] == "VIP" for one in ingress)
    return [one["ip"] for one in ingress]


@pytest.fixture
async def pool(running: Running) -> Running:
    await running.start(LoadBalancerController(running.context, POOL))
    return running


class TestGiving:
    async def test_a_service_gets_an_address_and_a_finalizer(self, api: FakeAPI, pool: Running) -> None:
        api.add("services", service())
        await pool.settle()
        found = api.get("services", "web")
        assert found is not None
        assert (addresses(api), found["metadata"]["finalizers"]) == (["192.0.2.1"], [FINALIZER])
        assert events(api) == ["Ensuring load balancer", "Ensured load balancer"]

    async def test_each_its_own_and_one_of_each_family(self, api: FakeAPI, pool: Running) -> None:
        api.add("services", service("a"))
        api.add("services", service("b", ipFamilies=["IPv6", "IPv4"]))
        await pool.settle()
        assert sorted(addresses(api, "a") + addresses(api, "b")) == ["192.0.2.1", "192.0.2.2", "fd00::1"]

    async def test_the_one_it_asks_for(self, api: FakeAPI, pool: Running) -> None:
        api.add("services", service(loadBalancerIP="192.0.2.2"))
        await pool.settle()
        assert addresses(api) == ["192.0.2.2"]

    async def test_a_service_keeps_what_it_has(self, api: FakeAPI, running: Running) -> None:
        kept = service()
        kept["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.2", "ipMode": "VIP"}]}}
        api.add("services", kept)
        await running.start(LoadBalancerController(running.context, POOL))
        assert addresses(api) == ["192.0.2.2"]

    async def test_one_of_another_class_is_left_alone_and_one_of_ours_is_not(self, api: FakeAPI, pool: Running) -> None:
        api.add("services", service("theirs", loadBalancerClass="example.com/lb"))
        api.add("services", service("ours", loadBalancerClass=CLASS))
        api.add("services", service("inside", type="ClusterIP"))
        await pool.settle()
        assert [addresses(api, name) for name in ("theirs", "ours", "inside")] == [[], ["192.0.2.1"], []]


class TestWant:
    async def test_a_family_that_the_pool_has_no_range_of_is_told(self, api: FakeAPI, running: Running) -> None:
        await running.start(LoadBalancerController(running.context, ["192.0.2.0/30"]))
        api.add("services", service(ipFamilies=["IPv4", "IPv6"]))
        await running.settle()
        assert addresses(api) == ["192.0.2.1"]
        assert "the pool 192.0.2.0/30 has no range of IPv6" in events(api)[-1]

    async def test_but_not_where_the_service_only_prefers_both(self, api: FakeAPI, running: Running) -> None:
        await running.start(LoadBalancerController(running.context, ["192.0.2.0/30"]))
        api.add("services", service(ipFamilies=["IPv6", "IPv4"], ipFamilyPolicy="PreferDualStack"))
        await running.settle()
        assert addresses(api) == ["192.0.2.1"]
        assert events(api) == ["Ensuring load balancer", "Ensured load balancer"]

    async def test_a_pool_that_is_used_up_is_told_and_waited_for(self, api: FakeAPI, pool: Running) -> None:
        for name in ("a", "b", "c"):
            api.add("services", service(name))
        await pool.settle()
        assert addresses(api, "c") == []
        assert "no free IPv4 address is left in the pool 192.0.2.0/30" in events(api)[-1]
        await pool.context.client.delete("services", "a", "default")
        await pool.settle()
        assert addresses(api, "c") == ["192.0.2.1"]

    @pytest.mark.parametrize("asked", ["198.51.100.1", "192.0.2.0/30"])
    async def test_an_address_outside_the_pool_is_refused(self, api: FakeAPI, pool: Running, asked: str) -> None:
        api.add("services", service(loadBalancerIP=asked))
        await pool.settle()
        assert addresses(api) == []
        assert f"loadBalancerIP {asked} is not an address of the pool 192.0.2.0/30" in events(api)[-1]

    async def test_and_so_is_one_that_another_service_has(self, api: FakeAPI, pool: Running) -> None:
        api.add("services", service("a"))
        await pool.settle()
        api.add("services", service("b", loadBalancerIP="192.0.2.1"))
        await pool.settle()
        assert addresses(api, "b") == []


class TestTakingBack:
    async def test_a_service_that_is_deleted_goes_once_its_address_is_free(self, api: FakeAPI, pool: Running) -> None:
        api.add("services", service())
        await pool.settle()
        await pool.context.client.delete("services", "web", "default")
        await pool.settle()
        assert api.get("services", "web") is None

    async def test_one_that_changes_its_type_or_is_given_away_loses_its_address(
        self, api: FakeAPI, pool: Running
    ) -> None:
        api.add("services", service())
        await pool.settle()
        api.change("services", "web", spec={"type": "ClusterIP"})
        await pool.settle()
        found = api.get("services", "web")
        assert found is not None
        assert (addresses(api), found["metadata"].get("finalizers") or []) == ([], [])


class TestEvents:
    """Those of a Service that changes while it has its address."""

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"loadBalancerSourceRanges": ["10.0.0.0/8", "192.0.2.0/24"]}, "[] -> [10.0.0.0/8 192.0.2.0/24]"),
            ({"loadBalancerIP": "192.0.2.1"}, " -> 192.0.2.1"),
            ({"externalIPs": ["198.51.100.1"]}, "Count: 0 -> 1"),
            ({"externalTrafficPolicy": "Local"}, "Cluster -> Local"),
            ({"healthCheckNodePort": 30001}, "0 -> 30001"),
            ({"ports": [{"port": 81}]}, None),
            ({"sessionAffinity": "ClientIP"}, None),
        ],
    )
    async def test_what_has_changed_is_told_and_the_balancer_ensured_anew(
        self, api: FakeAPI, pool: Running, changed: Object, told: str | None
    ) -> None:
        before = service(externalTrafficPolicy="Cluster", ports=[{"port": 80}])
        api.add("services", before)
        await pool.settle()
        known = len(events(api))
        api.change("services", "web", spec={**before["spec"], **changed})
        await pool.settle()
        ensured = ["Ensuring load balancer", "Ensured load balancer"]
        assert set(events(api)[known:]) <= {told, *ensured}
        assert (told in events(api)) == (told is not None)
        assert sum(one["count"] for one in api.all("events") if one["message"] in ensured) == 4
        assert addresses(api) == ["192.0.2.1"]

    async def test_another_type_is_told(self, api: FakeAPI, pool: Running) -> None:
        api.add("services", service())
        await pool.settle()
        api.change("services", "web", spec={"type": "ClusterIP"})
        await pool.settle()
        api.change("services", "web", spec=service()["spec"])
        await pool.settle()
        assert events(api, "Type") == ["LoadBalancer -> ClusterIP", "ClusterIP -> LoadBalancer"]

    async def test_what_does_not_concern_a_load_balancer_is_not_told(self, api: FakeAPI, pool: Running) -> None:
        api.add("services", service())
        api.add("services", service("inside", type="ClusterIP"))
        await pool.settle()
        known = events(api)
        api.change("services", "web", spec={**service()["spec"], "selector": {"app": "other"}})
        api.change("services", "inside", spec={"type": "ClusterIP", "externalIPs": ["198.51.100.1"]})
        await pool.settle()
        assert events(api) == known
