"""The schema engine's door for Python: decoding, patches, ownership. Facade of ``_native.Schemas``."""

from __future__ import annotations

import functools
import zlib

from kubecore._native import CustomSchema, Decoded, PatchError, SchemaError, Schemas
from kubecore.api.scheme import DATA

__all__ = ["CustomSchema", "Decoded", "PatchError", "SchemaError", "Schemas", "custom", "default"]


@functools.cache
def default() -> Schemas:
    """The engine with the built-in kinds of v1.35. Immutable, so one serves the whole process."""
    return Schemas(zlib.decompress((DATA / "schemas.json.z").read_bytes()))


def custom(schema: bytes, *, api_version: str, kind: str) -> CustomSchema:
    """The engine for one version of a custom kind; `schema` is its openAPIV3Schema as JSON. ValueError."""
    return CustomSchema(schema, api_version=api_version, kind=kind, builtin=default())
