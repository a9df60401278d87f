"""Objects between the version they are stored in and the one a store speaks: strategy None renames the apiVersion.

On every way the schema of the version arrived at prunes, and what is read from the disk gets the defaults of the
version it was stored in, as upstream's storage codec does (apiextensions-apiserver
`pkg/apiserver/customresource_handler.go`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from kubecore.api.schemas import CustomSchema
from kubecore.apiserver.registry.codec import Codec, dumps, loads
from kubecore.apiserver.registry.custom.definition import Definition, Version
from kubecore.apiserver.registry.size_limit import more_than_is_sent
from kubecore.apiserver.storage.interface import Stored, Template

SchemaOf = Callable[[str], CustomSchema]

# Where the engine gives up (`native/core/src/schema/custom/defaults.rs`).
_MOST_COMPLETED = 64 << 20


class _Head(msgspec.Struct):
    apiVersion: str = ""


_HEAD = msgspec.json.Decoder(_Head)


def api_version_of(body: bytes) -> str:
    return _HEAD.decode(body).apiVersion


def renamed(body: bytes, api_version: str) -> bytes:
    """The same object with another apiVersion."""
    before = api_version_of(body)
    if before == api_version:
        return body
    opening = b'{"apiVersion":"' + before.encode() + b'"'
    if body.startswith(opening):
        return b'{"apiVersion":"' + api_version.encode() + b'"' + body[len(opening) :]
    return dumps({**loads(body), "apiVersion": api_version})


def completed(schema: CustomSchema, body: bytes) -> bytes:
    """With the schema's defaults. Raises StatusError where these make it far larger than anything can be stored."""
    try:
        return schema.default(body)
    except ValueError:
        raise more_than_is_sent(_MOST_COMPLETED) from None


class Normalization:
    """Bytes from the disk as the watch cache is to hold them: pruned and defaulted by the schema of the version they
    were written in and, without a webhook, moved to the storage version."""

    def __init__(self, definition: Definition, schema_of: SchemaOf) -> None:
        self._definition = definition
        self.schema_of = schema_of

    def __call__(self, body: bytes) -> bytes:
        definition, storage = self._definition, self._definition.storage
        written = definition.version(api_version_of(body).rpartition("/")[2]) or storage
        schema = self.schema_of(written.name)
        made = schema.default(schema.prune(renamed(body, definition.api_version(written.name))))
        if written is storage or definition.webhook is not None:
            return made
        return self.schema_of(storage.name).prune(renamed(made, definition.api_version(storage.name)))


class Renaming:
    """Conversion None for the store of one version that is not the storage version."""

    changes_fields = False

    def __init__(self, definition: Definition, version: Version, schema_of: SchemaOf) -> None:
        self._own = definition.api_version(version.name)
        self._stored = definition.api_version(definition.storage.name)
        self._own_schema = partial(schema_of, version.name)
        self._stored_schema = partial(schema_of, definition.storage.name)
        self._codec = Codec(definition.resource(definition.storage))

    def _read(self, body: bytes) -> bytes:
        return self._own_schema().prune(renamed(body, self._own))

    async def read(self, stored: Stored) -> Stored:
        return Stored(stored.revision, self._read(stored.value))

    async def read_all(self, items: list[bytes]) -> list[bytes]:
        return [self._read(item) for item in items]

    async def template(self, body: bytes) -> Template:
        # Upstream fills in what is missing whenever it reads what is stored.
        schema = self._stored_schema()
        return self._codec.template(completed(schema, schema.prune(renamed(body, self._stored))))
