"""Deletion, as ../shared/API_SEMANTICS.md lines 27-34 have it."""

from __future__ import annotations

import pytest

from .conftest import Api, config_map, deployment, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

CM = "v1/configmaps"
PODS = "v1/pods"


async def test_deleting_answers_a_status_with_the_uid(api: Api) -> None:
    _, obj = await api.create(CM, config_map("a"))
    status, answer = await api.delete(CM, "a")
    assert (status, answer["kind"], answer["status"]) == (200, "Status", "Success")
    assert answer["details"] == {"name": "a", "kind": "configmaps", "uid": obj["metadata"]["uid"]}
    assert (await api.get(CM, "a"))[0] == 404


async def test_deleting_what_is_not_there_is_not_found(api: Api) -> None:
    status, error = await api.delete("apps/v1/deployments", "d")
    assert (status, error["message"]) == (404, 'deployments.apps "d" not found')
    assert error["details"] == {"name": "d", "group": "apps", "kind": "deployments"}


async def test_an_object_with_finalizers_stays_until_the_last_is_gone(api: Api) -> None:
    given = config_map("a")
    given["metadata"]["finalizers"] = ["example.com/a", "example.com/b"]
    await api.create(CM, given)
    status, obj = await api.delete(CM, "a")
    assert (status, obj["kind"]) == (200, "ConfigMap")
    assert obj["metadata"]["deletionTimestamp"]
    assert obj["metadata"]["deletionGracePeriodSeconds"] == 0
    _, again = await api.delete(CM, "a")
    assert again["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]
    await api.patch(CM, "a", {"metadata": {"finalizers": ["example.com/a"]}})
    assert (await api.get(CM, "a"))[0] == 200
    status, _ = await api.patch(CM, "a", {"metadata": {"finalizers": None}})
    assert status == 200
    assert (await api.get(CM, "a"))[0] == 404


async def test_a_deleting_object_takes_no_new_finalizers_and_keeps_its_timestamp(api: Api) -> None:
    given = config_map("a")
    given["metadata"]["finalizers"] = ["example.com/a"]
    await api.create(CM, given)
    _, obj = await api.delete(CM, "a")
    status, error = await api.patch(CM, "a", {"metadata": {"finalizers": ["example.com/a", "example.com/c"]}})
    assert status == 422
    assert "no new finalizers can be added if the object is being deleted" in error["message"]
    _, kept = await api.patch(CM, "a", {"metadata": {"deletionTimestamp": None}})
    assert kept["metadata"]["deletionTimestamp"] == obj["metadata"]["deletionTimestamp"]


@pytest.mark.parametrize(
    ("precondition", "words"),
    [
        ({"uid": "other"}, "the UID in the precondition (other) does not match the UID in record"),
        ({"resourceVersion": "1"}, "the ResourceVersion in the precondition (1) does not match the ResourceVersion"),
        ({"uid": ""}, "the UID in the precondition () does not match the UID in record"),
        ({"resourceVersion": ""}, "the ResourceVersion in the precondition () does not match the ResourceVersion"),
    ],
)
async def test_a_missed_precondition_conflicts(api: Api, precondition: dict[str, str], words: str) -> None:
    await api.create(CM, config_map("a"))
    for path in ("a", ""):
        status, error = await api.delete(CM, path, {"preconditions": precondition})
        assert (status, error["reason"], error["details"]["kind"]) == (409, "Conflict", "ConfigMap")
        assert f'Operation cannot be fulfilled on ConfigMap "a": {words}' in error["message"]
    assert (await api.get(CM, "a"))[0] == 200


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"kind": "Pod", "apiVersion": "v1"}, 400, 'no kind "Pod" is registered for version "v1"'),
        ({"kind": 1}, 400, "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct"),
        ({"kind": "DeleteOptions", "apiVersion": "a/b/c"}, 400, "unexpected GroupVersion string: a/b/c"),
        ({"gracePeriodSeconds": "x"}, 400, "json: cannot unmarshal string into Go struct field DeleteOptions"),
        ({"propagationPolicy": "X"}, 422, 'supported values: "Foreground", "Background", "Orphan", "nil"'),
        ({"dryRun": ["x"]}, 422, 'dryRun: Unsupported value: ["x"]: supported values: "All"'),
    ],
)
async def test_delete_options_that_make_no_sense_are_told(
    api: Api, body: dict[str, object], status: int, message: str
) -> None:
    await api.create(CM, config_map("a"))
    for path in ("a", ""):
        code, error = await api.delete(CM, path, body)
        assert code == status
        assert message in error["message"]
    assert (await api.get(CM, "a"))[0] == 200


async def test_options_in_the_query_count_only_without_a_body(api: Api) -> None:
    await api.create(CM, config_map("a"))
    assert (await api.delete(CM, "a", dryRun="All"))[0] == 200
    assert (await api.get(CM, "a"))[0] == 200
    assert (await api.delete(CM, "a", {}, dryRun="All"))[0] == 200
    assert (await api.get(CM, "a"))[0] == 404


