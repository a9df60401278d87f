import pytest

from kubecore.client.client import Object
from kubecore.controllers.garbage_collector import GarbageCollector
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running, names, template

SETS = "replicasets.apps"


def reference(owner: Object, *, block: bool = True) -> Object:
    metadata = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": block,
    }


def add_set(api: FakeAPI, name: str = "web", owners: list[Object] | None = None) -> Object:
    metadata = {"name": name, "ownerReferences": owners or []}
    return api.add(SETS, {"metadata": metadata, "spec": {"replicas": 0, "template": template()}})


def add_pod(api: FakeAPI, name: str, *owners: Object) -> Object:
    return api.add("pods", {"metadata": {"name": name, "ownerReferences": list(owners)}, "spec": template()["spec"]})


async def start(running: Running) -> None:
    await running.start(GarbageCollector(running.context))


async def delete(running: Running, name: str, policy: str) -> None:
    await running.context.client.delete(SETS, name, "default", propagation_policy=policy)
    await running.settle()


async def test_31_background_deletion_takes_dependents_of_dependents_too(api: FakeAPI, running: Running) -> None:
    owner = api.add("deployments.apps", {"metadata": {"name": "web"}, "spec": {"template": template()}})
    middle = add_set(api, "middle", [reference(owner)])
    add_pod(api, "leaf", reference(middle))
    add_pod(api, "other")
    await start(running)
    await running.context.client.delete("deployments.apps", "web", "default", propagation_policy="Background")
    await running.settle()
    assert api.all(SETS) == []
    assert names(api.all("pods")) == ["other"]


async def test_what_other_controllers_watch_is_not_watched_again(api: FakeAPI, running: Running) -> None:
    owner = add_set(api)
    running.context.informers.informer("pods")
    running.context.informers.informer(SETS)
    await start(running)
    assert api.watches("pods") == api.watches(SETS) == api.watches("services") == 1
    add_pod(api, "owned", reference(owner))
    add_pod(api, "adopted")
    add_pod(api, "orphaned", reference(owner))
    await running.settle()
    api.change("pods", "adopted", metadata={"ownerReferences": [reference(owner)]})
    api.change("pods", "orphaned", metadata={"ownerReferences": []})
    api.change("pods", "owned", status={"phase": "Running"})
    await running.settle()
    await delete(running, "web", "Foreground")
    assert api.all(SETS) == [] and names(api.all("pods")) == ["orphaned"]


async def test_31_foreground_deletion_keeps_the_owner_until_its_dependents_are_gone(
    api: FakeAPI, running: Running
) -> None:
    owner = add_set(api)
    add_pod(api, "held", reference(owner))
    api.change("pods", "held", metadata={"finalizers": ["example.org/hold"]})
    add_pod(api, "other", reference(owner, block=False))
    await start(running)
    await delete(running, "web", "Foreground")
    assert names(api.all(SETS)) == ["web"] and names(api.all("pods")) == ["held"]
    api.change("pods", "held", metadata={"finalizers": []})
    await running.settle()
    assert api.all(SETS) == [] and api.all("pods") == []


async def test_31_foreground_deletion_does_not_wait_for_what_does_not_block(api: FakeAPI, running: Running) -> None:
    owner = add_set(api)
    add_pod(api, "loose", reference(owner, block=False))
    api.change("pods", "loose", metadata={"finalizers": ["example.org/hold"]})
    await start(running)
    await delete(running, "web", "Foreground")
    assert api.all(SETS) == [] and names(api.all("pods")) == ["loose"]


async def test_31_orphan_deletion_frees_dependents(api: FakeAPI, running: Running) -> None:
    owner = add_set(api)
    add_pod(api, "a", reference(owner))
    await start(running)
    await delete(running, "web", "Orphan")
    assert api.all(SETS) == []
    assert not api.get("pods", "a")["metadata"].get("ownerReferences")  # type: ignore[index]


async def test_a_dependent_with_another_owner_stays_and_forgets_the_one_that_is_gone(
    api: FakeAPI, running: Running
) -> None:
    one, two = add_set(api, "one"), add_set(api, "two")
    add_pod(api, "a", reference(one), {**reference(two), "controller": False})
    await start(running)
    await delete(running, "one", "Background")
    pod = api.get("pods", "a")
    assert pod is not None
    assert [ref["name"] for ref in pod["metadata"]["ownerReferences"]] == ["two"]


async def test_a_dependent_whose_owner_never_existed_is_deleted(api: FakeAPI, running: Running) -> None:
    await start(running)
    ghost = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "no-such-uid"}
    add_pod(api, "a", ghost)
    await running.settle()
    assert api.all("pods") == []


