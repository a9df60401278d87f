from pathlib import Path
from typing import Any

import pytest

from kubecore.api import errors, meta
from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.volumes.binder import VolumeBinder
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events
from tests.unit.controllers.volumes.objects import (
    CLAIMS,
    CLASSES,
    VOLUMES,
    Folders,
    claim,
    phase,
    pod_with,
    reference,
    storage_class,
    volume,
)


@pytest.fixture
def folders() -> Folders:
    return Folders()


async def start(running: Running, folders: Folders | None = None) -> None:
    await running.start(VolumeBinder(running.context, folders or Folders()))


def found(api: FakeAPI, resource: str, name: str) -> Object:
    one = api.get(resource, name)
    assert one is not None
    return one


def bound_to(api: FakeAPI, name: str = "data") -> str:
    return str(found(api, CLAIMS, name)["spec"].get("volumeName", ""))


# --- Matching


async def test_a_claim_and_the_volume_that_suits_it_point_to_each_other(api: FakeAPI, running: Running) -> None:
    api.add(VOLUMES, volume(size="2Gi"))
    api.add(CLAIMS, claim())
    await start(running)
    held, wanted = found(api, VOLUMES, "v"), found(api, CLAIMS, "data")
    assert held["spec"]["claimRef"]["uid"] == wanted["metadata"]["uid"]
    assert held["metadata"]["annotations"] == {"pv.kubernetes.io/bound-by-controller": "yes"}
    assert held["status"]["phase"] == "Bound"
    assert wanted["spec"]["volumeName"] == "v"
    assert wanted["metadata"]["annotations"] == {
        "pv.kubernetes.io/bind-completed": "yes",
        "pv.kubernetes.io/bound-by-controller": "yes",
    }
    assert wanted["status"] == {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}}


async def test_the_smallest_volume_that_is_large_enough_is_taken(api: FakeAPI, running: Running) -> None:
    for name, size in (("large", "10Gi"), ("small", "500Mi"), ("fits", "2Gi")):
        api.add(VOLUMES, volume(name, size=size, status={"phase": "Available"}))
    api.add(CLAIMS, claim())
    await start(running)
    assert bound_to(api) == "fits"


async def test_a_volume_with_fewer_access_modes_goes_before_a_smaller_one(api: FakeAPI, running: Running) -> None:
    every = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany")
    api.add(VOLUMES, volume("every", modes=every, status={"phase": "Available"}))
    api.add(VOLUMES, volume("once", size="5Gi", status={"phase": "Available"}))
    api.add(CLAIMS, claim())
    await start(running)
    assert bound_to(api) == "once"


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ({"size": "500Mi"}, {}),
        ({}, {"modes": ("ReadWriteMany",)}),
        ({"volumeMode": "Block"}, {}),
        ({"storageClassName": "fast"}, {"storageClassName": ""}),
        ({"metadata": {"labels": {"tier": "a"}}}, {"selector": {"matchLabels": {"tier": "b"}}}),
        ({"volumeAttributesClassName": "gold"}, {}),
    ],
    ids=["size", "access modes", "volume mode", "class", "selector", "attributes class"],
)
async def test_a_volume_that_does_not_suit_stays_free(
    api: FakeAPI, running: Running, held: dict[str, Any], wanted: dict[str, Any]
) -> None:
    api.add(VOLUMES, volume(**held))
    api.add(CLAIMS, claim(**wanted))
    await start(running)
    assert (phase(api, VOLUMES, "v"), phase(api, CLAIMS, "data")) == ("Available", "Pending")
    assert events(api, "FailedBinding") == [
        "no persistent volumes available for this claim and no storage class is set"
    ]


async def test_two_claims_never_get_one_volume(api: FakeAPI, running: Running) -> None:
    api.add(VOLUMES, volume())
    for name in ("one", "two"):
        api.add(CLAIMS, claim(name))
    await start(running)
    assert sorted([bound_to(api, "one"), bound_to(api, "two")]) == ["", "v"]


