"""The table of protobuf messages agrees with the OpenAPI schemas: every field of every kind, and its type."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from kubecore.api import protobuf, scheme
from kubecore.api.scheme import DATA

TABLE = Path(__file__).parents[2] / "native/core/src/protobuf/messages.txt"
JSON = dict[str, Any]

# What types of the table are in OpenAPI: the name of a definition's type, or type and format.
SPECIAL = {
    "time": "meta.v1.Time",
    "microtime": "meta.v1.MicroTime",
    "quantity": "api.resource.Quantity",
    "intstr": "util.intstr.IntOrString",
    "orlist": "apiextensions.v1.JSONSchemaPropsOrArray",
    "orbool": "apiextensions.v1.JSONSchemaPropsOrBool",
    "orstrings": "apiextensions.v1.JSONSchemaPropsOrStringArray",
    "extension": "pkg.runtime.RawExtension",
}
SCALARS = {
    "string": ("string", None),
    "bytes": ("string", "byte"),
    "bool": ("boolean", None),
    "int32": ("integer", "int32"),
    "int64": ("integer", "int64"),
    "double": ("number", "double"),
}


class Field(NamedTuple):
    name: str
    sigil: str
    kind: str
    repeat: str


def read_table() -> tuple[dict[tuple[str, str], str], dict[str, list[Field]]]:
    """Kinds by (apiVersion, kind), and messages."""
    kinds: dict[tuple[str, str], str] = {}
    messages: dict[str, list[Field]] = {}
    for line in TABLE.read_text().splitlines():
        head, _, rest = line.partition(":")
        if line.startswith("#"):
            continue
        if line.startswith("@"):
            version, home = head[1:].split()
            for word in rest.split():
                kinds[version, word.rpartition(".")[2]] = word if "." in word else f"{home}.{word}"
        else:
            messages[head] = [read_field(word, head.rpartition(".")[0]) for word in rest.split()]
    return kinds, messages


def read_field(word: str, home: str) -> Field:
    name, _, kind = word.split(":", 2)
    sigil = name[0] if name[0] in "*!>" else ""
    repeat = kind[:2] if kind[:2] in ("[]", "{}") else ""
    bare = kind.removeprefix(repeat)
    return Field(name.removeprefix(sigil), sigil, f"{home}.{bare}" if bare[0].isupper() else bare, repeat)


KINDS, MESSAGES = read_table()
DEFINITIONS: dict[str, JSON] = orjson.loads(zlib.decompress((DATA / "schemas.json.z").read_bytes()))


def short(reference: str) -> str:
    """`#/definitions/io.k8s.api.core.v1.Pod` is core.v1.Pod."""
    return ".".join(reference.split(".")[-3:])


def flattened(message: str) -> dict[str, Field]:
    """Fields as JSON has them, by name."""
    fields: dict[str, Field] = {}
    for field in MESSAGES[message]:
        fields.update(flattened(field.kind) if field.sigil == ">" else {field.name: field})
    return fields


def in_openapi(schema: JSON) -> tuple[str, object]:
    """How a property repeats, and what it is: a definition's short name, or (type, format)."""
    if "allOf" in schema and len(schema["allOf"]) == 1:
        schema = schema["allOf"][0]
    if "$ref" in schema:
        return "", short(schema["$ref"])
    if schema.get("type") == "array":
        return "[]", in_openapi(schema["items"])
    if schema.get("type") == "object":
        return "{}", in_openapi(schema["additionalProperties"])
    return "", (schema.get("type"), schema.get("format"))


def in_table(field: Field) -> tuple[str, object]:
    kind: object = SPECIAL.get(field.kind) or SCALARS.get(field.kind) or field.kind
    alone = ("[]", ("", SCALARS["string"])) if field.kind == "strings" else ("", kind)
    return (field.repeat, alone) if field.repeat else alone


def reachable() -> list[str]:
    """The definitions of all served kinds, and those within."""
    found: list[str] = []
    waiting = [name for name in DEFINITIONS if "x-kubernetes-group-version-kind" in DEFINITIONS[name]]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.append(name)
        text = orjson.dumps(DEFINITIONS[name]).decode()
        waiting += [other for other in DEFINITIONS if f'"#/definitions/{other}"' in text]
    return sorted(name for name in found if "properties" in DEFINITIONS[name])


@pytest.mark.parametrize(
    "resource", list(scheme.every().resources), ids=lambda resource: f"{resource.key} {resource.version}"
)
def test_a_served_kind_has_a_message_and_so_has_its_list(resource: scheme.Resource) -> None:
    assert protobuf.has_form(resource.api_version, resource.kind)
    if "list" in resource.verbs:
        assert protobuf.has_form(resource.api_version, f"{resource.kind}List")
    for subresource in resource.subresources.values():
        version = f"{subresource.group}/{subresource.version}" if subresource.group else subresource.version
        assert protobuf.has_form(version, subresource.kind), subresource.name


@pytest.mark.parametrize("definition", reachable())
def test_a_message_has_the_fields_of_the_schema_and_no_others(definition: str) -> None:
    properties = DEFINITIONS[definition]["properties"]
    fields = flattened(short(definition))
    is_kind = "x-kubernetes-group-version-kind" in DEFINITIONS[definition]
    in_envelope = {"kind", "apiVersion"} if is_kind else set()
    assert set(properties) - in_envelope == set(fields)
    for name, field in fields.items():
        assert_same(in_openapi(properties[name]), in_table(field), name)


def assert_same(schema: tuple[str, object], table: tuple[str, object], name: str) -> None:
    # Free JSON has no type in OpenAPI, or is described as a map; formats like date-time are those of the messages.
    if table[1] == "json" or table[1] == ("", "json"):
        return
    assert schema == table, name
