"""Create, update and patch, as ../shared/API_SEMANTICS.md lines 14-26 have them."""

from __future__ import annotations

import re

import pytest

from .conftest import Api, config_map, deployment, pod

pytestmark = pytest.mark.asyncio(loop_scope="module")

CM = "v1/configmaps"
DEPLOY = "apps/v1/deployments"


async def test_a_created_object_gets_what_only_the_server_sets(api: Api) -> None:
    given = config_map("a", k="v")
    given["metadata"] |= {"uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z"}
    status, obj = await api.create(CM, given, fieldManager="tester")
    assert status == 201
    metadata = obj["metadata"]
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", metadata["uid"])
    assert metadata["creationTimestamp"] > "2020"
    assert metadata["resourceVersion"].isdigit()
    assert metadata["namespace"] == api.namespace
    assert [entry["manager"] for entry in metadata["managedFields"]] == ["tester"]
    assert (await api.get(CM, "a"))[1] == obj


async def test_a_duplicate_create_is_already_exists(api: Api) -> None:
    await api.create(CM, config_map("a"))
    status, error = await api.create(CM, config_map("a"))
    assert (status, error["reason"]) == (409, "AlreadyExists")
    assert error["message"] == 'configmaps "a" already exists'
    assert error["details"] == {"name": "a", "kind": "configmaps"}


async def test_a_generated_name_has_five_characters_of_the_safe_alphabet(api: Api) -> None:
    status, obj = await api.create(CM, {"metadata": {"generateName": "job-"}})
    assert status == 201
    assert re.fullmatch(r"job-[bcdfghjklmnpqrstvwxz2456789]{5}", obj["metadata"]["name"])


def of_version(name: str, version: str) -> dict[str, object]:
    made = config_map(name)
    made["metadata"]["resourceVersion"] = version
    return made


async def test_creating_with_a_resource_version_is_refused_when_all_else_is_right(api: Api) -> None:
    status, error = await api.create(CM, of_version("a", "5"))
    assert (status, error["message"]) == (500, "resourceVersion should not be set on objects to be created")
    assert (await api.create(CM, of_version("Not_A_Name", "5")))[1]["reason"] == "Invalid"
    status, obj = await api.create(CM, of_version("a", "5"), dryRun="All")
    assert (status, obj["metadata"]["resourceVersion"]) == (201, "5")


async def test_an_update_says_what_the_name_was_generated_from_anew(api: Api) -> None:
    await api.create(CM, config_map("a"))
    _, changed = await api.update(CM, {"metadata": {"name": "a", "generateName": "x"}})
    assert changed["metadata"]["generateName"] == "x"
    _, changed = await api.update(CM, config_map("a"))
    assert "generateName" not in changed["metadata"]


@pytest.mark.parametrize("version", ["0", "x", "-1"])
async def test_a_new_objects_resource_version_that_names_no_revision_is_none(api: Api, version: str) -> None:
    status, made = await api.create(CM, of_version("a", version))
    assert (status, made["metadata"]["resourceVersion"].isdigit()) == (201, True)


@pytest.mark.parametrize(
    ("version", "why"), [("x", "invalid syntax"), ("-1", "invalid syntax"), (str(1 << 64), "value out of range")]
)
async def test_an_update_of_what_is_no_revision_is_refused_in_gos_words(api: Api, version: str, why: str) -> None:
    await api.create(CM, config_map("a"))
    for status, error in (
        await api.update(CM, of_version("a", version)),
        await api.patch(CM, "a", {"metadata": {"resourceVersion": version}}),
    ):
        assert (status, error.get("reason")) == (500, None)
        assert error["message"] == f'strconv.ParseUint: parsing "{version}": {why}'


async def test_the_namespace_of_the_object_must_be_that_of_the_path(api: Api) -> None:
    given = config_map("a")
    given["metadata"]["namespace"] = "elsewhere"
    status, error = await api.create(CM, given)
    assert status == 400
    assert "the namespace of the provided object does not match" in error["message"]


async def test_an_update_of_a_stale_revision_conflicts(api: Api) -> None:
    _, first = await api.create(CM, config_map("a", k="1"))
    await api.update(CM, {**first, "data": {"k": "2"}})
    status, error = await api.update(CM, {**first, "data": {"k": "3"}})
    assert (status, error["reason"]) == (409, "Conflict")
    assert "the object has been modified; please apply your changes to the latest version" in error["message"]


async def test_an_update_without_revision_overwrites(api: Api) -> None:
    await api.create(CM, config_map("a", k="1"))
    status, obj = await api.update(CM, config_map("a", k="2"))
    assert (status, obj["data"]) == (200, {"k": "2"})


async def test_an_update_cannot_move_an_object(api: Api) -> None:
    await api.create(CM, config_map("a"))
    status, error = await api.call("PUT", api.path(CM, "a"), config_map("b"))
    assert status == 400
    assert "the name of the object (b) does not match the name on the URL (a)" in error["message"]


async def test_an_update_of_what_is_not_there_is_not_found(api: Api) -> None:
    status, error = await api.update(CM, config_map("a"))
    assert (status, error["reason"]) == (404, "NotFound")


