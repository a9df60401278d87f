"""Server-side apply (../shared/API_SEMANTICS.md, line 25, whose tests are named after it): ownership, conflicts, force,
removal, creation.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from kubecore.apiserver.server import APIServer

from .conftest import Api, config_map, deployment

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]
CM, DEPLOY = "v1/configmaps", "apps/v1/deployments"
APPLY = "application/apply-patch+yaml"


async def apply(
    api: Api, resource: str, obj: JSON, manager: str = "alice", subresource: str = "", **query: str
) -> tuple[int, JSON]:
    path = api.path(resource, obj["metadata"]["name"], subresource)
    return await api.call("PATCH", path, orjson.dumps(obj), APPLY, fieldManager=manager, **query)


def owned(obj: JSON, manager: str, operation: str = "Apply") -> JSON:
    """The fields that a manager owns."""
    entries = [e for e in obj["metadata"]["managedFields"] if (e["manager"], e["operation"]) == (manager, operation)]
    assert len(entries) <= 1
    return entries[0]["fieldsV1"] if entries else {}


async def test_apply_creates_what_is_not_there_and_owns_what_it_says(api: Api) -> None:
    status, obj = await apply(api, CM, config_map("a", k="v"))
    assert status == 201
    assert obj["data"] == {"k": "v"}
    (entry,) = obj["metadata"]["managedFields"]
    assert entry | {"time": ""} == {
        "manager": "alice",
        "operation": "Apply",
        "apiVersion": "v1",
        "time": "",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:k": {}}},
    }


async def test_applying_the_same_again_changes_nothing(api: Api) -> None:
    _, first = await apply(api, DEPLOY, deployment("a"))
    status, second = await apply(api, DEPLOY, deployment("a"))
    assert (status, second) == (200, first)


async def test_defaults_are_nobodys(api: Api) -> None:
    given = deployment("a")
    del given["spec"]["replicas"]
    _, obj = await apply(api, DEPLOY, given)
    assert obj["spec"]["replicas"] == 1
    assert "f:replicas" not in owned(obj, "alice")["f:spec"]


async def test_25_a_field_manager_is_required(api: Api) -> None:
    path = api.path(CM, "a")
    status, error = await api.call("PATCH", path, orjson.dumps(config_map("a")), APPLY)
    assert (status, error["reason"]) == (422, "Invalid")
    assert error["message"] == (
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
    )


async def test_25_force_is_for_apply_only(api: Api) -> None:
    await api.create(CM, config_map("a"))
    status, error = await api.patch(CM, "a", {"data": {"k": "v"}}, force="true")
    assert status == 422
    assert "force: Forbidden: may not be specified for non-apply patch" in error["message"]


async def test_25_managed_fields_in_an_applied_object_are_refused(api: Api) -> None:
    given = config_map("a")
    given["metadata"]["managedFields"] = []
    status, error = await apply(api, CM, given)
    assert (status, error["message"]) == (400, "metadata.managedFields must be nil")


async def test_25_another_managers_value_is_a_conflict_with_a_cause_per_field(api: Api) -> None:
    await apply(api, CM, config_map("a", k="1", other="1"), "bob")
    status, error = await apply(api, CM, config_map("a", k="2", other="2"))
    assert (status, error["reason"]) == (409, "Conflict")
    assert error["message"] == 'Apply failed with 2 conflicts: conflicts with "bob":\n- .data.k\n- .data.other'
    assert error["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "bob"', "field": ".data.k"},
        {"reason": "FieldManagerConflict", "message": 'conflict with "bob"', "field": ".data.other"},
    ]
    assert (await api.get(CM, "a"))[1]["data"] == {"k": "1", "other": "1"}


async def test_fields_are_named_before_those_within_others_in_a_conflict(api: Api) -> None:
    def given(image: str) -> JSON:
        made = deployment("a", replicas=len(image))
        made["spec"]["template"]["spec"]["hostname"] = image
        made["spec"]["template"]["spec"]["containers"][0]["image"] = image
        return made

    await apply(api, DEPLOY, given("one"), "bob")
    _, error = await apply(api, DEPLOY, given("other"))
    within = ".spec.template.spec"
    fields = [cause["field"] for cause in error["details"]["causes"]]
    assert fields == [".spec.replicas", f"{within}.hostname", f'{within}.containers[name="main"].image']


async def test_a_conflict_with_an_update_names_its_version(api: Api) -> None:
    await api.create(DEPLOY, deployment("a", replicas=1), fieldManager="bob")
    status, error = await apply(api, DEPLOY, deployment("a", replicas=2))
    assert status == 409
    assert error["message"] == 'Apply failed with 1 conflict: conflict with "bob" using apps/v1: .spec.replicas'


async def test_an_element_is_named_by_its_keys_in_a_conflict(api: Api) -> None:
    await apply(api, DEPLOY, deployment("a"), "bob")
    given = deployment("a")
    given["spec"]["template"]["spec"]["containers"][0]["image"] = "another"
    status, error = await apply(api, DEPLOY, given)
    assert status == 409
    assert error["details"]["causes"][0]["field"] == '.spec.template.spec.containers[name="main"].image'


async def test_the_same_value_is_shared_and_no_conflict(api: Api) -> None:
    await apply(api, CM, config_map("a", k="1"), "bob")
    status, obj = await apply(api, CM, config_map("a", k="1"))
    assert status == 200
    assert owned(obj, "alice") == owned(obj, "bob") == {"f:data": {"f:k": {}}}


async def test_force_takes_the_field_over(api: Api) -> None:
    await apply(api, CM, config_map("a", k="1", mine="x"), "bob")
    status, obj = await apply(api, CM, config_map("a", k="2"), force="true")
    assert status == 200
    assert obj["data"] == {"k": "2", "mine": "x"}
    assert owned(obj, "alice") == {"f:data": {"f:k": {}}}
    assert owned(obj, "bob") == {"f:data": {"f:mine": {}}}


async def test_25_what_a_manager_alone_owned_goes_when_it_is_left_out(api: Api) -> None:
    await apply(api, CM, config_map("a", k="1", gone="1"))
    _, obj = await apply(api, CM, config_map("a", k="1"))
    assert obj["data"] == {"k": "1"}


async def test_what_another_owns_too_stays_when_it_is_left_out(api: Api) -> None:
    await apply(api, CM, config_map("a", shared="1"), "bob")
    await apply(api, CM, config_map("a", shared="1", k="1"))
    _, obj = await apply(api, CM, config_map("a", k="1"))
    assert obj["data"] == {"k": "1", "shared": "1"}
    assert owned(obj, "alice") == {"f:data": {"f:k": {}}}


async def test_an_element_left_out_goes_with_its_defaults(api: Api) -> None:
    given = deployment("a")
    given["spec"]["template"]["spec"]["containers"].append({"name": "side", "image": "x"})
    await apply(api, DEPLOY, given)
    _, obj = await apply(api, DEPLOY, deployment("a"))
    assert [one["name"] for one in obj["spec"]["template"]["spec"]["containers"]] == ["main"]


async def test_elements_of_two_managers_stand_side_by_side(api: Api) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"ports": [{"name": "a", "port": 80}]},
    }
    await apply(api, "v1/services", service)
    other = service | {"spec": {"ports": [{"name": "b", "port": 81}]}}
    status, obj = await apply(api, "v1/services", other, "bob")
    assert status == 200, obj
    assert [port["port"] for port in obj["spec"]["ports"]] == [80, 81]
    assert 'k:{"port":81,"protocol":"TCP"}' in owned(obj, "bob")["f:spec"]["f:ports"]


async def test_an_update_takes_what_it_changes_from_the_applier(api: Api) -> None:
    await apply(api, CM, config_map("a", k="1", other="1"))
    _, obj = await api.patch(CM, "a", {"data": {"k": "2"}}, fieldManager="bob")
    assert owned(obj, "alice") == {"f:data": {"f:other": {}}}
    assert owned(obj, "bob", "Update") == {"f:data": {"f:k": {}}}


async def test_what_was_there_before_the_first_apply_is_owned_by_the_former_time(api: Api) -> None:
    await api.create(CM, config_map("a", k="1"), fieldManager="bob")
    await api.patch(CM, "a", {"metadata": {"managedFields": [{}]}})
    status, error = await apply(api, CM, config_map("a", k="2"))
    assert status == 409
    assert 'conflict with "before-first-apply" using v1: .data.k' in error["message"]


async def test_kubectl_takes_over_what_its_client_side_apply_recorded(api: Api) -> None:
    given = config_map("a", k="1", gone="1")
    recorded = orjson.dumps(given).decode()
    given["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": recorded}
    await api.create(CM, given, fieldManager="kubectl-client-side-apply")
    assert (await apply(api, CM, config_map("a", k="2")))[0] == 409
    status, obj = await apply(api, CM, config_map("a", k="2"), "kubectl")
    assert status == 200, obj
    assert obj["data"]["k"] == "2"


@pytest.mark.parametrize("wish", [[], [{}]])
async def test_25_managed_fields_are_reset_by_none_or_an_empty_one(api: Api, wish: list[JSON]) -> None:
    await apply(api, CM, config_map("a", k="1"))
    _, obj = await api.patch(CM, "a", {"metadata": {"managedFields": wish}})
    assert "managedFields" not in obj["metadata"]
    await apply(api, CM, config_map("a", k="1"))
    obj["metadata"] |= {"managedFields": wish}
    del obj["metadata"]["resourceVersion"]
    _, obj = await api.update(CM, obj)
    assert "managedFields" not in obj["metadata"]


async def test_25_who_sends_no_managed_fields_does_not_reset_them(api: Api) -> None:
    _, applied = await apply(api, CM, config_map("a", k="1"))
    for patch in ({"metadata": {"managedFields": None}}, {"metadata": {"labels": {}}}):
        _, obj = await api.patch(CM, "a", patch)
        assert obj["metadata"]["managedFields"] == applied["metadata"]["managedFields"]


async def test_who_applies_what_is_there_already_leaves_no_time(api: Api) -> None:
    await apply(api, CM, config_map("a", k="1"))
    _, obj = await apply(api, CM, config_map("a", k="1"), "bob")
    times = {entry["manager"]: entry.get("time") for entry in obj["metadata"]["managedFields"]}
    assert times["bob"] is None
    assert times["alice"] is not None


async def test_what_kubectl_applies_is_what_its_client_side_apply_will_go_by(api: Api) -> None:
    annotation = "kubectl.kubernetes.io/last-applied-configuration"
    given = config_map("a", k="1")
    given["metadata"]["annotations"] = {annotation: orjson.dumps(config_map("a", k="1")).decode()}
    await api.create(CM, given, fieldManager="kubectl-client-side-apply")
    _, obj = await apply(api, CM, config_map("a", k="2"), "kubectl")
    recorded = obj["metadata"]["annotations"][annotation]
    assert recorded == '{"apiVersion":"v1","data":{"k":"2"},"kind":"ConfigMap","metadata":{"name":"a"}}\n'
    _, obj = await apply(api, CM, config_map("a", other="1"), "someone")
    assert obj["metadata"]["annotations"][annotation] == recorded


async def test_a_resource_version_is_no_obstacle_to_creating_by_applying(api: Api) -> None:
    given = config_map("a", k="1")
    given["metadata"]["resourceVersion"] = "x"
    status, error = await apply(api, CM, given)
    assert (status, error["message"]) == (500, 'strconv.ParseUint: parsing "x": invalid syntax')
    given["metadata"]["resourceVersion"] = "1"
    assert (await apply(api, CM, given))[0] == 201


async def test_an_unknown_field_is_refused_with_its_path(api: Api) -> None:
    given = deployment("a")
    given["spec"]["template"]["spec"]["containers"][0]["imagge"] = "x"
    status, error = await apply(api, DEPLOY, given)
    # As upstream: an error that its handler gives on as it is.
    assert (status, error.get("reason")) == (500, None)
    assert error["message"] == (
        "failed to create typed patch object (/a; apps/v1, Kind=Deployment): "
        '.spec.template.spec.containers[name="main"].imagge: field not declared in schema'
    )


async def test_an_element_given_twice_is_refused(api: Api) -> None:
    given = deployment("a")
    given["spec"]["template"]["spec"]["containers"] *= 2
    status, error = await apply(api, DEPLOY, given)
    assert status == 500
    assert 'duplicate entries for key [name="main"]' in error["message"]


async def test_all_that_is_mistyped_is_told_at_once(api: Api) -> None:
    given = deployment("a")
    container = given["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "A", "value": 1}, {"name": "A"}]
    status, error = await apply(api, DEPLOY, given)
    env = '.spec.template.spec.containers[name="main"].env'
    assert status == 500
    assert error["message"].partition("errors:")[2].splitlines() == [
        "",
        f'  {env}[name="A"].value: expected string, got &value.valueUnstructured{{Value:1}}',
        f'  {env}: duplicate entries for key [name="A"]',
    ]


async def test_elements_of_one_key_are_owned_together(api: Api) -> None:
    given = deployment("a")
    container = given["spec"]["template"]["spec"]["containers"][0]

    async def owned_after(*values: str) -> object:
        container["env"] = [{"name": "A", "value": value} for value in values]
        _, answer = await (api.update if found else api.create)(DEPLOY, given)
        found.append(answer)
        fields = answer["metadata"]["managedFields"][0]["fieldsV1"]
        containers = fields["f:spec"]["f:template"]["f:spec"]["f:containers"]
        return containers['k:{"name":"main"}']["f:env"]['k:{"name":"A"}']

    found: list[object] = []
    assert await owned_after("1", "2") == {}
    assert await owned_after("1") == {".": {}, "f:name": {}, "f:value": {}}
    assert await owned_after("1", "1") == {}


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ([None], "element 0: associative list with keys may not have a null element"),
        (["A"], "element 0: associative list with keys may not have non-map elements"),
    ],
)
async def test_an_element_without_its_key_is_refused(api: Api, env: list[object], words: str) -> None:
    given = deployment("a")
    given["spec"]["template"]["spec"]["containers"][0]["env"] = env
    status, error = await apply(api, DEPLOY, given)
    assert (status, words in error["message"]) == (500, True), error


def limited(cpu: object) -> dict[str, object]:
    given = deployment("q")
    given["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"cpu": cpu}}
    return given


@pytest.mark.parametrize("cpu", [1, 1.0, "1000m", "2"])
async def test_a_quantity_that_is_written_otherwise_is_another_value(api: Api, cpu: object) -> None:
    await apply(api, DEPLOY, limited("1"), "alice")
    assert (await apply(api, DEPLOY, limited("1"), "bob"))[0] == 200
    status, error = await apply(api, DEPLOY, limited(cpu), "carol")
    assert status == 409
    fields = {cause["field"] for cause in error["details"]["causes"]}
    assert fields == {'.spec.template.spec.containers[name="main"].resources.limits.cpu'}
    assert (await apply(api, DEPLOY, limited(cpu), "carol", force="true"))[0] == 200


@pytest.mark.parametrize(
    "change", [{"hostNetwork": False}, {"nodeName": ""}, {"nodeSelector": {}}, {"tolerations": []}]
)
async def test_a_zero_that_is_not_stored_is_a_conflict_for_the_next(api: Api, change: dict[str, object]) -> None:
    given = deployment("z")
    given["spec"]["template"]["spec"] |= change
    assert (await apply(api, DEPLOY, given, "alice"))[0] == 201
    status, error = await apply(api, DEPLOY, given, "bob")
    (field,) = change
    assert (status, error["details"]["causes"][0]["field"]) == (409, f".spec.template.spec.{field}")
    assert (await apply(api, DEPLOY, given, "alice"))[0] == 200


async def test_another_version_than_that_of_the_path_is_refused(api: Api) -> None:
    status, error = await apply(api, CM, config_map("a") | {"apiVersion": "v2"})
    assert status == 400
    assert error["message"] == "invalid object type: /v2, Kind=ConfigMap"


async def test_status_is_not_set_through_the_object_and_spec_not_through_status(api: Api) -> None:
    given = deployment("a") | {"status": {"replicas": 7}}
    _, obj = await apply(api, DEPLOY, given)
    assert "status" not in obj or "replicas" not in obj["status"]
    assert "f:status" not in owned(obj, "alice")
    change = deployment("a", replicas=9) | {"status": {"replicas": 3}}
    status, obj = await apply(api, DEPLOY, change, "bob", "status")
    assert status == 200, obj
    assert (obj["spec"]["replicas"], obj["status"]["replicas"]) == (1, 3)
    (entry,) = [one for one in obj["metadata"]["managedFields"] if one["manager"] == "bob"]
    assert (entry["subresource"], entry["fieldsV1"]) == ("status", {"f:status": {"f:replicas": {}}})


@pytest.mark.parametrize("by", ["apply", "update"])
async def test_a_service_is_made_by_a_write_of_its_status(api: Api, by: str) -> None:
    """Upstream's storage of Services lets it; the status itself is dropped, as at any creation."""
    given = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a"},
        "spec": {"type": "ExternalName", "externalName": "example.com"},
        "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
    }
    if by == "apply":
        status, made = await apply(api, "v1/services", given, subresource="status")
        assert list(owned(made, "alice")) == ["f:status"]
    else:
        status, made = await api.call("PUT", api.path("v1/services", "a", "status"), given)
    assert (status, made["spec"]["externalName"], made["status"]) == (201, "example.com", {"loadBalancer": {}})


