"""OpenAPI v2 documents told as v3."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.openapi.converting import converted

JSON = dict[str, Any]


def document(**more: Any) -> JSON:
    return converted({"swagger": "2.0", "info": {"title": "t", "version": "1"}, **more})


def operation(**more: Any) -> JSON:
    made = document(paths={"/p": {"get": {"responses": {}, **more}}})
    found: JSON = made["paths"]["/p"]["get"]
    return found


def schema(given: JSON) -> JSON:
    made: JSON = document(definitions={"a": given})["components"]["schemas"]["a"]
    return made


def test_head_and_parts_have_their_places() -> None:
    assert document(externalDocs={"url": "u"}, definitions={}, securityDefinitions={}) == {
        "openapi": "3.0.0",
        "info": {"title": "t", "version": "1"},
        "externalDocs": {"url": "u"},
        "paths": {},
        "components": {"schemas": {}, "securitySchemes": {}},
    }


def test_references_lead_to_components_and_stand_alone() -> None:
    old, new = {"$ref": "#/definitions/b"}, {"$ref": "#/components/schemas/b"}
    described = {**old, "description": "d", "default": {}}
    given = {"properties": {"p": old, "q": described}, "items": old, "additionalProperties": old, "allOf": [old]}
    assert schema(given) == {
        "properties": {"p": new, "q": {"description": "d", "default": {}, "allOf": [new]}},
        "items": new,
        "additionalProperties": new,
        "allOf": [new],
    }
    assert schema({"additionalProperties": True}) == {"additionalProperties": True}


def test_bodies_and_answers_are_of_each_medium() -> None:
    reference = {"$ref": "#/definitions/b"}
    made = operation(
        consumes=["a/b"],
        produces=["c/d", "e/f"],
        parameters=[{"name": "body", "in": "body", "required": True, "schema": reference}],
        responses={"200": {"description": "OK", "schema": reference}, "401": {"description": "no"}},
    )
    media = {"schema": {"$ref": "#/components/schemas/b"}}
    assert made["requestBody"] == {"content": {"a/b": media}}
    assert made["responses"] == {
        "200": {"description": "OK", "content": {"c/d": media, "e/f": media}},
        "401": {"description": "no"},
    }
    assert "parameters" not in made


def test_simple_parameters_get_a_schema() -> None:
    given = {"name": "n", "in": "query", "type": "string", "uniqueItems": True, "description": "d", "x-a": 1}
    shared = {"$ref": "#/parameters/pretty"}
    made = operation(parameters=[given, shared])["parameters"]
    told = {"name": "n", "in": "query", "description": "d", "x-a": 1, "schema": {"type": "string", "uniqueItems": True}}
    assert made == [told, {"$ref": "#/components/parameters/pretty"}]


def test_what_is_said_of_an_operation_is_kept() -> None:
    kept = {"tags": ["t"], "description": "d", "operationId": "o", "x-kubernetes-action": "get"}
    assert operation(**kept, schemes=["https"]) == {**kept, "responses": {}}
