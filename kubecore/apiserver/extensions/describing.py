"""What OpenAPI documents say of the kinds that definitions define."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import orjson

from kubecore.apiserver.openapi.custom import as_v2, definitions
from kubecore.apiserver.registry.custom.definition import DEFINITIONS, Definition, Version, schema_of

if TYPE_CHECKING:
    from kubecore.apiserver.storage.cacher import Cacher

JSON = dict[str, Any]


class DescribedDefinitions:
    """Some definitions, as kubecore.apiserver.openapi.serving.CustomDefinitions. Schemas are read when asked for."""

    def __init__(self, cacher: Cacher, found: Iterable[Definition]) -> None:
        self._cacher = cacher
        self._of_version: dict[tuple[str, str], list[tuple[Definition, Version]]] = {}
        for definition in found:
            for version in definition.served:
                self._of_version.setdefault((definition.group, version.name), []).append((definition, version))

    def digest(self, group: str, version: str) -> bytes:
        found = self._of_version.get((group, version))
        if found is None:
            return b""
        parts = sorted(
            (definition.plural, definition.kind, definition.list_kind, one.schema.hex(), *one.fields)
            for definition, one in found
        )
        return hashlib.sha256(orjson.dumps(parts)).digest()

    def v3(self, group: str, version: str) -> dict[str, JSON]:
        made: dict[str, JSON] = {}
        for definition, one in self._of_version.get((group, version), ()):
            made |= self._describe(definition, one)
        return made

    def v2(self, group: str, version: str) -> dict[str, JSON]:
        return {name: as_v2(one) for name, one in self.v3(group, version).items()}

    def _describe(self, definition: Definition, version: Version) -> dict[str, JSON]:
        stored = self._cacher.get(DEFINITIONS, "", definition.name)
        if stored is None:
            return {}
        schema = orjson.loads(schema_of(stored.value, version.name))
        names = (definition.kind, definition.list_kind, definition.plural)
        return definitions(definition.group, version.name, *names, schema, version.fields)
