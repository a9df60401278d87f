from typing import Any

import pytest

from kubecore.api import errors
from kubecore.client.client import Object
from kubecore.clock import VirtualClock
from kubecore.controllers.garbage_collector import GarbageCollector
from kubecore.controllers.workloads.statefulset import StatefulSetController
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, events, make_ready, names
from tests.unit.controllers.workloads.test_statefulset import SETS, complete, stateful_set

CLAIMS = "persistentvolumeclaims"


def with_claims(replicas: int, *, scaled: str = "Retain", deleted: str = "Retain", **spec: Any) -> Object:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "labels": {"tier": "fast"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Pending"},
    }
    policy = {"whenScaled": scaled, "whenDeleted": deleted}
    return stateful_set(replicas, volumeClaimTemplates=[claim], persistentVolumeClaimRetentionPolicy=policy, **spec)


async def start(running: Running) -> None:
    await running.start(StatefulSetController(running.context), GarbageCollector(running.context))


def owners(api: FakeAPI, name: str) -> list[tuple[str, str]]:
    found = api.get(CLAIMS, name)
    assert found is not None
    references = found["metadata"].get("ownerReferences") or []
    assert all(one["controller"] and one["blockOwnerDeletion"] for one in references)
    return [(one["kind"], one["name"]) for one in references]


async def test_each_pod_gets_a_claim_of_its_own_before_it_is_made(api: FakeAPI, running: Running) -> None:
    api.add(SETS, with_claims(2, podManagementPolicy="Parallel"))
    await start(running)
    assert names(api.all(CLAIMS)) == ["data-db-0", "data-db-1"]
    claim = api.get(CLAIMS, "data-db-1")
    assert claim is not None
    assert claim["metadata"]["labels"] == {"tier": "fast", "app": "web"}
    assert claim["spec"]["resources"] == {"requests": {"storage": "1Gi"}}
    for pod in api.all("pods"):
        (volume,) = pod["spec"]["volumes"]
        assert volume["name"] == "data"
        assert volume["persistentVolumeClaim"] == {"claimName": f"data-{pod['metadata']['name']}"}
    writes = [request.verb for request in api.writes() if request.resource.key in (CLAIMS, "pods")]
    assert writes.index(f"create {CLAIMS}") < writes.index("create pods")
    assert "Create Claim data-db-0 Pod db-0 in StatefulSet db success" in events(api, "SuccessfulCreate")


async def test_a_volume_of_the_templates_with_the_claims_name_gives_way(api: FakeAPI, running: Running) -> None:
    one = with_claims(1)
    one["spec"]["template"]["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    api.add(SETS, one)
    await start(running)
    (pod,) = api.all("pods")
    claimed = {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}}
    assert pod["spec"]["volumes"] == [claimed, {"name": "tmp", "emptyDir": {}}]


async def test_a_claim_that_is_deleted_under_a_pending_pod_is_made_anew(api: FakeAPI, running: Running) -> None:
    api.add(SETS, with_claims(1))
    await start(running)
    api.remove(CLAIMS, "data-db-0")
    await running.settle()
    assert names(api.all(CLAIMS)) == ["data-db-0"]


async def test_a_refused_claim_keeps_its_pod_from_being_made_and_is_told(
    api: FakeAPI, running: Running, clock: VirtualClock
) -> None:
    api.react(f"create {CLAIMS}", errors.forbidden("", CLAIMS, "", "exceeded quota"), times=8)
    api.add(SETS, with_claims(1))
    await start(running)
    assert not api.all("pods")
    refused = "persistentvolumeclaims is forbidden: exceeded quota"
    assert set(events(api, "FailedCreate")) == {
        f"Create Claim data-db-0 for Pod db-0 in StatefulSet db failed error: {refused}",
        f"Create Pod db-0 in StatefulSet db failed error: failed to create PVC data-db-0: {refused}",
    }
    await clock.advance(5)
    assert names(api.all("pods")) == ["db-0"]


