"""OpenAPI v2 (Swagger): the whole API in one document.

Of thousands of custom kinds nobody should hold all at once, nor write them all in one step: a document is made member
by member, each written as soon as it is there.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from kubecore.api.scheme import Scheme
from kubecore.apiserver.openapi.definitions import Definitions, without_defaults
from kubecore.apiserver.openapi.operations import (
    Operation,
    by_path,
    operations,
    shared_query,
)
from kubecore.apiserver.openapi.parameters import path_parameter, query_parameter
from kubecore.apiserver.openapi.services import SERVICES, Service, of_group, of_version

JSON = dict[str, Any]


PATHS, DEFINITIONS = PLACES = "paths", "definitions"


class Member(NamedTuple):
    """Of the document's `place`: a path or a definition."""

    place: str
    name: str
    value: JSON


def members(
    scheme: Scheme, built_in: Definitions, custom: Callable[[str, str], Mapping[str, JSON]]
) -> Iterator[Member]:
    """Everything in the document, in no order; `custom` has the definitions of a group version's custom kinds."""
    needed: set[str] = set()
    services = list(SERVICES)
    for group in scheme.groups():
        services += of_group(scheme, group.name)
        for version in group.versions:
            services += of_version(scheme, group.name, version)
            own = custom(group.name, version)
            known = Definitions(own, built_in) if own else built_in
            names: set[str] = set()
            for path, of_path in by_path(operations(scheme, known, group.name, version)).items():
                yield Member(PATHS, path, _item(of_path))
                names |= {name for operation in of_path for name in (operation.body, operation.result) if name}
            if own:
                reached = known.reachable(names)
                yield from (Member(DEFINITIONS, name, one) for name, one in reached.items() if name in own)
                names = reached.keys() - own.keys()
            needed |= names
    for service in services:
        yield Member(PATHS, service.path, {"get": _service(service)})
    needed |= {service.result for service in services if service.result}
    for name, definition in built_in.reachable(needed).items():
        yield Member(DEFINITIONS, name, without_defaults(definition))


def members_of(document: Mapping[str, Any]) -> Iterator[Member]:
    """Those of a whole document."""
    return (Member(place, name, value) for place in (PATHS, DEFINITIONS) for name, value in document[place].items())


def document(found: Iterator[Member], server_version: str) -> JSON:
    """The whole document."""
    made: dict[str, JSON] = {PATHS: {}, DEFINITIONS: {}}
    for place, name, value in found:
        made[place][name] = value
    return {**frame(server_version), **{place: dict(sorted(of_place.items())) for place, of_place in made.items()}}


def frame(server_version: str) -> JSON:
    """The document but for its members."""
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": server_version},
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


def as_json(found: Iterator[Member], rest: JSON) -> bytes:
    """The document of these members and the `rest`. It is put together once: it may be long."""
    written: dict[str, dict[str, bytes]] = {PATHS: {}, DEFINITIONS: {}}
    for place, name, value in found:
        written[place][name] = orjson.dumps({name: value})[1:-1]
    parts = [orjson.dumps(rest)[:-1]]
    for place, of_place in written.items():
        parts.append(b',"%b":{' % place.encode())
        for number, name in enumerate(sorted(of_place)):
            parts += (b",", of_place[name]) if number else (of_place[name],)
        parts.append(b"}")
    return b"".join([*parts, b"}"])


def _item(of_path: list[Operation]) -> JSON:
    shared = shared_query(of_path)
    parameters = _path_parameters(of_path[0]) + [_query_parameter(of_path[-1], name) for name in shared]
    parameters.sort(key=operator.itemgetter("name"))
    item: JSON = {operation.method: _operation(operation, shared) for operation in of_path}
    return item | ({"parameters": parameters} if parameters else {})


def _path_parameters(operation: Operation) -> list[JSON]:
    return [
        {**path_parameter(name, operation.kind[2]), "type": "string", "uniqueItems": True}
        for name in sorted(operation.path_parameters)
    ]


def _query_parameter(operation: Operation, name: str) -> JSON:
    type_name, description = query_parameter(name, operation.options)
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
    parameters += [_query_parameter(operation, name) for name in sorted(set(operation.query) - set(shared))]
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
