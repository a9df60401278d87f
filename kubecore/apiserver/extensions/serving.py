"""Makes definitions served resources, and lets them go: cache, registry, paths, read path, discovery, OpenAPI.

All that is told of a set of definitions (discovery, OpenAPI, look-up) is renewed as a whole, once per batch of changes;
what holds objects (cache and stores) is made per definition, and kept while nothing it depends on has changed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from kubecore.api import errors, schemas
from kubecore.api.schemas import CustomSchema
from kubecore.api.scheme import Resource, Scheme
from kubecore.apiserver.extensions.describing import DescribedDefinitions
from kubecore.apiserver.handlers.custom_scale import CustomReplicas
from kubecore.apiserver.handlers.request import warning_headers
from kubecore.apiserver.handlers.scale import ScaleSubresource
from kubecore.apiserver.handlers.served import Served
from kubecore.apiserver.registry.custom import definition as definitions
from kubecore.apiserver.registry.custom.conversion import Normalization, Renaming, SchemaOf
from kubecore.apiserver.registry.custom.definition import DEFINITIONS, Definition, Version
from kubecore.apiserver.registry.custom.spoken import SpokenCustomVersions
from kubecore.apiserver.registry.custom.strategy import CustomResourceStrategy
from kubecore.apiserver.registry.custom.versions import by_priority
from kubecore.apiserver.registry.custom.webhook import ConversionWebhook, WebhookConversion
from kubecore.apiserver.registry.store import Store

if TYPE_CHECKING:
    from kubecore import _native
    from kubecore.apiserver.handlers.chain import Handler
    from kubecore.apiserver.handlers.documents import Documents
    from kubecore.apiserver.handlers.served import ServedResources
    from kubecore.apiserver.handlers.writing import Writing
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.writes import Conversion
    from kubecore.apiserver.storage.cacher import Cached, Cacher
    from kubecore.apiserver.storage.interface import Storage
    from kubecore.apiserver.webhooks.calling import WebhookCaller

log = logging.getLogger("kubecore.apiserver.extensions")

Path = tuple[str, str, str]


class CompiledSchemas:
    """The schemas of one definition by version, compiled when first asked for, from its stored bytes."""

    def __init__(self, cacher: Cacher, definition: Definition) -> None:
        self._cacher = cacher
        self._definition = definition
        self._made: dict[str, CustomSchema] = {}

    def __call__(self, version: str) -> CustomSchema:
        found = self._made.get(version)
        if found is None:
            definition = self._definition
            stored = self._cacher.get(DEFINITIONS, "", definition.name)
            if stored is None:
                raise ValueError(f"the definition {definition.name} is gone")
            schema = definitions.schema_of(stored.value, version)
            found = schemas.custom(schema, api_version=definition.api_version(version), kind=definition.kind)
            self._made[version] = found
        return found


def register(cacher: Cacher, definition: Definition) -> Cached:
    """At start, before the cache is filled."""
    resource, versions, fields = _cache_facts(definition)
    return cacher.register(resource, versions, fields, Normalization(definition, CompiledSchemas(cacher, definition)))


def _cache_facts(definition: Definition) -> tuple[Resource, list[str], list[tuple[str, str]]]:
    resource = definition.resource(definition.storage)
    fields = [(path.removeprefix("."), definitions.pointer(path)) for path in definition.fields]
    return resource, [version.name for version in definition.versions], fields


async def stored_definitions(storage: Storage, builtin: Scheme) -> list[Definition]:
    """Those that are served, from the store itself."""
    page = await storage.list(f"/registry/{definitions.GROUP}/customresourcedefinitions/")
    found = []
    for key, stored in page.items:
        try:
            if definitions.is_served(stored.value):
                found += [one for one in [definitions.parse(stored.value)] if not _is_shadowed(builtin, one)]
        except ValueError:
            log.exception("%s cannot be read and is not served", key)
    return found


@dataclass(slots=True)
class _Installed:
    definition: Definition
    routed: set[Path] = field(default_factory=set)
    # By version, made when first asked for.
    served: dict[str, Served] = field(default_factory=dict)


class CustomResources:
    """All definitions that are served at present."""

    def __init__(
        self,
        *,
        registry: Registry,
        served: ServedResources,
        writing: Writing,
        documents: Documents,
        front: _native.Front,
        caller: WebhookCaller,
    ) -> None:
        self._registry = registry
        self._cacher = registry.cacher
        self._builtin = registry.scheme
        self._served = served
        self._writing = writing
        self._documents = documents
        self._front = front
        self._caller = caller
        self._installed: dict[str, _Installed] = {}
        # By group and kind.
        self._plurals: dict[tuple[str, str], str] = {}
        served.custom = self.find

    def definition(self, name: str) -> Definition | None:
        found = self._installed.get(name)
        return None if found is None else found.definition

    def versions(self, name: str) -> list[str]:
        """Those of a definition that are served, the preferred one first; none where there is no such definition."""
        found = self.definition(name)
        return [] if found is None else [version.name for version in found.served]

    def plural_of(self, group: str, kind: str) -> str:
        """Of a kind that a definition of the group has; "" where none has it."""
        return self._plurals.get((group, kind), "")

    def storage_store(self, name: str) -> Store | None:
        """The store in which a definition's objects can be had in the version they are stored in."""
        found = self._installed.get(name)
        if found is None:
            return None
        return self._store(found.definition, found.definition.storage)

    def find(self, group: str, version: str, plural: str) -> Served | None:
        """What is served at the path. Raises 500 for a schema that cannot be compiled."""
        installed = self._installed.get(f"{plural}.{group}")
        if installed is None:
            return None
        made = installed.served.get(version)
        if made is None:
            wanted = installed.definition.version(version)
            if wanted is None or not wanted.served:
                return None
            try:
                made = installed.served[version] = self._serve(installed, wanted)
            except ValueError:
                log.exception("%s version %s cannot be served", installed.definition.name, version)
                raise errors.internal_error("the server could not properly serve the CR schema") from None
        return made

    # --- changes

    def adopt(self, found: Iterable[Definition]) -> None:
        """At start: definitions whose resources the cache holds already."""
        for definition in found:
            self._install(definition)
        self.tell()

    async def put(self, definition: Definition) -> bool:
        """Serves the definition as it is now; True when that changed anything, and `tell` is due."""
        before = self._installed.get(definition.name)
        if (before is not None and before.definition == definition) or _is_shadowed(self._builtin, definition):
            return False
        if before is None or before.definition.cached_as != definition.cached_as:
            resource, versions, fields = _cache_facts(definition)
            normalize = Normalization(definition, CompiledSchemas(self._cacher, definition))
            await self._cacher.replace(self._registry.storage, resource, versions, fields, normalize)
        self._install(definition)
        return True

    def remove(self, name: str) -> bool:
        """Serves it no more; True when it was served, and `tell` is due."""
        found = self._installed.pop(name, None)
        if found is None:
            return False
        self._plurals.pop((found.definition.group, found.definition.kind), None)
        for path in found.routed:
            self._front.unroute(*path)
        self._cacher.unregister(name)
        return True

    def tell(self) -> None:
        """Has discovery and OpenAPI speak of what is served now."""
        self._documents.outdated(self._described)

    def _described(self) -> tuple[Scheme, DescribedDefinitions]:
        told = [one.definition for one in self._installed.values()]
        custom = [one.resource(version, told=True) for one in told for version in one.served]
        scheme = Scheme([*self._builtin.resources, *_by_preference(custom)])
        return scheme, DescribedDefinitions(self._cacher, told)

    # --- one definition

    def _install(self, definition: Definition) -> None:
        before = self._installed.get(definition.name)
        made = _Installed(definition)
        for version in definition.served:
            if _is_read_in_rust(definition, version) and version.schema == definition.storage.schema:
                self._route(made, version)
        for path in (before.routed if before is not None else set()) - made.routed:
            self._front.unroute(*path)
        if before is not None:
            self._plurals.pop((definition.group, before.definition.kind), None)
        self._plurals[definition.group, definition.kind] = definition.plural
        self._installed[definition.name] = made

    def _route(self, installed: _Installed, version: Version, schema: CustomSchema | None = None) -> None:
        """Has Rust answer reads of this version, objects pruned by `schema` if there is one."""
        definition = installed.definition
        installed.routed.add((definition.group, version.name, definition.plural))
        self._front.route(
            definition.group,
            version.name,
            definition.plural,
            self._cached(definition).number,
            definition.namespaced,
            sorted(definitions.VERBS),
            ["status"] if version.status else [],
            schema=schema,
            warning=next((text for _, text in warning_headers([version.warning or ""])), None),
        )

    def _cached(self, definition: Definition) -> Cached:
        cached = self._cacher.cached(definition.name)
        assert cached is not None, f"{definition.name} is not in the cache"
        return cached

    def _schemas(self, definition: Definition) -> SchemaOf:
        """Those by which the cache was filled: it is filled anew when they change."""
        normalization = self._cached(definition).normalize
        assert isinstance(normalization, Normalization)
        return normalization.schema_of

    def _serve(self, installed: _Installed, version: Version) -> Served:
        from kubecore.apiserver.tables.custom import custom_table

        definition = installed.definition
        store = self._store(definition, version)
        if _is_read_in_rust(definition, version) and version.schema != definition.storage.schema:
            # From the second read on: schemas are not compiled before somebody asks.
            self._route(installed, version, self._schemas(definition)(version.name))
        fields = {"metadata.name", *(path.removeprefix(".") for path in version.fields)}
        if definition.namespaced:
            fields.add("metadata.namespace")
        return Served(
            store.resource,
            store,
            f"{store.resource.api_version}/{definition.kind}",
            store.schema,
            table=custom_table(version.columns),
            special=self._special(definition, version),
            warning=version.warning,
            custom=True,
            fields={name: name for name in fields},
            in_version=partial(self._in_version, definition),
        )

    def _in_version(self, definition: Definition, version: str) -> CustomSchema:
        if any(one.name == version for one in definition.versions):
            return self._schemas(definition)(version)
        return schemas.custom(b'{"type":"object"}', api_version=f"{definition.group}/{version}", kind=definition.kind)

    def _store(self, definition: Definition, version: Version) -> Store:
        schema_of = self._schemas(definition)
        schema = schema_of(version.name)
        ask = None
        if definition.webhook is not None:
            webhook = ConversionWebhook(definition, self._caller)
            ask = WebhookConversion(definition, version, schema_of, webhook).said
        return Store(
            self._registry,
            self._cached(definition),
            CustomResourceStrategy(definition, version, schema),
            resource=definition.resource(version),
            schema=schema,
            conversion=self._conversion(definition, version),
            spoken=SpokenCustomVersions(definition, version, schema_of, ask),
        )

    def _conversion(self, definition: Definition, version: Version) -> Conversion | None:
        if version.storage and definition.uniform:
            return None
        schema_of = self._schemas(definition)
        if definition.webhook is not None:
            return WebhookConversion(definition, version, schema_of, ConversionWebhook(definition, self._caller))
        return Renaming(definition, version, schema_of)

    def _special(self, definition: Definition, version: Version) -> dict[tuple[str, str], Handler]:
        if version.scale is None:
            return {}
        scale = ScaleSubresource(self._registry, self._writing, CustomReplicas(definition, version.scale))
        return {("scale", "get"): scale.get, ("scale", "update"): scale.update, ("scale", "patch"): scale.patch}


def _is_shadowed(builtin: Scheme, definition: Definition) -> bool:
    """Whether nobody can come to its objects: as upstream, all paths of a built-in group are the built-in kinds',
    though definitions of the group are given their names."""
    return builtin.group(definition.group) is not None


def _is_read_in_rust(definition: Definition, version: Version) -> bool:
    """Whether the bytes in the cache are what a client of this version reads, but for its name and for pruning."""
    same = version.storage or definition.webhook is None
    return same and definition.uniform and set(version.fields) == set(definition.fields)


def _by_preference(resources: list[Resource]) -> list[Resource]:
    """In discovery order: groups by name, their versions by preference."""
    return sorted(resources, key=lambda one: (one.group, by_priority(one.version), one.plural))
