"""The schema engine's door for Python: decoding, patches, ownership. Facade of ``_native.Schemas``."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

import orjson

from kubecore._native import (
    Applied,
    CustomSchema,
    Decoded,
    DeferredValue,
    PatchError,
    SchemaError,
    Schemas,
    apart,
    json_object_fault,
    media_type,
    with_gos_numbers,
    with_members,
)
from kubecore.api import errors
from kubecore.api.scheme import DATA

__all__ = [
    "Applied",
    "Books",
    "BuiltinKind",
    "CustomSchema",
    "Decoded",
    "DeferredValue",
    "KindSchema",
    "PatchError",
    "SchemaError",
    "Schemas",
    "apart",
    "custom",
    "default",
    "json_object_fault",
    "media_type",
    "refuse_crowds",
    "with_gos_numbers",
    "with_members",
]


class Books(Protocol):
    """Who owns what of the objects of one kind in one version."""

    def managed(
        self, old: bytes | None, new: bytes, *, manager: str, time: str, subresource: str = ...
    ) -> bytes | None: ...
    def apply(
        self,
        live: bytes | None,
        config: bytes,
        *,
        manager: str,
        time: str,
        subresource: str = ...,
        force: bool = ...,
        reset: Sequence[str] = ...,
        field_validation: str = ...,
    ) -> Applied: ...


class KindSchema(Books, Protocol):
    """What the registry asks of one kind in one version; built-in ones (`BuiltinKind`) and `CustomSchema` comply.

    See `Schemas` in `_native.pyi` for what each does and raises.
    """

    def decode(self, body: bytes, content_type: str = ..., field_validation: str = ...) -> Decoded: ...
    def patch(self, current: bytes, patch: bytes, patch_type: str) -> bytes: ...
    def patch_decode(self, current: bytes, patch: bytes, patch_type: str, field_validation: str = ...) -> Decoded: ...
    def configure(self, live: bytes, config: bytes) -> bytes: ...


# An object of a kind, and another version: the kind there and the object; None where nothing serves that.
Convert = Callable[[bytes, str], tuple[str, bytes] | None]


class BuiltinKind:
    """One kind of an engine of many."""

    __slots__ = ("_convert", "_kind", "_schemas")

    def __init__(self, schemas: Schemas, kind: str, convert: Convert | None = None) -> None:
        """`kind` as in "apps/v1/Deployment"; `convert` where it is served in other versions too."""
        self._schemas = schemas
        self._kind = kind
        self._convert = convert

    def decode(self, body: bytes, content_type: str = "application/json", field_validation: str = "") -> Decoded:
        """StatusError 413 for more than MOST_PARTS structures."""
        decoded = self._schemas.decode(self._kind, body, content_type, field_validation)
        # In protobuf an empty structure is two bytes.
        if len(body) > 2 * MOST_PARTS:
            refuse_crowds(decoded.body)
        return decoded

    def patch(self, current: bytes, patch: bytes, patch_type: str) -> bytes:
        return self._schemas.patch(self._kind, current, patch, patch_type)

    def patch_decode(self, current: bytes, patch: bytes, patch_type: str, field_validation: str = "") -> Decoded:
        """StatusError 413 for more than MOST_PARTS structures."""
        decoded = self._schemas.patch_decode(self._kind, current, patch, patch_type, field_validation)
        refuse_crowds(decoded.body)
        return decoded

    def managed(self, old: bytes | None, new: bytes, *, manager: str, time: str, subresource: str = "") -> bytes | None:
        return self._schemas.managed(
            self._kind, old, new, manager=manager, time=time, subresource=subresource, convert=self._convert
        )

    def amended(
        self, stored: bytes, changes: tuple[bytes, bytes, bytes, bytes], *, by: tuple[str, str], opening: bytes
    ) -> DeferredValue:
        """As `Schemas.amended`, which is of kinds without other versions."""
        return self._schemas.amended(self._kind, stored, changes, by=by, opening=opening)

    def created(self, body: bytes, metadata: bytes, *, by: tuple[str, str], opening: bytes) -> DeferredValue:
        """As `Schemas.created`, likewise."""
        return self._schemas.created(self._kind, body, metadata, by=by, opening=opening)

    def apply(
        self,
        live: bytes | None,
        config: bytes,
        *,
        manager: str,
        time: str,
        subresource: str = "",
        force: bool = False,
        reset: Sequence[str] = (),
        field_validation: str = "",
    ) -> Applied:
        return self._schemas.apply(
            self._kind,
            live,
            config,
            manager=manager,
            time=time,
            subresource=subresource,
            force=force,
            reset=reset,
            field_validation=field_validation,
            convert=self._convert,
        )

    def configure(self, live: bytes, config: bytes) -> bytes:
        return self._schemas.configure(self._kind, live, config)


# Objects of upstream cannot have as many: etcd takes 1.5 MiB. In a body there is room for a million, and each would be
# defaulted, admitted and judged.
MOST_PARTS = 100_000


def refuse_crowds(obj: bytes) -> None:
    """Raises StatusError 413 for more than MOST_PARTS structures."""
    if obj.count(b"{") <= MOST_PARTS:
        return
    parts, left = 0, [orjson.loads(obj)]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            parts += 1
            # Sets of fields are kept as they are.
            left += (value for name, value in one.items() if name != "managedFields")
        elif isinstance(one, list):
            left += one
    if parts > MOST_PARTS:
        raise errors.too_large(f"an object may have {MOST_PARTS} structures, this has {parts}")


@functools.cache
def default() -> Schemas:
    """The engine with the built-in kinds of v1.35. Immutable, so one serves the whole process."""
    return Schemas(zlib.decompress((DATA / "schemas.json.z").read_bytes()))


def custom(schema: bytes, *, api_version: str, kind: str) -> CustomSchema:
    """The engine for one version of a custom kind; `schema` is its openAPIV3Schema as JSON. ValueError."""
    return CustomSchema(schema, api_version=api_version, kind=kind, builtin=default())
