"""Pods with persistent volumes get a node only once their claims are bound, and only one that reaches the volumes."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.client.client import Object
from kubecore.scheduler.cache import Cache
from kubecore.scheduler.framework import CycleState
from kubecore.scheduler.plugins.volume_binding import VolumeBinding
from kubecore.scheduler.pods import PodInfo
from kubecore.scheduler.scheduler import SchedulerConfig
from tests.unit.scheduler.builders import info, no_preemption, node_info, pod
from tests.unit.scheduler.conftest import Running

CLAIMS, VOLUMES = "persistentvolumeclaims", "persistentvolumes"
CLASSES = "storageclasses.storage.k8s.io"
_SELECTED = "volume.kubernetes.io/selected-node"
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


def late(**fields: Any) -> Object:
    """A class whose claims wait for their first consumer."""
    defaults = {"provisioner": "example.com/disks", "volumeBindingMode": "WaitForFirstConsumer"}
    return {"metadata": {"name": "late"}, **defaults, **fields}


_NO_DEVICES = "not found"
"""What is left of the attempt to make room for a pod that is refused before the devices it claims are looked at."""


async def message_with(cluster: Running, volumes: list[Object], *claims: Object) -> str:
    """What is told of a pod that got no node."""
    await cluster.start()
    await cluster.add_node()
    for one in claims:
        cluster.api.add(CLAIMS, one)
    await cluster.add_pod("p", volumes=volumes)
    assert cluster.node_of() == ""
    message = str(cluster.condition()["message"])
    return message.removeprefix("0/1 nodes are available: ").removesuffix(f" {no_preemption()}")


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
        ([claim(volume="v", bound=True)], 'persistentvolume "v" not found.'),
    ],
)
async def test_claims_that_keep_a_pod_from_every_node(cluster: Running, claims: list[Object], told: str) -> None:
    assert await message_with(cluster, _CLAIMED, *claims) == f"{told} {_NO_DEVICES}"


async def test_the_claim_of_an_ephemeral_volume_is_awaited(cluster: Running) -> None:
    assert await message_with(cluster, _EPHEMERAL) == (
        f'waiting for ephemeral volume controller to create the persistentvolumeclaim "p-scratch". {_NO_DEVICES}'
    )


async def test_a_claim_that_is_not_the_pods_own_is_no_ephemeral_volume(cluster: Running) -> None:
    told = await message_with(cluster, _EPHEMERAL, claim("p-scratch"))
    assert told == f"PVC default/p-scratch was not created for pod default/p (pod is not owner). {_NO_DEVICES}"


async def test_a_claim_that_waits_for_its_first_consumer_finds_nothing_to_bind(cluster: Running) -> None:
    cluster.api.add(CLASSES, late(provisioner="kubernetes.io/no-provisioner"))
    told = await message_with(cluster, _CLAIMED, claim(storageClassName="late"))
    assert told == "1 node(s) didn't find available persistent volumes to bind."


async def test_a_pod_goes_where_its_volume_is(cluster: Running) -> None:
    await cluster.start()
    await cluster.add_node("here", labels={"zone": "a"})
    await cluster.add_node("there", labels={"zone": "b"})
    cluster.api.add(VOLUMES, volume(zone="b"))
    cluster.api.add(CLAIMS, claim(volume="v", bound=True))
    await cluster.add_pod("p", volumes=_CLAIMED)
    assert cluster.node_of() == "there"


async def test_a_node_that_cannot_reach_the_volume_is_counted(cluster: Running) -> None:
    cluster.api.add(VOLUMES, volume(zone="b"))
    told = await message_with(cluster, _CLAIMED, claim(volume="v", bound=True))
    assert told == "1 node(s) didn't match PersistentVolume's node affinity."


async def test_the_claim_it_waits_for_wakes_a_pod_and_others_do_not(cluster: Running) -> None:
    assert "not found" in await message_with(cluster, _CLAIMED)
    tries = len(cluster.events("FailedScheduling"))
    cluster.api.add(CLAIMS, claim("another", volume="v", bound=True))
    await cluster.clock.advance(15)
    assert len(cluster.events("FailedScheduling")) == tries
    cluster.api.add(VOLUMES, volume())
    cluster.api.add(CLAIMS, claim(volume="v", bound=True))
    await cluster.clock.advance(15)
    assert cluster.node_of() == "n"


# --- Binding upon the choice of a node


def free(name: str, *, size: str = "1Gi", zone: str = "a") -> Object:
    """A volume of the class that waits."""
    spec = {**volume(zone=zone)["spec"], "storageClassName": "late", "capacity": {"storage": size}}
    return {"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}}


def wanting(name: str = "data", *, size: str = "1Gi", **fields: Any) -> Object:
    return claim(name, storageClassName="late", resources={"requests": {"storage": size}}, **fields)


def mounting(*claims: str) -> list[Object]:
    return [{"name": one, "persistentVolumeClaim": {"claimName": one}} for one in claims]


def selected(cluster: Running, name: str = "data") -> str:
    found = cluster.api.get(CLAIMS, name)
    assert found is not None
    return str((found["metadata"].get("annotations") or {}).get(_SELECTED, ""))


def reserved_for(cluster: Running, name: str) -> str:
    found = cluster.api.get(VOLUMES, name)
    assert found is not None
    return str((found["spec"].get("claimRef") or {}).get("name", ""))


async def bind(cluster: Running, name: str = "data", *, to: str) -> None:
    """What the binder does of a claim and its volume."""
    cluster.api.change(CLAIMS, name, metadata={"annotations": {"pv.kubernetes.io/bind-completed": "yes"}})
    cluster.api.change(CLAIMS, name, spec={"volumeName": to}, status={"phase": "Bound"})
    await cluster.settle()


async def two_zones(cluster: Running, **storage_class: Any) -> None:
    cluster.api.add(CLASSES, late(**storage_class))
    await cluster.start()
    for zone in ("a", "b"):
        await cluster.add_node(f"in-{zone}", labels={"zone": zone})


async def test_a_free_volume_is_reserved_and_the_pod_bound_once_its_claim_is(cluster: Running) -> None:
    await two_zones(cluster, provisioner="kubernetes.io/no-provisioner")
    cluster.api.add(VOLUMES, free("v", zone="b"))
    cluster.api.add(CLAIMS, wanting())
    await cluster.add_pod("p", volumes=_CLAIMED)
    assert reserved_for(cluster, "v") == "data"
    assert cluster.node_of() == ""
    await bind(cluster, to="v")
    assert cluster.node_of() == "in-b"


async def test_small_claims_take_small_volumes(cluster: Running) -> None:
    await two_zones(cluster, provisioner="kubernetes.io/no-provisioner")
    for name, size in (("small", "1Gi"), ("large", "5Gi")):
        cluster.api.add(VOLUMES, free(name, size=size))
    cluster.api.add(CLAIMS, wanting("needs-much", size="4Gi"))
    cluster.api.add(CLAIMS, wanting("needs-little"))
    await cluster.add_pod("p", volumes=mounting("needs-much", "needs-little"))
    assert (reserved_for(cluster, "small"), reserved_for(cluster, "large")) == ("needs-little", "needs-much")


async def test_two_pods_never_reserve_one_volume(cluster: Running) -> None:
    await two_zones(cluster, provisioner="kubernetes.io/no-provisioner")
    cluster.api.add(VOLUMES, free("v"))
    for name in ("one", "two"):
        cluster.api.add(CLAIMS, wanting(name))
        cluster.api.add("pods", {**pod(name, volumes=mounting(name)), "metadata": {"name": name}})
    await cluster.settle()
    assert len(cluster.api.writes(f"update {VOLUMES}")) == 1
    other = {"one": "two", "two": "one"}[reserved_for(cluster, "v")]
    assert "didn't find available persistent volumes to bind" in cluster.condition(other)["message"]


async def test_without_a_free_volume_the_provisioner_is_told_the_node(cluster: Running) -> None:
    topology = [{"matchLabelExpressions": [{"key": "zone", "values": ["b"]}]}]
    await two_zones(cluster, allowedTopologies=topology)
    cluster.api.add(CLAIMS, wanting())
    await cluster.add_pod("p", volumes=_CLAIMED)
    assert selected(cluster) == "in-b"
    assert cluster.node_of() == ""
    cluster.api.add(VOLUMES, {**free("made", zone="b"), "status": {"phase": "Bound"}})
    await bind(cluster, to="made")
    assert cluster.node_of() == "in-b"


DRIVERS, CAPACITIES = "csidrivers.storage.k8s.io", "csistoragecapacities.storage.k8s.io"


def room(name: str, capacity: str, *, zone: str = "a", **fields: Any) -> Object:
    """What the driver of class `late` says of a zone."""
    metadata = {"name": name, "namespace": "kube-system"}
    topology = {"matchLabels": {"zone": zone}}
    return {"metadata": metadata, "storageClassName": "late", "nodeTopology": topology, "capacity": capacity, **fields}


def driver(*, tells_capacity: bool = True) -> Object:
    return {"metadata": {"name": "example.com/disks"}, "spec": {"storageCapacity": tells_capacity}}


async def test_a_volume_is_provisioned_where_its_driver_says_that_there_is_room(cluster: Running) -> None:
    cluster.api.add(DRIVERS, driver())
    for one in (
        room("little", "1Gi"),
        room("enough", "10Gi", zone="b"),
        room("of-another-class", "10Gi", storageClassName="other"),
        room("in-small-pieces", "10Gi", maximumVolumeSize="1Gi"),
        room("nowhere", "10Gi", nodeTopology=None),
    ):
        cluster.api.add(CAPACITIES, one, "kube-system")
    await two_zones(cluster)
    cluster.api.add(CLAIMS, wanting(size="5Gi"))
    await cluster.add_pod("p", volumes=_CLAIMED)
    assert selected(cluster) == "in-b"


async def test_a_pod_whose_volume_has_no_room_waits_for_some(cluster: Running) -> None:
    cluster.api.add(DRIVERS, driver())
    cluster.api.add(CAPACITIES, room("c", "1Gi"), "kube-system")
    await two_zones(cluster)
    cluster.api.add(CLAIMS, wanting(size="5Gi"))
    await cluster.add_pod("p", volumes=_CLAIMED)
    assert "2 node(s) did not have enough free storage." in cluster.condition()["message"]
    tries = len(cluster.events("FailedScheduling"))
    cluster.api.change(CAPACITIES, "c", "kube-system", capacity="512Mi")
    await cluster.clock.advance(15)
    assert len(cluster.events("FailedScheduling")) == tries and selected(cluster) == ""
    cluster.api.change(CAPACITIES, "c", "kube-system", capacity="5Gi")
    await cluster.clock.advance(15)
    assert selected(cluster) == "in-a"


async def test_the_capacity_of_a_driver_that_tells_none_is_not_asked_for(cluster: Running) -> None:
    cluster.api.add(DRIVERS, driver())
    await two_zones(cluster)
    cluster.api.add(CLAIMS, wanting(size="5Gi"))
    await cluster.add_pod("p", volumes=_CLAIMED)
    assert selected(cluster) == ""
    cluster.api.change(DRIVERS, "example.com/disks", spec={"storageCapacity": False})
    await cluster.clock.advance(15)
    assert selected(cluster) != ""


async def test_a_claim_keeps_to_the_node_that_was_selected_for_it(cluster: Running) -> None:
    await two_zones(cluster)
    cluster.api.add(CLAIMS, wanting(metadata={"annotations": {_SELECTED: "in-b"}}))
    await cluster.add_pod("p", volumes=_CLAIMED)
    await bind(cluster, to="made")
    cluster.api.add(VOLUMES, {**free("made", zone="b"), "status": {"phase": "Bound"}})
    await cluster.settle()
    assert cluster.node_of() == "in-b"


async def test_a_pod_whose_volume_cannot_be_provisioned_is_scheduled_anew(cluster: Running) -> None:
    await two_zones(cluster)
    cluster.api.add(CLAIMS, wanting())
    await cluster.add_pod("p", volumes=_CLAIMED)
    assert selected(cluster) != ""
    cluster.api.change(CLAIMS, "data", metadata={"annotations": {_SELECTED: None}})
    await cluster.settle()
    assert cluster.condition()["message"] == (
        'running PreBind plugin "VolumeBinding": binding volumes: provisioning failed for PVC "data"'
    )
    await cluster.clock.advance(15)
    assert selected(cluster) != ""


async def test_a_binding_that_never_comes_about_is_given_up(cluster: Running) -> None:
    await two_zones(cluster)
    cluster.api.add(CLAIMS, wanting())
    await cluster.add_pod("p", volumes=_CLAIMED)
    await cluster.clock.advance(601)
    assert cluster.events("FailedScheduling")[0] == (
        'running PreBind plugin "VolumeBinding": binding volumes: context deadline exceeded'
    )


async def test_pods_that_wait_for_their_volumes_keep_nobody_else_from_binding(cluster: Running) -> None:
    cluster.api.add(CLASSES, late())
    await cluster.start(config=SchedulerConfig(bindings_in_flight=1))
    await cluster.add_node("n")
    cluster.api.add(CLAIMS, wanting())
    await cluster.add_pod("waits", volumes=_CLAIMED)
    await cluster.add_pod("goes")
    assert (cluster.node_of("waits"), cluster.node_of("goes")) == ("", "n")


async def test_a_pod_deleted_while_it_waits_leaves_its_reservation(cluster: Running) -> None:
    await two_zones(cluster, provisioner="kubernetes.io/no-provisioner")
    cluster.api.add(VOLUMES, free("v"))
    cluster.api.add(CLAIMS, wanting())
    await cluster.add_pod("first", volumes=_CLAIMED)
    cluster.api.remove("pods", "first")
    await cluster.settle()
    await cluster.add_pod("second", volumes=_CLAIMED)
    await bind(cluster, to="v")
    assert cluster.node_of("second") == "in-a"


async def test_what_two_pods_reserved_stays_reserved_until_both_let_go(cluster: Running) -> None:
    informers = cluster.api.informers()
    known = ((CLASSES, late(provisioner="kubernetes.io/no-provisioner")), (VOLUMES, free("v")))
    for resource, obj in (*known, (CLAIMS, wanting("one")), (CLAIMS, wanting("two"))):
        informers.informer(resource).apply("ADDED", cluster.api.add(resource, obj))
    plugin, on = VolumeBinding(informers), node_info("n", labels={"zone": "a"})

    def asked(name: str, claim: str) -> tuple[PodInfo, CycleState, str]:
        wanted, state = info(name, volumes=mounting(claim)), CycleState()
        assert plugin.pre_filter(state, wanted, Cache()) is None
        return wanted, state, "".join(plugin.filter(state, wanted, on))

    first, state_of_first, _ = asked("first", "one")
    second, state_of_second, _ = asked("second", "one")
    plugin.reserve(state_of_first, first, "n")
    plugin.reserve(state_of_second, second, "n")
    plugin.unreserve(state_of_second, second, "n")
    # a plugin that did not reserve is asked to undo it, too
    plugin.unreserve(state_of_second, second, "n")
    assert "didn't find available persistent volumes" in asked("other", "two")[2]
    plugin.unreserve(state_of_first, first, "n")
    assert asked("other", "two")[2] == ""
