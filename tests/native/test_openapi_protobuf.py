"""Documents of OpenAPI v3 in protobuf, read by protobuf's own library with gnostic's numbers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from kubecore.api import protobuf

# The part of gnostic's OpenAPIv3.proto that is asked about: fields, their numbers and types; * is for lists.
_MESSAGES = """
Document openapi=1:string paths=4:Paths components=5:Components
Paths path=1*NamedPathItem specification_extension=2*NamedAny
NamedPathItem name=1:string value=2:PathItem
PathItem ref=1:string get=4:Operation
Operation tags=1*string operation_id=5:string responses=8:Responses specification_extension=13*NamedAny
Responses default=1:ResponseOrReference response_or_reference=2*NamedResponseOrReference
NamedResponseOrReference name=1:string value=2:ResponseOrReference
ResponseOrReference response=1:Response reference=2:Reference
Response description=1:string
Reference ref=1:string
Components schemas=1:SchemasOrReferences
SchemasOrReferences additional_properties=1*NamedSchemaOrReference
NamedSchemaOrReference name=1:string value=2:SchemaOrReference
SchemaOrReference schema=1:Schema reference=2:Reference
Properties additional_properties=1*NamedSchemaOrReference
ItemsItem schema_or_reference=1*SchemaOrReference
AdditionalPropertiesItem schema_or_reference=1:SchemaOrReference boolean=2:bool
DefaultType number=1:double boolean=2:bool string=3:string
NamedAny name=1:string value=2:Any
Any yaml=2:string
Schema nullable=1:bool maximum=11:double min_length=16:int64 required=23*string enum=24*Any type=25:string \
all_of=26*SchemaOrReference items=30:ItemsItem properties=31:Properties \
additional_properties=32:AdditionalPropertiesItem default=33:DefaultType specification_extension=36*NamedAny
"""


@pytest.fixture(scope="module")
def document() -> type[message.Message]:
    field_type = descriptor_pb2.FieldDescriptorProto
    scalars = {
        "string": field_type.TYPE_STRING,
        "bool": field_type.TYPE_BOOL,
        "double": field_type.TYPE_DOUBLE,
        "int64": field_type.TYPE_INT64,
    }
    file = descriptor_pb2.FileDescriptorProto(name="openapi_v3.proto", package="t", syntax="proto3")
    for line in _MESSAGES.strip().splitlines():
        name, *fields = line.split()
        described = file.message_type.add(name=name)
        unions = name.endswith(("OrReference", "DefaultType", "AdditionalPropertiesItem")) and "Named" not in name
        if unions:
            described.oneof_decl.add(name="oneof")
        for word in fields:
            field, _, rest = word.partition("=")
            number, mark, kind = rest.partition("*" if "*" in rest else ":")
            added = described.field.add(
                name=field,
                number=int(number),
                label=field_type.LABEL_REPEATED if mark == "*" else field_type.LABEL_OPTIONAL,
                type=scalars.get(kind, field_type.TYPE_MESSAGE),
                type_name=None if kind in scalars else f".t.{kind}",
            )
            if unions:
                added.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Document"))


def read(document: type[message.Message], written: dict[str, Any]) -> Any:
    return document.FromString(protobuf.encode_openapi_v3(orjson.dumps(written)))


def schema(document: type[message.Message], written: dict[str, Any]) -> Any:
    [only] = read(document, {"components": {"schemas": {"Own": written}}}).components.schemas.additional_properties
    return only.value.schema


def test_paths_operations_and_responses_are_there(document: type[message.Message]) -> None:
    get = {"tags": ["a", "b"], "operationId": "read", "responses": {"200": {"description": "OK"}}, "x-action": "get"}
    [path] = read(document, {"openapi": "3.0.0", "paths": {"/api": {"get": get}}}).paths.path
    operation = path.value.get
    assert (path.name, list(operation.tags), operation.operation_id) == ("/api", ["a", "b"], "read")
    [response] = operation.responses.response_or_reference
    assert (response.name, response.value.response.description) == ("200", "OK")
    assert [(one.name, one.value.yaml) for one in operation.specification_extension] == [("x-action", '"get"')]


def test_what_is_only_a_reference_is_no_schema(document: type[message.Message]) -> None:
    found = schema(
        document, {"properties": {"a": {"$ref": "#/b"}}, "allOf": [{"$ref": "#/c"}], "items": {"$ref": "#/d"}}
    )
    [property_] = found.properties.additional_properties
    assert (property_.name, property_.value.reference.ref) == ("a", "#/b")
    assert [one.reference.ref for one in found.all_of] == ["#/c"]
    assert [one.reference.ref for one in found.items.schema_or_reference] == ["#/d"]


def test_numbers_and_flags_have_their_types(document: type[message.Message]) -> None:
    found = schema(
        document, {"nullable": True, "maximum": 9, "minLength": 3, "required": ["a"], "enum": [1, "b", None]}
    )
    assert (found.nullable, found.maximum, found.min_length, list(found.required)) == (True, 9.0, 3, ["a"])
    assert [one.yaml for one in found.enum] == ["1", '"b"', "null"]


@pytest.mark.parametrize(
    ("default", "kind", "value"),
    [(0, "number", 0.0), (1.5, "number", 1.5), (False, "boolean", False), ("", "string", ""), ({}, None, None)],
)
def test_defaults_keep_their_types_even_if_they_are_zero(
    document: type[message.Message], default: object, kind: str | None, value: object
) -> None:
    found = schema(document, {"default": default})
    assert found.HasField("default")
    assert found.default.WhichOneof("oneof") == kind
    assert kind is None or getattr(found.default, kind) == value


def test_more_properties_are_a_flag_or_a_schema(document: type[message.Message]) -> None:
    assert schema(document, {"additionalProperties": True}).additional_properties.boolean is True
    nested = schema(document, {"additionalProperties": {"type": "string"}}).additional_properties
    assert nested.schema_or_reference.schema.type == "string"


def test_properties_may_be_named_as_extensions_and_keywords_are(document: type[message.Message]) -> None:
    written = {"properties": {"x-own": {"type": "string"}, "default": {"type": "boolean"}}, "x-list": ["a", {"b": 1}]}
    found = schema(document, written)
    named = {one.name: one.value.schema.type for one in found.properties.additional_properties}
    assert named == {"x-own": "string", "default": "boolean"}
    [extension] = found.specification_extension
    assert (extension.name, orjson.loads(extension.value.yaml)) == ("x-list", ["a", {"b": 1}])


def test_what_gnostic_has_no_field_for_is_left_out(document: type[message.Message]) -> None:
    assert schema(document, {"type": "string", "patternProperties": {"a": {}}}).type == "string"


def test_a_deep_schema_is_written() -> None:
    deep: dict[str, Any] = {"type": "innermost"}
    for _ in range(90):
        deep = {"properties": {"a": deep}}
    assert b"innermost" in protobuf.encode_openapi_v3(orjson.dumps({"components": {"schemas": {"Own": deep}}}))


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="key must be a string"):
        protobuf.encode_openapi_v3(b"{nonsense")