@pytest.mark.parametrize("given", [{"name": "other"}, {}])
async def test_an_update_of_what_is_not_there_is_first_held_against_its_url(api: Api, given: dict[str, str]) -> None:
    status, error = await api.call("PUT", api.path(CM, "gone"), config_map("x") | {"metadata": given})
    assert (status, error["reason"]) == (400, "BadRequest")
    assert "gone" in error["message"]


async def test_a_write_that_changes_nothing_keeps_the_resource_version(api: Api) -> None:
    _, first = await api.create(CM, config_map("a", k="1"))
    _, put = await api.update(CM, first, fieldManager="other")
    _, patched = await api.patch(CM, "a", {"data": {"k": "1"}}, fieldManager="third")
    assert put == first
    assert patched == first


@pytest.mark.parametrize(("query", "root"), [({}, "/registry"), ({"dryRun": "All"}, "")])
async def test_a_foreign_uid_conflicts(api: Api, query: dict[str, str], root: str) -> None:
    _, obj = await api.create(CM, config_map("a"))
    own, other = obj["metadata"]["uid"], "00000000-0000-4000-8000-000000000000"
    # Before it is asked of which revision it is.
    obj["metadata"] |= {"uid": other, "resourceVersion": "1"}
    status, error = await api.update(CM, obj, **query)
    assert (status, error["message"]) == (
        409,
        'Operation cannot be fulfilled on configmaps "a": StorageError: invalid object, Code: 4, '
        f"Key: {root}/configmaps/{api.namespace}/a, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: "
        f"UID in precondition: {other}, UID in object meta: {own}",
    )


async def test_a_change_of_spec_counts_up_generation_and_a_change_of_labels_does_not(api: Api) -> None:
    _, obj = await api.create(DEPLOY, deployment("d"))
    assert obj["metadata"]["generation"] == 1
    _, labelled = await api.patch(DEPLOY, "d", {"metadata": {"labels": {"a": "b"}}})
    assert labelled["metadata"]["generation"] == 1
    _, scaled = await api.patch(DEPLOY, "d", {"spec": {"replicas": 5}})
    assert scaled["metadata"]["generation"] == 2


async def test_status_is_written_through_its_subresource_only(api: Api) -> None:
    given = deployment("d")
    given["status"] = {"replicas": 9}
    _, created = await api.create(DEPLOY, given)
    assert not (created.get("status") or {}).get("replicas")
    created["status"] = {"replicas": 3, "observedGeneration": 1}
    created["spec"]["replicas"] = 7
    status, updated = await api.update(DEPLOY, created, "status")
    assert status == 200
    assert updated["status"]["replicas"] == 3
    assert updated["spec"]["replicas"] == 1
    updated["status"] = {}
    _, again = await api.update(DEPLOY, updated)
    assert again["status"]["replicas"] == 3


async def test_unknown_fields_fail_strictly_and_are_dropped_otherwise(api: Api) -> None:
    given = config_map("a")
    given["bogus"] = 1
    status, error = await api.create(CM, given, fieldValidation="Strict")
    assert status == 400
    assert 'strict decoding error: unknown field "bogus"' in error["message"]
    status, obj = await api.create(CM, given, fieldValidation="Warn")
    assert status == 201
    assert "bogus" not in obj


async def test_a_job_without_labels_has_those_of_its_pods_and_what_the_server_adds_to_them(api: Api) -> None:
    pods = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
    template = {"metadata": {"labels": {"app": "x"}}, "spec": pods}
    _, plain = await api.create("batch/v1/jobs", {"metadata": {"name": "plain"}, "spec": {"template": template}})
    labels = plain["metadata"]["labels"]
    assert labels == plain["spec"]["template"]["metadata"]["labels"]
    assert (labels["app"], labels["batch.kubernetes.io/job-name"]) == ("x", "plain")
    named = {"metadata": {"name": "named", "labels": {"app": "x"}}, "spec": {"template": template}}
    _, named = await api.create("batch/v1/jobs", named)
    assert named["metadata"]["labels"] == {"app": "x"}


async def test_a_dry_run_does_everything_but_store(api: Api) -> None:
    status, obj = await api.create(CM, config_map("a"), dryRun="All")
    assert status == 201
    assert obj["metadata"]["uid"]
    assert (await api.get(CM, "a"))[0] == 404
    await api.create(CM, config_map("a", k="1"))
    status, obj = await api.update(CM, config_map("a", k="2"), dryRun="All")
    assert (status, obj["data"]) == (200, {"k": "2"})
    assert (await api.delete(CM, "a", dryRun="All"))[0] == 200
    assert (await api.get(CM, "a"))[1]["data"] == {"k": "1"}


async def test_another_kind_of_dry_run_is_invalid(api: Api) -> None:
    status, error = await api.create(CM, config_map("a"), dryRun="Some")
    assert (status, error["reason"]) == (422, "Invalid")


async def test_a_missing_namespace_is_not_found(api: Api) -> None:
    api.namespace = "nowhere"
    status, error = await api.create(CM, config_map("a"))
    assert (status, error["message"]) == (404, 'namespaces "nowhere" not found')