async def test_an_owner_of_the_same_name_and_another_uid_does_not_count(api: FakeAPI, running: Running) -> None:
    owner = add_set(api)
    add_pod(api, "a", {**reference(owner), "uid": "of-its-predecessor"})
    await start(running)
    assert api.all("pods") == []


async def test_dependents_found_at_the_start_are_collected_too(api: FakeAPI, running: Running) -> None:
    owner = add_set(api)
    add_pod(api, "a", reference(owner))
    api.remove(SETS, "web")
    await start(running)
    assert api.all("pods") == []


async def test_dependents_that_the_watch_shows_before_their_owner_stay(api: FakeAPI, running: Running) -> None:
    await start(running)
    owner = add_set(api)
    add_pod(api, "a", reference(owner))
    await running.settle()
    assert names(api.all("pods")) == ["a"]


async def test_an_owner_in_another_namespace_does_not_exist(api: FakeAPI, running: Running) -> None:
    owner = add_set(api)
    metadata = {"name": "a", "namespace": "kube-system", "ownerReferences": [reference(owner)]}
    api.add("pods", {"metadata": metadata, "spec": template()["spec"]})
    await start(running)
    assert api.all("pods") == []


@pytest.mark.parametrize("kind", ["Deployment", "Unknown"])
async def test_what_cannot_be_judged_stays(api: FakeAPI, running: Running, kind: str) -> None:
    if kind == "Deployment":
        ref = {"apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": "x"}
        api.add("clusterroles.rbac.authorization.k8s.io", {"metadata": {"name": "r", "ownerReferences": [ref]}})
    else:
        add_pod(api, "a", {"apiVersion": "example.org/v1", "kind": kind, "name": "x", "uid": "x"})
    await start(running)
    assert api.all("pods") or api.all("clusterroles.rbac.authorization.k8s.io")


async def test_a_circle_of_foreground_deletions_ends(api: FakeAPI, running: Running) -> None:
    one = add_set(api, "one")
    two = add_set(api, "two", [reference(one)])
    api.change(SETS, "one", metadata={"ownerReferences": [reference(two)]})
    await start(running)
    await delete(running, "one", "Foreground")
    await running.clock.advance(30)
    assert api.all(SETS) == []


async def test_a_foreground_deletion_that_becomes_an_orphaning_one_leaves_the_dependents(
    api: FakeAPI, running: Running
) -> None:
    owner = add_set(api)
    add_pod(api, "a", reference(owner, block=False))
    await start(running)
    for policy in ("Foreground", "Orphan"):
        await running.context.client.delete(SETS, "web", "default", propagation_policy=policy)
    await running.settle()
    assert names(api.all("pods")) == ["a"] and api.all(SETS) == []


async def test_a_foreground_deletion_asked_for_twice_ends_though_the_first_was_over(
    api: FakeAPI, running: Running
) -> None:
    add_set(api)
    api.change(SETS, "web", metadata={"finalizers": ["example.org/hold"]})
    await start(running)
    await delete(running, "web", "Foreground")
    await delete(running, "web", "Foreground")
    (left,) = api.all(SETS)
    assert left["metadata"]["finalizers"] == ["example.org/hold"]


async def test_an_owner_taken_away_makes_the_others_be_looked_at(api: FakeAPI, running: Running) -> None:
    """A cluster-wide object cannot be judged by a namespaced owner, but it can once that reference has gone."""
    unclear, gone = reference(add_set(api)), {"apiVersion": "v1", "kind": "Namespace", "name": "gone", "uid": "gone"}
    roles = "clusterroles.rbac.authorization.k8s.io"
    api.add(roles, {"metadata": {"name": "role", "ownerReferences": [unclear, gone]}})
    await start(running)
    assert names(api.all(roles)) == ["role"]
    api.change(roles, "role", "", metadata={"ownerReferences": [gone]})
    await running.settle()
    assert api.all(roles) == []


async def test_a_reference_by_a_wrong_name_is_no_owner(api: FakeAPI, running: Running) -> None:
    owner = add_set(api)
    await start(running)
    add_pod(api, "wrong", {**reference(owner), "name": "other"})
    add_pod(api, "right", reference(owner))
    await running.settle()
    assert names(api.all("pods")) == ["right"]


async def test_a_reference_of_an_unknown_kind_is_not_judged_by_the_uid_of_what_is_gone(
    api: FakeAPI, running: Running
) -> None:
    owner = add_set(api)
    add_pod(api, "unclear", {**reference(owner), "kind": "Replicas"})
    add_pod(api, "wrong", {**reference(owner), "name": "other"})
    await start(running)
    await delete(running, "web", "Background")
    assert names(api.all("pods")) == ["unclear"] and api.all(SETS) == []
