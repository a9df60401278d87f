"""OpenAPI v2 (Swagger): the whole API in one document."""

from __future__ import annotations

from typing import Any

from kubecore.api.scheme import Scheme
from kubecore.apiserver.openapi.definitions import Definitions, without_defaults
from kubecore.apiserver.openapi.operations import QUERY_PARAMETERS, Operation, by_path, operations, shared_query
from kubecore.apiserver.openapi.services import SERVICES, Service, of_group, of_version

JSON = dict[str, Any]


def document(scheme: Scheme, definitions: Definitions, server_version: str) -> JSON:
    """The whole document."""
    paths: dict[str, JSON] = {}
    needed: set[str] = set()
    services = list(SERVICES)
    for group in scheme.groups():
        services += of_group(scheme, group.name)
        for version in group.versions:
            services += of_version(scheme, group.name, version)
            for path, of_path in by_path(operations(scheme, definitions, group.name, version)).items():
                shared = shared_query(of_path)
                parameters = _path_parameters(of_path[0]) + [_query_parameter(name) for name in shared]
                item = {operation.method: _operation(operation, shared) for operation in of_path}
                paths[path] = item | ({"parameters": parameters} if parameters else {})
                needed |= {name for operation in of_path for name in (operation.body, operation.result) if name}
    needed |= {service.result for service in services if service.result}
    paths |= {service.path: {"get": _service(service)} for service in services}
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": server_version},
        "paths": dict(sorted(paths.items())),
        "definitions": {
            name: without_defaults(definition) for name, definition in definitions.reachable(needed).items()
        },
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


def _query_parameter(name: str) -> JSON:
    type_name, description = QUERY_PARAMETERS[name]
    return {"name": name, "in": "query", "description": description, "type": type_name, "uniqueItems": True}


def _service(service: Service) -> JSON:
    return {
        "description": service.description,
        **({"consumes": list(service.media)} if service.result else {}),
        "produces": list(service.media),
        "schemes": ["https"],
        "tags": [service.tag],
        "operationId": service.operation_id,
        "responses": {"200": {"description": "OK", "schema": _result(service.result)}, **_UNAUTHORIZED},
    }


def _operation(operation: Operation, shared: tuple[str, ...]) -> JSON:
    group, version, kind = operation.kind
    parameters: list[JSON] = []
    if operation.body:
        schema = {"$ref": f"#/definitions/{operation.body}"}
        required = operation.action not in ("delete", "deletecollection")
        parameters.append({"name": "body", "in": "body", "schema": schema} | ({"required": True} if required else {}))
    parameters += [_query_parameter(name) for name in sorted(set(operation.query) - set(shared))]
    described: JSON = {
        "description": operation.description,
        "consumes": list(operation.consumed),
        "produces": list(operation.produced),
        "schemes": ["https"],
        "tags": [operation.tag],
        "operationId": operation.operation_id,
        "responses": _responses(operation),
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    }
    return described | ({"parameters": parameters} if parameters else {})


def _responses(operation: Operation) -> JSON:
    schema = _result(operation.result)
    responses: JSON = {"200": {"description": "OK", "schema": schema}}
    if operation.created:
        responses["201"] = {"description": "Created", "schema": schema}
    if operation.action in ("post", "delete") and operation.result is not None:
        responses["202"] = {"description": "Accepted", "schema": schema}
    return responses | _UNAUTHORIZED


def _result(name: str | None) -> JSON:
    return {"$ref": f"#/definitions/{name}"} if name else {"type": "string"}


_UNAUTHORIZED = {"401": {"description": "Unauthorized"}}
