"""../shared/API_SEMANTICS.md, lines 14 to 26: each test is named after its line. Line 25 has test_applying.py and
test_timestamps.py, too, line 23 test_custom_resources.py.
"""

from __future__ import annotations

import re

import orjson
import pytest

from kubecore.apiserver.server import APIServer
from tests.integration.apiserver.conftest import Api, config_map, deployment, pod
from tests.integration.apiserver.hooks import hooking, within
from tests.integration.apiserver.semantics.conftest import APPLY, JSON_PATCH, MERGE, STRATEGIC, Rest
from tests.support.admission_webhook import MAPS as CONFIG_MAPS
from tests.support.admission_webhook import configuration, hooked

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAPS, DEPLOYMENTS, PODS = "{ns}/configmaps", "{apps}/deployments", "{ns}/pods"


async def test_14_a_generated_name_ends_in_five_safe_characters(rest: Rest) -> None:
    made = await rest.made(MAPS, {"metadata": {"generateName": "job-"}})
    assert re.fullmatch(r"job-[bcdfghjklmnpqrstvwxz2456789]{5}", made["metadata"]["name"])


async def test_14_eight_taken_names_are_a_conflict(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def always_the_same(base: str) -> str:
        tried.append(base)
        return base + "bbbbb"

    monkeypatch.setattr("kubecore.api.meta.generate_name", always_the_same)
    await rest.made(MAPS, {"metadata": {"generateName": "job-"}})
    tried.clear()
    answer = await rest.post(MAPS, {"metadata": {"generateName": "job-"}})
    assert (answer.status, answer.json["reason"]) == (409, "AlreadyExists")
    assert len(tried) == 8


async def test_15_a_create_with_a_resource_version_is_refused(rest: Rest) -> None:
    given = config_map("a")
    given["metadata"]["resourceVersion"] = "1"
    answer = await rest.post(MAPS, given)
    # As upstream: an error of its storage that nobody words for clients.
    assert (answer.status, answer.json.get("reason")) == (500, None)
    assert answer.json["message"] == "resourceVersion should not be set on objects to be created"


async def test_15_a_duplicate_is_already_exists(rest: Rest) -> None:
    await rest.made(MAPS, config_map("a"))
    answer = await rest.post(MAPS, config_map("a"))
    assert (answer.status, answer.json["reason"]) == (409, "AlreadyExists")
    assert answer.json["message"] == 'configmaps "a" already exists'


async def test_16_a_put_of_a_stale_revision_conflicts(rest: Rest) -> None:
    made = await rest.made(MAPS, config_map("a", k="1"))
    assert (await rest.put(f"{MAPS}/a", made | {"data": {"k": "2"}})).status == 200
    answer = await rest.put(f"{MAPS}/a", made | {"data": {"k": "3"}})
    assert (answer.status, answer.json["reason"]) == (409, "Conflict")
    assert "the object has been modified; please apply your changes to the latest version" in answer.json["message"]


async def test_16_a_put_without_revision_overwrites_where_the_kind_allows_it(rest: Rest) -> None:
    await rest.made(MAPS, config_map("a", k="1"))
    assert (await rest.put(f"{MAPS}/a", config_map("a", k="2"))).json["data"] == {"k": "2"}


async def test_16_a_put_without_revision_is_422_where_the_kind_does_not(rest: Rest) -> None:
    path = f"/apis/policy/v1/namespaces/{rest.namespace}/poddisruptionbudgets"
    given = {"metadata": {"name": "a"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}}
    await rest.made(path, given)
    answer = await rest.put(f"{path}/a", given)
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert "metadata.resourceVersion: Invalid value" in answer.json["message"]
    assert "must be specified for an update" in answer.json["message"]


async def test_16_a_put_of_another_name_or_namespace_is_400(rest: Rest) -> None:
    await rest.made(MAPS, config_map("a"))
    answer = await rest.put(f"{MAPS}/a", config_map("b"))
    assert answer.status == 400
    assert answer.json["message"] == "the name of the object (b) does not match the name on the URL (a)"
    moved = config_map("a")
    moved["metadata"]["namespace"] = "default"
    answer = await rest.put(f"{MAPS}/a", moved)
    assert answer.status == 400
    assert (
        "the namespace of the provided object does not match the namespace sent on the request"
        in (answer.json["message"])
    )


async def test_17_clients_do_not_set_what_is_the_servers(rest: Rest) -> None:
    given = deployment("a")
    when = "2001-01-01T00:00:00Z"
    given["metadata"] |= {"uid": "x", "creationTimestamp": when, "generation": 9, "deletionTimestamp": when}
    made = (await rest.made(DEPLOYMENTS, given))["metadata"]
    assert made["uid"] != "x"
    assert made["creationTimestamp"] != when
    assert made["generation"] == 1
    assert "deletionTimestamp" not in made


async def test_17_an_update_does_not_set_it_either(rest: Rest) -> None:
    made = await rest.made(DEPLOYMENTS, deployment("a"))
    when = "2001-01-01T00:00:00Z"
    for metadata in ({"generation": 9}, {"creationTimestamp": when}):
        for answer in (
            await rest.patch(f"{DEPLOYMENTS}/a", {"metadata": metadata}),
            await rest.put(f"{DEPLOYMENTS}/a", made | {"metadata": made["metadata"] | metadata}),
        ):
            assert (answer.status, answer.json["metadata"]) == (200, made["metadata"])
    answer = await rest.put(f"{DEPLOYMENTS}/a", made | {"metadata": made["metadata"] | {"uid": "x"}})
    assert (answer.status, answer.json["reason"]) == (409, "Conflict")
    for metadata in ({"uid": "x"}, {"deletionTimestamp": when}):
        answer = await rest.patch(f"{DEPLOYMENTS}/a", {"metadata": metadata})
        [field] = metadata
        assert (answer.status, answer.json["details"]["causes"][0]["field"]) == (422, f"metadata.{field}")
    assert (await rest.get(f"{DEPLOYMENTS}/a")).json == made


async def test_17_generation_counts_changes_of_spec_only(rest: Rest) -> None:
    await rest.made(DEPLOYMENTS, deployment("a"))
    path = f"{DEPLOYMENTS}/a"
    assert (await rest.patch(path, {"metadata": {"labels": {"x": "y"}}})).json["metadata"]["generation"] == 1
    assert (await rest.patch(f"{path}/status", {"status": {"replicas": 1}})).json["metadata"]["generation"] == 1
    assert (await rest.patch(path, {"spec": {"replicas": 4}})).json["metadata"]["generation"] == 2


async def test_17_annotations_of_a_deployment_count_too_as_its_replica_sets_get_them(rest: Rest) -> None:
    await rest.made(DEPLOYMENTS, deployment("a"))
    path, change = f"{DEPLOYMENTS}/a", {"metadata": {"annotations": {"x": "y"}}}
    assert (await rest.patch(f"{path}/status", change)).json["metadata"]["generation"] == 1
    assert (await rest.patch(path, change)).json["metadata"]["generation"] == 1
    change = {"metadata": {"annotations": {"x": "z"}}}
    assert (await rest.patch(path, change)).json["metadata"]["generation"] == 2
    # of other kinds they do not
    await rest.made("{apps}/replicasets", deployment("a") | {"kind": "ReplicaSet"})
    assert (await rest.patch("{apps}/replicasets/a", change)).json["metadata"]["generation"] == 1


async def test_18_a_write_that_changes_nothing_keeps_the_revision_and_makes_no_event(rest: Rest) -> None:
    made = await rest.made(MAPS, config_map("a", k="1"))
    revision = made["metadata"]["resourceVersion"]
    async with rest.watch(f"{MAPS}?watch=true&resourceVersion={revision}") as events:
        same = (await rest.patch(f"{MAPS}/a", {"data": {"k": "1"}})).json
        assert same == made
        assert (await rest.put(f"{MAPS}/a", made)).json == made
        changed = (await rest.patch(f"{MAPS}/a", {"data": {"k": "2"}})).json
        assert (await events.next())["object"] == changed


async def test_18_owners_that_do_not_count_change_nothing(rest: Rest) -> None:
    await rest.made(MAPS, config_map("a", k="1"))
    kept = (await rest.patch(f"{MAPS}/a", {"metadata": {"managedFields": [{"operation": "Odd"}]}})).json
    assert kept["metadata"]["managedFields"][0]["operation"] == "Update"
    forgotten = (await rest.patch(f"{MAPS}/a", {"metadata": {"managedFields": []}})).json
    assert "managedFields" not in forgotten["metadata"]
    for owners in ([], [{}], [{"operation": "Odd"}]):
        again = (await rest.patch(f"{MAPS}/a", {"metadata": {"managedFields": owners}})).json
        assert again == forgotten, owners


async def test_19_status_takes_status_and_the_object_takes_the_rest(rest: Rest) -> None:
    await rest.made(DEPLOYMENTS, deployment("a", replicas=1))
    path = f"{DEPLOYMENTS}/a"
    got = (await rest.patch(f"{path}/status", {"spec": {"replicas": 5}, "status": {"replicas": 3}})).json
    assert (got["spec"]["replicas"], got["status"]["replicas"]) == (1, 3)
    got = (await rest.patch(path, {"spec": {"replicas": 2}, "status": {"replicas": 9}})).json
    assert (got["spec"]["replicas"], got["status"]["replicas"]) == (2, 3)


async def test_19_status_takes_labels_as_the_kind_allows(rest: Rest) -> None:
    await rest.made(DEPLOYMENTS, deployment("a"))
    change = {"metadata": {"labels": {"x": "y"}}, "status": {"replicas": 1}}
    got = (await rest.patch(f"{DEPLOYMENTS}/a/status", change)).json
    assert got["status"]["replicas"] == 1
    assert "labels" not in got["metadata"]
    await rest.made(PODS, pod("a"))
    got = (await rest.patch(f"{PODS}/a/status", change)).json
    assert got["metadata"]["labels"] == {"x": "y"}


async def test_20_a_missing_namespace_is_404_and_a_terminating_one_403(rest: Rest) -> None:
    answer = await rest.post("/api/v1/namespaces/nowhere/configmaps", config_map("a"))
    assert (answer.status, answer.json["reason"]) == (404, "NotFound")
    assert answer.json["message"] == 'namespaces "nowhere" not found'
    await rest.delete("{ns}")
    answer = await rest.post(MAPS, config_map("a"))
    assert (answer.status, answer.json["reason"]) == (403, "Forbidden")
    assert answer.json["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    assert "because it is being terminated" in answer.json["message"]
    for metadata, name in (({"generateName": "gn-"}, "gn-"), ({}, "Unknown")):
        answer = await rest.post(MAPS, {"metadata": metadata})
        assert answer.json["message"].startswith(f'configmaps "{name}" is forbidden: unable to create new content')
        assert answer.json["details"]["name"] == name


async def test_21_strict_validation_is_400_on_create_and_422_on_patch(rest: Rest) -> None:
    given = config_map("a") | {"datta": {}}
    answer = await rest.post(f"{MAPS}?fieldValidation=Strict", given)
    assert answer.status == 400
    assert 'strict decoding error: unknown field "datta"' in answer.json["message"]
    await rest.made(MAPS, config_map("a"))
    for kind, patch in ((MERGE, {"datta": {}}), (JSON_PATCH, [{"op": "add", "path": "/datta", "value": {}}])):
        answer = await rest.patch(f"{MAPS}/a?fieldValidation=Strict", patch, kind)
        assert answer.status == 422, kind
        assert 'unknown field "datta"' in answer.json["message"]


async def test_21_warnings_are_headers_and_come_once(rest: Rest) -> None:
    body = b'{"metadata":{"name":"a"},"datta":{},"datta":1,"data":{"k":"0"},"data":{"k":"1"},"data":{"k":"2"}}'
    answer = await rest.post(MAPS, body)
    assert answer.status == 201
    warnings = answer.headers.getall("Warning")  # type: ignore[attr-defined]
    assert sorted(warnings) == ['299 - "duplicate field \\"data\\""', '299 - "unknown field \\"datta\\""']


@pytest.mark.parametrize(
    ("kind", "patch", "told"),
    [
        (MERGE, b'{"data":{"k":"1","k":"2"}}', 'duplicate field "data.k"'),
        (STRATEGIC, b'{"data":{"k":"1","k":"2"}}', 'duplicate field "data.k"'),
        (JSON_PATCH, b'[{"op":"test","path":"/kind","value":"ConfigMap","x":1}]', 'json patch unknown field "[0].x"'),
        (
            APPLY,
            b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: '1', k: '2'}\n",
            'line 4: key "k" already set in map',
        ),
    ],
)
async def test_21_what_is_wrong_with_a_patch_itself_counts(rest: Rest, kind: str, patch: bytes, told: str) -> None:
    await rest.made(MAPS, config_map("a"))
    path = f"{MAPS}/a?fieldManager=me&fieldValidation="
    answer = await rest.patch(path + "Strict", patch, kind)
    assert answer.status == (400 if kind == APPLY else 422), answer.body
    assert told in answer.json["message"]
    answer = await rest.patch(path + "Warn", patch, kind)
    assert answer.status == 200, answer.body
    quoted = told.replace('"', '\\"')
    assert answer.headers["Warning"] == f'299 - "{quoted}"'
    assert "Warning" not in (await rest.patch(path + "Ignore", patch, kind)).headers


async def test_21_warnings_come_with_a_refusal_too(rest: Rest) -> None:
    answer = await rest.post(MAPS, config_map("Not A Name") | {"datta": {}})
    assert answer.status == 422
    assert answer.headers["Warning"] == '299 - "unknown field \\"datta\\""'


async def test_21_ignore_is_silent(rest: Rest) -> None:
    answer = await rest.post(f"{MAPS}?fieldValidation=Ignore", config_map("a") | {"datta": {}})
    assert answer.status == 201
    assert "Warning" not in answer.headers


async def test_22_a_dry_run_validates_and_stores_nothing(rest: Rest) -> None:
    assert (await rest.post(f"{MAPS}?dryRun=All", config_map("a"))).status == 201
    assert (await rest.get(f"{MAPS}/a")).status == 404
    assert (await rest.post(f"{MAPS}?dryRun=All", config_map("Not A Name"))).status == 422
    answer = await rest.post(f"{MAPS}?dryRun=Some", config_map("a"))
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert 'dryRun: Unsupported value: ["Some"]' in answer.json["message"]


async def test_22_a_dry_run_of_any_verb_changes_nothing(rest: Rest) -> None:
    made = await rest.made(MAPS, config_map("a", k="1"))
    changed = config_map("a", k="2")
    dry = f"{MAPS}/a?dryRun=All"
    for answer in (
        await rest.put(dry, changed),
        await rest.patch(dry, {"data": {"k": "2"}}, MERGE),
        await rest.patch(dry, {"data": {"k": "2"}}, STRATEGIC),
        await rest.patch(dry, [{"op": "replace", "path": "/data/k", "value": "2"}], JSON_PATCH),
        await rest.patch(f"{dry}&fieldManager=me&force=true", orjson.dumps(changed), APPLY),
    ):
        assert (answer.status, answer.json["data"]) == (200, {"k": "2"})
    assert (await rest.delete(dry)).status == 200
    assert (await rest.delete(f"{MAPS}/a", {"dryRun": ["All"]})).status == 200
    assert (await rest.delete(f"{MAPS}?dryRun=All")).status == 200
    assert (await rest.patch(dry.replace("All", "Some"), {}, MERGE)).status == 422
    assert (await rest.get(f"{MAPS}/a")).json == made


async def test_23_a_patch_of_too_many_operations_or_bytes_is_413(rest: Rest) -> None:
    await rest.made(MAPS, config_map("a"))
    many = [{"op": "add", "path": "/data", "value": {}}] * 10_001
    answer = await rest.patch(f"{MAPS}/a", many, JSON_PATCH)
    assert (answer.status, answer.json["reason"]) == (413, "RequestEntityTooLarge")
    answer = await rest.post(MAPS, config_map("big", k="x" * (3 << 20)))
    assert (answer.status, answer.json["reason"]) == (413, "RequestEntityTooLarge")


async def test_23_a_failed_operation_is_422_and_an_unknown_patch_415(rest: Rest) -> None:
    await rest.made(MAPS, config_map("a", k="1"))
    for operation in ({"op": "remove", "path": "/nothing"}, {"op": "test", "path": "/data/k", "value": "2"}):
        answer = await rest.patch(f"{MAPS}/a", [operation], JSON_PATCH)
        assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    answer = await rest.patch(f"{MAPS}/a", {}, "application/unknown+json")
    assert (answer.status, answer.json["reason"]) == (415, "UnsupportedMediaType")


async def test_24_strategic_merge_obeys_its_directives(rest: Rest) -> None:
    given = pod("a")
    container = given["spec"]["containers"][0]
    container["env"] = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    given["spec"]["nodeSelector"] = {"x": "1", "y": "2"}
    given["metadata"]["finalizers"] = ["x.example/a", "x.example/b"]
    given["metadata"]["labels"] = {"a": "1", "b": "2"}
    template = {"metadata": {"labels": {"app": "a"}}, "spec": given["spec"]}
    made = deployment("a")
    made["metadata"] |= {"finalizers": given["metadata"]["finalizers"], "labels": given["metadata"]["labels"]}
    made["spec"]["template"] = template
    await rest.made(DEPLOYMENTS, made)
    patch = {
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["x.example/a"], "labels": {"a": None}},
        "spec": {
            "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
            "template": {
                "spec": {
                    "nodeSelector": {"$patch": "replace", "z": "3"},
                    "$setElementOrder/containers": [{"name": "second"}, {"name": "main"}],
                    "containers": [
                        {"name": "second", "image": "none"},
                        {"name": "main", "env": [{"name": "A", "$patch": "delete"}]},
                    ],
                }
            },
        },
    }
    answer = await rest.patch(f"{DEPLOYMENTS}/a", patch, STRATEGIC)
    assert answer.status == 200, answer.body
    got = answer.json
    assert got["metadata"]["finalizers"] == ["x.example/b"]
    assert got["metadata"]["labels"] == {"b": "2"}
    assert got["spec"]["strategy"] == {"type": "Recreate"}
    spec = got["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"z": "3"}
    assert [one["name"] for one in spec["containers"]] == ["second", "main"]
    assert spec["containers"][1]["env"] == [{"name": "B", "value": "2"}]
    await rest.patch(f"{DEPLOYMENTS}/a", {"metadata": {"finalizers": None}})


async def test_24_delete_empties_and_merge_is_no_directive(rest: Rest) -> None:
    """Upstream's constant `merge` is refused where it is given: to merge is what happens without a directive."""
    await rest.made(MAPS, config_map("a", k="1", other="1"))
    merged = await rest.patch(f"{MAPS}/a", {"data": {"$patch": "merge", "k": "2"}}, STRATEGIC)
    told = "unknown patch type: merge in map: map[$patch:merge k:2]"
    assert (merged.status, merged.json["message"]) == (500, told)
    emptied = await rest.patch(f"{MAPS}/a", {"data": {"$patch": "delete"}}, STRATEGIC)
    assert "data" not in emptied.json


async def test_24_strategic_merge_leaves_the_kind_alone(rest: Rest) -> None:
    await rest.made(MAPS, config_map("a", k="1"))
    answer = await rest.patch(f"{MAPS}/a", {"kind": "Secret", "apiVersion": "v2", "data": {"k": "2"}}, STRATEGIC)
    assert (answer.status, answer.json["kind"], answer.json["data"]) == (200, "ConfigMap", {"k": "2"})


async def test_25_only_apply_creates_on_patch(rest: Rest) -> None:
    for kind, patch in ((MERGE, {"data": {}}), (STRATEGIC, {"data": {}}), (JSON_PATCH, [])):
        assert (await rest.patch(f"{MAPS}/a", patch, kind)).status == 404, kind
    answer = await rest.patch(f"{MAPS}/a?fieldManager=me", orjson.dumps(config_map("a", k="1")), APPLY)
    assert (answer.status, answer.json["data"]) == (201, {"k": "1"})


async def test_26_a_validation_failure_names_fields_and_causes(rest: Rest) -> None:
    answer = await rest.post(DEPLOYMENTS, deployment("a", replicas=-1))
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert answer.json["message"] == (
        'Deployment.apps "a" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0'
    )
    assert answer.json["details"] == {
        "name": "a",
        "group": "apps",
        "kind": "Deployment",
        "causes": [
            {
                "reason": "FieldValueInvalid",
                "message": "Invalid value: -1: must be greater than or equal to 0",
                "field": "spec.replicas",
            }
        ],
    }


async def test_26_an_immutable_field_is_422(rest: Rest) -> None:
    await rest.made(DEPLOYMENTS, deployment("a"))
    other = {"spec": {"selector": {"matchLabels": {"app": "b"}}, "template": {"metadata": {"labels": {"app": "b"}}}}}
    answer = await rest.patch(f"{DEPLOYMENTS}/a", other)
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")
    assert "field is immutable" in answer.json["message"]


async def test_22_a_dry_run_is_reviewed_by_webhooks_and_stored_nowhere(rest: Rest, cluster: Api) -> None:
    async with hooking(rest.api, cluster, "Validating", sideEffects="NoneOnDryRun") as hook:
        assert (await rest.post(f"{MAPS}?dryRun=All", config_map("a"))).status == 201
    assert [request["dryRun"] for request in hook.requests] == [True]
    assert (await rest.get(f"{MAPS}/a")).status == 404


async def test_22_a_webhook_with_side_effects_is_not_asked_in_a_dry_run(rest: Rest, server: APIServer) -> None:
    """Nobody can store one any more, but one that was stored before v1 may be there still. As upstream has it, nothing
    is known of the request then, so it is refused."""
    store = server.registry.store("validatingwebhookconfigurations.admissionregistration.k8s.io")
    assert store is not None
    async with hooked() as hook:
        webhook = hook.configured("old.example.com", [CONFIG_MAPS], sideEffects="Some")
        webhook["namespaceSelector"] = within(rest.api)
        template = await store.template(orjson.dumps(configuration("Validating", "old", webhook)))
        stored = await server.storage.create(store.key("", "old"), template)
        answer = await rest.post(f"{MAPS}?dryRun=All", config_map("a"))
        assert (await rest.post(MAPS, config_map("a"))).status == 201
        await server.storage.delete(store.key("", "old"), template, expected=stored.revision)
    assert (answer.status, answer.json["reason"]) == (400, "BadRequest")
    assert answer.json["message"] == 'admission webhook "old.example.com" does not support dry run'
    assert [request["dryRun"] for request in hook.requests] == [False]
