"""What is served where: (group, version, resource) to its resource and store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from kubecore.api import errors
from kubecore.api.schemas import BuiltinKind
from kubecore.apiserver.handlers.deprecations import deprecation, removed_release
from kubecore.apiserver.handlers.request import Headers, warning_headers
from kubecore.apiserver.registry.fields import RENAMED

if TYPE_CHECKING:
    from kubecore.api.schemas import KindSchema
    from kubecore.api.scheme import Resource
    from kubecore.apiserver.handlers.chain import Handler
    from kubecore.apiserver.handlers.transforming import Shape
    from kubecore.apiserver.registry.registry import Registry
    from kubecore.apiserver.registry.store import Store
    from kubecore.apiserver.tables.column import KindTable

_NOTHING: Mapping[tuple[str, str], Handler] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Served:
    """A resource in the version of the path; `store` is None where objects are not stored (reviews).

    Custom resources bring what built-in ones are known to have: their `table` and handlers of their own by
    (subresource, verb). `warning` is for every client of a deprecated version.
    """

    resource: Resource
    store: Store | None
    kind: str  # "apps/v1/Deployment"
    schema: KindSchema
    table: KindTable | None = None
    special: Mapping[tuple[str, str], Handler] = field(default_factory=lambda: _NOTHING)
    warning: str = ""
    custom: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)
    """What it can be selected by in this version, where others have other fields: the names that objects are stored by,
    by those of this version."""
    in_version: Callable[[str], KindSchema] | None = None
    """A custom kind's schema in any version, one that nothing is known of included."""
    shapes: dict[str, Shape] = field(default_factory=dict, compare=False)
    """The shapes that were asked for, by what the header Accept says."""

    @property
    def headers(self) -> Headers:
        """Of every answer."""
        return warning_headers([self.warning]) if self.warning else ()

    def stored(self) -> Store:
        """Raises 405 where there is nothing to read or write."""
        if self.store is None:
            raise errors.method_not_allowed()
        return self.store


def _told_as(resource: Resource, store: Store | None) -> Store | None:
    """The store for who comes by `resource`, which errors are about then: Events are of two groups."""
    if store is not None and store.resource.group != resource.group:
        store = copy(store)
        store.told = resource
    return store


class ServedResources:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._found: dict[tuple[str, str, str], Served] = {}
        # Finds custom resources by group, version and plural.
        self.custom: Callable[[str, str, str], Served | None] = lambda group, version, plural: None

    def serve(self, served: Served) -> None:
        """Something that is neither built in nor custom."""
        resource = served.resource
        self._found[(resource.group, resource.version, resource.plural)] = served

    def missing(self, path: str) -> errors.StatusError:
        """The 404 for a path: a Status below the built-in groups, else a line of text, as upstream."""
        # The path of CONNECT has no slash before it.
        first, *below = path.removeprefix("/").split("/")
        known = first == "api" or (first == "apis" and below and self._registry.scheme.group(below[0]) is not None)
        return errors.no_such_path() if known else errors.no_such_service()

    def removed_release(self, group: str, version: str, plural: str) -> str | None:
        """As of a built-in kind, of custom ones, too; None for what is not served. May be called on any thread."""
        resource = self._registry.scheme.lookup(group, version, plural)
        if resource is not None:
            return removed_release(resource)
        custom = self.custom(group, version, plural)
        return "" if custom is not None and custom.warning else None

    def find(self, group: str, version: str, plural: str) -> Served:
        """Raises 404 for what is not served."""
        path = (group, version, plural)
        served = self._found.get(path) or self.custom(group, version, plural)
        if served is None:
            resource = self._registry.scheme.lookup(group, version, plural)
            if resource is None:
                raise self.missing(f"/apis/{group}" if group else "/api")
            kind = f"{resource.api_version}/{resource.kind}"
            store = _told_as(resource, self._registry.store(resource.key))
            schema = store.versions.schema(resource) if store else BuiltinKind(self._registry.schemas, kind)
            served = self._found[path] = Served(
                resource,
                store,
                kind,
                schema,
                warning=deprecation(resource),
                fields=RENAMED.get(resource.key, {}),
            )
        return served
