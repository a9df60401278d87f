"""Pods with persistent volumes get a node only once their claims are bound, and only one that reaches the volumes."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.client.client import Object
from tests.unit.scheduler.conftest import Running

_CLAIMED = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
_EPHEMERAL = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]


def claim(name: str = "data", *, volume: str = "", bound: bool = False, **fields: Any) -> Object:
    metadata: Object = {"name": name, "namespace": "default"}
    if bound:
        metadata["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}
    metadata |= fields.pop("metadata", {})
    status = fields.pop("status", {"phase": "Bound" if bound else "Pending"})
    return {"metadata": metadata, "spec": {"volumeName": volume, **fields}, "status": status}


def volume(name: str = "v", *, zone: str = "") -> Object:
    terms = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}]
    affinity = {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}} if zone else {}
    return {"metadata": {"name": name}, "spec": affinity}


async def message_with(cluster: Running, volumes: list[Object], *claims: Object) -> str:
    """What is told of a pod that got no node."""
    await cluster.start()
    await cluster.add_node()
    for one in claims:
        cluster.api.add("persistentvolumeclaims", one)
    await cluster.add_pod("p", volumes=volumes)
    assert cluster.node_of() == ""
    return str(cluster.condition()["message"]).removeprefix("0/1 nodes are available: ")


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ([], 'persistentvolumeclaim "data" not found.'),
        ([claim()], "pod has unbound immediate PersistentVolumeClaims."),
        (
            [claim(volume="gone", status={"phase": "Lost"})],
            'persistentvolumeclaim "data" bound to non-existent persistentvolume "gone".',
        ),
        (
            [claim(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]})],
            'persistentvolumeclaim "data" is being deleted.',
        ),
        (
            [claim(volume="v", bound=True)],
            "1 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
        ),
    ],
)
async def test_claims_that_keep_a_pod_from_every_node(cluster: Running, claims: list[Object], told: str) -> None:
    assert await message_with(cluster, _CLAIMED, *claims) == told


async def test_the_claim_of_an_ephemeral_volume_is_awaited(cluster: Running) -> None:
    assert await message_with(cluster, _EPHEMERAL) == (
        'waiting for ephemeral volume controller to create the persistentvolumeclaim "p-scratch".'
    )


async def test_a_claim_that_is_not_the_pods_own_is_no_ephemeral_volume(cluster: Running) -> None:
    told = await message_with(cluster, _EPHEMERAL, claim("p-scratch"))
    assert told == "PVC default/p-scratch was not created for pod default/p (pod is not owner)."


async def test_a_claim_that_waits_for_its_first_consumer_finds_nothing_to_bind(cluster: Running) -> None:
    cluster.api.add(
        "storageclasses.storage.k8s.io",
        {"metadata": {"name": "late"}, "provisioner": "p", "volumeBindingMode": "WaitForFirstConsumer"},
    )
    told = await message_with(cluster, _CLAIMED, claim(storageClassName="late"))
    assert told == "1 node(s) didn't find available persistent volumes to bind."


async def test_a_pod_goes_where_its_volume_is(cluster: Running) -> None:
    await cluster.start()
    await cluster.add_node("here", labels={"zone": "a"})
    await cluster.add_node("there", labels={"zone": "b"})
    cluster.api.add("persistentvolumes", volume(zone="b"))
    cluster.api.add("persistentvolumeclaims", claim(volume="v", bound=True))
    await cluster.add_pod("p", volumes=_CLAIMED)
    assert cluster.node_of() == "there"


async def test_a_node_that_cannot_reach_the_volume_is_counted(cluster: Running) -> None:
    cluster.api.add("persistentvolumes", volume(zone="b"))
    told = await message_with(cluster, _CLAIMED, claim(volume="v", bound=True))
    assert told == "1 node(s) didn't match PersistentVolume's node affinity."


async def test_the_claim_it_waits_for_wakes_a_pod_and_others_do_not(cluster: Running) -> None:
    assert "not found" in await message_with(cluster, _CLAIMED)
    tries = len(cluster.events("FailedScheduling"))
    cluster.api.add("persistentvolumeclaims", claim("another", volume="v", bound=True))
    await cluster.clock.advance(15)
    assert len(cluster.events("FailedScheduling")) == tries
    cluster.api.add("persistentvolumes", volume())
    cluster.api.add("persistentvolumeclaims", claim(volume="v", bound=True))
    await cluster.clock.advance(15)
    assert cluster.node_of() == "n"
