"""ServiceCIDRs and IPAddresses: ranges are told ready and kept while used, addresses and Services fit each other."""

from __future__ import annotations

from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.services.service_addresses import ServiceAddressController
from kubecore.controllers.services.service_cidr import ServiceCIDRController
from kubecore.controllers.services.service_ranges import FAMILY, IP_ADDRESSES, MANAGED_BY, MANAGER, SERVICE_CIDRS
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events

FINALIZER = "networking.k8s.io/service-cidr-finalizer"


def cidr(name: str, *ranges: str) -> Object:
    return {"metadata": {"name": name}, "spec": {"cidrs": list(ranges)}}


def address(name: str, service: str, *, managed: bool = True) -> Object:
    labels = {FAMILY: "IPv4", MANAGED_BY: MANAGER} if managed else {}
    owner = {"resource": "services", "namespace": "default", "name": service}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"parentRef": owner}}


def service(name: str, *addresses: str) -> Object:
    return {"metadata": {"name": name}, "spec": {"clusterIP": addresses[0], "clusterIPs": list(addresses)}}


def ready(api: FakeAPI, name: str) -> tuple[str, str]:
    found = api.get(SERVICE_CIDRS, name)
    assert found is not None
    (condition,) = found["status"]["conditions"]
    return condition["status"], condition["reason"]


async def delete(running: Running, name: str) -> None:
    await running.context.client.delete(SERVICE_CIDRS, name)
    await running.settle()


# --- ServiceCIDRs


async def test_a_range_is_told_ready_and_protected(api: FakeAPI, running: Running) -> None:
    api.add(SERVICE_CIDRS, cidr("kubernetes", "10.96.0.0/16"))
    await running.start(ServiceCIDRController(running.context))
    found = api.get(SERVICE_CIDRS, "kubernetes")
    assert found is not None
    assert found["metadata"]["finalizers"] == [FINALIZER]
    assert ready(api, "kubernetes") == ("True", "")


async def test_a_range_stays_while_an_address_is_of_no_other(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    api.add(SERVICE_CIDRS, cidr("more", "10.97.0.0/24"))
    api.add(IP_ADDRESSES, address("10.97.0.7", "web"))
    await running.start(ServiceCIDRController(running.context))
    await delete(running, "more")
    assert ready(api, "more") == ("False", "Terminating")
    api.remove(IP_ADDRESSES, "10.97.0.7")
    # Servers may hand out addresses of it for a moment more.
    await running.settle()
    assert api.get(SERVICE_CIDRS, "more") is not None
    await clock.advance(11)
    assert api.get(SERVICE_CIDRS, "more") is None


async def test_a_range_within_another_goes_whoever_uses_it(api: FakeAPI, running: Running, clock: VirtualClock) -> None:
    api.add(SERVICE_CIDRS, cidr("kubernetes", "10.96.0.0/16"))
    api.add(SERVICE_CIDRS, cidr("inner", "10.96.1.0/24"))
    api.add(IP_ADDRESSES, address("10.96.1.7", "web"))
    await running.start(ServiceCIDRController(running.context))
    await delete(running, "inner")
    await clock.advance(11)
    assert api.get(SERVICE_CIDRS, "inner") is None


# --- IPAddresses


async def test_an_address_without_its_ip_address_is_given_one(api: FakeAPI, running: Running) -> None:
    api.add(SERVICE_CIDRS, cidr("kubernetes", "10.96.0.0/16"))
    api.add("services", service("web", "10.96.0.7"))
    await running.start(ServiceAddressController(running.context))
    found = api.get(IP_ADDRESSES, "10.96.0.7")
    assert found is not None
    assert found["spec"]["parentRef"] == {"resource": "services", "namespace": "default", "name": "web"}
    assert found["metadata"]["labels"] == {FAMILY: "IPv4", MANAGED_BY: MANAGER}
    assert events(api, "ClusterIPNotAllocated")
    # And again when somebody takes it away.
    api.remove(IP_ADDRESSES, "10.96.0.7")
    await running.settle()
    assert api.get(IP_ADDRESSES, "10.96.0.7") is not None


async def test_an_address_outside_all_ranges_is_told_of(api: FakeAPI, running: Running) -> None:
    api.add(SERVICE_CIDRS, cidr("kubernetes", "10.96.0.0/16"))
    api.add("services", service("web", "10.98.0.7"))
    await running.start(ServiceAddressController(running.context))
    assert events(api, "ClusterIPOutOfRange")
    assert api.all(IP_ADDRESSES) == []


async def test_an_ip_address_with_a_wrong_owner_or_labels_is_made_anew(api: FakeAPI, running: Running) -> None:
    api.add(SERVICE_CIDRS, cidr("kubernetes", "10.96.0.0/16"))
    api.add("services", service("web", "10.96.0.7"))
    api.add(IP_ADDRESSES, address("10.96.0.7", "gone"))
    api.add("services", service("other", "10.96.0.8"))
    api.add(IP_ADDRESSES, address("10.96.0.8", "other", managed=False))
    await running.start(ServiceAddressController(running.context))
    for name, owner in (("10.96.0.7", "web"), ("10.96.0.8", "other")):
        found = api.get(IP_ADDRESSES, name)
        assert found is not None
        assert found["spec"]["parentRef"]["name"] == owner
        assert found["metadata"]["labels"][MANAGED_BY] == MANAGER


async def test_an_ip_address_without_a_service_goes_after_a_minute(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    api.add(SERVICE_CIDRS, cidr("kubernetes", "10.96.0.0/16"))
    api.add(IP_ADDRESSES, address("10.96.0.7", "gone"))
    api.add(IP_ADDRESSES, address("10.96.0.8", "gone", managed=False))
    await running.start(ServiceAddressController(running.context))
    await clock.advance(50)
    assert api.get(IP_ADDRESSES, "10.96.0.7") is not None
    await clock.advance(20)
    assert api.get(IP_ADDRESSES, "10.96.0.7") is None
    # That one is somebody else's.
    assert api.get(IP_ADDRESSES, "10.96.0.8") is not None


async def test_an_address_that_two_services_claim_is_left_to_people(api: FakeAPI, running: Running) -> None:
    api.add(SERVICE_CIDRS, cidr("kubernetes", "10.96.0.0/16"))
    for name in ("one", "two"):
        api.add("services", service(name, "10.96.0.7"))
    api.add(IP_ADDRESSES, address("10.96.0.7", "one"))
    await running.start(ServiceAddressController(running.context))
    assert events(api, "ClusterIPAlreadyAllocated")
    assert not api.writes(f"delete {IP_ADDRESSES}")
