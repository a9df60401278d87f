from pathlib import Path
from typing import Any

import pytest

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.volumes.binder import VolumeBinder
from kubecore.controllers.volumes.local_provisioner import PROVISIONER, LocalProvisioner, default_storage_class
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events
from tests.unit.controllers.volumes.objects import CLAIMS, CLASSES, VOLUMES, Folders, claim, phase, storage_class

FOLDER = Path("/data/volumes")
EXTERNAL = "external-provisioner.volume.kubernetes.io/finalizer"


@pytest.fixture
def folders() -> Folders:
    return Folders()


async def start(running: Running, folders: Folders) -> None:
    await running.start(VolumeBinder(running.context, folders), LocalProvisioner(running.context, FOLDER, folders))


def node(name: str = "n", *, ready: bool = True, **labels: str) -> Object:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    named = {"kubernetes.io/hostname": name, **labels}
    return {"metadata": {"name": name, "labels": named}, "spec": {}, "status": {"conditions": conditions}}


def selecting(name: str = "n", **fields: Any) -> Object:
    """A claim for which the scheduler selected a node."""
    annotations = {"volume.kubernetes.io/selected-node": name}
    return claim(storageClassName="standard", metadata={"annotations": annotations}, **fields)


async def provision(api: FakeAPI, running: Running, folders: Folders, wanted: Object) -> Object:
    """The volume that the claim gets."""
    api.add("nodes", node())
    await start(running, folders)
    api.add(CLAIMS, wanted)
    await running.settle()
    (volume,) = api.all(VOLUMES)
    return volume


async def test_the_default_class_is_made_once(api: FakeAPI, running: Running, folders: Folders) -> None:
    await start(running, folders)
    made = api.get(CLASSES, "standard")
    assert made is not None
    assert meta.annotations(made) == {"storageclass.kubernetes.io/is-default-class": "true"}
    assert (made["provisioner"], made["volumeBindingMode"]) == (PROVISIONER, "WaitForFirstConsumer")
    assert folders.made == [FOLDER]


async def test_a_class_that_the_user_deleted_stays_deleted(api: FakeAPI, running: Running, folders: Folders) -> None:
    folders.made = [FOLDER]
    await start(running, folders)
    assert api.all(CLASSES) == []


async def test_beside_another_default_class_it_is_none(api: FakeAPI, running: Running, folders: Folders) -> None:
    api.add(CLASSES, storage_class("mine", default=True))
    await start(running, folders)
    made = api.get(CLASSES, "standard")
    assert made is not None
    assert meta.annotations(made) == {}


async def test_a_claim_that_is_known_before_its_class_is_provisioned_once_that_is_known(
    api: FakeAPI, running: Running, folders: Folders, clock: VirtualClock
) -> None:
    api.add("nodes", node())
    api.add(CLASSES, default_storage_class(is_default=True))
    wanted = selecting()
    wanted["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] = PROVISIONER
    api.add(CLAIMS, wanted)
    api.react(f"get {CLASSES}", OSError("busy"))
    await running.start(LocalProvisioner(running.context, FOLDER, folders))
    assert api.all(VOLUMES) == []
    await clock.advance(10)
    assert len(api.all(VOLUMES)) == 1


async def test_a_claim_gets_a_folder_on_the_node_that_was_selected(
    api: FakeAPI, running: Running, folders: Folders
) -> None:
    volume = await provision(api, running, folders, selecting(size="3Gi"))
    wanted = api.get(CLAIMS, "data")
    assert wanted is not None
    name = f"pvc-{meta.uid(wanted)}"
    path = FOLDER / f"{name}_default_data"
    assert volume["metadata"]["name"] == name
    assert volume["metadata"]["finalizers"] == [EXTERNAL]
    assert meta.annotations(volume)["pv.kubernetes.io/provisioned-by"] == PROVISIONER
    assert volume["spec"]["hostPath"] == {"path": str(path), "type": "DirectoryOrCreate"}
    assert volume["spec"]["capacity"] == {"storage": "3Gi"}
    (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]}]
    assert folders.made == [FOLDER, path]
    assert [folders.modes[one] for one in folders.made] == [0o755, 0o777]
    assert wanted["status"]["phase"] == "Bound"
    assert events(api, "ProvisioningSucceeded") == [f"Successfully provisioned volume {name}"]


async def test_a_claim_without_a_selected_node_waits(api: FakeAPI, running: Running, folders: Folders) -> None:
    api.add("nodes", node())
    await start(running, folders)
    api.add(CLAIMS, claim(storageClassName="standard"))
    await running.settle()
    assert api.all(VOLUMES) == []


