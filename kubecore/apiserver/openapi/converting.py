"""OpenAPI v2 documents of others as OpenAPI v3, for those who have no better one.

After k8s.io/kube-openapi `pkg/openapiconv`: what v3 cannot say in the same way (forms, arrays of parameters) is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

JSON = dict[str, Any]

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
_REFERENCES = {
    "#/definitions/": "#/components/schemas/",
    "#/parameters/": "#/components/parameters/",
    "#/responses/": "#/components/responses/",
}


def converted(document: JSON) -> JSON:
    made: JSON = {"openapi": "3.0.0", "info": document.get("info") or {}}
    if "externalDocs" in document:
        made["externalDocs"] = document["externalDocs"]
    paths = document.get("paths") or {}
    made["paths"] = {path: item if path.startswith("x-") else _path(item) for path, item in paths.items()}
    components: JSON = {}
    produces = document.get("produces")
    for name, old, convert in (
        ("schemas", "definitions", _schema),
        ("securitySchemes", "securityDefinitions", _security),
        ("responses", "responses", lambda response: _response(response, produces)),
    ):
        if old in document:
            components[name] = _each(document[old], convert)
    made["components"] = components
    return made


def _each(named: Mapping[str, Any], convert: Callable[[Any], Any]) -> JSON:
    return {name: convert(one) for name, one in named.items()}


def _reference(text: str) -> str:
    for old, new in _REFERENCES.items():
        if old in text:
            return new + text.partition(old)[2]
    return text


def _schema(schema: JSON) -> JSON:
    made = dict(schema)
    for name in ("properties", "patternProperties"):
        if name in made:
            made[name] = _each(made[name], _schema)
    for name in ("items", "additionalProperties", "additionalItems", "not"):
        held = made.get(name)
        if isinstance(held, dict):
            made[name] = _schema(held)
        elif isinstance(held, list):
            made[name] = [_schema(one) for one in held]
    for name in ("allOf", "anyOf", "oneOf"):
        if name in made:
            made[name] = [_schema(one) for one in made[name]]
    if "$ref" in made:
        reference = {"$ref": _reference(made.pop("$ref"))}
        # Nothing may stand beside a reference.
        return {**made, "allOf": [reference]} if made else reference
    return made


def _security(scheme: JSON) -> JSON:
    made: JSON = {name: scheme[name] for name in ("type", "description", "name", "in") if name in scheme} | _extensions(
        scheme
    )
    if flow := scheme.get("flow"):
        names = {"authorizationUrl": "authorizationUrl", "tokenUrl": "tokenUrl", "scopes": "scopes"}
        made["flows"] = {flow: {new: scheme[old] for old, new in names.items() if old in scheme}}
    return made


def _extensions(of: JSON) -> JSON:
    return {name: value for name, value in of.items() if name.startswith("x-")}


def _path(item: JSON) -> JSON:
    made: JSON = {name: _operation(item[name]) for name in _METHODS if name in item} | _extensions(item)
    if "$ref" in item:
        made["$ref"] = item["$ref"]
    if item.get("parameters"):
        made["parameters"] = [_parameter(one) for one in item["parameters"]]
    return made


def _operation(operation: JSON) -> JSON:
    kept = ("tags", "summary", "description", "externalDocs", "operationId", "deprecated")
    made: JSON = {name: operation[name] for name in kept if name in operation} | _extensions(operation)
    parameters = []
    for one in operation.get("parameters") or ():
        if one.get("name") == "body" and "schema" in one:
            schema = _schema(one["schema"])
            made["requestBody"] = _content(operation.get("consumes"), schema)
        else:
            parameters.append(_parameter(one))
    if parameters:
        made["parameters"] = parameters
    produces = operation.get("produces")
    responses = operation.get("responses") or {}
    made["responses"] = {
        code: one if code.startswith("x-") else _response(one, produces) for code, one in responses.items()
    }
    return made


def _content(media: Sequence[str] | None, schema: JSON) -> JSON:
    return {"content": {one: {"schema": schema} for one in media}} if media else {}


def _response(response: JSON, produces: Sequence[str] | None) -> JSON:
    if "$ref" in response:
        return {"$ref": _reference(response["$ref"])}
    made: JSON = {"description": response.get("description", ""), **_extensions(response)}
    return made | _content(produces, _schema(response["schema"])) if "schema" in response else made


def _parameter(parameter: JSON) -> JSON:
    if "$ref" in parameter:
        return {"$ref": _reference(parameter["$ref"])}
    kept = ("name", "description", "in", "required", "allowEmptyValue")
    made: JSON = {name: parameter[name] for name in kept if name in parameter} | _extensions(parameter)
    if "schema" in parameter:
        made["schema"] = _schema(parameter["schema"])
    else:
        simple = {name: parameter[name] for name in ("format", "uniqueItems") if name in parameter}
        made["schema"] = {"type": parameter.get("type", ""), **simple}
    return made
