from typing import Any

import pytest

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers.services.endpointslice_mirroring import MANAGER, EndpointSliceMirroringController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events

SLICES = "endpointslices.discovery.k8s.io"
HTTP = {"name": "http", "port": 80, "protocol": "TCP"}


def service(**spec: Any) -> Object:
    return {"metadata": {"name": "db"}, "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80}], **spec}}


def subset(*ips: str, not_ready: tuple[str, ...] = (), port: Object | None = None) -> Object:
    made = {"addresses": [{"ip": ip} for ip in ips], "notReadyAddresses": [{"ip": ip} for ip in not_ready]}
    return {**{name: value for name, value in made.items() if value}, "ports": [port or HTTP]}


def endpoints(*subsets: Object, **metadata: Any) -> Object:
    return {"metadata": {"name": "db", **metadata}, "subsets": list(subsets)}


async def mirror(api: FakeAPI, running: Running, *subsets: Object, **metadata: Any) -> list[Object]:
    """The slices of Endpoints of a Service without selector."""
    api.add("services", service())
    api.add("endpoints", endpoints(*subsets, **metadata))
    await running.start(EndpointSliceMirroringController(running.context))
    return slices(api)


def slices(api: FakeAPI) -> list[Object]:
    return sorted(api.all(SLICES), key=lambda one: (one["addressType"], str(one["ports"])))


def addresses(one: Object) -> dict[str, bool]:
    """Whether each is ready."""
    return {endpoint["addresses"][0]: endpoint["conditions"]["ready"] for endpoint in one["endpoints"]}


async def test_endpoints_that_people_made_are_told_as_a_slice(api: FakeAPI, running: Running) -> None:
    annotations = {"a": "b", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
    made = subset("10.0.0.1", not_ready=("10.0.0.2",))
    made["addresses"][0] |= {"nodeName": "n", "hostname": "h", "targetRef": {"kind": "Pod", "name": "p"}}
    (one,) = await mirror(api, running, made, labels={"app": "db"}, annotations=annotations)
    assert meta.labels(one) == {
        "app": "db",
        "kubernetes.io/service-name": "db",
        "endpointslice.kubernetes.io/managed-by": MANAGER,
    }
    assert meta.annotations(one) == {"a": "b"}
    (owner,) = one["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("Endpoints", "db")
    assert (one["addressType"], one["ports"]) == ("IPv4", [HTTP])
    assert addresses(one) == {"10.0.0.1": True, "10.0.0.2": False}
    assert one["endpoints"][0]["nodeName"] == "n"
    assert one["endpoints"][0]["hostname"] == "h"
    assert one["endpoints"][0]["targetRef"] == {"kind": "Pod", "name": "p"}


async def test_families_and_ports_have_slices_of_their_own(api: FakeAPI, running: Running) -> None:
    other = {"name": "sql", "port": 5432, "protocol": "TCP"}
    found = await mirror(api, running, subset("10.0.0.1", "fd00::1"), subset("10.0.0.1", port=other))
    assert [(one["addressType"], one["ports"][0]["name"], addresses(one)) for one in found] == [
        ("IPv4", "http", {"10.0.0.1": True}),
        ("IPv4", "sql", {"10.0.0.1": True}),
        ("IPv6", "http", {"fd00::1": True}),
    ]


async def test_an_address_that_is_ready_anywhere_is_ready_once(api: FakeAPI, running: Running) -> None:
    (one,) = await mirror(api, running, subset(not_ready=("10.0.0.1",)), subset("10.0.0.1"))
    assert [endpoint["conditions"] for endpoint in one["endpoints"]] == [{"ready": True}]


async def test_a_change_is_written_into_the_slice_and_nothing_else_is(api: FakeAPI, running: Running) -> None:
    (before,) = await mirror(api, running, subset("10.0.0.1"))
    writes = len(api.writes())
    api.change("endpoints", "db", metadata={"annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "x"}})
    await running.settle()
    assert len(api.writes()) == writes
    api.change("endpoints", "db", subsets=[subset("10.0.0.3")])
    await running.settle()
    (after,) = slices(api)
    assert meta.name(after) == meta.name(before)
    assert addresses(after) == {"10.0.0.3": True}


async def test_the_slice_of_ports_that_are_gone_serves_the_new_ones(api: FakeAPI, running: Running) -> None:
    (before,) = await mirror(api, running, subset("10.0.0.1"))
    api.change("endpoints", "db", subsets=[subset("10.0.0.1", port={"port": 81, "protocol": "TCP"})])
    await running.settle()
    (after,) = slices(api)
    assert meta.name(after) == meta.name(before)
    assert after["ports"] == [{"name": "", "port": 81, "protocol": "TCP"}]


@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        {"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}},
    ],
)
async def test_some_endpoints_are_not_mirrored(api: FakeAPI, running: Running, metadata: dict[str, Any]) -> None:
    assert await mirror(api, running, subset("10.0.0.1"), **metadata) == []


async def test_endpoints_without_a_service_wait_for_it(api: FakeAPI, running: Running) -> None:
    api.add("endpoints", endpoints(subset("10.0.0.1")))
    await running.start(EndpointSliceMirroringController(running.context))
    assert slices(api) == []
    api.add("services", service())
    await running.settle()
    assert len(slices(api)) == 1


async def test_a_service_that_gets_a_selector_loses_the_mirrored_slices(api: FakeAPI, running: Running) -> None:
    await mirror(api, running, subset("10.0.0.1"))
    api.change("services", "db", spec={"selector": {"app": "db"}})
    await running.settle()
    assert slices(api) == []


async def test_an_external_name_with_a_selector_has_no_mirrored_slices(api: FakeAPI, running: Running) -> None:
    await mirror(api, running, subset("10.0.0.1"))
    api.change("services", "db", spec={"selector": {"app": "db"}, "type": "ExternalName", "externalName": "a.b"})
    await running.settle()
    assert slices(api) == []


@pytest.mark.parametrize("resource", ["services", "endpoints"])
async def test_slices_go_with_what_they_mirror(api: FakeAPI, running: Running, resource: str) -> None:
    await mirror(api, running, subset("10.0.0.1"))
    api.remove(resource, "db")
    await running.settle()
    assert slices(api) == []


async def test_a_mirrored_slice_that_somebody_changes_or_deletes_is_put_right(api: FakeAPI, running: Running) -> None:
    (one,) = await mirror(api, running, subset("10.0.0.1"))
    api.change(SLICES, meta.name(one), endpoints=[])
    await running.settle()
    assert addresses(slices(api)[0]) == {"10.0.0.1": True}
    api.remove(SLICES, meta.name(one))
    await running.settle()
    assert addresses(slices(api)[0]) == {"10.0.0.1": True}


async def test_what_cannot_be_mirrored_is_told(api: FakeAPI, running: Running) -> None:
    many = [f"10.1.{high}.{low}" for high in range(5) for low in range(250)]
    (one,) = await mirror(api, running, subset("not an address", *many))
    assert len(one["endpoints"]) == 1000
    assert sorted(events(api)) == [
        "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 251 addresses were skipped",
        "Skipped 1 invalid IP addresses when mirroring to EndpointSlices",
    ]