async def test_a_volume_that_appears_later_is_bound_to_who_waits(api: FakeAPI, running: Running) -> None:
    api.add(CLAIMS, claim())
    await start(running)
    assert phase(api, CLAIMS, "data") == "Pending"
    api.add(VOLUMES, volume())
    await running.settle()
    assert phase(api, CLAIMS, "data") == "Bound"


async def test_a_binding_that_was_interrupted_is_finished(api: FakeAPI, running: Running) -> None:
    api.add(VOLUMES, volume())
    api.add(CLAIMS, claim())
    api.react(f"update {CLAIMS}", errors.StatusError.from_body(500, b"{}"), times=2)
    await start(running)
    await running.clock.advance(5)
    assert (phase(api, VOLUMES, "v"), phase(api, CLAIMS, "data")) == ("Bound", "Bound")


# --- Bound by users beforehand


async def test_a_claim_that_names_its_volume_gets_it(api: FakeAPI, running: Running) -> None:
    for name in ("a", "b"):
        api.add(VOLUMES, volume(name))
    api.add(CLAIMS, claim(volumeName="b"))
    await start(running)
    assert phase(api, VOLUMES, "b") == "Bound"
    assert found(api, CLAIMS, "data")["metadata"]["annotations"] == {"pv.kubernetes.io/bind-completed": "yes"}


async def test_a_named_volume_that_does_not_suit_is_told(api: FakeAPI, running: Running) -> None:
    api.add(VOLUMES, volume("v", size="1Mi"))
    api.add(CLAIMS, claim(volumeName="v"))
    await start(running)
    assert events(api, "VolumeMismatch") == ['Cannot bind to requested volume "v": requested PV is too small']
    assert phase(api, CLAIMS, "data") == "Pending"


async def test_a_named_volume_of_somebody_else_is_told(api: FakeAPI, running: Running) -> None:
    first = api.add(CLAIMS, claim("first"))
    api.add(VOLUMES, volume("v", claimRef=reference(first)))
    await start(running)
    api.add(CLAIMS, claim("second", volumeName="v"))
    await running.settle()
    assert events(api, "FailedBinding") == ['volume "v" already bound to a different claim.']
    assert bound_to(api, "first") == "v"


async def test_a_claim_waits_for_the_volume_it_names(api: FakeAPI, running: Running) -> None:
    api.add(CLAIMS, claim(volumeName="v"))
    await start(running)
    assert phase(api, CLAIMS, "data") == "Pending"
    api.add(VOLUMES, volume("v"))
    await running.settle()
    assert phase(api, CLAIMS, "data") == "Bound"


async def test_a_volume_reserved_for_a_claim_goes_to_it_whatever_its_class(api: FakeAPI, running: Running) -> None:
    reserved = {"namespace": "default", "name": "data"}
    api.add(VOLUMES, volume("mine", size="9Gi", claimRef=reserved, storageClassName="fast"))
    api.add(VOLUMES, volume("other", status={"phase": "Available"}))
    await start(running)
    assert phase(api, VOLUMES, "mine") == "Available"
    api.add(CLAIMS, claim())
    await running.settle()
    assert bound_to(api) == "mine"
    assert "annotations" not in found(api, VOLUMES, "mine")["metadata"]


async def test_a_volume_whose_claim_took_another_is_free_again(api: FakeAPI, running: Running) -> None:
    one = api.add(CLAIMS, claim(volumeName="a"))
    marked = {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}
    api.add(VOLUMES, volume("a", claimRef=reference(one)))
    api.add(VOLUMES, volume("b", claimRef=reference(one), metadata=marked))
    await start(running)
    assert bound_to(api) == "a"
    left = found(api, VOLUMES, "b")
    assert left["status"]["phase"] == "Available"
    assert "claimRef" not in left["spec"]


