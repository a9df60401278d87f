"""Objects of custom kinds: many values for many schemas, new and in place of others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import orjson

from kubecore.api import errors, schemas
from kubecore.api.errors import Cause, StatusError
from kubecore.api.schemas import SchemaError
from kubecore.apiserver.registry.custom import definition as definitions_read
from kubecore.apiserver.registry.custom.strategy import CustomResourceStrategy
from kubecore.apiserver.registry.validation.metadata import validate_metadata, validate_metadata_update
from tests.e2e.validation.comparing import Answer, refused
from tests.e2e.validation.corpus import Case
from tests.e2e.validation.definitions import PLAIN, definition, whole
from tests.unit.apiserver.registry.writing import Writer

JSON = dict[str, Any]

_TEXT: JSON = {"type": "string"}
_PAIR: JSON = {"type": "object", "properties": {"k": _TEXT, "v": {"type": "integer"}}}

# Schemas of a field, beside the plain ones, with what they are about.
_BOUNDED: dict[str, JSON] = {
    "text of some length": {"type": "string", "minLength": 2, "maxLength": 3},
    "pattern": {"type": "string", "pattern": "^a+$"},
    "choice": {"type": "string", "enum": ["a", "b c", ""]},
    "odd choice": {
        "type": "object",
        "enum": [{"k": "a"}, {"k": 1}],
        "properties": {"k": {"x-kubernetes-int-or-string": True}},
    },
    "nullable": {"type": "string", "nullable": True},
    "nullable choice": {"type": "string", "nullable": True, "enum": ["a", None]},
    "number": {"type": "number"},
    "bounded number": {"type": "number", "minimum": 0, "maximum": 2.5, "exclusiveMinimum": True},
    "multiple": {"type": "number", "multipleOf": 0.5},
    "whole multiple": {"type": "integer", "multipleOf": 3},
    "bounded integer": {"type": "integer", "minimum": 1, "maximum": 3, "exclusiveMaximum": True},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "float": {"type": "number", "format": "float"},
    "boolean": {"type": "boolean"},
    "few": {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 2},
    "some keys": {"type": "object", "additionalProperties": True, "minProperties": 1, "maxProperties": 2},
    "closed": {"type": "object", "additionalProperties": False},
    "required": {**_PAIR, "required": ["k", "v"]},
    "default": {"type": "object", "properties": {"k": {"type": "string", "default": "a"}, "v": {"type": "integer"}}},
    "defaults within": {
        "type": "array",
        "items": {"type": "object", "properties": {"k": {"type": "string", "default": "a"}}},
    },
    "default for null": {"type": "object", "properties": {"k": {"type": "string", "default": "a", "nullable": True}}},
    "whole default": {**_PAIR, "default": {"k": "a"}},
    "any of": {
        "type": "object",
        "properties": {"k": _TEXT, "v": {"type": "integer"}},
        "anyOf": [{"required": ["k"]}, {"required": ["v"]}],
    },
    "one of": {
        "type": "object",
        "properties": {"k": _TEXT, "v": {"type": "integer"}},
        "oneOf": [{"required": ["k"]}, {"required": ["v"]}],
    },
    "all of": {"type": "string", "allOf": [{"minLength": 2}, {"pattern": "a"}]},
    "not": {"type": "string", "not": {"pattern": "a"}},
    "set of lists": {
        "type": "array",
        "x-kubernetes-list-type": "set",
        "items": {"type": "array", "items": _TEXT, "x-kubernetes-list-type": "atomic"},
    },
    "keyed by two": {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k", "v"],
        "items": {
            "type": "object",
            "required": ["k"],
            "properties": {"k": {"type": "string", "minLength": 1}, "v": {"type": "integer", "default": 1}},
        },
    },
    "preserved around": {**_PAIR, "x-kubernetes-preserve-unknown-fields": True},
    "embedded and open": {
        "type": "object",
        "x-kubernetes-embedded-resource": True,
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {"spec": _PAIR},
    },
    **{
        f"format {name}": {"type": "string", "format": name}
        for name in (
            "date",
            "date-time",
            "byte",
            "email",
            "uuid",
            "ipv4",
            "ipv6",
            "cidr",
            "mac",
            "uri",
            "hostname",
            "duration",
            "k8s-short-name",
            "isbn",
            "creditcard",
            "hexcolor",
            "rgbcolor",
            "ssn",
            "bsonobjectid",
            "password",
            "datetime",
        )
    },
}

# With rules: what they hold, what they say, when they compare.
_RULED: dict[str, JSON] = {
    "a rule": {**_PAIR, "x-kubernetes-validations": [{"rule": "!has(self.v) || self.v > 1"}]},
    "a message": {**_PAIR, "x-kubernetes-validations": [{"rule": "has(self.k)", "message": " k is needed "}]},
    "a made message": {
        **_PAIR,
        "x-kubernetes-validations": [
            {"rule": "self.v > 1", "messageExpression": "'v is ' + string(self.v)", "message": "m"}
        ],
    },
    "a reason": {
        **_PAIR,
        "x-kubernetes-validations": [
            {"rule": "!has(self.v) || self.v > 1", "reason": reason, "fieldPath": ".v"}
            for reason in ("FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate", "FieldValueInvalid")
        ],
    },
    "a transition": {**_PAIR, "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}]},
    "an optional transition": {
        **_PAIR,
        "x-kubernetes-validations": [
            {"rule": "oldSelf.hasValue() && self == oldSelf.value()", "optionalOldSelf": True}
        ],
    },
    "rules on items": {
        "type": "array",
        "maxItems": 5,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
        "items": {
            **_PAIR,
            "required": ["k"],
            "x-kubernetes-validations": [{"rule": "self.v > 1"}, {"rule": "self.v >= oldSelf.v"}],
        },
    },
    "rules on values": {
        "type": "object",
        "additionalProperties": {"type": "string", "x-kubernetes-validations": [{"rule": "self != 'a'"}]},
    },
    "a rule on text": {
        "type": "string",
        "x-kubernetes-validations": [{"rule": "self.startsWith('a')", "reason": "FieldValueDuplicate"}],
    },
    "a rule on lists": {"type": "array", "items": _TEXT, "x-kubernetes-validations": [{"rule": "self[0] == 'a'"}]},
}

_TIMES = ("2026-01-02T03:04:05Z", "2026-01-02", "2026-13-02", "2026-01-02T03:04:05.5+01:00", "1h", "YQ==", "a@b.c")
_VALUES: list[Any] = [
    None,
    True,
    0,
    1,
    2,
    3,
    -1,
    2**31,
    2**63 - 1,
    0.5,
    1.5,
    2.0,
    1e20,
    "",
    "a",
    "aa",
    "aaaa",
    "ä€",
    "b c",
    *_TIMES,
    "12345678-1234-1234-1234-123456789abc",
    "1.2.3.4",
    "::1",
    "10.0.0.0/8",
    "00:11:22:33:44:55",
    "http://a/b",
    [],
    ["a"],
    ["a", "a"],
    ["a", "b", "c"],
    ["a", 1, None],
    [["a"], ["a"]],
    [[1], ["x"]],
    [{"k": "a"}],
    [{"k": "a", "v": 1}, {"k": "a", "v": 1}],
    [{"k": "a", "v": 2}, {"k": "b", "v": 2}],
    [{"k": "a", "v": 3}, {"k": "b", "v": 1}],
    [{"v": 1}, {"v": 1}],
    [None],
    [{"k": None, "z": 1}],
    {},
    {"k": "a"},
    {"k": "a", "v": 1},
    {"k": "a", "v": 2},
    {"k": 1, "v": "a"},
    {"k": None},
    {"k": None, "v": None},
    {"v": 1},
    {"a": "b", "c": "d", "e": "f"},
    {"a": "a", "k": {"z": 1}},
    {"kind": "A", "apiVersion": "v1"},
    {"kind": "A", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": {"k": "a", "z": 1}, "z": 1},
    {"kind": "a b", "apiVersion": "a/b/c", "metadata": {"name": "a/b", "labels": {"-": "-"}, "namespace": "A"}},
    {"kind": "", "apiVersion": "", "metadata": {"generateName": "%", "finalizers": ["x y"], "z": 1}},
    {"kind": "A", "apiVersion": "v1", "metadata": {"annotations": {"A/b c": "d"}, "ownerReferences": [{"uid": ""}]}},
]
# What old objects have, for updates.
_OF_WRONG_TYPES = {"k": 1, "v": "a"}
_OLD: list[Any] = [
    {"k": "a", "v": 1},
    1,
    ["a", 1, None],
    "a",
    [{"k": "a", "v": 1}, {"k": "a", "v": 1}],
    [{"k": "a", "v": 3}, {"k": "b", "v": 1}],
    {"k": "a", "v": 2},
    _OF_WRONG_TYPES,
]
SCALED = {"specReplicasPath": ".spec.x.v", "statusReplicasPath": ".status.x.v", "labelSelectorPath": ".status.x.k"}


def kinds() -> dict[str, JSON]:
    """Definitions by what their objects are about. The field is `spec.x`, and `status.x`."""
    found = {name: definition(_about(schema)) for name, schema in {**PLAIN, **_BOUNDED, **_RULED}.items()}
    for name in ("object", "required", "default", "a transition", "keyed list"):
        schema = {**PLAIN, **_BOUNDED, **_RULED}[name]
        given = definition(_about(schema), status=True)
        found[f"{name}, with status"] = given
        scaled = deepcopy(given)
        scaled["spec"]["versions"][0]["subresources"]["scale"] = SCALED
        found[f"{name}, with scale"] = scaled
    root = _about(_PAIR) | {"x-kubernetes-validations": [{"rule": "self.metadata.name != 'b' || has(self.spec.x)"}]}
    root["properties"]["metadata"] = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}}
    found["a rule of the whole"] = definition(root)
    return found


def _about(schema: JSON) -> JSON:
    made: JSON = whole({"type": "object", "properties": {"x": schema}})
    made["properties"]["status"] = {"type": "object", "properties": {"x": schema}}
    return made


def _object(value: Any, name: str = "a", **more: Any) -> JSON:
    metadata = {"name": name, "namespace": "default"}
    whole_object = {"apiVersion": "example.com/v1", "kind": "Judged", "metadata": metadata, "spec": {"x": value}}
    return {**whole_object, **more}


def cases(kind: str, given: JSON) -> Iterator[Case]:
    for value in _VALUES:
        yield Case(f"{kind}: {value}", "create", _object(value))
    odd: list[JSON] = [
        _object({"k": "a"}, spec=None),
        _object({"k": "a"}, spec=[]),
        _object({"k": "a"}, status={"x": "a", "y": 1}, z=1),
        _object({"k": "a"}, status="a"),
        _object({"k": "a"}, kind="Other"),
        _object(None, "b"),
        _object({"k": "a"}, "Bad_Name"),
        _object({"k": "a"}, "abcd"),
        {"apiVersion": "example.com/v1", "kind": "Judged", "metadata": {"name": "b", "namespace": "default"}},
    ]
    for number, obj in enumerate(odd):
        yield Case(f"{kind}: odd {number}", "create", obj)
    if kind.startswith("format "):
        return
    for old, new in itertools.product(_OLD, [*_OLD, None, {}, {"k": "a", "v": 1, "z": 1}]):
        # Of several members of wrong types Kubernetes tells of whichever Go's map has first, never the same.
        if (kind, old) != ("an optional transition", _OF_WRONG_TYPES):
            yield Case(f"{kind}: {new} in place of {old}", "update", _stored(new, old), _stored(old, old))
    if "status" in given["spec"]["versions"][0].get("subresources", {}):
        for old, new in itertools.product(_OLD[:3], _VALUES):
            yield Case(f"{kind}: status {new} in place of {old}", "status", _stored(old, new), _stored(old, old))


def _stored(value: Any, status: Any) -> JSON:
    obj = _object(value, status={"x": status})
    obj["metadata"] |= {"uid": "u", "resourceVersion": "1", "generation": 1}
    return obj


class CustomRegistry:
    """What kubecore makes of objects of one definition: it decodes them and runs the strategy's hooks as the store."""

    def __init__(self, given: JSON) -> None:
        body = orjson.dumps({**given, "status": {"acceptedNames": given["spec"]["names"], "storedVersions": ["v1"]}})
        read = definitions_read.parse(body)
        [version] = read.versions
        schema = definitions_read.schema_of(body, "v1")
        self._schema = schemas.custom(schema, api_version=read.api_version("v1"), kind=read.kind)
        self._has_status = version.status
        self._strategy = CustomResourceStrategy(read, version, self._schema)
        # Only for what a request says of itself.
        self._context = Writer("configmaps").context

    def ask(self, case: Case) -> Answer:
        try:
            obj = self._decoded(case.obj)
            if case.old is None:
                return Answer(self._create(obj))
            old = self._decoded(case.old)
            self._strategy.default(old)
            return Answer(self._update(obj, old, "" if case.operation == "update" else case.operation))
        except SchemaError as error:
            return Answer(refusal=f"BadRequest: {error}")
        except StatusError as error:
            return refused(error.to_status())

    def _decoded(self, obj: JSON) -> JSON:
        made: JSON = orjson.loads(self._schema.decode(orjson.dumps(obj), "application/json", "Ignore").body)
        return made

    def _create(self, obj: JSON) -> JSON:
        ctx = self._context("create", obj["metadata"]["name"])
        if self._has_status:
            obj.pop("status", None)
        self._strategy.default(obj)
        self._strategy.prepare_for_create(ctx, obj)
        causes = validate_metadata(obj, namespaced=True, name_errors=self._strategy.name_errors)
        self._refuse([*causes, *self._strategy.validate(ctx, obj)])
        return _encoded(obj)

    def _update(self, obj: JSON, old: JSON, subresource: str) -> JSON:
        ctx = self._context("update", obj["metadata"]["name"], subresource)
        strategy = self._strategy
        if subresource:
            obj = {
                **deepcopy(old),
                "metadata": obj["metadata"],
                **({"status": obj["status"]} if "status" in obj else {}),
            }
        elif self._has_status and "status" in old:
            obj["status"] = deepcopy(old["status"])
        elif self._has_status:
            obj.pop("status", None)
        strategy.default(obj)
        if subresource:
            strategy.prepare_for_status_update(ctx, obj, old)
        else:
            strategy.prepare_for_update(ctx, obj, old)
        causes = validate_metadata(obj, namespaced=True, name_errors=strategy.name_errors)
        causes += validate_metadata_update(obj, old)
        if subresource:
            causes += strategy.validate_status_update(ctx, obj, old)
        else:
            causes += [*strategy.validate(ctx, obj), *strategy.validate_update(ctx, obj, old)]
        self._refuse(causes)
        return _encoded(obj)

    @staticmethod
    def _refuse(causes: list[Cause]) -> None:
        if causes:
            raise errors.invalid("Judged", "a", causes, group="example.com")


def _encoded(obj: JSON) -> JSON:
    """As the registry's codec writes it."""
    stored: JSON = orjson.loads(schemas.with_gos_numbers(orjson.dumps(obj)))
    return stored
