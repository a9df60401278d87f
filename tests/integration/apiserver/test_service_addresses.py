"""Addresses of Services as objects: IPAddresses come and go with Services, ServiceCIDRs give more of them."""

from __future__ import annotations

import asyncio

import pytest

from kubecore.apiserver.transport import driving

from .conftest import JSON, Api, config_map

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVICES = "v1/services"
ADDRESSES, CIDRS = "networking.k8s.io/v1/ipaddresses", "networking.k8s.io/v1/servicecidrs"


def service(name: str, **spec: object) -> JSON:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


async def test_the_range_of_the_command_line_is_a_service_cidr_that_is_ready(cluster: Api) -> None:
    status, found = await cluster.get(CIDRS, "kubernetes")
    assert status == 200
    assert found["spec"] == {"cidrs": ["10.96.0.0/16"]}
    assert [(one["type"], one["status"]) for one in found["status"]["conditions"]] == [("Ready", "True")]
    status, address = await cluster.get(ADDRESSES, "10.96.0.1")
    assert status == 200
    assert address["spec"]["parentRef"] == {"resource": "services", "namespace": "default", "name": "kubernetes"}


async def test_a_service_has_an_ip_address_as_long_as_it_is_there(api: Api, cluster: Api) -> None:
    _, made = await api.create(SERVICES, service("web"))
    ip = made["spec"]["clusterIP"]
    _, address = await cluster.get(ADDRESSES, ip)
    assert address["spec"]["parentRef"] == {"resource": "services", "namespace": api.namespace, "name": "web"}
    assert address["metadata"]["labels"] == {
        "ipaddress.kubernetes.io/ip-family": "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    assert (await api.delete(SERVICES, "web"))[0] == 200
    assert (await cluster.get(ADDRESSES, ip))[0] == 404


async def test_a_service_that_becomes_an_external_name_loses_it_and_gets_another_later(api: Api, cluster: Api) -> None:
    _, made = await api.create(SERVICES, service("web"))
    ip = made["spec"]["clusterIP"]
    made["spec"] |= {"type": "ExternalName", "externalName": "example.com"}
    status, named = await api.update(SERVICES, made)
    assert status == 200
    assert (await cluster.get(ADDRESSES, ip))[0] == 404
    named["spec"] |= {"type": "ClusterIP"}
    _, again = await api.update(SERVICES, named)
    assert (await cluster.get(ADDRESSES, again["spec"]["clusterIP"]))[0] == 200


@pytest.mark.parametrize("turns", range(1, 5))
async def test_a_service_whose_client_leaves_while_it_is_written_has_its_ip_address(
    api: Api, cluster: Api, turns: int
) -> None:
    address = f"10.96.0.{40 + turns}"
    leaving = asyncio.create_task(api.create(SERVICES, service("web", clusterIP=address)))
    for number in range(turns):
        await asyncio.sleep(0)
        # The store answers in order: each of these goes after what the Service has written so far.
        if number:
            await api.create("v1/configmaps", config_map(f"turn-{number}"))
    leaving.cancel()
    await asyncio.wait([leaving])
    await driving.finish()
    for number in range(10):
        await api.create("v1/configmaps", config_map(f"later-{number}"))
    _, made = await api.get(SERVICES, "web")
    assert made["spec"]["clusterIP"] == address
    assert (await cluster.get(ADDRESSES, address))[0] == 200
    assert (await api.create(SERVICES, service("other", clusterIP=address)))[0] == 422


async def test_a_service_that_is_refused_leaves_no_ip_address(api: Api, cluster: Api) -> None:
    await api.create(SERVICES, service("web", clusterIP="10.96.0.21"))
    assert (await api.create(SERVICES, service("web", clusterIP="10.96.0.22")))[0] == 409
    assert (await api.create(SERVICES, service("other", clusterIP="10.96.0.22", sessionAffinity="Odd")))[0] == 422
    assert (await api.create(SERVICES, service("dry", clusterIP="10.96.0.22"), dryRun="All"))[0] == 201
    assert (await cluster.get(ADDRESSES, "10.96.0.22"))[0] == 404
    assert (await api.create(SERVICES, service("third", clusterIP="10.96.0.22")))[0] == 201


async def test_an_ip_address_of_somebody_else_keeps_services_from_the_address(api: Api, cluster: Api) -> None:
    owner = {"resource": "gateways", "group": "example.com", "name": "g"}
    mine = {"metadata": {"name": "10.96.0.23"}, "spec": {"parentRef": owner}}
    assert (await cluster.create(ADDRESSES, mine))[0] == 201
    status, refused = await api.create(SERVICES, service("web", clusterIP="10.96.0.23"))
    assert status == 422
    assert refused["message"].endswith("failed to allocate IP 10.96.0.23: provided IP is already allocated")
    await cluster.delete(ADDRESSES, "10.96.0.23")
    assert (await api.create(SERVICES, service("web", clusterIP="10.96.0.23")))[0] == 201


async def test_another_service_cidr_gives_more_addresses(api: Api, cluster: Api) -> None:
    wanted = service("web", clusterIP="10.99.0.7")
    status, refused = await api.create(SERVICES, wanted)
    assert status == 422
    assert refused["message"].endswith("the provided network does not match the current range")
    more = {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.99.0.0/24"]}}
    assert (await cluster.create(CIDRS, more))[0] == 201
    assert (await api.create(SERVICES, wanted))[0] == 201
    # From one that is on its way out none is given any more.
    await cluster.delete(CIDRS, "more")
    assert (await api.create(SERVICES, service("late", clusterIP="10.99.0.8")))[0] == 422


async def test_an_address_out_of_a_range_that_ends_goes_with_its_service(api: Api, cluster: Api) -> None:
    metadata = {"name": "ending", "finalizers": ["example.com/hold"]}
    await cluster.create(CIDRS, {"metadata": metadata, "spec": {"cidrs": ["10.202.0.0/24"]}})
    ready = {
        "status": {
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                    "reason": "",
                    "message": "",
                }
            ]
        }
    }
    await cluster.patch(CIDRS, "ending", ready, subresource="status")
    status, made = await api.create(SERVICES, service("there", clusterIP="10.202.0.7"))
    assert status == 201, made
    assert (await cluster.delete(CIDRS, "ending"))[1]["metadata"]["deletionTimestamp"]
    await api.delete(SERVICES, "there")
    assert (await cluster.get(ADDRESSES, "10.202.0.7"))[0] == 404


async def test_what_makes_the_name_of_an_address_is_its_name(cluster: Api) -> None:
    """As upstream: there is nothing to add to an address."""
    addresses = "networking.k8s.io/v1/ipaddresses"
    spec = {"parentRef": {"resource": "services", "namespace": "default", "name": "s"}}
    status, made = await cluster.create(addresses, {"metadata": {"generateName": "192.0.2.7"}, "spec": spec})
    assert (status, made["metadata"]["name"]) == (201, "192.0.2.7")
    status, refused = await cluster.create(addresses, {"metadata": {"generateName": "192.0.2.7"}, "spec": spec})
    assert (status, refused["reason"]) == (409, "AlreadyExists")
    status, refused = await cluster.create(addresses, {"metadata": {"generateName": "gn-"}, "spec": spec})
    assert [one["field"] for one in refused["details"]["causes"]] == ["metadata.generateName", "metadata.name"]
    await cluster.delete(addresses, "192.0.2.7")