async def test_a_status_is_applied_to_what_is_there(api: Api) -> None:
    assert (await apply(api, DEPLOY, deployment("a"), subresource="status"))[0] == 404


async def test_a_dry_run_changes_nothing(api: Api) -> None:
    status, obj = await apply(api, CM, config_map("a", k="1"), dryRun="All")
    assert (status, obj["data"]) == (201, {"k": "1"})
    assert (await api.get(CM, "a"))[0] == 404


async def test_a_uid_says_that_the_object_must_be_there(api: Api) -> None:
    given = config_map("a")
    given["metadata"]["uid"] = "1234"
    status, error = await apply(api, CM, given)
    assert (status, error["reason"]) == (409, "Conflict")
    assert "uid mismatch: the provided object specified uid 1234" in error["message"]


async def test_a_uid_of_what_is_not_there_is_told_before_another_name(api: Api) -> None:
    given = {**config_map("other"), "metadata": {"name": "other", "uid": "1234"}}
    path = api.path(CM, "missing")
    status, error = await api.call("PATCH", path, orjson.dumps(given), APPLY, fieldManager="alice")
    assert (status, error["details"]["name"]) == (409, "missing")
    assert "uid mismatch: the provided object specified uid 1234" in error["message"]


async def test_who_may_only_patch_does_not_create_by_applying(server: APIServer, api: Api) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}]
    await api.create("rbac.authorization.k8s.io/v1/roles", {"metadata": {"name": "patcher"}, "rules": rules})
    binding = {
        "metadata": {"name": "patcher"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "patcher"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "pat"}],
    }
    assert (await api.create("rbac.authorization.k8s.io/v1/rolebindings", binding))[0] == 201
    pat = Api(server.transport(username="pat"), api.namespace)
    status, error = await apply(pat, CM, config_map("a", k="1"))
    assert status == 403
    assert 'User "pat" cannot create resource "configmaps"' in error["message"]
    await api.create(CM, config_map("a"))
    assert (await apply(pat, CM, config_map("a", k="1")))[0] == 200
