"""OpenAPI v2 as protobuf, the only form in which older kubectls read it.

Field numbers are those of ``openapi.v2`` in gnostic's OpenAPIv2.proto. Written by hand because no Python package
carries that descriptor; only the messages that Kubernetes' document uses are here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from kubecore.api.protobuf_wire import head, message, varint
from kubecore.apiserver.openapi.v2 import DEFINITIONS, PATHS, Member, members_of

JSON = Mapping[str, Any]

# Schema: scalar and list keywords whose values are plain.
_SCHEMA_TEXTS = {"$ref": 1, "format": 2, "title": 3, "description": 4, "pattern": 13}
_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "options": 6, "head": 7, "patch": 8}


def encode(document: JSON) -> bytes:
    """A Swagger document as `openapi.v2.Document`."""
    return encoded(members_of(document), document)


def encoded(found: Iterable[Member], rest: JSON) -> bytes:
    """The document of these members and the rest, of which only what is no member counts. It is put together once: it
    may be long."""
    written: dict[str, dict[str, bytes]] = {PATHS: {}, DEFINITIONS: {}}
    for place, name, value in found:
        member = message(2, _named(name, _path_item(value))) if place == PATHS else _definition(name, value)
        written[place][name] = member
    info, schemes = rest["info"], rest.get("securityDefinitions", {})
    parts = [_text(1, rest["swagger"]), message(2, _text(1, info["title"]) + _text(2, info["version"]))]
    for number, place in ((8, PATHS), (9, DEFINITIONS)):
        members = [member for _, member in sorted(written[place].items())]
        parts += (head(number, sum(map(len, members))), *members)
    parts += (message(12, _requirement(one)) for one in rest.get("security", ()))
    parts.append(message(13, b"".join(message(1, _named(name, _api_key(one))) for name, one in schemes.items())))
    return b"".join(parts)


# --- the wire format


def _text(number: int, value: str) -> bytes:
    return message(number, value.encode()) if value else b""


def _texts(number: int, values: Iterable[str]) -> bytes:
    return b"".join(message(number, value.encode()) for value in values)


def _flag(number: int, value: bool) -> bytes:
    return varint(number << 3) + b"\x01" if value else b""


def _named(name: str, value: bytes) -> bytes:
    """NamedSchema and its likes: a map entry."""
    return _text(1, name) + message(2, value)


def _any(value: Any) -> bytes:
    """Any value as YAML, of which JSON is a part."""
    return message(2, orjson.dumps(value))


def _extensions(number: int, described: JSON) -> bytes:
    return b"".join(
        message(number, _named(key, _any(value))) for key, value in described.items() if key.startswith("x-")
    )


# --- the messages


def _definition(name: str, schema: JSON) -> bytes:
    return message(1, _named(name, _schema(schema)))


def _schema(schema: JSON) -> bytes:
    parts = [_text(number, schema[key]) for key, number in _SCHEMA_TEXTS.items() if key in schema]
    if "default" in schema:
        parts.append(message(5, _any(schema["default"])))
    parts.append(_texts(19, schema.get("required", ())))
    parts += [message(20, _any(value)) for value in schema.get("enum", ())]
    additional = schema.get("additionalProperties")
    if isinstance(additional, bool):
        parts.append(message(21, _flag(2, additional)))
    elif additional is not None:
        parts.append(message(21, message(1, _schema(additional))))
    if "type" in schema:
        parts.append(message(22, _text(1, schema["type"])))
    if "items" in schema:
        parts.append(message(23, message(1, _schema(schema["items"]))))
    properties = schema.get("properties")
    if properties:
        parts.append(message(25, b"".join(message(1, _named(key, _schema(one))) for key, one in properties.items())))
    parts.append(_extensions(31, schema))
    return b"".join(parts)


def _path_item(item: JSON) -> bytes:
    methods = b"".join(message(number, _operation(item[name])) for name, number in _METHODS.items() if name in item)
    return methods + b"".join(message(9, _parameter(one)) for one in item.get("parameters", ()))


def _operation(operation: JSON) -> bytes:
    responses = b"".join(
        message(1, _named(code, message(1, _response(one)))) for code, one in operation["responses"].items()
    )
    return b"".join(
        (
            _texts(1, operation["tags"]),
            _text(5, operation["operationId"]),
            _texts(6, operation["produces"]),
            _texts(7, operation.get("consumes", ())),
            b"".join(message(8, _parameter(one)) for one in operation.get("parameters", ())),
            message(9, responses),
            _texts(10, operation["schemes"]),
            _extensions(13, operation),
        )
    )


def _response(response: JSON) -> bytes:
    schema = message(2, message(1, _schema(response["schema"]))) if "schema" in response else b""
    return _text(1, response["description"]) + schema


def _parameter(parameter: JSON) -> bytes:
    """A ParametersItem: which message it is depends on where the parameter goes."""
    description, name, place = parameter.get("description", ""), parameter["name"], parameter["in"]
    required = parameter.get("required", False)
    if place == "body":
        texts = _text(1, description) + _text(2, name) + _text(3, place)
        body = texts + _flag(4, required) + message(5, _schema(parameter["schema"]))
        return message(1, message(1, body))
    common = _flag(1, required) + _text(2, place) + _text(3, description) + _text(4, name)
    unique = parameter.get("uniqueItems", False)
    if place == "query":
        plain = message(3, common + _text(6, parameter["type"]) + _flag(20, unique))
    else:
        plain = message(4, common + _text(5, parameter["type"]) + _flag(19, unique))
    return message(1, message(2, plain))


def _requirement(requirement: Mapping[str, list[str]]) -> bytes:
    return b"".join(message(1, _named(name, _texts(1, scopes))) for name, scopes in requirement.items())


def _api_key(scheme: JSON) -> bytes:
    texts = _text(1, scheme["type"]) + _text(2, scheme["name"]) + _text(3, scheme["in"])
    return message(2, texts + _text(4, scheme["description"]))
