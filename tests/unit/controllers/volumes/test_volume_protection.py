from typing import Any

import pytest

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers.volumes.protection import AttributesClassProtection, ClaimProtection, VolumeProtection
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running
from tests.unit.controllers.volumes.objects import CLAIMS, VOLUMES, claim, pod_with, volume

ATTRIBUTES = "volumeattributesclasses.storage.k8s.io"
CLAIM_FINALIZER, VOLUME_FINALIZER = "kubernetes.io/pvc-protection", "kubernetes.io/pv-protection"


async def start(running: Running) -> None:
    context = running.context
    await running.start(ClaimProtection(context), VolumeProtection(context), AttributesClassProtection(context))


def protected(**fields: Any) -> Object:
    return claim(metadata={"finalizers": [CLAIM_FINALIZER]}, **fields)


async def delete(api: FakeAPI, running: Running, resource: str, name: str) -> bool:
    """Whether the object is gone then."""
    await api.client().delete(resource, name, "default")
    await running.settle()
    return api.get(resource, name) is None


async def test_what_was_made_without_protection_gets_it(api: FakeAPI, running: Running) -> None:
    api.add(CLAIMS, claim())
    api.add(VOLUMES, volume())
    await start(running)
    assert meta.finalizers(api.get(CLAIMS, "data") or {}) == [CLAIM_FINALIZER]
    assert meta.finalizers(api.get(VOLUMES, "v") or {}) == [VOLUME_FINALIZER]


async def test_a_claim_stays_until_the_last_pod_that_uses_it_is_gone(api: FakeAPI, running: Running) -> None:
    api.add(CLAIMS, protected())
    for name in ("one", "two"):
        api.add("pods", pod_with("data", name=name, nodeName="n"))
    await start(running)
    assert not await delete(api, running, CLAIMS, "data")
    assert not await delete_pod(api, running, "one")
    assert await delete_pod(api, running, "two")


async def delete_pod(api: FakeAPI, running: Running, name: str) -> bool:
    """Whether the claim is gone then."""
    api.remove("pods", name)
    await running.settle()
    return api.get(CLAIMS, "data") is None


async def test_a_claim_that_nobody_uses_goes_at_once(api: FakeAPI, running: Running) -> None:
    api.add(CLAIMS, protected())
    api.add("pods", pod_with("other", nodeName="n"))
    await start(running)
    assert await delete(api, running, CLAIMS, "data")


async def test_a_pod_without_a_node_does_not_use_its_claim(api: FakeAPI, running: Running) -> None:
    api.add(CLAIMS, protected())
    api.add("pods", pod_with("data"))
    await start(running)
    assert await delete(api, running, CLAIMS, "data")


async def test_a_finished_pod_still_uses_its_claim(api: FakeAPI, running: Running) -> None:
    api.add(CLAIMS, protected())
    api.add("pods", pod_with("data", nodeName="n", status={"phase": "Succeeded"}))
    await start(running)
    assert not await delete(api, running, CLAIMS, "data")
    assert await delete_pod(api, running, "p")


@pytest.mark.parametrize(("grace", "gone"), [(30, False), (0, True)])
async def test_the_claim_of_an_ephemeral_volume_goes_when_the_kubelet_is_done_with_its_pod(
    api: FakeAPI, running: Running, grace: int, gone: bool
) -> None:
    pod = pod_with(nodeName="n")
    pod["spec"]["volumes"] = [{"name": "x", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]
    pod["metadata"] |= {
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": grace,
        "finalizers": ["a/b"],
    }
    made = api.add("pods", pod)
    owned = [meta.controller_reference(made, "v1", "Pod")]
    api.add(CLAIMS, claim("p-x", metadata={"finalizers": [CLAIM_FINALIZER], "ownerReferences": owned}))
    await start(running)
    assert await delete(api, running, CLAIMS, "p-x") is gone


async def test_a_pod_that_the_cache_has_not_seen_yet_counts(api: FakeAPI, running: Running) -> None:
    api.add(CLAIMS, protected())
    await start(running)
    api.end_watches()
    api.add("pods", pod_with("data", nodeName="n"))
    assert not await delete(api, running, CLAIMS, "data")


async def test_all_claims_of_a_namespace_are_judged_by_one_list_of_pods(api: FakeAPI, running: Running) -> None:
    for number in range(20):
        api.add(CLAIMS, claim(f"c{number}", metadata={"finalizers": [CLAIM_FINALIZER]}))
    await start(running)
    await api.client().delete_collection(CLAIMS, "default")
    await running.settle()
    assert api.all(CLAIMS) == []


async def test_a_bound_volume_stays_until_it_is_released(api: FakeAPI, running: Running) -> None:
    api.add(VOLUMES, volume(metadata={"finalizers": [VOLUME_FINALIZER]}, status={"phase": "Bound"}))
    await start(running)
    assert not await delete(api, running, VOLUMES, "v")
    api.change(VOLUMES, "v", status={"phase": "Released"})
    await running.settle()
    assert api.get(VOLUMES, "v") is None


async def test_an_attributes_class_stays_while_a_claim_or_a_volume_is_of_it(api: FakeAPI, running: Running) -> None:
    api.add(ATTRIBUTES, {"metadata": {"name": "gold"}, "driverName": "d"})
    api.add(CLAIMS, claim(volumeAttributesClassName="gold"))
    api.add(VOLUMES, volume(volumeAttributesClassName="gold"))
    await start(running)
    assert not await delete(api, running, ATTRIBUTES, "gold")
    api.remove(CLAIMS, "data")
    await running.settle()
    assert api.get(ATTRIBUTES, "gold") is not None
    api.remove(VOLUMES, "v")
    await running.settle()
    assert api.get(ATTRIBUTES, "gold") is None