async def test_a_dry_run_of_a_collection_deletes_nothing(api: Api) -> None:
    await api.create(CM, config_map("a"))
    status, answer = await api.delete(CM, "", {"dryRun": ["All"]})
    assert (status, [item["metadata"]["name"] for item in answer["items"]]) == (200, ["a"])
    assert (await api.get(CM, "a"))[0] == 200


async def test_a_collection_of_pods_has_each_its_grace_unless_one_is_named(api: Api) -> None:
    for name, spec in (("gone", {}), ("own", {"nodeName": "n", "terminationGracePeriodSeconds": 50})):
        await api.create(PODS, pod(name, **spec))
    await api.delete(PODS)
    left = (await api.list(PODS))[1]["items"]
    assert [(p["metadata"]["name"], p["metadata"]["deletionGracePeriodSeconds"]) for p in left] == [("own", 50)]
    await api.delete(PODS, "", {"gracePeriodSeconds": 7})
    assert (await api.get(PODS, "own"))[1]["metadata"]["deletionGracePeriodSeconds"] == 7


async def test_orphan_and_foreground_leave_their_finalizers(api: Api) -> None:
    for policy, finalizer in (("Orphan", "orphan"), ("Foreground", "foregroundDeletion")):
        await api.create("apps/v1/deployments", deployment(policy.lower()))
        status, obj = await api.delete("apps/v1/deployments", policy.lower(), {"propagationPolicy": policy})
        assert status == 200
        assert obj["metadata"]["finalizers"] == [finalizer]
        assert obj["metadata"]["deletionTimestamp"]


async def test_orphan_dependents_and_propagation_policy_exclude_each_other(api: Api) -> None:
    await api.create(CM, config_map("a"))
    status, error = await api.delete(CM, "a", {"orphanDependents": True, "propagationPolicy": "Orphan"})
    assert (status, error["reason"]) == (422, "Invalid")


async def test_an_unscheduled_pod_goes_at_once_and_is_answered(api: Api) -> None:
    await api.create(PODS, pod("p"))
    status, answer = await api.delete(PODS, "p")
    assert (status, answer["kind"]) == (200, "Pod")
    metadata = answer["metadata"]
    assert (metadata["deletionGracePeriodSeconds"], metadata["generation"], "deletionTimestamp" in metadata) == (
        0,
        2,
        True,
    )
    assert (await api.get(PODS, "p"))[0] == 404


async def test_a_pod_that_ends_while_it_is_deleted_still_has_its_grace(api: Api) -> None:
    await api.create(PODS, pod("p", nodeName="n"))
    await api.delete(PODS, "p", {"gracePeriodSeconds": 9})
    await api.patch(PODS, "p", {"status": {"phase": "Succeeded"}}, subresource="status")
    await api.delete(PODS, "p", {"gracePeriodSeconds": 5})
    assert (await api.get(PODS, "p"))[1]["metadata"]["deletionGracePeriodSeconds"] == 5


async def test_a_scheduled_pod_has_its_grace_which_can_only_be_shortened(api: Api) -> None:
    await api.create(PODS, pod("p", nodeName="n", terminationGracePeriodSeconds=20))
    _, obj = await api.delete(PODS, "p")
    assert obj["metadata"]["deletionGracePeriodSeconds"] == 20
    _, longer = await api.delete(PODS, "p", {"gracePeriodSeconds": 60})
    assert longer["metadata"]["deletionGracePeriodSeconds"] == 20
    _, shorter = await api.delete(PODS, "p", {"gracePeriodSeconds": 5})
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 5
    assert shorter["metadata"]["deletionTimestamp"] < obj["metadata"]["deletionTimestamp"]
    assert (await api.delete(PODS, "p", {"gracePeriodSeconds": 0}))[0] == 200
    assert (await api.get(PODS, "p"))[0] == 404


async def test_an_empty_precondition_in_the_query_is_none(api: Api) -> None:
    await api.create(CM, config_map("a"))
    assert (await api.delete(CM, "a", uid="", resourceVersion=""))[0] == 200


async def test_orphan_dependents_without_a_value_in_the_query_is_true(api: Api) -> None:
    await api.create(CM, config_map("a"))
    _, obj = await api.delete(CM, "a", orphanDependents="")
    assert obj["metadata"]["finalizers"] == ["orphan"]


async def test_delete_collection_at_a_revision_takes_what_was_there_then(api: Api) -> None:
    await api.create(CM, config_map("a"))
    _, then = await api.list(CM)
    await api.create(CM, config_map("b"))
    revision = then["metadata"]["resourceVersion"]
    status, answer = await api.delete(CM, resourceVersion=revision)
    assert status == 200, answer
    assert [item["metadata"]["name"] for item in answer["items"]] == ["a"]
    assert [item["metadata"]["name"] for item in (await api.list(CM))[1]["items"]] == ["b"]


