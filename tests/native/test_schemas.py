"""The schema engine over the whole of v1.35, as Python sees it."""

from typing import Any

import orjson
import pytest

from kubecore.api import schemas
from kubecore.api.schemas import PatchError, SchemaError, Schemas

YAML = "application/yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
T0, T1 = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


@pytest.fixture(scope="module")
def engine() -> Schemas:
    return schemas.default()


def decode(engine: Schemas, kind: str, body: bytes | dict[str, Any], validation: str = "Strict") -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    parsed: dict[str, Any] = orjson.loads(engine.decode(kind, raw, "application/json", validation).body)
    return parsed


def refusal(engine: Schemas, kind: str, body: bytes | dict[str, Any]) -> str:
    with pytest.raises(SchemaError) as caught:
        decode(engine, kind, body)
    assert (caught.value.code, caught.value.reason) == (400, "BadRequest")
    assert str(caught.value) == caught.value.message
    return caught.value.message


# --- decoding


def test_canonical_input_is_handed_back_as_it_is(engine: Schemas) -> None:
    body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v"}}'
    assert engine.decode("v1/ConfigMap", body).body is body


def test_missing_api_version_and_kind_are_added(engine: Schemas) -> None:
    assert decode(engine, "v1/ConfigMap", {}) == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}


def test_what_go_always_writes_is_always_there(engine: Schemas) -> None:
    template = {"metadata": {}, "spec": {"containers": None}}
    assert decode(engine, "apps/v1/Deployment", {}) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {},
        "spec": {"selector": None, "strategy": {}, "template": template},
        "status": {},
    }


def test_zero_values_are_dropped_unless_go_points_to_them(engine: Schemas) -> None:
    spec = {"replicas": 0, "minReadySeconds": 0, "paused": False, "template": {"spec": {"hostNetwork": False}}}
    decoded = decode(engine, "apps/v1/Deployment", {"spec": spec})["spec"]
    assert (decoded["replicas"], decoded.keys() & {"minReadySeconds", "paused"}) == (0, set())
    assert decoded["template"]["spec"] == {"containers": None}


def test_nulls_and_empty_collections_are_dropped(engine: Schemas) -> None:
    body = {"metadata": {"labels": {}, "name": None}, "spec": {"volumes": [], "containers": []}}
    assert decode(engine, "v1/Pod", body)["spec"] == {"containers": []}
    assert decode(engine, "v1/Pod", body)["metadata"] == {}


def test_a_null_in_a_list_is_the_zero_value_of_its_type(engine: Schemas) -> None:
    body = {"spec": {"containers": [None], "volumes": [None, {}], "nodeName": "n"}}
    decoded = decode(engine, "v1/Pod", body)["spec"]
    assert decoded["containers"] == [{"name": "", "resources": {}}]
    assert decoded["volumes"] == [{"name": ""}, {"name": ""}]