@pytest.mark.parametrize(
    ("scaled", "deleted", "owner"),
    [
        ("Retain", "Retain", []),
        ("Retain", "Delete", [("StatefulSet", "db")]),
        ("Delete", "Retain", []),
        ("Delete", "Delete", [("StatefulSet", "db")]),
    ],
)
async def test_claims_of_pods_in_range_belong_to_the_set_if_they_go_with_it(
    api: FakeAPI, running: Running, scaled: str, deleted: str, owner: list[tuple[str, str]]
) -> None:
    api.add(SETS, with_claims(1, scaled=scaled, deleted=deleted))
    await start(running)
    assert owners(api, "data-db-0") == owner


@pytest.mark.parametrize(("scaled", "left"), [("Retain", ["data-db-0", "data-db-1"]), ("Delete", ["data-db-0"])])
@pytest.mark.parametrize("deleted", ["Retain", "Delete"])
async def test_scaling_down_keeps_or_deletes_claims_as_the_policy_says(
    api: FakeAPI, running: Running, scaled: str, deleted: str, left: list[str]
) -> None:
    api.add(SETS, with_claims(2, scaled=scaled, deleted=deleted))
    await start(running)
    await complete(api, running)
    api.change(SETS, "db", spec={"replicas": 1})
    await running.settle()
    assert names(api.all("pods")) == ["db-0"]
    assert names(api.all(CLAIMS)) == left


@pytest.mark.parametrize(("deleted", "left"), [("Retain", ["data-db-0"]), ("Delete", [])])
async def test_deleting_the_set_keeps_or_deletes_claims_as_the_policy_says(
    api: FakeAPI, running: Running, deleted: str, left: list[str]
) -> None:
    api.add(SETS, with_claims(1, deleted=deleted))
    await start(running)
    await complete(api, running)
    await running.context.client.delete(SETS, "db", "default")
    await running.settle()
    assert names(api.all(CLAIMS)) == left


async def test_another_policy_changes_the_owners_of_claims_that_are_there(api: FakeAPI, running: Running) -> None:
    api.add(SETS, with_claims(1))
    await start(running)
    await complete(api, running)
    policy = {"whenScaled": "Retain", "whenDeleted": "Delete"}
    api.change(SETS, "db", spec={"persistentVolumeClaimRetentionPolicy": policy})
    await running.settle()
    assert owners(api, "data-db-0") == [("StatefulSet", "db")]
    api.change(SETS, "db", spec={"persistentVolumeClaimRetentionPolicy": {**policy, "whenDeleted": "Retain"}})
    await running.settle()
    assert owners(api, "data-db-0") == []


async def test_a_claim_that_somebody_else_controls_is_left_to_them_and_told(api: FakeAPI, running: Running) -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "boss", "controller": True, "blockOwnerDeletion": True}
    boss = api.add("configmaps", {"metadata": {"name": "boss"}})
    reference = {**other, "uid": boss["metadata"]["uid"]}
    api.add(CLAIMS, {"metadata": {"name": "data-db-0", "ownerReferences": [reference]}, "spec": {}})
    api.add(SETS, with_claims(1, deleted="Delete"))
    await start(running)
    assert owners(api, "data-db-0") == [("ConfigMap", "boss")]
    (told,) = set(events(api, "ConflictingController"))
    assert told.startswith("PersistentVolumeClaim data-db-0 has a conflicting OwnerReference")


async def test_a_pod_waits_for_the_claim_of_its_predecessor_to_go(api: FakeAPI, running: Running) -> None:
    api.add(SETS, with_claims(2, scaled="Delete"))
    await start(running)
    await complete(api, running)
    api.change(CLAIMS, "data-db-1", metadata={"finalizers": ["kubernetes.io/pvc-protection"]})
    api.change(SETS, "db", spec={"replicas": 1})
    await running.settle()
    api.change(SETS, "db", spec={"replicas": 2})
    await running.settle()
    assert names(api.all("pods")) == ["db-0"]
    api.remove(CLAIMS, "data-db-1")
    await running.settle()
    assert names(api.all("pods")) == ["db-0", "db-1"]
    make_ready(api, "db-1")
    await running.settle()
    assert names(api.all(CLAIMS)) == ["data-db-0", "data-db-1"]
