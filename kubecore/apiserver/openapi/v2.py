"""OpenAPI v2 (Swagger): the whole API in one document."""

from __future__ import annotations

from typing import Any

from kubecore.api.scheme import Scheme
from kubecore.apiserver.openapi.definitions import Definitions
from kubecore.apiserver.openapi.operations import QUERY_PARAMETERS, Operation, operations

JSON = dict[str, Any]

_MEDIA = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]
_STREAMS = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"]


def document(scheme: Scheme, definitions: Definitions, server_version: str) -> JSON:
    """The whole document."""
    paths: dict[str, JSON] = {}
    for group in scheme.groups():
        for version in group.versions:
            for operation in operations(scheme, definitions, group.name, version):
                item = paths.setdefault(operation.path, {"parameters": _path_parameters(operation)})
                item[operation.method] = _operation(operation)
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": server_version},
        "paths": dict(sorted(paths.items())),
        "definitions": dict(definitions.all),
        "securityDefinitions": {
            "BearerToken": {
                "description": "Bearer Token authentication",
                "type": "apiKey",
                "name": "authorization",
                "in": "header",
            }
        },
        "security": [{"BearerToken": []}],
    }


def _path_parameters(operation: Operation) -> list[JSON]:
    return [
        {"name": name, "in": "path", "required": True, "type": "string", "uniqueItems": True}
        for name in operation.path_parameters
    ]


def _operation(operation: Operation) -> JSON:
    group, version, kind = operation.kind
    parameters: list[JSON] = []
    if operation.body:
        schema = {"$ref": f"#/definitions/{operation.body}"}
        required = operation.action not in ("delete", "deletecollection")
        parameters.append({"name": "body", "in": "body", "schema": schema} | ({"required": True} if required else {}))
    for name in operation.query:
        type_name, description = QUERY_PARAMETERS[name]
        parameters.append(
            {"name": name, "in": "query", "description": description, "type": type_name, "uniqueItems": True}
        )
    produced = ["*/*"] if operation.result is None else _MEDIA + (_STREAMS if operation.action == "list" else [])
    return {
        "description": operation.description,
        "consumes": list(operation.patch_types) if operation.method == "patch" else ["*/*"],
        "produces": produced,
        "schemes": ["https"],
        "tags": [operation.tag],
        "operationId": operation.operation_id,
        "parameters": parameters,
        "responses": _responses(operation),
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    }


def _responses(operation: Operation) -> JSON:
    schema = {"$ref": f"#/definitions/{operation.result}"} if operation.result else {"type": "string"}
    responses: JSON = {"200": {"description": "OK", "schema": schema}}
    if operation.created:
        responses["201"] = {"description": "Created", "schema": schema}
    if operation.action in ("post", "delete") and operation.result is not None:
        responses["202"] = {"description": "Accepted", "schema": schema}
    return responses | {"401": {"description": "Unauthorized"}}