def test_quantities_and_times_take_their_canonical_form(engine: Schemas) -> None:
    limits = {"cpu": 0.5, "memory": "1024Mi"}
    body = {
        "metadata": {"creationTimestamp": "2026-01-01T02:00:00.5+02:00"},
        "spec": {"containers": [{"name": "a", "resources": {"limits": limits}}]},
    }
    decoded = decode(engine, "v1/Pod", body)
    assert decoded["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "500m", "memory": "1Gi"}
    assert decoded["metadata"]["creationTimestamp"] == T0


def test_unknown_and_duplicate_fields_follow_field_validation(engine: Schemas) -> None:
    body = b'{"metadata":{"name":"a","name":"b"},"spec":{"foo":1,"containers":[{"name":"c","bar":{}}]}}'
    faults = ['duplicate field "metadata.name"', 'unknown field "spec.foo"', 'unknown field "spec.containers[0].bar"']
    warned = engine.decode("v1/Pod", body, "application/json", "Warn")
    assert warned.warnings == faults
    assert orjson.loads(warned.body)["metadata"] == {"name": "b"}
    assert engine.decode("v1/Pod", body, "application/json", "Ignore").warnings == []
    message = refusal(engine, "v1/Pod", body)
    assert message == 'Pod in version "v1" cannot be handled as a Pod: strict decoding error: ' + ", ".join(faults)


def test_wrong_types_are_told_in_gos_words(engine: Schemas) -> None:
    prefix = 'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal '
    for body, problem in [
        ({"spec": {"replicas": "3"}}, "string into Go struct field DeploymentSpec.spec.replicas of type int32"),
        ({"spec": {"replicas": 1.5}}, "number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"),
        (
            {"spec": {"replicas": 2**31}},
            "number 2147483648 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        ({"spec": []}, "array into Go struct field Deployment.spec of type v1.DeploymentSpec"),
        ({"metadata": {"labels": {"a": 1}}}, "number into Go struct field ObjectMeta.metadata.labels of type string"),
        (
            {"metadata": {"creationTimestamp": 5}},
            "number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (
            {"spec": {"strategy": {"rollingUpdate": {"maxSurge": 1.5}}}},
            "number 1.5 into Go struct field RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge of type "
            "int32",
        ),
        (
            {"spec": {"strategy": {"rollingUpdate": {"maxSurge": []}}}},
            "array into Go struct field RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge of type int32",
        ),
        ({"metadata": {"uid": 5}}, "number into Go struct field ObjectMeta.metadata.uid of type types.UID"),
        (
            {"spec": {"template": {"spec": {"restartPolicy": 5}}}},
            "number into Go struct field PodSpec.spec.template.spec.restartPolicy of type v1.RestartPolicy",
        ),
    ]:
        assert refusal(engine, "apps/v1/Deployment", body) == prefix + problem


def test_other_kinds_are_refused(engine: Schemas) -> None:
    assert "cannot be handled as a Pod" in refusal(engine, "v1/Pod", {"apiVersion": "v1", "kind": "Service", "spec": 1})
    assert 'no kind "Foo" is registered' in refusal(engine, "v1/Pod", {"apiVersion": "v1", "kind": "Foo"})
    message = refusal(
        engine,
        "autoscaling/v2/HorizontalPodAutoscaler",
        {"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler"},
    )
    assert message == (
        "the API version in the data (autoscaling/v1) does not match the expected API version (autoscaling/v2)"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a":}',
        b'{"a" 1}',
        b"[1,]",
        b"nul",
        b'{"a":"\x01"}',
        b'{"a":1}x',
        b"\xff\xfe",
        b'{"a":01}',
        b'{"a":"\\x"}',
    ],
)
def test_bad_syntax_is_a_bad_request(engine: Schemas, body: bytes) -> None:
    assert "couldn't get version/kind; json parse error" in refusal(engine, "v1/Pod", body)


def test_deep_nesting_is_an_error(engine: Schemas) -> None:
    for opening in (b'{"a":', b"[", b'{"metadata":'):
        assert "exceeded max depth" in refusal(engine, "v1/Pod", b'{"spec":' + opening * 10_000)
    with pytest.raises(SchemaError, match="exceeded max depth"):
        engine.decode("v1/Pod", b"[" * 10_000, YAML)


def test_field_names_are_case_sensitive(engine: Schemas) -> None:
    assert 'unknown field "Spec"' in refusal(engine, "v1/Pod", {"Spec": {}})


def test_yaml_is_decoded_like_json(engine: Schemas) -> None:
    body = b"metadata:\n  name: web\nspec:\n  replicas: 2\n  foo: 1\n"
    decoded = engine.decode("apps/v1/Deployment", body, YAML, "Warn")
    assert orjson.loads(decoded.body)["spec"]["replicas"] == 2
    assert decoded.warnings == ['unknown field "spec.foo"']


def test_keys_that_yaml_repeats_are_told_in_go_yamls_words_and_the_last_counts(engine: Schemas) -> None:
    body = b"kind: ConfigMap\ndata:\n  b:\n    c: 1\n  b:\n    x\nzoo: 1\nbar: 2\n"
    told = 'line 6: key "b" already set in map'
    decoded = engine.decode("v1/ConfigMap", body, YAML, "Warn")
    assert orjson.loads(decoded.body)["data"] == {"b": "x"}
    assert decoded.warnings == [told, 'unknown field "bar"', 'unknown field "zoo"']
    assert engine.decode("v1/ConfigMap", body, YAML, "Ignore").body == decoded.body
    with pytest.raises(SchemaError) as caught:
        engine.decode("v1/ConfigMap", body, YAML, "Strict")
    strict = f'strict decoding error: yaml: unmarshal errors:\n  {told}, unknown field "bar", unknown field "zoo"'
    assert caught.value.message == f'ConfigMap in version "v1" cannot be handled as a ConfigMap: {strict}'


@pytest.mark.parametrize("api_version", ["v1", "apps/v1", "meta.k8s.io/v1", "nothing.example/v1"])
def test_kinds_of_all_versions_cannot_be_converted(engine: Schemas, api_version: str) -> None:
    for kind in ("Status", "APIVersions", "APIGroup", "APIGroupList", "APIResourceList"):
        refused = refusal(engine, "v1/ConfigMap", {"apiVersion": api_version, "kind": kind})
        assert f'{kind} in version "v1" cannot be handled as a ConfigMap: converting (v1.{kind}) to ' in refused


@pytest.mark.parametrize(
    ("api_version", "kind", "is_registered"),
    [
        ("v1", "List", True),
        ("v1", "PodExecOptions", True),
        ("v1", "RangeAllocation", True),
        ("v1", "CreateOptions", True),
        ("apps/v1", "ListOptions", True),
        ("apps/v1", "List", False),
        ("apiextensions.k8s.io/v1", "ListOptions", False),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", False),
        ("apiregistration.k8s.io/v1", "DeleteOptions", False),
        ("nothing.example/v1", "ListOptions", False),
        ("v1", "Table", False),
        ("meta.k8s.io/v1", "PartialObjectMetadata", False),
    ],
)
def test_kinds_that_no_object_is_of_are_known(
    engine: Schemas, api_version: str, kind: str, is_registered: bool
) -> None:
    refused = refusal(engine, "apps/v1/Deployment", {"apiVersion": api_version, "kind": kind})
    unconvertible = f"converting (v1.{kind}) to (apps.Deployment): unknown conversion"
    unknown = f'no kind "{kind}" is registered for version "{api_version}" in scheme '
    assert (unconvertible if is_registered else unknown) in refused


@pytest.mark.parametrize(
    ("wanted", "api_version", "kind"),
    [
        ("apiextensions.k8s.io/v1/CustomResourceDefinition", "v1", "ConfigMap"),
        ("apiregistration.k8s.io/v1/APIService", "v1", "ConfigMap"),
        ("apiregistration.k8s.io/v1/APIService", "apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("v1/ConfigMap", "apiregistration.k8s.io/v1", "APIService"),
    ],
)
def test_kinds_of_another_server_within_upstreams_are_unknown(
    engine: Schemas, wanted: str, api_version: str, kind: str
) -> None:
    refused = refusal(engine, wanted, {"apiVersion": api_version, "kind": kind})
    assert f'no kind "{kind}" is registered for version "{api_version}" in scheme ' in refused


def test_parameters_of_a_content_type_must_be_some(engine: Schemas) -> None:
    body = b'{"metadata":{"name":"a"}}'
    for good in ("application/json; charset=utf-8", "application/json;", "Application/JSON;a=b"):
        assert engine.decode("v1/ConfigMap", body, good).body
    for bad in ("application/json;x", "application/json;a=b;a=c", "application/yaml;=", "json/"):
        with pytest.raises(SchemaError) as caught:
            engine.decode("v1/ConfigMap", body, bad)
        assert caught.value.code == 415


def test_unknown_media_types_are_415(engine: Schemas) -> None:
    with pytest.raises(SchemaError) as caught:
        engine.decode("v1/Pod", b"{}", "text/plain")
    assert caught.value.code == 415


def test_a_kind_without_schema_is_a_key_error(engine: Schemas) -> None:
    with pytest.raises(KeyError):
        engine.decode("example.com/v1/Widget", b"{}")


def test_custom_resource_schemas_are_typed_within(engine: Schemas) -> None:
    props = {"properties": {"a": {"type": "string", "nonsense": 1}}, "additionalProperties": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": props}}
    message = refusal(engine, "apiextensions.k8s.io/v1/CustomResourceDefinition", {"spec": {"versions": [version]}})
    assert 'unknown field "spec.versions[0].schema.openAPIV3Schema.properties.a.nonsense"' in message


# --- patches


def patched(engine: Schemas, current: dict[str, Any], patch: Any, patch_type: str) -> dict[str, Any]:
    result = engine.patch("apps/v1/Deployment", orjson.dumps(current), orjson.dumps(patch), patch_type)
    parsed: dict[str, Any] = orjson.loads(result)
    return parsed


def deployment(**pod: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": pod}}}


def test_strategic_merge_merges_lists_by_key(engine: Schemas) -> None:
    current = deployment(containers=[{"name": "a", "image": "1"}, {"name": "b", "image": "2"}])
    patch = deployment(containers=[{"name": "b", "image": "9"}, {"name": "c", "image": "3"}])
    images = {
        c["name"]: c["image"]
        for c in patched(engine, current, patch, STRATEGIC)["spec"]["template"]["spec"]["containers"]
    }
    assert images == {"a": "1", "b": "9", "c": "3"}


def test_strategic_merge_follows_its_directives(engine: Schemas) -> None:
    current = deployment(containers=[{"name": "a"}, {"name": "b"}, {"name": "c"}])
    deleted = patched(engine, current, deployment(containers=[{"name": "b", "$patch": "delete"}]), STRATEGIC)
    assert deleted == deployment(containers=[{"name": "a"}, {"name": "c"}])
    replaced = patched(engine, current, deployment(containers=[{"$patch": "replace"}, {"name": "z"}]), STRATEGIC)
    assert replaced == deployment(containers=[{"name": "z"}])
    twice = [{"name": "z", "image": "1"}, {"name": "z", "image": "2"}]
    replaced = patched(engine, current, deployment(containers=[*twice, {"$patch": "replace"}]), STRATEGIC)
    assert replaced == deployment(containers=twice)
    order = deployment(**{"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]})
    names = [c["name"] for c in patched(engine, current, order, STRATEGIC)["spec"]["template"]["spec"]["containers"]]
    assert names.index("c") < names.index("a")
    recreate = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    rolling = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    assert patched(engine, rolling, recreate, STRATEGIC) == {"spec": {"strategy": {"type": "Recreate"}}}
    finalizers = {"metadata": {"finalizers": ["a", "b"]}}
    gone = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert patched(engine, finalizers, gone, STRATEGIC) == {"metadata": {"finalizers": ["b"]}}


def test_patches_that_cannot_be_applied_are_told_by_their_status(engine: Schemas) -> None:
    for patch, patch_type, code in [
        ([{"op": "test", "path": "/spec", "value": 1}], JSON_PATCH, 422),
        ([{"op": "test", "path": "/a", "value": 1}] * 10_001, JSON_PATCH, 413),
        ({"a": 1}, JSON_PATCH, 400),
        ([], MERGE, 400),
        ({}, "application/json", 415),
        ({"spec": {"$patch": "frob"}}, STRATEGIC, 500),
    ]:
        with pytest.raises(PatchError) as caught:
            patched(engine, {"spec": {}}, patch, patch_type)
        assert caught.value.code == code


def test_an_outcome_of_wrong_type_is_invalid(engine: Schemas) -> None:
    with pytest.raises(PatchError) as caught:
        engine.patch_decode("apps/v1/Deployment", b"{}", b'{"spec":{"replicas":"x"}}', MERGE)
    assert (caught.value.code, caught.value.reason) == (422, "Invalid")
    outcome = engine.patch_decode("apps/v1/Deployment", b"{}", b'{"spec":{"foo":1}}', MERGE, "Warn")
    assert outcome.warnings == ['unknown field "spec.foo"']


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        (
            deployment(**{"$setElementOrder/containers": "a"}),
            "expected a []interface {}, but received a string",
        ),
        (
            deployment(**{"$setElementOrder/containers": [{"name": "z"}], "containers": [{"name": "a"}]}),
            "The order in patch list:\n[map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:z]]\n",
        ),
        (deployment(containers=["x"]), "list element types are not identical: [[map[name:a]] [x]]"),
        (deployment(containers=[{"image": "x"}]), "map: map[image:x] does not contain declared merge key: name"),
    ],
)
def test_a_strategic_merge_that_cannot_be_is_told_as_upstream(
    engine: Schemas, patch: dict[str, Any], told: str
) -> None:
    with pytest.raises(PatchError) as caught:
        patched(engine, deployment(containers=[{"name": "a"}]), patch, STRATEGIC)
    assert (caught.value.code, caught.value.message) == (500, told)


def test_what_a_strategic_merge_adds_is_taken_as_it_is(engine: Schemas) -> None:
    nothing = {"metadata": {"name": "a"}}
    added = {"metadata": {"ownerReferences": [{"name": "p"}], "labels": {"a": "1", "b": None}}}
    assert patched(engine, nothing, added, STRATEGIC) == {
        "metadata": {"name": "a", "ownerReferences": [{"name": "p"}], "labels": {"a": "1"}}
    }
    for directed in ({"labels": {"$patch": "replace", "a": "1"}}, {"labels": {"$patch": "delete"}}):
        assert patched(engine, nothing, {"metadata": directed}, STRATEGIC) == nothing
    references = [{"uid": "u", "$patch": "delete"}, {"uid": "v", "name": "q"}]
    made = patched(engine, nothing, {"metadata": {"ownerReferences": references}}, STRATEGIC)
    assert made["metadata"]["ownerReferences"] == [{"uid": "v", "name": "q"}]


def test_directives_in_a_new_element_of_a_list_are_unknown_fields(engine: Schemas) -> None:
    current = orjson.dumps(deployment(containers=[{"name": "a"}]))
    new = {"name": "b", "$retainKeys": ["name"], "image": "i"}
    made = engine.patch_decode("apps/v1/Deployment", current, orjson.dumps(deployment(containers=[new])), STRATEGIC)
    assert made.warnings == ['unknown field "spec.template.spec.containers[0].$retainKeys"']
    assert orjson.loads(made.body)["spec"]["template"]["spec"]["containers"][0]["image"] == "i"


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        ({"labels": {"$patch": "merge"}}, "unknown patch type: merge in map: map[$patch:merge]"),
        (
            {"ownerReferences": [{"uid": "u", "$patch": "merge"}]},
            "merging lists cannot yet be specified in the patch",
        ),
        (
            {"ownerReferences": [{"$patch": "delete"}]},
            "map: map[$patch:delete] does not contain declared merge key: uid",
        ),
        (
            {"finalizers": [], "$setElementOrder/finalizers": ["a"]},
            "no elements in any of the given slices",
        ),
    ],
)
def test_a_directive_that_says_nothing_is_told_as_upstream(engine: Schemas, patch: dict[str, Any], told: str) -> None:
    current = {"metadata": {"labels": {"a": "1"}, "ownerReferences": [{"uid": "u"}]}}
    with pytest.raises(PatchError) as caught:
        patched(engine, current, {"metadata": patch}, STRATEGIC)
    assert (caught.value.code, caught.value.message) == (500, told)


def test_a_strategic_merge_of_null_changes_nothing(engine: Schemas) -> None:
    current = deployment(containers=[{"name": "a"}])
    assert orjson.loads(engine.patch("apps/v1/Deployment", orjson.dumps(current), b"null", STRATEGIC)) == current


def test_a_strategic_merge_passes_over_what_it_has_no_list_for(engine: Schemas) -> None:
    current = {"metadata": {"finalizers": ["a"]}}
    for directive in ({"$deleteFromPrimitiveList/finalizers": "a"}, {"$deleteFromPrimitiveList/nothing": ["a"]}):
        assert patched(engine, current, {"metadata": directive}, STRATEGIC) == current


def test_a_strategic_merge_keeps_the_lowest_bits_of_a_number_that_is_too_great(engine: Schemas) -> None:
    made = patched(engine, {"spec": {}}, {"spec": {"replicas": 2**32 + 7}}, STRATEGIC)
    assert made == {"spec": {"replicas": 7}}


@pytest.mark.parametrize(
    ("patch", "patch_type", "code", "told"),
    [
        (b"[1]", JSON_PATCH, 400, "json: cannot unmarshal number into Go value of type jsonpatch.Operation"),
        (b'"a"', JSON_PATCH, 400, "json: cannot unmarshal string into Go value of type jsonpatch.Patch"),
        (b"x", JSON_PATCH, 400, "invalid character 'x' looking for beginning of value"),
        (b'[{"op":1}]', JSON_PATCH, 422, "the server rejected our request due to an error in our request"),
        (b"1", MERGE, 400, "Invalid JSON Patch"),
        (b"x", MERGE, 400, "Invalid JSON Patch"),
    ],
)
def test_a_patch_whose_fields_nobody_validates_is_read_once(
    engine: Schemas, patch: bytes, patch_type: str, code: int, told: str
) -> None:
    with pytest.raises(PatchError) as caught:
        engine.patch_decode("apps/v1/Deployment", b"{}", patch, patch_type, "Ignore")
    assert (caught.value.code, caught.value.message) == (code, told)


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ("2.0", "2"),
        ("1e20", "100000000000000000000"),
        ("1e21", "1e+21"),
        ("0.000001", "0.000001"),
        ("1e-7", "1e-7"),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "9223372036854776000"),
        ("18446744073709551616", "18446744073709552000"),
    ],
)
def test_numbers_are_written_as_go_writes_what_it_has_read(sent: str, written: str) -> None:
    assert schemas.with_gos_numbers(f'{{"a":[{sent}]}}'.encode()) == f'{{"a":[{written}]}}'.encode()