async def test_json_patch_applies_and_a_failed_test_is_invalid(api: Api) -> None:
    await api.create(CM, config_map("a", k="1"))
    status, obj = await api.patch(CM, "a", [{"op": "add", "path": "/data/n", "value": "2"}], "json-patch")
    assert (status, obj["data"]) == (200, {"k": "1", "n": "2"})
    status, _ = await api.patch(CM, "a", [{"op": "test", "path": "/data/k", "value": "9"}], "json-patch")
    assert status == 422


async def test_strategic_merge_patch_merges_containers_by_name(api: Api) -> None:
    await api.create(DEPLOY, deployment("d"))
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "none"}]}}}}
    status, obj = await api.patch(DEPLOY, "d", patch, "strategic-merge-patch")
    assert status == 200
    names = [one["name"] for one in obj["spec"]["template"]["spec"]["containers"]]
    assert sorted(names) == ["main", "side"]


async def test_an_unknown_patch_type_is_unsupported(api: Api) -> None:
    await api.create(CM, config_map("a"))
    status, error = await api.call("PATCH", api.path(CM, "a"), {}, "application/json")
    assert (status, error["reason"]) == (415, "UnsupportedMediaType")


async def test_force_belongs_to_apply(api: Api) -> None:
    await api.create(CM, config_map("a"))
    status, error = await api.patch(CM, "a", {}, force="true")
    assert status == 422
    assert "may not be specified for non-apply patch" in error["message"]


async def test_a_patch_of_a_stale_revision_conflicts(api: Api) -> None:
    _, obj = await api.create(CM, config_map("a", k="1"))
    await api.patch(CM, "a", {"data": {"k": "2"}})
    stale = {"metadata": {"resourceVersion": obj["metadata"]["resourceVersion"]}, "data": {"k": "3"}}
    assert (await api.patch(CM, "a", stale))[0] == 409


async def test_invalid_objects_name_the_field_and_the_rule(api: Api) -> None:
    given = deployment("d", -1)
    status, error = await api.create(DEPLOY, given)
    assert (status, error["reason"]) == (422, "Invalid")
    assert error["details"]["kind"] == "Deployment"
    cause = error["details"]["causes"][0]
    assert (cause["field"], cause["reason"]) == ("spec.replicas", "FieldValueInvalid")
    assert "spec.replicas: Invalid value: -1: must be greater than or equal to 0" in error["message"]


async def test_a_bad_name_is_invalid(api: Api) -> None:
    status, error = await api.create(CM, config_map("Not_A_Name"))
    assert status == 422
    assert error["details"]["causes"][0]["field"] == "metadata.name"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b'{"metadata":[]}', b'{"kind":"Pod"}'],
)
async def test_a_body_that_is_no_such_object_is_a_bad_request(api: Api, body: bytes) -> None:
    status, error = await api.create(CM, body)
    assert status in (400, 422)
    assert error["kind"] == "Status"


async def test_leases_are_created_by_update(api: Api) -> None:
    lease = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}}
    status, obj = await api.update("coordination.k8s.io/v1/leases", lease)
    assert status == 201
    assert obj["spec"]["holderIdentity"] == "me"


async def test_unknown_resources_subresources_and_verbs_have_their_errors(api: Api, cluster: Api) -> None:
    assert (await api.create("v1/nonsense", {}))[0] == 404
    assert (await api.call("GET", "/nowhere"))[0] == 404
    status, error = await api.create("v1/pods", pod("p"))
    assert status == 201, error
    assert (await api.get("v1/pods", "p", "nonsense"))[0] == 404
    status, error = await cluster.delete("v1/namespaces")
    assert (status, error["reason"]) == (405, "MethodNotAllowed")


async def test_a_manager_that_cannot_be_printed_is_refused_as_go_quotes_it(api: Api) -> None:
    status, answer = await api.call("POST", api.path("v1/configmaps"), {"metadata": {"name": "a"}}, fieldManager="\x01")
    assert status == 422
    (cause,) = answer["details"]["causes"]
    assert cause["message"] == 'Invalid value: "\\x01": invalid character U+0001 (at position 0)'


@pytest.mark.parametrize(
    ("operation", "labels"),
    [
        ({"op": "replace", "path": "/metadata/labels/new", "value": "x"}, {"a": "b", "new": "x"}),
        ({"op": "copy", "from": "/metadata/labels/none", "path": "/metadata/labels/c"}, {"a": "b", "c": ""}),
        ({"op": "test", "path": "/metadata/labels/none", "value": None}, {"a": "b"}),
    ],
)
async def test_a_json_patch_takes_a_member_that_is_not_there_for_null_as_upstream(
    api: Api, operation: dict[str, str | None], labels: dict[str, str]
) -> None:
    await api.create(CM, {"metadata": {"name": "a", "labels": {"a": "b"}}})
    status, obj = await api.patch(CM, "a", [operation], "json-patch")
    assert (status, obj["metadata"]["labels"]) == (200, labels)
