"""What OpenAPI documents say of custom kinds and of their operations (checked beside kube-apiserver v1.35)."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.api.scheme import Resource, Scheme, Subresource
from kubecore.apiserver.openapi import custom
from kubecore.apiserver.openapi.definitions import Definitions, builtin
from kubecore.apiserver.openapi.operations import CUSTOM_MEDIA, CUSTOM_PATCH_TYPES, Operation, operations
from kubecore.apiserver.registry.custom.definition import VERBS

JSON = dict[str, Any]
NAME = "com.example.v1.Widget"
VERBS_OF_PARTS = frozenset({"get", "patch", "update"})


def described(schema: JSON, *fields: str) -> JSON:
    made = custom.definitions("example.com", "v1", "Widget", "WidgetList", "widgets", schema, fields)
    found: JSON = made[NAME]
    return found


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], Operation]:
    widget = Resource(
        group="example.com",
        version="v1",
        kind="Widget",
        plural="widgets",
        singular="widget",
        namespaced=True,
        verbs=VERBS,
        short_names=(),
        categories=(),
        subresources={"scale": Subresource("scale", "autoscaling", "v1", "Scale", VERBS_OF_PARTS)},
        api_version="example.com/v1",
        key="widgets.example.com",
        storage_key="widgets.example.com",
        storage_version="v1",
    )
    own = custom.definitions("example.com", "v1", "Widget", "WidgetList", "widgets", {"type": "object"})
    made = operations(Scheme([widget]), Definitions(own, Definitions(builtin())), "example.com", "v1")
    return {(one.path.rpartition("widgets")[2], one.method): one for one in made if "{namespace}" in one.path}


def test_selectable_fields_are_told_of_the_kind_and_of_its_list() -> None:
    made = custom.definitions("example.com", "v1", "Widget", "WidgetList", "widgets", {}, [".spec.color", ".spec.size"])
    wanted = [{"fieldPath": "spec.color"}, {"fieldPath": "spec.size"}]
    assert [one["x-kubernetes-selectable-fields"] for one in made.values()] == [wanted, wanted]
    assert "x-kubernetes-selectable-fields" not in described({})


def test_what_is_a_number_or_a_string_is_any_of_them() -> None:
    schema = {"type": "object", "properties": {"port": {"x-kubernetes-int-or-string": True}}}
    port = described(schema)["properties"]["port"]
    assert port["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert custom.as_v2(described(schema))["properties"]["port"] == {"x-kubernetes-int-or-string": True}


def test_v2_keeps_rules_and_has_no_type_for_what_is_preserved() -> None:
    free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    rules = [{"rule": "true"}]
    schema = {"type": "object", "properties": {"free": free}, "x-kubernetes-validations": rules}
    made = custom.as_v2(described(schema))
    assert made["x-kubernetes-validations"] == rules
    assert made["properties"]["free"] == {"x-kubernetes-preserve-unknown-fields": True}
    whole = custom.as_v2(described(free))
    assert whole["type"] == "object"
    assert whole.keys() == {"type", "x-kubernetes-group-version-kind"}


def test_examples_and_further_documents_are_not_told() -> None:
    told = {"type": "string", "title": "T", "example": "e", "externalDocs": {"url": "u"}}
    named = {"type": "object", "properties": {"example": {"type": "string"}, "told": told}}
    assert described(named)["properties"]["told"] == {"type": "string", "title": "T"}
    assert "example" in described(named)["properties"]


def test_v2_keeps_what_is_required_of_objects_whose_members_it_does_not_tell() -> None:
    members = {"required": ["z"], "properties": {"z": {"type": "string"}}}
    free = {"x-kubernetes-preserve-unknown-fields": True}
    schema = {
        "type": "object",
        "properties": {
            "null": {"type": "object", "nullable": True, **members},
            "values": {"type": "object", "nullable": True, "additionalProperties": {"type": "string"}},
            "free": {"type": "object", **free, **members},
            "whole": {"type": "object", "x-kubernetes-embedded-resource": True, **free},
            "some": {
                "type": "object",
                "required": ["a", "b"],
                "properties": {"a": {"type": "string", "nullable": True}},
            },
        },
    }
    made = custom.as_v2(described(schema))["properties"]
    assert made["null"] == {"required": ["z"]}
    assert made["values"] == {"additionalProperties": {"type": "string"}}
    assert made["free"] == {"required": ["z"], **free}
    assert made["whole"] == {"x-kubernetes-embedded-resource": True, **free}
    assert made["some"]["required"] == ["b"]


def test_custom_kinds_come_in_json_and_yaml_alone(found: dict[tuple[str, str], Operation]) -> None:
    for one in found.values():
        assert one.produced == CUSTOM_MEDIA
        assert one.consumed == (CUSTOM_PATCH_TYPES if one.method == "patch" else CUSTOM_MEDIA)


def test_a_collection_is_deleted_as_it_is_listed(found: dict[tuple[str, str], Operation]) -> None:
    deleted = found["", "delete"]
    assert (deleted.body, deleted.query) == (None, found["", "get"].query)


def test_what_is_read_may_be_so_recent(found: dict[tuple[str, str], Operation]) -> None:
    assert found["/{name}", "get"].query == found["/{name}/scale", "get"].query == ("pretty", "resourceVersion")


def test_a_patch_creates_nothing_and_parts_are_of_the_kind_itself(found: dict[tuple[str, str], Operation]) -> None:
    assert not found["/{name}", "patch"].created
    assert found["/{name}/scale", "put"].kind == ("example.com", "v1", "Widget")
