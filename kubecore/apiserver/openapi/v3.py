"""OpenAPI v3: one document per group version."""

from __future__ import annotations

from typing import Any

from kubecore.api.scheme import Scheme
from kubecore.apiserver.openapi.definitions import Definitions, definition_to_v3
from kubecore.apiserver.openapi.operations import QUERY_PARAMETERS, Operation, operations

JSON = dict[str, Any]

_MEDIA = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_STREAMS = ("application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")


def document(scheme: Scheme, definitions: Definitions, group: str, version: str, server_version: str) -> JSON:
    """The document of one group version: its paths and every schema they need."""
    paths: dict[str, JSON] = {}
    needed: set[str] = set()
    for operation in operations(scheme, definitions, group, version):
        item = paths.setdefault(operation.path, {"parameters": _path_parameters(operation)})
        item[operation.method] = _operation(operation)
        needed |= {name for name in (operation.body, operation.result) if name}
    schemas = {name: definition_to_v3(name, definition) for name, definition in definitions.reachable(needed).items()}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": server_version},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "BearerToken": {
                    "type": "apiKey",
                    "description": "Bearer Token authentication",
                    "name": "authorization",
                    "in": "header",
                }
            },
        },
    }


def _path_parameters(operation: Operation) -> list[JSON]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "uniqueItems": True}}
        for name in operation.path_parameters
    ]


def _operation(operation: Operation) -> JSON:
    group, version, kind = operation.kind
    described: JSON = {
        "description": operation.description,
        "tags": [operation.tag],
        "operationId": operation.operation_id,
        "parameters": [_query_parameter(name) for name in operation.query],
    }
    if operation.body:
        media = operation.patch_types if operation.method == "patch" else ("*/*",)
        described["requestBody"] = {"content": _content(operation.body, media)}
        if operation.action != "delete" and operation.action != "deletecollection":
            described["requestBody"]["required"] = True
    described["responses"] = _responses(operation)
    described["x-kubernetes-action"] = operation.action
    described["x-kubernetes-group-version-kind"] = {"group": group, "version": version, "kind": kind}
    return described


def _query_parameter(name: str) -> JSON:
    type_name, description = QUERY_PARAMETERS[name]
    schema = {"type": type_name, "uniqueItems": True}
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _responses(operation: Operation) -> JSON:
    if operation.result is None:
        answer: JSON = {"description": "OK", "content": {"*/*": {"schema": {"type": "string"}}}}
    else:
        media = _MEDIA + _STREAMS if operation.action == "list" else _MEDIA
        answer = {"description": "OK", "content": _content(operation.result, media)}
    responses = {"200": answer}
    if operation.created:
        responses["201"] = {**answer, "description": "Created"}
    if operation.action in ("post", "delete") and operation.result is not None:
        responses["202"] = {**answer, "description": "Accepted"}
    return responses | {"401": {"description": "Unauthorized"}}


def _content(definition: str, media: tuple[str, ...]) -> JSON:
    return {one: {"schema": {"$ref": f"#/components/schemas/{definition}"}} for one in media}
