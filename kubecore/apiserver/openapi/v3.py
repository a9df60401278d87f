"""OpenAPI v3: one document per group version."""

from __future__ import annotations

import operator
from typing import Any

from kubecore.api.scheme import Scheme
from kubecore.apiserver.openapi.definitions import Definitions, definition_to_v3
from kubecore.apiserver.openapi.operations import (
    Operation,
    by_path,
    operations,
    shared_query,
)
from kubecore.apiserver.openapi.parameters import path_parameter, query_parameter
from kubecore.apiserver.openapi.services import Service, of_version

JSON = dict[str, Any]


def document(scheme: Scheme, definitions: Definitions, group: str, version: str, server_version: str) -> JSON:
    """The document of one group version: its paths and every schema they need."""
    paths: dict[str, JSON] = {}
    needed: set[str] = set()
    for path, of_path in by_path(operations(scheme, definitions, group, version)).items():
        shared = shared_query(of_path)
        parameters = _path_parameters(of_path[0]) + [_query_parameter(of_path[-1], name) for name in shared]
        parameters.sort(key=operator.itemgetter("name"))
        item = {operation.method: _operation(operation, shared) for operation in of_path}
        paths[path] = item | ({"parameters": parameters} if parameters else {})
        needed |= {name for operation in of_path for name in (operation.body, operation.result) if name}
    services = of_version(scheme, group, version)
    paths |= {service.path: {"get": _service(service)} for service in services}
    needed |= {service.result for service in services if service.result}
    # Upstream describes custom resources by themselves, and otherwise.
    found = scheme.of_version(group, version)
    custom = bool(found) and all(resource.storage_version for resource in found)
    return _document(dict(sorted(paths.items())), definitions, needed, server_version, custom=custom)


def service_document(service: Service, definitions: Definitions, server_version: str) -> JSON:
    """The document of what is no version of a group."""
    needed = {service.result} if service.result else set()
    return _document({service.path: {"get": _service(service)}}, definitions, needed, server_version)


def _document(
    paths: JSON, definitions: Definitions, needed: set[str], server_version: str, *, custom: bool = False
) -> JSON:
    schemas = {name: definition_to_v3(name, definition) for name, definition in definitions.reachable(needed).items()}
    components: JSON = {"schemas": schemas} if schemas else {}
    if custom:
        info = {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"}
    else:
        info = {"title": "Kubernetes", "version": server_version}
        components["securitySchemes"] = {"BearerToken": _BEARER}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": components}


_BEARER = {"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"}


def _path_parameters(operation: Operation) -> list[JSON]:
    return [
        {**path_parameter(name, operation.kind[2]), "schema": {"type": "string", "uniqueItems": True}}
        for name in sorted(operation.path_parameters)
    ]


def _service(service: Service) -> JSON:
    schema = _result(service.result)
    return {
        "description": service.description,
        "tags": [service.tag],
        "operationId": service.operation_id,
        "responses": {
            "200": {"description": "OK", "content": {one: {"schema": schema} for one in service.media}},
            **_UNAUTHORIZED,
        },
    }


def _operation(operation: Operation, shared: tuple[str, ...]) -> JSON:
    group, version, kind = operation.kind
    described: JSON = {
        "description": operation.description,
        "tags": [operation.tag],
        "operationId": operation.operation_id,
    }
    if own := sorted(set(operation.query) - set(shared)):
        described["parameters"] = [_query_parameter(operation, name) for name in own]
    if operation.body:
        described["requestBody"] = {"content": {one: {"schema": _result(operation.body)} for one in operation.consumed}}
        if operation.action != "delete" and operation.action != "deletecollection":
            described["requestBody"]["required"] = True
    described["responses"] = _responses(operation)
    described["x-kubernetes-action"] = operation.action
    described["x-kubernetes-group-version-kind"] = {"group": group, "version": version, "kind": kind}
    return described


def _query_parameter(operation: Operation, name: str) -> JSON:
    type_name, description = query_parameter(name, operation.options)
    schema = {"type": type_name, "uniqueItems": True}
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _responses(operation: Operation) -> JSON:
    schema = _result(operation.result)
    answer = {"description": "OK", "content": {one: {"schema": schema} for one in operation.produced}}
    responses = {"200": answer}
    if operation.created:
        responses["201"] = {**answer, "description": "Created"}
    if operation.action in ("post", "delete") and operation.result is not None:
        responses["202"] = {**answer, "description": "Accepted"}
    return responses | _UNAUTHORIZED


def _result(name: str | None) -> JSON:
    return {"$ref": f"#/components/schemas/{name}"} if name else {"type": "string"}


_UNAUTHORIZED = {"401": {"description": "Unauthorized"}}