async def test_a_class_that_binds_at_once_takes_a_node_that_is_ready_and_in_its_topology(
    api: FakeAPI, running: Running, folders: Folders
) -> None:
    for one in (node("a", zone="x"), node("b", zone="y"), node("c", zone="y", ready=False)):
        api.add("nodes", one)
    topologies = [{"matchLabelExpressions": [{"key": "zone", "values": ["y"]}]}]
    api.add(CLASSES, storage_class("now", provisioner=PROVISIONER, allowedTopologies=topologies))
    await start(running, folders)
    api.add(CLAIMS, claim(storageClassName="now"))
    await running.settle()
    (volume,) = api.all(VOLUMES)
    (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["b"]
    assert phase(api, CLAIMS, "data") == "Bound"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"modes": ("ReadWriteMany",)}, "a folder of one node supports only the access modes ReadWriteOnce and "),
        ({"volumeMode": "Block"}, "block volumes are not supported"),
        ({"selector": {"matchLabels": {"a": "b"}}}, "claim.spec.selector is not supported"),
    ],
)
async def test_what_a_folder_cannot_be_is_told(
    api: FakeAPI, running: Running, folders: Folders, wanted: dict[str, Any], told: str
) -> None:
    api.add("nodes", node())
    await start(running, folders)
    api.add(CLAIMS, selecting(**wanted))
    await running.settle()
    assert api.all(VOLUMES) == []
    assert events(api, "ProvisioningFailed")[0].startswith(
        f'failed to provision volume with StorageClass "standard": {told}'
    )


async def test_what_cannot_be_provisioned_is_tried_less_and_less_often(
    api: FakeAPI, running: Running, folders: Folders, clock: VirtualClock
) -> None:
    api.add("nodes", node())
    await start(running, folders)
    api.add(CLAIMS, selecting(volumeMode="Block"))
    tries: list[int] = []
    for seconds in (5, 55, 540):
        await clock.advance(seconds)
        tries.append(sum(one.get("count", 1) for one in api.all("events") if one["reason"] == "ProvisioningFailed"))
    # after 0, 1, 3; 7, 15, 31; 63, 127, 255 and 511 seconds
    assert tries == [3, 6, 10]


async def test_a_claim_that_no_node_suits_is_provisioned_once_one_is_ready(
    api: FakeAPI, running: Running, folders: Folders, clock: VirtualClock
) -> None:
    api.add("nodes", node(ready=False))
    api.add(CLASSES, storage_class("now", provisioner=PROVISIONER))
    await start(running, folders)
    api.add(CLAIMS, claim(storageClassName="now"))
    await clock.advance(3600)
    assert api.all(VOLUMES) == []
    api.change("nodes", "n", status={"conditions": [{"type": "Ready", "status": "True"}]})
    await running.settle()
    assert len(api.all(VOLUMES)) == 1


async def test_when_the_selected_node_is_gone_another_may_be_selected(
    api: FakeAPI, running: Running, folders: Folders
) -> None:
    await start(running, folders)
    api.add(CLAIMS, selecting("gone"))
    await running.settle()
    wanted = api.get(CLAIMS, "data")
    assert wanted is not None
    assert "volume.kubernetes.io/selected-node" not in meta.annotations(wanted)


async def test_the_folder_goes_with_the_claim(api: FakeAPI, running: Running, folders: Folders) -> None:
    volume = await provision(api, running, folders, selecting())
    api.remove(CLAIMS, "data")
    await running.settle()
    assert set(folders.removed) == {Path(volume["spec"]["hostPath"]["path"])}
    assert api.all(VOLUMES) == []


async def test_a_retained_volume_keeps_its_folder_and_may_be_deleted_by_hand(
    api: FakeAPI, running: Running, folders: Folders
) -> None:
    volume = await provision(api, running, folders, selecting())
    name = meta.name(volume)
    api.change(VOLUMES, name, spec={"persistentVolumeReclaimPolicy": "Retain"})
    await running.settle()
    assert meta.finalizers(api.get(VOLUMES, name) or {}) == []
    api.remove(CLAIMS, "data")
    await running.settle()
    assert phase(api, VOLUMES, name) == "Released"
    assert folders.removed == []


async def test_a_volume_deleted_before_its_claim_still_has_its_folder_removed(
    api: FakeAPI, running: Running, folders: Folders
) -> None:
    volume = await provision(api, running, folders, selecting())
    await api.client().delete(VOLUMES, meta.name(volume))
    await running.settle()
    assert folders.removed == []
    api.remove(CLAIMS, "data")
    await running.settle()
    assert len(set(folders.removed)) == 1
    assert api.all(VOLUMES) == []


async def test_a_folder_that_cannot_be_removed_is_told_and_tried_again(
    api: FakeAPI, running: Running, folders: Folders, clock: VirtualClock
) -> None:
    await provision(api, running, folders, selecting())
    folders.refusals = [OSError("busy")] * 4
    api.remove(CLAIMS, "data")
    await running.settle()
    assert set(events(api, "VolumeFailedDelete")) == {"busy"}
    await clock.advance(30)
    assert api.all(VOLUMES) == []


async def test_a_folder_elsewhere_is_never_removed(api: FakeAPI, running: Running, folders: Folders) -> None:
    volume = await provision(api, running, folders, selecting())
    api.change(VOLUMES, meta.name(volume), spec={"hostPath": {"path": "/data/volumes/../../home"}})
    api.remove(CLAIMS, "data")
    await running.settle()
    assert folders.removed == []
    assert "is not in the folder of volumes" in events(api, "VolumeFailedDelete")[0]
