"""Definitions of custom kinds for OpenAPI documents.

After upstream k8s.io/apiextensions-apiserver pkg/controller/openapi/{builder,v2}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubecore.apiserver.openapi.definitions import META

JSON = dict[str, Any]

_REF = "#/definitions/"
_API_VERSION = (
    "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized "
    "schemas to the latest internal value, and may reject unrecognized values. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources"
)
_KIND = (
    "Kind is a string value representing the REST resource this object represents. Servers may infer this from the "
    "endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
)
_METADATA = (
    "Standard object's metadata. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)
_LIST_METADATA = (
    "Standard list metadata. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"
)
_MORE = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"

# Of objects within others upstream says it in other words, and says that they have both.
_EMBEDDED_API_VERSION = (
    f"apiVersion defines the versioned schema of this representation of an object. More info: {_MORE}#resources"
)
_EMBEDDED_KIND = (
    f"kind is a string value representing the type of this object. In CamelCase. More info: {_MORE}#types-kinds"
)

# What upstream does not tell of a schema.
_UNTOLD = frozenset({"example", "externalDocs"})
# Below these a schema holds another one.
_SCHEMA_KEYS = ("items", "additionalProperties", "not")


def definitions(
    group: str, version: str, kind: str, list_kind: str, plural: str, schema: JSON, fields: Sequence[str] = ()
) -> dict[str, JSON]:
    """The definitions of a kind and of its list by name; `schema` is a version's openAPIV3Schema, `fields` the JSON
    paths of its selectable fields."""
    own = _typed(_with_embedded(schema))
    own["type"] = "object"
    selectable = [{"fieldPath": path.removeprefix(".")} for path in fields]
    own["x-kubernetes-group-version-kind"] = [{"group": group, "version": version, "kind": kind}]
    name = definition_name(group, version, kind)
    items = {"description": f"List of {plural}. More info: {_MORE}", "type": "array", "items": {"$ref": _REF + name}}
    listed: JSON = {
        "description": f"{list_kind} is a list of {kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"description": _API_VERSION, "type": "string"},
            "items": items,
            "kind": {"description": _KIND, "type": "string"},
            "metadata": {"description": _LIST_METADATA, "$ref": _REF + META + "ListMeta"},
        },
        "x-kubernetes-group-version-kind": [{"group": group, "version": version, "kind": list_kind}],
    }
    if selectable:
        own["x-kubernetes-selectable-fields"] = listed["x-kubernetes-selectable-fields"] = selectable
    return {name: own, definition_name(group, version, list_kind): listed}


def definition_name(group: str, version: str, kind: str) -> str:
    """`stable.example.com`, `v1`, `CronTab` → `com.example.stable.v1.CronTab`"""
    return ".".join([*reversed(group.split(".")), version, kind])


def _typed(schema: JSON) -> JSON:
    """The schema of a whole object: with apiVersion, kind and the common metadata."""
    properties = dict(schema.get("properties") or {})
    properties["apiVersion"] = {"description": _API_VERSION, "type": "string"}
    properties["kind"] = {"description": _KIND, "type": "string"}
    properties["metadata"] = {"description": _METADATA, "$ref": _REF + META + "ObjectMeta"}
    return {**schema, "properties": dict(sorted(properties.items()))}


def _with_embedded(schema: JSON) -> JSON:
    """Embedded resources are whole objects, too."""
    made: JSON = {}
    for key, value in schema.items():
        if key in _UNTOLD:
            continue
        if key == "properties":
            made[key] = {name: _embedded(one) for name, one in value.items()}
        elif key in _SCHEMA_KEYS and isinstance(value, dict):
            made[key] = _embedded(value)
        else:
            made[key] = value
    if made.get("x-kubernetes-int-or-string"):
        made.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    return made


def _embedded(schema: JSON) -> JSON:
    made = _with_embedded(schema)
    if not made.get("x-kubernetes-embedded-resource"):
        return made
    made = _typed(made)
    made["properties"]["apiVersion"] = {"description": _EMBEDDED_API_VERSION, "type": "string"}
    made["properties"]["kind"] = {"description": _EMBEDDED_KIND, "type": "string"}
    missing = [name for name in ("kind", "apiVersion") if name not in made.get("required", ())]
    return {**made, "required": [*made.get("required", ()), *missing]}


def as_v2(definition: JSON) -> JSON:
    """As far as OpenAPI v2, and clients that read it, can say it: what is nullable may be anything there."""
    made = _as_v2(definition)
    if made.pop(_PRESERVING, False):
        made["type"] = "object"
        made.pop("required", None)
    return made


_PRESERVING = "x-kubernetes-preserve-unknown-fields"


def _as_v2(definition: JSON) -> JSON:
    if "$ref" in definition:
        return definition
    made: JSON = {}
    dropped = {"allOf", "anyOf", "oneOf", "not", "default", "nullable"}
    if definition.get("nullable"):
        dropped |= {"type", "items", "properties"}
    if definition.get(_PRESERVING):
        # Old clients take properties for all there are.
        dropped |= {"items", "properties"}
        if definition.get("type") in ("array", "object"):
            dropped.add("type")
    for key, value in definition.items():
        if key in dropped:
            continue
        if key == "properties":
            made[key] = {name: _as_v2(one) for name, one in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            made[key] = _as_v2(value)
        else:
            made[key] = value
    gone = _not_required(definition, properties="properties" not in dropped)
    if "required" in made:
        made["required"] = [name for name in made["required"] if name not in gone]
        if not made["required"]:
            del made["required"]
    return made


def _not_required(definition: JSON, *, properties: bool) -> frozenset[str]:
    """Members that v2 does not require, for they may be null; all, where any value may be."""
    if definition.get(_PRESERVING) and definition.get("x-kubernetes-embedded-resource"):
        # As it has no properties there, nothing is added to them.
        return frozenset({"apiVersion", "kind"})
    values = definition.get("additionalProperties")
    if isinstance(values, dict) and values.get("nullable"):
        return frozenset(definition.get("required") or ())
    members: JSON = definition.get("properties") or {} if properties else {}
    return frozenset(name for name, one in members.items() if one.get("nullable"))
