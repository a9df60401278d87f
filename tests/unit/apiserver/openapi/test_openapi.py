"""OpenAPI documents, as kubectl asks for them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from kubecore.api import scheme
from kubecore.apiserver.openapi import custom, gnostic, operations, v2
from kubecore.apiserver.openapi.definitions import Definitions, builtin, definition_to_v3
from kubecore.apiserver.openapi.serving import V2_PROTOBUF, V3_PROTOBUF, OpenAPI
from kubecore.apiserver.registry.resources import Strategies


def now() -> datetime:
    return datetime(2028, 2, 29, tzinfo=UTC)


@pytest.fixture(scope="module")
def openapi() -> OpenAPI:
    return OpenAPI(scheme.default(), server_version="1.35", now=now)


def document(openapi: OpenAPI, path: str) -> dict[str, Any]:
    answer = openapi.respond(path)
    assert answer is not None
    assert answer.status == 200
    parsed: dict[str, Any] = orjson.loads(answer.body)
    return parsed


@pytest.mark.parametrize(
    ("group_version", "definition", "field", "default"),
    [
        (
            "certificates.k8s.io/v1beta1",
            "certificates.v1beta1.PodCertificateRequestSpec",
            "maxExpirationSeconds",
            86400,
        ),
        *(
            (f"resource.k8s.io/{version}", f"resource.{version}.DeviceToleration", "operator", "Equal")
            for version in ("v1", "v1beta1", "v1beta2")
        ),
    ],
)
def test_every_version_tells_the_defaults_that_are_marked(
    group_version: str, definition: str, field: str, default: object
) -> None:
    served = OpenAPI(scheme.every(), server_version="1.35", now=now)
    known = document(served, f"/openapi/v3/apis/{group_version}")["components"]["schemas"]
    assert known[f"io.k8s.api.{definition}"]["properties"][field]["default"] == default


def test_the_index_links_every_group_version_by_hash(openapi: OpenAPI) -> None:
    paths = document(openapi, "/openapi/v3")["paths"]
    assert {"api/v1", "apis/apps/v1", "apis/autoscaling/v2"} <= set(paths)
    url = paths["apis/apps/v1"]["serverRelativeURL"]
    path, _, query = url.partition("?")
    answer = openapi.respond(path, query)
    assert answer is not None
    assert answer.status == 200
    assert ("Cache-Control", "public, immutable") in answer.headers


def test_an_outdated_hash_is_redirected_to_the_present_one(openapi: OpenAPI) -> None:
    answer = openapi.respond("/openapi/v3/apis/apps/v1", "hash=OLD")
    assert answer is not None
    assert answer.status == 301
    location = dict(answer.headers)["Location"]
    assert dict(answer.headers)["ETag"] == f'"{location.partition("?hash=")[2]}"'
    assert dict(answer.headers)["Vary"] == "Accept"
    assert location in document(openapi, "/openapi/v3")["paths"]["apis/apps/v1"]["serverRelativeURL"]


def test_operations_are_described(openapi: OpenAPI) -> None:
    paths = document(openapi, "/openapi/v3/api/v1")["paths"]
    maps = "/api/v1/namespaces/{namespace}/configmaps"
    assert paths[maps]["get"]["description"] == "list or watch objects of kind ConfigMap"
    assert paths[maps]["delete"]["description"] == "delete collection of ConfigMap"
    assert paths[f"{maps}/{{name}}"]["patch"]["description"] == "partially update the specified ConfigMap"
    pod = "/api/v1/namespaces/{namespace}/pods/{name}"
    assert paths[f"{pod}/log"]["get"]["description"] == "read log of the specified Pod"
    assert paths[f"{pod}/eviction"]["post"]["description"] == "create eviction of a Pod"
    endpoints = "/api/v1/namespaces/{namespace}/endpoints"
    assert paths[endpoints]["post"]["description"] == "create Endpoints"
    advice = "deprecated: use the 'watch' parameter with a list operation instead."
    watch = paths["/api/v1/watch/configmaps"]["get"]["description"]
    assert watch == f"watch individual changes to a list of ConfigMap. {advice}"
    assert set(paths[f"{pod}/proxy"]) >= {"get", "head", "options", "post", "put", "patch", "delete"}
    assert paths[f"{pod}/proxy"]["options"]["operationId"] == "connectCoreV1OptionsNamespacedPodProxy"


def test_a_delete_answers_the_object_or_a_status(openapi: OpenAPI) -> None:
    paths = document(openapi, "/openapi/v3/api/v1")["paths"]

    def answered(plural: str) -> str:
        delete = paths[f"/api/v1/namespaces/{{namespace}}/{plural}/{{name}}"]["delete"]
        return str(delete["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]).rpartition(".")[2]

    assert [answered(one) for one in ("pods", "services", "configmaps")] == ["Pod", "Service", "Status"]


def test_deletes_are_told_to_answer_the_object_where_they_do() -> None:
    strategies = Strategies()
    told = {one.key for one in scheme.every().resources if strategies.strategy_for(one.key).returns_deleted}
    assert told == operations.ANSWERED_WHEN_DELETED


def test_fields_of_a_few_values_name_them(openapi: OpenAPI) -> None:
    schemas = document(openapi, "/openapi/v3/apis/apps/v1")["components"]["schemas"]
    policy = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["restartPolicy"]
    assert policy["enum"] == ["Always", "Never", "OnFailure"]
    listed = '\n\nPossible enum values:\n - `"Always"`\n - `"Never"`\n - `"OnFailure"`'
    assert policy["description"].endswith(listed)
    modes = schemas["io.k8s.api.core.v1.PersistentVolumeClaimSpec"]["properties"]["accessModes"]
    assert modes["items"]["enum"][0] == "ReadOnlyMany"


def test_what_each_value_means_is_told_where_upstream_says_it(openapi: OpenAPI) -> None:
    schemas = document(openapi, "/openapi/v3/api/v1")["components"]["schemas"]
    policy = schemas["io.k8s.api.core.v1.Container"]["properties"]["imagePullPolicy"]["description"]
    assert '\n - `"Never"` means that kubelet never pulls an image, but only uses a local image.' in policy


def test_groups_of_several_words_are_one_word_in_tags(openapi: OpenAPI) -> None:
    paths = document(openapi, "/openapi/v3/apis/rbac.authorization.k8s.io/v1")["paths"]
    roles = paths["/apis/rbac.authorization.k8s.io/v1/clusterroles"]
    assert roles["get"]["tags"] == ["rbacAuthorization_v1"]


def test_a_group_version_has_only_the_schemas_it_needs_and_all_of_them(openapi: OpenAPI) -> None:
    schemas = document(openapi, "/openapi/v3/apis/apps/v1")["components"]["schemas"]
    assert "io.k8s.api.apps.v1.Deployment" in schemas
    assert "io.k8s.api.core.v1.PodSpec" in schemas
    assert "io.k8s.api.core.v1.Node" not in schemas
    assert set(references(schemas)) <= set(schemas)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].rpartition("/")[2]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_operations_tell_their_kind_action_and_parameters(openapi: OpenAPI) -> None:
    paths = document(openapi, "/openapi/v3/apis/apps/v1")["paths"]
    patch = paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert patch["x-kubernetes-action"] == "patch"
    assert patch["operationId"] == "patchAppsV1NamespacedDeployment"
    assert {"dryRun", "fieldManager", "fieldValidation", "force"} <= {one["name"] for one in patch["parameters"]}
    assert "/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale" in paths
    listing = paths["/apis/apps/v1/deployments"]["get"]
    assert listing["operationId"] == "listAppsV1DeploymentForAllNamespaces"
    result = listing["responses"]["200"]["content"]["application/json"]["schema"]
    assert result == {"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentList"}


def test_parameters_that_all_operations_of_a_path_have_are_the_paths(openapi: OpenAPI) -> None:
    for path in ("/openapi/v2", "/openapi/v3/apis/apps/v1"):
        paths = document(openapi, path)["paths"]
        of_many = paths["/apis/apps/v1/namespaces/{namespace}/deployments"]
        assert [one["name"] for one in of_many["parameters"]] == ["namespace", "pretty"]
        assert "watch" in [one["name"] for one in of_many["get"]["parameters"]]
        of_one = paths["/apis/apps/v1/deployments"]
        assert {"labelSelector", "pretty", "watch"} <= {one["name"] for one in of_one["parameters"]}
        assert "parameters" not in of_one["get"]


def test_parameters_are_described_as_the_options_of_the_verb_have_them(openapi: OpenAPI) -> None:
    paths = document(openapi, "/openapi/v3/api/v1")["paths"]
    pod = "/api/v1/namespaces/{namespace}/pods/{name}"

    def told(path: str, method: str, name: str) -> str:
        [found] = [one for one in paths[path][method]["parameters"] if one["name"] == name]
        return str(found["description"])

    assert told(pod, "patch", "fieldManager") != told(pod, "put", "fieldManager")
    assert "required for apply requests" in told(pod, "patch", "fieldManager")
    assert told("/api/v1/namespaces/{namespace}/pods", "get", "limit").startswith("limit is a maximum number of")
    [shared] = [one for one in paths[f"{pod}/exec"]["parameters"] if one["name"] == "container"]
    assert shared["description"].startswith("Container in which to execute the command.")
    [shared] = [one for one in paths[f"{pod}/log"]["parameters"] if one["name"] == "container"]
    assert shared["description"].startswith("The container for which to stream logs.")


def test_the_parameters_of_a_path_come_in_order_of_their_names(openapi: OpenAPI) -> None:
    path = "/api/v1/namespaces/{namespace}/pods/{name}/portforward"
    parameters = document(openapi, "/openapi/v3/api/v1")["paths"][path]["parameters"]
    assert [one["name"] for one in parameters] == ["name", "namespace", "ports"]
    assert [one["in"] for one in parameters] == ["path", "path", "query"]


def test_watches_have_paths_of_their_own(openapi: OpenAPI) -> None:
    paths = document(openapi, "/openapi/v3/apis/apps/v1")["paths"]
    prefix = "/apis/apps/v1/watch"
    one = paths[f"{prefix}/namespaces/{{namespace}}/deployments/{{name}}"]["get"]
    assert (one["operationId"], one["x-kubernetes-action"]) == ("watchAppsV1NamespacedDeployment", "watch")
    many = paths[f"{prefix}/deployments"]["get"]
    assert many["operationId"] == "watchAppsV1DeploymentListForAllNamespaces"
    assert many["x-kubernetes-action"] == "watchlist"
    event = many["responses"]["200"]["content"]["application/json;stream=watch"]["schema"]["$ref"]
    assert event.endswith(".meta.v1.WatchEvent")


def test_lists_of_groups_versions_and_resources_are_described(openapi: OpenAPI) -> None:
    assert {"/api/", "/apis/", "/apis/apps/", "/apis/apps/v1/", "/version/"} <= set(
        document(openapi, "/openapi/v2")["paths"]
    )
    index = document(openapi, "/openapi/v3")["paths"]
    assert {"api", "apis", "apis/apps", "openid/v1/jwks", "version"} <= set(index)
    for path, place in index.items():
        assert place["serverRelativeURL"].startswith(f"/openapi/v3/{path}?hash=")
    group = document(openapi, "/openapi/v3/apis/apps")
    assert list(group["paths"]) == ["/apis/apps/"]
    assert "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup" in group["components"]["schemas"]


def test_v3_tells_defaults_and_v2_does_not(openapi: OpenAPI) -> None:
    known = document(openapi, "/openapi/v3/apis/apps/v1")["components"]["schemas"]
    deployment = known["io.k8s.api.apps.v1.Deployment"]["properties"]
    assert deployment["spec"]["default"] == {}
    assert deployment["spec"]["allOf"] == [{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"}]
    container = known["io.k8s.api.core.v1.Container"]["properties"]
    assert container["name"]["default"] == ""
    assert container["args"]["items"] == {"type": "string", "default": ""}
    assert container["env"]["items"]["default"] == {}
    assert "default" not in container["image"]
    assert known["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"]["default"] == "TCP"
    limits = known["io.k8s.api.core.v1.ResourceRequirements"]["properties"]["limits"]
    assert "default" not in limits["additionalProperties"]
    swagger = document(openapi, "/openapi/v2")["definitions"]["io.k8s.api.apps.v1.Deployment"]
    assert "x-defaults" not in swagger
    assert "default" not in swagger["properties"]["spec"]


def test_every_operation_id_is_used_once(openapi: OpenAPI) -> None:
    methods = ("get", "put", "post", "patch", "delete")
    swagger = document(openapi, "/openapi/v2")
    ids = [item[one]["operationId"] for item in swagger["paths"].values() for one in methods if one in item]
    assert len(ids) == len(set(ids))
    assert set(references(swagger)) <= set(swagger["definitions"])


def test_v3_has_alternatives_where_json_has_two_types() -> None:
    known = builtin()
    name = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
    assert definition_to_v3(name, known[name])["oneOf"] == [{"type": "integer"}, {"type": "string"}]
    name = "io.k8s.apimachinery.pkg.api.resource.Quantity"
    assert definition_to_v3(name, known[name])["oneOf"] == [{"type": "string"}, {"type": "number"}]


def test_types_that_are_one_value_are_described() -> None:
    for name in ("util.intstr.IntOrString", "api.resource.Quantity"):
        described = builtin()[f"io.k8s.apimachinery.pkg.{name}"]["description"]
        assert described.startswith(f"{name.rpartition('.')[2]} is a ")


def test_definitions_are_as_kubernetes_publishes_them() -> None:
    """What kubernetes-validate changed is undone."""
    text = orjson.dumps(builtin())
    assert b'"null"' not in text
    assert b"$defs" not in text
    known = Definitions(builtin())
    pod = known.all[known.name_of("", "v1", "Pod") or ""]
    assert "enum" not in pod["properties"]["kind"]
    assert pod["properties"]["spec"]["$ref"] == "#/definitions/io.k8s.api.core.v1.PodSpec"


def test_v2_comes_as_protobuf_under_both_names(openapi: OpenAPI) -> None:
    for accept in (V2_PROTOBUF, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"):
        answer = openapi.respond("/openapi/v2", accept=accept)
        assert answer is not None
        assert answer.content_type == V2_PROTOBUF
        assert answer.body.startswith(b"\x0a\x032.0")


def gnostic_messages() -> type[message.Message]:
    """The part of openapi.v2 that kubectl reads schemas from, as protobuf itself understands it."""
    fields = {
        "Any": [("yaml", 2, None, False)],
        "NamedAny": [("name", 1, None, False), ("value", 2, "Any", False)],
        "TypeItem": [("value", 1, None, True)],
        "Schema": [
            ("ref", 1, None, False),
            ("type", 22, "TypeItem", False),
            ("properties", 25, "Properties", False),
            ("vendor_extension", 31, "NamedAny", True),
        ],
        "NamedSchema": [("name", 1, None, False), ("value", 2, "Schema", False)],
        "Properties": [("additional_properties", 1, "NamedSchema", True)],
        "Definitions": [("additional_properties", 1, "NamedSchema", True)],
        "Document": [("swagger", 1, None, False), ("definitions", 9, "Definitions", False)],
    }
    file = descriptor_pb2.FileDescriptorProto(name="gnostic.proto", package="t", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, members in fields.items():
        described = file.message_type.add(name=name)
        for field, number, kind, repeated in members:
            described.field.add(
                name=field,
                number=number,
                type=kinds.TYPE_MESSAGE if kind else kinds.TYPE_STRING,
                type_name=f".t.{kind}" if kind else None,
                label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Document"))


def test_protobuf_reads_what_gnostic_writes() -> None:
    deployment = {"type": "object", "properties": {"spec": {"$ref": "#/definitions/Spec"}}, "x-kind": [1]}
    swagger = {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1"},
        "paths": {},
        "definitions": {"Deployment": deployment},
    }
    read: Any = gnostic_messages().FromString(gnostic.encode(swagger))
    assert read.swagger == "2.0"
    [entry] = read.definitions.additional_properties
    assert (entry.name, list(entry.value.type.value)) == ("Deployment", ["object"])
    [spec] = entry.value.properties.additional_properties
    assert (spec.name, spec.value.ref) == ("spec", "#/definitions/Spec")
    [extension] = entry.value.vendor_extension
    assert (extension.name, extension.value.yaml) == ("x-kind", "[1]")


def test_documents_of_v3_come_in_protobuf_under_both_of_its_names(openapi: OpenAPI) -> None:
    for accept in (V3_PROTOBUF, "application/com.github.proto-openapi.spec.v3@v1.0+protobuf", f"{V3_PROTOBUF}, */*"):
        answer = openapi.respond("/openapi/v3/apis/apps/v1", accept=accept)
        assert answer is not None
        assert (answer.status, answer.content_type) == (200, V3_PROTOBUF)
        assert answer.body.startswith(b"\x0a\x053.0.0")


def test_what_cannot_be_met_is_406_and_other_paths_are_none(openapi: OpenAPI) -> None:
    for path, status in (("/openapi/v2", 406), ("/openapi/v3", 200), ("/openapi/v3/api/v1", 406)):
        answer = openapi.respond(path, accept="text/html")
        assert answer is not None
        assert answer.status == status
    for path in ("/openapi", "/openapi/v4", "/openapi/v3/apis/none/v1"):
        assert openapi.respond(path) is None


def test_what_the_second_version_says_depends_on_what_is_accepted_and_how_it_may_be_packed(openapi: OpenAPI) -> None:
    for accept in ("application/json", V2_PROTOBUF, "text/html"):
        answer = openapi.respond("/openapi/v2", accept=accept)
        assert answer is not None
        assert {value for name, value in answer.headers if name == "Vary"} == {"Accept", "Accept-Encoding"}, accept


def test_an_accept_that_names_nothing_gets_nothing_from_the_documents_of_v3(openapi: OpenAPI) -> None:
    for accept in ("garbage", "a/b/c", ","):
        answer = openapi.respond("/openapi/v3/api/v1", accept=accept)
        assert answer is not None
        assert (answer.status, answer.body, answer.content_type) == (200, b"", "")


def widget(group: str) -> scheme.Resource:
    return scheme.Resource(
        group=group,
        version="v1",
        kind="Widget",
        plural="widgets",
        singular="widget",
        namespaced=True,
        verbs=frozenset({"get", "list", "create"}),
        short_names=(),
        categories=(),
        subresources={},
        api_version=f"{group}/v1",
        key=f"widgets.{group}",
        storage_key=f"widgets.{group}",
    )


class Widgets:
    """Definitions of groups that have one kind each; which of them were asked for."""

    def __init__(self, *groups: str) -> None:
        self.groups = groups
        self.asked: list[str] = []

    def digest(self, group: str, version: str) -> bytes:
        return b"1" if group in self.groups else b""

    def v3(self, group: str, version: str) -> dict[str, Any]:
        if group not in self.groups:
            return {}
        self.asked.append(group)
        return custom.definitions(group, version, "Widget", "WidgetList", "widgets", {"type": "object"})

    v2 = v3


def test_custom_kinds_join_the_documents() -> None:
    changing = OpenAPI(scheme.default(), server_version="1.35", now=now)
    before = document(changing, "/openapi/v3")["paths"]["api/v1"]
    v2_before = document(changing, "/openapi/v2")
    resources = [*scheme.default().resources, widget("example.com")]
    changing.replace(scheme.Scheme(resources), Widgets("example.com"))
    assert document(changing, "/openapi/v3")["paths"]["api/v1"] == before
    schemas = document(changing, "/openapi/v3/apis/example.com/v1")["components"]["schemas"]
    assert "com.example.v1.Widget" in schemas
    after = document(changing, "/openapi/v2")
    added = {"com.example.v1.Widget", "com.example.v1.WidgetList"}
    assert after["definitions"].keys() - v2_before["definitions"].keys() == added
    assert list(after["definitions"]) == sorted(after["definitions"])
    assert "/apis/example.com/v1/namespaces/{namespace}/widgets" in after["paths"]


def test_of_custom_kinds_v2_holds_those_of_one_version_at_a_time() -> None:
    """With a thousand of them the document has some 30 MB, and many times that as Python's objects."""
    groups = [f"g{number}.example.com" for number in range(3)]
    described = Widgets(*groups)
    made = v2.members(scheme.Scheme([widget(group) for group in groups]), Definitions({}), described.v2)
    last = {one.name: list(described.asked) for one in made if one.place == v2.DEFINITIONS}
    assert last == {f"com.example.g{n}.v1.Widget{kind}": groups[: n + 1] for n in range(3) for kind in ("", "List")}
