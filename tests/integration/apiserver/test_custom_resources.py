"""CustomResourceDefinitions and what they define, through the whole API server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import pytest_asyncio

from kubecore.apiserver.server import APIServer
from tests.integration.apiserver.conftest import Api
from tests.integration.apiserver.definitions import (
    DEFINITIONS,
    begin,
    condition,
    crd,
    define,
    gone,
    seen,
    until,
    version,
    watched,
    widget,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def widgets(server: APIServer) -> str:
    """The resource of a definition with everything."""
    api = Api(server.transport(username="admin", groups=["system:masters"]), "")
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
        {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]
    served = version(
        subresources={"status": {}, "scale": scale},
        additionalPrinterColumns=columns,
        selectableFields=[{"jsonPath": ".spec.color"}],
    )
    names = {"shortNames": ["wd"], "categories": ["all", "gadgets"], "singular": "widget"}
    await define(api, crd("widgets", "Widget", served, names=names))
    return "example.com/v1/widgets"


# --- the definition


async def test_a_definition_is_defaulted_and_gets_its_names(cluster: Api) -> None:
    made = await define(cluster, crd("plains", "Plain"))
    assert made["spec"]["names"] == {"plural": "plains", "kind": "Plain", "singular": "plain", "listKind": "PlainList"}
    assert made["spec"]["conversion"] == {"strategy": "None"}
    assert made["status"]["acceptedNames"] == made["spec"]["names"]
    assert made["status"]["storedVersions"] == ["v1"]
    assert made["metadata"]["generation"] == 1
    accepted = condition(made, "NamesAccepted")
    assert (accepted["status"], accepted["reason"], accepted["message"]) == (
        "True",
        "NoConflicts",
        "no conflicts found",
    )
    established = condition(made, "Established")
    assert (established["reason"], established["message"]) == (
        "InitialNamesAccepted",
        "the initial names have been accepted",
    )


async def test_names_that_another_definition_has_are_refused_until_it_goes(cluster: Api) -> None:
    await define(cluster, crd("firsts", "First", names={"shortNames": ["fst"]}))
    second = crd("seconds", "First", names={"shortNames": ["fst"]})
    assert (await cluster.create(DEFINITIONS, second))[0] == 201
    refused = await until(cluster, "seconds.example.com", "NamesAccepted", "False")
    assert condition(refused, "NamesAccepted")["reason"] == "ListKindConflict"
    assert condition(refused, "NamesAccepted")["message"] == '"FirstList" is already in use'
    assert condition(refused, "Established")["reason"] == "NotAccepted"
    assert (await cluster.call("GET", "/apis/example.com/v1/seconds"))[0] == 404
    await cluster.delete(DEFINITIONS, "firsts.example.com")
    await until(cluster, "seconds.example.com", "Established", "True")
    assert (await cluster.call("GET", "/apis/example.com/v1/seconds"))[0] == 200


async def test_a_definition_that_goes_round_approval_says_so(cluster: Api) -> None:
    definition = crd("bypasses", "Bypass", group="bypassed.k8s.io")
    definition["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, a test"}
    policy = condition(await define(cluster, definition), "KubernetesAPIApprovalPolicyConformant")
    assert (policy["status"], policy["reason"]) == ("False", "UnapprovedAnnotation")


async def test_groups_of_the_community_need_an_approval(cluster: Api) -> None:
    status, refused = await cluster.create(DEFINITIONS, crd("things", "Thing", group="things.k8s.io"))
    assert status == 422
    assert refused["details"]["causes"] == [
        {
            "reason": "FieldValueRequired",
            "field": "metadata.annotations[api-approved.kubernetes.io]",
            "message": 'Required value: protected groups must have approval annotation "api-approved.kubernetes.io", '
            "see https://github.com/kubernetes/enhancements/pull/1111",
        }
    ]


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ({"type": "string", "wrong": 1}, True),
        ({"type": "array", "items": {"type": "string", "wrong": 1}}, False),
        ({"type": "object", "additionalProperties": {"type": "string", "wrong": 1}}, False),
    ],
)
async def test_schemas_within_items_and_additional_properties_are_not_read_strictly(
    cluster: Api, place: JSON, told: bool
) -> None:
    schema = {"type": "object", "properties": {"a": place}}
    given = crd("places", "Place", version(schema=schema))
    query = {"fieldValidation": "Strict", "dryRun": "All"}
    status, answer = await cluster.create(DEFINITIONS, given, **query)
    assert status == (400 if told else 201), answer


async def test_additional_properties_are_a_schema_or_a_boolean(cluster: Api) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "object", "additionalProperties": "yes"}}}
    status, refused = await cluster.create(DEFINITIONS, crd("places", "Place", version(schema=schema)))
    assert status == 400
    assert refused["message"].endswith(
        "cannot be handled as a CustomResourceDefinition: boolean or JSON schema expected"
    )


# --- its objects


async def test_an_object_is_defaulted_pruned_and_kept(api: Api, widgets: str) -> None:
    status, made = await api.create(widgets, widget("one", unknown=1))
    assert status == 201, made
    assert made["spec"] == {"size": 3, "color": "blue"}
    assert made["metadata"]["generation"] == 1
    assert (await api.get(widgets, "one"))[1] == made
    status, listed = await api.list(widgets)
    assert (status, listed["kind"], listed["apiVersion"]) == (200, "WidgetList", "example.com/v1")
    assert listed["items"] == [made]


async def test_an_invalid_object_is_refused_with_causes(api: Api, widgets: str) -> None:
    status, refused = await api.create(widgets, widget("bad", size=0))
    assert (status, refused["reason"]) == (422, "Invalid")
    assert refused["details"]["kind"] == "Widget"
    assert refused["details"]["group"] == "example.com"
    assert refused["message"] == (
        'Widget.example.com "bad" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or '
        "equal to 1"
    )


async def test_another_kind_is_refused(api: Api, widgets: str) -> None:
    status, refused = await api.create(widgets, {**widget("other"), "kind": "Gadget"})
    assert (status, refused["details"]["causes"]) == (
        422,
        [{"reason": "FieldValueInvalid", "field": "kind", "message": 'Invalid value: "Gadget": must be Widget'}],
    )
    await api.create(widgets, widget("same"))
    _, found = await api.get(widgets, "same")
    assert (await api.update(widgets, {**found, "kind": "Gadget"}))[0] == 422


async def test_unknown_fields_are_refused_when_asked_for(api: Api, widgets: str) -> None:
    status, refused = await api.create(widgets, widget("strict", wrong=1), fieldValidation="Strict")
    assert status == 400
    assert 'unknown field "spec.wrong"' in refused["message"]


async def test_generation_counts_what_is_not_metadata(api: Api, widgets: str) -> None:
    _, made = await api.create(widgets, widget("counted"))
    _, labelled = await api.patch(widgets, "counted", {"metadata": {"labels": {"a": "b"}}})
    assert labelled["metadata"]["generation"] == 1
    _, changed = await api.patch(widgets, "counted", {"spec": {"size": 4}})
    assert changed["metadata"]["generation"] == 2
    assert changed["metadata"]["uid"] == made["metadata"]["uid"]


async def test_an_update_needs_a_resource_version(api: Api, widgets: str) -> None:
    _, made = await api.create(widgets, widget("versioned"))
    made["spec"]["size"] = 5
    version = made["metadata"].pop("resourceVersion")
    status, refused = await api.update(widgets, made)
    assert status == 422
    assert "metadata.resourceVersion" in refused["message"]
    made["metadata"]["resourceVersion"] = version
    assert (await api.update(widgets, made))[0] == 200


async def test_status_is_written_through_its_subresource_alone(api: Api, widgets: str) -> None:
    """Semantics 19."""
    created = widget("stated")
    created["status"] = {"phase": "Ready"}
    _, made = await api.create(widgets, created)
    assert "status" not in made
    made["status"] = {"phase": "Ready"}
    made["spec"]["size"] = 9
    made["metadata"]["labels"] = {"ignored": "yes"}
    status, stated = await api.update(widgets, made, "status")
    assert status == 200, stated
    assert (stated["status"], stated["spec"]["size"]) == ({"phase": "Ready"}, 3)
    assert "labels" not in stated["metadata"]
    assert stated["metadata"]["generation"] == 1
    _, kept = await api.patch(widgets, "stated", {"status": {"phase": "Other"}})
    assert kept["status"] == {"phase": "Ready"}


async def test_the_scale_subresource_speaks_autoscaling(api: Api, widgets: str) -> None:
    await api.create(widgets, widget("scaled", replicas=2))
    await api.patch(widgets, "scaled", {"status": {"replicas": 1, "selector": "app=x"}}, subresource="status")
    status, scale = await api.get(widgets, "scaled", "scale")
    assert (status, scale["kind"], scale["apiVersion"]) == (200, "Scale", "autoscaling/v1")
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 1, "selector": "app=x"})
    status, scale = await api.patch(widgets, "scaled", {"spec": {"replicas": 5}}, subresource="scale")
    assert (status, scale["spec"]) == (200, {"replicas": 5})
    assert (await api.get(widgets, "scaled"))[1]["spec"]["replicas"] == 5


async def test_23_strategic_merge_patches_are_refused(api: Api, widgets: str) -> None:
    """Semantics 23."""
    await api.create(widgets, widget("patched"))
    status, refused = await api.patch(widgets, "patched", {"spec": {"size": 4}}, kind="strategic-merge-patch")
    assert (status, refused["reason"]) == (415, "UnsupportedMediaType")
    assert "strategic" not in refused["message"]
    scale = {"spec": {"replicas": 4}}
    status, refused = await api.patch(widgets, "patched", scale, kind="strategic-merge-patch", subresource="scale")
    assert (status, refused["reason"]) == (415, "UnsupportedMediaType")
    operations = [{"op": "replace", "path": "/spec/size", "value": 7}]
    status, patched = await api.patch(widgets, "patched", operations, kind="json-patch")
    assert (status, patched["spec"]["size"]) == (200, 7)


async def test_apply_creates_and_owns(api: Api, widgets: str) -> None:
    path = api.path(widgets, "applied")
    status, made = await api.call("PATCH", path, widget("applied"), "application/apply-patch+yaml", fieldManager="me")
    assert status == 201, made
    entry = made["metadata"]["managedFields"][0]
    assert (entry["manager"], entry["operation"], entry["apiVersion"]) == ("me", "Apply", "example.com/v1")
    status, conflict = await api.call(
        "PATCH", path, widget("applied", size=8), "application/apply-patch+yaml", fieldManager="other"
    )
    assert (status, conflict["details"]["causes"][0]["field"]) == (409, ".spec.size")


async def test_11_fields_select_if_the_definition_lets_them(api: Api, widgets: str) -> None:
    """Semantics 11."""
    await api.create(widgets, widget("red", color="red"))
    await api.create(widgets, widget("green", color="green"))

    async def found(selector: str) -> list[str]:
        _, listed = await api.list(widgets, fieldSelector=selector)
        return [item["metadata"]["name"] for item in listed["items"]]

    assert await found("spec.color=red") == ["red"]
    assert await found("metadata.name!=red") == ["green"]
    assert await found(f"metadata.namespace={api.namespace},spec.color!=red") == ["green"]
    assert await found("metadata.namespace=elsewhere") == []
    status, refused = await api.list(widgets, fieldSelector="spec.size=3")
    assert (status, refused["message"]) == (400, "field label not supported: spec.size")


async def test_a_collection_is_deleted(api: Api, widgets: str) -> None:
    await api.create(widgets, widget("a"))
    await api.create(widgets, widget("b"))
    status, deleted = await api.delete(widgets)
    assert (status, len(deleted["items"])) == (200, 2)
    assert (await api.list(widgets))[1]["items"] == []


async def test_a_dry_run_changes_nothing(api: Api, widgets: str) -> None:
    assert (await api.create(widgets, widget("dry"), dryRun="All"))[0] == 201
    assert (await api.get(widgets, "dry"))[0] == 404


# --- discovery and documents


async def test_discovery_tells_of_the_resource(cluster: Api, widgets: str) -> None:
    _, groups = await cluster.call("GET", "/apis")
    assert "example.com" in [group["name"] for group in groups["groups"]]
    _, listed = await cluster.call("GET", "/apis/example.com/v1")
    by_name = {one["name"]: one for one in listed["resources"]}
    found = by_name["widgets"]
    assert (found["singularName"], found["shortNames"], found["categories"]) == ("widget", ["wd"], ["all", "gadgets"])
    assert found["storageVersionHash"]
    assert by_name["widgets/scale"]["group"] == "autoscaling"
    assert by_name["widgets/status"]["kind"] == "Widget"


async def test_openapi_describes_the_kind(cluster: Api, widgets: str) -> None:
    _, index = await cluster.call("GET", "/openapi/v3")
    before = index["paths"]["apis/example.com/v1"]["serverRelativeURL"]
    untouched = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
    _, document = await cluster.call("GET", "/openapi/v3/apis/example.com/v1")
    described = document["components"]["schemas"]["com.example.v1.Widget"]
    assert described["properties"]["spec"]["properties"]["color"] == {"type": "string", "default": "blue"}
    assert "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}" in document["paths"]
    await define(cluster, crd("others", "Other"))
    _, index = await cluster.call("GET", "/openapi/v3")
    assert index["paths"]["apis/example.com/v1"]["serverRelativeURL"] != before
    assert index["paths"]["apis/apps/v1"]["serverRelativeURL"] == untouched


# --- several versions, and changes


async def test_versions_show_the_same_object(api: Api, cluster: Api) -> None:
    older = version("v1beta1", storage=False)
    await define(cluster, crd("twins", "Widget", older, version("v1"), group="twins.example.com"))
    assert (await api.create("twins.example.com/v1beta1/twins", widget("x", "twins.example.com/v1beta1")))[0] == 201
    _, new = await api.get("twins.example.com/v1/twins", "x")
    _, old = await api.get("twins.example.com/v1beta1/twins", "x")
    assert (new["apiVersion"], old["apiVersion"]) == ("twins.example.com/v1", "twins.example.com/v1beta1")
    assert new["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"]
    _, group = await cluster.call("GET", "/apis/twins.example.com")
    assert group["preferredVersion"]["version"] == "v1"


async def test_a_default_that_is_added_later_shows_on_read(api: Api, cluster: Api) -> None:
    await define(cluster, crd("laters", "Widget", group="later.example.com"))
    await api.create("later.example.com/v1/laters", widget("old", "later.example.com/v1"))
    _, definition = await cluster.get(DEFINITIONS, "laters.later.example.com")
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["weight"] = {"type": "integer", "default": 7}
    renewed = begin(seen(api, "later.example.com/v1/laters", "ERROR"))
    status, _ = await cluster.update(DEFINITIONS, definition)
    assert status == 200
    await renewed
    _, found = await api.get("later.example.com/v1/laters", "old")
    assert found["spec"]["weight"] == 7
    # A write that changes nothing makes what is stored what is shown, once (how objects are migrated).
    _, renewed_object = await api.update("later.example.com/v1/laters", found)
    assert renewed_object["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]
    assert (await api.update("later.example.com/v1/laters", renewed_object))[1] == renewed_object


# --- the end


async def test_instances_go_before_their_definition(api: Api, cluster: Api) -> None:
    await define(cluster, crd("mortals", "Widget", group="mortal.example.com"))
    resource = "mortal.example.com/v1/mortals"
    held = widget("held", "mortal.example.com/v1")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await api.create(resource, held)
    await api.create(resource, widget("free", "mortal.example.com/v1"))
    deleted, unserved = begin(seen(api, resource, "DELETED", "free")), begin(seen(api, resource, "ERROR"))
    status, going = await cluster.delete(DEFINITIONS, "mortals.mortal.example.com")
    assert (status, going["kind"]) == (200, "CustomResourceDefinition")
    assert going["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    assert condition(going, "Terminating")["reason"] == "InstanceDeletionPending"
    await deleted
    status, refused = await api.create(resource, widget("late", "mortal.example.com/v1"))
    assert status == 403
    assert "create not allowed while custom resource definition is terminating" in refused["message"]
    _, listed = await cluster.call("GET", "/apis/mortal.example.com/v1")
    assert listed["resources"][0]["storageVersionHash"]
    ending = begin(gone(cluster, "mortals.mortal.example.com"))
    assert (await api.patch(resource, "held", {"metadata": {"finalizers": None}}))[0] == 200
    await ending
    await unserved
    assert (await api.list(resource))[0] == 404
    _, groups = await cluster.call("GET", "/apis")
    assert "mortal.example.com" not in [group["name"] for group in groups["groups"]]


async def test_watchers_of_a_definition_are_told_how_it_goes(cluster: Api) -> None:
    name = "leaving.leaving.example.com"
    made = await define(cluster, crd("leaving", "Widget", group="leaving.example.com"))
    await cluster.delete(DEFINITIONS, name)
    reasons = []
    async with asyncio.timeout(60):
        async for found in watched(cluster, name, since=made["metadata"]["resourceVersion"]):
            if found is None:
                break
            reasons.append(condition(found, "Terminating")["reason"])
    assert reasons == ["InstanceDeletionPending", "InstanceDeletionInProgress"]


async def test_a_definition_that_could_not_be_written_any_more_goes_all_the_same(cluster: Api) -> None:
    name = "stranded.k.com"
    await define(cluster, crd("stranded", "Widget", group="k.com"))
    change = {"status": {"storedVersions": ["v1", "v9"]}}
    assert (await cluster.patch(DEFINITIONS, name, change, subresource="status"))[0] == 200
    ending = begin(gone(cluster, name))
    assert (await cluster.delete(DEFINITIONS, name))[0] == 200
    await ending


async def test_deleting_a_definition_keeps_its_generation(cluster: Api) -> None:
    made = await define(cluster, crd("kept", "Widget", group="k.com"))
    assert made["metadata"]["generation"] == 1
    status, deleted = await cluster.delete(DEFINITIONS, "kept.k.com")
    assert (status, deleted["metadata"]["generation"]) == (200, 1)
    assert deleted["metadata"]["deletionTimestamp"]
    await gone(cluster, "kept.k.com")


async def test_a_null_that_the_schema_allows_not_is_refused_where_it_is_applied_and_dropped_where_it_is_written(
    api: Api,
) -> None:
    properties = {
        "list": {"type": "array", "items": {"type": "string"}},
        "size": {"type": "integer", "nullable": True},
        "any": {"x-kubernetes-preserve-unknown-fields": True},
    }
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
    await define(api, crd("nulls", "Null", version(schema=schema), group="nulls.example.com"))
    nulls, api_version = "nulls.example.com/v1/nulls", "nulls.example.com/v1"

    def given(name: str, **more: object) -> JSON:
        spec = {"list": None, "size": None, "any": None, **more}
        return {"apiVersion": api_version, "kind": "Null", "metadata": {"name": name}, "spec": spec}

    status, made = await api.create(nulls, given("written"))
    assert (status, made["spec"]) == (201, {"size": None})
    applied = {"content_type": "application/apply-patch+yaml", "fieldManager": "a"}
    status, refused = await api.call("PATCH", api.path(nulls, "applied"), given("applied"), **applied)
    assert status == 422
    assert refused["details"]["causes"][0]["message"] == (
        'Invalid value: "null": spec.list in body must be of type array: "null"'
    )
    # What may be of any type passes, and is gone when it is read back.
    status, made = await api.call("PATCH", api.path(nulls, "applied"), given("applied", list=["a"]), **applied)
    assert (status, made["spec"]) == (201, {"list": ["a"], "size": None})
    await api.delete(DEFINITIONS, "nulls.nulls.example.com")
