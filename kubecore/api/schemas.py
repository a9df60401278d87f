"""The schema engine's door for Python: decoding, patches, ownership. Facade of ``_native.Schemas``."""

from __future__ import annotations

import functools
import zlib

from kubecore._native import Decoded, PatchError, SchemaError, Schemas
from kubecore.api.scheme import DATA

__all__ = ["Decoded", "PatchError", "SchemaError", "Schemas", "default"]


@functools.cache
def default() -> Schemas:
    """The engine with the built-in kinds of v1.35. Immutable, so one serves the whole process."""
    return Schemas(zlib.decompress((DATA / "schemas.json.z").read_bytes()))
