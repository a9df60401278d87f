"""Formats of strings in schemas that this server does not check: allowed, ignored, and told about.

After upstream k8s.io/apiextensions-apiserver pkg/apiserver/validation/formats.go, as of v1.35.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

JSON = dict[str, Any]

_KNOWN = frozenset(
    {
        "bsonobjectid",
        "byte",
        "cidr",
        "creditcard",
        "date",
        "datetime",
        "duration",
        "email",
        "hexcolor",
        "hostname",
        "ipv4",
        "ipv6",
        "isbn",
        "isbn10",
        "isbn13",
        "k8slongname",
        "k8sshortname",
        "mac",
        "password",
        "rgbcolor",
        "ssn",
        "uri",
        "uuid",
        "uuid3",
        "uuid4",
        "uuid5",
    }
)
_SCHEMA_LISTS = ("allOf", "anyOf", "oneOf")
_SCHEMAS = ("items", "additionalProperties", "not")


def unrecognized_formats(spec: JSON) -> list[str]:
    """Of all versions of a definition's spec, each once."""
    return list(dict.fromkeys(found for schema in _schemas(spec) for found in _of(schema)))


def _schemas(spec: JSON) -> list[JSON | None]:
    return [(version.get("schema") or {}).get("openAPIV3Schema") for version in spec.get("versions") or []]


def _of(schema: object) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    form = schema.get("format")
    if form and schema.get("type") == "string" and form.replace("-", "") not in _KNOWN:
        yield form
    for below in (schema.get("properties") or {}).values():
        yield from _of(below)
    for key in _SCHEMAS:
        yield from _of(schema.get(key))
    for key in _SCHEMA_LISTS:
        for below in schema.get(key) or []:
            yield from _of(below)