async def test_delete_collection_takes_what_the_selector_names_and_answers_the_list(api: Api) -> None:
    for name, label in (("a", "x"), ("b", "x"), ("c", "y")):
        given = config_map(name)
        given["metadata"]["labels"] = {"l": label}
        await api.create(CM, given)
    status, answer = await api.delete(CM, labelSelector="l=x")
    assert (status, answer["kind"]) == (200, "ConfigMapList")
    assert sorted(item["metadata"]["name"] for item in answer["items"]) == ["a", "b"]
    assert [item["metadata"]["name"] for item in (await api.list(CM))[1]["items"]] == ["c"]


async def test_a_namespace_terminates_until_it_is_finalized(api: Api, cluster: Api) -> None:
    status, obj = await cluster.delete("v1/namespaces", api.namespace)
    assert (status, obj["status"]["phase"]) == (200, "Terminating")
    status, error = await api.create(CM, config_map("late"))
    assert (status, error["reason"]) == (403, "Forbidden")
    assert error["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    _, error = await api.create(CM, {"metadata": {}})
    assert error["message"].startswith('configmaps "Unknown" is forbidden: ')
    obj["spec"]["finalizers"] = []
    status, _ = await cluster.update("v1/namespaces", obj, "finalize")
    assert status == 200
    assert (await cluster.get("v1/namespaces", api.namespace))[0] == 404


async def test_a_namespace_terminates_without_a_grace_and_with_the_finalizer_asked_for(api: Api, cluster: Api) -> None:
    _, obj = await cluster.delete("v1/namespaces", api.namespace, {"propagationPolicy": "Foreground"})
    assert "deletionGracePeriodSeconds" not in obj["metadata"]
    assert obj["metadata"]["finalizers"] == ["foregroundDeletion"]
    # Asked again, it stays as it was asked for first.
    _, again = await cluster.delete("v1/namespaces", api.namespace, {"propagationPolicy": "Orphan"})
    assert again == obj
    obj["spec"]["finalizers"] = []
    await cluster.update("v1/namespaces", obj, "finalize")
    # The garbage collector's finalizer still holds it.
    assert (await cluster.get("v1/namespaces", api.namespace))[0] == 200


@pytest.mark.parametrize(("orphan", "finalizer"), [(False, "foregroundDeletion"), (True, "orphan")])
async def test_a_namespace_whose_dependents_are_not_orphaned_waits_for_them(
    api: Api, cluster: Api, orphan: bool, finalizer: str
) -> None:
    status, obj = await cluster.delete("v1/namespaces", api.namespace, {"orphanDependents": orphan})
    assert obj["metadata"]["finalizers"] == [finalizer]
    assert status == (200 if orphan else 202)


async def test_an_events_missed_precondition_names_the_kind_that_is_stored(api: Api) -> None:
    about = {"kind": "Pod", "namespace": api.namespace, "name": "p"}
    assert (await api.create("v1/events", {"metadata": {"name": "e"}, "involvedObject": about}))[0] == 201
    status, error = await api.delete("events.k8s.io/v1/events", "e", {"preconditions": {"uid": "x"}})
    assert status == 409
    assert error["message"].startswith('Operation cannot be fulfilled on Event "e": the UID in the precondition')


async def test_a_namespace_says_otherwise_what_a_precondition_misses(api: Api, cluster: Api) -> None:
    _, obj = await cluster.get("v1/namespaces", api.namespace)
    uid, version = obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]
    failed = f'Operation cannot be fulfilled on namespaces "{api.namespace}": Precondition failed:'
    _, error = await cluster.delete("v1/namespaces", api.namespace, {"preconditions": {"uid": "x"}})
    assert error["message"] == f"{failed} UID in precondition: x, UID in object meta: {uid}"
    assert (error["code"], error["details"]) == (409, {"name": api.namespace, "kind": "namespaces"})
    _, error = await cluster.delete("v1/namespaces", api.namespace, {"preconditions": {"resourceVersion": "1"}})
    assert error["message"] == f"{failed} ResourceVersion in precondition: 1, ResourceVersion in object meta: {version}"
    held = {"preconditions": {"uid": uid, "resourceVersion": version}}
    assert (await cluster.delete("v1/namespaces", api.namespace, held))[0] == 200


async def test_preconditions_are_looked_at_before_what_admission_says(cluster: Api) -> None:
    status, _ = await cluster.delete("v1/namespaces", "kube-system", {"preconditions": {"uid": "x"}})
    assert status == 409


async def test_who_asks_in_the_old_way_hears_that_the_deletion_goes_on(api: Api) -> None:
    given = config_map("a")
    given["metadata"]["finalizers"] = ["example.com/a"]
    await api.create(CM, given)
    await api.create(CM, config_map("b"))
    status, obj = await api.delete(CM, "a", {"orphanDependents": False})
    assert (status, obj["metadata"]["finalizers"]) == (202, ["example.com/a"])
    assert (await api.delete(CM, "b", {"orphanDependents": False}))[0] == 200
    await api.patch(CM, "a", {"metadata": {"finalizers": None}})


async def test_system_namespaces_cannot_be_deleted(cluster: Api) -> None:
    status, error = await cluster.delete("v1/namespaces", "kube-system")
    assert (status, error["message"]) == (
        403,
        'namespaces "kube-system" is forbidden: this namespace may not be deleted',
    )
