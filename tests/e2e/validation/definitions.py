"""CustomResourceDefinitions, right and wrong: schemas with one keyword more, wherever it may stand."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from tests.e2e.validation.corpus import Case

JSON = dict[str, Any]

KIND = "CustomResourceDefinition"
_STRING: JSON = {"type": "string"}
_INT_OR_STRING: JSON = {"x-kubernetes-int-or-string": True}
_ANY_OF: JSON = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
_PAIR: JSON = {"type": "object", "properties": {"k": _STRING, "v": {"type": "integer"}}}
_KEYED: JSON = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["k"],
    "items": {**_PAIR, "required": ["k"]},
}
_EMBEDDED: JSON = {
    "type": "object",
    "x-kubernetes-embedded-resource": True,
    "properties": {
        "kind": _STRING,
        "apiVersion": _STRING,
        "metadata": {"type": "object", "properties": {"name": _STRING}},
        "spec": _PAIR,
    },
}

# Schemas that are right.
PLAIN: dict[str, JSON] = {
    "string": _STRING,
    "integer": {"type": "integer"},
    "object": _PAIR,
    "map": {"type": "object", "additionalProperties": _STRING},
    "map of objects": {"type": "object", "additionalProperties": _PAIR},
    "list": {"type": "array", "items": _STRING},
    "list of objects": {"type": "array", "items": _PAIR},
    "list of lists": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
    "set": {"type": "array", "items": _STRING, "x-kubernetes-list-type": "set"},
    "keyed list": _KEYED,
    "int or string": _INT_OR_STRING,
    "int or string, told": {**_INT_OR_STRING, **_ANY_OF},
    "int or string in allOf": {**_INT_OR_STRING, "allOf": [_ANY_OF, {"pattern": "a"}]},
    "embedded": _EMBEDDED,
    "raw": {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
    "preserved": {"x-kubernetes-preserve-unknown-fields": True},
    "preserved list": {"type": "array", "items": _PAIR, "x-kubernetes-preserve-unknown-fields": True},
}

# Keywords with values that are wrong in most places, and right in some.
KEYWORDS: dict[str, list[Any]] = {
    "type": ["", "null", "text", "array", "object", "string", "integer", "number", "boolean"],
    "nullable": [True],
    "format": ["date", "byte", "strange"],
    "title": ["t"],
    "description": ["d"],
    "default": [
        "x",
        1,
        -0.5,
        True,
        [],
        ["a", "a"],
        {},
        {"k": "x"},
        {"k": "x", "z": 1},
        [{"k": "a"}],
        {"k": 1},
        None,
        {"apiVersion": "v1", "kind": "A", "metadata": {"name": "B b"}},
        {"kind": "a b", "apiVersion": "a/b/c"},
    ],
    "maximum": [3],
    "exclusiveMaximum": [True],
    "multipleOf": [2.5],
    "maxLength": [0, -1],
    "minLength": [2],
    "pattern": ["a", "(", "[b-a]", "a{2,1}", "a**", r"\y", "(?P<n>a)(?P<n>b)", "x{1001}", "(?=a)", r"\pX", "a{,2}"],
    "maxItems": [0],
    "uniqueItems": [True, False],
    "enum": [["a"], [1, None]],
    "maxProperties": [1],
    "required": [["k"], ["zz"]],
    "items": [_STRING, {}, [_STRING], {"type": "array"}, {**_PAIR, "nullable": True}, {"type": "object"}],
    "properties": [{}, {"k": {}}, {"metadata": {"type": "string"}}, {"kind": {"type": "integer"}}, {"q": _KEYED}],
    "additionalProperties": [True, False, {}, _STRING, {"type": "object", "default": {}}],
    "allOf": [
        [{}],
        [_STRING],
        [{"properties": {"q": {"minimum": 1}}}],
        [{"items": {"maxLength": 3}}],
        [{"properties": {"k": {"maxLength": 3}, "metadata": {}}}],
        [{"not": {"anyOf": [{"required": ["k"]}]}}],
    ],
    "oneOf": [[{"required": ["k"]}], [{"properties": {"k": {"properties": {"z": {}}}}}]],
    "anyOf": [
        [{"type": "integer"}, {"type": "string"}],
        [{"type": "string"}, {"type": "integer"}],
        [{"type": "integer", "maximum": 1}, {"type": "string"}],
        [{"title": "a", "description": "b", "default": 1}],
        [{"nullable": True, "additionalProperties": False}, {"additionalProperties": _STRING}],
        [{"x-kubernetes-list-type": "set", "x-kubernetes-map-type": "atomic", "x-kubernetes-list-map-keys": ["a"]}],
        [{"x-kubernetes-preserve-unknown-fields": True, "x-kubernetes-embedded-resource": True, **_INT_OR_STRING}],
        [{"pattern": "("}, {"x-kubernetes-validations": [{"rule": "true"}]}],
    ],
    "not": [{}, {"type": "string"}, {"required": ["k"]}, {"items": {"items": {}}}],
    "patternProperties": [{"a": _STRING}],
    "dependencies": [{"a": ["b"]}, {"a": {"id": "x"}}],
    "additionalItems": [True, False, _STRING],
    "definitions": [{"a": {"type": "text"}}],
    "id": ["i"],
    "$schema": ["s"],
    "$ref": ["#/definitions/a", ""],
    "externalDocs": [{"url": "u"}],
    "example": [1],
    "x-kubernetes-preserve-unknown-fields": [True, False],
    "x-kubernetes-embedded-resource": [True],
    "x-kubernetes-int-or-string": [True],
    "x-kubernetes-list-type": ["atomic", "set", "map", "bag", ""],
    "x-kubernetes-list-map-keys": [["k"], ["k", "k"], ["zz"], ["v", "k"]],
    "x-kubernetes-map-type": ["atomic", "granular", "strange"],
    "x-kubernetes-validations": [[], [{"rule": ""}], [{"rule": " "}], [{"rule": "true", "message": " "}]]
    + [[{"rule": "true", "message": "a\nb"}], [{"rule": "true\n&& true"}], [{"rule": "true\n", "message": "ok"}]]
    + [[{"rule": "true", "messageExpression": " "}], [{"rule": "true", "reason": "Odd"}]]
    + [[{"rule": "true", "reason": "FieldValueForbidden", "fieldPath": path}] for path in (" ", ".k", ".k\n", "k", ".")]
    + [
        [{"rule": "true", "fieldPath": path}]
        for path in (".zz", "['k']", "['k'", "[k]", ".k.z", "[0]", "['a.b']", "..")
    ],
}

# Where a schema may stand that is looked at: what is around it, with itself at the place of `HERE`.
HERE = "HERE"
_AROUND: dict[str, Any] = {
    "items": {"type": "array", "items": HERE},
    "set items": {"type": "array", "x-kubernetes-list-type": "set", "items": HERE},
    "values": {"type": "object", "additionalProperties": HERE},
    "allOf": {"type": "object", "properties": {"k": _STRING}, "allOf": [HERE]},
    "not in anyOf": {"type": "array", "items": _STRING, "anyOf": [{"not": HERE}, {}]},
    "metadata": {
        "type": "object",
        "x-kubernetes-embedded-resource": True,
        "properties": {"metadata": {"type": "object", "properties": {"name": HERE, "labels": {"type": "object"}}}},
    },
    "labels": {
        "type": "object",
        "x-kubernetes-embedded-resource": True,
        "properties": {
            "metadata": {
                "type": "object",
                "properties": {"labels": {"type": "object", "additionalProperties": HERE}},
            }
        },
    },
}


def definition(*schemas: JSON, status: bool = False, **spec: Any) -> JSON:
    """One version for each schema of the whole object."""
    subresources: JSON = {"subresources": {"status": {}}} if status else {}
    versions = [
        {"name": f"v{number}", "served": True, "storage": number == 1, "schema": {"openAPIV3Schema": schema}}
        | subresources
        for number, schema in enumerate(schemas, 1)
    ]
    names = {"plural": "judged", "singular": "judged", "kind": "Judged", "listKind": "JudgedList"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": KIND,
        "metadata": {"name": "judged.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": versions, **spec},
    }


def whole(spec: JSON, **more: Any) -> JSON:
    """The schema of an object with a spec."""
    return {"type": "object", "properties": {"spec": spec, "status": {"type": "object"}}, **more}


def put(around: Any, schema: JSON) -> Any:
    """`around` with the schema at its place."""
    if around == HERE:
        return deepcopy(schema)
    if isinstance(around, dict):
        return {name: put(value, schema) for name, value in around.items()}
    return [put(value, schema) for value in around] if isinstance(around, list) else around


def _varied() -> Iterator[tuple[str, JSON]]:
    """(what it is, schema) of a field."""
    for name, schema in PLAIN.items():
        yield name, schema
        for keyword, values in KEYWORDS.items():
            for value in values:
                yield f"{name} with {keyword}={value}", {**schema, keyword: value}


def _moved() -> Iterator[tuple[str, JSON]]:
    for place, around in _AROUND.items():
        for name in ("string", "object", "keyed list"):
            yield f"{name} as {place}", put(around, PLAIN[name])
        yield f"nothing as {place}", put(around, {})
        for keyword, values in KEYWORDS.items():
            for value in values:
                yield f"{keyword}={value} as {place}", put(around, {keyword: value})
                yield f"string with {keyword}={value} as {place}", put(around, {**_STRING, keyword: value})


def creates() -> Iterator[Case]:
    for name, schema in (*_varied(), *_moved()):
        yield Case(name, "create", definition(whole(schema)))
    for keyword, values in KEYWORDS.items():
        for value in values:
            root = {**whole(_PAIR), keyword: value}
            yield Case(f"root with {keyword}={value}", "create", definition(root))
            yield Case(f"root with status and {keyword}={value}", "create", definition(root, status=True))
            metadata = {"type": "object", "properties": {"spec": _PAIR, "metadata": {"type": "object", keyword: value}}}
            yield Case(f"root metadata with {keyword}={value}", "create", definition(metadata))
            named = {
                "type": "object",
                "properties": {"metadata": {"type": "object", "properties": {"name": {keyword: value}}}},
            }
            yield Case(f"root name with {keyword}={value}", "create", definition(named))
    yield from _specs()


def _specs() -> Iterator[Case]:
    """Definitions of several versions, and what is not about schemas."""
    one, other = whole(_PAIR), whole(_STRING)
    bad = whole({"type": "text"})
    made: dict[str, JSON] = {
        "two versions": definition(one, other),
        "two alike": definition(one, one),
        "two bad ones": definition(bad, bad),
        "a bad one of two": definition(one, bad),
        "without versions": definition(),
        "preserving": definition(one, preserveUnknownFields=True),
        "preserving with defaults": definition(whole({**_STRING, "default": "a"}), preserveUnknownFields=True),
    }
    for name, given in made.items():
        yield Case(name, "create", given)
    changes: dict[str, list[Any]] = {
        "name": ["", "V1", "v-1", "v" * 64, "1"],
        "deprecationWarning": ["", "a", "\u0007", "a" * 257, "ä" * 200],
        "storage": [False],
        "schema": [None, {}, {"openAPIV3Schema": {}}],
        "subresources": [{}, {"status": {}}, {"scale": {}}]
        + [
            {"scale": {"specReplicasPath": a, "statusReplicasPath": b}}
            for a in (".spec.a", "spec", "")
            for b in (".a", "x")
        ]
        + [
            {"scale": {"specReplicasPath": ".spec.a", "statusReplicasPath": ".status.a", "labelSelectorPath": path}}
            for path in ("", "x", ".a", ".spec.b", ".status.c", ".")
        ],
        "additionalPrinterColumns": [[{"name": "", "type": "", "jsonPath": ""}]]
        + [[{"name": "A", "type": kind, "jsonPath": path}] for kind in ("string", "text") for path in (".a", "a", "..")]
        + [[{"name": "A", "type": "string", "jsonPath": ".a", "format": form}] for form in ("date", "name", "x")],
        "selectableFields": [[{"jsonPath": path}] for path in ("", ".spec.k", ".spec", ".spec.z", "spec", ".spec['k']")]
        + [[{"jsonPath": path}] for path in (".metadata.name", ".spec.", ".spec.k.z", "..", "[0]", ".apiVersion")]
        + [[{"jsonPath": ".spec.k"}] * 2],
    }
    for keyword, values in changes.items():
        for value in values:
            for schemas in ((one,), (one, one), (one, other)):
                given = definition(*schemas)
                given["spec"]["versions"][0][keyword] = value
                yield Case(f"{keyword}={value} of {len(schemas)} versions", "create", given)
                if len(schemas) > 1:
                    both = deepcopy(given)
                    both["spec"]["versions"][1][keyword] = False if keyword == "storage" else value
                    yield Case(f"{keyword}={value} of all versions", "create", both)
    deprecated = definition(one)
    for warning in ("", "fine", "\u0007", "a" * 257, "ä" * 200, "a\u0085b", "a\u3000b", "a\u00adb"):
        deprecated["spec"]["versions"][0] |= {"deprecated": True, "deprecationWarning": warning}
        yield Case(f"deprecated with {warning!r}", "create", deepcopy(deprecated))
    eight = {f"f{number}": _STRING for number in range(9)}
    given = definition(whole({"type": "object", "properties": eight}))
    given["spec"]["versions"][0]["selectableFields"] = [{"jsonPath": f".spec.{name}"} for name in eight]
    yield Case("nine selectable fields", "create", given)


def updates(stored: JSON) -> Iterator[Case]:
    """Of a definition that was stored with what is judged wrong now: by itself, and with something more wrong."""
    for name, schema in _stored_faults():
        old = deepcopy(stored)
        old["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = whole(schema)
        yield Case(f"unchanged: {name}", "update", old, old)
        for what, more in _stored_faults():
            if schema.get("type") == "text" and "default" in more:
                # Such a type cannot be compiled here, so that its defaults are not looked at.
                continue
            new = deepcopy(old)
            new["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = whole(
                {"type": "object", "properties": {"a": schema, "b": more}}
            )
            yield Case(f"{what}, {name} is there", "update", new, old)


def _stored_faults() -> Iterator[tuple[str, JSON]]:
    yield "nothing wrong", _STRING
    yield "a strange type", {"type": "text"}
    yield "an unpruned default", {**_PAIR, "default": {"z": 1}}
    yield "a set of objects", {"type": "array", "x-kubernetes-list-type": "set", "items": _PAIR}
    yield "a key that may be missing", {**_KEYED, "items": _PAIR}
    yield "no type", {}