async def test_volume_modes_that_differ_are_told_to_both(api: FakeAPI, running: Running) -> None:
    one = api.add(CLAIMS, claim())
    api.add(VOLUMES, volume(claimRef=reference(one), volumeMode="Block"))
    await start(running)
    assert set(events(api, "VolumeMismatch")) == {
        'Cannot bind PersistentVolume to requested PersistentVolumeClaim "data" due to incompatible volumeMode.',
        'Cannot bind PersistentVolume "v" to requested PersistentVolumeClaim due to incompatible volumeMode.',
    }


# --- Classes


async def test_a_claim_without_a_class_is_given_the_default_one(api: FakeAPI, running: Running) -> None:
    api.add(CLAIMS, claim())
    await start(running)
    assert "storageClassName" not in found(api, CLAIMS, "data")["spec"]
    api.add(CLASSES, storage_class(default=True))
    await running.settle()
    assert found(api, CLAIMS, "data")["spec"]["storageClassName"] == "standard"


async def test_of_several_default_classes_the_newest_is_given(api: FakeAPI, running: Running) -> None:
    for name, made in (("old", "2026-01-01T00:00:00Z"), ("new", "2026-01-02T00:00:00Z")):
        one = storage_class(name, default=True)
        one["metadata"]["creationTimestamp"] = made
        api.add(CLASSES, one)
    api.add(CLAIMS, claim())
    await start(running)
    assert found(api, CLAIMS, "data")["spec"]["storageClassName"] == "new"


async def test_a_claim_that_wants_no_class_is_given_none(api: FakeAPI, running: Running) -> None:
    api.add(CLASSES, storage_class(default=True))
    api.add(CLAIMS, claim(storageClassName=""))
    await start(running)
    assert found(api, CLAIMS, "data")["spec"]["storageClassName"] == ""
    assert len(events(api, "FailedBinding")) == 1


async def test_a_provisioner_is_told_of_a_claim_and_its_volume_is_bound(api: FakeAPI, running: Running) -> None:
    api.add(CLASSES, storage_class())
    api.add(CLAIMS, claim(storageClassName="standard"))
    await start(running)
    wanted = found(api, CLAIMS, "data")
    assert wanted["metadata"]["annotations"] == {
        "volume.kubernetes.io/storage-provisioner": "example.com/disks",
        "volume.beta.kubernetes.io/storage-provisioner": "example.com/disks",
    }
    (told,) = set(events(api, "ExternalProvisioning"))
    assert told.startswith("Waiting for a volume to be created either by the external provisioner 'example.com/disks'")
    api.add(VOLUMES, volume(storageClassName="standard", claimRef=reference(wanted)))
    await running.settle()
    assert phase(api, CLAIMS, "data") == "Bound"


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ([], 'storageclass.storage.k8s.io "standard" not found'),
        (
            [storage_class(provisioner="kubernetes.io/no-provisioner")],
            "no volume plugin matched name: kubernetes.io/no-provisioner",
        ),
        (
            [storage_class(provisioner="kubernetes.io/host-path")],
            'Failed to create provisioner: provisioning in volume plugin "kubernetes.io/host-path" is disabled',
        ),
    ],
)
async def test_what_cannot_be_provisioned_is_told(
    api: FakeAPI, running: Running, classes: list[Object], told: str
) -> None:
    for one in classes:
        api.add(CLASSES, one)
    api.add(CLAIMS, claim(storageClassName="standard"))
    await start(running)
    assert set(events(api, "ProvisioningFailed")) == {told}


async def test_the_driver_that_took_the_place_of_a_built_in_provisioner_is_told(api: FakeAPI, running: Running) -> None:
    api.add(CLASSES, storage_class(provisioner="kubernetes.io/aws-ebs"))
    api.add(CLAIMS, claim(storageClassName="standard"))
    await start(running)
    annotations = meta.annotations(found(api, CLAIMS, "data"))
    assert annotations["volume.kubernetes.io/storage-provisioner"] == "ebs.csi.aws.com"


async def test_it_is_told_again_and_again_why_a_claim_waits(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    api.add(CLAIMS, claim(storageClassName="standard"))
    await start(running)
    await clock.advance(60)
    (event,) = api.all("events")
    assert event["count"] >= 4
    api.add(VOLUMES, volume(storageClassName="standard"))
    await running.settle()
    told = api.all("events")
    await clock.advance(60)
    assert phase(api, CLAIMS, "data") == "Bound" and api.all("events") == told


async def test_a_claim_that_waits_for_its_consumer_takes_no_volume_before(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    api.add(CLASSES, storage_class(mode="WaitForFirstConsumer"))
    api.add(VOLUMES, volume(storageClassName="standard"))
    api.add(CLAIMS, claim(storageClassName="standard"))
    await start(running)
    assert (phase(api, VOLUMES, "v"), phase(api, CLAIMS, "data")) == ("Available", "Pending")
    assert set(events(api, "WaitForFirstConsumer")) == {"waiting for first consumer to be created before binding"}
    api.add("pods", pod_with("data"))
    await running.settle()
    assert not events(api, "WaitForPodScheduled"), "most often it is scheduled in a moment"
    await clock.advance(15)
    assert events(api, "WaitForPodScheduled") == ["waiting for pod p to be scheduled"]
    assert "annotations" not in found(api, CLAIMS, "data")["metadata"]


async def test_once_a_node_is_selected_the_provisioner_is_told(api: FakeAPI, running: Running) -> None:
    api.add(CLASSES, storage_class(mode="WaitForFirstConsumer"))
    chosen = {"annotations": {"volume.kubernetes.io/selected-node": "n"}}
    api.add(CLAIMS, claim(storageClassName="standard", metadata=chosen))
    await start(running)
    annotations = meta.annotations(found(api, CLAIMS, "data"))
    assert annotations["volume.kubernetes.io/storage-provisioner"] == "example.com/disks"


# --- Losing


@pytest.mark.parametrize("name", ["", "gone"])
async def test_a_bound_claim_without_its_volume_is_lost(api: FakeAPI, running: Running, name: str) -> None:
    completed = {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}
    status = {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}
    api.add(CLAIMS, claim(volumeName=name, metadata=completed, status=status))
    await start(running)
    assert found(api, CLAIMS, "data")["status"] == {"phase": "Lost"}
    (told,) = events(api, "ClaimLost")
    assert told.endswith("Data on the volume is lost!")


async def test_of_two_claims_bound_to_one_volume_the_wrong_one_is_lost(api: FakeAPI, running: Running) -> None:
    completed = {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}
    right = api.add(CLAIMS, claim("right", volumeName="v", metadata=completed))
    api.add(CLAIMS, claim("wrong", volumeName="v", metadata=completed))
    api.add(VOLUMES, volume(claimRef=reference(right)))
    await start(running)
    assert (phase(api, CLAIMS, "right"), phase(api, CLAIMS, "wrong")) == ("Bound", "Lost")
    assert events(api, "ClaimMisbound") == ["Two claims are bound to the same volume, this one is bound incorrectly"]


# --- Reclaiming


async def release(api: FakeAPI, running: Running, folders: Folders, held: Object) -> None:
    """A volume of a claim that is deleted."""
    api.add(VOLUMES, held)
    api.add(CLAIMS, claim())
    await start(running, folders)
    assert phase(api, CLAIMS, "data") == "Bound"
    api.remove(CLAIMS, "data")
    await running.settle()


async def test_a_retained_volume_is_released_and_keeps_its_reference(
    api: FakeAPI, running: Running, folders: Folders
) -> None:
    await release(api, running, folders, volume())
    assert phase(api, VOLUMES, "v") == "Released"
    assert found(api, VOLUMES, "v")["spec"]["claimRef"]["name"] == "data"
    api.add(CLAIMS, claim())
    await running.settle()
    assert phase(api, CLAIMS, "data") == "Pending"
    assert folders.removed == []


async def test_a_deleted_host_path_below_tmp_goes_with_its_content(
    api: FakeAPI, running: Running, folders: Folders
) -> None:
    await release(api, running, folders, volume(policy="Delete"))
    assert api.get(VOLUMES, "v") is None
    assert folders.removed == [Path("/tmp/volumes/v")]


@pytest.mark.parametrize(
    ("source", "matched"),
    [
        ({"nfs": {"server": "files.example.com", "path": "/"}}, "no deletable volume plugin matched"),
        ({"local": {"path": "/disk"}}, "no volume plugin matched"),
    ],
)
async def test_why_what_nobody_can_delete_stays_is_told_in_upstreams_words(
    api: FakeAPI, running: Running, folders: Folders, source: Object, matched: str
) -> None:
    made = volume(policy="Delete", **source)
    made["spec"].pop("hostPath", None)
    await release(api, running, folders, made)
    told = f'error getting deleter volume plugin for volume "v": {matched}'
    assert found(api, VOLUMES, "v")["status"] == {"phase": "Failed", "message": told}
    assert events(api, "VolumeFailedDelete") == [told]


@pytest.mark.parametrize("path", ["/srv/data", "/tmp/../etc", "/tmp", "/tmp/"])
async def test_no_other_host_path_is_deleted(api: FakeAPI, running: Running, folders: Folders, path: str) -> None:
    await release(api, running, folders, volume(policy="Delete", hostPath={"path": path}))
    assert folders.removed == []
    assert found(api, VOLUMES, "v")["status"] == {
        "phase": "Failed",
        "message": f"host_path deleter only supports /tmp/.+ but received provided {path}",
    }
    assert len(events(api, "VolumeFailedDelete")) == 1


async def test_a_folder_that_cannot_be_deleted_is_tried_again(
    api: FakeAPI, running: Running, folders: Folders, clock: VirtualClock
) -> None:
    folders.refusals = [OSError("busy")] * 8
    await release(api, running, folders, volume(policy="Delete"))
    assert phase(api, VOLUMES, "v") == "Failed"
    await clock.advance(30)
    assert api.get(VOLUMES, "v") is None


async def test_a_volume_of_a_provisioner_is_left_to_it(api: FakeAPI, running: Running, folders: Folders) -> None:
    made = {"annotations": {"pv.kubernetes.io/provisioned-by": "example.com/disks"}}
    await release(api, running, folders, volume(policy="Delete", metadata=made))
    assert phase(api, VOLUMES, "v") == "Released"
    assert folders.removed == []


NFS = {"server": "files.example.com", "path": "/"}


async def test_what_nobody_can_recycle_is_answered_by_an_event(
    api: FakeAPI, running: Running, folders: Folders
) -> None:
    await release(api, running, folders, volume(policy="Recycle", nfs=NFS))
    assert phase(api, VOLUMES, "v") == "Failed"
    assert events(api, "VolumeFailedRecycle") == ["No recycler plugin found for the volume!"]


async def test_a_volume_in_use_is_not_recycled_yet(api: FakeAPI, running: Running, folders: Folders) -> None:
    api.add("pods", pod_with("data"))
    await release(api, running, folders, volume(policy="Recycle", nfs=NFS))
    assert phase(api, VOLUMES, "v") == "Released"
    assert set(events(api, "VolumeFailedRecycle")) == {"Volume is used by pods: default/p"}
    api.remove("pods", "p")
    await running.settle()
    assert phase(api, VOLUMES, "v") == "Failed"


async def test_a_claim_made_anew_is_not_the_one_the_volume_was_bound_to(
    api: FakeAPI, running: Running, folders: Folders
) -> None:
    await release(api, running, folders, volume())
    fresh = api.add(CLAIMS, claim())
    await running.settle()
    assert found(api, VOLUMES, "v")["spec"]["claimRef"]["uid"] != fresh["metadata"]["uid"]
    assert phase(api, VOLUMES, "v") == "Released"
